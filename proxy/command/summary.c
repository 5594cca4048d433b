#include "proxy/command/summary.h"

#include "proxy/command/listening.h"
#include "reaper/kernel/netlink.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* #syscalls rest: openat read getdents64 close */

/* A server on this host. */
struct service {
    const struct conf_backend *backend;
    const struct conf_server *server;
    struct diag_endpoint address;
    uint64_t established, close_wait;
    uint32_t inode; /* of the socket that listens; 0: none */
    pid_t pid;      /* who had `descriptors` open ... */
    uint64_t descriptors;
    uint64_t at_ms; /* ... when; 0: not known */
};

struct summary {
    const struct conf *conf;
    size_t count;
    struct service services[SUMMARY_SERVICES_MAX];
    uint16_t ports[SUMMARY_SERVICES_MAX];
};

/* Descriptors are nearly gone, or gone soon: a warning. */
enum { NEARLY_PERCENT = 90, SOON_MIN = 15 };

/* ---- the proxy and its backends ----------------------------------------------------------------------- */

static uint64_t files_of(pid_t pid)
{
    char path[32];
    uint64_t count = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    if (!folder)
        return 0;
    for (const struct dirent *entry; (entry = readdir(folder));)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

/* The soft limit; 0: not known. */
static uint64_t limit_of(pid_t pid)
{
    static const char label[] = "Max open files";
    char path[32], line[256];
    uint64_t limit = 0;
    snprintf(path, sizeof path, "/proc/%d/limits", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    while (limit == 0 && fgets(line, sizeof line, file))
        if (strncmp(line, label, strlen(label)) == 0)
            limit = strtoull(line + strlen(label), NULL, 10);
    fclose(file);
    return limit;
}

static void say_proxy(const struct plane *plane, struct log_ring *ring, uint64_t now_ms)
{
    uint64_t oldest_ms = UINT64_MAX;
    uint64_t accepted = 0, ended = 0, bad = 0, requests = 0, cleared = 0, uncleared = 0;
    const struct counters *counters;
    struct line line;
    for (unsigned w = 0; (counters = plane_counters(plane, w)); w++) {
        for (enum reason reason = 0; reason < REASON_COUNT; reason++) {
            uint64_t count = counter_read(&counters->ended[reason]);
            ended += count;
            bad += reason_weight(reason) == REASON_BAD ? count : 0;
        }
        uint64_t since_ms = counter_read(&counters->oldest_ms);
        if (since_ms != 0 && since_ms < oldest_ms)
            oldest_ms = since_ms;
        accepted += counter_read(&counters->accepted); /* after `ended`, which it is never below */
        requests += counter_read(&counters->requests);
        cleared += counter_read(&counters->cleared);
        uncleared += counter_read(&counters->uncleared);
    }
    line_begin(&line, log_format(ring), CONF_LOG_INFO, "summary");
    line_number(&line, "sessions", accepted);
    line_number(&line, "open", accepted - ended);
    if (oldest_ms != UINT64_MAX) /* the main loop's time is read anew once a turn only */
        line_number(&line, "oldest_s", now_ms > oldest_ms ? (now_ms - oldest_ms) / 1000 : 0);
    line_number(&line, "ended_badly", bad);
    line_number(&line, "requests", requests);
    line_number(&line, "cleared", cleared);
    line_number(&line, "uncleared", uncleared);
    line_number(&line, "sessions_max", plane_sessions_max(plane));
    line_number(&line, "descriptors", files_of(getpid()));
    line_number(&line, "limit", limit_of(getpid()));
    log_line(ring, line_end(&line));
}

static void say_backend(const struct plane *plane, struct log_ring *ring, const struct conf *conf, size_t b)
{
    uint64_t opened = 0, ended = 0, bad = 0, leaked = 0;
    const struct counters_backend *counters;
    struct line line;
    for (unsigned w = 0; (counters = plane_backend_counters(plane, w, b)); w++) {
        ended += counter_read(&counters->ended);
        bad += counter_read(&counters->bad);
        leaked += counter_read(&counters->leaked);
        opened += counter_read(&counters->opened);
    }
    line_begin(&line, log_format(ring), CONF_LOG_INFO, "backend");
    line_text(&line, "backend", conf->backends[b].name);
    line_number(&line, "sessions", opened);
    line_number(&line, "open", opened - ended);
    line_number(&line, "ended_badly", bad);
    line_number(&line, "leaked", leaked);
    log_line(ring, line_end(&line));
}

/* ---- services on this host ---------------------------------------------------------------------------- */

static bool matches(const struct service *service, const struct diag_row *row)
{
    const struct diag_endpoint *local = &row->id.local;
    if (local->port != service->address.port)
        return false;
    if (row->state == DIAG_LISTEN && diag_host_is_any(local->host))
        return !row->v6_only || !diag_host_is_v4(service->address.host);
    return memcmp(local->host, service->address.host, sizeof local->host) == 0;
}

static int on_row(void *context, const struct diag_row *row)
{
    struct summary *summary = context;
    for (size_t i = 0; i < summary->count; i++) {
        struct service *service = &summary->services[i];
        if (!matches(service, row))
            continue;
        if (row->state == DIAG_LISTEN)
            service->inode = row->inode;
        service->established += row->state == DIAG_ESTABLISHED;
        service->close_wait += row->state == DIAG_CLOSE_WAIT;
    }
    return 0;
}

static void forget_rows(void *context)
{
    struct summary *summary = context;
    for (size_t i = 0; i < summary->count; i++) {
        summary->services[i].established = summary->services[i].close_wait = 0;
        summary->services[i].inode = 0;
    }
}

static int look(struct summary *summary)
{
    struct netlink *netlink;
    const struct diag_filter filter = {.states = DIAG_STATE_BIT(DIAG_LISTEN) |
                                                 DIAG_STATE_BIT(DIAG_ESTABLISHED) |
                                                 DIAG_STATE_BIT(DIAG_CLOSE_WAIT),
                                       .side = DIAG_LOCAL,
                                       .ports = summary->ports,
                                       .port_count = summary->count};
    const struct netlink_sink sink = {.row = on_row, .restart = forget_rows, .context = summary};
    forget_rows(summary);
    int error = netlink_open(&netlink);
    if (error)
        return error;
    error = netlink_dump(netlink, &filter, &sink);
    netlink_close(netlink);
    return error;
}

/* Minutes until the limit is reached at the pace since the last look; UINT64_MAX: not by this. */
static uint64_t out_in_min(const struct service *before, pid_t pid, uint64_t files, uint64_t limit,
                           uint64_t now_ms)
{
    if (before->at_ms == 0 || before->pid != pid || files <= before->descriptors || limit <= files)
        return UINT64_MAX;
    return (limit - files) * (now_ms - before->at_ms) / (files - before->descriptors) / 60000;
}

/* What /proc says of the process that listens. Whether it is worth a warning. */
static bool put_process(struct line *line, struct service *service, const struct owner_process *process,
                        uint64_t now_ms)
{
    uint64_t files = files_of(process->pid), limit = limit_of(process->pid);
    uint64_t left_min = out_in_min(service, process->pid, files, limit, now_ms);
    line_text(line, "program", process->program);
    line_number(line, "pid", (uint64_t)process->pid);
    service->pid = process->pid;
    service->descriptors = files;
    service->at_ms = files > 0 ? now_ms : 0;
    if (files == 0 || limit == 0)
        return false;
    line_number(line, "descriptors", files);
    line_number(line, "limit", limit);
    if (left_min != UINT64_MAX)
        line_number(line, "out_in_min", left_min);
    return left_min < SOON_MIN || files * 100 / NEARLY_PERCENT >= limit;
}

static void say_service(struct service *service, const struct owners *owners, struct log_ring *ring,
                        uint64_t now_ms)
{
    const struct owner_holder *holder;
    struct line line;
    line_begin(&line, log_format(ring), CONF_LOG_INFO, "service");
    line_text(&line, "backend", service->backend->name);
    line_text(&line, "server", service->server->text);
    line_text(&line, "listens", service->inode ? "yes" : "no");
    line_number(&line, "established", service->established);
    line_number(&line, "close_wait", service->close_wait);
    if (service->inode && owners->processes && owners_of(owners, service->inode, &holder) > 0 &&
        put_process(&line, service, &owners->processes[holder->process], now_ms))
        line_text(&line, "short_of", "descriptors");
    log_line(ring, line_end(&line));
}

static void say_services(struct summary *summary, struct log_ring *ring, uint64_t now_ms)
{
    uint32_t inodes[SUMMARY_SERVICES_MAX];
    struct owners owners = {0};
    if (summary->count == 0 || look(summary))
        return;
    for (size_t i = 0; i < summary->count; i++)
        inodes[i] = summary->services[i].inode;
    int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (proc_fd >= 0) {
        (void)owners_find(&owners, proc_fd, inodes, summary->count); /* without it nobody is named */
        close(proc_fd);
    }
    for (size_t i = 0; i < summary->count; i++)
        say_service(&summary->services[i], &owners, ring, now_ms);
    owners_clear(&owners);
}

/* ---- the interface ------------------------------------------------------------------------------------ */

struct summary *summary_new(const struct conf *conf)
{
    struct summary *summary = calloc(1, sizeof *summary);
    if (!summary)
        return NULL;
    summary->conf = conf;
    for (size_t b = 0; b < conf->backend_count; b++)
        for (size_t s = 0; s < conf->backends[b].server_count; s++) {
            const struct conf_server *server = &conf->backends[b].servers[s];
            struct service service = {.backend = &conf->backends[b], .server = server};
            if (summary->count == SUMMARY_SERVICES_MAX || server->address.length == 0 ||
                !diag_endpoint_of(&server->address.address, &service.address) ||
                !listening_is_ours(&server->address.address))
                continue;
            summary->ports[summary->count] = service.address.port;
            summary->services[summary->count++] = service;
        }
    return summary;
}

void summary_say(struct summary *summary, const struct plane *plane, struct log_ring *ring, uint64_t now_ms)
{
    if (!summary || !log_wants(ring, CONF_LOG_INFO))
        return;
    say_proxy(plane, ring, now_ms);
    for (size_t b = 0; b < summary->conf->backend_count; b++)
        say_backend(plane, ring, summary->conf, b);
    say_services(summary, ring, now_ms);
    log_flush(ring);
}

void summary_free(struct summary *summary)
{
    free(summary);
}
