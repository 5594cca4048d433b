#include "tests/unit/policy/bed.h"

/* Both halves are open: idle, grace, a sink that takes nothing. */

/* ---- idle and grace ---- */

static void idle_counts_from_the_last_progress_in_either_half(void **state)
{
    (void)state;
    for (enum half half = 0; half < HALF_COUNT; half++) {
        struct bed bed;
        opened(&bed);
        pass(&bed, 1234);
        relay(&bed, half, 1);
        assert_true(expire_until(&bed, FOREVER_MS) != 0);
        assert_int_equal(at(&bed), 1234 + 3600000);
        assert_int_equal(bed.pair.reason, REASON_IDLE);
    }
}

static void idle_sends_fin_to_both_and_grace_resets_whoever_stays(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    assert_int_equal(expire_until(&bed, FOREVER_MS), fin_both);
    assert_int_equal(at(&bed), 3600000);
    assert_int_equal(bed.pair.phase, PAIR_CLOSING);
    assert_int_equal(fin(&bed, HALF_REQUEST), 0);
    assert_int_equal(expire_until(&bed, FOREVER_MS),
                     to(PAIR_DO_CLOSE, LEG_CLIENT) | to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_int_equal(at(&bed), 3605000);
    assert_ended(&bed, REASON_IDLE, LEG_END_FIN, LEG_END_RST);
}

static void two_peers_that_answer_our_fins_end_in_order(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    expire_until(&bed, FOREVER_MS);
    assert_int_equal(fin(&bed, HALF_RESPONSE), 0);
    assert_int_equal(fin(&bed, HALF_REQUEST), close_both_and_end);
    assert_ended(&bed, REASON_IDLE, LEG_END_FIN, LEG_END_FIN);
}

static void a_client_that_awaits_a_reply_gets_rst_and_never_fin(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay(&bed, HALF_REQUEST, 10);
    assert_int_equal(expire_until(&bed, FOREVER_MS),
                     to(PAIR_DO_RST, LEG_CLIENT) | to(PAIR_DO_FIN, LEG_BACKEND));
    assert_int_equal(fin(&bed, HALF_RESPONSE), to(PAIR_DO_CLOSE, LEG_BACKEND) | PAIR_DO_END);
    assert_ended(&bed, REASON_IDLE, LEG_END_RST, LEG_END_FIN);
}

static void a_client_that_was_answered_gets_fin(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay(&bed, HALF_REQUEST, 10);
    relay(&bed, HALF_RESPONSE, 10);
    assert_int_equal(expire_until(&bed, FOREVER_MS), fin_both);
}

static void a_leg_for_which_bytes_are_held_gets_rst_and_never_fin(void **state)
{
    (void)state;
    for (enum half half = 0; half < HALF_COUNT; half++) {
        struct bed bed;
        opened(&bed);
        half_event(&bed, PAIR_EVENT_HELD, half);
        assert_int_equal(expire_until(&bed, 59999), 0);
        set_after(&bed, DEADLINE_IDLE, 60000);
        set_after(&bed, DEADLINE_WRITE_STALL, DEADLINE_OFF);
        assert_int_equal(expire_until(&bed, FOREVER_MS),
                         to(PAIR_DO_RST, half_sink(half)) | to(PAIR_DO_FIN, half_source(half)));
    }
}

static void idle_actions_are_settable_for_each_leg(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_actions(&bed, DEADLINE_IDLE, CLOSE_FIN, CLOSE_RST);
    assert_int_equal(expire_until(&bed, FOREVER_MS),
                     to(PAIR_DO_FIN, LEG_CLIENT) | to(PAIR_DO_RST, LEG_BACKEND));
    opened(&bed);
    set_actions(&bed, DEADLINE_IDLE, CLOSE_RST, CLOSE_RST);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_ended(&bed, REASON_IDLE, LEG_END_RST, LEG_END_RST);
}

static void a_write_to_a_silent_kernel_is_no_sign_of_life(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    pass(&bed, 3599000);
    relay_unacked(&bed, HALF_REQUEST, 1);
    assert_true(expire_until(&bed, FOREVER_MS) != 0);
    assert_int_equal(at(&bed), 3600000 + DELIVERY_MS);
}

static void an_acknowledgement_is_a_sign_of_life(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    pass(&bed, 3599000);
    relay_unacked(&bed, HALF_REQUEST, 10);
    assert_int_equal(expire_until(&bed, 3601000), 0);
    ack(&bed, LEG_BACKEND, 10);
    assert_true(expire_until(&bed, FOREVER_MS) != 0);
    assert_int_equal(at(&bed), 3601000 + 3600000);
}

static void bytes_discarded_after_our_fin_are_told_to_their_reader_by_rst(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    expire_until(&bed, FOREVER_MS);
    assert_true(pair_discards(&bed.pair, HALF_RESPONSE));
    assert_int_equal(half_event(&bed, PAIR_EVENT_DISCARDED, HALF_RESPONSE), to(PAIR_DO_RST, LEG_CLIENT));
    assert_int_equal(half_event(&bed, PAIR_EVENT_DISCARDED, HALF_RESPONSE), 0);
    assert_int_equal(fin(&bed, HALF_RESPONSE), to(PAIR_DO_CLOSE, LEG_BACKEND) | PAIR_DO_END);
    assert_ended(&bed, REASON_IDLE, LEG_END_RST, LEG_END_FIN);
}

static void bytes_discarded_for_a_reader_that_has_closed_change_nothing(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    expire_until(&bed, FOREVER_MS);
    fin(&bed, HALF_REQUEST);
    assert_int_equal(half_event(&bed, PAIR_EVENT_DISCARDED, HALF_RESPONSE), 0);
    assert_int_equal(bed.pair.phase, PAIR_CLOSING);
}

static void a_rejected_reader_ends_a_session_whose_other_leg_is_done(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_actions(&bed, DEADLINE_IDLE, CLOSE_FIN, CLOSE_FIN);
    expire_until(&bed, FOREVER_MS);
    assert_int_equal(half_event(&bed, PAIR_EVENT_DISCARDED, HALF_REQUEST), to(PAIR_DO_RST, LEG_BACKEND));
    assert_int_equal(fin(&bed, HALF_REQUEST), to(PAIR_DO_CLOSE, LEG_CLIENT) | PAIR_DO_END);
}

static void a_reset_in_closing_is_as_good_as_a_fin(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    expire_until(&bed, FOREVER_MS);
    assert_int_equal(leg_event(&bed, PAIR_EVENT_RESET, LEG_BACKEND), to(PAIR_DO_CLOSE, LEG_BACKEND));
    assert_int_equal(fin(&bed, HALF_REQUEST), to(PAIR_DO_CLOSE, LEG_CLIENT) | PAIR_DO_END);
    assert_ended(&bed, REASON_IDLE, LEG_END_FIN, LEG_END_RESET);
}

static void grace_goes_on_for_a_peer_that_still_takes_bytes_at_the_rate(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_actions(&bed, DEADLINE_WRITE_STALL, CLOSE_FIN, CLOSE_FIN);
    relay_unacked(&bed, HALF_RESPONSE, 100000);
    half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST);
    assert_int_equal(expire_until(&bed, FOREVER_MS),
                     to(PAIR_DO_FIN, LEG_CLIENT) | to(PAIR_DO_RST, LEG_BACKEND));
    assert_int_equal(at(&bed), 60000);
    assert_int_equal(expire_until(&bed, 64000), 0);
    ack(&bed, LEG_CLIENT, 50000);
    assert_int_equal(expire_until(&bed, 68000), 0);
    ack(&bed, LEG_CLIENT, 50000);
    assert_true(expire_until(&bed, FOREVER_MS) != 0);
    assert_int_equal(at(&bed), 68000 + 5000);
}

static void grace_zero_resets_as_soon_as_our_fin_has_arrived(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_GRACE, 0);
    assert_int_equal(expire_until(&bed, FOREVER_MS), fin_both);
    bed.unacked_bytes[LEG_BACKEND] = 1;
    assert_int_equal(expire_until(&bed, 3600120), 0);
    bed.unacked_bytes[LEG_BACKEND] = 0;
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_in_range(at(&bed), 3600120, 3600170);
}

static void a_trickle_of_acknowledgements_does_not_defeat_grace(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_actions(&bed, DEADLINE_WRITE_STALL, CLOSE_FIN, CLOSE_FIN);
    relay_unacked(&bed, HALF_RESPONSE, 100000);
    half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST);
    expire_until(&bed, FOREVER_MS);
    pair_actions actions = 0;
    for (int i = 0; i < 100 && actions == 0; i++) {
        ack(&bed, LEG_CLIENT, 10);
        actions = expire_until(&bed, at(&bed) + 1000);
    }
    assert_int_equal(actions, to(PAIR_DO_RST, LEG_CLIENT) | PAIR_DO_END);
    assert_in_range(at(&bed), 65000, 65000 + DELIVERY_MS + 200);
}

static void idle_off_waits_for_ever(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_IDLE, DEADLINE_OFF);
    assert_true(pair_next_ms(&bed.pair, bed.now_ms) == DEADLINE_OFF);
    assert_int_equal(event(&bed, PAIR_EVENT_EXPIRED), 0);
}

static void expiry_that_comes_early_changes_nothing(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    for (int i = 0; i < 10; i++) {
        pass(&bed, 29999);
        assert_int_equal(event(&bed, PAIR_EVENT_EXPIRED), 0);
    }
    assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms) - START_MS, 3600000);
}

/* ---- write_stall ---- */

static void a_sink_that_takes_nothing_is_reset_after_write_stall(void **state)
{
    (void)state;
    for (enum half half = 0; half < HALF_COUNT; half++) {
        struct bed bed;
        opened(&bed);
        pass(&bed, 100);
        relay(&bed, half, 5);
        pass(&bed, 100);
        half_event(&bed, PAIR_EVENT_HELD, half);
        assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
        assert_int_equal(at(&bed), 60200);
        assert_ended(&bed, REASON_WRITE_STALL, LEG_END_RST, LEG_END_RST);
    }
}

static void a_sink_that_takes_some_begins_write_stall_anew(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    pass(&bed, 59000);
    relay(&bed, HALF_RESPONSE, 1 << 20);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 119000);
}

static void an_acknowledgement_begins_write_stall_anew(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay_unacked(&bed, HALF_RESPONSE, 1 << 20);
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    pass(&bed, 59000);
    ack(&bed, LEG_CLIENT, 1 << 19);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 119000);
}

static void the_half_that_stalled_first_ends_the_session(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    pass(&bed, 30000);
    half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 60000);
}

static void a_half_that_stalled_later_does_not_give_the_first_more_time(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST);
    pass(&bed, 30000);
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 60000);
}

static void progress_in_one_half_does_not_help_the_stalled_one(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST);
    for (uint64_t second = 1; second < 60; second++) {
        assert_int_equal(expire_until(&bed, second * 1000), 0);
        relay(&bed, HALF_RESPONSE, 1 << 20);
    }
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 60000);
}

static void draining_a_half_ends_its_stall(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST);
    half_event(&bed, PAIR_EVENT_DRAINED, HALF_REQUEST);
    assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms) - START_MS, 3600000);
}

static void a_fin_behind_held_bytes_is_bounded_by_write_stall(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST);
    fin(&bed, HALF_REQUEST);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 60000);
    assert_int_equal(bed.pair.reason, REASON_WRITE_STALL);
}

static void write_stall_off_leaves_it_to_idle(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_WRITE_STALL, DEADLINE_OFF);
    half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST);
    assert_int_equal(expire_until(&bed, FOREVER_MS),
                     to(PAIR_DO_FIN, LEG_CLIENT) | to(PAIR_DO_RST, LEG_BACKEND));
    assert_int_equal(bed.pair.reason, REASON_IDLE);
}

/* ---- off ---- */

static void with_everything_off_no_time_is_ever_due(void **state)
{
    (void)state;
    struct bed bed;
    connecting(&bed, 1);
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++)
        if (deadline_row(id)->may_be_off)
            set_after(&bed, id, DEADLINE_OFF);
    assert_true(pair_next_ms(&bed.pair, bed.now_ms) == DEADLINE_OFF);
    event(&bed, PAIR_EVENT_CONNECTED);
    assert_true(pair_next_ms(&bed.pair, bed.now_ms) == DEADLINE_OFF);
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    assert_true(pair_next_ms(&bed.pair, bed.now_ms) == DEADLINE_OFF);
    half_event(&bed, PAIR_EVENT_DRAINED, HALF_RESPONSE);
    relay(&bed, HALF_REQUEST, 1);
    fin(&bed, HALF_REQUEST);
    assert_true(pair_next_ms(&bed.pair, bed.now_ms) == DEADLINE_OFF);
    pass(&bed, FOREVER_MS);
    assert_int_equal(event(&bed, PAIR_EVENT_EXPIRED), 0);
    assert_int_equal(bed.pair.phase, PAIR_OPEN);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(idle_counts_from_the_last_progress_in_either_half),
    cmocka_unit_test(idle_sends_fin_to_both_and_grace_resets_whoever_stays),
    cmocka_unit_test(two_peers_that_answer_our_fins_end_in_order),
    cmocka_unit_test(a_client_that_awaits_a_reply_gets_rst_and_never_fin),
    cmocka_unit_test(a_client_that_was_answered_gets_fin),
    cmocka_unit_test(a_leg_for_which_bytes_are_held_gets_rst_and_never_fin),
    cmocka_unit_test(idle_actions_are_settable_for_each_leg),
    cmocka_unit_test(a_write_to_a_silent_kernel_is_no_sign_of_life),
    cmocka_unit_test(an_acknowledgement_is_a_sign_of_life),
    cmocka_unit_test(bytes_discarded_after_our_fin_are_told_to_their_reader_by_rst),
    cmocka_unit_test(bytes_discarded_for_a_reader_that_has_closed_change_nothing),
    cmocka_unit_test(a_rejected_reader_ends_a_session_whose_other_leg_is_done),
    cmocka_unit_test(a_reset_in_closing_is_as_good_as_a_fin),
    cmocka_unit_test(grace_goes_on_for_a_peer_that_still_takes_bytes_at_the_rate),
    cmocka_unit_test(grace_zero_resets_as_soon_as_our_fin_has_arrived),
    cmocka_unit_test(a_trickle_of_acknowledgements_does_not_defeat_grace),
    cmocka_unit_test(idle_off_waits_for_ever),
    cmocka_unit_test(expiry_that_comes_early_changes_nothing),
    cmocka_unit_test(a_sink_that_takes_nothing_is_reset_after_write_stall),
    cmocka_unit_test(a_sink_that_takes_some_begins_write_stall_anew),
    cmocka_unit_test(an_acknowledgement_begins_write_stall_anew),
    cmocka_unit_test(the_half_that_stalled_first_ends_the_session),
    cmocka_unit_test(a_half_that_stalled_later_does_not_give_the_first_more_time),
    cmocka_unit_test(progress_in_one_half_does_not_help_the_stalled_one),
    cmocka_unit_test(draining_a_half_ends_its_stall),
    cmocka_unit_test(a_fin_behind_held_bytes_is_bounded_by_write_stall),
    cmocka_unit_test(write_stall_off_leaves_it_to_idle),
    cmocka_unit_test(with_everything_off_no_time_is_ever_due),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
