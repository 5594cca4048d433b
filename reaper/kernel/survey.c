#include "reaper/kernel/survey.h"

#include "reaper/kernel/guard.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* #syscalls rest: openat close */

int survey_open(struct survey *survey, const struct survey_filter *filter, unsigned state)
{
    *survey = (struct survey){.filter = *filter, .proc_fd = -1};
    triage_init(&survey->now, state);
    triage_init(&survey->before, state);
    int error = netlink_open(&survey->netlink);
    if (error)
        return error;
    survey->proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return survey->proc_fd < 0 ? -errno : 0;
}

void survey_close(struct survey *survey)
{
    netlink_close(survey->netlink);
    if (survey->proc_fd >= 0)
        close(survey->proc_fd);
    triage_clear(&survey->now);
    triage_clear(&survey->before);
    owners_clear(&survey->owners);
    free(survey->held);
    *survey = (struct survey){.proc_fd = -1};
}

void survey_stop_on(struct survey *survey, const atomic_bool *stop)
{
    survey->stop = stop;
    netlink_stop_on(survey->netlink, stop);
}

/* ---- one look ---- */

static bool has_port(const uint16_t *ports, size_t count, uint16_t port)
{
    for (size_t i = 0; i < count; i++)
        if (ports[i] == port)
            return true;
    return count == 0;
}

static bool has_peer(const struct survey_filter *filter, const struct diag_endpoint *peer)
{
    for (size_t i = 0; i < filter->peer_count; i++)
        if (memcmp(filter->peers[i].host, peer->host, sizeof peer->host) == 0)
            return true;
    return filter->peer_count == 0;
}

bool survey_wants(const struct survey_filter *filter, const struct diag_id *id)
{
    return has_port(filter->ports, filter->port_count, id->local.port) &&
           has_port(filter->to, filter->to_count, id->remote.port) && has_peer(filter, &id->remote);
}

size_t survey_dump_ports(const struct survey_filter *filter)
{
    return filter->to_count ? 0 : filter->port_count;
}

/* More rows than are wanted pass the kernel's filter: those that explain the leaks. */
static int row_take(void *context, const struct diag_row *row)
{
    struct survey *survey = context;
    if (survey->stop && atomic_load_explicit(survey->stop, memory_order_relaxed))
        return -ECANCELED;
    if (row->state != survey->now.state || survey_wants(&survey->filter, &row->id))
        return triage_add(&survey->now, row);
    survey->going_there += survey->filter.port_count > 0 &&
                           has_port(survey->filter.ports, survey->filter.port_count, row->id.remote.port);
    return 0;
}

static void dump_restart(void *context)
{
    struct survey *survey = context;
    triage_restart(&survey->now);
    survey->going_there = 0;
}

/* All in one dump: for the kernel, walking its table once more costs more than the tcp_info of the rows that
 * explain the leaks. Asking for LISTEN costs nothing, that is another, smaller table. */
static int dump(struct survey *survey)
{
    uint32_t explain = survey->brief ? DIAG_STATE_BIT(DIAG_LISTEN) : triage_context_states(&survey->now);
    const struct diag_filter filter = {.states = triage_leak_states(&survey->now) | explain,
                                       .side = DIAG_EITHER,
                                       .ports = survey->filter.ports,
                                       .port_count = survey_dump_ports(&survey->filter),
                                       .want_info = true};
    const struct netlink_sink sink = {.row = row_take, .restart = dump_restart, .context = survey};
    dump_restart(survey);
    return netlink_dump(survey->netlink, &filter, &sink);
}

static void swap(struct survey *survey)
{
    const struct triage recycled = survey->before;
    survey->before = survey->now;
    survey->now = recycled;
}

int survey_look(struct survey *survey, uint64_t now_ms)
{
    free(survey->held);
    survey->held = NULL;
    swap(survey);
    int error = dump(survey);
    if (error) {
        swap(survey);
        return error;
    }
    survey->now_ms = now_ms;
    triage_finish(&survey->now, &survey->before, now_ms);
    return 0;
}

bool survey_port_exists(const struct survey *survey, uint16_t port)
{
    for (size_t i = 0; i < survey->now.listener_count; i++)
        if (survey->now.listeners[i].id.local.port == port)
            return true;
    for (size_t i = 0; i < survey->now.leak_count; i++)
        if (survey->now.leaks[i].row.id.local.port == port)
            return true;
    return false;
}

static int age_order(const void *a, const void *b, void *now_ms)
{
    const struct leak *left = *(const struct leak *const *)a, *right = *(const struct leak *const *)b;
    uint64_t left_ms = leak_age_ms(left, *(uint64_t *)now_ms, NULL);
    uint64_t right_ms = leak_age_ms(right, *(uint64_t *)now_ms, NULL);
    if (left_ms != right_ms)
        return left_ms < right_ms ? 1 : -1;
    return left->row.id.cookie < right->row.id.cookie ? -1 : 1;
}

const struct leak **survey_oldest_first(const struct survey *survey, uint64_t older_than_ms, size_t *count)
{
    *count = 0;
    const struct leak **leaks =
        calloc(survey->now.leak_count + 1, sizeof(struct leak *)); /* none is no failure */
    if (!leaks)
        return NULL;
    for (size_t i = 0; i < survey->now.leak_count; i++)
        if (leak_age_ms(&survey->now.leaks[i], survey->now_ms, NULL) >= older_than_ms)
            leaks[(*count)++] = &survey->now.leaks[i];
    uint64_t now_ms = survey->now_ms;
    qsort_r(leaks, *count, sizeof(struct leak *), age_order, &now_ms);
    return leaks;
}

/* ---- owners ---- */

uint32_t survey_inode(const struct survey *survey, const struct leak *leak)
{
    if (leak->row.inode || leak->cause != TRIAGE_NEVER_ACCEPTED)
        return leak->row.inode;
    const struct diag_row *listener = triage_listener(&survey->now, &leak->row);
    return listener ? listener->inode : 0;
}

static int find_holders(struct survey *survey)
{
    size_t count = 0;
    uint32_t *inodes = guard_inodes(&survey->now, &count);
    int error = inodes ? 0 : -ENOMEM;
    if (!error && count > 0)
        error = owners_find_until(&survey->owners, survey->proc_fd, inodes, count, survey->stop);
    free(inodes);
    return error ? error : guard_learn(&survey->now, &survey->owners);
}

static bool is_program(const struct survey *survey, const struct owner_process *process)
{
    const char *program = survey->filter.program;
    return survey->filter.program_is_part ? strstr(process->program, program) != NULL
                                          : strcmp(process->program, program) == 0;
}

static bool held_by_program(const struct survey *survey, struct survey_held held)
{
    for (size_t i = 0; i < held.count; i++)
        if (is_program(survey, &survey->owners.processes[held.first[i].process]))
            return true;
    return false;
}

/* Whether the part of a name is a part of one program's. 0, -ESRCH or -ENOTUNIQ. */
static int program_check(const struct survey *survey)
{
    const char *found = NULL;
    for (size_t i = 0; i < survey->owners.process_count; i++) {
        const struct owner_process *process = &survey->owners.processes[i];
        if (!is_program(survey, process))
            continue;
        if (found && strcmp(found, process->program) != 0)
            return -ENOTUNIQ;
        found = process->program;
    }
    return found ? 0 : -ESRCH;
}

static void keep_program(struct survey *survey)
{
    size_t kept = 0;
    for (size_t i = 0; i < survey->now.leak_count; i++) {
        if (!held_by_program(survey, survey->held[i]))
            continue;
        survey->now.leaks[kept] = survey->now.leaks[i];
        survey->held[kept++] = survey->held[i];
    }
    survey->now.leak_count = kept;
}

int survey_owners(struct survey *survey)
{
    size_t count = survey->now.leak_count;
    owners_clear(&survey->owners);
    free(survey->held);
    survey->held = NULL;
    int error = find_holders(survey);
    if (error)
        return error;
    survey->held = calloc(count + 1, sizeof *survey->held);
    if (!survey->held)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        uint32_t inode = survey_inode(survey, &survey->now.leaks[i]);
        if (inode)
            survey->held[i].count = owners_of(&survey->owners, inode, &survey->held[i].first);
    }
    if (!survey->filter.program)
        return 0;
    error = survey->filter.program_is_part ? program_check(survey) : 0;
    keep_program(survey);
    return error;
}

struct survey_held survey_holders(const struct survey *survey, const struct leak *leak)
{
    assert(leak >= survey->now.leaks && leak < survey->now.leaks + survey->now.leak_count);
    return survey->held ? survey->held[leak - survey->now.leaks] : (struct survey_held){0};
}

/* ---- sums ---- */

static int sum_order(const void *a, const void *b)
{
    const struct survey_sum *left = a, *right = b;
    return (left->count < right->count) - (left->count > right->count);
}

/* How many processes hold it: the holders are sorted by process. */
static size_t sharers_of(struct survey_held held)
{
    size_t count = 0;
    for (size_t i = 0; i < held.count; i++)
        count += i == 0 || held.first[i].process != held.first[i - 1].process;
    return count;
}

/* A sum of one socket. */
static struct survey_sum sum_of(const struct survey *survey, const struct leak *leak)
{
    struct survey_held held = survey_holders(survey, leak);
    const struct owner_process *process =
        held.count ? &survey->owners.processes[held.first[0].process] : NULL;
    struct survey_sum sum = {.service = survey_service_of(leak),
                             .process = process,
                             .sharers = sharers_of(held),
                             .uid = process ? process->uid : leak->row.uid,
                             .count = 1,
                             .oldest_ms = leak_age_ms(leak, survey->now_ms, NULL)};
    sum.by_cause[leak->cause] = 1;
    return sum;
}

static int owner_order(const void *a, const void *b)
{
    const struct survey_sum *left = a, *right = b;
    if (left->service.port != right->service.port)
        return left->service.port < right->service.port ? -1 : 1;
    if (left->service.client_side != right->service.client_side)
        return left->service.client_side ? 1 : -1;
    if (left->process != right->process)
        return (uintptr_t)left->process < (uintptr_t)right->process ? -1 : 1;
    if (left->sharers != right->sharers)
        return left->sharers < right->sharers ? -1 : 1;
    return left->uid < right->uid ? -1 : left->uid > right->uid;
}

static void sum_merge(struct survey_sum *into, const struct survey_sum *sum)
{
    into->count += sum->count;
    for (enum triage_cause cause = 0; cause < TRIAGE_CAUSE_COUNT; cause++)
        into->by_cause[cause] += sum->by_cause[cause];
    if (sum->oldest_ms > into->oldest_ms)
        into->oldest_ms = sum->oldest_ms;
}

struct survey_service survey_service_of(const struct leak *leak)
{
    const struct diag_id *id = &leak->row.id;
    return (struct survey_service){.port = leak->client_side ? id->remote.port : id->local.port,
                                   .client_side = leak->client_side};
}

bool survey_service_equal(struct survey_service a, struct survey_service b)
{
    return a.port == b.port && a.client_side == b.client_side;
}

bool survey_service_has(struct survey_service service, const struct leak *leak)
{
    return service.port == 0 || survey_service_equal(service, survey_service_of(leak));
}

/* Merges those of one owner and one service; returns how many are left. */
static size_t sums_merge(struct survey_sum *sums, size_t count)
{
    size_t kept = 0;
    if (count > 1)
        qsort(sums, count, sizeof *sums, owner_order);
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && owner_order(&sums[kept - 1], &sums[i]) == 0)
            sum_merge(&sums[kept - 1], &sums[i]);
        else
            sums[kept++] = sums[i];
    }
    return kept;
}

struct survey_sum *survey_sums(const struct survey *survey, const struct survey_service *service,
                               uint64_t older_than_ms, size_t *count)
{
    struct survey_sum *sums = calloc(survey->now.leak_count + 1, sizeof *sums);
    *count = 0;
    for (size_t i = 0; sums && i < survey->now.leak_count; i++) {
        const struct leak *leak = &survey->now.leaks[i];
        if (leak_age_ms(leak, survey->now_ms, NULL) >= older_than_ms &&
            (!service || survey_service_has(*service, leak)))
            sums[(*count)++] = sum_of(survey, leak);
    }
    if (*count > 0)
        *count = sums_merge(sums, *count);
    if (*count > 1)
        qsort(sums, *count, sizeof *sums, sum_order);
    return sums;
}

size_t survey_unseen(const struct survey *survey, uint64_t older_than_ms)
{
    size_t unseen = 0;
    for (size_t i = 0; i < survey->now.leak_count; i++) {
        const struct leak *leak = &survey->now.leaks[i];
        unseen += leak_age_ms(leak, survey->now_ms, NULL) >= older_than_ms &&
                  survey_holders(survey, leak).count == 0;
    }
    return unseen;
}
