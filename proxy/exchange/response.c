#include "proxy/exchange/response.h"

#include "proxy/exchange/attachment.h"
#include "proxy/exchange/exchange.h"
#include "proxy/exchange/refusal.h"
#include "proxy/http/head.h"
#include "proxy/session/session.h"

#include <assert.h>
#include <stdlib.h>

static enum step bad_response(struct session *s, enum rule rule)
{
    s->exchange->why = (uint8_t)rule;
    if (s->pair.stage == PAIR_STAGE_ANSWERED)
        return step_abort(s, REASON_BAD_RESPONSE);
    return refusal_begin(s, REASON_BAD_RESPONSE, 0);
}

/* From here on the session carries bytes: what the client sent ahead goes first. */
static enum step begin_tunnel(struct session *s)
{
    struct exchange *x = s->exchange;
    exchange_report(s);
    exchange_forget_head(x);
    for (enum half half = 0; half < HALF_COUNT; half++) {
        s->relays[half].limit_bytes = RELAY_UNLIMITED;
        s->relays[half].is_stream = true;
    }
    if (step_stage(s, PAIR_STAGE_BYTES) == STEP_ENDED)
        return STEP_ENDED;
    if (!x->ahead)
        return STEP_AGAIN;
    relay_adopt(&s->relays[HALF_REQUEST], x->ahead, x->ahead_offset, x->ahead_size);
    x->ahead = NULL;
    return step_after(session_step_half(s, PAIR_EVENT_HELD, HALF_REQUEST));
}

/* The client's connection goes on if everybody knows where the response ends, and nothing is against it. */
static bool goes_on(const struct session *s, const struct message *response)
{
    return s->exchange->keep_client && response->framing != MESSAGE_UNTIL_CLOSE && !response->unwrap &&
           exchange_request_is_whole(s) && !s->pair.draining && s->pair.phase == PAIR_OPEN;
}

/* Writes the head, and with it the bytes behind it. */
static enum step write_response(struct session *s, const struct message *response, char *bytes, size_t size)
{
    struct exchange *x = s->exchange;
    enum head_connection connection = x->keep_client ? HEAD_KEEP : HEAD_CLOSE;
    uint64_t moved = 0;
    size_t space = x->http[HALF_RESPONSE].head_size + HEAD_ADDED_MAX;
    char *head = malloc(space);
    if (!head)
        return step_abort(s, REASON_NO_MEMORY);
    size_t head_size =
        head_write_response(head, space, response, x->asked.minor, s->frontend->conf->http.via, connection);
    assert(head_size > 0);
    struct iovec parts[] = {{.iov_base = head, .iov_len = head_size}, {.iov_base = bytes, .iov_len = size}};
    enum relay_event event =
        relay_write(&s->relays[HALF_RESPONSE], session_leg(s, LEG_CLIENT), parts, 2, &moved);
    free(head);
    step_progress(s, HALF_RESPONSE, moved);
    return step_written(s, HALF_RESPONSE, event);
}

/* Whether a request may get one more: who only ever says that the answer is still to come would keep a
 * session alive for ever. */
static bool may_be_interim(const struct session *s, size_t size)
{
    const struct exchange *x = s->exchange;
    uint64_t bytes_max = (uint64_t)EXCHANGE_INTERIM_HEADS * s->frontend->conf->http.max_head;
    return x->interims < EXCHANGE_INTERIMS_MAX && x->interim_bytes + size <= bytes_max;
}

/* 1xx: goes on at once, and another head follows. HTTP/1.0 does not know it. */
static enum step pass_interim(struct session *s, const struct message *response)
{
    struct http *http = &s->exchange->http[HALF_RESPONSE];
    if (!may_be_interim(s, http->head_size))
        return bad_response(s, RULE_INTERIMS);
    s->exchange->interims++;
    s->exchange->interim_bytes += http->head_size;
    s->exchange->repeatable = false; /* the backend is at work on it */
    enum step step = s->exchange->asked.minor > 0 ? write_response(s, response, NULL, 0) : STEP_AGAIN;
    if (step != STEP_ENDED)
        http_begin(http, HTTP_RESPONSE);
    return step;
}

/* The final answer's head, and bytes behind it: *used of them belong to the response, or to the tunnel.
 * Nothing goes to the client before the framing of all that was read is known to be good. */
static enum step begin_response(struct session *s, char *bytes, size_t size, size_t *used)
{
    struct exchange *x = s->exchange;
    struct http *http = &x->http[HALF_RESPONSE];
    struct message_limits limits = exchange_limits(s);
    struct message response;
    size_t kept = size;
    *used = 0;
    int status = http_parse_response(http, &response, &limits, &x->asked);
    if (status < 0)
        return bad_response(s, http_broken(status));
    bool tunnel = response.status == 101 || (x->asked.connect && response.status / 100 == 2);
    if (response.status < 200 && !tunnel)
        return pass_interim(s, &response);
    if (tunnel)
        *used = size;
    else if ((status = http_follow(http, bytes, size, used, &kept)) < 0)
        return bad_response(s, http_broken(status));
    x->status = response.status;
    x->keep_backend = response.keep_alive && exchange_request_is_whole(s) && *used == size;
    x->pinned_to_client = x->pinned_to_client || message_binds(&response) || response.bodyless;
    x->framed = response.framing != MESSAGE_UNTIL_CLOSE && !response.unwrap;
    x->keep_client = goes_on(s, &response);
    if (step_answered(s, message_streams(&response)) == STEP_ENDED)
        return STEP_ENDED;
    enum step step = write_response(s, &response, bytes, kept);
    if (step == STEP_ENDED || !exchange_follows(s))
        return step;
    http_release_head(http);
    exchange_forget_head(x);
    return tunnel ? begin_tunnel(s) : step;
}

static enum step read_response_head(struct session *s, uint64_t *budget)
{
    struct http *http = &s->exchange->http[HALF_RESPONSE];
    struct message_limits limits = exchange_limits(s);
    char *bytes = s->shared->tools.scratch;
    size_t size, used;
    enum relay_event event = relay_read(session_leg(s, LEG_BACKEND), bytes, RELAY_SCRATCH, &size);
    if (event != RELAY_MORE)
        return step_relay(s, HALF_RESPONSE, event);
    step_charge(budget, size);
    while (size > 0) {
        int status = http_collect(http, &limits, bytes, size, &used);
        bytes += used;
        size -= used;
        if (status == HTTP_MORE)
            return STEP_AGAIN;
        enum step step =
            status < 0 ? bad_response(s, http_broken(status)) : begin_response(s, bytes, size, &used);
        /* Behind an interim response there may be the next head; behind a bad one nothing is looked at. */
        if (step == STEP_ENDED || !exchange_follows(s) || s->pair.stage == PAIR_STAGE_REFUSED ||
            http->state != HTTP_IN_HEAD)
            return step;
    }
    return STEP_AGAIN;
}

static enum step relay_response_chunks(struct session *s, uint64_t *budget)
{
    struct relay_leg *sink = session_leg(s, LEG_CLIENT);
    char *scratch = s->shared->tools.scratch;
    size_t size, used, kept;
    uint64_t moved = 0;
    if (!sink->writable || sink->broken)
        return sink->broken ? step_after(session_step_gone(s, LEG_CLIENT)) : STEP_BLOCKED;
    enum relay_event event = relay_read(session_leg(s, LEG_BACKEND), scratch, RELAY_SCRATCH, &size);
    if (event != RELAY_MORE)
        return step_relay(s, HALF_RESPONSE, event);
    step_charge(budget, size);
    int status = http_follow(&s->exchange->http[HALF_RESPONSE], scratch, size, &used, &kept);
    if (status < 0)
        return bad_response(s, http_broken(status));
    if (used < size)
        s->exchange->keep_backend = false;
    struct iovec part = {.iov_base = scratch, .iov_len = kept};
    event = relay_write(&s->relays[HALF_RESPONSE], sink, &part, 1, &moved);
    step_progress(s, HALF_RESPONSE, moved);
    return step_written(s, HALF_RESPONSE, event);
}

/* The last byte of the response has been taken: the session ends here, or waits for the next request. */
static enum step response_went(struct session *s)
{
    struct exchange *x = s->exchange;
    exchange_report(s);
    x->status = 0;
    bool last = !x->keep_client || s->pair.draining || s->pair.phase == PAIR_ENDING;
    if (last && !attachment_may_be_shared(s))
        return step_complete(s);
    x->fresh = false;
    http_begin(&x->http[HALF_REQUEST], HTTP_REQUEST);
    http_begin(&x->http[HALF_RESPONSE], HTTP_RESPONSE);
    for (enum half half = 0; half < HALF_COUNT; half++)
        relay_free(&s->relays[half], &s->shared->tools);
    enum step step = step_stage(s, PAIR_STAGE_BETWEEN);
    if (step != STEP_ENDED && !x->keep_backend)
        step = attachment_retire(s);
    if (step != STEP_ENDED && last)
        step = attachment_share(s);
    return step != STEP_ENDED && last ? step_complete(s) : step;
}

static enum step pass_response(struct session *s, uint64_t *budget)
{
    const struct http *http = &s->exchange->http[HALF_RESPONSE];
    if (!exchange_has_backend(s))
        return STEP_BLOCKED;
    if (relay_holds(&s->relays[HALF_RESPONSE]))
        return exchange_relay_unseen(s, HALF_RESPONSE, budget);
    switch ((enum http_state)http->state) {
    case HTTP_IN_HEAD:
        return read_response_head(s, budget);
    case HTTP_COMPLETE:
        return response_went(s);
    case HTTP_IN_BODY:
        break;
    }
    return http->framing == MESSAGE_CHUNKED ? relay_response_chunks(s, budget)
                                            : exchange_relay_unseen(s, HALF_RESPONSE, budget);
}

enum step response_work(struct session *s, uint64_t *budget)
{
    switch ((enum pair_stage)s->pair.stage) {
    case PAIR_STAGE_BETWEEN:
    case PAIR_STAGE_HEAD:
        return exchange_has_backend(s) ? attachment_watch(s) : STEP_BLOCKED;
    case PAIR_STAGE_BODY:
    case PAIR_STAGE_RESPONSE:
    case PAIR_STAGE_ANSWERED:
        return pass_response(s, budget);
    case PAIR_STAGE_REFUSED:
        return refusal_work(s, budget);
    default:
        return STEP_BLOCKED;
    }
}
