#include "reaper/policy/deadline.h"

#include "reaper/policy/change.h"
#include "reaper/policy/track.h"

#include <assert.h>
#include <string.h>

static uint64_t max_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool connecting(const struct pair *pair)
{
    return pair->phase == PAIR_CONNECTING;
}

static uint64_t since_attempt(const struct pair *pair)
{
    return pair->attempt_ms;
}

/* From when a deadline with a rate counts: its window; without one any byte is progress. */
static uint64_t since_rated(const struct pair *pair, enum deadline_id id, const struct track_window *window,
                            uint64_t progress_ms)
{
    return pair->deadlines->rate[id] > 0 ? window->ms : progress_ms;
}

static bool both_open(const struct pair *pair)
{
    return track_relaying(pair) && pair->stage == PAIR_STAGE_BYTES && !track_half_closed(pair);
}

static bool idle_runs(const struct pair *pair)
{
    return both_open(pair) && !pair->tunnel;
}

static uint64_t since_idle(const struct pair *pair)
{
    return since_rated(pair, DEADLINE_IDLE, &pair->window, track_progress_ms(pair));
}

static bool idle_trickled(const struct pair *pair)
{
    return track_acked_bytes(pair) > pair->window.caught_bytes;
}

static bool in_tunnel(const struct pair *pair)
{
    return both_open(pair) && pair->tunnel;
}

static bool half_closed(const struct pair *pair)
{
    return track_relaying(pair) && track_half_closed(pair);
}

static uint64_t since_window(const struct pair *pair)
{
    return pair->window.ms;
}

static uint64_t since_half_closed(const struct pair *pair)
{
    return pair->half_closed_ms;
}

/* A client that said nothing and has ended is owed little, and nothing was said to it. */
static bool half_closed_empty(const struct pair *pair)
{
    return half_closed(pair) && track_half_ended(&pair->half[HALF_REQUEST]) &&
           pair->half[HALF_REQUEST].written_bytes == 0 && pair->half[HALF_RESPONSE].written_bytes == 0;
}

static bool holds(const struct pair *pair, enum half half)
{
    const struct half_track *h = &pair->half[half];
    return h->held || (pair->phase == PAIR_RESETTING && h->unacked_bytes > 0);
}

static bool any_held(const struct pair *pair)
{
    return (track_relaying(pair) || pair->phase == PAIR_RESETTING || pair->phase == PAIR_WAITING) &&
           (holds(pair, HALF_REQUEST) || holds(pair, HALF_RESPONSE));
}

static uint64_t since_half_stalled(const struct pair *pair, enum half half)
{
    return track_takes(pair, half) ? pair->taken.ms : track_taken_ms(&pair->half[half]);
}

/* The half that has waited for its sink the longest. */
static enum half stalled_half(const struct pair *pair)
{
    if (!holds(pair, HALF_REQUEST))
        return HALF_RESPONSE;
    bool response = holds(pair, HALF_RESPONSE) &&
                    since_half_stalled(pair, HALF_RESPONSE) < since_half_stalled(pair, HALF_REQUEST);
    return response ? HALF_RESPONSE : HALF_REQUEST;
}

/* What a reset leg left behind has to flow at half_close_rate; nobody waits for the end of it. */
static uint64_t since_stalled(const struct pair *pair)
{
    return pair->phase == PAIR_RESETTING ? pair->window.ms : since_half_stalled(pair, stalled_half(pair));
}

static bool taken_trickled(const struct pair *pair)
{
    enum half half = stalled_half(pair);
    return track_takes(pair, half) && pair->half[half].acked_bytes > pair->taken.caught_bytes;
}

/* ---- messages ---- */

static uint64_t since_stage(const struct pair *pair)
{
    return pair->stage_ms;
}

static bool in_preface(const struct pair *pair)
{
    return pair->phase == PAIR_WAITING && pair->stage == PAIR_STAGE_PREFACE;
}

static bool in_request_head(const struct pair *pair)
{
    return (pair->phase == PAIR_WAITING || track_relaying(pair)) && pair->stage == PAIR_STAGE_HEAD;
}

/* A body that is held waits for the backend, not for the client. */
static bool in_request_body(const struct pair *pair)
{
    return track_relaying(pair) && pair->stage == PAIR_STAGE_BODY && !pair->half[HALF_REQUEST].held;
}

static uint64_t since_request_sent(const struct pair *pair)
{
    return since_rated(pair, DEADLINE_REQUEST_BODY, &pair->half[HALF_REQUEST].sent,
                       track_half_progress_ms(pair, HALF_REQUEST));
}

static uint64_t since_request_body(const struct pair *pair)
{
    return max_of(pair->stage_ms, since_request_sent(pair));
}

static bool request_trickled(const struct pair *pair)
{
    const struct half_track *h = &pair->half[HALF_REQUEST];
    return h->acked_bytes > h->sent.caught_bytes;
}

static bool awaits_backend(const struct pair *pair)
{
    return track_relaying(pair) &&
           (pair->stage == PAIR_STAGE_RESPONSE || pair->stage == PAIR_STAGE_ANSWERED) &&
           !pair->half[HALF_REQUEST].held && !pair->half[HALF_RESPONSE].held;
}

static bool in_response(const struct pair *pair)
{
    return awaits_backend(pair) && !pair->streams;
}

/* A request that goes on beside its answer counts as far as it would on its own. */
static uint64_t since_response(const struct pair *pair)
{
    uint64_t sent_ms = since_rated(pair, DEADLINE_RESPONSE, &pair->half[HALF_RESPONSE].sent,
                                   track_half_progress_ms(pair, HALF_RESPONSE));
    return max_of(pair->stage_ms, max_of(since_request_sent(pair), sent_ms));
}

static bool response_trickled(const struct pair *pair)
{
    const struct half_track *h = &pair->half[HALF_RESPONSE];
    return h->acked_bytes > h->sent.caught_bytes;
}

static bool in_event_stream(const struct pair *pair)
{
    return awaits_backend(pair) && pair->streams;
}

static uint64_t since_event(const struct pair *pair)
{
    uint64_t sent_ms = track_half_progress_ms(pair, HALF_RESPONSE);
    return max_of(pair->stage_ms, max_of(since_request_sent(pair), sent_ms));
}

static bool between(const struct pair *pair)
{
    return (pair->phase == PAIR_WAITING || track_relaying(pair)) && pair->stage == PAIR_STAGE_BETWEEN;
}

static bool at_boundary(const struct pair *pair)
{
    return track_gives_time(pair) || (pair->phase == PAIR_CLOSING && pair->stage != PAIR_STAGE_BYTES &&
                                      pair->up[LEG_BACKEND] && !pair->half[HALF_RESPONSE].fin_in);
}

static uint64_t since_boundary(const struct pair *pair)
{
    return pair->ending_ms;
}

static bool not_yet_past(const struct pair *pair)
{
    return connecting(pair) || pair->phase == PAIR_WAITING ||
           (track_relaying(pair) && pair->reason != REASON_LIFETIME);
}

static uint64_t since_accepted(const struct pair *pair)
{
    return pair->accepted_ms;
}

static bool draining(const struct pair *pair)
{
    return pair->draining && pair->phase != PAIR_ENDED;
}

static uint64_t since_drain(const struct pair *pair)
{
    return pair->drain_ms;
}

static bool in_grace(const struct pair *pair)
{
    return pair->phase == PAIR_CLOSING || (pair->phase == PAIR_ENDING && pair->reason == REASON_LIFETIME);
}

static uint64_t since_grace(const struct pair *pair)
{
    return pair->phase == PAIR_CLOSING ? pair->window.ms : pair->ending_ms;
}

/* Peers that are asked whether they are there are asked so often, and have so long to answer each time. The
 * kernel sends no probe before a second without traffic has passed (TCP_KEEPIDLE, tcp(7)). One may be lost on
 * a network; or here, where a thousand that go out at once overflow net.core.netdev_max_backlog. */
#define PROBES 3
#define PROBE_MS UINT64_C(1000)

/* The probes' answers, while they are awaited. */
static uint64_t probes_end(const struct pair *pair)
{
    return track_probing(pair) ? pair->asked_ms + PROBE_MS : 0;
}

static const struct deadline rows[DEADLINE_COUNT];

/* Of what moved, if not enough, it is told that it trickled. */
static enum reason reason_of(const struct pair *pair, enum deadline_id id)
{
    const struct deadline *row = &rows[id];
    bool trickled = row->rate_reason != REASON_NONE && pair->deadlines->rate[id] > 0 && row->trickled(pair);
    return trickled ? row->rate_reason : row->reason;
}

/* Asks the peers that have not answered. */
static pair_actions probe(struct pair *pair, uint64_t now_ms)
{
    pair_actions actions = 0;
    if (!track_probing(pair)) {
        pair->probed_ms = now_ms;
        pair->probes = 0;
    }
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        if (pair->probes == 0 || !track_heard(pair, leg))
            actions |= action_for(PAIR_DO_PROBE, leg);
    pair->probes++;
    pair->asked_ms = now_ms;
    return actions;
}

/* A session is half-closed and nothing moves. With `verify` the peers' kernels are asked first. That they
 * answer proves nothing about the applications behind them; that one does not means that nobody is there. */
static pair_actions ask_or_close(struct pair *pair, enum deadline_id id, uint64_t now_ms)
{
    enum verify verify = pair->deadlines->verify;
    enum reason reason = reason_of(pair, id);
    if (verify != VERIFY_OFF) {
        bool both = track_probing(pair) && track_heard(pair, LEG_CLIENT) && track_heard(pair, LEG_BACKEND);
        if (!both && (!track_probing(pair) || pair->probes < PROBES))
            return probe(pair, now_ms);
        if (both && verify == VERIFY_EXTEND) {
            change_begin_window(pair, now_ms);
            return 0;
        }
        if (!both)
            reason = track_heard(pair, LEG_CLIENT) ? REASON_BACKEND_LOST : REASON_CLIENT_LOST;
    }
    return change_begin_closing(pair, reason, pair->deadlines->action[id], now_ms);
}

/* ---- what the others do when they fire ---- */

static pair_actions close_legs(struct pair *pair, enum deadline_id id, uint64_t now_ms)
{
    return change_begin_closing(pair, reason_of(pair, id), pair->deadlines->action[id], now_ms);
}

static pair_actions try_next(struct pair *pair, enum deadline_id id, uint64_t now_ms)
{
    return change_next_server(pair, rows[id].reason, now_ms);
}

/* For the reason for which the session was ending already. */
static pair_actions end_at_once(struct pair *pair, enum deadline_id id, uint64_t now_ms)
{
    return change_end(pair, pair->reason != REASON_NONE ? (enum reason)pair->reason : rows[id].reason,
                      now_ms);
}

static pair_actions end_stalled(struct pair *pair, enum deadline_id id, uint64_t now_ms)
{
    if (pair->phase == PAIR_RESETTING)
        return change_end(pair, pair->reason, now_ms);
    return change_close_with(pair, reason_of(pair, id), pair->deadlines->action[id], now_ms);
}

static pair_actions end_at_rest(struct pair *pair, enum deadline_id id, uint64_t now_ms)
{
    if (pair->phase == PAIR_CONNECTING)
        return change_end(pair, rows[id].reason, now_ms);
    if (pair->stage == PAIR_STAGE_BETWEEN)
        return change_close_at_boundary(pair, rows[id].reason, now_ms);
    if (pair->phase == PAIR_WAITING)
        return change_close_with(pair, rows[id].reason, pair->deadlines->action[id], now_ms);
    change_begin_ending(pair, rows[id].reason, now_ms);
    return 0;
}

static pair_actions refuse_request(struct pair *pair, enum deadline_id id, uint64_t now_ms)
{
    return change_refuse(pair, reason_of(pair, id), now_ms);
}

static pair_actions refuse_or_close(struct pair *pair, enum deadline_id id, uint64_t now_ms)
{
    return pair->stage == PAIR_STAGE_ANSWERED ? close_legs(pair, id, now_ms)
                                              : refuse_request(pair, id, now_ms);
}

static pair_actions close_at_boundary(struct pair *pair, enum deadline_id id, uint64_t now_ms)
{
    return change_close_at_boundary(pair, rows[id].reason, now_ms);
}

/* A session that would have ended well has met a leak; with `message_grace` 0 nobody has looked. */
static pair_actions reset_backend(struct pair *pair, enum deadline_id id, uint64_t now_ms)
{
    if (reason_weight((enum reason)pair->reason) == REASON_WELL && !pair->draining &&
        pair->deadlines->after_ms[id] > 0)
        pair->reason = (uint8_t)rows[id].reason;
    return change_leg_down(pair, LEG_BACKEND, LEG_END_RST, PAIR_DO_RST) | change_end_if_done(pair, now_ms);
}

static const struct deadline rows[DEADLINE_COUNT] = {
    [DEADLINE_CONNECT] = {.name = "connect",
                          .runs_while = "the backend leg is connecting",
                          .at_expiry = "next server; after the last one RST to the client",
                          .default_ms = 5000,
                          .min_ms = 1,
                          .max_ms = DEADLINE_MAX_MS,
                          .may_be_off = true,
                          .default_action = CLOSE_RST,
                          .reason = REASON_CONNECT,
                          .armed = connecting,
                          .since = since_attempt,
                          .fire = try_next},
    [DEADLINE_IDLE] = {.name = "idle",
                       .runs_while = "both halves are open and neither makes progress",
                       .at_expiry = "FIN to both, `grace`, then RST to whoever did not close",
                       .default_ms = UINT64_C(60) * 60 * 1000,
                       .min_ms = 1,
                       .max_ms = DEADLINE_MAX_MS,
                       .may_be_off = true,
                       .settable_action = true,
                       .default_action = CLOSE_FIN,
                       .reason = REASON_IDLE,
                       .rate_reason = REASON_IDLE_RATE,
                       .rate_help = "Slower than this is no progress for idle; off: any byte is progress",
                       .spares_delivery = true,
                       .armed = idle_runs,
                       .since = since_idle,
                       .trickled = idle_trickled,
                       .fire = close_legs},
    [DEADLINE_HALF_CLOSE] = {.name = "half_close",
                             .runs_while = "one half has ended and the other makes no progress",
                             .at_expiry = "RST to both",
                             .default_ms = 30000,
                             .min_ms = 0,
                             .max_ms = DEADLINE_MAX_MS,
                             .may_be_off = true,
                             .settable_action = true,
                             .default_action = CLOSE_RST,
                             .reason = REASON_HALF_CLOSE,
                             .rate_reason = REASON_HALF_CLOSE_RATE,
                             .default_rate = 1024,
                             .rate_help = "Slower than this is no progress for half_close; off: any byte is "
                                          "progress",
                             .spares_delivery = true,
                             .armed = half_closed,
                             .since = since_window,
                             .trickled = track_trickled,
                             .waits_until = probes_end,
                             .fire = ask_or_close},
    [DEADLINE_HALF_CLOSE_MAX] = {.name = "half_close_max",
                                 .runs_while = "one half has ended, progress or not",
                                 .at_expiry = "RST to both",
                                 .default_ms = DEADLINE_OFF,
                                 .min_ms = 0,
                                 .max_ms = DEADLINE_MAX_MS,
                                 .may_be_off = true,
                                 .settable_action = true,
                                 .default_action = CLOSE_RST,
                                 .reason = REASON_HALF_CLOSE_MAX,
                                 .armed = half_closed,
                                 .since = since_half_closed,
                                 .fire = close_legs},
    [DEADLINE_WRITE_STALL] = {.name = "write_stall",
                              .runs_while = "a half holds bytes and its sink takes none",
                              .at_expiry = "RST to both",
                              .default_ms = 60000,
                              .min_ms = 1,
                              .max_ms = DEADLINE_MAX_MS,
                              .may_be_off = true,
                              .settable_action = true,
                              .default_action = CLOSE_RST,
                              .reason = REASON_WRITE_STALL,
                              .rate_reason = REASON_WRITE_STALL_RATE,
                              .rate_help = "A client that takes what is held for it more slowly takes none "
                                           "for write_stall; off: any byte counts",
                              .armed = any_held,
                              .since = since_stalled,
                              .trickled = taken_trickled,
                              .fire = end_stalled},
    [DEADLINE_LIFETIME] = {.name = "lifetime",
                           .runs_while = "always",
                           .at_expiry = "FIN to both once at rest; RST to both after `grace`",
                           .default_ms = DEADLINE_OFF,
                           .min_ms = 1,
                           .max_ms = DEADLINE_MAX_MS,
                           .may_be_off = true,
                           .settable_action = true,
                           .default_action = CLOSE_FIN,
                           .reason = REASON_LIFETIME,
                           .armed = not_yet_past,
                           .since = since_accepted,
                           .fire = end_at_rest},
    [DEADLINE_DRAIN] = {.name = "drain",
                        .runs_while = "the proxy is shutting down",
                        .at_expiry = "RST to both",
                        .default_ms = 30000,
                        .min_ms = 0,
                        .max_ms = DEADLINE_MAX_MS,
                        .may_be_off = true,
                        .default_action = CLOSE_RST,
                        .reason = REASON_DRAIN,
                        .armed = draining,
                        .since = since_drain,
                        .fire = end_at_once},
    [DEADLINE_GRACE] = {.name = "grace",
                        .runs_while = "FIN was sent to both and a peer has not sent its own",
                        .at_expiry = "RST to whoever did not close",
                        .default_ms = 5000,
                        .min_ms = 0,
                        .max_ms = DEADLINE_MAX_MS,
                        .may_be_off = false,
                        .default_action = CLOSE_RST,
                        .reason = REASON_NONE, /* keeps the reason for which it began */
                        .spares_delivery = true,
                        .armed = in_grace,
                        .since = since_grace,
                        .fire = end_at_once},
    [DEADLINE_REQUEST_HEAD] = {.name = "request_head",
                               .runs_while = "mode http: the head of a request is awaited or comes in",
                               .at_expiry = "408, and the connection is closed",
                               .default_ms = 10000,
                               .min_ms = 1,
                               .max_ms = DEADLINE_MAX_MS,
                               .may_be_off = true,
                               .default_action = CLOSE_FIN,
                               .reason = REASON_REQUEST_HEAD,
                               .armed = in_request_head,
                               .since = since_stage,
                               .fire = refuse_request},
    [DEADLINE_REQUEST_BODY] = {.name = "request_body",
                               .runs_while = "mode http: the body of a request makes no progress",
                               .at_expiry = "408, RST to the backend",
                               .default_ms = 60000,
                               .min_ms = 1,
                               .max_ms = DEADLINE_MAX_MS,
                               .may_be_off = true,
                               .default_action = CLOSE_RST,
                               .reason = REASON_REQUEST_BODY,
                               .rate_reason = REASON_REQUEST_BODY_RATE,
                               .rate_help = "Mode http: slower than this is no progress for request_body; "
                                            "off: any byte is progress",
                               .armed = in_request_body,
                               .since = since_request_body,
                               .trickled = request_trickled,
                               .fire = refuse_request},
    [DEADLINE_RESPONSE] = {.name = "response",
                           .runs_while = "mode http: a response is awaited or makes no progress",
                           .at_expiry = "504, RST to the backend; to both once the response has begun",
                           .default_ms = 60000,
                           .min_ms = 1,
                           .max_ms = DEADLINE_MAX_MS,
                           .may_be_off = true,
                           .default_action = CLOSE_RST,
                           .reason = REASON_RESPONSE,
                           .rate_reason = REASON_RESPONSE_RATE,
                           .rate_help = "Mode http: slower than this is no progress for response; off: any "
                                        "byte is progress",
                           .armed = in_response,
                           .since = since_response,
                           .trickled = response_trickled,
                           .fire = refuse_or_close},
    [DEADLINE_EVENT_STREAM] = {.name = "event_stream",
                               .runs_while = "mode http: a text/event-stream makes no progress",
                               .at_expiry = "RST to both",
                               .default_ms = UINT64_C(60) * 60 * 1000,
                               .min_ms = 1,
                               .max_ms = DEADLINE_MAX_MS,
                               .may_be_off = true,
                               .default_action = CLOSE_RST,
                               .reason = REASON_EVENT_STREAM,
                               .armed = in_event_stream,
                               .since = since_event,
                               .fire = close_legs},
    [DEADLINE_KEEPALIVE] = {.name = "keepalive",
                            .runs_while = "mode http: the next request is awaited",
                            .at_expiry = "FIN to both",
                            .default_ms = 75000,
                            .min_ms = 1,
                            .max_ms = DEADLINE_MAX_MS,
                            .may_be_off = true,
                            .default_action = CLOSE_FIN,
                            .reason = REASON_KEEPALIVE,
                            .armed = between,
                            .since = since_stage,
                            .fire = close_at_boundary},
    [DEADLINE_TUNNEL] = {.name = "tunnel",
                         .runs_while = "mode http: behind 101 or CONNECT neither side makes progress",
                         .at_expiry = "FIN to both, `grace`, then RST to whoever did not close",
                         .default_ms = UINT64_C(60) * 60 * 1000,
                         .min_ms = 1,
                         .max_ms = DEADLINE_MAX_MS,
                         .may_be_off = true,
                         .settable_action = true,
                         .default_action = CLOSE_FIN,
                         .reason = REASON_TUNNEL,
                         .spares_delivery = true,
                         .armed = in_tunnel,
                         .since = track_progress_ms,
                         .fire = close_legs},
    [DEADLINE_MESSAGE_GRACE] =
        {.name = "message_grace",
         .runs_while = "nothing is outstanding, or the client has gone, and FIN was sent to the backend",
         .at_expiry = "RST to the backend",
         .default_ms = 250,
         .min_ms = 0,
         .max_ms = DEADLINE_MAX_MS,
         .may_be_off = false,
         .default_action = CLOSE_RST,
         .reason = REASON_MESSAGE_GRACE,
         .armed = at_boundary,
         .since = since_boundary,
         .fire = reset_backend},
    [DEADLINE_HALF_CLOSE_EMPTY] = {.name = "half_close_empty",
                                   .runs_while = "the client sent FIN and nothing else, and got nothing",
                                   .at_expiry = "RST to both",
                                   .default_ms = DEADLINE_OFF,
                                   .min_ms = 0,
                                   .max_ms = DEADLINE_MAX_MS,
                                   .may_be_off = true,
                                   .default_action = CLOSE_RST,
                                   .reason = REASON_HALF_CLOSE_EMPTY,
                                   .spares_delivery = true,
                                   .armed = half_closed_empty,
                                   .since = since_half_closed,
                                   .fire = close_legs},
    [DEADLINE_PREFACE] = {.name = "preface",
                          .runs_while = "accept_proxy, connect_on: the first bytes of a client are awaited",
                          .at_expiry = "RST to the client",
                          .default_ms = 10000,
                          .min_ms = 1,
                          .max_ms = DEADLINE_MAX_MS,
                          .may_be_off = true,
                          .default_action = CLOSE_RST,
                          .reason = REASON_PREFACE,
                          .armed = in_preface,
                          .since = since_stage,
                          .fire = end_at_once},
};

const struct deadline *deadline_row(enum deadline_id id)
{
    assert(id < DEADLINE_COUNT);
    return &rows[id];
}

void deadlines_default(struct deadlines *deadlines)
{
    memset(deadlines, 0, sizeof *deadlines); /* also the padding: settings are compared byte by byte */
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++) {
        deadlines->after_ms[id] = rows[id].default_ms;
        for (enum leg leg = 0; leg < LEG_COUNT; leg++)
            deadlines->action[id][leg] = rows[id].default_action;
        deadlines->rate[id] = rows[id].default_rate;
    }
    deadlines->verify = VERIFY_OFF;
}
