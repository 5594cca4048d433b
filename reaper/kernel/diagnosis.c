#include "reaper/kernel/diagnosis.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* From where on a share is "most", and below which number nobody is accused. */
enum { MOST_PERCENT = 60, CLIENT_MIN = 20 };

/* From where on it matters that an accept queue grows. */
enum { QUEUE_GROWING_PERCENT = 20 };

struct word {
    const char *name, *text;
};

static const struct word words[DIAGNOSIS_COUNT] = {
#define X(constant, name, text) [constant] = {(name), (text)},
    DIAGNOSIS_MAP(X)
#undef X
};

const char *diagnosis_name(enum diagnosis diagnosis)
{
    return words[diagnosis].name;
}

const char *diagnosis_text(enum diagnosis diagnosis)
{
    return words[diagnosis].text;
}

__attribute__((format(printf, 2, 3))) static void say(struct verdict *verdict, const char *format, ...)
{
    va_list arguments;
    assert(verdict->line_count < DIAGNOSIS_LINES);
    va_start(arguments, format);
    vsnprintf(verdict->line[verdict->line_count++], DIAGNOSIS_LINE, format, arguments);
    va_end(arguments);
}

static bool percent_reached(uint64_t part, uint64_t whole, unsigned percent)
{
    return whole > 0 && part * 100 >= whole * percent;
}

static void say_growth(const struct evidence *e, struct verdict *verdict)
{
    bool steady = percent_reached(e->established, e->established_before, 90) &&
                  percent_reached(e->established_before, e->established, 90);
    if (e->came > e->went)
        say(verdict, "%zu came and %zu went within %.3g s, while %zu connections were established%s.",
            e->came, e->went, e->seconds, e->established,
            steady ? ", as many as before: it is not the load that grows" : "");
    else
        say(verdict, "They did not become more within %.3g s: %zu came, %zu went.", e->seconds, e->came,
            e->went);
}

static void say_owner(const struct evidence *e, struct verdict *verdict, size_t count, const char *what)
{
    if (e->owner)
        say(verdict, "%s (pid %d) holds %zu %s.", e->owner->program, e->owner->pid, count, what);
    else
        say(verdict, "Which program holds them is not visible to this user.");
}

static void say_side(const struct evidence *e, struct verdict *verdict)
{
    if (e->client_side)
        say(verdict,
            "This host opened them: a pool has such until it next looks at them, and then it is no leak.");
}

static bool owner_stopped(const struct evidence *e)
{
    return e->owner && (e->owner->state == 'T' || e->owner->state == 't');
}

/* Nothing in it runs: it is stopped, or each of its threads waits in the kernel for what can't be hurried. */
static bool owner_halted(const struct evidence *e)
{
    return owner_stopped(e) ||
           (e->owner && e->owner->threads > 0 && e->owner->blocked_threads == e->owner->threads);
}

/* Whether its program is seen at work: it took, read or answered others meanwhile. */
static bool others_move(const struct evidence *e)
{
    return e->others_known && e->accepted + e->moved > 0;
}

static void say_others(const struct evidence *e, struct verdict *verdict)
{
    if (others_move(e))
        say(verdict, "Within %.3g s it took %zu other connections, and read or sent on %zu: it runs.",
            e->seconds, e->accepted, e->moved);
    else if (e->others_known)
        say(verdict, "No other connection was taken, read or sent on within %.3g s.", e->seconds);
}

static void say_far(const struct evidence *e, struct verdict *verdict)
{
    if (e->far)
        say(verdict,
            "The peers of %zu are on other hosts: whether they have gone or wait for an answer can't be seen "
            "here.",
            e->far);
}

/* Those that have been read to the end and that nobody on this host waits for. */
static bool verdict_program(const struct evidence *e, struct verdict *verdict)
{
    size_t count = e->by_cause[TRIAGE_READ_EOF] - e->waiting[TRIAGE_READ_EOF];
    if (count == 0 || owner_halted(e))
        return false;
    verdict->weight = count;
    say(verdict,
        "%zu of %zu sockets in CLOSE_WAIT have nothing left to read: what came was read, the end with it.",
        count, e->close_wait);
    say_owner(e, verdict, e->owner_by_cause[TRIAGE_READ_EOF], "of those");
    say_side(e, verdict);
    say_far(e, verdict);
    say_others(e, verdict);
    say_growth(e, verdict);
    say(verdict, "The oldest has been so for at least %.0f s; the kernel has no timer that would end it.",
        (double)e->oldest_ms / 1000);
    return true;
}

static bool verdict_waiting(const struct evidence *e, struct verdict *verdict)
{
    size_t count = e->waiting[TRIAGE_READ_EOF];
    if (count == 0 || owner_halted(e))
        return false;
    verdict->weight = count;
    say(verdict,
        "The clients of %zu of %zu, on this host, have only shut their writing side and hold their sockets.",
        count, e->close_wait);
    if (e->waiter)
        say(verdict, "One of those clients is %s (pid %d): %s.", e->waiter->program, e->waiter->pid,
            owner_known_as(e->waiter));
    say_owner(e, verdict, e->owner_by_cause[TRIAGE_READ_EOF], "of those");
    say(verdict, "To finish them now would cut the answer, and the client would take the cut for its end.");
    say_others(e, verdict);
    say_growth(e, verdict);
    return true;
}

static void say_process(const struct evidence *e, struct verdict *verdict)
{
    const struct owner_process *owner = e->owner;
    if (!owner)
        return;
    if (e->stopped_count > 1)
        say(verdict,
            "%zu%s processes are stopped and hold %zu of them: nothing in them runs until they get SIGCONT.",
            e->stopped_count, e->stopped_count == EVIDENCE_PIDS ? " or more" : "", e->stopped_sockets);
    else if (owner_stopped(e))
        say(verdict, "The process, %s (pid %d), is %s: nothing in it runs until it gets SIGCONT.",
            owner->program, owner->pid, owner_state_name(owner->state));
    else if (owner->blocked_threads)
        say(verdict, "%u of the %u threads of %s (pid %d) are blocked in the kernel (state D) or stopped.",
            owner->blocked_threads, owner->threads, owner->program, owner->pid);
    else
        say(verdict, "The process, %s (pid %d), is %s, %u thread%s, none of them blocked in the kernel.",
            owner->program, owner->pid, owner_state_name(owner->state), owner->threads,
            owner->threads == 1 ? "" : "s");
    if (owner->wchan[0] && owner->threads == 1 && runtime_main_thread_tells(e->owner_runtime))
        say(verdict, "It waits in %s.", owner->wchan);
}

/* Load is more than a program that runs can take: its queue is full or fills, though it accepts. A queue that
 * nothing leaves is no matter of load, however long it is. */
static bool is_load(const struct evidence *e)
{
    bool grows = e->backlog_used > e->backlog_used_before &&
                 percent_reached(e->backlog_used, e->backlog_size, QUEUE_GROWING_PERCENT);
    bool accepts = e->by_cause[TRIAGE_NEVER_ACCEPTED] == 0 || e->queue_left > 0;
    return accepts && !owner_halted(e) && (grows || evidence_queue_full(e->backlog_used, e->backlog_size));
}

static void say_queue(const struct evidence *e, struct verdict *verdict)
{
    if (e->backlog_size)
        say(verdict, "The accept queue of port %u holds %u of %u; at first it held %u.", e->port,
            e->backlog_used, e->backlog_size, e->backlog_used_before);
}

static void say_queued(const struct evidence *e, struct verdict *verdict)
{
    size_t queued = e->by_cause[TRIAGE_NEVER_ACCEPTED];
    if (queued == 0)
        return;
    say(verdict, "%zu of %zu sockets in CLOSE_WAIT were never accepted: their clients gave up waiting.",
        queued, e->close_wait);
    say_queue(e, verdict);
    if (e->queue_left == 0)
        say(verdict, "None of them left the queue within %.3g s.", e->seconds);
    else
        say(verdict, "%zu left the queue within %.3g s.", e->queue_left, e->seconds);
}

static void say_unread(const struct evidence *e, struct verdict *verdict)
{
    size_t eof = e->by_cause[TRIAGE_EOF_UNREAD], data = e->by_cause[TRIAGE_DATA_UNREAD];
    if (eof + data == 0)
        return;
    say(verdict, "%zu of %zu sockets in CLOSE_WAIT have an EOF that was never read, %zu of them also data.",
        eof + data, e->close_wait, data);
    say_owner(e, verdict, e->owner_by_cause[TRIAGE_EOF_UNREAD] + e->owner_by_cause[TRIAGE_DATA_UNREAD],
              "of those");
}

static void say_waiting(struct verdict *verdict, size_t count)
{
    if (count)
        say(verdict, "The clients of %zu, on this host, still hold their sockets and may wait for an answer.",
            count);
}

/* What was not read or not accepted; and what was read, by a program that can do nothing any more. */
static bool verdict_stuck(const struct evidence *e, struct verdict *verdict)
{
    bool runs = others_move(e) && !owner_halted(e);
    size_t unread = runs ? 0 : e->by_cause[TRIAGE_EOF_UNREAD] + e->by_cause[TRIAGE_DATA_UNREAD];
    size_t queued = is_load(e) ? 0 : e->by_cause[TRIAGE_NEVER_ACCEPTED];
    size_t read = owner_halted(e) ? e->by_cause[TRIAGE_READ_EOF] : 0;
    unread = e->query_sockets < unread ? unread - e->query_sockets : 0;
    if (unread + queued + read == 0)
        return false;
    verdict->weight = unread + queued + read;
    if (unread)
        say_unread(e, verdict);
    if (queued)
        say_queued(e, verdict);
    if (read)
        say(verdict, "%zu have nothing left to read; it can't close them either.", read);
    say_side(e, verdict);
    say_waiting(verdict, e->waiting[TRIAGE_EOF_UNREAD] + e->waiting[TRIAGE_DATA_UNREAD]);
    say_process(e, verdict);
    say_others(e, verdict);
    say_growth(e, verdict);
    return true;
}

static bool verdict_forgotten(const struct evidence *e, struct verdict *verdict)
{
    size_t unread = e->by_cause[TRIAGE_EOF_UNREAD] + e->by_cause[TRIAGE_DATA_UNREAD];
    if (unread <= e->query_sockets || !others_move(e) || owner_halted(e))
        return false;
    verdict->weight = unread - e->query_sockets;
    say_unread(e, verdict);
    say_others(e, verdict);
    say_side(e, verdict);
    say_waiting(verdict, e->waiting[TRIAGE_EOF_UNREAD] + e->waiting[TRIAGE_DATA_UNREAD]);
    say_far(e, verdict);
    say_growth(e, verdict);
    return true;
}

static bool verdict_query(const struct evidence *e, struct verdict *verdict)
{
    if (e->query_sockets == 0)
        return false;
    verdict->weight = e->query_sockets;
    say(verdict, "%zu PostgreSQL backend%s at work for clients that have closed: their titles name a query.",
        e->querying_count, e->querying_count == 1 ? " is" : "s are");
    say(verdict,
        "PostgreSQL looks at its client only when it has a row to send: client_connection_check_interval = "
        "10s (version 14) makes it look earlier.");
    say_growth(e, verdict);
    return true;
}

static bool verdict_upstream(const struct evidence *e, struct verdict *verdict)
{
    char text[DIAG_ENDPOINT_TEXT];
    if (e->upstream_count == 0 || e->close_wait == 0 || owner_halted(e) ||
        e->upstream_count * 2 < e->owner_count)
        return false;
    verdict->weight = e->close_wait + 1;
    say(verdict,
        "%s (pid %d) itself waits: %zu of its own connections to %s have sent last and got nothing since, "
        "the longest for %.0f s.",
        e->owner->program, e->owner->pid, e->upstream_count, diag_endpoint_text(&e->upstream, text),
        (double)e->upstream_waited_ms / 1000);
    if (e->upstream_owner.pid)
        say(verdict, "There listens %s (pid %d, %s): %s.", e->upstream_owner.program, e->upstream_owner.pid,
            owner_state_name(e->upstream_owner.state), owner_known_as(&e->upstream_owner));
    say(verdict, "%zu of its own clients have closed meanwhile.", e->close_wait);
    say_growth(e, verdict);
    return true;
}

/* Seconds until there are `left` descriptors more, at the pace of the sample; 0: they do not grow. */
static uint64_t lasts_s(const struct evidence *e, uint64_t left)
{
    if (e->owner_files_before == 0 || e->owner_files <= e->owner_files_before)
        return 0;
    return (uint64_t)((double)left * e->seconds / (double)(e->owner_files - e->owner_files_before));
}

static const char *span(uint64_t s, char text[24])
{
    if (s < 120)
        snprintf(text, 24, "%ju s", (uintmax_t)s);
    else if (s < 7200)
        snprintf(text, 24, "%ju min", (uintmax_t)(s / 60));
    else
        snprintf(text, 24, "%ju h", (uintmax_t)(s / 3600));
    return text;
}

enum { DEAD_MIN = 10, SOON_S = 3600 };

static bool files_can_grow(const struct evidence *e)
{
    return e->owner_files_hard > e->owner_files_limit && e->owner_files_limit > 0;
}

static void say_room(const struct evidence *e, struct verdict *verdict)
{
    char text[24];
    uint64_t hard = e->owner_files_hard == UINT64_MAX ? 1U << 20 : e->owner_files_hard;
    uint64_t now_s = lasts_s(e, e->owner_files_limit - e->owner_files);
    uint64_t then_s = hard > e->owner_files ? lasts_s(e, hard - e->owner_files) : 0;
    if (e->owner_files >= e->owner_files_limit)
        say(verdict, "It has none left: it can accept no client.");
    else if (now_s)
        say(verdict, "%ju more within %.3g s: at that pace it is out in %s.",
            (uintmax_t)(e->owner_files - e->owner_files_before), e->seconds, span(now_s, text));
    if (files_can_grow(e) && then_s)
        say(verdict, "prlimit to %ju would put that off to %s from now, and breaks what uses select().",
            (uintmax_t)hard, span(then_s, text));
    else if (files_can_grow(e))
        say(verdict,
            "prlimit could raise its limit to %ju, which puts off the end and breaks what uses select().",
            (uintmax_t)hard);
}

static bool verdict_descriptors(const struct evidence *e, struct verdict *verdict)
{
    if (!e->owner || e->owner_files_limit == 0)
        return false;
    bool low = evidence_files_short(e->owner_files, e->owner_files_limit);
    uint64_t out_s =
        e->owner_files < e->owner_files_limit ? lasts_s(e, e->owner_files_limit - e->owner_files) : 0;
    bool soon = out_s > 0 && out_s < SOON_S && e->close_wait + e->owner_dead > 0;
    if (!low && !soon && e->owner_dead < DEAD_MIN)
        return false;
    verdict->weight = low ? SIZE_MAX / 2 : soon ? e->close_wait + e->owner_dead + 2 : e->owner_dead;
    say(verdict, "%s (pid %d) has %ju of %ju descriptors open.", e->owner->program, e->owner->pid,
        (uintmax_t)e->owner_files, (uintmax_t)e->owner_files_limit);
    if (e->owner_dead)
        say(verdict,
            "%zu of them are dead: sockets that the kernel has ended, and the program has never closed.",
            e->owner_dead);
    if (e->close_wait)
        say(verdict, "%zu sockets of this service are in CLOSE_WAIT.", e->close_wait);
    say_room(e, verdict);
    say(verdict, "Ending sockets from outside gives no descriptor back: only close() or a restart does.");
    return true;
}

static bool verdict_load(const struct evidence *e, struct verdict *verdict)
{
    size_t queued = e->by_cause[TRIAGE_NEVER_ACCEPTED];
    if (!is_load(e))
        return false;
    verdict->weight = queued ? queued : 1;
    if (queued)
        say_queued(e, verdict);
    else
        say_queue(e, verdict);
    if (e->overflows && evidence_queue_full(e->backlog_used, e->backlog_size))
        say(verdict, "%ju connections found a full queue within %.3g s, on all ports of this host.",
            (uintmax_t)e->overflows, e->seconds);
    say(verdict, "%.1f connections a second arrive on this host.", e->accepted_per_s);
    say_process(e, verdict);
    return true;
}

static bool verdict_client(const struct evidence *e, struct verdict *verdict)
{
    if (e->network_is_loopback || e->close_wait < CLIENT_MIN ||
        !percent_reached(e->network_count, e->close_wait, MOST_PERCENT))
        return false;
    verdict->weight = 0; /* never the headline: behind a gateway all clients have one address */
    say(verdict, "%zu of %zu sockets in CLOSE_WAIT come from %s.", e->network_count, e->close_wait,
        e->network);
    say(verdict, "%zu of them closed without having sent a byte.", e->zero_bytes);
    say(verdict,
        "If that address is your own proxy or load balancer, it stands for all its clients: ask it instead.");
    say(verdict,
        "It needs a program that doesn't close as well: a healthy one closes whoever the client is.");
    return true;
}

/* Heaviest first; of equals, the order of the table below. */
static void verdicts_sort(struct verdict *verdicts, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        for (size_t k = i; k > 0 && verdicts[k].weight > verdicts[k - 1].weight; k--) {
            struct verdict swap = verdicts[k];
            verdicts[k] = verdicts[k - 1];
            verdicts[k - 1] = swap;
        }
    }
}

size_t diagnose(const struct evidence *evidence, struct verdict verdicts[DIAGNOSIS_COUNT])
{
    static bool (*const judges[DIAGNOSIS_COUNT])(const struct evidence *, struct verdict *) = {
        [DIAGNOSIS_PROGRAM] = verdict_program,
        [DIAGNOSIS_STUCK] = verdict_stuck,
        [DIAGNOSIS_LOAD] = verdict_load,
        [DIAGNOSIS_CLIENT] = verdict_client,
        [DIAGNOSIS_DESCRIPTORS] = verdict_descriptors,
        [DIAGNOSIS_UPSTREAM] = verdict_upstream,
        [DIAGNOSIS_QUERY] = verdict_query,
        [DIAGNOSIS_FORGOTTEN] = verdict_forgotten,
        [DIAGNOSIS_WAITING] = verdict_waiting,
    };
    size_t count = 0;
    for (enum diagnosis d = 0; d < DIAGNOSIS_COUNT; d++) {
        verdicts[count] = (struct verdict){.diagnosis = d};
        if (judges[d] && judges[d](evidence, &verdicts[count]))
            count++;
    }
    verdicts_sort(verdicts, count);
    if (count > 0)
        return count;
    verdicts[0] = (struct verdict){.diagnosis = DIAGNOSIS_NOTHING};
    say(&verdicts[0], "%zu connections are established, %.1f a second arrive on this host.",
        evidence->established, evidence->accepted_per_s);
    return 1;
}

/* ---- what to do next ---- */

/* " --port 80", " --to 80", or "". */
static const char *ports_text(const struct evidence *e, char text[16])
{
    text[0] = '\0';
    if (e->port)
        snprintf(text, 16, e->client_side ? " --to %u" : " --port %u", e->port);
    return text;
}

/* All of them, for a command line. */
static void pids_put(const char *before, const pid_t *pids, size_t count, const char *between, char *text,
                     size_t size)
{
    int length = snprintf(text, size, "%s", before);
    for (size_t i = 0; i < count && length > 0 && (size_t)length < size; i++)
        length += snprintf(text + length, size - (size_t)length, i ? "%s%d" : "%.0s%d", between, pids[i]);
}

static void next_stack(const struct evidence *e, const char *ports, char *text, size_t size)
{
    if (e->stopped_count)
        pids_put("kill -CONT ", e->stopped, e->stopped_count, " ", text, size);
    else if (owner_stopped(e))
        snprintf(text, size, "kill -CONT %d", e->owner->pid);
    else if (e->owner)
        runtime_stack_command(e->owner_runtime, e->owner->pid, text, size);
    else
        snprintf(text, size, "sudo lastack doctor%s", ports);
}

static void next_upstream(const struct evidence *e, char *text, size_t size)
{
    char host[DIAG_HOST_TEXT];
    if (e->upstream_here)
        snprintf(text, size, "lastack doctor --port %u", e->upstream.port);
    else
        snprintf(text, size, "lastack doctor --port %u    # on %s", e->upstream.port,
                 diag_host_text(e->upstream.host, host));
}

static bool is_unit(const char *service)
{
    size_t length = strlen(service);
    for (size_t i = 0; i < length; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@._-", service[i]))
            return false;
    return length > 8 && strcmp(service + length - 8, ".service") == 0;
}

static void next_descriptors(const struct evidence *e, char *text, size_t size)
{
    uint64_t hard = e->owner_files_hard == UINT64_MAX ? 1U << 20 : e->owner_files_hard;
    if (files_can_grow(e) && evidence_files_short(e->owner_files, e->owner_files_limit))
        snprintf(text, size, "prlimit --pid %d --nofile=%ju:    # and restart it when you can", e->owner->pid,
                 (uintmax_t)hard);
    else if (is_unit(e->owner->service))
        snprintf(text, size, "systemctl restart %s", e->owner->service);
    else
        snprintf(text, size, "kill -TERM %d    # restart it as it is started here", e->owner->pid);
}

/* A dry run; what to do is left to who can know whether the peers on other hosts still wait. */
static void next_reap(const struct evidence *e, const char *ports, char *text, size_t size)
{
    if (e->client_side || e->port == 0)
        snprintf(text, size, "lastack scan%s", ports);
    else
        snprintf(text, size, "lastack reap%s --older-than 2m%s", ports, e->far ? "" : " --action finish");
}

void diagnosis_next(const struct evidence *e, enum diagnosis diagnosis, char *text, size_t size)
{
    char ports[16];
    ports_text(e, ports);
    switch (diagnosis) {
    case DIAGNOSIS_PROGRAM:
    case DIAGNOSIS_FORGOTTEN:
        next_reap(e, ports, text, size);
        return;
    case DIAGNOSIS_STUCK:
    case DIAGNOSIS_WAITING:
        next_stack(e, ports, text, size);
        return;
    case DIAGNOSIS_UPSTREAM:
        next_upstream(e, text, size);
        return;
    case DIAGNOSIS_DESCRIPTORS:
        next_descriptors(e, text, size);
        return;
    case DIAGNOSIS_QUERY:
        pids_put("psql -c 'SELECT pg_terminate_backend(", e->querying, e->querying_count,
                 "), pg_terminate_backend(", text, size - 3);
        snprintf(text + strlen(text), 3, ")'");
        return;
    case DIAGNOSIS_CLIENT:
        snprintf(text, size, "lastack scan%s --older-than 30s", ports);
        return;
    default:
        snprintf(text, size, "lastack scan%s --watch", ports);
        return;
    }
}

/* ---- remedies ---- */

static void helps_never(const struct evidence *e, enum diagnosis diagnosis, char text[DIAGNOSIS_LINE])
{
    (void)e;
    (void)diagnosis;
    snprintf(text, DIAGNOSIS_LINE, "No. It does nothing for CLOSE_WAIT.");
}

static void helps_fin_timeout(const struct evidence *e, enum diagnosis diagnosis, char text[DIAGNOSIS_LINE])
{
    if (e->peers_closed_here == 0) {
        helps_never(e, diagnosis, text);
        return;
    }
    snprintf(text, DIAGNOSIS_LINE,
             "No. It clears the other ends of %zu of these, which are on this host, and leaves CLOSE_WAIT as "
             "it is.",
             e->peers_closed_here);
}

static void helps_keepalive(const struct evidence *e, enum diagnosis diagnosis, char text[DIAGNOSIS_LINE])
{
    (void)diagnosis;
    if (e->with_keepalive == 0)
        snprintf(text, DIAGNOSIS_LINE,
                 "No. None of these sockets has SO_KEEPALIVE, and no sysctl turns it on.");
    else
        snprintf(text, DIAGNOSIS_LINE,
                 "Partly. %zu of %zu have SO_KEEPALIVE: a probe ends CLOSE_WAIT once the peer's kernel has "
                 "forgotten"
                 " the connection. The descriptor stays.",
                 e->with_keepalive, e->close_wait);
}

static void helps_somaxconn(const struct evidence *e, enum diagnosis diagnosis, char text[DIAGNOSIS_LINE])
{
    if (diagnosis != DIAGNOSIS_LOAD)
        helps_never(e, diagnosis, text);
    else if (e->by_cause[TRIAGE_NEVER_ACCEPTED] == 0)
        snprintf(text, DIAGNOSIS_LINE,
                 "Partly. Bursts fit in, if the program asks for a longer queue too; it doesn't"
                 " accept faster.");
    else
        snprintf(text, DIAGNOSIS_LINE,
                 "No. A longer queue lets more clients wait, and more of them give up.");
}

static void helps_conntrack(const struct evidence *e, enum diagnosis diagnosis, char text[DIAGNOSIS_LINE])
{
    (void)e;
    (void)diagnosis;
    snprintf(text, DIAGNOSIS_LINE,
             "No. It forgets the connection, not the socket; a later FIN or RST may not pass.");
}

static void helps_nofile(const struct evidence *e, enum diagnosis diagnosis, char text[DIAGNOSIS_LINE])
{
    if (diagnosis == DIAGNOSIS_NOTHING || !e->owner || e->owner_files_limit == 0)
        helps_never(e, diagnosis, text);
    else
        snprintf(text, DIAGNOSIS_LINE,
                 "No. It only puts off the end: %s (pid %d) has %ju descriptors of %ju, %zu of them leaked.",
                 e->owner->program, e->owner->pid, (uintmax_t)e->owner_files, (uintmax_t)e->owner_files_limit,
                 e->owner_count);
}

static const struct remedy table[] = {
    {"tcp_fin_timeout", "net/ipv4/tcp_fin_timeout",
     "Bounds FIN_WAIT_2 of sockets that no process holds any more.", helps_fin_timeout},
    {"tcp_tw_reuse", "net/ipv4/tcp_tw_reuse", "Lets new outgoing connections take over TIME_WAIT ones.",
     helps_never},
    {"tcp_tw_recycle", "net/ipv4/tcp_tw_recycle", "Dropped clients behind NAT; gone since Linux 4.12.",
     helps_never},
    {"tcp_keepalive_time", "net/ipv4/tcp_keepalive_time",
     "Seconds of silence before a probe, on sockets with SO_KEEPALIVE only.", helps_keepalive},
    {"tcp_keepalive_intvl", "net/ipv4/tcp_keepalive_intvl", "Seconds between unanswered probes.",
     helps_keepalive},
    {"tcp_keepalive_probes", "net/ipv4/tcp_keepalive_probes",
     "Unanswered probes before the connection is given up.", helps_keepalive},
    {"tcp_max_orphans", "net/ipv4/tcp_max_orphans",
     "Bounds sockets that no process holds; one in CLOSE_WAIT is held, or waits to be accepted.",
     helps_never},
    {"tcp_orphan_retries", "net/ipv4/tcp_orphan_retries", "Retransmissions of sockets that no process holds.",
     helps_never},
    {"somaxconn", "net/core/somaxconn", "Caps the length of accept queues.", helps_somaxconn},
    {"nf_conntrack_tcp_timeout_close_wait", "net/netfilter/nf_conntrack_tcp_timeout_close_wait",
     "Seconds until the firewall forgets a connection in CLOSE_WAIT.", helps_conntrack},
    {"nofile (ulimit -n)", NULL, "How many descriptors a process may have.", helps_nofile},
};

const struct remedy *remedies(size_t *count)
{
    *count = sizeof table / sizeof table[0];
    return table;
}
