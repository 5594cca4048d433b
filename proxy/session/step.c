#include "proxy/session/step.h"

#include "proxy/session/session.h"

enum step step_after(bool alive)
{
    return alive ? STEP_AGAIN : STEP_ENDED;
}

enum step step_event(struct session *s, struct pair_input input)
{
    return step_after(session_step(s, input));
}

enum step step_stage(struct session *s, enum pair_stage stage)
{
    return step_event(s, (struct pair_input){.event = PAIR_EVENT_STAGE, .stage = stage});
}

enum step step_answered(struct session *s, bool streams)
{
    return step_event(
        s, (struct pair_input){.event = PAIR_EVENT_STAGE, .stage = PAIR_STAGE_ANSWERED, .streams = streams});
}

enum step step_abort(struct session *s, enum reason reason)
{
    return step_event(s, (struct pair_input){.event = PAIR_EVENT_ABORT, .reason = reason});
}

void step_charge(uint64_t *budget, uint64_t bytes)
{
    *budget -= bytes < *budget ? bytes : *budget;
}

void step_progress(struct session *s, enum half half, uint64_t moved)
{
    if (moved > 0)
        pair_progress(&s->pair, half, moved, loop_now_ms(&s->shared->loop));
}

enum step step_complete(struct session *s)
{
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        if (session_leg(s, leg)->fd >= 0)
            session_leg(s, leg)->readable = true;
    return step_event(s, (struct pair_input){.event = PAIR_EVENT_COMPLETE, .reason = REASON_CLOSED});
}

enum step step_relay(struct session *s, enum half half, enum relay_event event)
{
    switch (event) {
    case RELAY_BLOCKED:
        return STEP_BLOCKED;
    case RELAY_MORE:
        loop_put_off(&s->shared->loop, &s->task);
        return STEP_BLOCKED;
    case RELAY_HELD:
        return step_after(session_step_half(s, PAIR_EVENT_HELD, half));
    case RELAY_DRAINED:
        return step_after(session_step_half(s, PAIR_EVENT_DRAINED, half));
    case RELAY_DISCARDED:
        return step_after(session_step_half(s, PAIR_EVENT_DISCARDED, half));
    case RELAY_NO_MEMORY:
        return step_abort(s, REASON_NO_MEMORY);
    case RELAY_FIN:
    case RELAY_SOURCE_GONE:
    case RELAY_SINK_GONE:
        break;
    }
    return s->protocol->ended(s, half, event);
}

enum step step_written(struct session *s, enum half half, enum relay_event event)
{
    return event == RELAY_MORE ? STEP_AGAIN : step_relay(s, half, event);
}
