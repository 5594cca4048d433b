/* The data plane's own session, relay and pipe code, the pair, the deadlines and the wheel, run against a
 * network that exists only in this process (network.h): a million sessions in less time than a thousand real
 * ones take, each with its own clients, servers and misfortunes, and the same again for the same seed.
 *
 * What is replaced is the worker's turn (here: begin_turn), the choice of a server and the system calls.
 * Sessions run in batches that share a worker, so that one's fault would show in another. The promises are
 * checked from outside: by what the peers got, and by what time it was. */

#include "proxy/plane/peer.h"
#include "proxy/plane/session.h"
#include "tests/simulation/network.h"

#include <argp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <utlist.h>

enum { BATCH = 64, SERVERS_MAX = 3, START_MS = 1000000, START_WITHIN_MS = 60000 };

/* How late the worker itself may be without a stop: a recheck of a delivery (50 ms), of rest (250 ms), a
 * millisecond's rounding for each. */
enum { LATE_MS = 320 };

/* ---- what is simulated ---- */

enum kind {
    KIND_HEALTHY, /* does nothing that any deadline forbids: has to end closed, with every byte */
    KIND_FAULTY,  /* may do anything */
};

struct run {
    enum kind kind;
    struct session *session;
    const struct frontend *frontend;
    struct behaviour client, server;
    enum outcome outcomes[SERVERS_MAX];
    unsigned attempt;
    struct target target;
    struct connection *legs[LEG_COUNT];
    bool over;

    uint64_t accepted_ms, attempt_ms, opened_ms, half_closed_ms, phase_ms, held_ms[HALF_COUNT];
    uint64_t drain_ms;
    uint64_t last_ack_ms;    /* of any leg */
    uint64_t credit_us;      /* where half_close and grace would count from, acknowledged byte by byte */
    uint64_t acked_in_phase; /* bytes */
    uint64_t stopped_ms;     /* of this process, when the session was accepted */
};

static struct {
    uint64_t seed; /* of this batch */
    size_t size;
    struct run runs[BATCH];
    struct worker worker;
    struct backend backend;
    struct wheel starts;
    struct wheel_entry start[BATCH];
    size_t over;
    uint64_t stop_at_ms, stop_ms, drain_at_ms;
    uint64_t stopped_ms; /* so far */
    struct run *opening; /* the one whose session is being opened */
} batch;

static struct {
    uint64_t sessions, bytes, healthy, ended[REASON_COUNT];
    uint64_t steps;
} totals;

static bool verbose;

_Noreturn void broken(size_t session, const char *what)
{
    const struct run *run = &batch.runs[session];
    fflush(stdout);
    fprintf(stderr,
            "broken: %s\n  session %zu of the batch, at %" PRIu64 " ms, phase %s, reason %s\n"
            "  replay: simulate --seed %" PRIu64 " --sessions %zu --verbose\n",
            what, session, network.now_ms - START_MS,
            run->session ? pair_phase_name(run->session->pair.phase) : "none",
            run->session ? reason_name(run->session->pair.reason) : "none", batch.seed, batch.size);
    exit(1);
}

/* ---- settings ---- */

static uint64_t max_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t min_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

enum { SETTINGS = 6 };

static struct conf_frontend confs[SETTINGS];
static struct frontend frontends[SETTINGS];
static struct conf_backend backend_conf;

static void set(struct deadlines *d, enum deadline_id id, uint64_t ms)
{
    d->after_ms[id] = ms;
}

static void make_settings(void)
{
    for (int i = 0; i < SETTINGS; i++) {
        deadlines_default(&confs[i].deadlines);
        confs[i].name = (char[]){"simulated"};
        frontends[i].conf = &confs[i];
    }
    struct deadlines *quick = &confs[1].deadlines;
    set(quick, DEADLINE_CONNECT, 1000);
    set(quick, DEADLINE_IDLE, 10000);
    set(quick, DEADLINE_HALF_CLOSE, 2000);
    set(quick, DEADLINE_WRITE_STALL, 5000);
    set(quick, DEADLINE_GRACE, 1000);
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
    any_byte->half_close_rate = 0;
    any_byte->verify = VERIFY_ON;
    set(any_byte, DEADLINE_HALF_CLOSE, 1500);
    confs[5].deadlines = *quick;
    confs[5].deadlines.verify = VERIFY_EXTEND;
    set(&confs[5].deadlines, DEADLINE_HALF_CLOSE_MAX, 600000);
}

static const struct deadlines *deadlines_of(const struct run *run)
{
    return &run->frontend->conf->deadlines;
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

static struct run *run_of(const struct session *session)
{
    return &batch.runs[session->id];
}

static void must(const struct run *run, bool holds, const char *what)
{
    if (!holds)
        broken((size_t)(run - batch.runs), what);
}

/* What the session may be late by: this process may have been stopped. */
static uint64_t slack_ms(const struct run *run)
{
    return LATE_MS + batch.stopped_ms - run->stopped_ms;
}

static void must_be_by(const struct run *run, uint64_t since_ms, uint64_t after_ms, const char *what)
{
    if (after_ms == DEADLINE_OFF)
        return;
    must(run, network.now_ms <= since_ms + after_ms + slack_ms(run), what);
}

static uint64_t bought_ms(const struct run *run, uint64_t bytes)
{
    uint64_t rate = deadlines_of(run)->half_close_rate;
    return rate ? bytes * 1000 / rate : 0;
}

void saw_progress(struct connection *sink, uint64_t bytes)
{
    struct run *run = &batch.runs[sink->session];
    uint64_t rate = deadlines_of(run)->half_close_rate;
    uint64_t now_us = network.now_ms * 1000;
    run->last_ack_ms = network.now_ms;
    run->acked_in_phase += bytes;
    run->credit_us = rate ? min_of(now_us, run->credit_us + bytes * 1000000 / rate) : now_us;
}

/* A FIN goes to the peer of `sink`: behind every byte that was read for it, and only if the other peer sent
 * one or this one is not fooled by it. */
void saw_fin(struct connection *sink)
{
    struct run *run = &batch.runs[sink->session];
    const struct connection *source = run->legs[leg_other(sink->leg)];
    if (!source || !run->session)
        return;
    if (source->fin_read && run->half_closed_ms == 0) {
        run->half_closed_ms = network.now_ms;
        run->credit_us = network.now_ms * 1000;
    }
    if (sink->dead || (sink->closed && !source->fin_read)) /* nobody is there to be fooled */
        return;
    if (source->fin_read) {
        must(run, sink->sent_bytes == source->read_bytes, "no FIN passes a byte");
        must(run, source->read_bytes == source->written_bytes, "a FIN that is relayed is the source's");
        return;
    }
    must(run, sink->sent_bytes == source->read_bytes, "no FIN passes a byte");
    must(run, !sink->fin_read, "a half-closed peer never gets a FIN of our making");
    must(run, !source->dead || !source->connected, "a reset never becomes a FIN");
}

static uint64_t held_since_ms(const struct run *run, enum half half)
{
    const struct connection *sink = run->legs[half_sink(half)];
    return max_of(run->held_ms[half], max_of(sink->last_ack_ms, sink->last_take_ms));
}

static void check_relaying(const struct run *run, const struct pair *pair, const struct deadlines *d)
{
    if (pair_half_closed(pair)) {
        must_be_by(run, run->half_closed_ms, d->after_ms[DEADLINE_HALF_CLOSE_MAX], "half_close_max holds");
        /* What a burst bought is thrown away when the deadline is looked at, which may be one later; then
         * come the wait for a delivery and the probes. */
        if (d->verify != VERIFY_EXTEND)
            must_be_by(run, run->credit_us / 1000,
                       2 * d->after_ms[DEADLINE_HALF_CLOSE] + 3 * DELIVERY_MS + 1000, "half_close holds");
    } else {
        /* The kernel knows when it last heard of a peer, not when of bytes: that may be one later, too. */
        must_be_by(run, max_of(run->last_ack_ms, run->opened_ms),
                   2 * d->after_ms[DEADLINE_IDLE] + DELIVERY_MS, "idle holds");
    }
    if (pair->phase == PAIR_OPEN)
        must_be_by(run, run->accepted_ms, d->after_ms[DEADLINE_LIFETIME], "lifetime holds");
    else if (pair->reason == REASON_LIFETIME)
        must_be_by(run, run->accepted_ms + d->after_ms[DEADLINE_LIFETIME],
                   d->after_ms[DEADLINE_GRACE] + DELIVERY_MS, "lifetime's grace holds");
    for (enum half half = 0; half < HALF_COUNT; half++)
        if (pair->half[half].held)
            must_be_by(run, held_since_ms(run, half), d->after_ms[DEADLINE_WRITE_STALL] * 5 / 4,
                       "write_stall holds");
}

/* Before every step: nothing lasts longer than its deadline. */
static void check_time(const struct run *run, const struct pair *pair)
{
    const struct deadlines *d = deadlines_of(run);
    if (run->drain_ms)
        must_be_by(run, run->drain_ms, d->after_ms[DEADLINE_DRAIN], "drain holds");
    switch ((enum pair_phase)pair->phase) {
    case PAIR_CONNECTING:
        must_be_by(run, run->attempt_ms, d->after_ms[DEADLINE_CONNECT], "connect holds");
        break;
    case PAIR_OPEN:
    case PAIR_ENDING:
        check_relaying(run, pair, d);
        break;
    case PAIR_RESETTING:
    case PAIR_CLOSING: {
        enum deadline_id id = pair->phase == PAIR_CLOSING ? DEADLINE_GRACE : DEADLINE_WRITE_STALL;
        uint64_t since_ms = d->half_close_rate ? run->phase_ms : max_of(run->phase_ms, run->last_ack_ms);
        must_be_by(run, since_ms, d->after_ms[id] + 3 * DELIVERY_MS + bought_ms(run, run->acked_in_phase),
                   "what follows a reset or our FINs is bounded");
        break;
    }
    case PAIR_WAITING: /* mode http */
    case PAIR_ENDED:
    case PAIR_PHASE_COUNT:
        break;
    }
}

/* After a deadline has ended something: it did not do so early. */
static void check_not_early(const struct run *run, const struct pair *pair)
{
    const struct deadlines *d = deadlines_of(run);
    uint64_t now_ms = network.now_ms;
    switch ((enum reason)pair->reason) {
    case REASON_IDLE:
        must(run, now_ms >= run->last_ack_ms + d->after_ms[DEADLINE_IDLE], "idle does not come early");
        break;
    case REASON_HALF_CLOSE:
    case REASON_HALF_CLOSE_RATE: /* 1: the pair rounds what bytes buy down to milliseconds, once a look */
        must(run,
             now_ms + 1 + (now_ms - run->half_closed_ms) / 25 >=
                 run->credit_us / 1000 + d->after_ms[DEADLINE_HALF_CLOSE],
             "half_close does not cut a flow that keeps the rate");
        break;
    case REASON_HALF_CLOSE_MAX:
        must(run, now_ms >= run->half_closed_ms + d->after_ms[DEADLINE_HALF_CLOSE_MAX],
             "half_close_max does not come early");
        break;
    default:
        break;
    }
}

/* The end of one half, as its peers see it. */
static void check_half(const struct run *run, enum half half)
{
    const struct connection *source = run->legs[half_source(half)];
    const struct connection *sink = run->legs[half_sink(half)];
    if (!source || !sink || !sink->connected || !source->connected)
        return;
    bool lost = sink->sent_bytes < source->read_bytes;
    bool told = sink->reset || sink->dead;
    /* One that had closed before the bytes came is past being told. */
    bool past = sink->fin_read && sink->fin_sent;
    must(run, !lost || told || past, "a byte that was read reaches its sink, or the sink learns of the loss");
    if (told || !sink->fin_sent || !source->fin_read)
        return;
    must(run, sink->sent_bytes == source->written_bytes || past,
         "a clean end stands behind the whole stream");
}

static void check_end(struct run *run, const struct pair *pair)
{
    for (enum half half = 0; half < HALF_COUNT; half++)
        check_half(run, half);
    must(run, pair->reason != REASON_NONE, "an end has a reason");
    if (run->kind == KIND_HEALTHY) {
        bool client_closed = run->legs[LEG_CLIENT]->closed && pair->reason == REASON_CLIENT_CLOSED;
        must(run, pair->reason == REASON_CLOSED || client_closed, "a healthy session is never cut");
        must(run, run->legs[LEG_BACKEND]->sent_bytes == run->client.send_bytes, "a whole request arrives");
        must(run, run->legs[LEG_CLIENT]->sent_bytes == run->server.send_bytes, "a whole answer arrives");
        totals.healthy++;
    }
    totals.sessions++;
    totals.ended[pair->reason]++;
    totals.bytes += pair->half[HALF_REQUEST].written_bytes + pair->half[HALF_RESPONSE].written_bytes;
}

/* Every step of every pair goes through here. */
pair_actions __real_pair_step(struct pair *pair, const struct pair_input *input, uint64_t now_ms);
pair_actions __wrap_pair_step(struct pair *pair, const struct pair_input *input, uint64_t now_ms);

static void print_step(const struct run *run, const struct pair *pair, const struct pair_input *input,
                       pair_actions actions)
{
    static const char *const events[PAIR_EVENT_COUNT] = {"connected", "refused",   "fin",   "held",
                                                         "drained",   "discarded", "reset", "lost",
                                                         "closed",    "expired",   "drain", "abort"};
    printf("%10" PRIu64 " session %2zu %-10s half %d leg %d: %s, %s, actions %02x\n",
           network.now_ms - START_MS, (size_t)(run - batch.runs), events[input->event], (int)input->half,
           (int)input->leg, pair_phase_name(pair->phase), reason_name(pair->reason), (unsigned)actions);
}

pair_actions __wrap_pair_step(struct pair *pair, const struct pair_input *input, uint64_t now_ms)
{
    struct session *session = (struct session *)((char *)pair - offsetof(struct session, pair));
    struct run *run = run_of(session);
    uint8_t phase = pair->phase;
    check_time(run, pair);
    if (input->event == PAIR_EVENT_HELD)
        run->held_ms[input->half] = now_ms;
    pair_actions actions = __real_pair_step(pair, input, now_ms);
    totals.steps++;
    if (verbose)
        print_step(run, pair, input, actions);
    pair_check(pair);
    if (pair->phase == phase)
        return actions;
    if (pair->phase == PAIR_OPEN || (phase == PAIR_CONNECTING && pair->phase == PAIR_ENDING))
        run->opened_ms = now_ms;
    if (input->event == PAIR_EVENT_EXPIRED && phase <= PAIR_ENDING)
        check_not_early(run, pair);
    run->phase_ms = now_ms;
    run->acked_in_phase = 0;
    return actions;
}

/* ---- what a worker is to its sessions ---- */

uint64_t uv_now(const uv_loop_t *loop)
{
    (void)loop;
    return network.now_ms;
}

void worker_put_off(struct worker *worker, struct task *task)
{
    if (task->queued)
        return;
    task->queued = true;
    DL_APPEND(worker->tasks, task);
}

void worker_forget(struct worker *worker, struct task *task)
{
    if (!task->queued)
        return;
    task->queued = false;
    DL_DELETE(worker->tasks, task);
}

void worker_set_alarm(struct worker *worker, struct alarm *alarm, uint64_t due_ms)
{
    if (due_ms == UINT64_MAX)
        return;
    if (wheel_entry_linked(&alarm->entry)) {
        if (alarm->entry.due_ms <= due_ms)
            return;
        wheel_remove(&worker->wheel, &alarm->entry);
    }
    wheel_add(&worker->wheel, &alarm->entry, due_ms);
}

void worker_clear_alarm(struct worker *worker, struct alarm *alarm)
{
    wheel_remove(&worker->wheel, &alarm->entry);
}

void worker_session_opened(struct worker *worker, struct session *session)
{
    session->id = (uint64_t)(batch.opening - batch.runs);
    batch.opening->session = session;
    DL_APPEND(worker->sessions, session);
}

void worker_session_ended(struct worker *worker, struct session *session)
{
    struct run *run = run_of(session);
    check_end(run, &session->pair);
    must(run, !wheel_entry_linked(&session->alarm.entry), "no timer outlives its session");
    must(run, !session->task.queued, "no work outlives its session");
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        must(run, !run->legs[leg] || !run->legs[leg]->open, "no descriptor outlives its session");
    for (enum half half = 0; half < HALF_COUNT; half++)
        must(run, !session->relays[half].held && !session->relays[half].pipe,
             "no buffer outlives its session");
    (void)worker;
}

void worker_session_done(struct worker *worker, struct session *session)
{
    struct run *run = run_of(session);
    must(run, !wheel_entry_linked(&session->alarm.entry), "no timer outlives its session");
    DL_DELETE(worker->sessions, session);
    LL_PREPEND(worker->done, session);
    run->over = true;
    batch.over++;
}

size_t backend_targets(const struct backend *backend)
{
    (void)backend;
    return SERVERS_MAX;
}

struct target *backend_pick(struct backend *backend, const union socket_address *client,
                            const struct target *previous)
{
    const struct session *session =
        (const struct session *)(const void *)((const char *)client - offsetof(struct session, client));
    (void)backend;
    (void)previous;
    return &run_of(session)->target;
}

void backend_release(struct target *target)
{
    (void)target;
}

int socket_connect(const struct conf_address *address, const struct conf_tcp *tcp)
{
    const struct target *target =
        (const struct target *)(const void *)((const char *)address - offsetof(struct target, address));
    size_t index = (size_t)((const char *)target - (const char *)batch.runs) / sizeof(struct run);
    struct run *run = &batch.runs[index];
    (void)tcp;
    run->attempt_ms = network.now_ms;
    must(run, run->attempt < SERVERS_MAX, "no more servers are tried than there are");
    int fd = network_connect(index, &run->server, run->outcomes[run->attempt++]);
    run->legs[LEG_BACKEND] = fd < 0 ? NULL : network_connection(fd);
    return fd;
}

/* What the kernel says of sockets of this host, which all peers are on, or none. */
enum clearing peer_find(struct netlink *netlink, int fd, struct diag_id *peer)
{
    (void)netlink;
    (void)fd;
    (void)peer;
    return random_below(2) ? CLEARING_STILL : CLEARING_REMOTE;
}

enum clearing peer_look(struct netlink *netlink, const struct diag_id *peer)
{
    (void)netlink;
    (void)peer;
    return random_below(2) ? CLEARING_GONE : CLEARING_STILL;
}

enum peer_hold peer_hold(struct netlink *netlink, int fd)
{
    (void)netlink;
    if (one_in(3))
        return PEER_UNKNOWN;
    return network_connection(fd)->closed ? PEER_CLOSED : PEER_HOLDS;
}

const char *clearing_name(enum clearing clearing)
{
    return clearing == CLEARING_UNKNOWN ? "unknown" : "none";
}

/* The session's own log line is among what --verbose prints. */
bool log_wants(const struct log_ring *ring, enum conf_log_level level)
{
    (void)ring;
    (void)level;
    return verbose;
}

enum conf_log_format log_format(const struct log_ring *ring)
{
    (void)ring;
    return CONF_LOG_LOGFMT;
}

void log_line(struct log_ring *ring, const struct line *line)
{
    (void)ring;
    printf("%.*s", (int)line->size, line->text);
}

const char *socket_text(const union socket_address *address, char text[SOCKET_TEXT])
{
    (void)address;
    text[0] = '\0';
    return text;
}

const char *uv_strerror(int error)
{
    return strerror(-error);
}

/* ---- a batch ---- */

static void make_run(struct run *run)
{
    *run = (struct run){.frontend = &frontends[random_below(SETTINGS)]};
    if (one_in(2))
        make_faulty(run);
    else
        make_healthy(run);
    bool whole = batch.drain_at_ms == NEVER && network.no_descriptors_from_ms == NEVER &&
                 network.allocations_per_failure == 0;
    /* These settings forbid what the healthy do: to think after a FIN, or to take long. */
    if (run->frontend == &frontends[3] || run->frontend == &frontends[2] || !whole)
        run->kind = KIND_FAULTY;
}

static void plan_misfortunes(void)
{
    if (one_in(16))
        batch.drain_at_ms = network.now_ms + random_below(START_WITHIN_MS);
    if (one_in(16)) {
        network.no_descriptors_from_ms = network.now_ms + random_below(START_WITHIN_MS);
        network.no_descriptors_to_ms = network.no_descriptors_from_ms + random_below(10000);
    }
    if (one_in(16))
        network.allocations_per_failure = 2 + (uint32_t)random_below(20);
    if (one_in(8)) {
        batch.stop_at_ms = network.now_ms + random_below(START_WITHIN_MS);
        batch.stop_ms = 1 + random_below(one_in(2) ? 1000 : 100000);
    }
}

static void begin_batch(uint64_t seed, size_t size)
{
    memset(&batch, 0, sizeof batch);
    network_begin(seed, START_MS);
    batch.seed = seed;
    batch.size = size;
    batch.stop_at_ms = batch.drain_at_ms = NEVER;
    plan_misfortunes();
    wheel_init(&batch.worker.wheel, network.now_ms);
    wheel_init(&batch.starts, network.now_ms);
    static char scratch[RELAY_SCRATCH];
    batch.worker.tools.scratch = scratch;
    batch.worker.backends = &batch.backend;
    batch.worker.netlink = (struct netlink *)(void *)&batch; /* only has to be there */
    batch.backend.conf = &backend_conf;
    for (size_t i = 0; i < size; i++) {
        make_run(&batch.runs[i]);
        wheel_add(&batch.starts, &batch.start[i], network.now_ms + random_below(START_WITHIN_MS));
    }
}

static void start_run(struct run *run)
{
    static const union socket_address nobody;
    size_t index = (size_t)(run - batch.runs);
    int fd = network_accept(index, &run->client);
    run->legs[LEG_CLIENT] = network_connection(fd);
    run->accepted_ms = run->attempt_ms = run->phase_ms = network.now_ms;
    run->stopped_ms = batch.stopped_ms;
    batch.opening = run;
    struct frontend *frontend = &frontends[run->frontend - frontends];
    int error = session_open(&batch.worker, frontend, fd, &nobody);
    if (error == 0)
        return;
    must(run, network.allocations_per_failure > 0, "a session can be opened");
    socket_abort(fd); /* as the listener does */
    run->over = true;
    batch.over++;
    totals.sessions++;
    totals.ended[REASON_NO_MEMORY]++;
}

static void start_runs(void)
{
    struct wheel_entry *entry;
    while ((entry = wheel_pop(&batch.starts, network.now_ms)))
        start_run(&batch.runs[entry - batch.start]);
}

static void drain(void)
{
    struct session *session, *next;
    batch.drain_at_ms = NEVER;
    DL_FOREACH_SAFE(batch.worker.sessions, session, next)
    {
        run_of(session)->drain_ms = network.now_ms;
        session_drain(session);
    }
}

static void run_tasks(void)
{
    struct task *task;
    size_t count;
    DL_COUNT(batch.worker.tasks, task, count);
    while (count-- > 0 && batch.worker.tasks) {
        task = batch.worker.tasks;
        worker_forget(&batch.worker, task);
        task->run(task);
    }
}

static void ring_alarms(void)
{
    struct wheel_entry *entry;
    while ((entry = wheel_pop(&batch.worker.wheel, network.now_ms))) {
        struct alarm *alarm = (struct alarm *)entry;
        alarm->ring(alarm);
    }
}

static void settle(void)
{
    while (batch.worker.done) {
        struct session *session = batch.worker.done;
        LL_DELETE(batch.worker.done, session);
        run_of(session)->session = NULL;
        session_free(session);
    }
}

/* A turn of the worker: edges, put-off work, then what was due, as worker.c has it. */
static void turn(void)
{
    start_runs();
    if (batch.drain_at_ms <= network.now_ms)
        drain();
    do {
        (void)network_deliver();
        run_tasks();
        ring_alarms();
        settle();
    } while (batch.worker.tasks || network.edges);
}

static uint64_t next_ms(void)
{
    uint64_t next = min_of(wheel_next_ms(&batch.worker.wheel), wheel_next_ms(&batch.starts));
    return min_of(min_of(next, batch.drain_at_ms), network_next_ms());
}

static void run_batch(uint64_t seed, size_t size)
{
    begin_batch(seed, size);
    while (batch.over < size) {
        uint64_t at_ms = next_ms();
        if (at_ms == NEVER)
            for (size_t i = 0; i < size; i++)
                must(&batch.runs[i], batch.runs[i].over, "every session ends");
        if (at_ms >= batch.stop_at_ms) { /* the process is stopped; the world is not */
            at_ms = max_of(at_ms, batch.stop_at_ms) + batch.stop_ms;
            batch.stopped_ms += at_ms - batch.stop_at_ms;
            batch.stop_at_ms = NEVER;
        }
        network_run(max_of(at_ms, network.now_ms));
        turn();
        if (verbose)
            wheel_check(&batch.worker.wheel);
    }
    pipe_pool_free(&batch.worker.tools.pipes);
    network_end();
}

/* ---- the command ---- */

static struct {
    uint64_t seed, sessions;
} arguments = {.sessions = 1000000};

static error_t parse(int key, char *value, struct argp_state *state)
{
    switch (key) {
    case 's':
        arguments.seed = strtoull(value, NULL, 0);
        return 0;
    case 'n':
        arguments.sessions = strtoull(value, NULL, 0);
        return 0;
    case 'v':
        verbose = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_usage(state);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option options[] = {
    {.name = "seed",
     .key = 's',
     .arg = "N",
     .doc = "The first batch's; the next ones count up (from the clock)"},
    {.name = "sessions", .key = 'n', .arg = "N", .doc = "How many (1000000)"},
    {.name = "verbose", .key = 'v', .doc = "Print every step of every session"},
    {0}};

static const struct argp argp = {
    .options = options, .parser = parse, .doc = "Runs the data plane against a simulated network."};

static void print_totals(void)
{
    printf("%" PRIu64 " sessions (%" PRIu64 " of them healthy), %" PRIu64 " steps, %" PRIu64 " MiB checked\n",
           totals.sessions, totals.healthy, totals.steps, totals.bytes >> 20);
    for (enum reason reason = 0; reason < REASON_COUNT; reason++)
        if (totals.ended[reason] > 0)
            printf("%10" PRIu64 " %s\n", totals.ended[reason], reason_name(reason));
}

int main(int argc, char **argv)
{
    arguments.seed = (uint64_t)time(NULL);
    if (argp_parse(&argp, argc, argv, 0, NULL, NULL))
        return 2;
    printf("seed %" PRIu64 "\n", arguments.seed);
    fflush(stdout);
    make_settings();
    for (uint64_t done = 0, seed = arguments.seed; done < arguments.sessions; done += BATCH, seed++)
        run_batch(seed, (size_t)min_of(BATCH, arguments.sessions - done));
    print_totals();
    return 0;
}
