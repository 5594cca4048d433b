#include "proxy/plane/attachment.h"

#include "proxy/plane/parting.h"
#include "proxy/plane/refusal.h"
#include "proxy/plane/session.h"

enum turn attachment_begin(struct session *s)
{
    size_t targets = backend_targets(&s->worker->backends[s->frontend->conf->backend]);
    s->exchange->fresh = true;
    s->exchange->head_sent = false;
    /* The server of the last request did nothing wrong, and is not passed over as one that refused is. */
    if (s->target)
        backend_release(s->target);
    s->target = NULL;
    return turn_step(s, (struct pair_input){.event = PAIR_EVENT_ATTACH,
                                            .servers_left = targets > 0 ? (uint32_t)targets - 1 : 0});
}

static enum turn left(struct session *s, enum leg_end end)
{
    return turn_step(s, (struct pair_input){.event = PAIR_EVENT_LEFT, .end = end});
}

void attachment_leave(struct session *s)
{
    struct relay_leg *leg = session_leg(s, LEG_BACKEND);
    parting_begin(s->worker, leg->fd, s->pair.deadlines->after_ms[DEADLINE_MESSAGE_GRACE]);
    relay_free(&s->relays[HALF_REQUEST], &s->worker->tools);
    *leg = (struct relay_leg){.fd = -1};
}

enum turn attachment_part(struct session *s)
{
    attachment_leave(s);
    return left(s, LEG_END_FIN);
}

enum turn attachment_watch(struct session *s)
{
    size_t got;
    switch (relay_read(session_leg(s, LEG_BACKEND), s->worker->tools.scratch, RELAY_SCRATCH, &got)) {
    case RELAY_FIN:
        return left(s, LEG_END_FIN);
    case RELAY_SOURCE_GONE:
        return left(s, LEG_END_RESET);
    case RELAY_MORE:
        return attachment_part(s);
    default:
        return TURN_BLOCKED;
    }
}

enum turn attachment_ended(struct session *s, enum leg_end end)
{
    struct exchange *x = s->exchange;
    struct http *http = &x->http[HALF_RESPONSE];
    if (end == LEG_END_FIN && http_may_end(http)) {
        http->state = HTTP_COMPLETE;
        return TURN_AGAIN;
    }
    if (s->pair.stage == PAIR_STAGE_ANSWERED)
        return end == LEG_END_FIN ? turn_step(s, (struct pair_input){.event = PAIR_EVENT_CUT})
                                  : turn_after(session_step_gone(s, LEG_BACKEND));
    bool again = x->repeatable && !x->fresh && http_untouched(http);
    if (left(s, end) == TURN_ENDED)
        return TURN_ENDED;
    return again ? attachment_begin(s)
                 : refusal_begin(s, end == LEG_END_FIN ? REASON_NO_RESPONSE : REASON_BACKEND_RESET, 0);
}
