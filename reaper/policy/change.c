#include "reaper/policy/change.h"

#include <assert.h>

void change_begin_window(struct pair *pair, uint64_t now_ms)
{
    uint64_t acked_bytes = track_acked_bytes(pair);
    pair->window = (struct track_window){now_ms, acked_bytes, acked_bytes};
    pair->window_open_bytes = pair->half[track_open_half(pair)].acked_bytes;
    pair->probed_ms = 0;
}

void change_begin_sent(struct pair *pair, enum half half, uint64_t now_ms)
{
    struct half_track *h = &pair->half[half];
    h->sent = (struct track_window){now_ms, h->acked_bytes, h->acked_bytes};
}

void change_phase(struct pair *pair, enum pair_phase phase, uint64_t now_ms)
{
    pair->phase = (uint8_t)phase;
    pair->ending_ms = now_ms;
    if (phase == PAIR_RESETTING || phase == PAIR_CLOSING) {
        change_begin_window(pair, now_ms);
        pair->spared_ms = 0;
    }
}

pair_actions change_leg_down(struct pair *pair, enum leg leg, enum leg_end end, unsigned action)
{
    struct half_track *to = &pair->half[half_to(leg)];
    assert(pair->up[leg]);
    pair->up[leg] = false;
    pair->leg_end[leg] = (uint8_t)end;
    pair->half[half_from(leg)].fin_in = true;
    to->fin_out = true;
    to->held = false;
    to->unacked_bytes = 0;
    return action_for(action, leg);
}

pair_actions change_end(struct pair *pair, enum reason reason, uint64_t now_ms)
{
    pair_actions actions = PAIR_DO_END;
    assert(reason != REASON_NONE);
    for (enum leg leg = 0; leg < LEG_COUNT; leg++) {
        if (!pair->up[leg])
            continue;
        actions |= track_leg_done(pair, leg) ? change_leg_down(pair, leg, LEG_END_FIN, PAIR_DO_CLOSE)
                                             : change_leg_down(pair, leg, LEG_END_RST, PAIR_DO_RST);
    }
    if (pair->phase == PAIR_CONNECTING) /* the attempt under way, if any, is given up */
        actions |= action_for(PAIR_DO_CLOSE, LEG_BACKEND);
    pair->reason = (uint8_t)reason;
    change_phase(pair, PAIR_ENDED, now_ms);
    return actions;
}

pair_actions change_end_if_done(struct pair *pair, uint64_t now_ms)
{
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        if (pair->up[leg] && !track_leg_done(pair, leg))
            return 0;
    return change_end(pair, pair->reason, now_ms);
}

pair_actions change_send_fin(struct pair *pair, enum leg leg)
{
    struct half_track *h = &pair->half[half_to(leg)];
    assert(!h->held);
    if (h->fin_out)
        return 0;
    h->fin_out = true;
    return action_for(PAIR_DO_FIN, leg);
}

pair_actions change_begin_closing(struct pair *pair, enum reason reason, const enum close_action action[],
                                  uint64_t now_ms)
{
    pair_actions actions = 0;
    for (enum leg leg = 0; leg < LEG_COUNT; leg++) {
        if (!pair->up[leg])
            continue;
        if (action[leg] == CLOSE_RST || track_fooled_by_fin(pair, leg))
            actions |= change_leg_down(pair, leg, LEG_END_RST, PAIR_DO_RST);
        else
            actions |= change_send_fin(pair, leg);
    }
    pair->reason = (uint8_t)reason;
    change_phase(pair, PAIR_CLOSING, now_ms);
    return actions | change_end_if_done(pair, now_ms);
}

/* Without a backend leg the response half has no source and the request half no sink. */
static void no_backend(struct pair *pair, bool expected)
{
    pair->half[HALF_RESPONSE].fin_in = !expected;
    pair->half[HALF_REQUEST].fin_out = !expected;
}

void change_begin_waiting(struct pair *pair, uint64_t now_ms)
{
    no_backend(pair, true);
    pair->reason = REASON_NONE;
    change_phase(pair, PAIR_WAITING, now_ms);
}

pair_actions change_close_with(struct pair *pair, enum reason reason, const enum close_action action[],
                               uint64_t now_ms)
{
    if (!pair->up[LEG_BACKEND])
        no_backend(pair, false);
    return change_begin_closing(pair, reason, action, now_ms);
}

/* Nothing is outstanding: nobody can take our FIN for anything but the end. */
pair_actions change_close_at_boundary(struct pair *pair, enum reason reason, uint64_t now_ms)
{
    static const enum close_action orderly[LEG_COUNT] = {CLOSE_FIN, CLOSE_FIN};
    pair->client_awaits_reply = false;
    return change_close_with(pair, reason, orderly, now_ms);
}

/* The request can't be answered by a backend: what has been begun there is aborted, and the client gets an
 * answer of our own. A backend that was sent nothing of it is at rest and parts in order. */
pair_actions change_refuse(struct pair *pair, enum reason reason, uint64_t now_ms)
{
    pair_actions actions = PAIR_DO_ANSWER;
    assert(pair->stage == PAIR_STAGE_HEAD || pair->stage == PAIR_STAGE_BODY ||
           pair->stage == PAIR_STAGE_RESPONSE);
    if (pair->up[LEG_BACKEND] && pair->stage == PAIR_STAGE_HEAD)
        actions |= change_leg_down(pair, LEG_BACKEND, LEG_END_FIN, 0) | PAIR_DO_RETIRE;
    else if (pair->up[LEG_BACKEND])
        actions |= change_leg_down(pair, LEG_BACKEND, LEG_END_RST, PAIR_DO_RST);
    else if (pair->phase == PAIR_CONNECTING)
        actions |= action_for(PAIR_DO_CLOSE, LEG_BACKEND);
    change_begin_waiting(pair, now_ms);
    pair->stage = PAIR_STAGE_REFUSED;
    pair->stage_ms = now_ms;
    pair->cause = (uint8_t)reason;
    return actions;
}

pair_actions change_relay_fin(struct pair *pair, enum half half, uint64_t now_ms)
{
    pair_actions actions = change_send_fin(pair, half_sink(half));
    if (track_half_ended(&pair->half[half_other(half)]))
        return actions | change_end(pair, REASON_CLOSED, now_ms);
    pair->half_closed_ms = now_ms;
    change_begin_window(pair, now_ms);
    return actions;
}

void change_begin_ending(struct pair *pair, enum reason reason, uint64_t now_ms)
{
    pair->reason = (uint8_t)reason;
    change_phase(pair, PAIR_ENDING, now_ms);
}

pair_actions change_next_server(struct pair *pair, enum reason reason, uint64_t now_ms)
{
    assert(pair->phase == PAIR_CONNECTING);
    if (pair->servers_left == 0)
        return pair->stage == PAIR_STAGE_BYTES ? change_end(pair, reason, now_ms)
                                               : change_refuse(pair, reason, now_ms);
    pair->servers_left--;
    pair->attempt_ms = now_ms;
    return PAIR_DO_CONNECT;
}

/* In RESETTING: ends once everything that the lost leg sent has been delivered. Where a FIN tells the client
 * the truth, it gets that and the time to close, for a RST could take the answer out of its hands (RFC 9112,
 * 9.6). */
pair_actions change_end_if_delivered(struct pair *pair, uint64_t now_ms)
{
    for (enum half half = 0; half < HALF_COUNT; half++)
        if (pair->half[half].held)
            return 0;
    if (pair->fin_to_client) {
        pair_actions actions = change_send_fin(pair, LEG_CLIENT);
        change_phase(pair, PAIR_CLOSING, now_ms);
        return actions | change_end_if_done(pair, now_ms);
    }
    return track_delivering(pair) || track_gives_time(pair) ? 0 : change_end(pair, pair->reason, now_ms);
}

pair_actions change_begin_resetting(struct pair *pair, enum reason reason, bool fin_to_client,
                                    uint64_t now_ms)
{
    pair->reason = (uint8_t)reason;
    pair->fin_to_client = fin_to_client;
    change_phase(pair, PAIR_RESETTING, now_ms);
    return change_end_if_delivered(pair, now_ms);
}
