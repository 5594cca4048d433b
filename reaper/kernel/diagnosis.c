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
    long more = (long)e->close_wait - (long)e->close_wait_before;
    bool steady = percent_reached(e->established, e->established_before, 90) &&
                  percent_reached(e->established_before, e->established, 90);
    if (more > 0)
        say(verdict, "%ld more of them within %.3g s, while %zu connections were established%s.", more,
            e->seconds, e->established, steady ? ", as many as before: it is not the load that grows" : "");
    else
        say(verdict, "They did not become more within %.3g s.", e->seconds);
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

static bool verdict_program(const struct evidence *e, struct verdict *verdict)
{
    size_t count = e->by_cause[TRIAGE_READ_EOF];
    if (count == 0)
        return false;
    verdict->weight = count;
    say(verdict,
        "%zu of %zu sockets in CLOSE_WAIT have nothing left to read: their program has seen the EOF.", count,
        e->close_wait);
    say_owner(e, verdict, e->owner_by_cause[TRIAGE_READ_EOF], "of those");
    say_side(e, verdict);
    say_growth(e, verdict);
    say(verdict, "The oldest has been so for at least %.0f s; the kernel has no timer that would end it.",
        (double)e->oldest_ms / 1000);
    return true;
}

static void say_process(const struct evidence *e, struct verdict *verdict)
{
    const struct owner_process *owner = e->owner;
    if (!owner)
        return;
    if (owner_stopped(e))
        say(verdict, "The process, %s (pid %d), is %s: nothing in it runs until it gets SIGCONT.",
            owner->program, owner->pid, owner_state_name(owner->state));
    else if (owner->blocked_threads)
        say(verdict, "%u of the %u threads of %s (pid %d) are blocked in the kernel (state D) or stopped.",
            owner->blocked_threads, owner->threads, owner->program, owner->pid);
    else
        say(verdict, "The process, %s (pid %d), is %s, %u thread%s, none of them blocked in the kernel.",
            owner->program, owner->pid, owner_state_name(owner->state), owner->threads,
            owner->threads == 1 ? "" : "s");
    if (owner->wchan[0])
        say(verdict, "Its main thread waits in %s.", owner->wchan);
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

static bool verdict_stuck(const struct evidence *e, struct verdict *verdict)
{
    size_t unread = e->by_cause[TRIAGE_EOF_UNREAD] + e->by_cause[TRIAGE_DATA_UNREAD];
    size_t queued = is_load(e) ? 0 : e->by_cause[TRIAGE_NEVER_ACCEPTED];
    if (unread + queued == 0)
        return false;
    verdict->weight = unread + queued;
    say_unread(e, verdict);
    if (queued)
        say_queued(e, verdict);
    say_side(e, verdict);
    say_process(e, verdict);
    say_growth(e, verdict);
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
    bool silent = percent_reached(e->zero_bytes, e->close_wait, MOST_PERCENT);
    /* One address is no proof: behind a proxy or a NAT all clients have one. Silent connections weigh more.
     */
    verdict->weight = silent ? e->network_count + 1 : e->network_count / 2;
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
