#include "tests/unit/policy/bed.h"

/* A leg is gone: what it sent is delivered, then the other one learns of it. */

/* ---- resets ---- */

static void a_reset_with_nothing_on_the_way_is_passed_on_at_once(void **state)
{
    (void)state;
    static const enum reason reasons[LEG_COUNT] = {
        [LEG_CLIENT] = REASON_CLIENT_RESET, [LEG_BACKEND] = REASON_BACKEND_RESET};
    for (enum leg leg = 0; leg < LEG_COUNT; leg++) {
        struct bed bed;
        opened(&bed);
        assert_int_equal(leg_event(&bed, PAIR_EVENT_RESET, leg),
                         to(PAIR_DO_CLOSE, leg) | to(PAIR_DO_RST, leg_other(leg)) | PAIR_DO_END);
        assert_ended(&bed, reasons[leg], leg == LEG_CLIENT ? LEG_END_RESET : LEG_END_RST,
                     leg == LEG_BACKEND ? LEG_END_RESET : LEG_END_RST);
    }
}

static void a_leg_that_the_kernel_gave_up_on_is_as_good_as_reset(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    leg_event(&bed, PAIR_EVENT_LOST, LEG_CLIENT);
    assert_ended(&bed, REASON_CLIENT_LOST, LEG_END_RESET, LEG_END_RST);
    opened(&bed);
    leg_event(&bed, PAIR_EVENT_LOST, LEG_BACKEND);
    assert_ended(&bed, REASON_BACKEND_LOST, LEG_END_RST, LEG_END_RESET);
}

static void a_reset_waits_for_what_came_before_it(void **state)
{
    (void)state;
    for (enum leg leg = 0; leg < LEG_COUNT; leg++) {
        struct bed bed;
        enum leg survivor = leg_other(leg);
        opened(&bed);
        half_event(&bed, PAIR_EVENT_HELD, half_from(leg));
        assert_int_equal(leg_event(&bed, PAIR_EVENT_RESET, leg), to(PAIR_DO_CLOSE, leg));
        assert_int_equal(bed.pair.phase, PAIR_RESETTING);
        assert_true(pair_discards(&bed.pair, half_to(leg)));
        assert_int_equal(half_event(&bed, PAIR_EVENT_DISCARDED, half_to(leg)), 0);
        relay_unacked(&bed, half_from(leg), 10);
        assert_int_equal(half_event(&bed, PAIR_EVENT_DRAINED, half_from(leg)), 0);
        assert_int_equal(expire_until(&bed, 500), 0);
        ack(&bed, survivor, 10);
        assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, survivor) | PAIR_DO_END);
        assert_in_range(at(&bed), 500, 550);
    }
}

static void a_reset_does_not_wait_for_what_was_going_to_the_leg_that_is_gone(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay_unacked(&bed, HALF_RESPONSE, 10);
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    assert_int_equal(leg_event(&bed, PAIR_EVENT_RESET, LEG_CLIENT),
                     to(PAIR_DO_CLOSE, LEG_CLIENT) | to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
}

static void a_fin_of_the_survivor_does_not_shorten_its_delivery(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    leg_event(&bed, PAIR_EVENT_RESET, LEG_BACKEND);
    assert_int_equal(fin(&bed, HALF_REQUEST), 0);
    assert_int_equal(half_event(&bed, PAIR_EVENT_DRAINED, HALF_RESPONSE),
                     to(PAIR_DO_RST, LEG_CLIENT) | PAIR_DO_END);
    assert_ended(&bed, REASON_BACKEND_RESET, LEG_END_RST, LEG_END_RESET);
}

static void a_survivor_that_takes_nothing_is_reset_after_write_stall(void **state)
{
    (void)state;
    for (int held = 0; held < 2; held++) {
        struct bed bed;
        opened(&bed);
        relay_unacked(&bed, HALF_RESPONSE, 10);
        if (held)
            half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
        pass(&bed, 10);
        leg_event(&bed, PAIR_EVENT_RESET, LEG_BACKEND);
        assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, LEG_CLIENT) | PAIR_DO_END);
        assert_int_equal(at(&bed), 60010);
        assert_int_equal(bed.pair.reason, REASON_BACKEND_RESET);
    }
}

static void a_survivor_that_only_trickles_is_reset_too(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay_unacked(&bed, HALF_RESPONSE, 1000000);
    leg_event(&bed, PAIR_EVENT_RESET, LEG_BACKEND);
    pair_actions actions = 0;
    for (uint64_t i = 1; i < 1000 && actions == 0; i++) {
        actions = expire_until(&bed, i * 10000);
        ack(&bed, LEG_CLIENT, 100);
    }
    assert_in_range(at(&bed), 60000, 61000);
}

static void a_second_reset_ends_the_delivery(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    leg_event(&bed, PAIR_EVENT_RESET, LEG_BACKEND);
    assert_int_equal(leg_event(&bed, PAIR_EVENT_RESET, LEG_CLIENT),
                     to(PAIR_DO_CLOSE, LEG_CLIENT) | PAIR_DO_END);
    assert_ended(&bed, REASON_BACKEND_RESET, LEG_END_RESET, LEG_END_RESET);
}

static void a_client_that_has_its_whole_answer_keeps_it_when_the_backend_resets(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay(&bed, HALF_RESPONSE, 100);
    fin(&bed, HALF_RESPONSE);
    assert_int_equal(leg_event(&bed, PAIR_EVENT_RESET, LEG_BACKEND), to(PAIR_DO_CLOSE, LEG_BACKEND));
    assert_int_equal(bed.pair.phase, PAIR_CLOSING);
    assert_int_equal(fin(&bed, HALF_REQUEST), to(PAIR_DO_CLOSE, LEG_CLIENT) | PAIR_DO_END);
    assert_ended(&bed, REASON_BACKEND_RESET, LEG_END_FIN, LEG_END_RESET);
}

static void a_client_that_has_its_whole_answer_and_stays_is_reset_after_grace(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    fin(&bed, HALF_RESPONSE);
    leg_event(&bed, PAIR_EVENT_RESET, LEG_BACKEND);
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, LEG_CLIENT) | PAIR_DO_END);
    assert_int_equal(at(&bed), 5000);
}

static void a_whole_answer_that_is_still_held_gets_its_fin_after_the_backend_reset(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    fin(&bed, HALF_RESPONSE);
    assert_int_equal(leg_event(&bed, PAIR_EVENT_RESET, LEG_BACKEND), to(PAIR_DO_CLOSE, LEG_BACKEND));
    assert_int_equal(bed.pair.phase, PAIR_RESETTING);
    assert_int_equal(half_event(&bed, PAIR_EVENT_DRAINED, HALF_RESPONSE), to(PAIR_DO_FIN, LEG_CLIENT));
    assert_int_equal(bed.pair.phase, PAIR_CLOSING);
    assert_int_equal(fin(&bed, HALF_REQUEST), to(PAIR_DO_CLOSE, LEG_CLIENT) | PAIR_DO_END);
    assert_ended(&bed, REASON_BACKEND_RESET, LEG_END_FIN, LEG_END_RESET);
}

static void a_client_that_had_closed_gets_its_whole_answer_and_no_more(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    fin(&bed, HALF_REQUEST);
    fin(&bed, HALF_RESPONSE);
    leg_event(&bed, PAIR_EVENT_RESET, LEG_BACKEND);
    assert_int_equal(half_event(&bed, PAIR_EVENT_DRAINED, HALF_RESPONSE),
                     to(PAIR_DO_FIN, LEG_CLIENT) | to(PAIR_DO_CLOSE, LEG_CLIENT) | PAIR_DO_END);
    assert_ended(&bed, REASON_BACKEND_RESET, LEG_END_FIN, LEG_END_RESET);
}

static void the_request_of_a_client_that_is_gone_ends_by_rst_however_whole(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    assert_int_equal(leg_event(&bed, PAIR_EVENT_RESET, LEG_CLIENT),
                     to(PAIR_DO_CLOSE, LEG_CLIENT) | to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_ended(&bed, REASON_CLIENT_RESET, LEG_END_RESET, LEG_END_RST);
}

static void a_reset_replaces_the_reason_of_a_session_that_was_ending(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    event(&bed, PAIR_EVENT_DRAIN);
    leg_event(&bed, PAIR_EVENT_RESET, LEG_CLIENT);
    assert_ended(&bed, REASON_CLIENT_RESET, LEG_END_RESET, LEG_END_RST);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_reset_with_nothing_on_the_way_is_passed_on_at_once),
    cmocka_unit_test(a_leg_that_the_kernel_gave_up_on_is_as_good_as_reset),
    cmocka_unit_test(a_reset_waits_for_what_came_before_it),
    cmocka_unit_test(a_reset_does_not_wait_for_what_was_going_to_the_leg_that_is_gone),
    cmocka_unit_test(a_fin_of_the_survivor_does_not_shorten_its_delivery),
    cmocka_unit_test(a_survivor_that_takes_nothing_is_reset_after_write_stall),
    cmocka_unit_test(a_survivor_that_only_trickles_is_reset_too),
    cmocka_unit_test(a_second_reset_ends_the_delivery),
    cmocka_unit_test(a_client_that_has_its_whole_answer_keeps_it_when_the_backend_resets),
    cmocka_unit_test(a_client_that_has_its_whole_answer_and_stays_is_reset_after_grace),
    cmocka_unit_test(a_whole_answer_that_is_still_held_gets_its_fin_after_the_backend_reset),
    cmocka_unit_test(a_client_that_had_closed_gets_its_whole_answer_and_no_more),
    cmocka_unit_test(the_request_of_a_client_that_is_gone_ends_by_rst_however_whole),
    cmocka_unit_test(a_reset_replaces_the_reason_of_a_session_that_was_ending),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
