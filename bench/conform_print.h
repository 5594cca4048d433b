#ifndef BENCH_CONFORM_PRINT_H
#define BENCH_CONFORM_PRINT_H

/* A report of the conformance suite in the forms that people and programs read. Pure but for the stream. */

#include "bench/conform.h"

#include <stdio.h>

/* What is no pass, and the sums. */
void conform_print_text(const struct conform_report *report, FILE *out);

/* {"mode", "direct", "counts": {...}, "cases": [{"name", "verdict", "why", "origin", "good", "opinion",
 * "ms"}]}; 0 or -ENOMEM. */
int conform_print_json(const struct conform_report *report, FILE *out);

/* Test Anything Protocol, version 13: https://testanything.org. An opinion and a skip are `ok`. */
void conform_print_tap(const struct conform_report *report, FILE *out);

/* One page without scripts, light or dark as the reader's system is. */
void conform_print_html(const struct conform_report *report, const char *title, FILE *out);

#endif
