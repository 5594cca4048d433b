#include "tests/unit/policy/bed.h"

/* Ending because the session's time, or the proxy's, is over. */

/* ---- lifetime and drain ---- */

static void lifetime_waits_for_rest_and_then_sends_fin(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_LIFETIME, 60000);
    assert_int_equal(expire_until(&bed, 59500), 0);
    relay(&bed, HALF_RESPONSE, 10);
    assert_int_equal(expire_until(&bed, FOREVER_MS), fin_both);
    assert_int_equal(at(&bed), 60500);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 65500);
    assert_ended(&bed, REASON_LIFETIME, LEG_END_RST, LEG_END_RST);
}

static void lifetime_actions_are_settable(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_LIFETIME, 60000);
    set_actions(&bed, DEADLINE_LIFETIME, CLOSE_RST, CLOSE_RST);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_in_range(at(&bed), 60000, 60250);
    assert_ended(&bed, REASON_LIFETIME, LEG_END_RST, LEG_END_RST);
}

static void a_session_that_never_rests_is_reset_a_grace_after_its_lifetime(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_LIFETIME, 60000);
    pair_actions actions = 0;
    for (uint64_t tenth = 1; tenth <= 1000 && actions == 0; tenth++) {
        relay(&bed, HALF_RESPONSE, 1 << 20);
        actions = expire_until(&bed, tenth * 100);
    }
    assert_int_equal(actions, rst_both_and_end);
    assert_int_equal(at(&bed), 65000);
    assert_int_equal(bed.pair.reason, REASON_LIFETIME);
}

static void acknowledgements_do_not_keep_a_busy_session_beyond_its_lifetime(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_LIFETIME, 60000);
    relay_unacked(&bed, HALF_RESPONSE, 1000);
    pair_actions actions = 0;
    for (uint64_t tenth = 1; tenth <= 1000 && actions == 0; tenth++) {
        relay_unacked(&bed, HALF_RESPONSE, 1000);
        ack(&bed, LEG_CLIENT, 1000);
        actions = expire_until(&bed, tenth * 100);
    }
    assert_int_equal(actions, rst_both_and_end);
    assert_int_equal(at(&bed), 65000 + DELIVERY_MS);
}

static void a_client_that_awaits_a_reply_is_reset_a_grace_after_its_lifetime(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_LIFETIME, 60000);
    relay(&bed, HALF_REQUEST, 1);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 65000);
}

static void drain_sends_fin_to_a_session_at_rest(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    pass(&bed, 5000);
    assert_int_equal(event(&bed, PAIR_EVENT_DRAIN), 0);
    assert_int_equal(bed.pair.phase, PAIR_ENDING);
    assert_int_equal(expire_until(&bed, FOREVER_MS), fin_both);
    assert_in_range(at(&bed), 5000, 5250);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_ended(&bed, REASON_DRAIN, LEG_END_RST, LEG_END_RST);
}

static void drain_uses_the_actions_of_idle(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_actions(&bed, DEADLINE_IDLE, CLOSE_FIN, CLOSE_RST);
    event(&bed, PAIR_EVENT_DRAIN);
    assert_int_equal(expire_until(&bed, FOREVER_MS),
                     to(PAIR_DO_FIN, LEG_CLIENT) | to(PAIR_DO_RST, LEG_BACKEND));
    assert_int_equal(at(&bed), 1000);
}

static void drain_lets_an_answer_finish_within_its_deadline(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay(&bed, HALF_REQUEST, 1);
    event(&bed, PAIR_EVENT_DRAIN);
    assert_int_equal(expire_until(&bed, 20000), 0);
    relay(&bed, HALF_RESPONSE, 1);
    assert_int_equal(expire_until(&bed, FOREVER_MS), fin_both);
    assert_in_range(at(&bed), 21000, 21250);
}

static void drain_resets_what_never_rests(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay(&bed, HALF_REQUEST, 1);
    event(&bed, PAIR_EVENT_DRAIN);
    pass(&bed, 10000);
    assert_int_equal(event(&bed, PAIR_EVENT_DRAIN), 0); /* again: nothing begins anew */
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 30000);
    assert_ended(&bed, REASON_DRAIN, LEG_END_RST, LEG_END_RST);
}

static void drain_never_fools_a_client_that_half_closed(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    relay(&bed, HALF_RESPONSE, 1000);
    event(&bed, PAIR_EVENT_DRAIN);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 30000);
}

static void a_fin_does_not_begin_the_wait_for_a_delivery_anew(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_LIFETIME, 60000);
    relay_unacked(&bed, HALF_RESPONSE, 1000);
    assert_int_equal(expire_until(&bed, 65000 + DELIVERY_MS - 100), 0);
    assert_int_equal(fin(&bed, HALF_REQUEST), to(PAIR_DO_FIN, LEG_BACKEND));
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 65000 + DELIVERY_MS);
}

static void drain_and_lifetime_do_not_begin_half_close_anew(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    set_after(&bed, DEADLINE_LIFETIME, 28000);
    set_after(&bed, DEADLINE_DRAIN, DEADLINE_OFF);
    assert_int_equal(expire_until(&bed, 20000), 0);
    event(&bed, PAIR_EVENT_DRAIN);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 30000);
    assert_ended(&bed, REASON_HALF_CLOSE, LEG_END_RST, LEG_END_RST);
}

static void rest_waits_for_held_and_for_unacknowledged_bytes(void **state)
{
    (void)state;
    for (enum half half = 0; half < HALF_COUNT; half++) {
        struct bed bed;
        opened(&bed);
        half_event(&bed, PAIR_EVENT_HELD, half);
        event(&bed, PAIR_EVENT_DRAIN);
        assert_int_equal(expire_until(&bed, 3000), 0);
        relay_unacked(&bed, HALF_RESPONSE, 1);
        half_event(&bed, PAIR_EVENT_DRAINED, half);
        assert_int_equal(expire_until(&bed, 6000), 0);
        ack(&bed, LEG_CLIENT, 1);
        assert_int_equal(expire_until(&bed, FOREVER_MS), fin_both);
        assert_in_range(at(&bed), 7000, 7250);
    }
}

static void drain_while_connecting_ends_what_gets_connected(void **state)
{
    (void)state;
    struct bed bed;
    connecting(&bed, 0);
    assert_int_equal(event(&bed, PAIR_EVENT_DRAIN), 0);
    assert_int_equal(bed.pair.phase, PAIR_CONNECTING);
    event(&bed, PAIR_EVENT_CONNECTED);
    assert_int_equal(bed.pair.phase, PAIR_ENDING);
    assert_int_equal(bed.pair.reason, REASON_DRAIN);
}

static void drain_bounds_an_attempt_to_connect(void **state)
{
    (void)state;
    struct bed bed;
    connecting(&bed, 1000);
    event(&bed, PAIR_EVENT_DRAIN);
    pair_actions actions = PAIR_DO_CONNECT;
    while (actions == PAIR_DO_CONNECT)
        actions = expire_until(&bed, FOREVER_MS);
    assert_int_equal(at(&bed), 30000);
    assert_int_equal(bed.pair.reason, REASON_DRAIN);
}

static void drain_bounds_grace_and_keeps_its_reason(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_DRAIN, 1000);
    expire_until(&bed, FOREVER_MS);
    event(&bed, PAIR_EVENT_DRAIN);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 3601000);
    assert_int_equal(bed.pair.reason, REASON_IDLE);
}

static void a_drain_without_its_deadline_is_left_to_idle(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_DRAIN, DEADLINE_OFF);
    relay(&bed, HALF_REQUEST, 1);
    event(&bed, PAIR_EVENT_DRAIN);
    assert_int_equal(expire_until(&bed, FOREVER_MS),
                     to(PAIR_DO_RST, LEG_CLIENT) | to(PAIR_DO_FIN, LEG_BACKEND));
    assert_int_equal(at(&bed), 3600000);
    assert_int_equal(bed.pair.reason, REASON_IDLE);
}

static void a_drain_without_its_deadline_is_left_to_lifetime(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_DRAIN, DEADLINE_OFF);
    set_after(&bed, DEADLINE_LIFETIME, 40000);
    relay(&bed, HALF_REQUEST, 1);
    event(&bed, PAIR_EVENT_DRAIN);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 45000);
    assert_int_equal(bed.pair.reason, REASON_LIFETIME);
}

/* ---- abort ---- */

static void abort_ends_every_phase_at_once_with_its_reason(void **state)
{
    (void)state;
    struct pair_input abort_input = {.event = PAIR_EVENT_ABORT, .reason = REASON_SHUTDOWN};
    struct bed bed;
    connecting(&bed, 5);
    assert_int_equal(step(&bed, abort_input),
                     to(PAIR_DO_RST, LEG_CLIENT) | to(PAIR_DO_CLOSE, LEG_BACKEND) | PAIR_DO_END);
    opened(&bed);
    assert_int_equal(step(&bed, abort_input), rst_both_and_end);
    assert_ended(&bed, REASON_SHUTDOWN, LEG_END_RST, LEG_END_RST);
    opened(&bed);
    event(&bed, PAIR_EVENT_DRAIN);
    assert_int_equal(step(&bed, abort_input), rst_both_and_end);
    opened(&bed);
    expire_until(&bed, FOREVER_MS);
    fin(&bed, HALF_RESPONSE);
    assert_int_equal(step(&bed, abort_input),
                     to(PAIR_DO_RST, LEG_CLIENT) | to(PAIR_DO_CLOSE, LEG_BACKEND) | PAIR_DO_END);
    assert_ended(&bed, REASON_SHUTDOWN, LEG_END_RST, LEG_END_FIN);
    opened(&bed);
    half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST);
    leg_event(&bed, PAIR_EVENT_RESET, LEG_CLIENT);
    assert_int_equal(step(&bed, abort_input), to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(lifetime_waits_for_rest_and_then_sends_fin),
    cmocka_unit_test(lifetime_actions_are_settable),
    cmocka_unit_test(a_session_that_never_rests_is_reset_a_grace_after_its_lifetime),
    cmocka_unit_test(acknowledgements_do_not_keep_a_busy_session_beyond_its_lifetime),
    cmocka_unit_test(a_client_that_awaits_a_reply_is_reset_a_grace_after_its_lifetime),
    cmocka_unit_test(drain_sends_fin_to_a_session_at_rest),
    cmocka_unit_test(drain_uses_the_actions_of_idle),
    cmocka_unit_test(drain_lets_an_answer_finish_within_its_deadline),
    cmocka_unit_test(drain_resets_what_never_rests),
    cmocka_unit_test(drain_never_fools_a_client_that_half_closed),
    cmocka_unit_test(a_fin_does_not_begin_the_wait_for_a_delivery_anew),
    cmocka_unit_test(drain_and_lifetime_do_not_begin_half_close_anew),
    cmocka_unit_test(rest_waits_for_held_and_for_unacknowledged_bytes),
    cmocka_unit_test(drain_while_connecting_ends_what_gets_connected),
    cmocka_unit_test(drain_bounds_an_attempt_to_connect),
    cmocka_unit_test(drain_bounds_grace_and_keeps_its_reason),
    cmocka_unit_test(a_drain_without_its_deadline_is_left_to_idle),
    cmocka_unit_test(a_drain_without_its_deadline_is_left_to_lifetime),
    cmocka_unit_test(abort_ends_every_phase_at_once_with_its_reason),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
