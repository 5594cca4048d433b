#include "tests/unit/cmocka.h"

#include "proxy/server/lowest.h"

#include <stdlib.h>

/* The same by looking at each. */
static size_t found_by_looking(const uint32_t *keys, size_t count, size_t from, uint32_t max)
{
    for (size_t i = 0; i < count; i++)
        if (keys[(from + i) % count] <= max)
            return (from + i) % count;
    return count;
}

static uint32_t lowest_by_looking(const uint32_t *keys, size_t count)
{
    uint32_t lowest = LOWEST_NONE;
    for (size_t i = 0; i < count; i++)
        lowest = keys[i] < lowest ? keys[i] : lowest;
    return lowest;
}

static void every_size_finds_what_looking_at_each_finds(void **state)
{
    uint32_t keys[40], random = 1;
    (void)state;
    for (size_t count = 1; count <= 40; count++) {
        struct lowest lowest;
        assert_int_equal(lowest_init(&lowest, count), 0);
        assert_int_equal(lowest_of_all(&lowest), LOWEST_NONE);
        for (size_t i = 0; i < count; i++)
            keys[i] = LOWEST_NONE;
        for (int step = 0; step < 400; step++) {
            random = random * 1664525 + 1013904223;
            size_t index = (random >> 8) % count;
            keys[index] = (random >> 24) % 5 == 4 ? LOWEST_NONE : (random >> 24) % 5;
            lowest_set(&lowest, index, keys[index]);
            assert_int_equal(lowest_key(&lowest, index), keys[index]);
            assert_int_equal(lowest_of_all(&lowest), lowest_by_looking(keys, count));
            for (size_t from = 0; from < count; from++)
                for (uint32_t max = 0; max < 5; max++)
                    assert_int_equal(lowest_from(&lowest, from, max),
                                     found_by_looking(keys, count, from, max));
        }
        lowest_free(&lowest);
    }
}

static void nothing_is_found_among_none(void **state)
{
    struct lowest lowest;
    (void)state;
    assert_int_equal(lowest_init(&lowest, 0), 0);
    assert_int_equal(lowest_of_all(&lowest), LOWEST_NONE);
    lowest_free(&lowest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_finds_what_looking_at_each_finds),
        cmocka_unit_test(nothing_is_found_among_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
