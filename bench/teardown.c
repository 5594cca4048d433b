#include "bench/teardown.h"

#include "reaper/kernel/netlink.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS_A_SECOND UINT64_C(1000000000)
#define NS_A_MS UINT64_C(1000000)

enum {
    SAMPLE_MS = 25,
    SAMPLES_MAX = 40000,
    TRICKLE_MS = 100,
    IDLE_TURN_MS = 10,
    EXCHANGE_MS = 10000, /* an answer that takes longer is a cut one */
};

enum phase { PHASE_DUE, PHASE_ASKING, PHASE_CLOSING, PHASE_OVER };

/* One client's coming and going. */
struct visit {
    struct bench *bench;
    enum phase phase;
    struct end *client, *backend; /* NULL: not yet, or dropped */
    bool was_answered;            /* the backend has sent it */
    bool is_kept;                 /* the backend's end went to another client */
    bool is_leaked, is_freed;     /* it was in CLOSE_WAIT, and is no more */
    bool relay_counted[2];
    uint64_t began_ns, closed_ns, trickled_ns;
    struct diag_id id;
    bool has_id;
};

struct bench {
    const struct teardown_options *options;
    struct teardown_report *report;
    struct stage stage;
    struct netlink *netlink;
    struct visit *visits;
    uint32_t begun, closing_or_over, over;
    uint32_t oldest; /* all before it are over */
    uint32_t tag_base;
    uint64_t began_ns, sampled_ns, last_close_ns;
};

/* ---- names ---- */

const char *teardown_closer_name(enum teardown_closer closer)
{
    static const char *const names[] = {
#define X(constant, name) [constant] = (name),
        TEARDOWN_CLOSER_MAP(X)
#undef X
    };
    return names[closer];
}

int teardown_closer_find(const char *name)
{
    for (enum teardown_closer closer = 0; closer < TEARDOWN_CLOSER_COUNT; closer++)
        if (strcmp(teardown_closer_name(closer), name) == 0)
            return (int)closer;
    return -EINVAL;
}

const char *teardown_leak_name(enum teardown_leak leak)
{
    static const char *const names[] = {
#define X(constant, name, text) [constant] = (name),
        TEARDOWN_LEAK_MAP(X)
#undef X
    };
    return names[leak];
}

const char *teardown_leak_help(enum teardown_leak leak)
{
    static const char *const texts[] = {
#define X(constant, name, text) [constant] = (text),
        TEARDOWN_LEAK_MAP(X)
#undef X
    };
    return texts[leak];
}

int teardown_leak_find(const char *name)
{
    for (enum teardown_leak leak = 0; leak < TEARDOWN_LEAK_COUNT; leak++)
        if (strcmp(teardown_leak_name(leak), name) == 0)
            return (int)leak;
    return -EINVAL;
}

void teardown_options_default(struct teardown_options *options)
{
    *options = (struct teardown_options){.connections = 1000,
                                         .rate = 200,
                                         .closer = TEARDOWN_CLIENT,
                                         .leak = TEARDOWN_HEALTHY,
                                         .half_close = true,
                                         .watch_ms = 10000,
                                         .request_bytes = 64,
                                         .response_bytes = 1024};
}

double teardown_harm(const struct teardown_report *report)
{
    uint64_t harmed = report->resets + report->cuts + report->wrongs;
    uint64_t all = report->exchanged + report->cuts + report->wrongs;
    return all ? 10000.0 * (double)harmed / (double)all : 0;
}

/* ---- the kernel's table ---- */

static void host_of(const struct sockaddr_storage *address, struct diag_endpoint *endpoint)
{
    *endpoint = (struct diag_endpoint){0};
    if (address->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address, sizeof in6);
        memcpy(endpoint->host, &in6.sin6_addr, sizeof endpoint->host);
        endpoint->port = ntohs(in6.sin6_port);
        return;
    }
    struct sockaddr_in in;
    memcpy(&in, address, sizeof in);
    endpoint->host[10] = endpoint->host[11] = 0xff;
    memcpy(endpoint->host + 12, &in.sin_addr, 4);
    endpoint->port = ntohs(in.sin_port);
}

/* What names the backend's socket for the kernel, while it is connected. */
static void identify(struct visit *visit)
{
    struct sockaddr_storage local = {0}, remote = {0};
    socklen_t local_length = sizeof local, remote_length = sizeof remote;
    socklen_t cookie_length = sizeof visit->id.cookie;
    int fd = visit->backend->fd;
    if (getsockname(fd, (struct sockaddr *)&local, &local_length) < 0 || local.ss_family == AF_UNIX ||
        getpeername(fd, (struct sockaddr *)&remote, &remote_length) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_COOKIE, &visit->id.cookie, &cookie_length) < 0)
        return;
    visit->id.family = (uint8_t)local.ss_family;
    host_of(&local, &visit->id.local);
    host_of(&remote, &visit->id.remote);
    visit->has_id = true;
}

static bool is_in_close_wait(const struct visit *visit)
{
    struct diag_row row;
    return visit->has_id && netlink_lookup(visit->bench->netlink, &visit->id, &row) == 0 &&
           row.state == DIAG_CLOSE_WAIT;
}

static void sample(struct bench *bench)
{
    struct netlink_counts counts;
    struct teardown_report *report = bench->report;
    uint64_t now_ns = end_clock_ns();
    if (now_ns - bench->sampled_ns < SAMPLE_MS * NS_A_MS || report->sample_count == SAMPLES_MAX)
        return;
    bench->sampled_ns = now_ns;
    uint16_t port = stage_port(&bench->stage);
    if (port == 0 || netlink_count(bench->netlink, port, &counts) < 0)
        return;
    report->samples[report->sample_count++] =
        (struct teardown_sample){now_ns - bench->began_ns, counts.of[DIAG_CLOSE_WAIT]};
}

/* ---- a visit's end ---- */

static void count_ended(struct teardown_ended *ended, const struct end *end, bool kept)
{
    if (kept)
        ended->kept++;
    else if (!end || end->over == END_OPEN)
        ended->never++;
    else if (end->over == END_FIN && !end->is_reset)
        ended->fin++;
    else
        ended->reset++;
}

static bool answer_is_whole(const struct visit *visit)
{
    const struct heard *heard = &visit->client->heard;
    if (visit->bench->options->http)
        return heard->complete == 1 && heard->status[0] == 200 &&
               heard->body_bytes == visit->bench->options->response_bytes;
    return heard->bytes == visit->bench->options->response_bytes;
}

/* Harm is done where all did as they should: a backend that leaks is not harmed by its reset. */
static void count_harm(const struct visit *visit)
{
    struct teardown_report *report = visit->bench->report;
    bool healthy = visit->bench->options->leak == TEARDOWN_HEALTHY;
    if (visit->client->connect_error) {
        report->refused++;
        return;
    }
    if (visit->client->heard.is_wrong || (visit->backend && visit->backend->heard.is_wrong)) {
        report->wrongs++;
        return;
    }
    if (!answer_is_whole(visit)) {
        report->cuts++;
        return;
    }
    report->exchanged++;
    if (healthy && (visit->client->is_reset || (visit->backend && visit->backend->is_reset)))
        report->resets++;
}

static void count_legs(const struct visit *visit)
{
    struct teardown_report *report = visit->bench->report;
    bool kept =
        visit->is_kept || (visit->bench->options->http && visit->backend &&
                           visit->backend->over == END_OPEN && end_state(visit->backend) == DIAG_ESTABLISHED);
    /* In HTTP the backend's close does not end the client's connection. */
    bool by_backend = visit->bench->options->http && visit->bench->options->closer == TEARDOWN_BACKEND;
    if (visit->client->fd < 0 && visit->client->over == END_OPEN)
        report->client.unseen++;
    else
        count_ended(&report->client, visit->client, visit->client->over == END_OPEN && by_backend);
    count_ended(&report->backend, visit->backend, kept);
}

static void visit_end(struct visit *visit)
{
    struct bench *bench = visit->bench;
    assert(bench);
    if (visit->phase == PHASE_OVER)
        return;
    if (visit->phase != PHASE_CLOSING)
        bench->closing_or_over++;
    count_harm(visit);
    count_legs(visit);
    if (visit->is_leaked && !visit->is_freed && end_state(visit->backend) == DIAG_CLOSE_WAIT)
        bench->report->still++;
    visit->phase = PHASE_OVER;
    bench->over++;
    stage_drop(&bench->stage, visit->client);
    if (visit->backend)
        stage_drop(&bench->stage, visit->backend);
    visit->client = visit->backend = NULL;
}

/* ---- a visit, step by step ---- */

static bool is_leaky(const struct visit *visit)
{
    return visit->bench->options->leak != TEARDOWN_HEALTHY;
}

static void ask(struct visit *visit)
{
    const struct teardown_options *options = visit->bench->options;
    char tag[HEARD_TAG_BYTES + 1], text[128];
    uint32_t index = (uint32_t)(visit - visit->bench->visits);
    heard_tag_text(visit->bench->tag_base + index, tag);
    if (!options->http) {
        end_say(visit->client, tag, HEARD_TAG_BYTES);
        end_stream(visit->client, options->request_bytes);
        return;
    }
    tag[HEARD_TAG_BYTES - 1] = '\0';
    int length = snprintf(text, sizeof text, "GET /%s/ HTTP/1.1\r\nHost: lastack.test\r\n\r\n", tag);
    end_say(visit->client, text, (size_t)length);
}

static bool has_asked(const struct visit *visit)
{
    const struct heard *heard = &visit->backend->heard;
    return visit->bench->options->http ? heard->complete > 0 && !heard_is_amid(heard)
                                       : heard->bytes >= visit->bench->options->request_bytes;
}

static void answer(struct visit *visit)
{
    const struct teardown_options *options = visit->bench->options;
    visit->was_answered = true;
    if (options->leak == TEARDOWN_NEVER_READ || options->leak == TEARDOWN_QUEUED)
        end_pause(visit->backend);
    if (!options->http) {
        end_stream(visit->backend, options->response_bytes);
    } else {
        char head[128];
        bool last =
            !visit->backend->heard.keeps_alive || is_leaky(visit) || options->closer != TEARDOWN_CLIENT;
        int length =
            snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %u\r\nConnection: %s\r\n\r\n",
                     options->response_bytes, last ? "close" : "keep-alive");
        end_say(visit->backend, head, (size_t)length);
        end_body(visit->backend, 0, options->response_bytes);
        if (!is_leaky(visit) && !visit->backend->heard.keeps_alive)
            end_fin(visit->backend); /* the request wanted it */
    }
    if (options->closer == TEARDOWN_BACKEND && !is_leaky(visit))
        end_fin(visit->backend);
}

static void client_close(struct visit *visit)
{
    if (visit->bench->options->leak == TEARDOWN_QUEUED)
        end_stream(visit->client, visit->bench->options->request_bytes);
    if (visit->bench->options->half_close || visit->client->queued_bytes > 0)
        end_fin(visit->client);
    else
        end_close(visit->client);
}

static void begin_closing(struct visit *visit, uint64_t closed_ns)
{
    visit->phase = PHASE_CLOSING;
    visit->closed_ns = closed_ns;
    visit->bench->closing_or_over++;
    visit->bench->last_close_ns = end_clock_ns();
}

/* The answer has come whole: who is to close does. */
static void visit_answered(struct visit *visit)
{
    enum teardown_closer closer = visit->bench->options->closer;
    if (closer != TEARDOWN_BACKEND)
        client_close(visit);
    if (closer == TEARDOWN_BOTH && visit->backend && !is_leaky(visit))
        end_fin(visit->backend);
    bool by_backend = visit->backend && visit->backend->fin_sent_ns && closer != TEARDOWN_CLIENT;
    begin_closing(visit, by_backend && visit->backend->fin_sent_ns < visit->client->fin_sent_ns - 1
                             ? visit->backend->fin_sent_ns
                             : visit->client->fin_sent_ns);
    if (visit->closed_ns == 0)
        visit->closed_ns = end_clock_ns();
}

static void count_relay(struct visit *visit, const struct end *from, const struct end *to)
{
    if (visit->relay_counted[to->side] || to->over != END_FIN || !from->fin_sent_ns)
        return;
    visit->relay_counted[to->side] = true;
    /* Only a FIN that answers none: the other one may have been made by the proxy. */
    if (to->over_ns > from->fin_sent_ns)
        histogram_add(&visit->bench->report->fin_relay, to->over_ns - from->fin_sent_ns);
}

/* Its first half's FIN has been relayed, or was taken over by a reset; the healthy answer it by their
 * own. */
static void visit_closing(struct visit *visit)
{
    struct end *client = visit->client, *backend = visit->backend;
    enum teardown_closer closer = visit->bench->options->closer;
    if (!backend)
        return;
    if (closer != TEARDOWN_BACKEND)
        count_relay(visit, client, backend);
    if (closer != TEARDOWN_CLIENT)
        count_relay(visit, backend, client);
    if (backend->over == END_FIN && !is_leaky(visit))
        end_fin(backend);
    if (client->over != END_OPEN && client->fd >= 0)
        end_fin(client);
    if (is_leaky(visit) && backend->over != END_RESET && !backend->is_reset)
        return;
    bool client_done = client->over != END_OPEN || client->fd < 0;
    if (!client_done || backend->over == END_OPEN)
        return;
    uint64_t last_ns = client->over_ns > backend->over_ns ? client->over_ns : backend->over_ns;
    if (!is_leaky(visit) && last_ns > visit->closed_ns)
        histogram_add(&visit->bench->report->teardown, last_ns - visit->closed_ns);
    visit_end(visit);
}

static void note_leak(struct visit *visit)
{
    const struct end *backend = visit->backend;
    struct teardown_report *report = visit->bench->report;
    if (!is_leaky(visit) || !backend || visit->phase != PHASE_CLOSING || visit->is_freed)
        return;
    if (!visit->is_leaked) {
        visit->is_leaked = true;
        report->leaked++;
    }
    if (!backend->is_reset)
        return;
    visit->is_freed = true;
    report->verified += !is_in_close_wait(visit);
    /* Some reset the backend behind its answer, before their client has closed: it never leaked at all. */
    bool was_ahead = backend->reset_ns < visit->closed_ns;
    histogram_add(&report->residency, was_ahead ? 0 : backend->reset_ns - visit->closed_ns);
}

static void visit_step(struct visit *visit)
{
    if (visit->phase == PHASE_ASKING && visit->backend && !visit->was_answered && has_asked(visit))
        answer(visit);
    if (visit->phase == PHASE_ASKING && answer_is_whole(visit))
        visit_answered(visit);
    else if (visit->phase == PHASE_ASKING && visit->client->over != END_OPEN)
        visit_end(visit); /* refused, or cut; a reset of the backend alone may come behind a whole answer */
    if (visit->phase == PHASE_CLOSING)
        note_leak(visit);
    if (visit->phase == PHASE_CLOSING)
        visit_closing(visit);
}

/* ---- what the stage tells ---- */

static void claim(void *context, struct end *end)
{
    struct bench *bench = context;
    struct visit *before = end->owner;
    uint32_t index = end->heard.tag - bench->tag_base;
    if (index >= bench->begun || bench->visits[index].phase == PHASE_OVER)
        return;
    struct visit *visit = &bench->visits[index];
    if (before && before != visit && before->backend == end) {
        before->backend = NULL;
        before->is_kept = true;
        if (before->phase == PHASE_CLOSING && (before->client->over != END_OPEN || before->client->fd < 0))
            visit_end(before);
    }
    end->owner = visit;
    visit->backend = end;
    visit->was_answered = false;
    identify(visit);
}

static void changed(void *context, struct end *end)
{
    struct bench *bench = context;
    if (end->owner)
        visit_step(end->owner);
    else if (end->over != END_OPEN && end->fd >= 0)
        stage_drop(&bench->stage, end);
}

/* ---- the load ---- */

static void visit_begin(struct bench *bench, uint64_t due_ns)
{
    struct visit *visit = &bench->visits[bench->begun];
    *visit = (struct visit){.bench = bench, .phase = PHASE_ASKING, .began_ns = end_clock_ns()};
    bench->begun++;
    histogram_add(&bench->report->lag, visit->began_ns - due_ns);
    visit->client = stage_connect(&bench->stage, visit);
    if (!visit->client) {
        visit->phase = PHASE_OVER;
        bench->report->refused++;
        bench->over++;
        bench->closing_or_over++;
        return;
    }
    ask(visit);
}

static uint64_t due_ns(const struct bench *bench, uint32_t index)
{
    return bench->began_ns + index * NS_A_SECOND / bench->options->rate;
}

/* Begins those that are due; returns how long the stage may wait for the next one. */
static uint64_t begin_due(struct bench *bench)
{
    while (bench->begun < bench->options->connections) {
        uint64_t due = due_ns(bench, bench->begun), now_ns = end_clock_ns();
        if (due > now_ns)
            return due - now_ns < IDLE_TURN_MS * NS_A_MS ? due - now_ns : IDLE_TURN_MS * NS_A_MS;
        visit_begin(bench, due);
    }
    return IDLE_TURN_MS * NS_A_MS;
}

/* What has no event of its own: trickles, and answers that never come. */
static void attend(struct bench *bench)
{
    uint64_t now_ns = end_clock_ns();
    while (bench->oldest < bench->begun && bench->visits[bench->oldest].phase == PHASE_OVER)
        bench->oldest++;
    for (uint32_t i = bench->oldest; i < bench->begun; i++) {
        struct visit *visit = &bench->visits[i];
        if (visit->phase == PHASE_ASKING && now_ns - visit->began_ns > EXCHANGE_MS * NS_A_MS) {
            visit_end(visit);
        } else if (visit->phase == PHASE_CLOSING && bench->options->leak == TEARDOWN_TRICKLE &&
                   visit->backend && now_ns - visit->trickled_ns > TRICKLE_MS * NS_A_MS) {
            visit->trickled_ns = now_ns;
            end_stream(visit->backend, 1);
        }
    }
}

static bool is_done(const struct bench *bench)
{
    const struct teardown_options *options = bench->options;
    if (bench->begun < options->connections || bench->closing_or_over < options->connections)
        return false;
    return bench->over == options->connections ||
           end_clock_ns() - bench->last_close_ns > options->watch_ms * NS_A_MS;
}

static void run(struct bench *bench)
{
    uint64_t attended_ns = 0;
    bench->began_ns = bench->last_close_ns = end_clock_ns();
    while (!is_done(bench)) {
        uint64_t wait_ns = begin_due(bench);
        stage_turn_ns(&bench->stage, wait_ns);
        sample(bench);
        if (end_clock_ns() - attended_ns < IDLE_TURN_MS * NS_A_MS)
            continue;
        attended_ns = end_clock_ns();
        attend(bench);
    }
    bench->sampled_ns = 0;
    sample(bench);
    for (uint32_t i = 0; i < bench->begun; i++)
        if (bench->visits[i].phase != PHASE_OVER)
            visit_end(&bench->visits[i]);
    bench->report->took_ns = end_clock_ns() - bench->began_ns;
}

int teardown_run(const struct teardown_options *options, struct teardown_report *report)
{
    struct bench bench = {.options = options, .report = report, .tag_base = (uint32_t)getpid() << 12};
    const struct stage_events events = {.claim = claim, .changed = changed, .context = &bench};
    *report = (struct teardown_report){0};
    int error = stage_open(&bench.stage, &options->target, &options->backend, options->http, &events);
    if (error)
        return error;
    error = netlink_open(&bench.netlink);
    bench.visits = calloc(options->connections, sizeof *bench.visits);
    report->samples = calloc(SAMPLES_MAX, sizeof *report->samples);
    if (!error && (!bench.visits || !report->samples))
        error = -ENOMEM;
    if (!error)
        run(&bench);
    stage_close(&bench.stage);
    netlink_close(bench.netlink);
    free(bench.visits);
    if (error)
        teardown_free(report);
    return error;
}

void teardown_free(struct teardown_report *report)
{
    free(report->samples);
    report->samples = NULL;
}
