#include "tests/unit/cmocka.h"

#include "proxy/shared/counters.h"

#include <stdbool.h>
#include <uv.h>

enum { ADDS = 200000 };

static void write_counters(void *context)
{
    struct counters *counters = context;
    for (int i = 0; i < ADDS; i++) {
        counter_add(&counters->accepted, 1);
        counter_add(&counters->bytes[HALF_RESPONSE], 1000);
    }
}

static void another_thread_reads_what_one_writes_and_it_only_grows(void **state)
{
    struct counters counters = {0};
    uv_thread_t writer;
    uint64_t last = 0;
    (void)state;
    assert_int_equal(uv_thread_create(&writer, write_counters, &counters), 0);
    while (last < ADDS) {
        uint64_t now = counter_read(&counters.accepted);
        assert_true(now >= last && now <= ADDS);
        last = now;
    }
    uv_thread_join(&writer);
    assert_int_equal(counter_read(&counters.accepted), ADDS);
    assert_int_equal(counter_read(&counters.bytes[HALF_RESPONSE]), UINT64_C(1000) * ADDS);
    assert_int_equal(counter_read(&counters.bytes[HALF_REQUEST]), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_thread_reads_what_one_writes_and_it_only_grows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
