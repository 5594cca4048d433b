#include "bench/histogram.h"

enum { PARTS = 1 << HISTOGRAM_PART_BITS };

/* Below 2 * PARTS each value has a bucket; above, the leading bits say which. */
unsigned histogram_bucket(uint64_t value)
{
    if (value >= UINT64_C(1) << HISTOGRAM_TOP_BITS)
        return HISTOGRAM_BUCKETS - 1;
    if (value < PARTS)
        return (unsigned)value;
    unsigned shift = 63U - (unsigned)__builtin_clzll(value) - HISTOGRAM_PART_BITS;
    return (shift << HISTOGRAM_PART_BITS) + (unsigned)(value >> shift);
}

uint64_t histogram_bucket_top(unsigned bucket)
{
    if (bucket < PARTS)
        return bucket;
    unsigned shift = (bucket >> HISTOGRAM_PART_BITS) - 1;
    uint64_t lead = PARTS + (bucket & (PARTS - 1));
    return ((lead + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    histogram->count++;
    histogram->sum += (double)value;
    if (value > histogram->max)
        histogram->max = value;
    histogram->of[histogram_bucket(value)]++;
}

uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->of[bucket];
        if (histogram->of[bucket] == 0 || (double)seen < share * (double)histogram->count)
            continue;
        uint64_t top = histogram_bucket_top(bucket);
        return top < histogram->max && bucket < HISTOGRAM_BUCKETS - 1 ? top : histogram->max;
    }
    return histogram->max;
}

uint64_t histogram_count_to(const struct histogram *histogram, uint64_t value)
{
    uint64_t seen = 0;
    for (unsigned bucket = 0; bucket <= histogram_bucket(value); bucket++)
        seen += histogram->of[bucket];
    return seen;
}
