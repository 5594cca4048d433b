#include "proxy/exchange/turn.h"

#include "proxy/exchange/attachment.h"
#include "proxy/exchange/exchange.h"
#include "proxy/exchange/refusal.h"
#include "proxy/session/session.h"

#include <assert.h>

enum turn turn_after(bool alive)
{
    return alive ? TURN_AGAIN : TURN_ENDED;
}

enum turn turn_step(struct session *s, struct pair_input input)
{
    return turn_after(session_step(s, input));
}

enum turn turn_stage(struct session *s, enum pair_stage stage)
{
    return turn_step(s, (struct pair_input){.event = PAIR_EVENT_STAGE, .stage = stage});
}

enum turn turn_abort(struct session *s, enum reason reason)
{
    return turn_step(s, (struct pair_input){.event = PAIR_EVENT_ABORT, .reason = reason});
}

void turn_charge(uint64_t *budget, uint64_t bytes)
{
    *budget -= bytes < *budget ? bytes : *budget;
}

void turn_progress(struct session *s, enum half half, uint64_t moved)
{
    if (moved > 0)
        pair_progress(&s->pair, half, moved, loop_now_ms(&s->shared->loop));
}

enum turn turn_complete(struct session *s)
{
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        if (session_leg(s, leg)->fd >= 0)
            session_leg(s, leg)->readable = true;
    return turn_step(s, (struct pair_input){.event = PAIR_EVENT_COMPLETE, .reason = REASON_CLOSED});
}

static enum turn client_ended(struct session *s)
{
    struct exchange *x = s->exchange;
    pair_note_fin(&s->pair, LEG_CLIENT);
    if (s->pair.stage != PAIR_STAGE_BETWEEN && s->pair.stage != PAIR_STAGE_HEAD)
        return turn_abort(s, REASON_REQUEST_CUT);
    if (!http_untouched(&x->http[HALF_REQUEST]))
        return refusal_begin(s, REASON_REQUEST_CUT, 0);
    if (attachment_may_be_shared(s) && attachment_share(s) == TURN_ENDED)
        return TURN_ENDED;
    return turn_complete(s);
}

enum turn turn_relay(struct session *s, enum half half, enum relay_event event)
{
    switch (event) {
    case RELAY_BLOCKED:
        return TURN_BLOCKED;
    case RELAY_MORE:
        loop_put_off(&s->shared->loop, &s->task);
        return TURN_BLOCKED;
    case RELAY_HELD:
        return turn_after(session_step_half(s, PAIR_EVENT_HELD, half));
    case RELAY_DRAINED:
        return turn_after(session_step_half(s, PAIR_EVENT_DRAINED, half));
    case RELAY_FIN:
        return half == HALF_REQUEST ? client_ended(s) : attachment_ended(s, LEG_END_FIN);
    case RELAY_SOURCE_GONE:
        return half == HALF_REQUEST ? turn_after(session_step_gone(s, LEG_CLIENT))
                                    : attachment_ended(s, LEG_END_RESET);
    case RELAY_SINK_GONE:
        /* What a backend said before it broke off is found by the other half. */
        return half == HALF_REQUEST ? TURN_BLOCKED : turn_after(session_step_gone(s, LEG_CLIENT));
    case RELAY_NO_MEMORY:
        return turn_abort(s, REASON_NO_MEMORY);
    case RELAY_DISCARDED:
        break;
    }
    assert(false && "an event of a half that relays");
    return TURN_BLOCKED;
}

enum turn turn_written(struct session *s, enum half half, enum relay_event event)
{
    return event == RELAY_MORE ? TURN_AGAIN : turn_relay(s, half, event);
}

enum turn turn_unseen(struct session *s, enum half half, uint64_t *budget)
{
    struct http *http = &s->exchange->http[half];
    struct relay *relay = &s->relays[half];
    uint64_t unseen = http_unseen(http);
    uint64_t moved = 0;
    relay->limit_bytes = unseen;
    enum relay_event event = relay_work(relay, &s->shared->tools, session_leg(s, half_source(half)),
                                        session_leg(s, half_sink(half)), unseen > 0, false, budget, &moved);
    if (unseen > 0)
        http_skip(http, unseen - relay->limit_bytes);
    turn_progress(s, half, moved);
    turn_charge(budget, moved);
    return unseen > 0 && http->state == HTTP_COMPLETE && event == RELAY_BLOCKED ? TURN_AGAIN
                                                                                : turn_relay(s, half, event);
}
