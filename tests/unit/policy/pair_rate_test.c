#include "tests/unit/policy/bed.h"

/* Peers that move, but too slowly: deadlines that have a rate. half_close's is in pair_half_close_test.c. */

/* Follows messages, up to `stage`. */
static void following(struct bed *bed, enum pair_stage stage)
{
    memset(bed, 0, sizeof *bed);
    deadlines_default(&bed->deadlines);
    bed->deadlines.rate[DEADLINE_REQUEST_BODY] = bed->deadlines.rate[DEADLINE_WRITE_STALL] = 512;
    bed->now_ms = START_MS;
    pair_init_messages(&bed->pair, &bed->deadlines, bed->now_ms);
    step(bed, (struct pair_input){.event = PAIR_EVENT_STAGE, .stage = PAIR_STAGE_BODY});
    step(bed, (struct pair_input){.event = PAIR_EVENT_ATTACH});
    event(bed, PAIR_EVENT_CONNECTED);
    for (enum pair_stage next = PAIR_STAGE_RESPONSE; next <= stage && stage <= PAIR_STAGE_ANSWERED; next++)
        step(bed, (struct pair_input){.event = PAIR_EVENT_STAGE, .stage = next});
}

/* `bytes` of the half a second, until something is done about it or `seconds` have passed. */
static pair_actions flow(struct bed *bed, enum half half, uint64_t bytes, int seconds)
{
    pair_actions actions = 0;
    for (int second = 1; second <= seconds && actions == 0; second++) {
        actions = expire_until(bed, at(bed) + 1000);
        if (actions == 0)
            relay(bed, half, bytes);
    }
    return actions;
}

static void a_body_at_the_rate_lasts_as_long_as_it_lasts(void **state)
{
    (void)state;
    struct bed bed;
    following(&bed, PAIR_STAGE_BODY);
    assert_int_equal(flow(&bed, HALF_REQUEST, 512, 100000), 0);
}

static void a_body_that_trickles_is_refused(void **state)
{
    (void)state;
    struct bed bed;
    following(&bed, PAIR_STAGE_BODY);
    assert_int_equal(flow(&bed, HALF_REQUEST, 256, 1000), to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_ANSWER);
    assert_in_range(at(&bed), 118000, 122000); /* 60 s / (1 - 256 / 512) */
    assert_int_equal(bed.pair.cause, REASON_REQUEST_BODY_RATE);
}

static void a_body_that_stops_is_said_to_have_stopped(void **state)
{
    (void)state;
    struct bed bed;
    following(&bed, PAIR_STAGE_BODY);
    assert_int_equal(flow(&bed, HALF_REQUEST, 512, 100), 0);
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_ANSWER);
    assert_int_equal(bed.pair.cause, REASON_REQUEST_BODY);
}

static void time_in_which_the_backend_takes_nothing_is_not_the_clients(void **state)
{
    (void)state;
    struct bed bed;
    following(&bed, PAIR_STAGE_BODY);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST), 0);
        assert_int_equal(expire_until(&bed, at(&bed) + 50000), 0);
        relay(&bed, HALF_REQUEST, 1);
        assert_int_equal(half_event(&bed, PAIR_EVENT_DRAINED, HALF_REQUEST), 0);
        assert_int_equal(expire_until(&bed, at(&bed) + 50000), 0);
    }
}

static void a_body_that_trickles_beside_its_answer_keeps_nothing_alive(void **state)
{
    (void)state;
    struct bed bed;
    following(&bed, PAIR_STAGE_ANSWERED);
    assert_int_equal(flow(&bed, HALF_REQUEST, 1, 1000), rst_both_and_end);
    assert_in_range(at(&bed), 60000, 62000);
    assert_int_equal(bed.pair.reason, REASON_RESPONSE);
}

/* Heartbeats are legitimate: without a rate a byte is progress. */
static void an_answer_may_trickle_unless_told_otherwise(void **state)
{
    (void)state;
    struct bed bed;
    following(&bed, PAIR_STAGE_ANSWERED);
    assert_int_equal(flow(&bed, HALF_RESPONSE, 1, 10000), 0);
    following(&bed, PAIR_STAGE_ANSWERED);
    bed.deadlines.rate[DEADLINE_RESPONSE] = 100;
    assert_int_equal(flow(&bed, HALF_RESPONSE, 50, 10000), rst_both_and_end);
    assert_in_range(at(&bed), 118000, 122000);
    assert_int_equal(bed.pair.reason, REASON_RESPONSE_RATE);
}

static void an_event_stream_may_be_silent_for_an_hour(void **state)
{
    (void)state;
    struct bed bed;
    following(&bed, PAIR_STAGE_RESPONSE);
    bed.deadlines.rate[DEADLINE_RESPONSE] = 1 << 20;
    step(&bed, (struct pair_input){.event = PAIR_EVENT_STAGE, .stage = PAIR_STAGE_ANSWERED, .streams = true});
    assert_int_equal(expire_until(&bed, 3599000), 0);
    relay(&bed, HALF_RESPONSE, 1);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 3599000 + 3600000);
    assert_int_equal(bed.pair.reason, REASON_EVENT_STREAM);
}

static void a_tunnel_has_a_deadline_of_its_own_and_no_rate(void **state)
{
    (void)state;
    struct bed bed;
    following(&bed, PAIR_STAGE_ANSWERED);
    bed.deadlines.rate[DEADLINE_IDLE] = 1 << 20;
    set_after(&bed, DEADLINE_IDLE, 1000);
    step(&bed, (struct pair_input){.event = PAIR_EVENT_STAGE, .stage = PAIR_STAGE_BYTES});
    for (int i = 0; i < 10; i++) {
        assert_int_equal(expire_until(&bed, at(&bed) + 3599000), 0);
        relay(&bed, HALF_RESPONSE, 1);
    }
    assert_int_equal(half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE), 0);
    assert_int_equal(flow(&bed, HALF_RESPONSE, 1, 1000), 0);
    assert_int_equal(half_event(&bed, PAIR_EVENT_DRAINED, HALF_RESPONSE), 0);
    assert_int_equal(expire_until(&bed, FOREVER_MS), fin_both);
    assert_int_equal(bed.pair.reason, REASON_TUNNEL);
}

/* ---- slow read ---- */

static void a_client_that_takes_at_the_rate_takes_as_long_as_it_likes(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    bed.deadlines.rate[DEADLINE_WRITE_STALL] = 512;
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    assert_int_equal(flow(&bed, HALF_RESPONSE, 512, 100000), 0);
}

static void a_client_that_takes_too_slowly_is_reset(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    bed.deadlines.rate[DEADLINE_WRITE_STALL] = 512;
    assert_int_equal(expire_until(&bed, 500000), 0);
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    pair_actions actions = 0;
    for (int i = 0; i < 1000 && actions == 0; i++) { /* 267 bytes a second */
        actions = expire_until(&bed, at(&bed) + 15000);
        relay(&bed, HALF_RESPONSE, actions == 0 ? 4000 : 0);
    }
    assert_int_equal(actions, rst_both_and_end);
    assert_in_range(at(&bed) - 500000, 110000, 140000);
    assert_int_equal(bed.pair.reason, REASON_WRITE_STALL_RATE);
}

static void a_buffer_that_runs_empty_and_full_again_is_no_fresh_start(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    bed.deadlines.rate[DEADLINE_WRITE_STALL] = 512;
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    pair_actions actions = 0;
    for (int i = 0; i < 1000 && actions == 0; i++) {
        actions = expire_until(&bed, at(&bed) + 15000);
        if (actions != 0)
            break;
        relay(&bed, HALF_RESPONSE, 4000);
        half_event(&bed, PAIR_EVENT_DRAINED, HALF_RESPONSE);
        pass(&bed, 500);
        half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    }
    assert_int_equal(actions, rst_both_and_end);
    assert_int_equal(bed.pair.reason, REASON_WRITE_STALL_RATE);
}

/* We were stopped for a minute, and the client took what it had: that is not its rate. */
static void our_own_lateness_is_not_held_against_a_rate(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    bed.deadlines.rate[DEADLINE_WRITE_STALL] = 512;
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    pass(&bed, 300000);
    relay(&bed, HALF_RESPONSE, 4000);
    pair_excuse(&bed.pair, 300000);
    assert_int_equal(expire_until(&bed, at(&bed) + 1000), 0);
    assert_int_equal(bed.pair.phase, PAIR_OPEN);
}

static void a_client_that_had_taken_all_starts_afresh(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    bed.deadlines.rate[DEADLINE_WRITE_STALL] = 512;
    for (int i = 0; i < 100; i++) {
        half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
        assert_int_equal(flow(&bed, HALF_RESPONSE, 1, 50), 0);
        half_event(&bed, PAIR_EVENT_DRAINED, HALF_RESPONSE);
        assert_int_equal(expire_until(&bed, at(&bed) + 1001), 0);
    }
}

static void a_client_that_takes_nothing_is_told_from_one_that_takes_little(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    bed.deadlines.rate[DEADLINE_WRITE_STALL] = 512;
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 60000);
    assert_int_equal(bed.pair.reason, REASON_WRITE_STALL);
}

static void a_backend_may_take_as_little_as_it_likes(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    bed.deadlines.rate[DEADLINE_WRITE_STALL] = 512;
    half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST);
    assert_int_equal(flow(&bed, HALF_REQUEST, 1, 10000), 0);
}

static void the_half_that_waits_longest_gives_the_reason(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    bed.deadlines.rate[DEADLINE_WRITE_STALL] = 512;
    half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST);
    pass(&bed, 5000);
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    assert_int_equal(flow(&bed, HALF_RESPONSE, 1, 1000), rst_both_and_end);
    assert_int_equal(at(&bed), 60000);
    assert_int_equal(bed.pair.reason, REASON_WRITE_STALL);
}

static void any_byte_counts_where_the_rate_is_off(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    bed.deadlines.rate[DEADLINE_WRITE_STALL] = 512;
    bed.deadlines.rate[DEADLINE_WRITE_STALL] = 0;
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    assert_int_equal(flow(&bed, HALF_RESPONSE, 1, 10000), 0);
    following(&bed, PAIR_STAGE_BODY);
    bed.deadlines.rate[DEADLINE_REQUEST_BODY] = 0;
    assert_int_equal(flow(&bed, HALF_REQUEST, 1, 10000), 0);
}

/* ---- idle ---- */

static void two_open_halves_may_trickle_unless_told_otherwise(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    bed.deadlines.rate[DEADLINE_WRITE_STALL] = 512;
    for (int i = 0; i < 100; i++) {
        assert_int_equal(expire_until(&bed, at(&bed) + 3599000), 0);
        relay(&bed, HALF_REQUEST, 1);
    }
    opened(&bed);
    bed.deadlines.rate[DEADLINE_WRITE_STALL] = 512;
    pass(&bed, 1000);
    bed.deadlines.rate[DEADLINE_IDLE] = 100;
    set_after(&bed, DEADLINE_IDLE, 10000);
    relay(&bed, HALF_RESPONSE, 50);
    assert_int_equal(flow(&bed, HALF_RESPONSE, 50, 1000), fin_both);
    assert_in_range(at(&bed), 18000, 23000);
    assert_int_equal(bed.pair.reason, REASON_IDLE_RATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_at_the_rate_lasts_as_long_as_it_lasts),
        cmocka_unit_test(a_body_that_trickles_is_refused),
        cmocka_unit_test(a_body_that_stops_is_said_to_have_stopped),
        cmocka_unit_test(time_in_which_the_backend_takes_nothing_is_not_the_clients),
        cmocka_unit_test(a_body_that_trickles_beside_its_answer_keeps_nothing_alive),
        cmocka_unit_test(an_answer_may_trickle_unless_told_otherwise),
        cmocka_unit_test(an_event_stream_may_be_silent_for_an_hour),
        cmocka_unit_test(a_tunnel_has_a_deadline_of_its_own_and_no_rate),
        cmocka_unit_test(a_client_that_takes_at_the_rate_takes_as_long_as_it_likes),
        cmocka_unit_test(a_client_that_takes_too_slowly_is_reset),
        cmocka_unit_test(a_buffer_that_runs_empty_and_full_again_is_no_fresh_start),
        cmocka_unit_test(our_own_lateness_is_not_held_against_a_rate),
        cmocka_unit_test(a_client_that_had_taken_all_starts_afresh),
        cmocka_unit_test(a_client_that_takes_nothing_is_told_from_one_that_takes_little),
        cmocka_unit_test(a_backend_may_take_as_little_as_it_likes),
        cmocka_unit_test(the_half_that_waits_longest_gives_the_reason),
        cmocka_unit_test(any_byte_counts_where_the_rate_is_off),
        cmocka_unit_test(two_open_halves_may_trickle_unless_told_otherwise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
