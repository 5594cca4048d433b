#include "reaper/kernel/survey.h"

#include "reaper/kernel/guard.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int survey_open(struct survey *survey, const uint16_t *ports, size_t port_count, unsigned state)
{
    *survey = (struct survey){.ports = ports, .port_count = port_count, .proc_fd = -1};
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

static bool has_port(const struct survey *survey, uint16_t port)
{
    for (size_t i = 0; i < survey->port_count; i++)
        if (survey->ports[i] == port)
            return true;
    return survey->port_count == 0;
}

/* The filter lets rows pass in which either port is wanted, for the sake of peers on this host; a leak itself
 * is wanted by its local port only. */
static int row_take(void *context, const struct diag_row *row)
{
    struct survey *survey = context;
    if (survey->stop && atomic_load_explicit(survey->stop, memory_order_relaxed))
        return -ECANCELED;
    if (row->state == survey->now.state && !has_port(survey, row->id.local.port))
        return 0;
    return triage_add(&survey->now, row);
}

static void dump_restart(void *context)
{
    triage_restart(&((struct survey *)context)->now);
}

/* All in one dump: for the kernel, walking its table once more costs more than the tcp_info of the rows that
 * explain the leaks. Asking for LISTEN costs nothing, that is another, smaller table. */
static int dump(struct survey *survey)
{
    uint32_t explain = survey->brief ? DIAG_STATE_BIT(DIAG_LISTEN) : triage_context_states(&survey->now);
    const struct diag_filter filter = {.states = triage_leak_states(&survey->now) | explain,
                                       .side = DIAG_EITHER,
                                       .ports = survey->ports,
                                       .port_count = survey->port_count,
                                       .want_info = true};
    const struct netlink_sink sink = {.row = row_take, .restart = dump_restart, .context = survey};
    triage_restart(&survey->now);
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

static bool held_by_program(const struct survey *survey, struct survey_held held)
{
    for (size_t i = 0; i < held.count; i++)
        if (strcmp(survey->owners.processes[held.first[i].process].program, survey->program) == 0)
            return true;
    return false;
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
    if (survey->program)
        keep_program(survey);
    return 0;
}

struct survey_held survey_holders(const struct survey *survey, const struct leak *leak)
{
    assert(leak >= survey->now.leaks && leak < survey->now.leaks + survey->now.leak_count);
    return survey->held ? survey->held[leak - survey->now.leaks] : (struct survey_held){0};
}

/* ---- sums ---- */

static struct survey_sum *sum_find(struct survey_sum *sums, size_t *count,
                                   const struct owner_process *process, uid_t uid)
{
    for (size_t i = 0; i < *count; i++)
        if (sums[i].process == process && (process || sums[i].uid == uid))
            return &sums[i];
    struct survey_sum *sum = &sums[(*count)++];
    *sum = (struct survey_sum){.process = process, .uid = process ? process->uid : uid};
    return sum;
}

static void sum_add(struct survey_sum *sum, enum triage_cause cause, uint64_t age_ms)
{
    sum->count++;
    sum->by_cause[cause]++;
    if (age_ms > sum->oldest_ms)
        sum->oldest_ms = age_ms;
}

static int sum_order(const void *a, const void *b)
{
    const struct survey_sum *left = a, *right = b;
    return (left->count < right->count) - (left->count > right->count);
}

/* Users whose processes can't be seen get rows of their own, up to so many; the last one takes the rest. */
enum { UNSEEN_USERS = 64 };

static void leak_sum(const struct survey *survey, const struct leak *leak, uint64_t age_ms,
                     struct survey_sum *sums, size_t *count)
{
    struct survey_held held = survey_holders(survey, leak);
    for (size_t i = 0; i < held.count; i++) /* sorted: a process with two descriptors of it counts once */
        if (i == 0 || held.first[i].process != held.first[i - 1].process)
            sum_add(sum_find(sums, count, &survey->owners.processes[held.first[i].process], 0), leak->cause,
                    age_ms);
    if (held.count > 0)
        return;
    bool full = *count == survey->owners.process_count + UNSEEN_USERS;
    sum_add(full ? &sums[*count - 1] : sum_find(sums, count, NULL, leak->row.uid), leak->cause, age_ms);
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

struct survey_sum *survey_sums(const struct survey *survey, const struct survey_service *service,
                               uint64_t older_than_ms, size_t *count)
{
    struct survey_sum *sums = calloc(survey->owners.process_count + UNSEEN_USERS, sizeof *sums);
    *count = 0;
    for (size_t i = 0; sums && i < survey->now.leak_count; i++) {
        const struct leak *leak = &survey->now.leaks[i];
        uint64_t age_ms = leak_age_ms(leak, survey->now_ms, NULL);
        if (age_ms >= older_than_ms && (!service || survey_service_has(*service, leak)))
            leak_sum(survey, leak, age_ms, sums, count);
    }
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
