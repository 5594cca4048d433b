#ifndef TESTS_UNIT_POLICY_BED_H
#define TESTS_UNIT_POLICY_BED_H

/* What the tests of the pair have in common: a pair with its caller, and the ways to the states that they
 * begin in. */

#include "tests/unit/cmocka.h"

#include "reaper/policy/deadline.h"
#include "reaper/policy/pair.h"

#include <string.h>

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

static inline pair_actions to(unsigned action, enum leg leg)
{
    return (pair_actions)action << leg;
}

static const pair_actions fin_both __attribute__((unused)) = PAIR_DO_FIN | PAIR_DO_FIN << LEG_BACKEND;
static const pair_actions rst_both_and_end __attribute__((unused)) =
    PAIR_DO_RST | PAIR_DO_RST << LEG_BACKEND | PAIR_DO_END;
static const pair_actions close_both_and_end __attribute__((unused)) =
    PAIR_DO_CLOSE | PAIR_DO_CLOSE << LEG_BACKEND | PAIR_DO_END;

/* Milliseconds since the session was accepted. */
static inline uint64_t at(const struct bed *bed)
{
    return bed->now_ms - START_MS;
}

static inline void pass(struct bed *bed, uint64_t ms)
{
    bed->now_ms += ms;
}

/* The turn began late_ms before the clock is read. */
static inline void sample_late(struct bed *bed, uint64_t late_ms)
{
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        if (bed->pair.up[leg])
            pair_sample(&bed->pair, leg, bed->unacked_bytes[leg], bed->now_ms - bed->last_ack_ms[leg],
                        bed->now_ms + late_ms);
}

static inline void sample(struct bed *bed)
{
    sample_late(bed, 0);
}

static inline pair_actions step(struct bed *bed, struct pair_input input)
{
    sample(bed);
    pair_actions actions = pair_step(&bed->pair, &input, bed->now_ms);
    pair_check(&bed->pair);
    bed->timer_ms = pair_next_ms(&bed->pair, bed->now_ms);
    assert_int_equal((actions & PAIR_DO_END) != 0, bed->pair.phase == PAIR_ENDED);
    return actions;
}

static inline pair_actions event(struct bed *bed, enum pair_event event)
{
    return step(bed, (struct pair_input){.event = event});
}

static inline pair_actions half_event(struct bed *bed, enum pair_event event, enum half half)
{
    return step(bed, (struct pair_input){.event = event, .half = half});
}

static inline pair_actions leg_event(struct bed *bed, enum pair_event event, enum leg leg)
{
    return step(bed, (struct pair_input){.event = event, .leg = leg});
}

static inline pair_actions fin(struct bed *bed, enum half half)
{
    return half_event(bed, PAIR_EVENT_FIN, half);
}

static inline pair_actions fails(struct bed *bed, enum reason reason)
{
    return step(bed, (struct pair_input){.event = PAIR_EVENT_REFUSED, .reason = reason});
}

/* The sink of the half takes bytes, and its kernel acknowledges them. */
static inline void relay(struct bed *bed, enum half half, uint64_t bytes)
{
    pair_progress(&bed->pair, half, bytes, bed->now_ms);
    bed->last_ack_ms[half_sink(half)] = bed->now_ms;
}

/* The sink of the half takes bytes that its peer does not acknowledge yet. */
static inline void relay_unacked(struct bed *bed, enum half half, uint64_t bytes)
{
    pair_progress(&bed->pair, half, bytes, bed->now_ms);
    bed->unacked_bytes[half_sink(half)] += bytes;
}

static inline void ack(struct bed *bed, enum leg leg, uint64_t bytes)
{
    bed->unacked_bytes[leg] -= bytes;
    bed->last_ack_ms[leg] = bed->now_ms;
}

/* Reports every expiry until one does something, or until the time is over. */
static inline pair_actions expire_until(struct bed *bed, uint64_t at_ms)
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

static inline void connecting(struct bed *bed, uint32_t servers_left)
{
    memset(bed, 0, sizeof *bed);
    deadlines_default(&bed->deadlines);
    bed->now_ms = START_MS;
    pair_init(&bed->pair, &bed->deadlines, servers_left, bed->now_ms);
    bed->timer_ms = bed->now_ms;
    pair_check(&bed->pair);
}

/* Follows messages, and has seen none. */
static inline void waiting(struct bed *bed)
{
    connecting(bed, 0);
    pair_init_messages(&bed->pair, &bed->deadlines, bed->now_ms);
    pair_check(&bed->pair);
}

static inline void opened(struct bed *bed)
{
    connecting(bed, 0);
    assert_int_equal(event(bed, PAIR_EVENT_CONNECTED), 0);
}

/* The client asked, sent FIN, and waits. */
static inline void half_closed(struct bed *bed)
{
    opened(bed);
    relay(bed, HALF_REQUEST, 100);
    assert_int_equal(fin(bed, HALF_REQUEST), to(PAIR_DO_FIN, LEG_BACKEND));
    assert_true(track_half_closed(&bed->pair));
}

/* An expiry that comes early is harmless, so the timer need not know the new deadline. */
static inline void set_after(struct bed *bed, enum deadline_id id, uint64_t after_ms)
{
    bed->deadlines.after_ms[id] = after_ms;
    bed->timer_ms = bed->now_ms;
}

static inline void set_actions(struct bed *bed, enum deadline_id id, enum close_action client,
                               enum close_action backend)
{
    bed->deadlines.action[id][LEG_CLIENT] = client;
    bed->deadlines.action[id][LEG_BACKEND] = backend;
}

static inline void assert_ended(const struct bed *bed, enum reason reason, enum leg_end client,
                                enum leg_end backend)
{
    assert_string_equal(pair_phase_name(bed->pair.phase), pair_phase_name(PAIR_ENDED));
    assert_string_equal(reason_name(bed->pair.reason), reason_name(reason));
    assert_string_equal(leg_end_name(bed->pair.leg_end[LEG_CLIENT]), leg_end_name(client));
    assert_string_equal(leg_end_name(bed->pair.leg_end[LEG_BACKEND]), leg_end_name(backend));
    assert_true(pair_next_ms(&bed->pair, bed->now_ms) == DEADLINE_OFF);
}

#endif
