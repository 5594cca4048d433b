/* The data plane's own session, relay and pipe code, the pair, the deadlines and the wheel, run against a
 * network that exists only in this process (network.h): a million sessions in less time than a thousand real
 * ones take, each with its own clients, servers and misfortunes, and the same again for the same seed.
 *
 * What is replaced is the worker's turn, the choice of a server (host.h) and the system calls. The promises
 * are checked from outside: by what the peers got, and by what time it was. simulate_http.c does the same for
 * mode http. */

#include "proxy/session/bytes.h"
#include "reaper/policy/deadline.h"
#include "tests/simulation/host.h"
#include "tests/simulation/stream.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- what is simulated ---- */

enum kind {
    KIND_HEALTHY, /* does nothing that any deadline forbids: has to end closed, with every byte */
    KIND_FAULTY,  /* may do anything */
};

struct run {
    struct hosted hosted;
    enum kind kind;
    struct behaviour client, server;
    enum outcome outcomes[SERVERS_MAX];
    unsigned attempt;
    uint64_t half_closed_ms;
    uint64_t credit_us; /* where half_close and grace would count from, acknowledged byte by byte */
};

static struct run runs[BATCH];
static uint64_t healthy;

/* ---- settings ---- */

enum { SETTINGS = 6 };

static struct conf_frontend confs[SETTINGS];
static struct frontend frontends[SETTINGS];

static void set(struct deadlines *d, enum deadline_id id, uint64_t ms)
{
    d->after_ms[id] = ms;
}

static void make_settings(void)
{
    static char name[] = "simulated";
    for (int i = 0; i < SETTINGS; i++) {
        deadlines_default(&confs[i].deadlines);
        confs[i].name = name;
        frontends[i].conf = &confs[i];
    }
    struct deadlines *quick = &confs[1].deadlines;
    set(quick, DEADLINE_CONNECT, 1000);
    set(quick, DEADLINE_IDLE, 10000);
    set(quick, DEADLINE_HALF_CLOSE, 2000);
    set(quick, DEADLINE_WRITE_STALL, 5000);
    set(quick, DEADLINE_GRACE, 1000);
    set(quick, DEADLINE_HALF_CLOSE_EMPTY, 1000);
    confs[2].deadlines = *quick;
    struct deadlines *bounded = &confs[2].deadlines;
    set(bounded, DEADLINE_LIFETIME, 20000);
    set(bounded, DEADLINE_HALF_CLOSE_MAX, 8000);
    set(bounded, DEADLINE_DRAIN, 5000);
    struct deadlines *at_once = &confs[3].deadlines;
    set(at_once, DEADLINE_HALF_CLOSE, 0);
    set(at_once, DEADLINE_GRACE, 0);
    set(at_once, DEADLINE_DRAIN, 0);
    struct deadlines *any_byte = &confs[4].deadlines;
    any_byte->rate[DEADLINE_HALF_CLOSE] = 0;
    any_byte->verify = VERIFY_ON;
    set(any_byte, DEADLINE_HALF_CLOSE, 1500);
    confs[5].deadlines = *quick;
    confs[5].deadlines.verify = VERIFY_EXTEND;
    set(&confs[5].deadlines, DEADLINE_HALF_CLOSE_MAX, 600000);
}

/* ---- who takes part ---- */

static uint64_t some_bytes(void)
{
    if (one_in(100))
        return 1 + random_below(UINT64_C(1) << 21);
    if (one_in(10))
        return 1 + random_below(1 << 16);
    return 1 + random_below(2000);
}

static struct behaviour someone(uint64_t delay_ms)
{
    uint32_t read_chunk = 1u << (12 + random_below(6));
    /* What its kernel has acknowledged it reads within half a second, so that it is never silent for long. */
    uint32_t window_bytes =
        (uint32_t)min_of(UINT64_C(1) << (12 + random_below(8)), read_chunk * UINT64_C(32));
    return (struct behaviour){.send_bytes = some_bytes(),
                              .send_chunk = 1u << (10 + random_below(8)),
                              .send_gap_ms = (uint32_t)random_below(40),
                              .think_ms = (uint32_t)random_below(100),
                              .close_after = NEVER,
                              .read_chunk = read_chunk,
                              .read_gap_ms = (uint32_t)random_below(4) * 5,
                              .read_limit = NEVER,
                              .reset_at_ms = NEVER,
                              .vanish_at_ms = NEVER,
                              .delay_ms = (uint32_t)delay_ms,
                              .window_bytes = window_bytes};
}

/* A client that asks, and a server that answers; who closes first, and how, differs. */
static void make_healthy(struct run *run)
{
    struct behaviour *client = &run->client, *server = &run->server;
    run->kind = KIND_HEALTHY;
    *client = someone(random_below(60));
    *server = someone(random_below(10));
    server->await_bytes = client->send_bytes;
    server->fin_on_eof = client->fin_on_eof = true;
    switch (random_below(4)) {
    case 0: /* half-closes behind the request */
        client->fin_when_sent = true;
        server->think_ms = (uint32_t)random_below(1200);
        break;
    case 1: /* reads the answer and closes */
        client->close_after = server->send_bytes;
        break;
    case 2: /* the server closes behind its answer */
        server->fin_when_sent = true;
        break;
    default: /* both at once: the FINs cross */
        server->await_bytes = 0;
        client->fin_when_sent = server->fin_when_sent = true;
        break;
    }
    run->outcomes[0] = one_in(20) ? OUTCOME_REFUSED : OUTCOME_CONNECTED;
    run->outcomes[1] = run->outcomes[2] = OUTCOME_CONNECTED;
}

static void spoil(struct behaviour *peer)
{
    switch (random_below(10)) {
    case 0:
        peer->fin_on_eof = false; /* leaks */
        break;
    case 1:
        peer->read_limit = random_below(2) ? 0 : some_bytes(); /* reads no more */
        break;
    case 2:
        peer->reset_at_ms = random_below(one_in(2) ? 200 : 20000);
        break;
    case 3:
        peer->vanish_at_ms = random_below(one_in(2) ? 200 : 20000);
        break;
    case 4:
        peer->trickle_bytes = (uint32_t)(1 + random_below(200));
        peer->trickle_ms = (uint32_t)(1 + random_below(3000));
        peer->send_bytes = random_below(2000);
        break;
    case 5: /* reads a trickle */
        peer->read_chunk = 1 + (uint32_t)random_below(500);
        peer->read_gap_ms = 500 + (uint32_t)random_below(3000);
        peer->window_bytes = 512;
        break;
    case 6:
        peer->send_gap_ms = (uint32_t)random_below(20000); /* pauses */
        break;
    case 7:
        peer->close_after = 1 + random_below(2000); /* closes on what it does not want */
        break;
    case 8:
        peer->await_bytes = random_below(2) ? NEVER : peer->await_bytes + 1; /* never answers */
        break;
    default:
        break;
    }
}

static void make_faulty(struct run *run)
{
    make_healthy(run);
    run->kind = KIND_FAULTY;
    spoil(&run->client);
    spoil(&run->server);
    if (one_in(3))
        spoil(&run->server);
    for (int i = 0; i < SERVERS_MAX; i++)
        run->outcomes[i] = one_in(2) ? OUTCOME_CONNECTED : (enum outcome)random_below(OUTCOME_COUNT);
}

/* ---- promises ---- */

static uint64_t bought_ms(const struct run *run, uint64_t bytes)
{
    uint64_t rate = host_deadlines(&run->hosted)->rate[DEADLINE_HALF_CLOSE];
    return rate ? bytes * 1000 / rate : 0;
}

void saw_progress(struct connection *sink, uint64_t bytes)
{
    struct run *run = &runs[sink->session];
    uint64_t rate = host_deadlines(&run->hosted)->rate[DEADLINE_HALF_CLOSE];
    uint64_t now_us = network.now_ms * 1000;
    run->hosted.last_ack_ms = network.now_ms;
    run->hosted.acked_in_phase += bytes;
    run->credit_us = rate ? min_of(now_us, run->credit_us + bytes * 1000000 / rate) : now_us;
}

/* A FIN goes to the peer of `sink`: behind every byte that was read for it, and only if the other peer sent
 * one or this one is not fooled by it. */
void saw_fin(struct connection *sink)
{
    struct run *run = &runs[sink->session];
    const struct connection *source = run->hosted.legs[leg_other(sink->leg)];
    if (!source || !run->hosted.session)
        return;
    if (source->fin_read && run->half_closed_ms == 0) {
        run->half_closed_ms = network.now_ms;
        run->credit_us = network.now_ms * 1000;
    }
    if (sink->dead || (sink->closed && !source->fin_read)) /* nobody is there to be fooled */
        return;
    if (source->fin_read) {
        must(&run->hosted, sink->sent_bytes == source->read_bytes, "no FIN passes a byte");
        must(&run->hosted, source->read_bytes == source->written_bytes,
             "a FIN that is relayed is the source's");
        return;
    }
    must(&run->hosted, sink->sent_bytes == source->read_bytes, "no FIN passes a byte");
    must(&run->hosted, !sink->fin_read, "a half-closed peer never gets a FIN of our making");
    must(&run->hosted, !source->dead || !source->connected, "a reset never becomes a FIN");
}

void saw_reset(struct connection *c)
{
    (void)c;
}

static uint64_t held_since_ms(const struct run *run, enum half half)
{
    const struct connection *sink = run->hosted.legs[half_sink(half)];
    return max_of(run->hosted.held_ms[half], max_of(sink->last_ack_ms, sink->last_take_ms));
}

static bool is_empty(const struct pair *pair)
{
    return pair->half[HALF_REQUEST].written_bytes == 0 && pair->half[HALF_RESPONSE].written_bytes == 0;
}

static void check_relaying(const struct run *run, const struct pair *pair, const struct deadlines *d)
{
    if (track_half_closed(pair)) {
        must_be_by(&run->hosted, run->half_closed_ms, d->after_ms[DEADLINE_HALF_CLOSE_MAX],
                   "half_close_max holds");
        if (is_empty(pair) && track_half_ended(&pair->half[HALF_REQUEST]) &&
            d->after_ms[DEADLINE_HALF_CLOSE_EMPTY] != DEADLINE_OFF)
            must_be_by(&run->hosted, run->half_closed_ms,
                       d->after_ms[DEADLINE_HALF_CLOSE_EMPTY] + DELIVERY_MS, "half_close_empty holds");
        /* What a burst bought is thrown away when the deadline is looked at, which may be one later; then
         * come the wait for a delivery and the probes. */
        if (d->verify != VERIFY_EXTEND)
            must_be_by(&run->hosted, run->credit_us / 1000,
                       2 * d->after_ms[DEADLINE_HALF_CLOSE] + 3 * DELIVERY_MS + 1000, "half_close holds");
    } else {
        /* The kernel knows when it last heard of a peer, not when of bytes: that may be one later, too. */
        must_be_by(&run->hosted, max_of(run->hosted.last_ack_ms, run->hosted.opened_ms),
                   2 * d->after_ms[DEADLINE_IDLE] + DELIVERY_MS, "idle holds");
    }
    if (pair->phase == PAIR_OPEN)
        must_be_by(&run->hosted, run->hosted.accepted_ms, d->after_ms[DEADLINE_LIFETIME], "lifetime holds");
    else if (pair->reason == REASON_LIFETIME)
        must_be_by(&run->hosted, run->hosted.accepted_ms + d->after_ms[DEADLINE_LIFETIME],
                   d->after_ms[DEADLINE_GRACE] + DELIVERY_MS, "lifetime's grace holds");
    for (enum half half = 0; half < HALF_COUNT; half++)
        if (pair->half[half].held)
            must_be_by(&run->hosted, held_since_ms(run, half), d->after_ms[DEADLINE_WRITE_STALL] * 5 / 4,
                       "write_stall holds");
}

/* Before every step: nothing lasts longer than its deadline. */
static void check_time(const struct run *run, const struct pair *pair)
{
    const struct deadlines *d = host_deadlines(&run->hosted);
    if (run->hosted.drain_ms)
        must_be_by(&run->hosted, run->hosted.drain_ms, d->after_ms[DEADLINE_DRAIN], "drain holds");
    switch ((enum pair_phase)pair->phase) {
    case PAIR_CONNECTING:
        must_be_by(&run->hosted, run->hosted.attempt_ms, d->after_ms[DEADLINE_CONNECT], "connect holds");
        break;
    case PAIR_OPEN:
    case PAIR_ENDING:
        check_relaying(run, pair, d);
        break;
    case PAIR_RESETTING:
    case PAIR_CLOSING: {
        enum deadline_id id = pair->phase == PAIR_CLOSING ? DEADLINE_GRACE : DEADLINE_WRITE_STALL;
        uint64_t since_ms = d->rate[DEADLINE_HALF_CLOSE]
                                ? run->hosted.phase_ms
                                : max_of(run->hosted.phase_ms, run->hosted.last_ack_ms);
        must_be_by(&run->hosted, since_ms,
                   d->after_ms[id] + 3 * DELIVERY_MS + bought_ms(run, run->hosted.acked_in_phase),
                   "what follows a reset or our FINs is bounded");
        break;
    }
    case PAIR_WAITING: /* mode http */
    case PAIR_ENDED:
    case PAIR_PHASE_COUNT:
        break;
    }
}

static bool has_dead_leg(const struct hosted *hosted)
{
    return hosted->legs[LEG_CLIENT]->dead || hosted->legs[LEG_BACKEND]->dead;
}

/* After a deadline has ended something: it did not do so early. */
static void check_not_early(const struct run *run, const struct pair *pair)
{
    const struct deadlines *d = host_deadlines(&run->hosted);
    uint64_t now_ms = network.now_ms;
    switch ((enum reason)pair->reason) {
    case REASON_IDLE:
        /* What a leg that is reset had acknowledged before cannot be asked any more. */
        must(&run->hosted,
             now_ms >= run->hosted.last_ack_ms + d->after_ms[DEADLINE_IDLE] || has_dead_leg(&run->hosted),
             "idle does not come early");
        break;
    case REASON_HALF_CLOSE:
    case REASON_HALF_CLOSE_RATE: /* 1: the pair rounds what bytes buy down to milliseconds, once a look */
        must(&run->hosted,
             now_ms + 1 + (now_ms - run->half_closed_ms) / 25 >=
                 run->credit_us / 1000 + d->after_ms[DEADLINE_HALF_CLOSE],
             "half_close does not cut a flow that keeps the rate");
        break;
    case REASON_HALF_CLOSE_EMPTY:
        must(&run->hosted, now_ms >= run->half_closed_ms + d->after_ms[DEADLINE_HALF_CLOSE_EMPTY],
             "half_close_empty does not come early");
        must(&run->hosted, is_empty(pair), "half_close_empty cuts nobody who sent or got a byte");
        break;
    case REASON_HALF_CLOSE_MAX:
        must(&run->hosted, now_ms >= run->half_closed_ms + d->after_ms[DEADLINE_HALF_CLOSE_MAX],
             "half_close_max does not come early");
        break;
    default:
        break;
    }
}

/* The end of one half, as its peers see it. */
static void check_half(const struct run *run, enum half half)
{
    const struct connection *source = run->hosted.legs[half_source(half)];
    const struct connection *sink = run->hosted.legs[half_sink(half)];
    if (!source || !sink || !sink->connected || !source->connected)
        return;
    bool lost = sink->sent_bytes < source->read_bytes;
    bool told = sink->reset || sink->dead;
    /* One that had closed before the bytes came is past being told. */
    bool past = sink->fin_read && sink->fin_sent;
    must(&run->hosted, !lost || told || past,
         "a byte that was read reaches its sink, or the sink learns of the loss");
    if (told || !sink->fin_sent || !source->fin_read)
        return;
    must(&run->hosted, sink->sent_bytes == source->written_bytes || past,
         "a clean end stands behind the whole stream");
}

/* Each peer's kernel answers a probe as soon as its network lets it. */
static void check_lost(const struct hosted *hosted, enum leg leg, bool lost)
{
    const struct connection *c = hosted->legs[leg];
    must(hosted, !lost || (c && (c->vanished || c->dead)), "a peer that answers is never called lost");
}

static void check_end(struct hosted *hosted, const struct session *session)
{
    const struct run *run = (struct run *)hosted;
    enum reason reason = (enum reason)session->pair.reason;
    for (enum half half = 0; half < HALF_COUNT; half++)
        check_half(run, half);
    check_lost(hosted, LEG_CLIENT, reason == REASON_CLIENT_LOST);
    check_lost(hosted, LEG_BACKEND, reason == REASON_BACKEND_LOST);
    if (run->kind != KIND_HEALTHY)
        return;
    bool client_closed = hosted->legs[LEG_CLIENT]->closed && reason == REASON_CLIENT_CLOSED;
    must(hosted, reason == REASON_CLOSED || client_closed, "a healthy session is never cut");
    must(hosted, hosted->legs[LEG_BACKEND]->sent_bytes == run->client.send_bytes, "a whole request arrives");
    must(hosted, hosted->legs[LEG_CLIENT]->sent_bytes == run->server.send_bytes, "a whole answer arrives");
    healthy++;
}

/* ---- for the host ---- */

static struct hosted *hosted(size_t index)
{
    return &runs[index].hosted;
}

static void plan(size_t index, bool whole)
{
    struct run *run = &runs[index];
    size_t setting = random_below(SETTINGS);
    *run = (struct run){.hosted.frontend = &frontends[setting]};
    if (one_in(2))
        make_faulty(run);
    else
        make_healthy(run);
    /* These settings forbid what the healthy do: to think after a FIN, or to take long. */
    if (setting == 2 || setting == 3 || !whole)
        run->kind = KIND_FAULTY;
}

static int accept_client(size_t index)
{
    return network_accept(index, &runs[index].client, &stream_peers);
}

static int connect_server(size_t index)
{
    struct run *run = &runs[index];
    must(&run->hosted, run->attempt < SERVERS_MAX, "no more servers are tried than there are");
    return network_connect(index, &run->server, &stream_peers, run->outcomes[run->attempt++]);
}

static void before_step(struct hosted *hosted, const struct pair *pair)
{
    check_time((struct run *)hosted, pair);
}

static void after_step(struct hosted *hosted, const struct pair *pair, const struct pair_input *input,
                       enum pair_phase before)
{
    if (pair->phase != before && input->event == PAIR_EVENT_EXPIRED && before <= PAIR_ENDING)
        check_not_early((struct run *)hosted, pair);
    bool closed = before == PAIR_RESETTING && pair->reason == REASON_CLIENT_CLOSED;
    if (closed && pair->leg_end[LEG_BACKEND] == LEG_END_RST && input->event == PAIR_EVENT_EXPIRED)
        must(hosted,
             network.now_ms >= hosted->phase_ms + host_deadlines(hosted)->after_ms[DEADLINE_MESSAGE_GRACE] ||
                 hosted->drain_ms,
             "a server that says nothing to a client that is gone has time to close");
}

static void print_totals(void)
{
    printf("%" PRIu64 " of them healthy\n", healthy);
}

int main(int argc, char **argv)
{
    static const struct simulation simulation = {
        .name = "simulate",
        .protocol = &bytes_protocol,
        .make_settings = make_settings,
        .hosted = hosted,
        .plan = plan,
        .accept = accept_client,
        .connect = connect_server,
        .before_step = before_step,
        .after_step = after_step,
        .ended = check_end,
        .print_totals = print_totals,
    };
    return host_main(&simulation, argc, argv);
}
