#include "proxy/patrol/leaks.h"

#include "reaper/error.h"
#include "reaper/kernel/guard.h"
#include "reaper/kernel/survey.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* #syscalls rest: openat getdents64 readlinkat close */

/* How often what leaks is said, at most; and of how many owners, those with most first. */
enum { SAY_EVERY_MS = 10000, OWNERS_SAID = 8 };

/* Sockets ended in one look; the next look goes on. */
enum { ACTS_MAX = 1000 };

/* Addresses of one server. */
enum { ADDRESSES_MAX = 8 };

struct watched {
    const char *name; /* NULL: it has an address of its own */
    uint16_t port;
    struct diag_endpoint addresses[ADDRESSES_MAX];
    size_t address_count;
};

struct leaks {
    const struct conf_reaper *conf;
    const atomic_bool *stop;
    struct log_ring *ring;
    struct survey survey;
    uint16_t *ports; /* of all that is watched */
    size_t port_count;
    struct watched *servers; /* of the backends, if these are watched */
    size_t server_count;
    uint32_t *own; /* inodes of this process's sockets, sorted; read when they matter */
    size_t own_count, own_room;
    size_t said[TRIAGE_CAUSE_COUNT]; /* counts as last logged */
    uint64_t say_again_ms;
    uint64_t complain_again_ms; /* about one that could not be ended */
    int failed;                 /* the last error, to say it once */
};

/* ---- what is ours ---- */

static int by_number(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static bool own_add(struct leaks *leaks, uint32_t inode)
{
    if (leaks->own_count == leaks->own_room) {
        size_t room = leaks->own_room ? 2 * leaks->own_room : 1024;
        uint32_t *own = realloc(leaks->own, room * sizeof *own);
        if (!own)
            return false;
        leaks->own = own;
        leaks->own_room = room;
    }
    leaks->own[leaks->own_count++] = inode;
    return true;
}

/* False when that can't be told: then nothing is touched. */
static bool own_read(struct leaks *leaks)
{
    DIR *directory = opendir("/proc/self/fd");
    bool complete = directory != NULL;
    struct dirent *entry;
    leaks->own_count = 0;
    while (complete && (entry = readdir(directory))) {
        char link[64];
        ssize_t n = readlinkat(dirfd(directory), entry->d_name, link, sizeof link - 1);
        if (n < 0)
            continue;
        link[n] = '\0';
        if (strncmp(link, "socket:[", 8) == 0)
            complete = own_add(leaks, (uint32_t)strtoul(link + 8, NULL, 10));
    }
    if (directory)
        closedir(directory);
    if (leaks->own_count > 0)
        qsort(leaks->own, leaks->own_count, sizeof *leaks->own, by_number);
    return complete;
}

static bool is_own(const struct leaks *leaks, uint32_t inode)
{
    return inode != 0 && leaks->own_count > 0 &&
           bsearch(&inode, leaks->own, leaks->own_count, sizeof inode, by_number);
}

static bool is_beside(const struct leaks *leaks, const struct leak *leak)
{
    return !is_own(leaks, leak->peer_inode) && !is_own(leaks, leak->row.inode);
}

/* By its local address, not only by its port: other programs of this host may use the port that a server has
 * on another host, or on another address of this one. A port that the user has named is watched on all
 * addresses. */
static bool is_watched(const struct leaks *leaks, const struct leak *leak)
{
    const struct diag_endpoint *local = &leak->row.id.local;
    for (size_t i = 0; i < leaks->conf->port_count; i++)
        if (leaks->conf->ports[i] == local->port)
            return true;
    for (size_t i = 0; i < leaks->server_count; i++)
        for (size_t k = 0; k < leaks->servers[i].address_count; k++)
            if (diag_endpoint_equal(&leaks->servers[i].addresses[k], local))
                return true;
    return false;
}

/* Leaves only what is watched and beside the proxy: a socket whose peer is ours belongs to a session and its
 * deadlines, one that is ours is no backend's. False when that can't be told. */
static bool drop_others(struct leaks *leaks)
{
    struct triage *now = &leaks->survey.now;
    size_t kept = 0;
    if (now->leak_count == 0)
        return true;
    if (!own_read(leaks))
        return false;
    for (size_t i = 0; i < now->leak_count; i++)
        if (is_watched(leaks, &now->leaks[i]) && is_beside(leaks, &now->leaks[i]))
            now->leaks[kept++] = now->leaks[i];
    now->leak_count = kept;
    return true;
}

/* ---- saying ---- */

static void count_causes(const struct triage *triage, size_t counts[TRIAGE_CAUSE_COUNT])
{
    memset(counts, 0, TRIAGE_CAUSE_COUNT * sizeof *counts);
    for (size_t i = 0; i < triage->leak_count; i++)
        counts[triage->leaks[i].cause]++;
}

static void put_causes(struct line *line, const size_t counts[TRIAGE_CAUSE_COUNT])
{
    for (enum triage_cause cause = 0; cause < TRIAGE_CAUSE_COUNT; cause++)
        if (cause != TRIAGE_NO_CAUSE)
            line_number(line, triage_cause_name(cause), counts[cause]);
}

static void say_total(struct leaks *leaks, const size_t counts[TRIAGE_CAUSE_COUNT], uint64_t now_ms)
{
    struct line line;
    uint64_t oldest_ms = 0;
    size_t older = 0;
    for (size_t i = 0; i < leaks->survey.now.leak_count; i++) {
        uint64_t age_ms = leak_age_ms(&leaks->survey.now.leaks[i], now_ms, NULL);
        oldest_ms = age_ms > oldest_ms ? age_ms : oldest_ms;
        older += age_ms >= leaks->conf->older_than_ms;
    }
    line_begin(&line, log_format(leaks->ring), older > 0 ? CONF_LOG_WARNING : CONF_LOG_INFO, "leaks");
    line_number(&line, "count", leaks->survey.now.leak_count);
    line_number(&line, "older", older);
    line_number(&line, "oldest_ms", oldest_ms);
    put_causes(&line, counts);
    if (log_wants(leaks->ring, older > 0 ? CONF_LOG_WARNING : CONF_LOG_INFO))
        log_line(leaks->ring, line_end(&line));
}

/* What one process leaks. */
struct owned {
    const struct owner_process *process;
    size_t counts[TRIAGE_CAUSE_COUNT];
    size_t total;
};

static int by_total(const void *a, const void *b)
{
    const struct owned *left = a, *right = b;
    return (left->total < right->total) - (left->total > right->total);
}

static void say_owner(struct leaks *leaks, const struct owned *owned)
{
    struct line line;
    line_begin(&line, log_format(leaks->ring), CONF_LOG_INFO, "leak_owner");
    line_number(&line, "pid", (uint64_t)owned->process->pid);
    line_text(&line, "program", owned->process->program);
    line_text(&line, "state", owner_state_name(owned->process->state));
    line_number(&line, "count", owned->total);
    put_causes(&line, owned->counts);
    log_line(leaks->ring, line_end(&line));
}

static void sum_owner(struct owned *owned, const struct owners *owners, const struct leak *leak)
{
    const struct owner_holder *holder;
    size_t count = owners_of(owners, leak->row.inode, &holder);
    for (size_t i = 0; i < count; i++) {
        struct owned *of = &owned[holder[i].process];
        of->process = &owners->processes[holder[i].process];
        of->counts[leak->cause]++;
        of->total++;
    }
}

static void say_owners(struct leaks *leaks, const struct owners *owners)
{
    struct owned *owned = calloc(owners->process_count + 1, sizeof *owned);
    if (!owned)
        return;
    for (size_t i = 0; i < leaks->survey.now.leak_count; i++)
        sum_owner(owned, owners, &leaks->survey.now.leaks[i]);
    qsort(owned, owners->process_count, sizeof *owned, by_total);
    for (size_t i = 0; i < owners->process_count && i < OWNERS_SAID && owned[i].total > 0; i++)
        say_owner(leaks, &owned[i]);
    free(owned);
}

static void say_changes(struct leaks *leaks, uint64_t now_ms)
{
    size_t counts[TRIAGE_CAUSE_COUNT];
    count_causes(&leaks->survey.now, counts);
    if (now_ms < leaks->say_again_ms || memcmp(counts, leaks->said, sizeof counts) == 0)
        return;
    memcpy(leaks->said, counts, sizeof counts);
    leaks->say_again_ms = now_ms + SAY_EVERY_MS;
    say_total(leaks, counts, now_ms);
    if (log_wants(leaks->ring, CONF_LOG_INFO) && survey_owners(&leaks->survey) == 0)
        say_owners(leaks, &leaks->survey.owners);
}

/* ---- ending ---- */

static size_t descriptors_held(const struct leaks *leaks, const struct owners *owners,
                               const struct leak *leak)
{
    const struct owner_holder *holder;
    size_t held = 0, count = owners_of(owners, leak->row.inode, &holder);
    for (size_t i = 0; i < count; i++) {
        pid_t pid = owners->processes[holder[i].process].pid;
        held += owner_holds(leaks->survey.proc_fd, pid, holder[i].fd, leak->row.inode) == 1;
    }
    return held;
}

static void say_ended(struct leaks *leaks, const struct owners *owners, const struct leak *leak,
                      const struct ladder_result *result, uint64_t now_ms)
{
    char text[DIAG_ENDPOINT_TEXT];
    struct line line;
    const struct owner_holder *holder;
    int outcome = ladder_verify(leaks->survey.netlink, leak);
    if (result->error && outcome == LADDER_GONE) /* it ended by itself meanwhile */
        return;
    if (result->error && now_ms < leaks->complain_again_ms) /* it will be tried again and fail again */
        return;
    if (result->error)
        leaks->complain_again_ms = now_ms + SAY_EVERY_MS;
    line_begin(&line, log_format(leaks->ring), CONF_LOG_WARNING,
               result->error ? "leak_not_ended" : "leak_ended");
    line_text(&line, "local", diag_endpoint_text(&leak->row.id.local, text));
    line_text(&line, "peer", diag_endpoint_text(&leak->row.id.remote, text));
    line_text(&line, "cause", triage_cause_name(leak->cause));
    line_number(&line, "age_ms", leak_age_ms(leak, now_ms, NULL));
    if (owners_of(owners, leak->row.inode, &holder) > 0) {
        line_number(&line, "pid", (uint64_t)owners->processes[holder->process].pid);
        line_text(&line, "program", owners->processes[holder->process].program);
        line_number(&line, "fd", (uint64_t)holder->fd);
    }
    line_text(&line, "rung", ladder_action_name(result->rung));
    if (result->error)
        line_text(&line, "error", error_name(result->error));
    line_text(&line, "verified",
              outcome < 0 ? error_name(outcome) : ladder_outcome_name((enum ladder_outcome)outcome));
    line_number(&line, "descriptors_held", descriptors_held(leaks, owners, leak));
    if (log_wants(leaks->ring, CONF_LOG_WARNING))
        log_line(leaks->ring, line_end(&line));
}

/* None of the guards is set aside here: only a person who looks can do that. */
static struct guard_policy policy_of(const struct leaks *leaks)
{
    return (struct guard_policy){.older_than_ms = leaks->conf->older_than_ms};
}

/* Whether one of them would be due if its owner is found. */
static bool any_needs_owners(const struct leaks *leaks, uint64_t now_ms)
{
    const struct guard_policy policy = policy_of(leaks);
    for (size_t i = 0; i < leaks->survey.now.leak_count; i++)
        if (guard_needs_owners(&leaks->survey.now.leaks[i], &policy, now_ms))
            return true;
    return false;
}

static void end_due(struct leaks *leaks, uint64_t now_ms)
{
    const struct guard_policy policy = policy_of(leaks);
    struct survey *survey = &leaks->survey;
    if (!any_needs_owners(leaks, now_ms) || survey_owners(survey) != 0)
        return;
    for (size_t i = 0, acts = 0; i < survey->now.leak_count && acts < ACTS_MAX && !atomic_load(leaks->stop);
         i++) {
        const struct leak *leak = &survey->now.leaks[i];
        if (guard_check(leak, &policy, now_ms) != GUARD_CLEAR)
            continue;
        struct ladder_result result = ladder_climb(survey->netlink, survey->proc_fd, &survey->owners, leak,
                                                   &policy, leaks->conf->action);
        say_ended(leaks, &survey->owners, leak, &result, now_ms);
        acts++;
    }
}

/* ---- the interface ---- */

void leaks_look(struct leaks *leaks, uint64_t now_ms)
{
    int error = survey_look(&leaks->survey, now_ms);
    if (error == -ECANCELED)
        return;
    if (error) {
        if (error != leaks->failed)
            log_say(leaks->ring, CONF_LOG_WARNING, "reaper_blind", "error", error_text(error));
        leaks->failed = error;
        return;
    }
    leaks->failed = 0;
    if (!drop_others(leaks))
        return;
    say_changes(leaks, now_ms);
    if (leaks->conf->action != LADDER_REPORT)
        end_due(leaks, now_ms);
    log_flush(leaks->ring);
}

/* A server that listens on any address is reached by way of loopback. */
static void take_address(struct watched *server, const struct sockaddr_storage *address)
{
    struct diag_endpoint *endpoint = &server->addresses[server->address_count];
    if (server->address_count == ADDRESSES_MAX || !diag_endpoint_of(address, endpoint))
        return;
    if (diag_host_is_any(endpoint->host)) {
        endpoint->host[12] = diag_host_is_v4(endpoint->host) ? 127 : 0;
        endpoint->host[15] = 1;
    }
    endpoint->port = server->port;
    server->address_count++;
}

static void take_server(struct leaks *leaks, const struct conf_server *conf)
{
    if (conf->port == 0)
        return;
    struct watched *server = &leaks->servers[leaks->server_count++];
    *server = (struct watched){.name = conf->host, .port = conf->port};
    leaks->ports[leaks->port_count++] = conf->port;
    if (!conf->host)
        take_address(server, &conf->address.address);
}

static struct watched *named(const struct leaks *leaks, size_t index)
{
    for (size_t i = 0; i < leaks->server_count; i++)
        if (leaks->servers[i].name && index-- == 0)
            return &leaks->servers[i];
    return NULL;
}

const char *leaks_name(const struct leaks *leaks, size_t index)
{
    const struct watched *server = named(leaks, index);
    return server ? server->name : NULL;
}

void leaks_set_addresses(struct leaks *leaks, size_t index, const struct addrinfo *addresses)
{
    struct watched *server = named(leaks, index);
    server->address_count = 0;
    for (; addresses; addresses = addresses->ai_next) {
        struct sockaddr_storage address = {0};
        if (addresses->ai_addrlen <= sizeof address) {
            memcpy(&address, addresses->ai_addr, addresses->ai_addrlen);
            take_address(server, &address);
        }
    }
}

static int take_watched(struct leaks *leaks, const struct conf *conf)
{
    size_t servers = 0;
    for (size_t b = 0; b < conf->backend_count; b++)
        servers += conf->backends[b].server_count;
    leaks->ports = calloc(conf->reaper.port_count + servers + 1, sizeof *leaks->ports);
    leaks->servers = calloc(servers + 1, sizeof *leaks->servers);
    if (!leaks->ports || !leaks->servers)
        return -ENOMEM;
    for (size_t i = 0; i < conf->reaper.port_count; i++)
        leaks->ports[leaks->port_count++] = conf->reaper.ports[i];
    for (size_t b = 0; conf->reaper.backends && b < conf->backend_count; b++)
        for (size_t i = 0; i < conf->backends[b].server_count; i++)
            take_server(leaks, &conf->backends[b].servers[i]);
    return 0;
}

int leaks_open(const struct conf *conf, struct log_ring *ring, const atomic_bool *stop, struct leaks **out)
{
    struct leaks *leaks = calloc(1, sizeof *leaks);
    *out = NULL;
    if (!leaks)
        return -ENOMEM;
    leaks->conf = &conf->reaper;
    leaks->ring = ring;
    leaks->stop = stop;
    leaks->survey.proc_fd = -1;
    int error = take_watched(leaks, conf);
    const struct survey_filter filter = {.ports = leaks->ports, .port_count = leaks->port_count};
    if (!error && leaks->port_count > 0)
        error = survey_open(&leaks->survey, &filter, DIAG_CLOSE_WAIT);
    if (!error && leaks->port_count > 0)
        survey_stop_on(&leaks->survey, stop);
    if (error || leaks->port_count == 0) {
        leaks_close(leaks);
        return error;
    }
    *out = leaks;
    return 0;
}

void leaks_close(struct leaks *leaks)
{
    if (!leaks)
        return;
    survey_close(&leaks->survey);
    free(leaks->ports);
    free(leaks->servers);
    free(leaks->own);
    free(leaks);
}
