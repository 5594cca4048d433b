#include "proxy/plane/exchange.h"

#include "proxy/plane/answer.h"
#include "proxy/plane/head.h"
#include "proxy/plane/parting.h"
#include "proxy/plane/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What came of working on a half. */
enum turn {
    TURN_BLOCKED, /* until the next edge */
    TURN_AGAIN,   /* there may be more to do */
    TURN_ENDED,   /* the session is over */
};

static enum turn after(bool alive)
{
    return alive ? TURN_AGAIN : TURN_ENDED;
}

static enum turn step(struct session *s, struct pair_input input)
{
    return after(session_step(s, input));
}

static enum turn enter_stage(struct session *s, enum pair_stage stage)
{
    return step(s, (struct pair_input){.event = PAIR_EVENT_STAGE, .stage = stage});
}

static enum turn abort_session(struct session *s, enum reason reason)
{
    return step(s, (struct pair_input){.event = PAIR_EVENT_ABORT, .reason = reason});
}

static bool has_backend(const struct session *s)
{
    return s->pair.phase == PAIR_OPEN || s->pair.phase == PAIR_ENDING;
}

bool exchange_follows(const struct session *s)
{
    return s->exchange && s->pair.stage != PAIR_STAGE_BYTES &&
           (s->pair.phase == PAIR_WAITING || s->pair.phase == PAIR_CONNECTING || has_backend(s));
}

bool exchange_awaits(struct session *s)
{
    char byte;
    if (!exchange_follows(s) || s->pair.stage != PAIR_STAGE_RESPONSE ||
        s->pair.deadlines->verify == VERIFY_OFF)
        return false;
    return recv(session_leg(s, LEG_CLIENT)->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static struct message_limits limits_of(const struct session *s)
{
    const struct conf_http *http = &s->frontend->conf->http;
    return (struct message_limits){.head_bytes = (uint32_t)http->max_head,
                                   .line_bytes = (uint32_t)http->max_request_line,
                                   .fields = (uint32_t)http->max_fields};
}

static void progress(struct session *s, enum half half, uint64_t moved, uint64_t *budget)
{
    if (moved > 0)
        pair_progress(&s->pair, half, moved, worker_now_ms(s->worker));
    *budget -= moved < *budget ? moved : *budget;
}

static bool request_is_whole(const struct session *s)
{
    return s->exchange->http[HALF_REQUEST].state == HTTP_COMPLETE && s->exchange->head_sent &&
           !relay_holds(&s->relays[HALF_REQUEST]);
}

/* ---- the log ---- */

/* The method and the path: a query may hold what nobody wants in a log. */
static char *log_text(const struct message *request)
{
    struct message_text path = request->target;
    const char *query = memchr(path.at, '?', path.size);
    if (query)
        path.size = (size_t)(query - path.at);
    char *text = malloc(request->method.size + path.size + 2);
    if (!text)
        return NULL;
    memcpy(text, request->method.at, request->method.size);
    text[request->method.size] = '\0';
    memcpy(text + request->method.size + 1, path.at, path.size);
    text[request->method.size + 1 + path.size] = '\0';
    return text;
}

static void log_request(struct session *s)
{
    const struct exchange *x = s->exchange;
    struct log_ring *log = s->worker->log;
    uint64_t now_ms = worker_now_ms(s->worker);
    uint64_t whole_ms = x->whole_ms ? x->whole_ms : now_ms;
    char client[SOCKET_TEXT];
    struct line line;
    if (!log_wants(log, CONF_LOG_INFO))
        return;
    line_begin(&line, log_format(log), CONF_LOG_INFO, "request");
    line_number(&line, "id", s->id);
    line_text(&line, "frontend", s->frontend->conf->name);
    line_text(&line, "client", socket_text(&s->client, client));
    line_text(&line, "backend", s->target ? s->target->text : "none");
    line_text(&line, "method", x->line ? x->line : "none");
    line_text(&line, "path", x->line ? x->line + strlen(x->line) + 1 : "none");
    line_number(&line, "status", x->status);
    if (s->pair.stage == PAIR_STAGE_REFUSED)
        line_text(&line, "answered_for", reason_name(s->pair.cause));
    line_number(&line, "request_ms", whole_ms - x->began_ms);
    line_number(&line, "response_ms", now_ms - whole_ms);
    log_line(log, line_end(&line));
}

/* An exchange is over: with the response's last byte, with an answer of ours, or with the session. */
static void report(struct session *s)
{
    struct exchange *x = s->exchange;
    unsigned class = x->status / 100;
    x->requests++;
    counter_add(&s->worker->counters.requests, 1);
    if (class < COUNTERS_STATUS_CLASSES)
        counter_add(&s->worker->counters.answers[class], 1);
    log_request(s);
    free(x->line);
    x->line = NULL;
}

/* ---- answers of our own ---- */

static int status_for(enum reason reason)
{
    switch (reason) {
    case REASON_REQUEST_HEAD:
    case REASON_REQUEST_BODY:
        return 408;
    case REASON_CONNECT:
    case REASON_RESPONSE:
        return 504;
    case REASON_NO_DESCRIPTORS:
    case REASON_NO_PORTS:
    case REASON_NO_MEMORY:
    case REASON_DRAIN:
        return 503;
    default:
        return 502;
    }
}

/* The request can't be passed on, or its answer can't: `status` 0: as the reason says. */
static enum turn refuse(struct session *s, enum reason reason, int status)
{
    s->exchange->status = (uint16_t)status;
    return step(s, (struct pair_input){.event = PAIR_EVENT_REFUSE, .reason = reason});
}

static enum turn refuse_request(struct session *s, int status)
{
    enum reason reason = status == 503   ? REASON_NO_MEMORY
                         : status == 408 ? REASON_REQUEST_CUT
                                         : REASON_BAD_REQUEST;
    return refuse(s, reason, status);
}

/* Nothing is outstanding. What the legs' edges said so far is looked at again: their FINs may be among it. */
static enum turn complete(struct session *s)
{
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        if (session_leg(s, leg)->fd >= 0)
            session_leg(s, leg)->readable = true;
    return step(s, (struct pair_input){.event = PAIR_EVENT_COMPLETE, .reason = REASON_CLOSED});
}

static enum turn write_answer(struct session *s)
{
    struct exchange *x = s->exchange;
    char text[ANSWER_SIZE];
    uint64_t moved = 0;
    size_t size = answer_write(text, x->status, (enum answer_format)x->format, x->asked.head, time(NULL));
    struct iovec part = {.iov_base = text, .iov_len = size};
    enum relay_event event =
        relay_write(&s->relays[HALF_RESPONSE], session_leg(s, LEG_CLIENT), &part, 1, &moved);
    if (moved > 0)
        pair_progress(&s->pair, HALF_RESPONSE, moved, worker_now_ms(s->worker));
    switch (event) {
    case RELAY_HELD:
        return after(session_step_half(s, PAIR_EVENT_HELD, HALF_RESPONSE));
    case RELAY_SINK_GONE:
        return after(session_step_gone(s, LEG_CLIENT));
    case RELAY_NO_MEMORY:
        return abort_session(s, REASON_NO_MEMORY);
    default:
        return relay_holds(&s->relays[HALF_RESPONSE]) ? TURN_BLOCKED : complete(s);
    }
}

void exchange_answer(struct session *s)
{
    struct exchange *x = s->exchange;
    enum turn turn;
    if (x->status == 0)
        x->status = (uint16_t)status_for((enum reason)s->pair.cause);
    if (!x->line && http_untouched(&x->http[HALF_REQUEST])) {
        turn = complete(s); /* nobody has asked for anything */
    } else {
        report(s);
        turn = write_answer(s);
    }
    if (turn != TURN_ENDED)
        worker_put_off(s->worker, &s->task);
}

/* ---- the backend leg ---- */

static enum turn attach(struct session *s)
{
    size_t targets = backend_targets(&s->worker->backends[s->frontend->conf->backend]);
    s->exchange->fresh = true;
    s->exchange->head_sent = false;
    /* The server of the last request did nothing wrong, and is not passed over as one that refused is. */
    if (s->target)
        backend_release(s->target);
    s->target = NULL;
    return step(s, (struct pair_input){.event = PAIR_EVENT_ATTACH,
                                       .servers_left = targets > 0 ? (uint32_t)targets - 1 : 0});
}

static enum turn left(struct session *s, enum leg_end end)
{
    return step(s, (struct pair_input){.event = PAIR_EVENT_LEFT, .end = end});
}

/* The client goes on, the backend leg does not. */
static enum turn part(struct session *s)
{
    struct relay_leg *leg = session_leg(s, LEG_BACKEND);
    parting_begin(s->worker, leg->fd, s->pair.deadlines->after_ms[DEADLINE_MESSAGE_GRACE]);
    relay_free(&s->relays[HALF_REQUEST], &s->worker->tools);
    leg->fd = -1;
    return left(s, LEG_END_FIN);
}

/* Between requests a backend has nothing to say: it may close, and is left when it says something. */
static enum turn watch_backend(struct session *s)
{
    size_t got;
    switch (relay_read(session_leg(s, LEG_BACKEND), s->worker->tools.scratch, RELAY_SCRATCH, &got)) {
    case RELAY_FIN:
        return left(s, LEG_END_FIN);
    case RELAY_SOURCE_GONE:
        return left(s, LEG_END_RESET);
    case RELAY_MORE:
        return part(s);
    default:
        return TURN_BLOCKED;
    }
}

/* The backend's bytes have ended, in order or not. */
static enum turn backend_ended(struct session *s, enum leg_end end)
{
    struct exchange *x = s->exchange;
    struct http *http = &x->http[HALF_RESPONSE];
    if (end == LEG_END_FIN && http_may_end(http)) {
        http->state = HTTP_COMPLETE;
        return TURN_AGAIN;
    }
    if (s->pair.stage == PAIR_STAGE_ANSWERED)
        return end == LEG_END_FIN ? step(s, (struct pair_input){.event = PAIR_EVENT_CUT})
                                  : after(session_step_gone(s, LEG_BACKEND));
    bool again = x->repeatable && !x->fresh && http_untouched(http);
    if (left(s, end) == TURN_ENDED)
        return TURN_ENDED;
    return again ? attach(s) : refuse(s, end == LEG_END_FIN ? REASON_NO_RESPONSE : REASON_BACKEND_RESET, 0);
}

/* ---- what the relay says ---- */

static enum turn client_ended(struct session *s)
{
    struct exchange *x = s->exchange;
    if (s->pair.stage != PAIR_STAGE_BETWEEN && s->pair.stage != PAIR_STAGE_HEAD)
        return abort_session(s, REASON_REQUEST_CUT);
    return http_untouched(&x->http[HALF_REQUEST]) ? complete(s) : refuse_request(s, 408);
}

static enum turn on_relay(struct session *s, enum half half, enum relay_event event)
{
    switch (event) {
    case RELAY_BLOCKED:
        return TURN_BLOCKED;
    case RELAY_MORE:
        worker_put_off(s->worker, &s->task);
        return TURN_BLOCKED;
    case RELAY_HELD:
        return after(session_step_half(s, PAIR_EVENT_HELD, half));
    case RELAY_DRAINED:
        return after(session_step_half(s, PAIR_EVENT_DRAINED, half));
    case RELAY_FIN:
        return half == HALF_REQUEST ? client_ended(s) : backend_ended(s, LEG_END_FIN);
    case RELAY_SOURCE_GONE:
        return half == HALF_REQUEST ? after(session_step_gone(s, LEG_CLIENT))
                                    : backend_ended(s, LEG_END_RESET);
    case RELAY_SINK_GONE:
        /* What a backend said before it broke off is found by the other half. */
        return half == HALF_REQUEST ? TURN_BLOCKED : after(session_step_gone(s, LEG_CLIENT));
    case RELAY_NO_MEMORY:
        return abort_session(s, REASON_NO_MEMORY);
    case RELAY_DISCARDED:
        break;
    }
    assert(false && "an event of a half that relays");
    return TURN_BLOCKED;
}

/* The same after a write, of which RELAY_MORE says that it went well. */
static enum turn on_written(struct session *s, enum half half, enum relay_event event)
{
    return event == RELAY_MORE ? TURN_AGAIN : on_relay(s, half, event);
}

/* Flushes what is held, then relays as much of a body as needs no looking at. */
static enum turn relay_unseen(struct session *s, enum half half, uint64_t *budget)
{
    struct http *http = &s->exchange->http[half];
    struct relay *relay = &s->relays[half];
    uint64_t unseen = http_unseen(http);
    uint64_t moved = 0;
    relay->limit_bytes = unseen;
    enum relay_event event = relay_work(relay, &s->worker->tools, session_leg(s, half_source(half)),
                                        session_leg(s, half_sink(half)), unseen > 0, false, budget, &moved);
    if (unseen > 0)
        http_skip(http, unseen - relay->limit_bytes);
    progress(s, half, moved, budget);
    return unseen > 0 && http->state == HTTP_COMPLETE && event == RELAY_BLOCKED ? TURN_AGAIN
                                                                                : on_relay(s, half, event);
}

/* ---- requests ---- */

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

static void forget_head(struct exchange *x)
{
    free(x->head);
    x->head = NULL;
    x->head_size = 0;
}

/* The head as it goes on. False: out of memory. */
static bool rewrite_request(struct session *s, const struct message *request)
{
    struct exchange *x = s->exchange;
    struct head_origin origin;
    struct origin_text text;
    bool keep = request->keep_alive && !s->pair.draining;
    origin_of(&origin, &text, &s->client, s->frontend->conf, &s->worker->random);
    size_t space = x->http[HALF_REQUEST].head_size + HEAD_ADDED_MAX;
    assert(!x->head);
    x->head = malloc(space);
    if (!x->head)
        return false;
    size_t size = head_write_request(x->head, space, request, &origin, keep ? HEAD_KEEP : HEAD_CLOSE);
    assert(size > 0);
    char *fitted = realloc(x->head, size);
    x->head = fitted ? fitted : x->head;
    x->head_size = (uint32_t)size;
    return true;
}

static void note_request(struct exchange *x, const struct message *request)
{
    x->asked = (struct message_asked){.head = request->is_head,
                                      .connect = request->is_connect,
                                      .upgrade = request->upgrade,
                                      .minor = request->minor};
    x->format = (uint8_t)answer_format(request);
    x->repeatable = request->idempotent && request->framing == MESSAGE_NO_BODY && !request->upgrade;
    x->keep_client = request->keep_alive;
    x->line = log_text(request);
    x->status = 0;
    x->whole_ms = 0;
}

static enum turn begin_request(struct session *s)
{
    struct exchange *x = s->exchange;
    struct http *http = &x->http[HALF_REQUEST];
    struct message_limits limits = limits_of(s);
    struct message request;
    int status = http_parse_request(http, &request, &limits);
    if (status)
        return refuse_request(s, -status);
    note_request(x, &request);
    if (!rewrite_request(s, &request))
        return refuse_request(s, 503);
    http_release_head(http);
    http_begin(&x->http[HALF_RESPONSE], HTTP_RESPONSE);
    x->head_sent = false;
    bool whole = http->state == HTTP_COMPLETE;
    if (enter_stage(s, whole ? PAIR_STAGE_RESPONSE : PAIR_STAGE_BODY) == TURN_ENDED)
        return TURN_ENDED;
    /* What can't be sent twice is not sent to a backend that has closed. */
    if (has_backend(s) && !x->repeatable) {
        session_leg(s, LEG_BACKEND)->readable = true;
        if (watch_backend(s) == TURN_ENDED)
            return TURN_ENDED;
    }
    return has_backend(s) ? TURN_AGAIN : attach(s);
}

static enum turn take_head(struct session *s, const char *bytes, size_t size, size_t *used)
{
    struct http *http = &s->exchange->http[HALF_REQUEST];
    struct message_limits limits = limits_of(s);
    *used = 0;
    if (http_untouched(http)) {
        s->exchange->began_ms = worker_now_ms(s->worker);
        s->exchange->asked = (struct message_asked){0};
    }
    if (s->pair.stage == PAIR_STAGE_BETWEEN && enter_stage(s, PAIR_STAGE_HEAD) == TURN_ENDED)
        return TURN_ENDED;
    int status = http_collect(http, &limits, bytes, size, used);
    if (status < 0)
        return refuse_request(s, -status);
    return status == HTTP_DONE ? TURN_AGAIN : TURN_BLOCKED;
}

/* The head of the next request, from what was read ahead or from the client. */
static enum turn read_request_head(struct session *s)
{
    struct exchange *x = s->exchange;
    char *scratch = s->worker->tools.scratch;
    size_t size = 0, used;
    enum turn turn;
    if (x->ahead) {
        turn = take_head(s, x->ahead + x->ahead_offset, x->ahead_size - x->ahead_offset, &used);
        use_ahead(x, used);
        if (turn == TURN_BLOCKED)
            return TURN_AGAIN; /* all of it was used */
    } else {
        enum relay_event event = relay_read(session_leg(s, LEG_CLIENT), scratch, RELAY_SCRATCH, &size);
        if (event != RELAY_MORE)
            return on_relay(s, HALF_REQUEST, event);
        turn = take_head(s, scratch, size, &used);
        if (turn == TURN_BLOCKED)
            return TURN_AGAIN;
        if (turn == TURN_AGAIN && s->pair.stage == PAIR_STAGE_HEAD &&
            !keep_ahead(x, scratch + used, size - used))
            return refuse_request(s, 503);
    }
    return turn == TURN_AGAIN && s->pair.stage == PAIR_STAGE_HEAD ? begin_request(s) : turn;
}

/* A chunk's framing is broken. The backend has part of the request already. */
static enum turn bad_body(struct session *s)
{
    return s->pair.stage == PAIR_STAGE_ANSWERED ? abort_session(s, REASON_BAD_REQUEST)
                                                : refuse_request(s, 400);
}

/* Writes bytes of the body that were read ahead, behind the head if that has not gone yet. */
static enum turn write_ahead(struct session *s, uint64_t *budget)
{
    struct exchange *x = s->exchange;
    struct iovec parts[2];
    int count = 0;
    size_t used = 0;
    uint64_t moved = 0;
    if (!x->head_sent)
        parts[count++] = (struct iovec){.iov_base = x->head, .iov_len = x->head_size};
    if (x->ahead && x->http[HALF_REQUEST].state == HTTP_IN_BODY) {
        char *bytes = x->ahead + x->ahead_offset;
        if (http_follow(&x->http[HALF_REQUEST], bytes, x->ahead_size - x->ahead_offset, &used) < 0)
            return bad_body(s);
        parts[count++] = (struct iovec){.iov_base = bytes, .iov_len = used};
    }
    enum relay_event event =
        relay_write(&s->relays[HALF_REQUEST], session_leg(s, LEG_BACKEND), parts, count, &moved);
    x->head_sent = true;
    if (!x->repeatable || x->fresh)
        forget_head(x);
    use_ahead(x, used);
    progress(s, HALF_REQUEST, moved, budget);
    return on_written(s, HALF_REQUEST, event);
}

/* One read of a body that has to be looked at. */
static enum turn relay_request_chunks(struct session *s, uint64_t *budget)
{
    struct exchange *x = s->exchange;
    struct relay_leg *sink = session_leg(s, LEG_BACKEND);
    char *scratch = s->worker->tools.scratch;
    size_t size, used;
    uint64_t moved = 0;
    if (!sink->writable || sink->broken)
        return TURN_BLOCKED;
    if (*budget == 0)
        return on_relay(s, HALF_REQUEST, RELAY_MORE);
    enum relay_event event = relay_read(session_leg(s, LEG_CLIENT), scratch, RELAY_SCRATCH, &size);
    if (event != RELAY_MORE)
        return on_relay(s, HALF_REQUEST, event);
    if (http_follow(&x->http[HALF_REQUEST], scratch, size, &used) < 0)
        return bad_body(s);
    if (!keep_ahead(x, scratch + used, size - used))
        return abort_session(s, REASON_NO_MEMORY);
    struct iovec part = {.iov_base = scratch, .iov_len = used};
    event = relay_write(&s->relays[HALF_REQUEST], sink, &part, 1, &moved);
    progress(s, HALF_REQUEST, moved, budget);
    return on_written(s, HALF_REQUEST, event);
}

/* The request has gone; the client is only watched for whether it is still there. */
static enum turn request_went(struct session *s)
{
    if (s->exchange->whole_ms == 0)
        s->exchange->whole_ms = worker_now_ms(s->worker);
    if (session_leg(s, LEG_CLIENT)->broken)
        return after(session_step_gone(s, LEG_CLIENT));
    if (s->pair.stage == PAIR_STAGE_BODY)
        return enter_stage(s, PAIR_STAGE_RESPONSE);
    if (exchange_awaits(s) && !session_look_for_client(s))
        return TURN_ENDED;
    return TURN_BLOCKED;
}

static enum turn send_request(struct session *s, uint64_t *budget)
{
    struct exchange *x = s->exchange;
    const struct http *http = &x->http[HALF_REQUEST];
    if (!has_backend(s))
        return TURN_BLOCKED;
    if (relay_holds(&s->relays[HALF_REQUEST]))
        return relay_unseen(s, HALF_REQUEST, budget);
    if (session_leg(s, LEG_BACKEND)->broken)
        return session_leg(s, LEG_CLIENT)->broken ? after(session_step_gone(s, LEG_CLIENT)) : TURN_BLOCKED;
    if (!x->head_sent || (x->ahead && http->state == HTTP_IN_BODY))
        return write_ahead(s, budget);
    if (http->state == HTTP_COMPLETE)
        return request_went(s);
    return http->framing == MESSAGE_CHUNKED ? relay_request_chunks(s, budget)
                                            : relay_unseen(s, HALF_REQUEST, budget);
}

static enum turn work_request(struct session *s, uint64_t *budget)
{
    switch ((enum pair_stage)s->pair.stage) {
    case PAIR_STAGE_BETWEEN:
    case PAIR_STAGE_HEAD:
        return read_request_head(s);
    case PAIR_STAGE_BODY:
    case PAIR_STAGE_RESPONSE:
    case PAIR_STAGE_ANSWERED:
        return send_request(s, budget);
    default:
        return TURN_BLOCKED;
    }
}

/* ---- responses ---- */

static enum turn bad_response(struct session *s)
{
    if (s->pair.stage == PAIR_STAGE_ANSWERED)
        return abort_session(s, REASON_BAD_RESPONSE);
    return refuse(s, REASON_BAD_RESPONSE, 0);
}

/* From here on the session carries bytes: what the client sent ahead goes first. */
static enum turn begin_tunnel(struct session *s)
{
    struct exchange *x = s->exchange;
    report(s);
    forget_head(x);
    for (enum half half = 0; half < HALF_COUNT; half++)
        s->relays[half].limit_bytes = RELAY_UNLIMITED;
    if (enter_stage(s, PAIR_STAGE_BYTES) == TURN_ENDED)
        return TURN_ENDED;
    if (!x->ahead)
        return TURN_AGAIN;
    relay_adopt(&s->relays[HALF_REQUEST], x->ahead, x->ahead_offset, x->ahead_size);
    x->ahead = NULL;
    return after(session_step_half(s, PAIR_EVENT_HELD, HALF_REQUEST));
}

/* The client's connection goes on if everybody knows where the response ends, and nothing is against it. */
static bool goes_on(const struct session *s, const struct message *response)
{
    return s->exchange->keep_client && response->framing != MESSAGE_UNTIL_CLOSE && request_is_whole(s) &&
           !s->pair.draining && s->pair.phase == PAIR_OPEN;
}

/* Writes the head, and with it those bytes behind it that belong to the response: *used of them. */
static enum turn write_response(struct session *s, const struct message *response, bool tunnel, char *bytes,
                                size_t size, size_t *used)
{
    struct exchange *x = s->exchange;
    struct http *http = &x->http[HALF_RESPONSE];
    enum head_connection connection = x->keep_client ? HEAD_KEEP : HEAD_CLOSE;
    uint64_t moved = 0;
    size_t space = http->head_size + HEAD_ADDED_MAX;
    char *head = malloc(space);
    if (!head)
        return abort_session(s, REASON_NO_MEMORY);
    size_t head_size =
        head_write_response(head, space, response, x->asked.minor, s->frontend->conf->http.via, connection);
    assert(head_size > 0);
    *used = tunnel ? size : 0;
    int status = tunnel ? HTTP_DONE : http_follow(http, bytes, size, used);
    struct iovec parts[] = {{.iov_base = head, .iov_len = head_size}, {.iov_base = bytes, .iov_len = *used}};
    enum relay_event event =
        relay_write(&s->relays[HALF_RESPONSE], session_leg(s, LEG_CLIENT), parts, 2, &moved);
    free(head);
    if (moved > 0)
        pair_progress(&s->pair, HALF_RESPONSE, moved, worker_now_ms(s->worker));
    enum turn turn = on_written(s, HALF_RESPONSE, event);
    return status < 0 && turn == TURN_AGAIN && exchange_follows(s) ? bad_response(s) : turn;
}

/* 1xx: goes on at once, and another head follows. HTTP/1.0 does not know it. */
static enum turn pass_interim(struct session *s, const struct message *response)
{
    struct http *http = &s->exchange->http[HALF_RESPONSE];
    size_t used;
    enum turn turn =
        s->exchange->asked.minor > 0 ? write_response(s, response, false, NULL, 0, &used) : TURN_AGAIN;
    if (turn != TURN_ENDED)
        http_begin(http, HTTP_RESPONSE);
    return turn;
}

static enum turn begin_response(struct session *s, char *bytes, size_t size, size_t *used)
{
    struct exchange *x = s->exchange;
    struct http *http = &x->http[HALF_RESPONSE];
    struct message_limits limits = limits_of(s);
    struct message response;
    *used = 0;
    if (http_parse_response(http, &response, &limits, &x->asked))
        return bad_response(s);
    bool tunnel = response.status == 101 || (x->asked.connect && response.status / 100 == 2);
    if (response.status < 200 && !tunnel)
        return pass_interim(s, &response);
    x->status = response.status;
    x->keep_backend = response.keep_alive;
    x->keep_client = goes_on(s, &response);
    if (enter_stage(s, PAIR_STAGE_ANSWERED) == TURN_ENDED)
        return TURN_ENDED;
    enum turn turn = write_response(s, &response, tunnel, bytes, size, used);
    if (turn == TURN_ENDED || !exchange_follows(s))
        return turn;
    http_release_head(http);
    forget_head(x);
    if (*used < size)
        x->keep_backend = false; /* more than was asked for */
    return tunnel ? begin_tunnel(s) : turn;
}

static enum turn read_response_head(struct session *s)
{
    struct http *http = &s->exchange->http[HALF_RESPONSE];
    struct message_limits limits = limits_of(s);
    char *bytes = s->worker->tools.scratch;
    size_t size, used;
    enum relay_event event = relay_read(session_leg(s, LEG_BACKEND), bytes, RELAY_SCRATCH, &size);
    if (event != RELAY_MORE)
        return on_relay(s, HALF_RESPONSE, event);
    while (size > 0) {
        int status = http_collect(http, &limits, bytes, size, &used);
        bytes += used;
        size -= used;
        if (status == HTTP_MORE)
            return TURN_AGAIN;
        enum turn turn = status < 0 ? bad_response(s) : begin_response(s, bytes, size, &used);
        /* Behind an interim response there may be the next head. */
        if (turn == TURN_ENDED || !exchange_follows(s) || http->state != HTTP_IN_HEAD)
            return turn;
    }
    return TURN_AGAIN;
}

static enum turn relay_response_chunks(struct session *s, uint64_t *budget)
{
    struct relay_leg *sink = session_leg(s, LEG_CLIENT);
    char *scratch = s->worker->tools.scratch;
    size_t size, used;
    uint64_t moved = 0;
    if (!sink->writable || sink->broken)
        return sink->broken ? after(session_step_gone(s, LEG_CLIENT)) : TURN_BLOCKED;
    if (*budget == 0)
        return on_relay(s, HALF_RESPONSE, RELAY_MORE);
    enum relay_event event = relay_read(session_leg(s, LEG_BACKEND), scratch, RELAY_SCRATCH, &size);
    if (event != RELAY_MORE)
        return on_relay(s, HALF_RESPONSE, event);
    if (http_follow(&s->exchange->http[HALF_RESPONSE], scratch, size, &used) < 0)
        return bad_response(s);
    if (used < size)
        s->exchange->keep_backend = false;
    struct iovec part = {.iov_base = scratch, .iov_len = used};
    event = relay_write(&s->relays[HALF_RESPONSE], sink, &part, 1, &moved);
    progress(s, HALF_RESPONSE, moved, budget);
    return on_written(s, HALF_RESPONSE, event);
}

/* The last byte of the response has been taken: the session ends here, or waits for the next request. */
static enum turn response_went(struct session *s)
{
    struct exchange *x = s->exchange;
    report(s);
    x->status = 0;
    if (!x->keep_client || s->pair.draining || s->pair.phase == PAIR_ENDING)
        return complete(s);
    x->fresh = false;
    http_begin(&x->http[HALF_REQUEST], HTTP_REQUEST);
    http_begin(&x->http[HALF_RESPONSE], HTTP_RESPONSE);
    for (enum half half = 0; half < HALF_COUNT; half++)
        relay_free(&s->relays[half], &s->worker->tools);
    enum turn turn = enter_stage(s, PAIR_STAGE_BETWEEN);
    return turn == TURN_ENDED || x->keep_backend ? turn : part(s);
}

static enum turn pass_response(struct session *s, uint64_t *budget)
{
    const struct http *http = &s->exchange->http[HALF_RESPONSE];
    if (!has_backend(s))
        return TURN_BLOCKED;
    if (relay_holds(&s->relays[HALF_RESPONSE]))
        return relay_unseen(s, HALF_RESPONSE, budget);
    switch ((enum http_state)http->state) {
    case HTTP_IN_HEAD:
        return read_response_head(s);
    case HTTP_COMPLETE:
        return response_went(s);
    case HTTP_IN_BODY:
        break;
    }
    return http->framing == MESSAGE_CHUNKED ? relay_response_chunks(s, budget)
                                            : relay_unseen(s, HALF_RESPONSE, budget);
}

/* An answer of our own that the client did not take at once. */
static enum turn pass_answer(struct session *s, uint64_t *budget)
{
    if (relay_holds(&s->relays[HALF_RESPONSE]))
        return relay_unseen(s, HALF_RESPONSE, budget);
    return complete(s);
}

static enum turn work_response(struct session *s, uint64_t *budget)
{
    switch ((enum pair_stage)s->pair.stage) {
    case PAIR_STAGE_BETWEEN:
    case PAIR_STAGE_HEAD:
        return has_backend(s) ? watch_backend(s) : TURN_BLOCKED;
    case PAIR_STAGE_BODY:
    case PAIR_STAGE_RESPONSE:
    case PAIR_STAGE_ANSWERED:
        return pass_response(s, budget);
    case PAIR_STAGE_REFUSED:
        return pass_answer(s, budget);
    default:
        return TURN_BLOCKED;
    }
}

/* ---- the interface ---- */

bool exchange_work(struct session *s, enum half half, uint64_t *budget, bool *again)
{
    while (exchange_follows(s)) {
        enum turn turn = half == HALF_REQUEST ? work_request(s, budget) : work_response(s, budget);
        if (turn == TURN_ENDED)
            return false;
        if (turn == TURN_BLOCKED)
            return true;
        *again = true; /* a stage of one half's concerns the other */
    }
    *again = true;
    return true;
}

void exchange_init(struct exchange *exchange)
{
    http_begin(&exchange->http[HALF_REQUEST], HTTP_REQUEST);
    http_begin(&exchange->http[HALF_RESPONSE], HTTP_RESPONSE);
    exchange->keep_client = true;
}

void exchange_end(struct session *s)
{
    struct exchange *x = s->exchange;
    if (x->line)
        report(s);
    for (enum half half = 0; half < HALF_COUNT; half++)
        http_release_head(&x->http[half]);
    forget_head(x);
    free(x->ahead);
    x->ahead = NULL;
}
