#include "reaper/kernel/evidence.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* #syscalls rest: openat read getdents64 close */

/* ---- what the kernel counts ---- */

/* The value under `name` in /proc/net/snmp or netstat: a line of names and one of values, both after
 * `prefix`. */
static uint64_t counter_find(const char *text, const char *prefix, const char *name)
{
    const char *names = strstr(text, prefix), *values = names ? strstr(names + 1, prefix) : NULL;
    while (values && *names != '\n') {
        size_t length = strcspn(names, " \n");
        if (length == strlen(name) && memcmp(names, name, length) == 0)
            return strtoull(values, NULL, 10);
        names += length + strspn(names + length, " ");
        values += strcspn(values, " \n");
        values += strspn(values, " ");
    }
    return 0;
}

void evidence_read(const struct survey *survey, const char *path, char *text, size_t size)
{
    text[0] = '\0';
    int fd = openat(survey->proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t length = read(fd, text, size - 1);
    close(fd);
    text[length > 0 ? length : 0] = '\0';
}

static int established_row(void *context, const struct diag_row *row)
{
    struct evidence_sample *sample = context;
    sample->by_local[row->id.local.port]++;
    sample->by_remote[row->id.remote.port]++;
    sample->established_all++;
    return 0;
}

static void established_restart(void *context)
{
    struct evidence_sample *sample = context;
    memset(sample->by_local, 0, sizeof sample->by_local);
    memset(sample->by_remote, 0, sizeof sample->by_remote);
    sample->established_all = 0;
}

static int established_count(struct survey *survey, struct evidence_sample *sample)
{
    const struct diag_filter filter = {.states = DIAG_STATE_BIT(DIAG_ESTABLISHED),
                                       .side = DIAG_EITHER,
                                       .ports = survey->filter.ports,
                                       .port_count = survey_dump_ports(&survey->filter)};
    const struct netlink_sink sink = {
        .row = established_row, .restart = established_restart, .context = sample};
    established_restart(sample);
    return netlink_dump(survey->netlink, &filter, &sink);
}

int evidence_sample(struct survey *survey, uint64_t now_ms, struct evidence_sample *sample)
{
    char text[16384];
    int error = survey_look(survey, now_ms);
    if (error)
        return error;
    evidence_read(survey, "self/net/snmp", text, sizeof text);
    sample->accepted = counter_find(text, "Tcp: ", "PassiveOpens");
    evidence_read(survey, "self/net/netstat", text, sizeof text);
    sample->overflows = counter_find(text, "TcpExt: ", "ListenOverflows");
    sample->at_ms = now_ms;
    return established_count(survey, sample);
}

static size_t established_of(const struct evidence_sample *sample, struct survey_service service)
{
    if (service.port == 0)
        return sample->established_all;
    return service.client_side ? sample->by_remote[service.port] : sample->by_local[service.port];
}

/* ---- one service's rows ---- */

static bool is_symptom(const struct leak *leak, uint64_t now_ms, struct survey_service service)
{
    return survey_service_has(service, leak) && leak_age_ms(leak, now_ms, NULL) >= EVIDENCE_SYMPTOM_MS;
}

static void gather_rows(const struct survey *survey, struct survey_service service, struct evidence *evidence)
{
    enum { KEEPALIVE_TIMER = 2 };
    for (size_t i = 0; i < survey->now.leak_count; i++) {
        const struct leak *leak = &survey->now.leaks[i];
        if (!is_symptom(leak, survey->now_ms, service))
            continue;
        uint64_t age_ms = leak_age_ms(leak, survey->now_ms, NULL);
        evidence->close_wait++;
        evidence->by_cause[leak->cause]++;
        evidence->zero_bytes += leak->row.info.received_bytes <= 1; /* the FIN counts one */
        evidence->with_keepalive += leak->row.timer == KEEPALIVE_TIMER;
        evidence->peers_closed_here += leak->peer == TRIAGE_PEER_CLOSED;
        if (age_ms > evidence->oldest_ms)
            evidence->oldest_ms = age_ms;
    }
}

/* What the first look showed, and which of those in the accept queue have left it since. */
static void gather_before(const struct survey *survey, struct survey_service service, uint64_t before_ms,
                          struct evidence *evidence)
{
    for (size_t i = 0; i < survey->before.leak_count; i++) {
        const struct leak *leak = &survey->before.leaks[i];
        evidence->close_wait_before += is_symptom(leak, before_ms, service);
        if (!survey_service_has(service, leak) || leak->cause != TRIAGE_NEVER_ACCEPTED)
            continue;
        const struct leak *now = triage_find(&survey->now, leak->row.id.cookie);
        evidence->queue_left += !now || now->cause != TRIAGE_NEVER_ACCEPTED;
    }
}

static bool fuller(const struct diag_row *row, uint32_t used, uint32_t size)
{
    return (uint64_t)row->rqueue_bytes * size >= (uint64_t)used * row->wqueue_bytes;
}

/* The fullest accept queue of the port; size 0: nobody listens on it. */
static void backlog_of(const struct triage *triage, struct survey_service service, uint32_t *used,
                       uint32_t *size)
{
    for (size_t i = 0; i < triage->listener_count && !service.client_side; i++) {
        const struct diag_row *row = &triage->listeners[i];
        if (row->id.local.port != service.port || !fuller(row, *used, *size))
            continue;
        *used = row->rqueue_bytes;
        *size = row->wqueue_bytes;
    }
}

/* ---- its process ---- */

/* How many descriptors a process has; 0 when that is not told. */
static uint64_t files_open(const struct survey *survey, pid_t pid)
{
    char path[48];
    snprintf(path, sizeof path, "%d/fd", pid);
    int fd = openat(survey->proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    uint64_t count = 0;
    if (!directory) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    for (const struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

static void gather_files(const struct survey *survey, struct evidence *evidence)
{
    char path[48], text[4096];
    snprintf(path, sizeof path, "%d/limits", evidence->owner->pid);
    evidence_read(survey, path, text, sizeof text);
    const char *line = strstr(text, "Max open files");
    if (line)
        evidence->owner_files_limit = strtoull(line + strlen("Max open files"), NULL, 10);
    evidence->owner_files = files_open(survey, evidence->owner->pid);
}

static void gather_owner(const struct survey *survey, struct survey_service service,
                         struct evidence *evidence)
{
    size_t count = 0;
    struct survey_sum *sums = survey_sums(survey, &service, EVIDENCE_SYMPTOM_MS, &count);
    for (size_t i = 0; i < count && !evidence->owner; i++) {
        if (!sums[i].process)
            continue;
        evidence->owner = sums[i].process;
        evidence->owner_count = sums[i].count - sums[i].by_cause[TRIAGE_NEVER_ACCEPTED];
        memcpy(evidence->owner_by_cause, sums[i].by_cause, sizeof sums[i].by_cause);
    }
    free(sums);
    if (evidence->owner)
        gather_files(survey, evidence);
}

/* ---- its clients ---- */

/* A network that one customer usually has: /24 of IPv4, /64 of IPv6. */
static void network_of(const struct diag_endpoint *peer, uint8_t network[16])
{
    memcpy(network, peer->host, 16);
    memset(network + (diag_host_is_v4(peer->host) ? 15 : 8), 0, diag_host_is_v4(peer->host) ? 1 : 8);
}

static int network_order(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

/* The network that most of them are in, and sets how many; NULL when there is none. `networks` is sorted. */
static const uint8_t *network_most(uint8_t (*networks)[16], size_t count, size_t *most)
{
    const uint8_t *found = NULL;
    size_t run = 0;
    qsort(networks, count, sizeof *networks, network_order);
    for (size_t i = 0; i < count; i++) {
        run = i > 0 && memcmp(networks[i], networks[i - 1], 16) == 0 ? run + 1 : 1;
        if (run > *most) {
            *most = run;
            found = networks[i];
        }
    }
    return found;
}

static void gather_network(const struct survey *survey, struct survey_service service,
                           struct evidence *evidence)
{
    static const uint8_t loopback_v4[13] = {[10] = 0xff, 0xff, 127}, loopback_v6[16];
    size_t count = 0;
    uint8_t(*networks)[16] = calloc(evidence->close_wait + 1, sizeof *networks);
    if (!networks)
        return;
    for (size_t i = 0; i < survey->now.leak_count; i++)
        if (is_symptom(&survey->now.leaks[i], survey->now_ms, service))
            network_of(&survey->now.leaks[i].row.id.remote, networks[count++]);
    const uint8_t *most = network_most(networks, count, &evidence->network_count);
    if (most) {
        char text[DIAG_HOST_TEXT];
        evidence->network_is_loopback =
            memcmp(most, loopback_v4, 13) == 0 || memcmp(most, loopback_v6, 16) == 0;
        snprintf(evidence->network, sizeof evidence->network, "%s/%d", diag_host_text(most, text),
                 diag_host_is_v4(most) ? 24 : 64);
    }
    free(networks);
}

/* ---- which services ---- */

/* From where on an accept queue is as good as full. */
enum { QUEUE_FULL_PERCENT = 80 };

bool evidence_queue_full(uint32_t used, uint32_t size)
{
    return size > 0 && (uint64_t)used * 100 >= (uint64_t)size * QUEUE_FULL_PERCENT;
}

static int service_add(struct evidence_set *set, struct survey_service service)
{
    for (size_t i = 0; i < set->count; i++)
        if (survey_service_equal(set->services[i].service, service))
            return 0;
    if (set->count == set->room) {
        size_t room = set->room ? set->room * 2 : 16;
        struct evidence_service *larger = reallocarray(set->services, room, sizeof *larger);
        if (!larger)
            return -ENOMEM;
        set->services = larger;
        set->room = room;
    }
    set->services[set->count++] = (struct evidence_service){.service = service};
    return 0;
}

/* Those that were asked for; those with symptoms; and those whose accept queue is full. */
static int services_find(const struct survey *survey, struct evidence_set *set)
{
    int error = 0;
    for (size_t i = 0; !error && i < survey->filter.port_count; i++)
        error = service_add(set, (struct survey_service){.port = survey->filter.ports[i]});
    for (size_t i = 0; !error && i < survey->filter.to_count; i++)
        error = service_add(set, (struct survey_service){.port = survey->filter.to[i], .client_side = true});
    for (size_t i = 0; !error && i < survey->now.leak_count; i++)
        if (leak_age_ms(&survey->now.leaks[i], survey->now_ms, NULL) >= EVIDENCE_SYMPTOM_MS)
            error = service_add(set, survey_service_of(&survey->now.leaks[i]));
    for (size_t i = 0; !error && i < survey->now.listener_count; i++) {
        const struct diag_row *row = &survey->now.listeners[i];
        if (evidence_queue_full(row->rqueue_bytes, row->wqueue_bytes))
            error = service_add(set, (struct survey_service){.port = row->id.local.port});
    }
    if (!error && set->count == 0)
        error = service_add(set, (struct survey_service){.port = 0});
    return error;
}

static void gather_service(const struct survey *survey, const struct evidence_sample *before,
                           const struct evidence_sample *after, struct evidence_service *found)
{
    struct survey_service service = found->service;
    struct evidence *evidence = &found->evidence;
    double seconds = (double)(after->at_ms - before->at_ms) / 1000;
    *evidence = (struct evidence){
        .seconds = seconds,
        .accepted_per_s = seconds > 0 ? (double)(after->accepted - before->accepted) / seconds : 0,
        .overflows = after->overflows - before->overflows,
        .established = established_of(after, service),
        .established_before = established_of(before, service),
        .port = service.port,
        .client_side = service.client_side,
    };
    uint32_t size_before = 0;
    backlog_of(&survey->before, service, &evidence->backlog_used_before, &size_before);
    backlog_of(&survey->now, service, &evidence->backlog_used, &evidence->backlog_size);
    gather_before(survey, service, before->at_ms, evidence);
    gather_rows(survey, service, evidence);
    gather_owner(survey, service, evidence);
    gather_network(survey, service, evidence);
}

int evidence_gather(struct survey *survey, const struct evidence_sample *before,
                    const struct evidence_sample *after, struct evidence_set *set)
{
    *set = (struct evidence_set){0};
    int error = survey_owners(survey);
    if (!error)
        error = services_find(survey, set);
    for (size_t i = 0; !error && i < set->count; i++)
        gather_service(survey, before, after, &set->services[i]);
    return error;
}

void evidence_clear(struct evidence_set *set)
{
    free(set->services);
    *set = (struct evidence_set){0};
}
