#include "tests/unit/cmocka.h"

#include "proxy/command/growth.h"

#define assert_rate(rate, expected) assert_true((rate) > (expected)-0.01 && (rate) < (expected) + 0.01)

static void the_first_look_shows_no_growth(void **state)
{
    (void)state;
    struct growth growth = {0};
    assert_rate(growth_per_minute(&growth, 1, 1000, 50), 0);
    growth_record(&growth, 1, 1000, 50);
    assert_rate(growth_per_minute(&growth, 1, 1000, 50), 0);
    growth_clear(&growth);
}

static void growth_is_per_minute_and_per_key(void **state)
{
    (void)state;
    struct growth growth = {0};
    growth_record(&growth, 1, 1000, 50);
    growth_record(&growth, 2, 1000, 10);
    assert_rate(growth_per_minute(&growth, 1, 3000, 60), 300);
    assert_rate(growth_per_minute(&growth, 2, 31000, 5), -10);
    assert_rate(growth_per_minute(&growth, 3, 31000, 5), 10); /* it had none then */
    growth_clear(&growth);
}

static void only_the_last_minute_counts(void **state)
{
    (void)state;
    struct growth growth = {0};
    for (uint64_t second = 0; second <= 120; second++)
        growth_record(&growth, 1, second * 1000, second < 60 ? 0 : second - 60);
    assert_rate(growth_per_minute(&growth, 1, 120000, 60), 60);
    assert_true(growth.count <= 62);
    growth_clear(&growth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_look_shows_no_growth),
        cmocka_unit_test(growth_is_per_minute_and_per_key),
        cmocka_unit_test(only_the_last_minute_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
