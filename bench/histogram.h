#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

/* A histogram of durations whose error is relative: each power of two is cut into 1024 equal parts, so
 * that any value from 1 ns to 18 minutes is known to 0.1 %, in 248 KiB and without a guess about what
 * will come. Pure; the caller owns the struct, zeroed means empty; one thread. */

#include <stdint.h>

enum { HISTOGRAM_PART_BITS = 10, HISTOGRAM_TOP_BITS = 40 };
enum { HISTOGRAM_BUCKETS = (HISTOGRAM_TOP_BITS - HISTOGRAM_PART_BITS + 1) << HISTOGRAM_PART_BITS };

struct histogram {
    uint64_t count;
    uint64_t max; /* exact */
    double sum;
    uint64_t of[HISTOGRAM_BUCKETS];
};

/* Values beyond the top count as the top; `max` keeps them. */
void histogram_add(struct histogram *histogram, uint64_t value);

/* The smallest value that at least this share (0 to 1) of all are at most equal to; 0 when empty. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);

/* How many values are at most `value`, to the histogram's precision. */
uint64_t histogram_count_to(const struct histogram *histogram, uint64_t value);

/* For tests: where a value is counted, and the largest that is counted there. */
unsigned histogram_bucket(uint64_t value);
uint64_t histogram_bucket_top(unsigned bucket);

#endif
