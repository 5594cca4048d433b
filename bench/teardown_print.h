#ifndef BENCH_TEARDOWN_PRINT_H
#define BENCH_TEARDOWN_PRINT_H

/* The benchmark's figures for people and for programs. `direct` is what the yardstick measures without a
 * proxy, which is what its own part in the figures is at most; NULL: not measured. Pure but for the
 * stream. */

#include "bench/teardown.h"

#include <stdio.h>

void teardown_print_text(const struct teardown_options *options, const struct teardown_report *report,
                         const struct teardown_report *direct, FILE *out);

/* Durations in milliseconds. 0 or -ENOMEM. */
int teardown_print_json(const struct teardown_options *options, const struct teardown_report *report,
                        const struct teardown_report *direct, FILE *out);

#endif
