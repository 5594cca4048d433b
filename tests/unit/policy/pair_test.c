#include "tests/unit/policy/bed.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* Connecting, FINs, and what a caller may not do. */

/* ---- connecting ---- */

static void a_refused_attempt_tries_the_next_server_until_there_is_none(void **state)
{
    (void)state;
    struct bed bed;
    connecting(&bed, 2);
    assert_int_equal(fails(&bed, REASON_CONNECT_FAILED), PAIR_DO_CONNECT);
    assert_int_equal(fails(&bed, REASON_CONNECT_FAILED), PAIR_DO_CONNECT);
    assert_int_equal(fails(&bed, REASON_NO_PORTS),
                     to(PAIR_DO_RST, LEG_CLIENT) | to(PAIR_DO_CLOSE, LEG_BACKEND) | PAIR_DO_END);
    assert_ended(&bed, REASON_NO_PORTS, LEG_END_RST, LEG_END_NONE);
}

static void each_attempt_has_the_connect_deadline_for_itself(void **state)
{
    (void)state;
    struct bed bed;
    connecting(&bed, 1);
    assert_int_equal(expire_until(&bed, FOREVER_MS), PAIR_DO_CONNECT);
    assert_int_equal(at(&bed), 5000);
    assert_int_equal(expire_until(&bed, FOREVER_MS),
                     to(PAIR_DO_RST, LEG_CLIENT) | to(PAIR_DO_CLOSE, LEG_BACKEND) | PAIR_DO_END);
    assert_int_equal(at(&bed), 10000);
    assert_ended(&bed, REASON_CONNECT, LEG_END_RST, LEG_END_NONE);
}

static void a_refusal_starts_the_connect_deadline_anew(void **state)
{
    (void)state;
    struct bed bed;
    connecting(&bed, 1);
    pass(&bed, 4000);
    fails(&bed, REASON_NONE);
    assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms) - START_MS, 9000);
}

static void the_second_server_may_be_the_one(void **state)
{
    (void)state;
    struct bed bed;
    connecting(&bed, 1);
    assert_int_equal(fails(&bed, REASON_NONE), PAIR_DO_CONNECT);
    assert_int_equal(event(&bed, PAIR_EVENT_CONNECTED), 0);
    assert_int_equal(bed.pair.phase, PAIR_OPEN);
}

static void a_client_that_leaves_while_connecting_ends_the_attempt(void **state)
{
    (void)state;
    struct bed bed;
    const pair_actions all = to(PAIR_DO_CLOSE, LEG_CLIENT) | to(PAIR_DO_CLOSE, LEG_BACKEND) | PAIR_DO_END;
    connecting(&bed, 3);
    assert_int_equal(leg_event(&bed, PAIR_EVENT_RESET, LEG_CLIENT), all);
    assert_ended(&bed, REASON_CLIENT_RESET, LEG_END_RESET, LEG_END_NONE);
    connecting(&bed, 3);
    assert_int_equal(leg_event(&bed, PAIR_EVENT_LOST, LEG_CLIENT), all);
    assert_ended(&bed, REASON_CLIENT_LOST, LEG_END_RESET, LEG_END_NONE);
}

static void connect_off_waits_for_the_kernel(void **state)
{
    (void)state;
    struct bed bed;
    connecting(&bed, 0);
    set_after(&bed, DEADLINE_CONNECT, DEADLINE_OFF);
    assert_true(pair_next_ms(&bed.pair, bed.now_ms) == DEADLINE_OFF);
}

static void lifetime_ends_an_attempt_too(void **state)
{
    (void)state;
    struct bed bed;
    connecting(&bed, 3);
    set_after(&bed, DEADLINE_LIFETIME, 4999);
    assert_int_equal(expire_until(&bed, FOREVER_MS),
                     to(PAIR_DO_RST, LEG_CLIENT) | to(PAIR_DO_CLOSE, LEG_BACKEND) | PAIR_DO_END);
    assert_int_equal(at(&bed), 4999);
    assert_ended(&bed, REASON_LIFETIME, LEG_END_RST, LEG_END_NONE);
}

/* ---- FINs ---- */

static void a_fin_is_relayed_and_half_closes(void **state)
{
    (void)state;
    for (enum half half = 0; half < HALF_COUNT; half++) {
        struct bed bed;
        opened(&bed);
        pass(&bed, 70);
        assert_int_equal(fin(&bed, half), to(PAIR_DO_FIN, half_sink(half)));
        assert_true(track_half_closed(&bed.pair));
        assert_true(bed.pair.has_first_fin);
        assert_int_equal(bed.pair.first_fin, half_source(half));
        assert_int_equal(bed.pair.half_closed_ms - START_MS, 70);
    }
}

static void the_second_fin_ends_the_session_in_order(void **state)
{
    (void)state;
    for (enum half half = 0; half < HALF_COUNT; half++) {
        struct bed bed;
        opened(&bed);
        fin(&bed, half);
        assert_int_equal(fin(&bed, half_other(half)),
                         to(PAIR_DO_FIN, half_source(half)) | close_both_and_end);
        assert_ended(&bed, REASON_CLOSED, LEG_END_FIN, LEG_END_FIN);
        assert_int_equal(bed.pair.first_fin, half_source(half));
    }
}

static void a_fin_waits_for_the_bytes_before_it(void **state)
{
    (void)state;
    for (enum half half = 0; half < HALF_COUNT; half++) {
        struct bed bed;
        opened(&bed);
        assert_int_equal(half_event(&bed, PAIR_EVENT_HELD, half), 0);
        assert_int_equal(fin(&bed, half), 0);
        assert_false(track_half_closed(&bed.pair));
        assert_int_equal(half_event(&bed, PAIR_EVENT_DRAINED, half), to(PAIR_DO_FIN, half_sink(half)));
        assert_true(track_half_closed(&bed.pair));
    }
}

static void fins_that_cross_while_both_halves_hold_bytes_wait_each_for_its_own(void **state)
{
    (void)state;
    for (enum half first = 0; first < HALF_COUNT; first++) {
        struct bed bed;
        enum half second = half_other(first);
        opened(&bed);
        half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST);
        half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
        assert_int_equal(fin(&bed, HALF_RESPONSE), 0);
        assert_int_equal(fin(&bed, HALF_REQUEST), 0);
        assert_int_equal(half_event(&bed, PAIR_EVENT_DRAINED, first), to(PAIR_DO_FIN, half_sink(first)));
        assert_int_equal(half_event(&bed, PAIR_EVENT_DRAINED, second),
                         to(PAIR_DO_FIN, half_sink(second)) | close_both_and_end);
        assert_int_equal(bed.pair.first_fin, LEG_BACKEND);
    }
}

static void a_half_may_hold_and_drain_again_and_again(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE), 0);
        assert_int_equal(half_event(&bed, PAIR_EVENT_DRAINED, HALF_RESPONSE), 0);
    }
    assert_int_equal(bed.pair.phase, PAIR_OPEN);
}

static void both_fins_end_a_draining_session_as_closed(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    event(&bed, PAIR_EVENT_DRAIN);
    assert_int_equal(fin(&bed, HALF_RESPONSE), to(PAIR_DO_FIN, LEG_CLIENT) | close_both_and_end);
    assert_ended(&bed, REASON_CLOSED, LEG_END_FIN, LEG_END_FIN);
}

/* ---- errors of the caller ---- */

static void pair_of(struct bed *bed, enum pair_phase phase)
{
    opened(bed);
    switch (phase) {
    case PAIR_WAITING:
        waiting(bed);
        break;
    case PAIR_CONNECTING:
        connecting(bed, 0);
        break;
    case PAIR_OPEN:
    case PAIR_PHASE_COUNT:
        break;
    case PAIR_ENDING:
        event(bed, PAIR_EVENT_DRAIN);
        break;
    case PAIR_RESETTING:
        half_event(bed, PAIR_EVENT_HELD, HALF_REQUEST);
        leg_event(bed, PAIR_EVENT_RESET, LEG_CLIENT);
        break;
    case PAIR_CLOSING:
        expire_until(bed, FOREVER_MS);
        fin(bed, HALF_REQUEST);
        break;
    case PAIR_ENDED:
        leg_event(bed, PAIR_EVENT_RESET, LEG_CLIENT);
        break;
    }
    assert_int_equal(bed->pair.phase, phase);
}

static bool aborts(struct bed *bed, struct pair_input input)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        close(STDERR_FILENO);
        pair_step(&bed->pair, &input, bed->now_ms);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void assert_aborts(enum pair_phase phase, struct pair_input input)
{
    struct bed bed;
    pair_of(&bed, phase);
    assert_true(aborts(&bed, input));
}

static void what_the_caller_could_not_have_seen_is_an_assertion(void **state)
{
    (void)state;
    static const struct {
        enum pair_phase phase;
        struct pair_input input;
    } impossible[] = {
        {PAIR_CONNECTING, {.event = PAIR_EVENT_FIN, .half = HALF_REQUEST}},
        {PAIR_CONNECTING, {.event = PAIR_EVENT_FIN, .half = HALF_RESPONSE}},
        {PAIR_CONNECTING, {.event = PAIR_EVENT_HELD, .half = HALF_REQUEST}},
        {PAIR_CONNECTING, {.event = PAIR_EVENT_DRAINED, .half = HALF_REQUEST}},
        {PAIR_CONNECTING, {.event = PAIR_EVENT_DISCARDED, .half = HALF_REQUEST}},
        {PAIR_CONNECTING, {.event = PAIR_EVENT_RESET, .leg = LEG_BACKEND}},
        {PAIR_CONNECTING, {.event = PAIR_EVENT_LOST, .leg = LEG_BACKEND}},
        {PAIR_CONNECTING, {.event = PAIR_EVENT_CLOSED}},
        {PAIR_CONNECTING, {.event = PAIR_EVENT_REFUSED, .reason = REASON_NONE}},
        {PAIR_OPEN, {.event = PAIR_EVENT_CONNECTED}},
        {PAIR_OPEN, {.event = PAIR_EVENT_REFUSED, .reason = REASON_CONNECT_FAILED}},
        {PAIR_OPEN, {.event = PAIR_EVENT_DRAINED, .half = HALF_REQUEST}},
        {PAIR_OPEN, {.event = PAIR_EVENT_DISCARDED, .half = HALF_REQUEST}},
        {PAIR_OPEN, {.event = PAIR_EVENT_CLOSED}},
        {PAIR_OPEN, {.event = PAIR_EVENT_ABORT, .reason = REASON_NONE}},
        {PAIR_OPEN, {.event = PAIR_EVENT_COUNT}},
        {PAIR_ENDING, {.event = PAIR_EVENT_CONNECTED}},
        {PAIR_RESETTING, {.event = PAIR_EVENT_FIN, .half = HALF_REQUEST}},
        {PAIR_RESETTING, {.event = PAIR_EVENT_HELD, .half = HALF_REQUEST}},
        {PAIR_RESETTING, {.event = PAIR_EVENT_HELD, .half = HALF_RESPONSE}},
        {PAIR_RESETTING, {.event = PAIR_EVENT_DRAINED, .half = HALF_RESPONSE}},
        {PAIR_RESETTING, {.event = PAIR_EVENT_RESET, .leg = LEG_CLIENT}},
        {PAIR_RESETTING, {.event = PAIR_EVENT_CONNECTED}},
        {PAIR_CLOSING, {.event = PAIR_EVENT_FIN, .half = HALF_REQUEST}},
        {PAIR_CLOSING, {.event = PAIR_EVENT_HELD, .half = HALF_RESPONSE}},
        {PAIR_CLOSING, {.event = PAIR_EVENT_DRAINED, .half = HALF_RESPONSE}},
        {PAIR_CLOSING, {.event = PAIR_EVENT_DISCARDED, .half = HALF_REQUEST}},
        {PAIR_CLOSING, {.event = PAIR_EVENT_CONNECTED}},
    };
    for (size_t i = 0; i < sizeof impossible / sizeof impossible[0]; i++)
        assert_aborts(impossible[i].phase, impossible[i].input);
    for (enum pair_event event = 0; event < PAIR_EVENT_COUNT; event++)
        assert_aborts(PAIR_ENDED, (struct pair_input){.event = event, .reason = REASON_FAULT});
}

static void a_half_neither_holds_nor_ends_twice(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    half_event(&bed, PAIR_EVENT_HELD, HALF_REQUEST);
    assert_true(aborts(&bed, (struct pair_input){.event = PAIR_EVENT_HELD, .half = HALF_REQUEST}));
    fin(&bed, HALF_REQUEST);
    assert_true(aborts(&bed, (struct pair_input){.event = PAIR_EVENT_FIN, .half = HALF_REQUEST}));
    half_event(&bed, PAIR_EVENT_DRAINED, HALF_REQUEST);
    assert_true(aborts(&bed, (struct pair_input){.event = PAIR_EVENT_HELD, .half = HALF_REQUEST}));
    assert_true(aborts(&bed, (struct pair_input){.event = PAIR_EVENT_DISCARDED, .half = HALF_REQUEST}));
}

/* ---- samples and names ---- */

static void progress_of_a_half_is_its_last_write_or_its_last_acknowledgement(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    uint64_t opened_ms = bed.now_ms;
    assert_int_equal(track_half_progress_ms(&bed.pair, HALF_RESPONSE), opened_ms);
    pass(&bed, 10);
    relay(&bed, HALF_RESPONSE, 5);
    assert_int_equal(track_half_progress_ms(&bed.pair, HALF_RESPONSE), opened_ms + 10);
    pass(&bed, 10);
    relay_unacked(&bed, HALF_RESPONSE, 5);
    sample(&bed);
    assert_int_equal(track_half_progress_ms(&bed.pair, HALF_RESPONSE), opened_ms + 10);
    pass(&bed, 10);
    ack(&bed, LEG_CLIENT, 2);
    pass(&bed, 5);
    sample(&bed);
    assert_int_equal(track_half_progress_ms(&bed.pair, HALF_RESPONSE), opened_ms + 30);
    assert_int_equal(bed.pair.half[HALF_RESPONSE].acked_bytes, 7);
    assert_int_equal(track_half_progress_ms(&bed.pair, HALF_REQUEST), opened_ms);
}

static void a_fin_that_is_not_acknowledged_takes_no_bytes_back(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    bed.unacked_bytes[LEG_BACKEND] = 1;
    sample(&bed);
    assert_int_equal(bed.pair.half[HALF_REQUEST].acked_bytes, 100);
    bed.unacked_bytes[LEG_BACKEND] = 5000; /* a unix socket counts its own overhead */
    sample(&bed);
    assert_int_equal(bed.pair.half[HALF_REQUEST].acked_bytes, 100);
    pair_check(&bed.pair);
}

static void an_acknowledgement_older_than_the_clock_is_no_underflow(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay(&bed, HALF_REQUEST, 1);
    pair_sample(&bed.pair, LEG_BACKEND, 0, UINT64_MAX, bed.now_ms);
    assert_int_equal(bed.pair.half[HALF_REQUEST].acked_ms, 0);
    assert_int_equal(track_half_progress_ms(&bed.pair, HALF_REQUEST), bed.now_ms);
}

static void sampling_a_leg_that_is_down_is_an_assertion(void **state)
{
    (void)state;
    struct bed bed;
    int status;
    connecting(&bed, 0);
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        close(STDERR_FILENO);
        pair_sample(&bed.pair, LEG_BACKEND, 0, 0, bed.now_ms);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void a_client_awaits_a_reply_when_the_last_bytes_went_to_the_backend(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    assert_false(bed.pair.client_awaits_reply);
    relay(&bed, HALF_REQUEST, 1);
    assert_true(bed.pair.client_awaits_reply);
    relay(&bed, HALF_RESPONSE, 1);
    assert_false(bed.pair.client_awaits_reply);
}

static void phases_and_ends_have_names(void **state)
{
    (void)state;
    static const char *const phases[] = {"waiting",   "connecting", "open", "ending",
                                         "resetting", "closing",    "ended"};
    static const char *const ends[] = {"none", "fin", "rst", "reset", "pooled"};
    for (enum pair_phase phase = 0; phase < PAIR_PHASE_COUNT; phase++)
        assert_string_equal(pair_phase_name(phase), phases[phase]);
    for (enum leg_end end = 0; end < LEG_END_COUNT; end++)
        assert_string_equal(leg_end_name(end), ends[end]);
    assert_string_equal(leg_name(LEG_CLIENT), "client");
    assert_string_equal(leg_name(LEG_BACKEND), "backend");
    assert_string_equal(half_name(HALF_REQUEST), "request");
    assert_string_equal(half_name(HALF_RESPONSE), "response");
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_refused_attempt_tries_the_next_server_until_there_is_none),
    cmocka_unit_test(each_attempt_has_the_connect_deadline_for_itself),
    cmocka_unit_test(a_refusal_starts_the_connect_deadline_anew),
    cmocka_unit_test(the_second_server_may_be_the_one),
    cmocka_unit_test(a_client_that_leaves_while_connecting_ends_the_attempt),
    cmocka_unit_test(connect_off_waits_for_the_kernel),
    cmocka_unit_test(lifetime_ends_an_attempt_too),
    cmocka_unit_test(a_fin_is_relayed_and_half_closes),
    cmocka_unit_test(the_second_fin_ends_the_session_in_order),
    cmocka_unit_test(a_fin_waits_for_the_bytes_before_it),
    cmocka_unit_test(fins_that_cross_while_both_halves_hold_bytes_wait_each_for_its_own),
    cmocka_unit_test(a_half_may_hold_and_drain_again_and_again),
    cmocka_unit_test(both_fins_end_a_draining_session_as_closed),
    cmocka_unit_test(what_the_caller_could_not_have_seen_is_an_assertion),
    cmocka_unit_test(a_half_neither_holds_nor_ends_twice),
    cmocka_unit_test(progress_of_a_half_is_its_last_write_or_its_last_acknowledgement),
    cmocka_unit_test(a_fin_that_is_not_acknowledged_takes_no_bytes_back),
    cmocka_unit_test(an_acknowledgement_older_than_the_clock_is_no_underflow),
    cmocka_unit_test(sampling_a_leg_that_is_down_is_an_assertion),
    cmocka_unit_test(a_client_awaits_a_reply_when_the_last_bytes_went_to_the_backend),
    cmocka_unit_test(phases_and_ends_have_names),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
