#include "tests/unit/cmocka.h"

#include "reaper/policy/deadline.h"
#include "reaper/policy/pair.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* A pair with the caller it needs: a clock, and for each leg what its peer's kernel has not acknowledged. */
struct bed {
    struct deadlines deadlines;
    struct pair pair;
    uint64_t now_ms;
    uint64_t timer_ms; /* set after a step and left alone by progress */
    uint64_t unacked_bytes[LEG_COUNT];
    uint64_t last_ack_ms[LEG_COUNT];
};

enum { START_MS = 1000000, FOREVER_MS = 1000 * 1000 * 1000 };

static pair_actions to(unsigned action, enum leg leg)
{
    return (pair_actions)action << leg;
}

static const pair_actions fin_both = PAIR_DO_FIN | PAIR_DO_FIN << LEG_BACKEND;
static const pair_actions rst_both_and_end = PAIR_DO_RST | PAIR_DO_RST << LEG_BACKEND | PAIR_DO_END;
static const pair_actions close_both_and_end = PAIR_DO_CLOSE | PAIR_DO_CLOSE << LEG_BACKEND | PAIR_DO_END;

/* Milliseconds since the session was accepted. */
static uint64_t at(const struct bed *bed)
{
    return bed->now_ms - START_MS;
}

static void pass(struct bed *bed, uint64_t ms)
{
    bed->now_ms += ms;
}

static void sample(struct bed *bed)
{
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        if (bed->pair.up[leg])
            pair_sample(&bed->pair, leg, bed->unacked_bytes[leg], bed->now_ms - bed->last_ack_ms[leg],
                        bed->now_ms);
}

static pair_actions step(struct bed *bed, struct pair_input input)
{
    sample(bed);
    pair_actions actions = pair_step(&bed->pair, &input, bed->now_ms);
    pair_check(&bed->pair);
    bed->timer_ms = pair_next_ms(&bed->pair, bed->now_ms);
    assert_int_equal((actions & PAIR_DO_END) != 0, bed->pair.phase == PAIR_ENDED);
    return actions;
}

static pair_actions event(struct bed *bed, enum pair_event event)
{
    return step(bed, (struct pair_input){.event = event});
}

static pair_actions half_event(struct bed *bed, enum pair_event event, enum half half)
{
    return step(bed, (struct pair_input){.event = event, .half = half});
}

static pair_actions leg_event(struct bed *bed, enum pair_event event, enum leg leg)
{
    return step(bed, (struct pair_input){.event = event, .leg = leg});
}

static pair_actions fin(struct bed *bed, enum half half)
{
    return half_event(bed, PAIR_EVENT_FIN, half);
}

static pair_actions fails(struct bed *bed, enum reason reason)
{
    return step(bed, (struct pair_input){.event = PAIR_EVENT_REFUSED, .reason = reason});
}

/* The sink of the half takes bytes, and its kernel acknowledges them. */
static void relay(struct bed *bed, enum half half, uint64_t bytes)
{
    pair_progress(&bed->pair, half, bytes, bed->now_ms);
    bed->last_ack_ms[half_sink(half)] = bed->now_ms;
}

/* The sink of the half takes bytes that its peer does not acknowledge yet. */
static void relay_unacked(struct bed *bed, enum half half, uint64_t bytes)
{
    pair_progress(&bed->pair, half, bytes, bed->now_ms);
    bed->unacked_bytes[half_sink(half)] += bytes;
}

static void ack(struct bed *bed, enum leg leg, uint64_t bytes)
{
    bed->unacked_bytes[leg] -= bytes;
    bed->last_ack_ms[leg] = bed->now_ms;
}

/* Reports every expiry until one does something, or until the time is over. */
static pair_actions expire_until(struct bed *bed, uint64_t at_ms)
{
    for (int rounds = 0; rounds < 1000000; rounds++) {
        if (bed->timer_ms > START_MS + at_ms)
            break;
        bed->now_ms = bed->timer_ms > bed->now_ms ? bed->timer_ms : bed->now_ms;
        pair_actions actions = event(bed, PAIR_EVENT_EXPIRED);
        if (actions != 0)
            return actions;
    }
    bed->now_ms = START_MS + at_ms;
    return 0;
}

static void connecting(struct bed *bed, uint32_t servers_left)
{
    memset(bed, 0, sizeof *bed);
    deadlines_default(&bed->deadlines);
    bed->now_ms = START_MS;
    pair_init(&bed->pair, &bed->deadlines, servers_left, bed->now_ms);
    bed->timer_ms = bed->now_ms;
    pair_check(&bed->pair);
}

/* Follows messages, and has seen none. */
static void waiting(struct bed *bed)
{
    connecting(bed, 0);
    pair_init_messages(&bed->pair, &bed->deadlines, bed->now_ms);
    pair_check(&bed->pair);
}

static void opened(struct bed *bed)
{
    connecting(bed, 0);
    assert_int_equal(event(bed, PAIR_EVENT_CONNECTED), 0);
}

/* The client asked, sent FIN, and waits. */
static void half_closed(struct bed *bed)
{
    opened(bed);
    relay(bed, HALF_REQUEST, 100);
    assert_int_equal(fin(bed, HALF_REQUEST), to(PAIR_DO_FIN, LEG_BACKEND));
    assert_true(track_half_closed(&bed->pair));
}

/* An expiry that comes early is harmless, so the timer need not know the new deadline. */
static void set_after(struct bed *bed, enum deadline_id id, uint64_t after_ms)
{
    bed->deadlines.after_ms[id] = after_ms;
    bed->timer_ms = bed->now_ms;
}

static void set_actions(struct bed *bed, enum deadline_id id, enum close_action client,
                        enum close_action backend)
{
    bed->deadlines.action[id][LEG_CLIENT] = client;
    bed->deadlines.action[id][LEG_BACKEND] = backend;
}

static void assert_ended(const struct bed *bed, enum reason reason, enum leg_end client, enum leg_end backend)
{
    assert_string_equal(pair_phase_name(bed->pair.phase), pair_phase_name(PAIR_ENDED));
    assert_string_equal(reason_name(bed->pair.reason), reason_name(reason));
    assert_string_equal(leg_end_name(bed->pair.leg_end[LEG_CLIENT]), leg_end_name(client));
    assert_string_equal(leg_end_name(bed->pair.leg_end[LEG_BACKEND]), leg_end_name(backend));
    assert_true(pair_next_ms(&bed->pair, bed->now_ms) == DEADLINE_OFF);
}

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
        assert_int_equal(at(&bed), 1234 + 300000);
        assert_int_equal(bed.pair.reason, REASON_IDLE);
    }
}

static void idle_sends_fin_to_both_and_grace_resets_whoever_stays(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    assert_int_equal(expire_until(&bed, FOREVER_MS), fin_both);
    assert_int_equal(at(&bed), 300000);
    assert_int_equal(bed.pair.phase, PAIR_CLOSING);
    assert_int_equal(fin(&bed, HALF_REQUEST), 0);
    assert_int_equal(expire_until(&bed, FOREVER_MS),
                     to(PAIR_DO_CLOSE, LEG_CLIENT) | to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_int_equal(at(&bed), 305000);
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
    pass(&bed, 299000);
    relay_unacked(&bed, HALF_REQUEST, 1);
    assert_true(expire_until(&bed, FOREVER_MS) != 0);
    assert_int_equal(at(&bed), 300000 + DELIVERY_MS);
}

static void an_acknowledgement_is_a_sign_of_life(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    pass(&bed, 299000);
    relay_unacked(&bed, HALF_REQUEST, 10);
    assert_int_equal(expire_until(&bed, 301000), 0);
    ack(&bed, LEG_BACKEND, 10);
    assert_true(expire_until(&bed, FOREVER_MS) != 0);
    assert_int_equal(at(&bed), 301000 + 300000);
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
    assert_int_equal(expire_until(&bed, 300120), 0);
    bed.unacked_bytes[LEG_BACKEND] = 0;
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_in_range(at(&bed), 300120, 300170);
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
    assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms) - START_MS, 300000);
}

/* ---- half_close ---- */

static void silence_after_a_half_close_resets_both_when_the_deadline_has_run(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    pass(&bed, 500);
    relay(&bed, HALF_REQUEST, 1);
    fin(&bed, HALF_REQUEST);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 30500);
    assert_ended(&bed, REASON_HALF_CLOSE, LEG_END_RST, LEG_END_RST);
}

static void silence_counts_from_the_last_byte_of_an_answer(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    pass(&bed, 29000);
    relay(&bed, HALF_RESPONSE, 1 << 20);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 29000 + 30000);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
}

static void an_answer_at_the_rate_lives_as_long_as_it_lasts(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    for (int second = 1; second <= 1000; second++) {
        assert_int_equal(expire_until(&bed, (uint64_t)second * 1000), 0);
        relay(&bed, HALF_RESPONSE, 1024);
    }
    assert_int_equal(fin(&bed, HALF_RESPONSE), to(PAIR_DO_FIN, LEG_CLIENT) | close_both_and_end);
}

static void an_answer_that_begins_just_before_the_deadline_is_not_cut(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    assert_int_equal(expire_until(&bed, 29990), 0);
    for (int i = 0; i < 1000; i++) {
        relay(&bed, HALF_RESPONSE, 100);
        assert_int_equal(expire_until(&bed, at(&bed) + 10), 0);
    }
}

static void a_trickle_does_not_live_for_ever(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    pair_actions actions = 0;
    for (int second = 1; second <= 1000 && actions == 0; second++) {
        actions = expire_until(&bed, (uint64_t)second * 1000);
        if (actions == 0)
            relay(&bed, HALF_RESPONSE, 1);
    }
    assert_int_equal(actions, rst_both_and_end);
    assert_in_range(at(&bed), 30000, 30030);
    assert_ended(&bed, REASON_HALF_CLOSE_RATE, LEG_END_RST, LEG_END_RST);
}

static void half_the_rate_lives_twice_the_deadline(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    pair_actions actions = 0;
    for (uint64_t tenth = 1; tenth <= 10000 && actions == 0; tenth++) {
        actions = expire_until(&bed, tenth * 100);
        if (actions == 0)
            relay(&bed, HALF_RESPONSE, 51);
    }
    assert_in_range(at(&bed), 59000, 61000);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE_RATE);
}

static void how_often_one_looks_does_not_change_what_bytes_buy(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    pair_actions actions = 0;
    for (uint64_t i = 1; i <= 10000 && actions == 0; i++) {
        relay(&bed, HALF_RESPONSE, 51); /* 510 bytes a second */
        bed.timer_ms = bed.now_ms;
        actions = expire_until(&bed, i * 100);
    }
    assert_in_range(at(&bed), 59400, 60200); /* 30 s / (1 - 510 / 1024), to a byte a look */
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE_RATE);
}

static void of_two_deadlines_due_at_once_the_first_of_the_table_gives_the_reason(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE_MAX, 30000);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_ended(&bed, REASON_HALF_CLOSE, LEG_END_RST, LEG_END_RST);
}

static void a_trickle_over_a_long_round_trip_does_not_live_for_ever_either(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    relay_unacked(&bed, HALF_RESPONSE, 20);
    pair_actions actions = 0;
    for (uint64_t tenth = 1; tenth <= 10000 && actions == 0; tenth++) {
        actions = expire_until(&bed, tenth * 100);
        if (actions != 0)
            break;
        relay_unacked(&bed, HALF_RESPONSE, 20); /* before the last ones are acknowledged */
        ack(&bed, LEG_CLIENT, 20);
    }
    assert_in_range(at(&bed), 37000, 37000 + DELIVERY_MS + 1000);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE_RATE);
}

static void a_rate_of_zero_takes_any_byte_for_progress(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    bed.deadlines.half_close_rate = 0;
    for (uint64_t i = 1; i <= 100; i++) {
        assert_int_equal(expire_until(&bed, i * 29000), 0);
        relay(&bed, HALF_RESPONSE, 1);
    }
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 100 * 29000 + 30000);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
}

static void a_burst_is_not_saved_up_for_a_trickle(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    relay(&bed, HALF_RESPONSE, 1 << 30);
    pair_actions actions = 0;
    for (int second = 1; second <= 1000 && actions == 0; second++) {
        actions = expire_until(&bed, (uint64_t)second * 1000);
        if (actions == 0)
            relay(&bed, HALF_RESPONSE, 1);
    }
    assert_in_range(at(&bed), 30000, 61000);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE_RATE);
}

static void an_enormous_rate_does_not_overflow(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    bed.deadlines.half_close_rate = UINT64_MAX;
    pass(&bed, 1);
    relay(&bed, HALF_RESPONSE, UINT64_C(1) << 40);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 30000);
    half_closed(&bed);
    pass(&bed, 1);
    relay(&bed, HALF_RESPONSE, UINT64_C(1) << 62);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 30001);
}

static void half_close_zero_ends_as_soon_as_the_fin_has_arrived(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE, 0);
    relay(&bed, HALF_REQUEST, 10);
    assert_int_equal(fin(&bed, HALF_REQUEST), to(PAIR_DO_FIN, LEG_BACKEND));
    assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms), bed.now_ms);
    bed.unacked_bytes[LEG_BACKEND] = 1;
    assert_int_equal(expire_until(&bed, 130), 0);
    bed.unacked_bytes[LEG_BACKEND] = 0;
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_in_range(at(&bed), 130, 180);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
}

static void half_close_zero_waits_no_longer_than_the_delivery_time_for_a_dead_kernel(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE, 0);
    fin(&bed, HALF_REQUEST);
    bed.unacked_bytes[LEG_BACKEND] = 1;
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), DELIVERY_MS);
}

/* Against each bound: the backend has answered 64 MiB and sent FIN, its client reads 6.4 MiB a second. */
static void a_slow_reader_gets_the_whole_answer(uint64_t half_close_ms)
{
    struct bed bed;
    const uint64_t all = UINT64_C(64) << 20, tenth = all / 100;
    opened(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE, half_close_ms);
    relay(&bed, HALF_REQUEST, 1 << 20);
    relay_unacked(&bed, HALF_RESPONSE, all);
    assert_int_equal(fin(&bed, HALF_RESPONSE), to(PAIR_DO_FIN, LEG_CLIENT));
    for (uint64_t i = 1; i <= 100; i++) {
        assert_int_equal(expire_until(&bed, i * 100), 0);
        ack(&bed, LEG_CLIENT, tenth);
    }
    ack(&bed, LEG_CLIENT, bed.unacked_bytes[LEG_CLIENT]);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_in_range(at(&bed), 10000 + half_close_ms, 10050 + half_close_ms);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
}

static void no_half_close_deadline_cuts_a_kernel_that_still_acknowledges(void **state)
{
    (void)state;
    a_slow_reader_gets_the_whole_answer(0);
    a_slow_reader_gets_the_whole_answer(1);
    a_slow_reader_gets_the_whole_answer(1000);
    a_slow_reader_gets_the_whole_answer(30000);
}

static void a_half_closed_session_whose_client_is_dead_ends_by_half_close(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    pass(&bed, 20000);
    relay_unacked(&bed, HALF_RESPONSE, 100000);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 30000 + DELIVERY_MS);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
}

static void half_close_may_leave_the_side_that_has_its_fin_a_grace(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    set_actions(&bed, DEADLINE_HALF_CLOSE, CLOSE_RST, CLOSE_FIN);
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, LEG_CLIENT));
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_int_equal(at(&bed), 35000);
}

static void a_half_closed_peer_never_gets_a_fin_of_our_making(void **state)
{
    (void)state;
    for (enum half half = 0; half < HALF_COUNT; half++) {
        struct bed bed;
        opened(&bed);
        fin(&bed, half);
        set_actions(&bed, DEADLINE_HALF_CLOSE, CLOSE_FIN, CLOSE_FIN);
        assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, half_source(half)));
        opened(&bed);
        half_event(&bed, PAIR_EVENT_HELD, half);
        fin(&bed, half);
        set_after(&bed, DEADLINE_IDLE, 50000);
        assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    }
}

static void half_close_off_waits_for_ever(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE, DEADLINE_OFF);
    assert_true(pair_next_ms(&bed.pair, bed.now_ms) == DEADLINE_OFF);
}

static void half_close_max_ends_a_healthy_answer(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE_MAX, 10500);
    pair_actions actions = 0;
    for (uint64_t second = 1; second <= 100 && actions == 0; second++) {
        relay(&bed, HALF_RESPONSE, 1 << 20);
        actions = expire_until(&bed, second * 1000);
    }
    assert_int_equal(actions, rst_both_and_end);
    assert_int_equal(at(&bed), 10500);
    assert_ended(&bed, REASON_HALF_CLOSE_MAX, LEG_END_RST, LEG_END_RST);
}

/* ---- verify ---- */

static const pair_actions probe_both = PAIR_DO_PROBE | PAIR_DO_PROBE << LEG_BACKEND;

/* Half-closed with nothing under way, and its peers just probed. */
static void probed(struct bed *bed, enum verify verify)
{
    half_closed(bed);
    bed->deadlines.verify = verify;
    assert_int_equal(expire_until(bed, FOREVER_MS), probe_both);
    assert_int_equal(at(bed), 30000);
    assert_true(track_probing(&bed->pair));
}

static void peers_that_answer_a_probe_are_a_leak(void **state)
{
    (void)state;
    struct bed bed;
    probed(&bed, VERIFY_ON);
    pass(&bed, 10);
    bed.last_ack_ms[LEG_CLIENT] = bed.last_ack_ms[LEG_BACKEND] = bed.now_ms;
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 31000);
    assert_ended(&bed, REASON_HALF_CLOSE, LEG_END_RST, LEG_END_RST);
}

/* A probe may be lost as any packet may. */
static void a_peer_that_does_not_answer_is_asked_three_times(void **state)
{
    (void)state;
    static const enum reason reasons[LEG_COUNT] = {
        [LEG_CLIENT] = REASON_CLIENT_LOST, [LEG_BACKEND] = REASON_BACKEND_LOST};
    for (enum leg leg = 0; leg < LEG_COUNT; leg++) {
        for (enum verify verify = VERIFY_ON; verify <= VERIFY_EXTEND; verify++) {
            struct bed bed;
            probed(&bed, verify);
            bed.last_ack_ms[leg_other(leg)] = bed.now_ms;
            assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_PROBE, leg));
            assert_int_equal(at(&bed), 31000);
            assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_PROBE, leg));
            assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
            assert_int_equal(at(&bed), 33000);
            assert_int_equal(bed.pair.reason, reasons[leg]);
        }
    }
}

static void a_peer_that_answers_the_last_probe_is_there(void **state)
{
    (void)state;
    struct bed bed;
    probed(&bed, VERIFY_ON);
    bed.last_ack_ms[LEG_CLIENT] = bed.now_ms;
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_PROBE, LEG_BACKEND));
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_PROBE, LEG_BACKEND));
    bed.last_ack_ms[LEG_BACKEND] = bed.now_ms;
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
}

/* Hundreds are due in one turn: what began it is long past when the last of them is probed, and again when
 * the age of its answer is read; and the kernel counts that age in jiffies. */
static void an_answer_in_a_long_turn_is_heard(void **state)
{
    (void)state;
    enum { TURN_MS = 900 };
    static const uint64_t jiffies_ms[] = {1, 4, 10};
    for (size_t i = 0; i < sizeof jiffies_ms / sizeof jiffies_ms[0]; i++) {
        for (uint64_t phase_ms = 0; phase_ms < jiffies_ms[i]; phase_ms++) {
            struct bed bed;
            uint64_t jiffy_ms = jiffies_ms[i];
            probed(&bed, VERIFY_ON);
            uint64_t sent_ms = bed.now_ms + phase_ms;
            uint64_t answered_ms = sent_ms; /* at once */
            pair_probes_sent(&bed.pair, sent_ms);
            bed.now_ms = sent_ms + 1000;
            uint64_t read_ms = bed.now_ms + TURN_MS;
            uint64_t age_ms = (read_ms / jiffy_ms - answered_ms / jiffy_ms) * jiffy_ms;
            for (enum leg leg = 0; leg < LEG_COUNT; leg++)
                pair_sample(&bed.pair, leg, 0, pair_least_age_ms(age_ms), read_ms);
            const struct pair_input expired = {.event = PAIR_EVENT_EXPIRED};
            assert_int_equal(pair_step(&bed.pair, &expired, bed.now_ms), rst_both_and_end);
            assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
        }
    }
}

static void the_time_to_answer_counts_from_the_probe(void **state)
{
    (void)state;
    struct bed bed;
    probed(&bed, VERIFY_ON);
    pair_probes_sent(&bed.pair, bed.now_ms + 900);
    assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms) - START_MS, 31900);
}

static void the_least_age_is_never_more_than_the_true_one(void **state)
{
    (void)state;
    static const uint64_t jiffies_ms[] = {1, 3, 4, 10};
    for (size_t i = 0; i < sizeof jiffies_ms / sizeof jiffies_ms[0]; i++)
        for (uint64_t then_ms = 100; then_ms < 140; then_ms++)
            for (uint64_t now_ms = then_ms; now_ms < 200; now_ms++) {
                uint64_t said_ms = (now_ms / jiffies_ms[i] - then_ms / jiffies_ms[i]) * jiffies_ms[i];
                assert_true(pair_least_age_ms(said_ms) <= now_ms - then_ms);
            }
}

static void peers_that_answer_a_probe_may_be_given_the_deadline_again(void **state)
{
    (void)state;
    struct bed bed;
    probed(&bed, VERIFY_EXTEND);
    bed.last_ack_ms[LEG_CLIENT] = bed.last_ack_ms[LEG_BACKEND] = bed.now_ms;
    assert_int_equal(expire_until(&bed, FOREVER_MS), probe_both);
    assert_int_equal(at(&bed), 61000);
    assert_int_equal(expire_until(&bed, FOREVER_MS), probe_both);
    assert_int_equal(expire_until(&bed, FOREVER_MS), probe_both);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 64000);
    assert_int_equal(bed.pair.reason, REASON_CLIENT_LOST);
}

static void half_close_max_bounds_what_verify_extends(void **state)
{
    (void)state;
    struct bed bed;
    probed(&bed, VERIFY_EXTEND);
    set_after(&bed, DEADLINE_HALF_CLOSE_MAX, 40000);
    bed.last_ack_ms[LEG_CLIENT] = bed.last_ack_ms[LEG_BACKEND] = bed.now_ms;
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 40000);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE_MAX);
}

static void an_answer_that_begins_while_probing_ends_the_probing(void **state)
{
    (void)state;
    struct bed bed;
    probed(&bed, VERIFY_ON);
    bed.last_ack_ms[LEG_BACKEND] = bed.now_ms;
    pass(&bed, 500);
    relay(&bed, HALF_RESPONSE, 1 << 20);
    assert_int_equal(expire_until(&bed, FOREVER_MS),
                     probe_both); /* and not what was heard half a minute ago */
    assert_int_equal(at(&bed), 60500);
    assert_int_equal(expire_until(&bed, FOREVER_MS), probe_both);
    assert_int_equal(expire_until(&bed, FOREVER_MS), probe_both);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(bed.pair.reason, REASON_CLIENT_LOST);
}

static void a_backend_that_stays_when_its_client_has_closed_is_reset(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    assert_int_equal(event(&bed, PAIR_EVENT_CLOSED), to(PAIR_DO_CLOSE, LEG_CLIENT));
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_int_equal(at(&bed), 250);
    assert_ended(&bed, REASON_CLIENT_CLOSED, LEG_END_FIN, LEG_END_RST);
}

static void a_backend_that_closes_when_its_client_has_ends_in_order(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    event(&bed, PAIR_EVENT_CLOSED);
    assert_int_equal(expire_until(&bed, 240), 0);
    assert_int_equal(fin(&bed, HALF_RESPONSE), to(PAIR_DO_CLOSE, LEG_BACKEND) | PAIR_DO_END);
    assert_ended(&bed, REASON_CLOSED, LEG_END_FIN, LEG_END_FIN);
}

static void a_backend_that_answers_a_client_that_has_closed_is_reset_at_once(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay_unacked(&bed, HALF_REQUEST, 100);
    fin(&bed, HALF_REQUEST);
    event(&bed, PAIR_EVENT_CLOSED);
    assert_int_equal(half_event(&bed, PAIR_EVENT_DISCARDED, HALF_RESPONSE), 0); /* it crossed the request */
    ack(&bed, LEG_BACKEND, 100);
    assert_int_equal(half_event(&bed, PAIR_EVENT_DISCARDED, HALF_RESPONSE),
                     to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_int_equal(at(&bed), 0);
}

static void a_backend_that_answers_a_client_that_reset_is_reset_at_once(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay_unacked(&bed, HALF_REQUEST, 100);
    assert_int_equal(leg_event(&bed, PAIR_EVENT_RESET, LEG_CLIENT), to(PAIR_DO_CLOSE, LEG_CLIENT));
    assert_int_equal(half_event(&bed, PAIR_EVENT_DISCARDED, HALF_RESPONSE), 0);
    ack(&bed, LEG_BACKEND, 100);
    assert_int_equal(half_event(&bed, PAIR_EVENT_DISCARDED, HALF_RESPONSE),
                     to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_ended(&bed, REASON_CLIENT_RESET, LEG_END_RESET, LEG_END_RST);
}

static void what_a_reset_leg_left_behind_is_looked_at_soon_and_then_less_often(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay_unacked(&bed, HALF_REQUEST, 100);
    leg_event(&bed, PAIR_EVENT_RESET, LEG_CLIENT);
    uint64_t looks = 0, last_ms = 0, longest_ms = 0;
    for (; at(&bed) < 1000; looks++, last_ms = at(&bed)) {
        bed.now_ms = bed.timer_ms;
        assert_int_equal(event(&bed, PAIR_EVENT_EXPIRED), 0);
        longest_ms = at(&bed) - last_ms > longest_ms ? at(&bed) - last_ms : longest_ms;
    }
    assert_in_range(looks, 20, 30);
    assert_int_equal(longest_ms, 50);
}

static void the_request_of_a_client_that_has_closed_is_delivered_first(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay_unacked(&bed, HALF_REQUEST, 100);
    fin(&bed, HALF_REQUEST);
    assert_int_equal(event(&bed, PAIR_EVENT_CLOSED), to(PAIR_DO_CLOSE, LEG_CLIENT));
    assert_int_equal(expire_until(&bed, 700), 0);
    ack(&bed, LEG_BACKEND, 100);
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_in_range(at(&bed), 700, 750);
}

static void that_a_client_has_closed_changes_nothing_in_grace(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    set_actions(&bed, DEADLINE_HALF_CLOSE, CLOSE_RST, CLOSE_FIN);
    expire_until(&bed, FOREVER_MS);
    assert_int_equal(bed.pair.phase, PAIR_CLOSING);
    assert_int_equal(event(&bed, PAIR_EVENT_CLOSED), 0);
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
    relay(&bed, HALF_RESPONSE, 1);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 119000);
}

static void an_acknowledgement_begins_write_stall_anew(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay_unacked(&bed, HALF_RESPONSE, 100);
    half_event(&bed, PAIR_EVENT_HELD, HALF_RESPONSE);
    pass(&bed, 59000);
    ack(&bed, LEG_CLIENT, 50);
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
    assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms) - START_MS, 300000);
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
    assert_int_equal(at(&bed), 301000);
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
    assert_int_equal(at(&bed), 300000);
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
    cmocka_unit_test(silence_after_a_half_close_resets_both_when_the_deadline_has_run),
    cmocka_unit_test(silence_counts_from_the_last_byte_of_an_answer),
    cmocka_unit_test(an_answer_at_the_rate_lives_as_long_as_it_lasts),
    cmocka_unit_test(an_answer_that_begins_just_before_the_deadline_is_not_cut),
    cmocka_unit_test(a_trickle_does_not_live_for_ever),
    cmocka_unit_test(half_the_rate_lives_twice_the_deadline),
    cmocka_unit_test(how_often_one_looks_does_not_change_what_bytes_buy),
    cmocka_unit_test(of_two_deadlines_due_at_once_the_first_of_the_table_gives_the_reason),
    cmocka_unit_test(a_trickle_over_a_long_round_trip_does_not_live_for_ever_either),
    cmocka_unit_test(a_rate_of_zero_takes_any_byte_for_progress),
    cmocka_unit_test(a_burst_is_not_saved_up_for_a_trickle),
    cmocka_unit_test(an_enormous_rate_does_not_overflow),
    cmocka_unit_test(half_close_zero_ends_as_soon_as_the_fin_has_arrived),
    cmocka_unit_test(half_close_zero_waits_no_longer_than_the_delivery_time_for_a_dead_kernel),
    cmocka_unit_test(no_half_close_deadline_cuts_a_kernel_that_still_acknowledges),
    cmocka_unit_test(a_half_closed_session_whose_client_is_dead_ends_by_half_close),
    cmocka_unit_test(half_close_may_leave_the_side_that_has_its_fin_a_grace),
    cmocka_unit_test(a_half_closed_peer_never_gets_a_fin_of_our_making),
    cmocka_unit_test(half_close_off_waits_for_ever),
    cmocka_unit_test(half_close_max_ends_a_healthy_answer),
    cmocka_unit_test(peers_that_answer_a_probe_are_a_leak),
    cmocka_unit_test(a_peer_that_does_not_answer_is_asked_three_times),
    cmocka_unit_test(a_peer_that_answers_the_last_probe_is_there),
    cmocka_unit_test(an_answer_in_a_long_turn_is_heard),
    cmocka_unit_test(the_time_to_answer_counts_from_the_probe),
    cmocka_unit_test(the_least_age_is_never_more_than_the_true_one),
    cmocka_unit_test(peers_that_answer_a_probe_may_be_given_the_deadline_again),
    cmocka_unit_test(half_close_max_bounds_what_verify_extends),
    cmocka_unit_test(an_answer_that_begins_while_probing_ends_the_probing),
    cmocka_unit_test(a_backend_that_stays_when_its_client_has_closed_is_reset),
    cmocka_unit_test(a_backend_that_closes_when_its_client_has_ends_in_order),
    cmocka_unit_test(a_backend_that_answers_a_client_that_has_closed_is_reset_at_once),
    cmocka_unit_test(a_backend_that_answers_a_client_that_reset_is_reset_at_once),
    cmocka_unit_test(what_a_reset_leg_left_behind_is_looked_at_soon_and_then_less_often),
    cmocka_unit_test(the_request_of_a_client_that_has_closed_is_delivered_first),
    cmocka_unit_test(that_a_client_has_closed_changes_nothing_in_grace),
    cmocka_unit_test(a_sink_that_takes_nothing_is_reset_after_write_stall),
    cmocka_unit_test(a_sink_that_takes_some_begins_write_stall_anew),
    cmocka_unit_test(an_acknowledgement_begins_write_stall_anew),
    cmocka_unit_test(the_half_that_stalled_first_ends_the_session),
    cmocka_unit_test(a_half_that_stalled_later_does_not_give_the_first_more_time),
    cmocka_unit_test(progress_in_one_half_does_not_help_the_stalled_one),
    cmocka_unit_test(draining_a_half_ends_its_stall),
    cmocka_unit_test(a_fin_behind_held_bytes_is_bounded_by_write_stall),
    cmocka_unit_test(write_stall_off_leaves_it_to_idle),
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
    cmocka_unit_test(abort_ends_every_phase_at_once_with_its_reason),
    cmocka_unit_test(with_everything_off_no_time_is_ever_due),
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
