/* Mode http as simulate.c has mode tcp: the data plane's own sessions, exchanges, heads and answers
 * against clients and servers that talk HTTP/1 (web.h), by the hundred thousand, and the same again for the
 * same seed.
 *
 * A part of the sessions is healthy: nobody does what a deadline or RFC 9112 forbids, and then every request
 * has to be answered by a server, in full, and nobody is reset. In the others anything may happen, and what
 * is promised then is checked. */

#include "proxy/exchange/exchange.h"
#include "proxy/exchange/mode.h"
#include "reaper/policy/deadline.h"
#include "tests/simulation/host.h"
#include "tests/simulation/web.h"

#include <inttypes.h>
#include <stdio.h>

enum kind { KIND_HEALTHY, KIND_FAULTY };

struct run {
    struct hosted hosted;
    struct behaviour client;
    enum kind kind;
    bool was_refused; /* the last attempt to connect */
};

static struct run runs[BATCH];

static struct {
    uint64_t healthy, asks, answered, own, repeated, cut;
} totals;

static struct run *run_of(const struct connection *c)
{
    return &runs[c->session];
}

/* ---- settings ---- */

enum setting { BY_DEFAULT, QUICK, BOUNDED, AT_ONCE, VERIFYING, SETTINGS };

static struct conf_frontend confs[SETTINGS];
static struct frontend frontends[SETTINGS];

static void make_settings(void)
{
    static char name[] = "simulated";
    static const uint64_t quick[DEADLINE_COUNT] = {
        [DEADLINE_CONNECT] = 1000,      [DEADLINE_IDLE] = 10000,
        [DEADLINE_HALF_CLOSE] = 2000,   [DEADLINE_HALF_CLOSE_MAX] = DEADLINE_OFF,
        [DEADLINE_WRITE_STALL] = 5000,  [DEADLINE_LIFETIME] = DEADLINE_OFF,
        [DEADLINE_DRAIN] = 5000,        [DEADLINE_GRACE] = 1000,
        [DEADLINE_REQUEST_HEAD] = 3000, [DEADLINE_REQUEST_BODY] = 4000,
        [DEADLINE_RESPONSE] = 4000,     [DEADLINE_KEEPALIVE] = 6000,
        [DEADLINE_MESSAGE_GRACE] = 250,
    };
    for (enum setting i = 0; i < SETTINGS; i++) {
        struct conf_frontend *conf = &confs[i];
        conf->name = name;
        conf->mode = CONF_MODE_HTTP;
        conf->http = (struct conf_http){.max_head = 16384, .max_request_line = 8192, .max_fields = 100};
        deadlines_default(&conf->deadlines);
        for (enum deadline_id id = 0; i != BY_DEFAULT && id < DEADLINE_COUNT; id++)
            conf->deadlines.after_ms[id] = quick[id];
        frontends[i].conf = conf;
    }
    confs[QUICK].http.via = confs[QUICK].http.request_id = true;
    confs[BOUNDED].deadlines.after_ms[DEADLINE_LIFETIME] = 5000;
    confs[AT_ONCE].deadlines.after_ms[DEADLINE_GRACE] = 0;
    confs[AT_ONCE].deadlines.after_ms[DEADLINE_MESSAGE_GRACE] = 0;
    confs[AT_ONCE].deadlines.after_ms[DEADLINE_DRAIN] = 0;
    confs[AT_ONCE].http.forwarded = CONF_FORWARDED_OFF;
    confs[VERIFYING].deadlines.verify = VERIFY_ON;
    confs[VERIFYING].http.forwarded = CONF_FORWARDED;
}

/* ---- what is said ---- */

static uint64_t some_bytes(void)
{
    if (one_in(200))
        return 1 + random_below(1 << 19);
    if (one_in(20))
        return 1 + random_below(1 << 16);
    return 1 + random_below(1000);
}

static struct oddity some_oddity(bool answer)
{
    if (!one_in(4))
        return (struct oddity){.bare_lf = false};
    return (struct oddity){.bare_lf = one_in(2),
                           .zeros = one_in(2),
                           .extensions = one_in(2),
                           .padding = answer && one_in(2),
                           .twice = answer && one_in(2)};
}

static void make_ask(struct ask *ask)
{
    static const char *const methods[] = {"GET",  "GET", "GET",    "HEAD",  "POST",
                                          "POST", "PUT", "DELETE", "REPORT"};
    *ask = (struct ask){.method = methods[random_below(sizeof methods / sizeof methods[0])], .minor = 1};
    bool body = ask->method[0] == 'P';
    if (one_in(8)) {
        ask->minor = 0;
        ask->says_keep = !one_in(3);
    }
    if (body && !one_in(8)) {
        ask->body = ask->minor > 0 && one_in(2) ? BODY_CHUNKED : BODY_LENGTH;
        ask->body_bytes = some_bytes();
        ask->expects = ask->minor > 0 && one_in(4);
    }
    ask->says_close = ask->minor > 0 && one_in(8);
    ask->repeatable = ask->body == BODY_NONE && (!body || ask->method[1] == 'U') && ask->method[0] != 'R';
    ask->oddity = some_oddity(false);
    ask->pipelined = one_in(4);
    ask->think_ms = (uint32_t)random_below(one_in(4) ? 1000 : 20);
    ask->filler_bytes = (uint32_t)random_below(one_in(8) ? 250 : 20);
}

static void make_reply(struct reply *reply, const struct ask *ask)
{
    static const uint16_t statuses[] = {200, 200, 200, 200, 204, 304, 404, 500};
    *reply =
        (struct reply){.status = statuses[random_below(sizeof statuses / sizeof statuses[0])], .minor = 1};
    reply->think_ms = (uint32_t)random_below(one_in(4) ? 1000 : 30);
    reply->interims = (unsigned)(ask->expects ? !one_in(4) : one_in(16)) + one_in(32);
    if (ask->minor == 0)
        reply->interims = one_in(16);
    if (reply->status != 204 && reply->status != 304) {
        reply->body = (enum body)(1 + random_below(3));
        reply->oddity = some_oddity(true);
        reply->body_bytes = some_bytes();
        if (reply->body == BODY_UNTIL_CLOSE && ask->method[0] == 'H')
            reply->body = BODY_LENGTH;
    }
    if (reply->body == BODY_UNTIL_CLOSE) {
        reply->minor = (uint8_t)random_below(2);
        reply->says_close = reply->minor > 0;
        reply->after = AFTER_CLOSES;
    } else if (one_in(8)) {
        reply->says_close = true;
        reply->after = AFTER_CLOSES;
    } else if (one_in(4)) {
        reply->after = one_in(4) ? AFTER_CLOSES : AFTER_CLOSES_LATER;
    }
}

/* Whether the client's connection is through with this one, whatever happens. */
static bool ends_connection(const struct ask *ask)
{
    bool keeps = ask->minor > 0 ? !ask->says_close : ask->says_keep;
    bool unwrapped = ask->minor == 0 && ask->reply.body == BODY_CHUNKED;
    return !keeps || unwrapped || ask->reply.body == BODY_UNTIL_CLOSE;
}

static void make_talk(struct talk *talk)
{
    *talk = (struct talk){.count = 1 + random_below(one_in(3) ? ASKS_MAX : 2)};
    for (size_t i = 0; i < talk->count; i++) {
        make_ask(&talk->asks[i]);
        make_reply(&talk->asks[i].reply, &talk->asks[i]);
    }
    talk->farewell = (enum farewell)random_below(FAREWELL_COUNT);
}

/* Nobody asks behind the last request of a connection; a server that closes unannounced is asked no more for
 * what can't be asked twice. */
static void heal(struct talk *talk)
{
    /* With `always` it may be anybody's request that meets the close. */
    bool repeatable = host.backend.conf->reuse != CONF_REUSE_ALWAYS;
    for (size_t i = 0; i < talk->count; i++)
        if (ends_connection(&talk->asks[i]))
            talk->count = i + 1;
    for (size_t i = talk->count; i-- > 0;) {
        struct ask *ask = &talk->asks[i];
        if (!repeatable && !ask->reply.says_close && ask->reply.body != BODY_UNTIL_CLOSE)
            ask->reply.after = AFTER_GOES_ON;
        repeatable = repeatable && ask->repeatable;
    }
    /* One that answers early has to read on: closing with bytes unread it would reset its own answer. */
    struct reply *last = &talk->asks[talk->count - 1].reply;
    last->early = last->body != BODY_UNTIL_CLOSE && one_in(8);
    last->after = last->early ? AFTER_GOES_ON : last->after;
}

static enum stop some_stop(void)
{
    return (enum stop)(1 + random_below(STOP_COUNT - 1));
}

static void spoil_ask(struct ask *ask)
{
    static const enum flaw flaws[] = {FLAW_LINE, FLAW_LENGTHS, FLAW_BOTH, FLAW_BLANK, FLAW_CHUNK};
    struct reply *reply = &ask->reply;
    switch (random_below(6)) {
    case 0:
        ask->flaw = flaws[random_below(sizeof flaws / sizeof flaws[0])];
        if (ask->flaw == FLAW_CHUNK && ask->body != BODY_CHUNKED)
            ask->flaw = FLAW_NONE;
        break;
    case 1:
        reply->flaw = (enum flaw)(1 + random_below(FLAW_COUNT - 1));
        if (reply->flaw == FLAW_INTERIMS)
            reply->interims = 257 + (unsigned)random_below(2000);
        if (reply->flaw == FLAW_EXCESS && reply->body == BODY_UNTIL_CLOSE) /* nothing is too much */
            reply->flaw = FLAW_NONE;
        break;
    case 2:
    case 3:
        reply->stop = some_stop();
        reply->stop_at = random_below(one_in(3) ? 40 : one_in(2) ? 200 : 200 + reply->body_bytes);
        break;
    case 4:
        reply->early = true;
        break;
    default:
        reply->think_ms = (uint32_t)random_below(100000);
        break;
    }
}

static void spoil(struct talk *talk)
{
    for (size_t i = 0; i < talk->count; i++)
        if (one_in(3))
            spoil_ask(&talk->asks[i]);
    if (one_in(3)) {
        talk->stop = some_stop();
        talk->stop_at = random_below(one_in(2) ? 200 : 2000);
    }
}

/* Who sends a head byte by byte is done with it in a second, and with the longest body in a few. */
static struct behaviour someone(const struct talk *talk, uint64_t delay_ms)
{
    uint32_t read_chunk = 1u << (12 + random_below(6));
    uint32_t send_chunk = 1u << (one_in(4) ? random_below(8) : 8 + random_below(10));
    uint64_t longest = 0;
    for (size_t i = 0; i < talk->count; i++)
        longest = max_of(longest, max_of(talk->asks[i].body_bytes, talk->asks[i].reply.body_bytes));
    return (struct behaviour){
        .buffer_bytes = one_in(32) ? 1 << 22 : 0,
        .send_chunk = (uint32_t)max_of(send_chunk, longest / 256),
        .send_gap_ms = (uint32_t)random_below(send_chunk < 256 ? 3 : 20),
        .think_ms = (uint32_t)random_below(100),
        .close_after = NEVER,
        .fin_on_eof = true,
        .read_chunk = read_chunk,
        .read_gap_ms = (uint32_t)random_below(4) * 5,
        .read_limit = NEVER,
        .reset_at_ms = NEVER,
        .vanish_at_ms = NEVER,
        .delay_ms = (uint32_t)delay_ms,
        .window_bytes = (uint32_t)min_of(UINT64_C(1) << (12 + random_below(8)), read_chunk * UINT64_C(32))};
}

/* True if it does something about it. */
static bool spoil_peer(struct behaviour *peer)
{
    switch (random_below(12)) {
    case 0:
    case 1:
        peer->fin_on_eof = false; /* leaks */
        return true;
    case 2:
        peer->read_limit = random_below(2) ? 0 : some_bytes(); /* reads no more */
        return true;
    case 3:
        peer->reset_at_ms = random_below(one_in(2) ? 200 : 5000);
        return true;
    case 4:
        peer->vanish_at_ms = random_below(one_in(2) ? 200 : 5000);
        return true;
    case 5: /* reads a trickle */
        peer->read_chunk = 1 + (uint32_t)random_below(500);
        peer->read_gap_ms = 500 + (uint32_t)random_below(3000);
        peer->window_bytes = 512;
        return true;
    case 6:
        peer->send_gap_ms = (uint32_t)random_below(20000); /* pauses */
        return true;
    case 7:
        peer->close_after = 1 + random_below(1000); /* closes on what it does not want */
        return true;
    default:
        return false;
    }
}

/* ---- promises ---- */

void saw_progress(struct connection *sink, uint64_t bytes)
{
    struct hosted *hosted = &run_of(sink)->hosted;
    if (hosted->legs[sink->leg] != sink) /* it has left its session */
        return;
    hosted->last_ack_ms = network.now_ms;
    hosted->acked_in_phase += bytes;
}

/* The client is told that this was all; or sees that it was not, where the server broke off an answer that
 * says how long it is. */
void saw_fin(struct connection *sink)
{
    const struct hosted *hosted = &run_of(sink)->hosted;
    if (sink->leg != LEG_CLIENT || sink->dead || sink->closed || !hosted->session)
        return;
    bool well = web_ends_well(sink);
    totals.cut += !well;
    must(hosted, well || web_shows_cut(sink), "an answer that was cut short never ends like a whole one");
}

static bool all_answered(const struct talk *talk)
{
    for (size_t i = 0; i < talk->count; i++)
        if (!talk->asks[i].answered)
            return false;
    return true;
}

static void saw_client_reset(const struct run *run, const struct connection *c)
{
    if (run->kind == KIND_HEALTHY)
        must(&run->hosted, all_answered(&talks[c->session]) && c->acked_bytes == c->sent_bytes,
             "a healthy session is never cut");
}

/* Of our making: not while a client that is still there has had its answers, and the server would close. */
static void saw_server_reset(const struct run *run, const struct connection *c)
{
    const struct hosted *hosted = &run->hosted;
    const struct connection *client = hosted->legs[LEG_CLIENT];
    bool graceful = host_deadlines(hosted)->after_ms[DEADLINE_MESSAGE_GRACE] >= 250;
    bool excused =
        client->dead || client->vanished || network.allocations_per_failure > 0 || hosted->drain_ms;
    if (hosted->session) /* a client that takes no bytes or is not there, or a life that is over */
        excused = excused || hosted->session->pair.reason == REASON_WRITE_STALL ||
                  hosted->session->pair.reason == REASON_CLIENT_CLOSED ||
                  hosted->session->pair.reason == REASON_LIFETIME;
    if (c->fin_sent)
        must_be_by(hosted, c->fin_sent_ms, host_deadlines(hosted)->after_ms[DEADLINE_MESSAGE_GRACE],
                   "message_grace holds");
    must(hosted, !graceful || excused || !web_server_at_rest(c),
         "a server at rest, which would close when told to, is not reset");
}

void saw_reset(struct connection *c)
{
    if (c->leg == LEG_CLIENT)
        saw_client_reset(run_of(c), c);
    else
        saw_server_reset(run_of(c), c);
}

static uint64_t held_since_ms(const struct hosted *hosted, enum half half)
{
    const struct connection *sink = hosted->legs[half_sink(half)];
    return max_of(hosted->held_ms[half], max_of(sink->last_ack_ms, sink->last_take_ms));
}

/* What was last seen to move, as far as the kernel tells: it may be one deadline later. */
static uint64_t moved_ms(const struct hosted *hosted, const struct pair *pair)
{
    uint64_t moved = max_of(pair->stage_ms, hosted->last_ack_ms);
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        if (hosted->legs[leg])
            moved = max_of(moved, hosted->legs[leg]->last_take_ms);
    return moved;
}

static void check_stage(const struct hosted *hosted, const struct pair *pair, const struct deadlines *d)
{
    bool held = pair->half[HALF_REQUEST].held || pair->half[HALF_RESPONSE].held;
    switch ((enum pair_stage)pair->stage) {
    case PAIR_STAGE_BETWEEN:
        must_be_by(hosted, pair->stage_ms, d->after_ms[DEADLINE_KEEPALIVE], "keepalive holds");
        break;
    case PAIR_STAGE_HEAD:
        must_be_by(hosted, pair->stage_ms, d->after_ms[DEADLINE_REQUEST_HEAD], "request_head holds");
        break;
    case PAIR_STAGE_BODY:
        if (!held)
            must_be_by(hosted, moved_ms(hosted, pair), 2 * d->after_ms[DEADLINE_REQUEST_BODY],
                       "request_body holds");
        break;
    case PAIR_STAGE_RESPONSE:
    case PAIR_STAGE_ANSWERED:
        if (!held)
            must_be_by(hosted, moved_ms(hosted, pair), 2 * d->after_ms[DEADLINE_RESPONSE], "response holds");
        break;
    default:
        break;
    }
    for (enum half half = 0; half < HALF_COUNT; half++)
        if (pair->half[half].held)
            must_be_by(hosted, held_since_ms(hosted, half), d->after_ms[DEADLINE_WRITE_STALL] * 5 / 4,
                       "write_stall holds");
}

static void check_closing(const struct hosted *hosted, const struct pair *pair, const struct deadlines *d)
{
    bool closing = pair->phase == PAIR_CLOSING;
    uint64_t rate = d->rate[DEADLINE_HALF_CLOSE];
    uint64_t bought_ms = rate ? hosted->acked_in_phase * 1000 / rate : 0;
    uint64_t since_ms = rate ? hosted->phase_ms : max_of(hosted->phase_ms, hosted->last_ack_ms);
    if (closing && pair->up[LEG_BACKEND] && !pair->half[HALF_RESPONSE].fin_in)
        must_be_by(hosted, hosted->phase_ms, d->after_ms[DEADLINE_MESSAGE_GRACE], "message_grace holds");
    must_be_by(hosted, since_ms,
               d->after_ms[closing ? DEADLINE_GRACE : DEADLINE_WRITE_STALL] + 3 * DELIVERY_MS + bought_ms,
               "what follows a reset or our FINs is bounded");
}

/* A backend that left in what was the grace is replaced, or the request refused; then time is up. */
static void check_lifetime(const struct hosted *hosted, const struct pair *pair, const struct deadlines *d)
{
    uint64_t after_ms = d->after_ms[DEADLINE_LIFETIME];
    bool settled = pair->phase == PAIR_WAITING && pair->stage <= PAIR_STAGE_HEAD;
    if (after_ms == DEADLINE_OFF || pair->phase > PAIR_ENDING)
        return;
    if (settled || pair->phase == PAIR_OPEN)
        must_be_by(hosted, hosted->accepted_ms, after_ms, "lifetime holds");
    else
        must_be_by(hosted, hosted->accepted_ms + after_ms, d->after_ms[DEADLINE_GRACE] + DELIVERY_MS,
                   "lifetime's grace holds");
}

/* Before every step: nothing lasts longer than its deadline. */
static void check_time(struct hosted *hosted, const struct pair *pair)
{
    const struct deadlines *d = host_deadlines(hosted);
    if (hosted->drain_ms)
        must_be_by(hosted, hosted->drain_ms, d->after_ms[DEADLINE_DRAIN], "drain holds");
    if (pair->phase == PAIR_CONNECTING)
        must_be_by(hosted, hosted->attempt_ms, d->after_ms[DEADLINE_CONNECT], "connect holds");
    check_lifetime(hosted, pair, d);
    if (pair->phase == PAIR_WAITING || pair->phase == PAIR_OPEN || pair->phase == PAIR_ENDING)
        check_stage(hosted, pair, d);
    else if (pair->phase == PAIR_CLOSING || pair->phase == PAIR_RESETTING)
        check_closing(hosted, pair, d);
}

static void check_end(struct hosted *hosted, const struct session *session)
{
    const struct run *run = (const struct run *)hosted;
    const struct talk *talk = &talks[host_index(hosted)];
    enum reason reason = (enum reason)session->pair.reason;
    for (size_t i = 0; i < talk->count; i++) {
        totals.asks++;
        totals.answered += talk->asks[i].answered;
        totals.own += talk->asks[i].own_status != 0;
        totals.repeated += talk->asks[i].arrivals > 1;
    }
    if (run->kind != KIND_HEALTHY)
        return;
    totals.healthy++;
    must(hosted, all_answered(talk), "every request of a healthy session is answered by a server");
    /* message_grace: all was answered, and the server still reads a body that it had answered early. */
    must(hosted,
         reason == REASON_CLOSED || reason == REASON_KEEPALIVE || reason == REASON_CLIENT_CLOSED ||
             reason == REASON_MESSAGE_GRACE,
         "a healthy session is never cut");
}

/* ---- for the host ---- */

static struct hosted *hosted(size_t index)
{
    return &runs[index].hosted;
}

static void plan(size_t index, bool whole)
{
    struct run *run = &runs[index];
    enum setting setting = (enum setting)random_below(SETTINGS);
    bool shares = host.backend.conf->reuse != CONF_REUSE_OFF;
    *run = (struct run){.kind = one_in(4) ? KIND_FAULTY : KIND_HEALTHY};
    /* Who shares the connections of the faulty has a part in their fate. */
    if (shares)
        run->kind = host.seed % 4 ? KIND_HEALTHY : KIND_FAULTY;
    /* These settings forbid what the healthy do: to last, or to close in their own time. */
    if (shares && run->kind == KIND_HEALTHY && (setting == BOUNDED || setting == AT_ONCE))
        setting = QUICK;
    if (setting == BOUNDED || setting == AT_ONCE || !whole)
        run->kind = KIND_FAULTY;
    run->hosted.frontend = &frontends[setting];
    make_talk(&talks[index]);
    run->client = someone(&talks[index], random_below(60));
    talks[index].reaction_ms = 2 * run->client.delay_ms + run->client.read_gap_ms;
    if (run->kind == KIND_HEALTHY) {
        heal(&talks[index]);
        return;
    }
    spoil(&talks[index]);
    (void)spoil_peer(&run->client);
}

static int accept_client(size_t index)
{
    int fd = network_accept(index, &runs[index].client, &web_clients);
    web_open(network_connection(fd), true);
    return fd;
}

static int connect_server(size_t index)
{
    struct run *run = &runs[index];
    bool healthy = run->kind == KIND_HEALTHY;
    struct behaviour server = someone(&talks[index], random_below(10));
    bool orderly = healthy || !spoil_peer(&server);
    enum outcome outcome = OUTCOME_CONNECTED;
    if (one_in(healthy ? 20 : 8) && !(healthy && run->was_refused))
        outcome = healthy ? OUTCOME_REFUSED : (enum outcome)random_below(OUTCOME_COUNT);
    run->was_refused = outcome != OUTCOME_CONNECTED;
    int fd = network_connect(index, &server, &web_servers, outcome);
    if (fd >= 0)
        web_open(network_connection(fd), orderly);
    return fd;
}

static void print_totals(void)
{
    printf("%" PRIu64 " of them healthy; of %" PRIu64 " requests %" PRIu64
           " were answered by a server, %" PRIu64 " by us, %" PRIu64 " were sent twice; %" PRIu64
           " went over another session's connection; %" PRIu64 " answers ended by FIN where they were cut\n",
           totals.healthy, totals.asks, totals.answered, totals.own, totals.repeated, host.taken_over,
           totals.cut);
}

int main(int argc, char **argv)
{
    static const struct simulation simulation = {
        .name = "simulate_http",
        .protocol = &mode_http,
        .make_settings = make_settings,
        .shares = true,
        .hosted = hosted,
        .plan = plan,
        .accept = accept_client,
        .connect = connect_server,
        .before_step = check_time,
        .ended = check_end,
        .print_totals = print_totals,
    };
    return host_main(&simulation, argc, argv);
}
