#include "proxy/exchange/mode.h"

#include "proxy/exchange/attachment.h"
#include "proxy/exchange/exchange.h"
#include "proxy/exchange/refusal.h"
#include "proxy/exchange/request.h"
#include "proxy/exchange/response.h"
#include "proxy/session/bytes.h"
#include "proxy/session/session.h"

#include <stdlib.h>

/* A request is needed before there is anything to connect for. */
static pair_actions begin(struct session *s)
{
    struct exchange *x = s->exchange;
    http_begin(&x->http[HALF_REQUEST], HTTP_REQUEST);
    http_begin(&x->http[HALF_RESPONSE], HTTP_RESPONSE);
    x->keep_client = true;
    for (enum half half = 0; half < HALF_COUNT; half++)
        s->relays[half] = (struct relay){.limit_bytes = RELAY_UNLIMITED};
    pair_init_messages(&s->pair, &s->frontend->conf->deadlines, loop_now_ms(&s->shared->loop));
    return 0;
}

/* What a step costs beside its bytes: a session's share of a pass bounds its steps too. */
enum { STEP_BYTES = 1024 };

static bool work(struct session *s, enum half half, uint64_t *budget, bool *again)
{
    if (!exchange_follows(s))
        return bytes_work(s, half, budget, again);
    while (exchange_follows(s)) {
        if (*budget == 0) {
            loop_put_off(&s->shared->loop, &s->task);
            return true;
        }
        enum step step = half == HALF_REQUEST ? request_work(s, budget) : response_work(s, budget);
        if (step == STEP_ENDED)
            return false;
        if (step == STEP_BLOCKED)
            return true;
        if (step == STEP_OTHER)
            break;
        step_charge(budget, STEP_BYTES);
        *again = true; /* a stage of one half's concerns the other */
    }
    *again = true;
    return true;
}

static enum step ended(struct session *s, enum half half, enum relay_event event)
{
    if (!exchange_follows(s))
        return bytes_ended(s, half, event);
    switch (event) {
    case RELAY_FIN:
        return half == HALF_REQUEST ? request_ended(s) : attachment_ended(s, LEG_END_FIN);
    case RELAY_SOURCE_GONE:
        return half == HALF_REQUEST ? step_after(session_step_gone(s, LEG_CLIENT))
                                    : attachment_ended(s, LEG_END_RESET);
    default: /* what a backend said before it broke off is found by the other half */
        return half == HALF_REQUEST ? STEP_BLOCKED : step_after(session_step_gone(s, LEG_CLIENT));
    }
}

static void log_requests(const struct session *s, struct line *line)
{
    line_number(line, "requests", s->exchange->requests);
}

/* Logs what was under way and gives the memory back. */
static void end(struct session *s)
{
    struct exchange *x = s->exchange;
    if (x->line)
        exchange_report(s);
    for (enum half half = 0; half < HALF_COUNT; half++)
        http_release_head(&x->http[half]);
    exchange_forget_head(x);
    free(x->ahead);
    x->ahead = NULL;
}

const struct protocol mode_http = {.size = sizeof(struct exchange),
                                   .begin = begin,
                                   .work = work,
                                   .ended = ended,
                                   .answer = refusal_answer,
                                   .take_leg = attachment_take,
                                   .retire_leg = attachment_retire_leg,
                                   .awaits = exchange_awaits,
                                   .log = log_requests,
                                   .end = end};
