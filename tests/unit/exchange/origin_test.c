#include "tests/unit/cmocka.h"

#include "proxy/exchange/origin.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

static void make_id(struct origin_random *random, char id[ORIGIN_ID_TEXT])
{
    const struct conf_frontend frontend = {.http = {.request_id = true}};
    const union socket_address client = {.family = AF_UNIX};
    struct head_origin origin;
    struct origin_text text;
    origin_of(&origin, &text, &client, &frontend, random);
    assert_non_null(origin.request_id);
    assert_int_equal(strlen(origin.request_id), ORIGIN_ID_TEXT - 1);
    assert_int_equal(strspn(origin.request_id, "0123456789abcdef"), ORIGIN_ID_TEXT - 1);
    memcpy(id, origin.request_id, ORIGIN_ID_TEXT);
}

static void ids_differ_in_each_half(void **state)
{
    enum { IDS = 300 }; /* more than the kernel is asked for at once */
    static char ids[IDS][ORIGIN_ID_TEXT];
    struct origin_random random = {.left = 0};
    (void)state;
    for (size_t i = 0; i < IDS; i++) {
        make_id(&random, ids[i]);
        for (size_t j = 0; j < i; j++) {
            assert_memory_not_equal(ids[i], ids[j], 16);
            assert_memory_not_equal(ids[i] + 16, ids[j] + 16, 16);
        }
    }
}

/* SplitMix64, which made them once, and what undoes it. */
static uint64_t mixed(uint64_t state)
{
    uint64_t z = state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t unmixed(uint64_t z)
{
    z = (z ^ (z >> 31) ^ (z >> 62)) * UINT64_C(0x319642b2d24d8ec3);
    z = (z ^ (z >> 27) ^ (z >> 54)) * UINT64_C(0x96de1b173f119089);
    return z ^ (z >> 30) ^ (z >> 60);
}

static void an_id_does_not_tell_the_next(void **state)
{
    const uint64_t step = UINT64_C(0x9e3779b97f4a7c15);
    struct origin_random random = {.left = 0};
    char id[ORIGIN_ID_TEXT];
    uint64_t first, second;
    (void)state;
    assert_true(unmixed(mixed(step)) == step);
    make_id(&random, id);
    assert_int_equal(sscanf(id, "%16" SCNx64 "%16" SCNx64, &first, &second), 2);
    assert_false(mixed(unmixed(first) + step) == second);
    assert_false(mixed(unmixed(second) + step) == first);
}

static void what_was_given_is_forgotten(void **state)
{
    static const unsigned char nothing[sizeof(struct origin_random)];
    struct origin_random random = {.left = 0};
    char id[ORIGIN_ID_TEXT];
    (void)state;
    make_id(&random, id);
    assert_memory_equal(random.bytes + random.left, nothing, sizeof random.bytes - random.left);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ids_differ_in_each_half),
        cmocka_unit_test(an_id_does_not_tell_the_next),
        cmocka_unit_test(what_was_given_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
