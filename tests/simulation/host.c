#include "tests/simulation/host.h"

#include "proxy/session/peer.h"
#include "proxy/session/register.h"
#include "reaper/container.h"
#include "tests/simulation/clock.h"

#include <argp.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

/* How late the worker itself may be without a stop: a recheck of a delivery (50 ms), of rest (250 ms), a
 * millisecond's rounding for each. */
enum { LATE_MS = 320 };

struct host host;

static const struct simulation *simulation;
static struct conf_backend backend_conf;

/* How to see it again; made before the batch, for nothing may be formatted in a signal's handler. */
static char replay[128];

/* An assertion of the proxy's: it ends the process behind this. */
static void on_abort(int number)
{
    (void)number;
    (void)!write(STDERR_FILENO, replay, strlen(replay));
}

_Noreturn void broken(size_t session, const char *what)
{
    const struct session *s = simulation->hosted(session)->session;
    fflush(stdout);
    fprintf(stderr,
            "broken: %s\n  session %zu of the batch, at %" PRIu64 " ms, phase %s, stage %s, reason %s\n",
            what, session, network.now_ms - START_MS, s ? pair_phase_name(s->pair.phase) : "none",
            s ? pair_stage_name(s->pair.stage) : "none", s ? reason_name(s->pair.reason) : "none");
    fputs(replay, stderr);
    exit(1);
}

uint64_t max_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

uint64_t min_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static struct hosted *hosted_of(const struct session *session)
{
    return simulation->hosted((size_t)session->id);
}

size_t host_index(const struct hosted *hosted)
{
    for (size_t i = 0; i < BATCH; i++)
        if (simulation->hosted(i) == hosted)
            return i;
    return 0;
}

const struct deadlines *host_deadlines(const struct hosted *hosted)
{
    return &hosted->frontend->conf->deadlines;
}

void must(const struct hosted *hosted, bool holds, const char *what)
{
    if (!holds)
        broken(host_index(hosted), what);
}

void must_be_by(const struct hosted *hosted, uint64_t since_ms, uint64_t after_ms, const char *what)
{
    uint64_t slack_ms = LATE_MS + host.stopped_ms - hosted->stopped_ms;
    if (after_ms != DEADLINE_OFF)
        must(hosted, network.now_ms <= since_ms + after_ms + slack_ms, what);
}

/* ---- every step of every pair goes through here ---- */

pair_actions __real_pair_step(struct pair *pair, const struct pair_input *input, uint64_t now_ms);
pair_actions __wrap_pair_step(struct pair *pair, const struct pair_input *input, uint64_t now_ms);

static void print_step(size_t index, const struct pair *pair, const struct pair_input *input,
                       pair_actions actions)
{
    static const char *const events[PAIR_EVENT_COUNT] = {
        [PAIR_EVENT_CONNECTED] = "connected",
        [PAIR_EVENT_REFUSED] = "refused",
        [PAIR_EVENT_FIN] = "fin",
        [PAIR_EVENT_HELD] = "held",
        [PAIR_EVENT_DRAINED] = "drained",
        [PAIR_EVENT_DISCARDED] = "discarded",
        [PAIR_EVENT_RESET] = "reset",
        [PAIR_EVENT_LOST] = "lost",
        [PAIR_EVENT_CLOSED] = "closed",
        [PAIR_EVENT_EXPIRED] = "expired",
        [PAIR_EVENT_DRAIN] = "drain",
        [PAIR_EVENT_ABORT] = "abort",
        [PAIR_EVENT_BEGIN] = "begin",
        [PAIR_EVENT_STAGE] = "stage",
        [PAIR_EVENT_ATTACH] = "attach",
        [PAIR_EVENT_LEFT] = "left",
        [PAIR_EVENT_CUT] = "cut",
        [PAIR_EVENT_REFUSE] = "refuse",
        [PAIR_EVENT_COMPLETE] = "complete",
    };
    printf("%10" PRIu64 " session %2zu %-10s half %d leg %d: %s, %s, %s, actions %02x\n",
           network.now_ms - START_MS, index, events[input->event], (int)input->half, (int)input->leg,
           pair_phase_name(pair->phase), pair_stage_name(pair->stage), reason_name(pair->reason),
           (unsigned)actions);
}

/* Its backend leg may have been another session's before. */
static void attached(const struct session *session)
{
    struct connection *c = network_connection(session->legs[LEG_BACKEND].relay.fd);
    host.taken_over += c->session != session->id;
    c->session = (size_t)session->id;
    hosted_of(session)->legs[LEG_BACKEND] = c;
}

pair_actions __wrap_pair_step(struct pair *pair, const struct pair_input *input, uint64_t now_ms)
{
    struct session *session = CONTAINER(struct session, pair, pair);
    struct hosted *hosted = hosted_of(session);
    enum pair_phase phase = (enum pair_phase)pair->phase;
    simulation->before_step(hosted, pair);
    if (input->event == PAIR_EVENT_HELD)
        hosted->held_ms[input->half] = now_ms;
    if (input->event == PAIR_EVENT_ATTACH)
        hosted->attempt_ms = now_ms;
    pair_actions actions = __real_pair_step(pair, input, now_ms);
    if (input->event == PAIR_EVENT_CONNECTED)
        attached(session);
    host.steps++;
    if (host.verbose)
        print_step((size_t)session->id, pair, input, actions);
    pair_check(pair);
    if (pair->phase != phase &&
        (pair->phase == PAIR_OPEN || (phase == PAIR_CONNECTING && pair->phase == PAIR_ENDING)))
        hosted->opened_ms = now_ms;
    if (simulation->after_step)
        simulation->after_step(hosted, pair, input, phase);
    if (pair->phase != phase) {
        hosted->phase_ms = now_ms;
        hosted->acked_in_phase = 0;
    }
    return actions;
}

/* ---- what a worker is to its sessions ---- */

void register_opened(struct session *session)
{
    struct shared *shared = session->shared;
    session->id = host.opening;
    simulation->hosted(host.opening)->session = session;
    DL_APPEND(shared->sessions, session);
}

void register_ended(struct session *session)
{
    const struct pair *pair = &session->pair;
    struct hosted *run = hosted_of(session);
    simulation->ended(run, session);
    host.sessions++;
    host.ended[pair->reason]++;
    host.bytes += pair->half[HALF_REQUEST].written_bytes + pair->half[HALF_RESPONSE].written_bytes;
    must(run, pair->reason != REASON_NONE, "an end has a reason");
    must(run, !wheel_entry_linked(&session->alarm.entry), "no timer outlives its session");
    must(run, !loop_is_queued(&session->task), "no work outlives its session");
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        must(run, session->legs[leg].relay.fd < 0, "no descriptor outlives its session");
    for (enum half half = 0; half < HALF_COUNT; half++)
        must(run, !session->relays[half].held && !session->relays[half].pipe,
             "no buffer outlives its session");
}

void register_done(struct session *session)
{
    struct shared *shared = session->shared;
    struct hosted *run = hosted_of(session);
    must(run, !wheel_entry_linked(&session->alarm.entry), "no timer outlives its session");
    DL_DELETE(shared->sessions, session);
    run->session = NULL;
    run->over = true;
    host.over++;
}

size_t backend_target_count(const struct backend *backend)
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
    host.connecting = (size_t)session->id;
    return &host.targets[host.next_target++ % SERVERS_MAX];
}

bool backend_leads_back(struct backend *backend, struct target *target, int fd)
{
    (void)backend;
    (void)target;
    (void)fd;
    return false;
}

void target_release(struct target *target)
{
    (void)target;
}

void target_detach(struct target *target)
{
    (void)target;
}

void target_release_detached(struct target *target)
{
    (void)target;
}

void target_tell(struct target *target, int error)
{
    (void)target;
    (void)error;
}

int socket_connect(const struct conf_address *address, const struct conf_tcp *tcp)
{
    struct hosted *hosted = simulation->hosted(host.connecting);
    (void)address;
    (void)tcp;
    hosted->attempt_ms = network.now_ms;
    int fd = simulation->connect(host.connecting);
    hosted->legs[LEG_BACKEND] = fd < 0 ? NULL : network_connection(fd);
    return fd;
}

bool peer_id(int fd, struct diag_id *peer)
{
    peer->cookie = (uint64_t)fd;
    return !one_in(100);
}

static void serve_inquiry(struct inquiry *inquiry)
{
    if (inquiry->kind == INQUIRY_RESET) {
        socket_abort(inquiry->fd);
        inquiry->clearing = random_below(2) ? CLEARING_STILL : CLEARING_REMOTE;
    } else if (inquiry->kind == INQUIRY_LOOK) {
        inquiry->clearing = random_below(2) ? CLEARING_GONE : CLEARING_STILL;
    } else if (one_in(3)) {
        inquiry->hold = PEER_UNKNOWN;
    } else {
        inquiry->hold = network_connection((int)inquiry->peer.cookie)->closed ? PEER_CLOSED : PEER_HOLDS;
    }
}

/* What the kernel says of sockets of this host, which all peers are on, or none. The answer comes in a later
 * pass. */
bool inquiry_ask(struct inquiry_desk *desk, struct inquiry *inquiry)
{
    (void)desk;
    if (one_in(50)) /* the inbox is full */
        return false;
    serve_inquiry(inquiry);
    inquiry->pending = true;
    inquiry->next = host.answers;
    host.answers = inquiry;
    loop_put_off(&host.shared.loop, &host.answering);
    return true;
}

static void answer_inquiries(struct task *task)
{
    struct inquiry *inquiry = host.answers;
    (void)task;
    host.answers = NULL;
    while (inquiry) {
        struct inquiry *next = inquiry->next;
        inquiry->pending = false;
        inquiry->answered(inquiry);
        inquiry = next;
    }
}

const char *clearing_name(enum clearing clearing)
{
    return clearing == CLEARING_UNKNOWN ? "unknown" : "none";
}

/* The session's own log line is among what --verbose prints; those of some batches are checked. */
bool log_wants(const struct log_ring *ring, enum conf_log_level level)
{
    (void)ring;
    (void)level;
    return host.verbose || host.seed % 16 == 0;
}

bool log_wants_normal(const struct log_ring *ring)
{
    (void)ring;
    return true;
}

enum conf_log_format log_format(const struct log_ring *ring)
{
    (void)ring;
    return CONF_LOG_LOGFMT;
}

/* A duration that is the difference of two moments in the wrong order is too long for any simulation. */
static void check_durations(const char *text)
{
    for (const char *at = text; (at = strstr(at, "_ms=")); at++)
        if (strtoull(at + 4, NULL, 10) > UINT64_C(1000000000))
            broken(host.opening, "durations in the log are sane");
}

void log_line(struct log_ring *ring, const struct line *line)
{
    char text[LINE_SIZE + 1];
    (void)ring;
    snprintf(text, sizeof text, "%.*s", (int)line->size, line->text);
    check_durations(text);
    if (host.verbose)
        fputs(text, stdout);
}

const char *socket_text(const union socket_address *address, char text[SOCKET_TEXT])
{
    (void)address;
    text[0] = '\0';
    return text;
}

/* ---- a batch ---- */

static void plan_misfortunes(void)
{
    if (one_in(16))
        host.drain_at_ms = network.now_ms + random_below(START_WITHIN_MS);
    if (one_in(16)) {
        network.no_descriptors_from_ms = network.now_ms + random_below(START_WITHIN_MS);
        network.no_descriptors_to_ms = network.no_descriptors_from_ms + random_below(10000);
    }
    if (one_in(16))
        network.allocations_per_failure = 2 + (uint32_t)random_below(20);
    if (one_in(8)) {
        host.stop_at_ms = network.now_ms + random_below(START_WITHIN_MS);
        host.stop_ms = 1 + random_below(one_in(2) ? 1000 : 100000);
    }
}

/* Legs that leave a session whole go to a pool, in two batches of three. */
static void plan_sharing(void)
{
    backend_conf.reuse = (enum conf_reuse)random_below(3);
    backend_conf.reuse_max = 1 + random_below(one_in(2) ? 4 : 100);
    backend_conf.reuse_idle_ms = 1 + random_below(one_in(2) ? 100 : 10000);
    for (size_t i = 0; i < SERVERS_MAX; i++)
        pool_init(&host.targets[i].pool, &host.shared, &backend_conf);
}

/* What the worker does at the end of a pass is not simulated. */
static void settled(void *context)
{
    (void)context;
}

static void begin_batch(uint64_t seed, size_t size)
{
    struct host fresh = {.verbose = host.verbose,
                         .sessions = host.sessions,
                         .steps = host.steps,
                         .taken_over = host.taken_over};
    fresh.bytes = host.bytes;
    memcpy(fresh.ended, host.ended, sizeof fresh.ended);
    host = fresh;
    network_begin(seed, START_MS);
    host.seed = seed;
    host.size = size;
    snprintf(replay, sizeof replay, "  replay: %s --seed %" PRIu64 " --sessions %zu --verbose\n",
             simulation->name, seed, size);
    host.stop_at_ms = host.drain_at_ms = NEVER;
    plan_misfortunes();
    if (loop_init(&host.shared.loop, settled, NULL))
        broken(0, "a loop begins");
    wheel_init(&host.starts, network.now_ms);
    static char scratch[RELAY_SCRATCH];
    host.shared.tools.scratch = scratch;
    host.limit.max = UINT64_MAX / 2;
    host.shared.limit = &host.limit;
    host.shared.workers = 1;
    host.shared.budget_bytes = NETWORK_BUDGET_BYTES;
    host.shared.random = &host.random;
    host.shared.backends = &host.backend;
    host.answering.run = answer_inquiries;
    host.backend.conf = &backend_conf;
    if (simulation->shares)
        plan_sharing();
    bool whole = host.drain_at_ms == NEVER && network.no_descriptors_from_ms == NEVER &&
                 network.allocations_per_failure == 0;
    for (size_t i = 0; i < size; i++) {
        simulation->plan(i, whole);
        wheel_add(&host.starts, &host.start[i], network.now_ms + random_below(START_WITHIN_MS));
    }
}

static void start_session(size_t index)
{
    static const union socket_address nobody;
    struct hosted *hosted = simulation->hosted(index);
    int fd = simulation->accept(index);
    hosted->legs[LEG_CLIENT] = network_connection(fd);
    hosted->accepted_ms = hosted->attempt_ms = hosted->phase_ms = network.now_ms;
    hosted->stopped_ms = host.stopped_ms;
    host.opening = index;
    if (session_open(&host.shared, hosted->frontend, simulation->protocol, PLACE_SERVED, fd, &nobody) == 0)
        return;
    must(hosted, network.allocations_per_failure > 0, "a session can be opened");
    socket_abort(fd); /* as the listener does */
    hosted->over = true;
    host.over++;
    host.sessions++;
    host.ended[REASON_NO_MEMORY]++;
}

static void start_sessions(void)
{
    struct wheel_entry *entry;
    while ((entry = wheel_pop(&host.starts, network.now_ms)))
        start_session((size_t)(entry - host.start));
}

static void drain(void)
{
    struct session *session, *next;
    host.drain_at_ms = NEVER;
    host.shared.ends = true;
    pool_empty_all(&host.shared);
    DL_FOREACH_SAFE(host.shared.sessions, session, next)
    {
        hosted_of(session)->drain_ms = network.now_ms;
        session_drain(session);
    }
}

/* What happens in one moment, in as many passes of the loop as that takes. */
static void run_passes(void)
{
    start_sessions();
    if (host.drain_at_ms <= network.now_ms)
        drain();
    do
        host.shared.loop.poller.waiting(host.shared.loop.poller.context);
    while (uv_run(&host.shared.loop.uv, UV_RUN_NOWAIT) || network.edges);
}

static uint64_t next_ms(void)
{
    uint64_t next = min_of(clock_next_ms(&host.shared.loop.uv), wheel_next_ms(&host.starts));
    return min_of(min_of(next, host.drain_at_ms), network_next_ms());
}

/* Whether a session lives, or what it left behind: retiring legs, and alarms of whatever kind. */
static bool lives(void)
{
    return host.over < host.size || host.shared.retiring || wheel_next_ms(&host.shared.loop.wheel) != NEVER;
}

static void run_batch(uint64_t seed, size_t size)
{
    begin_batch(seed, size);
    while (lives()) {
        uint64_t at_ms = next_ms();
        for (size_t i = 0; at_ms == NEVER && i < size; i++)
            must(simulation->hosted(i), simulation->hosted(i)->over, "every session ends");
        must(simulation->hosted(0), at_ms != NEVER, "no retiring leg outlives its time");
        if (at_ms >= host.stop_at_ms) { /* the process is stopped; the world is not */
            at_ms = max_of(at_ms, host.stop_at_ms) + host.stop_ms;
            host.stopped_ms += at_ms - host.stop_at_ms;
            host.stop_at_ms = NEVER;
        }
        host.stopped_ms += network.lag_ms;
        network_run(max_of(at_ms, network_clock_ms()));
        run_passes();
        if (host.verbose)
            wheel_check(&host.shared.loop.wheel);
    }
    must(simulation->hosted(0), host.limit.taken == 0, "no place outlives its descriptor");
    pipe_pool_free(&host.shared.tools.pipes);
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
        host.verbose = true;
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

int host_main(const struct simulation *what, int argc, char **argv)
{
    simulation = what;
    arguments.seed = (uint64_t)time(NULL);
    if (argp_parse(&argp, argc, argv, 0, NULL, NULL))
        return 2;
    printf("seed %" PRIu64 "\n", arguments.seed);
    fflush(stdout);
    signal(SIGABRT, on_abort);
    simulation->make_settings();
    for (uint64_t done = 0, seed = arguments.seed; done < arguments.sessions; done += BATCH, seed++)
        run_batch(seed, (size_t)min_of(BATCH, arguments.sessions - done));
    printf("%" PRIu64 " sessions, %" PRIu64 " steps, %" PRIu64 " MiB relayed\n", host.sessions, host.steps,
           host.bytes >> 20);
    simulation->print_totals();
    for (enum reason reason = 0; reason < REASON_COUNT; reason++)
        if (host.ended[reason] > 0)
            printf("%10" PRIu64 " %s\n", host.ended[reason], reason_name(reason));
    return 0;
}
