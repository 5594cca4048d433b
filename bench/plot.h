#ifndef BENCH_PLOT_H
#define BENCH_PLOT_H

/* The benchmark's figures as a picture: how long teardown took, as cumulative shares over a logarithmic
 * axis, and how many of the backend's sockets were in CLOSE_WAIT over time. SVG without scripts or fonts
 * of its own, light or dark as the reader's system is. Pure but for the stream. */

#include "bench/teardown.h"

#include <stdio.h>

void plot_write(const struct teardown_report *report, const char *title, FILE *out);

#endif
