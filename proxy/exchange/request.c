#include "proxy/exchange/request.h"

#include "proxy/exchange/attachment.h"
#include "proxy/exchange/exchange.h"
#include "proxy/exchange/origin.h"
#include "proxy/exchange/refusal.h"
#include "proxy/http/answer.h"
#include "proxy/http/head.h"
#include "proxy/session/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The method, the path and the request id, each with an end. A query may hold what nobody wants in a log. */
static char *log_text(const struct message *request, struct message_text id)
{
    struct message_text parts[] = {request->method, request->target, id};
    const char *query = memchr(request->target.at, '?', request->target.size);
    if (query)
        parts[1].size = (size_t)(query - request->target.at);
    char *text = malloc(parts[0].size + parts[1].size + parts[2].size + 3);
    char *at = text;
    for (size_t i = 0; text && i < sizeof parts / sizeof parts[0]; i++) {
        at = mempcpy(at, parts[i].size > 0 ? parts[i].at : "", parts[i].size);
        *at++ = '\0';
    }
    return text;
}

/* What was read beyond what could be used waits. */
static bool keep_ahead(struct exchange *x, const char *bytes, size_t size)
{
    if (size == 0)
        return true;
    assert(!x->ahead);
    x->ahead = malloc(size);
    if (!x->ahead)
        return false;
    memcpy(x->ahead, bytes, size);
    x->ahead_offset = 0;
    x->ahead_size = (uint32_t)size;
    return true;
}

static void use_ahead(struct exchange *x, size_t used)
{
    x->ahead_offset += (uint32_t)used;
    if (x->ahead_offset < x->ahead_size)
        return;
    free(x->ahead);
    x->ahead = NULL;
    x->ahead_offset = x->ahead_size = 0;
}

/* The head as it goes on. False: out of memory. */
static bool rewrite_request(struct session *s, const struct message *request,
                            const struct head_origin *origin)
{
    struct exchange *x = s->exchange;
    bool keep = (request->keep_alive || attachment_reuses(s)) && !s->pair.draining;
    size_t space = x->http[HALF_REQUEST].head_size + HEAD_ADDED_MAX;
    assert(!x->head);
    x->head = malloc(space);
    if (!x->head)
        return false;
    size_t size = head_write_request(x->head, space, request, origin, keep ? HEAD_KEEP : HEAD_CLOSE);
    assert(size > 0);
    char *fitted = realloc(x->head, size);
    x->head = fitted ? fitted : x->head;
    x->head_size = (uint32_t)size;
    return true;
}

static void note_request(struct session *s, const struct message *request, const struct head_origin *origin)
{
    struct exchange *x = s->exchange;
    x->asked = (struct message_asked){.head = request->is_head,
                                      .connect = request->is_connect,
                                      .upgrade = request->upgrade,
                                      .minor = request->minor};
    x->format = (uint8_t)answer_format(request);
    x->pinned_to_client = (x->pinned_to_client && exchange_has_backend(s)) || message_binds(request);
    x->leg = EXCHANGE_LEG_NONE;
    x->again = false;
    x->repeatable = request->idempotent && request->framing == MESSAGE_NO_BODY && !request->upgrade;
    x->keep_client = request->keep_alive;
    x->line = log_text(request, head_request_id(request, origin));
    x->status = 0;
    x->looked_for_client = false;
    x->framed = false;
    x->interims = 0;
    x->interim_bytes = 0;
}

static bool may_upgrade(struct message_text token, const void *context)
{
    const struct conf_http *http = context;
    for (size_t i = 0; i < http->upgrade_count; i++)
        if (message_text_is(token, http->upgrades[i]))
            return true;
    return false;
}

static enum step begin_request(struct session *s)
{
    struct exchange *x = s->exchange;
    struct http *http = &x->http[HALF_REQUEST];
    struct message_limits limits = exchange_limits(s);
    struct message request;
    struct head_origin origin;
    struct origin_text text;
    int status = http_parse_request(http, &request, &limits);
    if (status)
        return refusal_of_request(s, http_broken(status));
    message_forgo_upgrades(&request, may_upgrade, &s->frontend->conf->http);
    origin_of(&origin, &text, &s->client, s->frontend->conf, s->shared->random);
    origin.trusted = origin.trusted && !s->unnamed;
    note_request(s, &request, &origin);
    if (s->place == PLACE_SURPLUS)
        return refusal_begin(s, limit_is_full(s->shared->limit) ? REASON_NO_DESCRIPTORS : REASON_LIMIT, 0);
    if (!rewrite_request(s, &request, &origin))
        return refusal_of_request(s, RULE_NO_MEMORY);
    http_release_head(http);
    http_begin(&x->http[HALF_RESPONSE], HTTP_RESPONSE);
    x->head_sent = false;
    if (attachment_choose(s) == STEP_ENDED)
        return STEP_ENDED;
    bool whole = http->state == HTTP_COMPLETE;
    if (step_stage(s, whole ? PAIR_STAGE_RESPONSE : PAIR_STAGE_BODY) == STEP_ENDED)
        return STEP_ENDED;
    if (!exchange_has_backend(s))
        return attachment_begin(s);
    x->leg = EXCHANGE_LEG_KEPT;
    return STEP_AGAIN;
}

static enum step take_head(struct session *s, const char *bytes, size_t size, size_t *used)
{
    struct http *http = &s->exchange->http[HALF_REQUEST];
    struct message_limits limits = exchange_limits(s);
    *used = 0;
    if (http_untouched(http)) {
        s->exchange->began_ms = loop_now_ms(&s->shared->loop);
        s->exchange->whole_ms = 0;
        s->exchange->asked = (struct message_asked){0};
        s->exchange->why = RULE_NONE;
    }
    if (s->pair.stage == PAIR_STAGE_BETWEEN && step_stage(s, PAIR_STAGE_HEAD) == STEP_ENDED)
        return STEP_ENDED;
    int status = http_collect(http, &limits, bytes, size, used);
    if (status < 0)
        return refusal_of_request(s, http_broken(status));
    return status == HTTP_DONE ? STEP_AGAIN : STEP_BLOCKED;
}

/* The head of the next request, from what was read ahead or from the client. */
static enum step read_request_head(struct session *s, uint64_t *budget)
{
    struct exchange *x = s->exchange;
    char *scratch = s->shared->tools.scratch;
    size_t size = 0, used;
    enum step step;
    if (x->ahead) {
        step = take_head(s, x->ahead + x->ahead_offset, x->ahead_size - x->ahead_offset, &used);
        use_ahead(x, used);
        step_charge(budget, used);
        if (step == STEP_BLOCKED)
            return STEP_AGAIN; /* all of it was used */
    } else {
        enum relay_event event = relay_read(session_leg(s, LEG_CLIENT), scratch, RELAY_SCRATCH, &size);
        /* Until the client has asked, others may. */
        if (event == RELAY_BLOCKED && attachment_may_be_shared(s))
            return attachment_share(s);
        if (event != RELAY_MORE)
            return step_relay(s, HALF_REQUEST, event);
        step_charge(budget, size);
        step = take_head(s, scratch, size, &used);
        if (step == STEP_BLOCKED)
            return STEP_AGAIN;
        if (step == STEP_AGAIN && s->pair.stage == PAIR_STAGE_HEAD &&
            !keep_ahead(x, scratch + used, size - used))
            return refusal_of_request(s, RULE_NO_MEMORY);
    }
    return step == STEP_AGAIN && s->pair.stage == PAIR_STAGE_HEAD ? begin_request(s) : step;
}

/* A chunk's framing is broken. A backend that has part of the request is reset, one that has nothing of it
 * is retired. */
static enum step bad_body(struct session *s, enum rule rule)
{
    s->exchange->why = (uint8_t)rule;
    if (s->pair.stage == PAIR_STAGE_ANSWERED)
        return step_abort(s, REASON_BAD_REQUEST);
    if (!s->exchange->head_sent && attachment_retire(s) == STEP_ENDED)
        return STEP_ENDED;
    return refusal_of_request(s, rule);
}

/* Writes bytes of the body that were read ahead, behind the head if that has not gone yet. */
static enum step write_ahead(struct session *s, uint64_t *budget)
{
    struct exchange *x = s->exchange;
    struct iovec parts[2];
    int count = 0;
    size_t used = 0, kept;
    uint64_t moved = 0;
    if (!x->head_sent)
        parts[count++] = (struct iovec){.iov_base = x->head, .iov_len = x->head_size};
    if (x->ahead && x->http[HALF_REQUEST].state == HTTP_IN_BODY) {
        char *bytes = x->ahead + x->ahead_offset;
        int status =
            http_follow(&x->http[HALF_REQUEST], bytes, x->ahead_size - x->ahead_offset, &used, &kept);
        if (status < 0)
            return bad_body(s, http_broken(status));
        parts[count++] = (struct iovec){.iov_base = bytes, .iov_len = kept};
    }
    enum relay_event event =
        relay_write(&s->relays[HALF_REQUEST], session_leg(s, LEG_BACKEND), parts, count, &moved);
    x->head_sent = true;
    if (!x->repeatable || x->fresh)
        exchange_forget_head(x);
    use_ahead(x, used);
    step_progress(s, HALF_REQUEST, moved);
    step_charge(budget, moved);
    return step_written(s, HALF_REQUEST, event);
}

/* One read of a body that has to be looked at. */
static enum step relay_request_chunks(struct session *s, uint64_t *budget)
{
    struct exchange *x = s->exchange;
    struct relay_leg *sink = session_leg(s, LEG_BACKEND);
    char *scratch = s->shared->tools.scratch;
    size_t size, used, kept;
    uint64_t moved = 0;
    if (!sink->writable || sink->broken)
        return STEP_BLOCKED;
    enum relay_event event = relay_read(session_leg(s, LEG_CLIENT), scratch, RELAY_SCRATCH, &size);
    if (event != RELAY_MORE)
        return step_relay(s, HALF_REQUEST, event);
    step_charge(budget, size);
    int status = http_follow(&x->http[HALF_REQUEST], scratch, size, &used, &kept);
    if (status < 0)
        return bad_body(s, http_broken(status));
    if (!keep_ahead(x, scratch + used, size - used))
        return step_abort(s, REASON_NO_MEMORY);
    struct iovec part = {.iov_base = scratch, .iov_len = kept};
    event = relay_write(&s->relays[HALF_REQUEST], sink, &part, 1, &moved);
    step_progress(s, HALF_REQUEST, moved);
    return step_written(s, HALF_REQUEST, event);
}

/* The request has gone; the client is only watched for whether it is still there. */
static enum step request_went(struct session *s)
{
    if (s->exchange->whole_ms == 0)
        s->exchange->whole_ms = loop_now_ms(&s->shared->loop);
    if (session_leg(s, LEG_CLIENT)->broken)
        return step_after(session_step_gone(s, LEG_CLIENT));
    if (s->pair.stage == PAIR_STAGE_BODY)
        return step_stage(s, PAIR_STAGE_RESPONSE);
    /* Once, when its FIN comes: from then on the session looks by itself, if there is anything to see. */
    if (s->exchange->looked_for_client || !exchange_awaits(s))
        return STEP_BLOCKED;
    s->exchange->looked_for_client = true;
    session_look_for_client(s);
    return exchange_follows(s) ? STEP_BLOCKED : STEP_AGAIN;
}

static enum step send_request(struct session *s, uint64_t *budget)
{
    struct exchange *x = s->exchange;
    const struct http *http = &x->http[HALF_REQUEST];
    if (!exchange_has_backend(s))
        return STEP_BLOCKED;
    if (relay_holds(&s->relays[HALF_REQUEST]))
        return exchange_relay_unseen(s, HALF_REQUEST, budget);
    if (session_leg(s, LEG_BACKEND)->broken)
        return session_leg(s, LEG_CLIENT)->broken ? step_after(session_step_gone(s, LEG_CLIENT))
                                                  : STEP_BLOCKED;
    if (!x->head_sent || (x->ahead && http->state == HTTP_IN_BODY))
        return write_ahead(s, budget);
    if (http->state == HTTP_COMPLETE)
        return request_went(s);
    return http->framing == MESSAGE_CHUNKED ? relay_request_chunks(s, budget)
                                            : exchange_relay_unseen(s, HALF_REQUEST, budget);
}

enum step request_work(struct session *s, uint64_t *budget)
{
    switch ((enum pair_stage)s->pair.stage) {
    case PAIR_STAGE_BETWEEN:
    case PAIR_STAGE_HEAD:
        return read_request_head(s, budget);
    case PAIR_STAGE_BODY:
    case PAIR_STAGE_RESPONSE:
    case PAIR_STAGE_ANSWERED:
        return send_request(s, budget);
    default:
        return STEP_BLOCKED;
    }
}

enum step request_ended(struct session *s)
{
    struct exchange *x = s->exchange;
    pair_note_fin(&s->pair, LEG_CLIENT);
    if (s->pair.stage != PAIR_STAGE_BETWEEN && s->pair.stage != PAIR_STAGE_HEAD)
        return step_abort(s, REASON_REQUEST_CUT);
    if (!http_untouched(&x->http[HALF_REQUEST]))
        return refusal_begin(s, REASON_REQUEST_CUT, 0);
    if (attachment_may_be_shared(s) && attachment_share(s) == STEP_ENDED)
        return STEP_ENDED;
    return step_complete(s);
}
