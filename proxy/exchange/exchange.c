#include "proxy/exchange/exchange.h"

#include "proxy/server/backend.h"
#include "proxy/session/session.h"

#include <stdlib.h>
#include <string.h>

/* #syscalls worker: recvfrom */

bool exchange_has_backend(const struct session *s)
{
    return s->pair.phase == PAIR_OPEN || s->pair.phase == PAIR_ENDING;
}

bool exchange_follows(const struct session *s)
{
    return s->exchange && s->pair.stage != PAIR_STAGE_BYTES && s->pair.stage != PAIR_STAGE_PREFACE &&
           (s->pair.phase == PAIR_WAITING || s->pair.phase == PAIR_CONNECTING || exchange_has_backend(s));
}

bool exchange_awaits(struct session *s)
{
    const struct relay_leg *client = session_leg(s, LEG_CLIENT);
    bool asked = s->pair.stage == PAIR_STAGE_RESPONSE || s->pair.stage == PAIR_STAGE_ANSWERED;
    char byte;
    if (!exchange_follows(s) || !asked || !client->fin || s->exchange->ahead ||
        s->exchange->http[HALF_REQUEST].state != HTTP_COMPLETE)
        return false;
    return recv(client->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

struct message_limits exchange_limits(const struct session *s)
{
    const struct conf_http *http = &s->frontend->conf->http;
    return (struct message_limits){.head_bytes = (uint32_t)http->max_head,
                                   .line_bytes = (uint32_t)http->max_request_line,
                                   .fields = (uint32_t)http->max_fields,
                                   .connect = http->connect,
                                   .bare_lf = http->bare_lf == CONF_BARE_LF_ACCEPT};
}

bool exchange_request_is_whole(const struct session *s)
{
    return s->exchange->http[HALF_REQUEST].state == HTTP_COMPLETE && s->exchange->head_sent &&
           !relay_holds(&s->relays[HALF_REQUEST]);
}

void exchange_forget_head(struct exchange *x)
{
    free(x->head);
    x->head = NULL;
    x->head_size = 0;
}

/* ---- the log ---- */

static const char *const legs[EXCHANGE_LEG_COUNT] = {
    [EXCHANGE_LEG_NONE] = "none",
    [EXCHANGE_LEG_NEW] = "new",
    [EXCHANGE_LEG_KEPT] = "kept",
    [EXCHANGE_LEG_POOLED] = "pooled",
};

/* An answer of the backend's own that does not say that it failed. */
static bool has_gone_well(const struct session *s)
{
    return s->pair.stage != PAIR_STAGE_REFUSED && s->exchange->status > 0 && s->exchange->status < 500;
}

static void log_request(struct session *s)
{
    const struct exchange *x = s->exchange;
    struct log_ring *log = s->shared->log;
    uint64_t now_ms = loop_now_ms(&s->shared->loop);
    uint64_t whole_ms = x->whole_ms ? x->whole_ms : now_ms;
    char client[SOCKET_TEXT];
    const char *method = x->line ? x->line : "none";
    const char *path = x->line ? x->line + strlen(x->line) + 1 : "none";
    const char *request_id = x->line ? path + strlen(path) + 1 : "";
    struct line line;
    if (!log_wants(log, CONF_LOG_INFO) || (has_gone_well(s) && !log_wants_normal(log)))
        return;
    line_begin(&line, log_format(log), CONF_LOG_INFO, "request");
    line_number(&line, "id", s->id);
    line_text(&line, "frontend", s->frontend->conf->name);
    line_text(&line, "client", socket_text(&s->client, client));
    line_text(&line, "backend", s->target ? s->target->text : "none");
    line_text(&line, "leg", legs[x->leg]);
    line_text(&line, "method", method);
    if (x->again)
        line_text(&line, "resent", "yes");
    line_number(&line, "status", x->status);
    if (s->pair.stage == PAIR_STAGE_REFUSED)
        line_text(&line, "answered_for", reason_name(s->pair.cause));
    if (x->why != RULE_NONE)
        line_text(&line, "why", rule_words((enum rule)x->why));
    line_number(&line, "request_ms", whole_ms - x->began_ms);
    line_number(&line, "response_ms", now_ms - whole_ms);
    /* Last, as the client decides how long they are. */
    line_text(&line, "path", path);
    if (*request_id)
        line_text(&line, "request_id", request_id);
    log_line(log, line_end(&line));
}

void exchange_report(struct session *s)
{
    struct exchange *x = s->exchange;
    unsigned class = x->status / 100;
    x->requests++;
    counter_add(&s->shared->counters.requests, 1);
    if (class < COUNTERS_STATUS_CLASSES)
        counter_add(&s->shared->counters.answers[class], 1);
    log_request(s);
    free(x->line);
    x->line = NULL;
}

/* ---- relaying ---- */

enum step exchange_relay_unseen(struct session *s, enum half half, uint64_t *budget)
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
    step_progress(s, half, moved);
    step_charge(budget, moved);
    return unseen > 0 && http->state == HTTP_COMPLETE && event == RELAY_BLOCKED ? STEP_AGAIN
                                                                                : step_relay(s, half, event);
}
