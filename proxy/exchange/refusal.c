#include "proxy/exchange/refusal.h"

#include "proxy/exchange/exchange.h"
#include "proxy/http/answer.h"
#include "proxy/session/session.h"

#include <time.h>

static int status_for(enum reason reason)
{
    switch (reason) {
    case REASON_REQUEST_CUT:
        return 400;
    case REASON_REQUEST_HEAD:
    case REASON_REQUEST_BODY:
        return 408;
    case REASON_CONNECT:
    case REASON_RESPONSE:
        return 504;
    case REASON_LIMIT:
    case REASON_NO_DESCRIPTORS:
    case REASON_NO_PORTS:
    case REASON_NO_MEMORY:
    case REASON_DRAIN:
        return 503;
    default:
        return 502;
    }
}

enum step refusal_begin(struct session *s, enum reason reason, int status)
{
    s->exchange->status = (uint16_t)status;
    return step_event(s, (struct pair_input){.event = PAIR_EVENT_REFUSE, .reason = reason});
}

enum step refusal_of_request(struct session *s, enum rule rule)
{
    s->exchange->why = (uint8_t)rule;
    return refusal_begin(s, rule == RULE_NO_MEMORY ? REASON_NO_MEMORY : REASON_BAD_REQUEST,
                         rule_status(rule));
}

static enum step write_answer(struct session *s)
{
    struct exchange *x = s->exchange;
    char text[ANSWER_SIZE];
    struct iovec parts[ANSWER_PARTS];
    uint64_t moved = 0;
    const struct answer_choice choice = {.status = x->status,
                                         .format = (enum answer_format)x->format,
                                         .head_only = x->asked.head,
                                         .http = &s->frontend->conf->http};
    int count = answer_write(&choice, time(NULL), text, parts);
    enum relay_event event =
        relay_write(&s->relays[HALF_RESPONSE], session_leg(s, LEG_CLIENT), parts, count, &moved);
    if (moved > 0)
        pair_progress(&s->pair, HALF_RESPONSE, moved, loop_now_ms(&s->shared->loop));
    switch (event) {
    case RELAY_HELD:
        return step_after(session_step_half(s, PAIR_EVENT_HELD, HALF_RESPONSE));
    case RELAY_SINK_GONE:
        return step_after(session_step_gone(s, LEG_CLIENT));
    case RELAY_NO_MEMORY:
        return step_abort(s, REASON_NO_MEMORY);
    default:
        return relay_holds(&s->relays[HALF_RESPONSE]) ? STEP_BLOCKED : step_complete(s);
    }
}

enum step refusal_work(struct session *s, uint64_t *budget)
{
    if (s->wants_answer) /* refused just now: refusal_answer() is still to come */
        return STEP_BLOCKED;
    if (relay_holds(&s->relays[HALF_RESPONSE]))
        return exchange_relay_unseen(s, HALF_RESPONSE, budget);
    return step_complete(s);
}

bool refusal_answer(struct session *s)
{
    struct exchange *x = s->exchange;
    if (x->status == 0)
        x->status = (uint16_t)status_for((enum reason)s->pair.cause);
    if (!x->line && http_untouched(&x->http[HALF_REQUEST]))
        return step_complete(s) != STEP_ENDED; /* nobody has asked for anything */
    exchange_report(s);
    return write_answer(s) != STEP_ENDED;
}
