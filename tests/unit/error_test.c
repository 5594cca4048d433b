#include "tests/unit/cmocka.h"

#include "reaper/error.h"
#include "reaper/policy/reason.h"

#include <errno.h>
#include <string.h>

static void our_codes_have_name_and_text(void **state)
{
    (void)state;
#define X(name, code, text)                                                                                  \
    assert_string_equal(error_name(name), #name);                                                            \
    assert_string_equal(error_text(name), text);                                                             \
    assert_true((code) < -4095);
    ERROR_MAP(X)
#undef X
}

static void the_systems_codes_pass_through(void **state)
{
    (void)state;
    assert_string_equal(error_name(-ECONNREFUSED), "ECONNREFUSED");
    assert_string_equal(error_text(-ECONNREFUSED), "Connection refused");
}

static void unknown_codes_are_told_apart(void **state)
{
    (void)state;
    assert_string_equal(error_name(-100000), "UNKNOWN");
    assert_string_equal(error_name(7), "UNKNOWN");
    assert_string_equal(error_text(-4000), "unknown error");
    assert_string_equal(error_text(-100000), "unknown error");
    assert_string_equal(error_text(7), "unknown error");
}

static void every_reason_has_a_name_of_its_own(void **state)
{
    (void)state;
    for (enum reason a = 0; a < REASON_COUNT; a++) {
        assert_non_null(reason_name(a));
        assert_true(strlen(reason_text(a)) > 10);
        for (enum reason b = 0; b < a; b++)
            assert_string_not_equal(reason_name(a), reason_name(b));
    }
}

static void what_a_peer_or_an_operator_ended_is_not_reaped(void **state)
{
    (void)state;
    static const enum reason reaped[] = {REASON_HALF_CLOSE, REASON_IDLE, REASON_WRITE_STALL,
                                         REASON_KEEPALIVE};
    static const enum reason ended[] = {REASON_CLOSED, REASON_DRAIN, REASON_CONNECT_FAILED, REASON_NONE};
    for (size_t i = 0; i < sizeof reaped / sizeof reaped[0]; i++)
        assert_true(reason_is_reaped(reaped[i]));
    for (size_t i = 0; i < sizeof ended / sizeof ended[0]; i++)
        assert_false(reason_is_reaped(ended[i]));
}

static void a_deadline_and_a_failure_are_told_from_an_end_as_expected(void **state)
{
    (void)state;
    static const enum reason well[] = {REASON_CLOSED, REASON_KEEPALIVE, REASON_DRAIN};
    static const enum reason bad[] = {REASON_HALF_CLOSE, REASON_MESSAGE_GRACE,  REASON_IDLE,
                                      REASON_RESPONSE,   REASON_CONNECT_FAILED, REASON_NO_MEMORY};
    for (size_t i = 0; i < sizeof well / sizeof well[0]; i++)
        assert_int_equal(reason_weight(well[i]), REASON_WELL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(reason_weight(bad[i]), REASON_BAD);
    assert_int_equal(reason_weight(REASON_CLIENT_RESET), REASON_OTHER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(our_codes_have_name_and_text),
        cmocka_unit_test(the_systems_codes_pass_through),
        cmocka_unit_test(unknown_codes_are_told_apart),
        cmocka_unit_test(every_reason_has_a_name_of_its_own),
        cmocka_unit_test(what_a_peer_or_an_operator_ended_is_not_reaped),
        cmocka_unit_test(a_deadline_and_a_failure_are_told_from_an_end_as_expected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
