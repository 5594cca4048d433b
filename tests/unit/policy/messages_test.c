#include "tests/unit/cmocka.h"

#include "reaper/policy/deadline.h"
#include "reaper/policy/pair.h"

#include <string.h>

/* The state machine of a session that follows messages; pair_test.c has the rest. */

enum { START_MS = 1000000 };

struct bed {
    struct deadlines deadlines;
    struct pair pair;
    uint64_t now_ms;
};

static pair_actions step(struct bed *bed, struct pair_input input)
{
    pair_actions actions = pair_step(&bed->pair, &input, bed->now_ms);
    pair_check(&bed->pair);
    return actions;
}

static pair_actions event(struct bed *bed, enum pair_event event)
{
    return step(bed, (struct pair_input){.event = event, .reason = REASON_CLOSED, .end = LEG_END_FIN});
}

static void stage(struct bed *bed, enum pair_stage stage)
{
    assert_int_equal(step(bed, (struct pair_input){.event = PAIR_EVENT_STAGE, .stage = stage}), 0);
}

static pair_actions to(unsigned action, enum leg leg)
{
    return (pair_actions)action << leg;
}

static void waiting(struct bed *bed)
{
    memset(bed, 0, sizeof *bed);
    deadlines_default(&bed->deadlines);
    bed->now_ms = START_MS;
    pair_init_messages(&bed->pair, &bed->deadlines, bed->now_ms);
    pair_check(&bed->pair);
}

static void connecting(struct bed *bed, enum pair_stage first)
{
    waiting(bed);
    stage(bed, first);
    assert_int_equal(event(bed, PAIR_EVENT_ATTACH), PAIR_DO_CONNECT);
}

/* The whole request has gone to the backend. */
static void asked(struct bed *bed)
{
    connecting(bed, PAIR_STAGE_RESPONSE);
    assert_int_equal(event(bed, PAIR_EVENT_CONNECTED), 0);
    pair_progress(&bed->pair, HALF_REQUEST, 100, bed->now_ms);
}

static void answered(struct bed *bed)
{
    asked(bed);
    stage(bed, PAIR_STAGE_ANSWERED);
    pair_progress(&bed->pair, HALF_RESPONSE, 100, bed->now_ms);
}

/* Lets time pass until a deadline has something to do, which it returns. */
static pair_actions expire(struct bed *bed)
{
    pair_actions actions = 0;
    while (actions == 0) {
        uint64_t next_ms = pair_next_ms(&bed->pair, bed->now_ms);
        assert_true(next_ms != DEADLINE_OFF);
        bed->now_ms = next_ms > bed->now_ms ? next_ms : bed->now_ms;
        actions = event(bed, PAIR_EVENT_EXPIRED);
    }
    return actions;
}

static uint64_t passed_ms(const struct bed *bed)
{
    return bed->now_ms - START_MS;
}

static const pair_actions fin_both = (pair_actions)PAIR_DO_FIN << LEG_CLIENT | (pair_actions)PAIR_DO_FIN
                                                                                   << LEG_BACKEND;

static void a_boundary_gives_the_backend_message_grace_and_the_client_grace(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    assert_int_equal(event(&bed, PAIR_EVENT_COMPLETE), fin_both);
    assert_int_equal(expire(&bed), to(PAIR_DO_RST, LEG_BACKEND));
    assert_int_equal(passed_ms(&bed), 250);
    assert_int_equal(expire(&bed), to(PAIR_DO_RST, LEG_CLIENT) | PAIR_DO_END);
    assert_int_equal(passed_ms(&bed), 5000);
    assert_int_equal(bed.pair.reason, REASON_MESSAGE_GRACE);
}

/* Only what would have ended well is a leak by that. */
static void a_leak_behind_the_last_answer_is_named_and_no_other_reason_is_lost(void **state)
{
    static const enum reason began[] = {REASON_KEEPALIVE, REASON_BAD_REQUEST, REASON_CLOSED};
    static const enum reason named[] = {REASON_MESSAGE_GRACE, REASON_BAD_REQUEST, REASON_MESSAGE_GRACE};
    (void)state;
    for (size_t i = 0; i < sizeof began / sizeof began[0]; i++) {
        struct bed bed;
        answered(&bed);
        assert_int_equal(step(&bed, (struct pair_input){.event = PAIR_EVENT_COMPLETE, .reason = began[i]}),
                         fin_both);
        assert_int_equal(expire(&bed), to(PAIR_DO_RST, LEG_BACKEND));
        assert_int_equal(bed.pair.reason, named[i]);
    }
}

static void a_backend_that_is_reset_at_once_as_told_is_no_leak(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    bed.deadlines.after_ms[DEADLINE_MESSAGE_GRACE] = 0;
    event(&bed, PAIR_EVENT_COMPLETE);
    assert_int_equal(expire(&bed), to(PAIR_DO_RST, LEG_BACKEND));
    assert_int_equal(bed.pair.reason, REASON_CLOSED);
}

static void peers_that_close_in_time_are_not_reset(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    event(&bed, PAIR_EVENT_COMPLETE);
    assert_int_equal(step(&bed, (struct pair_input){.event = PAIR_EVENT_FIN, .half = HALF_RESPONSE}), 0);
    bed.now_ms += 1000;
    assert_int_equal(event(&bed, PAIR_EVENT_EXPIRED), 0);
    assert_int_equal(step(&bed, (struct pair_input){.event = PAIR_EVENT_FIN, .half = HALF_REQUEST}),
                     to(PAIR_DO_CLOSE, LEG_CLIENT) | to(PAIR_DO_CLOSE, LEG_BACKEND) | PAIR_DO_END);
}

static void what_a_client_still_sends_behind_the_last_response_resets_nobody(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    event(&bed, PAIR_EVENT_COMPLETE);
    for (enum half half = 0; half < HALF_COUNT; half++)
        assert_int_equal(step(&bed, (struct pair_input){.event = PAIR_EVENT_DISCARDED, .half = half}), 0);
}

static void a_head_that_does_not_come_is_answered(void **state)
{
    (void)state;
    struct bed bed;
    waiting(&bed);
    assert_int_equal(expire(&bed), PAIR_DO_ANSWER);
    assert_int_equal(passed_ms(&bed), 10000);
    assert_int_equal(bed.pair.cause, REASON_REQUEST_HEAD);
    assert_int_equal(event(&bed, PAIR_EVENT_COMPLETE), to(PAIR_DO_FIN, LEG_CLIENT));
    assert_int_equal(bed.pair.reason, REASON_REQUEST_HEAD);
}

/* The answer is written by a task of its own: what comes before that asks for no second one. */
static void what_comes_between_a_refusal_and_its_answer_asks_for_no_other(void **state)
{
    (void)state;
    struct bed bed;
    waiting(&bed);
    assert_int_equal(event(&bed, PAIR_EVENT_REFUSE), PAIR_DO_ANSWER);
    assert_int_equal(event(&bed, PAIR_EVENT_DRAIN) & (PAIR_DO_ANSWER | PAIR_DO_END), 0);
    assert_int_equal(event(&bed, PAIR_EVENT_EXPIRED) & (PAIR_DO_ANSWER | PAIR_DO_END), 0); /* too early */
    pair_actions late = expire(&bed);
    assert_int_equal(late & PAIR_DO_ANSWER, 0);
    waiting(&bed);
    assert_int_equal(event(&bed, PAIR_EVENT_REFUSE), PAIR_DO_ANSWER);
    pair_actions aborted = step(&bed, (struct pair_input){.event = PAIR_EVENT_ABORT, .reason = REASON_DRAIN});
    assert_int_equal(aborted & PAIR_DO_ANSWER, 0);
    assert_true(aborted & PAIR_DO_END);
}

/* It has answered whatever it was asked, and is not to blame. */
static void a_backend_at_rest_parts_in_order_when_the_next_request_is_refused(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    stage(&bed, PAIR_STAGE_BETWEEN);
    stage(&bed, PAIR_STAGE_HEAD);
    assert_int_equal(expire(&bed), PAIR_DO_ANSWER | PAIR_DO_RETIRE);
    assert_int_equal(bed.pair.leg_end[LEG_BACKEND], LEG_END_FIN);
    answered(&bed);
    stage(&bed, PAIR_STAGE_BETWEEN);
    stage(&bed, PAIR_STAGE_HEAD);
    assert_int_equal(event(&bed, PAIR_EVENT_REFUSE), PAIR_DO_ANSWER | PAIR_DO_RETIRE);
}

static void a_body_or_response_that_does_not_come_is_answered_and_the_backend_reset(void **state)
{
    (void)state;
    struct bed bed;
    connecting(&bed, PAIR_STAGE_BODY);
    event(&bed, PAIR_EVENT_CONNECTED);
    assert_int_equal(expire(&bed), PAIR_DO_ANSWER | to(PAIR_DO_RST, LEG_BACKEND));
    assert_int_equal(passed_ms(&bed), 60000);
    assert_int_equal(bed.pair.cause, REASON_REQUEST_BODY);
    asked(&bed);
    assert_int_equal(expire(&bed), PAIR_DO_ANSWER | to(PAIR_DO_RST, LEG_BACKEND));
    assert_int_equal(passed_ms(&bed), 60000);
    assert_int_equal(bed.pair.cause, REASON_RESPONSE);
}

static void a_response_that_stops_resets_both(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    assert_int_equal(expire(&bed), to(PAIR_DO_RST, LEG_CLIENT) | to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_int_equal(passed_ms(&bed), 60000);
    assert_int_equal(bed.pair.reason, REASON_RESPONSE);
}

static void silence_between_requests_ends_in_order(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    stage(&bed, PAIR_STAGE_BETWEEN);
    assert_int_equal(expire(&bed), fin_both);
    assert_int_equal(passed_ms(&bed), 75000);
    assert_int_equal(bed.pair.reason, REASON_KEEPALIVE);
}

static void no_server_left_is_answered(void **state)
{
    (void)state;
    struct bed bed;
    struct pair_input refused = {.event = PAIR_EVENT_REFUSED, .reason = REASON_CONNECT_FAILED};
    connecting(&bed, PAIR_STAGE_RESPONSE);
    assert_int_equal(step(&bed, refused), PAIR_DO_ANSWER | to(PAIR_DO_CLOSE, LEG_BACKEND));
    connecting(&bed, PAIR_STAGE_RESPONSE);
    assert_int_equal(expire(&bed), PAIR_DO_ANSWER | to(PAIR_DO_CLOSE, LEG_BACKEND));
    assert_int_equal(bed.pair.cause, REASON_CONNECT);
}

/* Quiet for long, then asked again: what the deadlines of the exchange count from is the exchange's. */
static void asked_again(struct bed *bed, enum pair_stage next)
{
    answered(bed);
    stage(bed, PAIR_STAGE_BETWEEN);
    bed->now_ms += 50000;
    stage(bed, PAIR_STAGE_HEAD);
    stage(bed, next);
}

static void a_body_and_a_response_have_their_own_time(void **state)
{
    (void)state;
    struct bed bed;
    asked_again(&bed, PAIR_STAGE_BODY);
    assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms), bed.now_ms + 60000);
    asked_again(&bed, PAIR_STAGE_RESPONSE);
    assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms), bed.now_ms + 60000);
}

/* Then it is for its sink to move: write_stall. */
static void a_half_that_is_held_is_not_waited_for(void **state)
{
    static const struct {
        enum pair_stage stage;
        enum half held;
    } cases[] = {{PAIR_STAGE_BODY, HALF_REQUEST},
                 {PAIR_STAGE_RESPONSE, HALF_REQUEST},
                 {PAIR_STAGE_RESPONSE, HALF_RESPONSE}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bed bed;
        connecting(&bed, cases[i].stage);
        bed.deadlines.after_ms[DEADLINE_WRITE_STALL] = DEADLINE_OFF;
        event(&bed, PAIR_EVENT_CONNECTED);
        assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms), bed.now_ms + 60000);
        step(&bed, (struct pair_input){.event = PAIR_EVENT_HELD, .half = cases[i].held});
        assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms), DEADLINE_OFF);
    }
}

static void a_life_ends_at_once_where_nothing_is_outstanding(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    stage(&bed, PAIR_STAGE_BETWEEN);
    bed.deadlines.after_ms[DEADLINE_LIFETIME] = 1000;
    assert_int_equal(expire(&bed), fin_both);
    assert_int_equal(bed.pair.reason, REASON_LIFETIME);
    waiting(&bed);
    bed.deadlines.after_ms[DEADLINE_LIFETIME] = 1000;
    assert_int_equal(expire(&bed), to(PAIR_DO_FIN, LEG_CLIENT));
    assert_int_equal(bed.pair.reason, REASON_LIFETIME);
}

static void a_life_that_is_over_ends_behind_the_response_for_that_reason(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    bed.deadlines.after_ms[DEADLINE_LIFETIME] = 1000;
    bed.now_ms += 1000;
    assert_int_equal(event(&bed, PAIR_EVENT_EXPIRED), 0);
    assert_int_equal(bed.pair.phase, PAIR_ENDING);
    assert_int_equal(event(&bed, PAIR_EVENT_COMPLETE), fin_both);
    assert_int_equal(bed.pair.reason, REASON_LIFETIME);
}

/* A process that was stopped finds the time up, and the client's kernel has had no chance to acknowledge. */
static void what_is_on_its_way_is_spared_from_when_the_time_is_seen_to_be_up(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    event(&bed, PAIR_EVENT_COMPLETE);
    assert_int_equal(expire(&bed), to(PAIR_DO_RST, LEG_BACKEND));
    bed.now_ms += 60000; /* `grace` was over long ago */
    pair_sample(&bed.pair, LEG_CLIENT, 100, 0, bed.now_ms);
    assert_int_equal(event(&bed, PAIR_EVENT_EXPIRED), 0);
    uint64_t seen_ms = bed.now_ms;
    assert_int_equal(expire(&bed), to(PAIR_DO_RST, LEG_CLIENT) | PAIR_DO_END);
    assert_int_equal(bed.now_ms, seen_ms + DELIVERY_MS);
}

static void an_attempt_has_its_own_time(void **state)
{
    (void)state;
    struct bed bed;
    waiting(&bed);
    bed.now_ms += 9000; /* longer than `connect` */
    stage(&bed, PAIR_STAGE_RESPONSE);
    assert_int_equal(event(&bed, PAIR_EVENT_ATTACH), PAIR_DO_CONNECT);
    assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms), bed.now_ms + 5000);
}

/* Its exchange goes on to its end, which is known; a tunnel has none, and ends when it comes to rest. */
static void draining_waits_for_an_exchange_and_watches_a_tunnel(void **state)
{
    (void)state;
    struct bed bed;
    connecting(&bed, PAIR_STAGE_RESPONSE);
    assert_int_equal(event(&bed, PAIR_EVENT_DRAIN), 0);
    assert_int_equal(event(&bed, PAIR_EVENT_CONNECTED), 0);
    assert_int_equal(bed.pair.phase, PAIR_OPEN);
    stage(&bed, PAIR_STAGE_ANSWERED);
    stage(&bed, PAIR_STAGE_BYTES);
    assert_int_equal(bed.pair.phase, PAIR_ENDING);
    assert_int_equal(bed.pair.reason, REASON_DRAIN);
}

static void a_backend_that_leaves_between_messages_may_be_replaced(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    stage(&bed, PAIR_STAGE_BETWEEN);
    assert_int_equal(event(&bed, PAIR_EVENT_LEFT), to(PAIR_DO_CLOSE, LEG_BACKEND));
    assert_int_equal(bed.pair.phase, PAIR_WAITING);
    stage(&bed, PAIR_STAGE_HEAD);
    stage(&bed, PAIR_STAGE_RESPONSE);
    assert_int_equal(event(&bed, PAIR_EVENT_ATTACH), PAIR_DO_CONNECT);
    assert_int_equal(event(&bed, PAIR_EVENT_CONNECTED), 0);
    assert_int_equal(bed.pair.phase, PAIR_OPEN);
}

static void a_leg_for_the_pool_is_left_as_it_is_and_another_may_be_attached(void **state)
{
    (void)state;
    static const struct pair_input pooled = {.event = PAIR_EVENT_LEFT, .end = LEG_END_POOLED};
    struct bed bed;
    answered(&bed);
    stage(&bed, PAIR_STAGE_BETWEEN);
    assert_int_equal(step(&bed, pooled), 0);
    assert_int_equal(bed.pair.phase, PAIR_WAITING);
    assert_int_equal(bed.pair.leg_end[LEG_BACKEND], LEG_END_POOLED);
    stage(&bed, PAIR_STAGE_HEAD);
    stage(&bed, PAIR_STAGE_RESPONSE);
    assert_int_equal(event(&bed, PAIR_EVENT_ATTACH), PAIR_DO_CONNECT);
    assert_int_equal(event(&bed, PAIR_EVENT_CONNECTED), 0);
    assert_int_equal(bed.pair.leg_end[LEG_BACKEND], LEG_END_NONE);
}

static void a_session_whose_leg_is_pooled_closes_its_client_only(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    stage(&bed, PAIR_STAGE_BETWEEN);
    step(&bed, (struct pair_input){.event = PAIR_EVENT_LEFT, .end = LEG_END_POOLED});
    assert_int_equal(event(&bed, PAIR_EVENT_COMPLETE), to(PAIR_DO_FIN, LEG_CLIENT));
    assert_int_equal(step(&bed, (struct pair_input){.event = PAIR_EVENT_FIN, .half = HALF_REQUEST}),
                     to(PAIR_DO_CLOSE, LEG_CLIENT) | PAIR_DO_END);
    assert_int_equal(bed.pair.leg_end[LEG_BACKEND], LEG_END_POOLED);
}

static void a_backend_that_closes_inside_a_response_resets_the_client(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    assert_int_equal(event(&bed, PAIR_EVENT_CUT),
                     to(PAIR_DO_CLOSE, LEG_BACKEND) | to(PAIR_DO_RST, LEG_CLIENT) | PAIR_DO_END);
    assert_int_equal(bed.pair.reason, REASON_RESPONSE_CUT);
    assert_int_equal(bed.pair.leg_end[LEG_BACKEND], LEG_END_FIN);
}

static void a_framed_response_that_is_cut_ends_by_fin(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    assert_int_equal(step(&bed, (struct pair_input){.event = PAIR_EVENT_CUT, .framed = true}),
                     to(PAIR_DO_CLOSE, LEG_BACKEND) | to(PAIR_DO_FIN, LEG_CLIENT));
    assert_int_equal(bed.pair.phase, PAIR_CLOSING);
    assert_int_equal(step(&bed, (struct pair_input){.event = PAIR_EVENT_FIN, .half = HALF_REQUEST}),
                     to(PAIR_DO_CLOSE, LEG_CLIENT) | PAIR_DO_END);
    assert_int_equal(bed.pair.reason, REASON_RESPONSE_CUT);
    assert_int_equal(bed.pair.leg_end[LEG_CLIENT], LEG_END_FIN);
    assert_int_equal(bed.pair.leg_end[LEG_BACKEND], LEG_END_FIN);
}

static void the_fin_of_a_framed_response_goes_behind_what_came_of_it(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    assert_int_equal(step(&bed, (struct pair_input){.event = PAIR_EVENT_HELD, .half = HALF_RESPONSE}), 0);
    assert_int_equal(step(&bed, (struct pair_input){.event = PAIR_EVENT_CUT, .framed = true}),
                     to(PAIR_DO_CLOSE, LEG_BACKEND));
    assert_int_equal(step(&bed, (struct pair_input){.event = PAIR_EVENT_DRAINED, .half = HALF_RESPONSE}),
                     to(PAIR_DO_FIN, LEG_CLIENT));
}

static void the_request_of_a_client_that_has_closed_is_aborted(void **state)
{
    (void)state;
    struct bed bed;
    const pair_actions gone = to(PAIR_DO_CLOSE, LEG_CLIENT);
    connecting(&bed, PAIR_STAGE_RESPONSE);
    assert_int_equal(event(&bed, PAIR_EVENT_CLOSED), gone | to(PAIR_DO_CLOSE, LEG_BACKEND) | PAIR_DO_END);
    asked(&bed);
    assert_int_equal(event(&bed, PAIR_EVENT_CLOSED), gone | to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    answered(&bed);
    assert_int_equal(event(&bed, PAIR_EVENT_CLOSED), gone | to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_int_equal(bed.pair.reason, REASON_CLIENT_CLOSED);
    assert_int_equal(bed.pair.leg_end[LEG_CLIENT], LEG_END_FIN);
}

static void what_is_on_its_way_of_such_a_request_is_delivered_first(void **state)
{
    (void)state;
    struct bed bed;
    asked(&bed);
    pair_sample(&bed.pair, LEG_BACKEND, 100, 0, bed.now_ms);
    assert_int_equal(event(&bed, PAIR_EVENT_CLOSED), to(PAIR_DO_CLOSE, LEG_CLIENT));
    assert_int_equal(bed.pair.phase, PAIR_RESETTING);
    pair_sample(&bed.pair, LEG_BACKEND, 0, 0, bed.now_ms);
    assert_int_equal(event(&bed, PAIR_EVENT_EXPIRED), to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
}

static void draining_ends_at_the_next_boundary(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    assert_int_equal(event(&bed, PAIR_EVENT_DRAIN), 0);
    assert_int_equal(bed.pair.phase, PAIR_OPEN);
    assert_int_equal(event(&bed, PAIR_EVENT_COMPLETE), fin_both);
    answered(&bed);
    stage(&bed, PAIR_STAGE_BETWEEN);
    assert_int_equal(event(&bed, PAIR_EVENT_DRAIN), fin_both);
    assert_int_equal(bed.pair.reason, REASON_DRAIN);
}

static void a_tunnel_is_a_session_of_bytes(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    stage(&bed, PAIR_STAGE_BYTES);
    assert_int_equal(step(&bed, (struct pair_input){.event = PAIR_EVENT_FIN, .half = HALF_REQUEST}),
                     to(PAIR_DO_FIN, LEG_BACKEND));
    assert_true(track_half_closed(&bed.pair));
    assert_int_equal(expire(&bed), to(PAIR_DO_RST, LEG_CLIENT) | to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
}

static void a_request_that_is_refused_is_answered_wherever_it_is(void **state)
{
    (void)state;
    struct bed bed;
    const struct pair_input refuse = {.event = PAIR_EVENT_REFUSE, .reason = REASON_CLOSED};
    waiting(&bed);
    assert_int_equal(step(&bed, refuse), PAIR_DO_ANSWER);
    connecting(&bed, PAIR_STAGE_BODY);
    assert_int_equal(step(&bed, refuse), PAIR_DO_ANSWER | to(PAIR_DO_CLOSE, LEG_BACKEND));
    asked(&bed);
    assert_int_equal(step(&bed, refuse), PAIR_DO_ANSWER | to(PAIR_DO_RST, LEG_BACKEND));
    assert_int_equal(event(&bed, PAIR_EVENT_COMPLETE), to(PAIR_DO_FIN, LEG_CLIENT));
}

/* A session of messages that may live for a minute and has no other deadline. */
static void mortal(struct bed *bed)
{
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++)
        bed->deadlines.after_ms[id] = DEADLINE_OFF;
    bed->deadlines.after_ms[DEADLINE_LIFETIME] = 60000;
}

static void a_lifetime_that_ends_between_messages_ends_in_order(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    mortal(&bed);
    stage(&bed, PAIR_STAGE_BETWEEN);
    assert_int_equal(expire(&bed), fin_both);
    assert_int_equal(passed_ms(&bed), 60000);
    assert_int_equal(bed.pair.reason, REASON_LIFETIME);
}

static void a_lifetime_that_ends_inside_a_request_head_closes_the_client(void **state)
{
    (void)state;
    struct bed bed;
    waiting(&bed);
    mortal(&bed);
    stage(&bed, PAIR_STAGE_HEAD);
    assert_int_equal(expire(&bed), to(PAIR_DO_FIN, LEG_CLIENT));
    assert_int_equal(bed.pair.reason, REASON_LIFETIME);
}

static void a_tunnel_that_begins_while_draining_ends_as_soon_as_it_rests(void **state)
{
    (void)state;
    struct bed bed;
    answered(&bed);
    event(&bed, PAIR_EVENT_DRAIN);
    stage(&bed, PAIR_STAGE_BYTES);
    assert_int_equal(bed.pair.phase, PAIR_ENDING);
    assert_int_equal(bed.pair.reason, REASON_DRAIN);
    expire(&bed);
    assert_int_equal(bed.pair.reason, REASON_DRAIN);
    assert_true(passed_ms(&bed) < 60000);
}

static void stages_have_names(void **state)
{
    (void)state;
    static const char *const names[] = {"bytes", "preface",  "between",  "head",
                                        "body",  "response", "answered", "refused"};
    for (enum pair_stage i = 0; i < PAIR_STAGE_COUNT; i++)
        assert_string_equal(pair_stage_name(i), names[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_boundary_gives_the_backend_message_grace_and_the_client_grace),
        cmocka_unit_test(a_leak_behind_the_last_answer_is_named_and_no_other_reason_is_lost),
        cmocka_unit_test(a_backend_that_is_reset_at_once_as_told_is_no_leak),
        cmocka_unit_test(peers_that_close_in_time_are_not_reset),
        cmocka_unit_test(what_a_client_still_sends_behind_the_last_response_resets_nobody),
        cmocka_unit_test(a_head_that_does_not_come_is_answered),
        cmocka_unit_test(what_comes_between_a_refusal_and_its_answer_asks_for_no_other),
        cmocka_unit_test(a_backend_at_rest_parts_in_order_when_the_next_request_is_refused),
        cmocka_unit_test(a_body_or_response_that_does_not_come_is_answered_and_the_backend_reset),
        cmocka_unit_test(a_response_that_stops_resets_both),
        cmocka_unit_test(silence_between_requests_ends_in_order),
        cmocka_unit_test(no_server_left_is_answered),
        cmocka_unit_test(a_body_and_a_response_have_their_own_time),
        cmocka_unit_test(a_half_that_is_held_is_not_waited_for),
        cmocka_unit_test(a_life_ends_at_once_where_nothing_is_outstanding),
        cmocka_unit_test(a_life_that_is_over_ends_behind_the_response_for_that_reason),
        cmocka_unit_test(what_is_on_its_way_is_spared_from_when_the_time_is_seen_to_be_up),
        cmocka_unit_test(an_attempt_has_its_own_time),
        cmocka_unit_test(draining_waits_for_an_exchange_and_watches_a_tunnel),
        cmocka_unit_test(a_backend_that_leaves_between_messages_may_be_replaced),
        cmocka_unit_test(a_leg_for_the_pool_is_left_as_it_is_and_another_may_be_attached),
        cmocka_unit_test(a_session_whose_leg_is_pooled_closes_its_client_only),
        cmocka_unit_test(a_backend_that_closes_inside_a_response_resets_the_client),
        cmocka_unit_test(a_framed_response_that_is_cut_ends_by_fin),
        cmocka_unit_test(the_fin_of_a_framed_response_goes_behind_what_came_of_it),
        cmocka_unit_test(the_request_of_a_client_that_has_closed_is_aborted),
        cmocka_unit_test(what_is_on_its_way_of_such_a_request_is_delivered_first),
        cmocka_unit_test(draining_ends_at_the_next_boundary),
        cmocka_unit_test(a_tunnel_is_a_session_of_bytes),
        cmocka_unit_test(a_request_that_is_refused_is_answered_wherever_it_is),
        cmocka_unit_test(a_lifetime_that_ends_between_messages_ends_in_order),
        cmocka_unit_test(a_lifetime_that_ends_inside_a_request_head_closes_the_client),
        cmocka_unit_test(a_tunnel_that_begins_while_draining_ends_as_soon_as_it_rests),
        cmocka_unit_test(stages_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
