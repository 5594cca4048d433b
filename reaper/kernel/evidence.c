#include "reaper/kernel/evidence.h"

#include "reaper/array.h"

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

/* Keeps what tells later whether its program has done anything with it. */
static void flow_keep(struct evidence_sample *sample, const struct diag_row *row)
{
    if (!sample->wanted[row->id.local.port])
        return;
    struct evidence_flow *larger =
        sample->flow_count == EVIDENCE_FLOWS
            ? NULL
            : array_grow(sample->flows, sample->flow_count, &sample->flow_room, sizeof *larger);
    if (!larger) {
        sample->flows_incomplete = true;
        return;
    }
    sample->flows = larger;
    larger[sample->flow_count++] = (struct evidence_flow){
        .cookie = row->id.cookie,
        .done_bytes = row->info.sent_bytes + row->info.received_bytes - row->rqueue_bytes,
        .port = row->id.local.port,
        .taken = row->inode != 0,
    };
}

static int established_row(void *context, const struct diag_row *row)
{
    struct evidence_sample *sample = context;
    flow_keep(sample, row);
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
    sample->flow_count = 0;
}

static int flow_order(const void *a, const void *b)
{
    const struct evidence_flow *left = a, *right = b;
    return left->cookie < right->cookie ? -1 : left->cookie > right->cookie;
}

static int established_count(struct survey *survey, struct evidence_sample *sample)
{
    const struct diag_filter filter = {.states = DIAG_STATE_BIT(DIAG_ESTABLISHED),
                                       .side = DIAG_EITHER,
                                       .ports = survey->filter.ports,
                                       .port_count = survey_dump_ports(&survey->filter),
                                       .want_info = true};
    const struct netlink_sink sink = {
        .row = established_row, .restart = established_restart, .context = sample};
    established_restart(sample);
    for (size_t i = 0; i < survey->now.leak_count; i++)
        sample->wanted[survey->now.leaks[i].row.id.local.port] = true;
    for (size_t i = 0; i < survey->filter.port_count; i++)
        sample->wanted[survey->filter.ports[i]] = true;
    int error = netlink_dump(survey->netlink, &filter, &sink);
    if (!error && sample->flow_count > 1)
        qsort(sample->flows, sample->flow_count, sizeof *sample->flows, flow_order);
    return error;
}

/* How many descriptors those have who hold or listen. */
static int files_count(struct survey *survey, struct evidence_sample *sample)
{
    int error = survey_owners(survey);
    if (error)
        return error;
    sample->files = calloc(survey->owners.process_count + 1, sizeof *sample->files);
    if (!sample->files)
        return -ENOMEM;
    for (size_t i = 0; i < survey->owners.process_count; i++) {
        pid_t pid = survey->owners.processes[i].pid;
        sample->files[sample->files_count++] =
            (struct files_process){.pid = pid, .open = files_open(survey->proc_fd, pid)};
    }
    return 0;
}

void evidence_sample_clear(struct evidence_sample *sample)
{
    free(sample->flows);
    free(sample->files);
    sample->flows = NULL;
    sample->files = NULL;
    sample->flow_count = sample->files_count = 0;
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
    error = established_count(survey, sample);
    return error ? error : files_count(survey, sample);
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

static void gather_waiter(const struct survey *survey, const struct leak *leak, struct evidence *evidence)
{
    const struct owner_holder *holder;
    if (!evidence->waiter && leak->peer_inode && owners_of(&survey->owners, leak->peer_inode, &holder) > 0)
        evidence->waiter = &survey->owners.processes[holder->process];
}

/* Keeps the pid, once, while there is room. */
static void pid_add(pid_t pids[EVIDENCE_PIDS], size_t *count, pid_t pid)
{
    for (size_t i = 0; i < *count && i < EVIDENCE_PIDS; i++)
        if (pids[i] == pid)
            return;
    if (*count < EVIDENCE_PIDS)
        pids[(*count)++] = pid;
}

/* PostgreSQL writes "postgres: user database host(port) SELECT" over its arguments while a backend works,
 * and "idle" while it waits for its client (postgresql.org, "Standard Unix Tools"). */
static bool is_querying(const struct owner_process *process)
{
    static const char title[] = "postgres: ";
    const char *address = strrchr(process->command, ')');
    return strncmp(process->command, title, sizeof title - 1) == 0 && address && address[1] == ' ' &&
           !strstr(address, "idle");
}

/* Which of its holders are stopped, or at a query. */
static void gather_holders(const struct survey *survey, const struct leak *leak, struct evidence *evidence)
{
    struct survey_held held = survey_holders(survey, leak);
    bool stopped = false, querying = false;
    for (size_t i = 0; i < held.count; i++) {
        const struct owner_process *process = &survey->owners.processes[held.first[i].process];
        bool halted = process->state == 'T' || process->state == 't';
        if (halted)
            pid_add(evidence->stopped, &evidence->stopped_count, process->pid);
        else if (is_querying(process))
            pid_add(evidence->querying, &evidence->querying_count, process->pid);
        stopped = stopped || halted;
        querying = querying || (!halted && is_querying(process));
    }
    evidence->stopped_sockets += stopped;
    evidence->query_sockets += querying;
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
        evidence->waiting[leak->cause] += leak->peer == TRIAGE_PEER_HALF_CLOSED;
        evidence->far += leak->peer == TRIAGE_PEER_REMOTE;
        evidence->came += !triage_find(&survey->before, leak->row.id.cookie);
        gather_waiter(survey, leak, evidence);
        gather_holders(survey, leak, evidence);
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
        evidence->went +=
            is_symptom(leak, before_ms, service) && !triage_find(&survey->now, leak->row.id.cookie);
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

static const struct evidence_flow *flow_find(const struct evidence_sample *sample, uint64_t cookie)
{
    const struct evidence_flow key = {.cookie = cookie};
    if (sample->flow_count == 0)
        return NULL;
    return bsearch(&key, sample->flows, sample->flow_count, sizeof key, flow_order);
}

/* What the program did with others meanwhile. */
static void gather_flows(struct survey_service service, const struct evidence_sample *before,
                         const struct evidence_sample *after, struct evidence *evidence)
{
    if (service.client_side || service.port == 0 || !before->wanted[service.port] ||
        before->flows_incomplete || after->flows_incomplete)
        return;
    evidence->others_known = true;
    for (size_t i = 0; i < after->flow_count; i++) {
        const struct evidence_flow *now = &after->flows[i], *then = flow_find(before, now->cookie);
        if (now->port != service.port || !now->taken)
            continue;
        evidence->accepted += !then || !then->taken;
        evidence->moved += then && then->taken && then->done_bytes != now->done_bytes;
    }
}

static bool listens(const struct survey *survey, uint16_t port, const struct owner_process *process)
{
    for (size_t i = 0; i < survey->now.listener_count; i++) {
        const struct owner_holder *holder;
        if (survey->now.listeners[i].id.local.port != port)
            continue;
        size_t count = owners_of(&survey->owners, survey->now.listeners[i].inode, &holder);
        for (size_t k = 0; k < count; k++)
            if (&survey->owners.processes[holder[k].process] == process)
                return true;
    }
    return false;
}

/* From where on descriptors are nearly gone, and how many dead ones are worth a word. */
enum { FILES_SHORT_PERCENT = 90, FILES_DEAD = 10 };

bool evidence_files_short(uint64_t open, uint64_t limit)
{
    return limit > 0 && limit != UINT64_MAX && open * 100 >= limit * FILES_SHORT_PERCENT;
}

static bool files_ail(const struct files_process *files)
{
    return files->dead >= FILES_DEAD || evidence_files_short(files->open, files->soft);
}

/* Nobody leaks sockets: who listens, and of several the one that has most dead descriptors. */
static void owner_by_listening(const struct survey *survey, const struct files *files,
                               struct survey_service service, struct evidence *evidence)
{
    size_t most = 0;
    for (size_t i = 0; i < survey->owners.process_count && !service.client_side; i++) {
        size_t ails = files->processes[i].dead + files_ail(&files->processes[i]) + 1;
        if (ails <= most || !listens(survey, service.port, &survey->owners.processes[i]))
            continue;
        most = ails;
        evidence->owner = &survey->owners.processes[i];
    }
}

static void gather_files(const struct survey *survey, const struct files *files,
                         const struct evidence_sample *before, struct evidence *evidence)
{
    const struct files_process *own = &files->processes[evidence->owner - survey->owners.processes];
    evidence->owner_files = own->open;
    evidence->owner_files_limit = own->soft == UINT64_MAX ? 0 : own->soft;
    evidence->owner_files_hard = own->hard;
    evidence->owner_dead = own->dead;
    for (size_t i = 0; i < before->files_count; i++)
        if (before->files[i].pid == own->pid)
            evidence->owner_files_before = before->files[i].open;
}

/* Who listens on a port of this host; pid 0 when that is not seen. */
static void upstream_owner(const struct survey *survey, const struct files *files, struct evidence *evidence)
{
    uint32_t inode = files->listeners[evidence->upstream.port];
    struct owners owners;
    const struct owner_holder *holder;
    if (!evidence->upstream_here || owners_find_until(&owners, survey->proc_fd, &inode, 1, survey->stop))
        return;
    if (owners_of(&owners, inode, &holder) > 0)
        evidence->upstream_owner = owners.processes[holder->process];
    owners_clear(&owners);
}

/* Where the owner itself waits for an answer. Of several services the one that it waits for longest. */
static void gather_upstream(const struct survey *survey, const struct files *files, struct evidence *evidence)
{
    uint32_t index = (uint32_t)(evidence->owner - survey->owners.processes);
    for (size_t i = 0; i < files->socket_count; i++) {
        const struct files_socket *socket = &files->sockets[i];
        if (socket->process != index || !socket->asks || socket->waited_ms <= evidence->upstream_waited_ms)
            continue;
        evidence->upstream_waited_ms = socket->waited_ms;
        evidence->upstream = socket->remote;
        evidence->upstream_here =
            memcmp(socket->local.host, socket->remote.host, sizeof socket->local.host) == 0 &&
            files->listeners[socket->remote.port];
    }
    for (size_t i = 0; i < files->socket_count && evidence->upstream_waited_ms; i++)
        evidence->upstream_count += files->sockets[i].process == index && files->sockets[i].asks &&
                                    diag_endpoint_equal(&files->sockets[i].remote, &evidence->upstream);
    if (evidence->upstream_count)
        upstream_owner(survey, files, evidence);
}

static void gather_owner(const struct survey *survey, const struct files *files,
                         const struct evidence_sample *before, struct survey_service service,
                         struct evidence *evidence)
{
    size_t count = 0;
    struct survey_sum *sums = survey_sums(survey, &service, EVIDENCE_SYMPTOM_MS, &count);
    for (size_t i = 0; i < count; i++) {
        if (!evidence->owner)
            evidence->owner = sums[i].process;
        if (!sums[i].process || sums[i].process != evidence->owner)
            continue;
        evidence->owner_count += sums[i].count - sums[i].by_cause[TRIAGE_NEVER_ACCEPTED];
        for (enum triage_cause cause = 0; cause < TRIAGE_CAUSE_COUNT; cause++)
            evidence->owner_by_cause[cause] += sums[i].by_cause[cause];
    }
    free(sums);
    if (!evidence->owner)
        owner_by_listening(survey, files, service, evidence);
    if (!evidence->owner)
        return;
    evidence->owner_runtime = runtime_of(survey->proc_fd, evidence->owner);
    gather_files(survey, files, before, evidence);
    gather_upstream(survey, files, evidence);
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

/* One port of each process that listens and whose descriptors are dead or nearly gone. */
static int services_find_by_files(const struct survey *survey, const struct files *files,
                                  struct evidence_set *set)
{
    int error = 0;
    for (size_t i = 0; !error && i < files->process_count; i++) {
        bool found = !files_ail(&files->processes[i]);
        for (size_t k = 0; !error && !found && k < survey->now.listener_count; k++) {
            uint16_t port = survey->now.listeners[k].id.local.port;
            found = listens(survey, port, &survey->owners.processes[i]);
            if (found)
                error = service_add(set, (struct survey_service){.port = port});
        }
    }
    return error;
}

/* Those that were asked for; those with symptoms; those whose accept queue is full; and those who run out of
 * descriptors. */
static int services_find(const struct survey *survey, const struct files *files, struct evidence_set *set)
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
    if (!error && !survey->filter.to_count)
        error = services_find_by_files(survey, files, set);
    if (!error && set->count == 0)
        error = service_add(set, (struct survey_service){.port = 0});
    return error;
}

static void gather_service(const struct survey *survey, const struct files *files,
                           const struct evidence_sample *before, const struct evidence_sample *after,
                           struct evidence_service *found)
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
    gather_flows(service, before, after, evidence);
    gather_owner(survey, files, before, service, evidence);
    gather_network(survey, service, evidence);
}

int evidence_gather(struct survey *survey, const struct evidence_sample *before,
                    const struct evidence_sample *after, struct evidence_set *set)
{
    struct files files = {0};
    *set = (struct evidence_set){0};
    size_t count = survey->owners.process_count;
    pid_t *pids = calloc(count + 1, sizeof *pids);
    int error = pids ? 0 : -ENOMEM;
    for (size_t i = 0; pids && i < count; i++)
        pids[i] = survey->owners.processes[i].pid;
    if (!error)
        error = files_read(&files, survey->proc_fd, survey->netlink, pids, count);
    if (!error)
        error = services_find(survey, &files, set);
    for (size_t i = 0; !error && i < set->count; i++)
        gather_service(survey, &files, before, after, &set->services[i]);
    files_clear(&files);
    free(pids);
    return error;
}

void evidence_clear(struct evidence_set *set)
{
    free(set->services);
    *set = (struct evidence_set){0};
}
