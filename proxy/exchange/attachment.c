#include "proxy/exchange/attachment.h"

#include "proxy/exchange/exchange.h"
#include "proxy/exchange/refusal.h"
#include "proxy/server/backend.h"
#include "proxy/server/pool.h"
#include "proxy/server/retire.h"
#include "proxy/session/session.h"

static enum conf_reuse reuse_of(const struct session *s)
{
    return s->shared->backends[s->frontend->conf->backend].conf->reuse;
}

bool attachment_reuses(const struct session *s)
{
    return reuse_of(s) != CONF_REUSE_OFF;
}

/* Whether the present request may go over a leg that has served others. */
static bool may_take_used(const struct session *s)
{
    const struct exchange *x = s->exchange;
    return attachment_reuses(s) && !x->pinned_to_client && !x->again &&
           (x->repeatable || reuse_of(s) == CONF_REUSE_ALWAYS);
}

static enum step detached(struct session *s, enum leg_end end)
{
    session_detach(s);
    return step_event(s, (struct pair_input){.event = PAIR_EVENT_LEFT, .end = end});
}

/* The socket is somebody else's from now on. */
static void give_away(struct session *s)
{
    relay_free(&s->relays[HALF_REQUEST], &s->shared->tools);
    *session_leg(s, LEG_BACKEND) = (struct relay_leg){.fd = -1};
}

static uint64_t grace_ms(const struct session *s)
{
    return s->pair.deadlines->after_ms[DEADLINE_MESSAGE_GRACE];
}

enum step attachment_choose(struct session *s)
{
    struct exchange *x = s->exchange;
    /* What can't be sent twice is not sent to a backend that has closed. */
    if (exchange_has_backend(s) && !x->repeatable) {
        session_leg(s, LEG_BACKEND)->readable = true;
        if (attachment_watch(s) == STEP_ENDED)
            return STEP_ENDED;
    }
    bool stays = !attachment_reuses(s) || x->pinned_to_client || may_take_used(s);
    if (s->pair.phase != PAIR_OPEN || stays) /* it has none, or there is no time for another */
        return STEP_AGAIN;
    return s->pair.draining ? attachment_retire(s) : attachment_share(s);
}

enum step attachment_begin(struct session *s)
{
    size_t targets = backend_target_count(&s->shared->backends[s->frontend->conf->backend]);
    s->exchange->fresh = true;
    s->exchange->leg = EXCHANGE_LEG_NEW;
    s->exchange->head_sent = false;
    /* The server of the last request did nothing wrong, and is not passed over as one that refused is. */
    session_leave_target(s);
    return step_event(s, (struct pair_input){.event = PAIR_EVENT_ATTACH,
                                             .servers_left = targets > 0 ? (uint32_t)targets - 1 : 0});
}

int attachment_take(struct session *s, uint32_t events)
{
    struct poller_source *source = &s->legs[LEG_BACKEND].source;
    int fd = may_take_used(s) ? pool_take(&s->target->pool, events, source) : -1;
    if (fd >= 0) {
        s->exchange->fresh = false;
        s->exchange->leg = EXCHANGE_LEG_POOLED;
    }
    return fd;
}

bool attachment_may_be_shared(const struct session *s)
{
    const struct exchange *x = s->exchange;
    return attachment_reuses(s) && x->keep_backend && !x->pinned_to_client && s->pair.phase == PAIR_OPEN &&
           !s->pair.draining;
}

enum step attachment_share(struct session *s)
{
    struct relay_leg *leg = session_leg(s, LEG_BACKEND);
    if (attachment_watch(s) == STEP_ENDED)
        return STEP_ENDED;
    if (!exchange_has_backend(s))
        return STEP_AGAIN;
    pool_put(&s->target->pool, leg->fd, grace_ms(s));
    give_away(s);
    return detached(s, LEG_END_POOLED);
}

void attachment_retire_leg(struct session *s)
{
    retire_begin(s->shared, session_leg(s, LEG_BACKEND)->fd, grace_ms(s));
    give_away(s);
}

enum step attachment_retire(struct session *s)
{
    attachment_retire_leg(s);
    return detached(s, LEG_END_FIN);
}

enum step attachment_watch(struct session *s)
{
    size_t got;
    switch (relay_read(session_leg(s, LEG_BACKEND), s->shared->tools.scratch, RELAY_SCRATCH, &got)) {
    case RELAY_FIN:
        return detached(s, LEG_END_FIN);
    case RELAY_SOURCE_GONE:
        return detached(s, LEG_END_RESET);
    case RELAY_MORE:
        return attachment_retire(s);
    default:
        return STEP_BLOCKED;
    }
}

enum step attachment_ended(struct session *s, enum leg_end end)
{
    struct exchange *x = s->exchange;
    struct http *http = &x->http[HALF_RESPONSE];
    if (end == LEG_END_FIN && http_may_end(http)) {
        pair_note_fin(&s->pair, LEG_BACKEND);
        http->state = HTTP_COMPLETE;
        return STEP_AGAIN;
    }
    if (s->pair.stage == PAIR_STAGE_ANSWERED)
        return end == LEG_END_FIN
                   ? step_event(s, (struct pair_input){.event = PAIR_EVENT_CUT, .framed = x->framed})
                   : step_after(session_step_gone(s, LEG_BACKEND));
    bool untouched = http_untouched(http);
    bool again = x->repeatable && !x->fresh && untouched;
    if (detached(s, end) == STEP_ENDED)
        return STEP_ENDED;
    x->again = again;
    if (again)
        return attachment_begin(s);
    enum reason reason = end != LEG_END_FIN ? REASON_BACKEND_RESET
                         : untouched        ? REASON_NO_RESPONSE
                                            : REASON_RESPONSE_CUT;
    return refusal_begin(s, reason, 0);
}
