#include "tests/unit/cmocka.h"

#include "bench/histogram.h"

#include <string.h>

static struct histogram histogram; /* large */

static void empty(void)
{
    memset(&histogram, 0, sizeof histogram);
}

/* Every value lies in its bucket, buckets are in order, and none is wider than a thousandth of its
 * values. */
static void buckets_are_in_order(void **state)
{
    (void)state;
    for (unsigned bucket = 0; bucket + 1 < HISTOGRAM_BUCKETS; bucket++) {
        uint64_t top = histogram_bucket_top(bucket);
        assert_int_equal(histogram_bucket(top), bucket);
        assert_int_equal(histogram_bucket(top + 1), bucket + 1);
        uint64_t width = histogram_bucket_top(bucket + 1) - top;
        assert_true(width == 1 || width * 1000 <= top);
    }
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static void quantiles_are_near(void **state)
{
    (void)state;
    empty();
    assert_int_equal(histogram_quantile(&histogram, 0.5), 0);
    for (uint64_t i = 1; i <= 10000; i++)
        histogram_add(&histogram, i * 1000);
    static const struct {
        double share;
        uint64_t exact;
    } rows[] = {{0.5, 5000000}, {0.9, 9000000}, {0.99, 9900000}, {0.999, 9990000}, {1.0, 10000000}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        uint64_t found = histogram_quantile(&histogram, rows[i].share);
        assert_true(found >= rows[i].exact && found <= rows[i].exact + rows[i].exact / 500);
    }
    assert_int_equal(histogram.max, 10000000);
    assert_int_equal(histogram.count, 10000);
    assert_in_range(histogram_count_to(&histogram, 2500000), 2500, 2505);
}

/* One that is far off is not averaged away, and none is said to be larger than the largest. */
static void the_largest_is_exact(void **state)
{
    (void)state;
    empty();
    for (int i = 0; i < 999; i++)
        histogram_add(&histogram, 10);
    histogram_add(&histogram, 123456789);
    assert_int_equal(histogram_quantile(&histogram, 0.999), 10);
    assert_int_equal(histogram_quantile(&histogram, 1.0), 123456789);
    histogram_add(&histogram, UINT64_MAX / 2);
    assert_int_equal(histogram_quantile(&histogram, 1.0), UINT64_MAX / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_are_in_order),
        cmocka_unit_test(quantiles_are_near),
        cmocka_unit_test(the_largest_is_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
