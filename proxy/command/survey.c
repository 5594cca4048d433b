#include "proxy/command/survey.h"

#include "reaper/error.h"
#include "reaper/kernel/look.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void survey_sleep_ms(uint64_t ms)
{
    struct timespec rest = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&rest, &rest) < 0 && errno == EINTR)
        ;
}

static int failed(const struct survey *survey, const char *what, int error)
{
    fprintf(stderr, "%s: %s: %s (%s)\n", survey->command, what, error_text(error), error_name(error));
    return error;
}

int survey_open(struct survey *survey, const char *command, const struct argument_ports *ports,
                unsigned state)
{
    *survey = (struct survey){.command = command, .ports = ports, .proc_fd = -1};
    triage_init(&survey->now, state);
    triage_init(&survey->before, state);
    int error = netlink_open(&survey->netlink);
    if (error == -EPROTONOSUPPORT)
        return failed(
            survey, "this kernel has no sock_diag (CONFIG_INET_DIAG), so its sockets can't be listed", error);
    if (error)
        return failed(survey, "can't open a netlink socket", error);
    survey->proc_fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (survey->proc_fd < 0) {
        error = failed(survey, "can't open /proc, so owners can't be found", -errno);
        survey_close(survey);
    }
    return error;
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
}

int survey_dump(struct survey *survey)
{
    const struct triage recycled = survey->before;
    survey->before = survey->now;
    survey->now = recycled;
    free(survey->held);
    survey->held = NULL;
    int error =
        look(survey->netlink, &survey->now, survey->ports->port, survey->ports->count, !survey->brief);
    if (error == -ENOENT)
        return failed(survey, "this kernel can't list TCP sockets (CONFIG_INET_TCP_DIAG)", error);
    if (error)
        return failed(survey, "can't list the kernel's sockets", error);
    survey->now_ms = clock_ms();
    triage_finish(&survey->now, &survey->before, survey->now_ms);
    return 0;
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
    if (survey->now.leak_count == 0)
        return NULL;
    const struct leak **leaks = calloc(survey->now.leak_count, sizeof(struct leak *));
    if (!leaks) {
        failed(survey, "can't sort the sockets", -ENOMEM);
        return NULL;
    }
    for (size_t i = 0; i < survey->now.leak_count; i++)
        if (leak_age_ms(&survey->now.leaks[i], survey->now_ms, NULL) >= older_than_ms)
            leaks[(*count)++] = &survey->now.leaks[i];
    uint64_t now_ms = survey->now_ms;
    qsort_r(leaks, *count, sizeof(struct leak *), age_order, &now_ms);
    return leaks;
}

static bool port_exists(const struct survey *survey, uint16_t port)
{
    for (size_t i = 0; i < survey->now.listener_count; i++)
        if (survey->now.listeners[i].id.local.port == port)
            return true;
    for (size_t i = 0; i < survey->now.leak_count; i++)
        if (survey->now.leaks[i].row.id.local.port == port)
            return true;
    return false;
}

bool survey_ports_exist(const struct survey *survey)
{
    bool all = true;
    for (size_t i = 0; i < survey->ports->count; i++) {
        if (port_exists(survey, survey->ports->port[i]))
            continue;
        fprintf(stderr,
                "%s: nothing in this network namespace listens on port %u, and no socket in %s has it\n",
                survey->command, survey->ports->port[i], diag_state_name(survey->now.state));
        all = false;
    }
    return all;
}

/* ---- owners ---- */

static bool host_is_any(const uint8_t host[16])
{
    static const uint8_t v4[16] = {[10] = 0xff, 0xff}, v6[16];
    return memcmp(host, v4, sizeof v4) == 0 || memcmp(host, v6, sizeof v6) == 0;
}

/* In whose accept queue the socket waits: a listener on just its address wins over one on any. */
static uint32_t listener_inode(const struct survey *survey, const struct diag_endpoint *local)
{
    uint32_t any = 0;
    for (size_t i = 0; i < survey->now.listener_count; i++) {
        const struct diag_row *row = &survey->now.listeners[i];
        if (diag_endpoint_equal(&row->id.local, local))
            return row->inode;
        if (row->id.local.port == local->port && host_is_any(row->id.local.host))
            any = row->inode;
    }
    return any;
}

uint32_t survey_inode(const struct survey *survey, const struct leak *leak)
{
    if (leak->row.inode || leak->cause != TRIAGE_NEVER_ACCEPTED)
        return leak->row.inode;
    return listener_inode(survey, &leak->row.id.local);
}

int survey_owners(struct survey *survey)
{
    size_t count = survey->now.leak_count;
    uint32_t *inodes = calloc(count + 1, sizeof *inodes);
    int error = inodes ? 0 : -ENOMEM;
    for (size_t i = 0; !error && i < count; i++)
        inodes[i] = survey_inode(survey, &survey->now.leaks[i]);
    owners_clear(&survey->owners);
    if (!error && count)
        error = owners_find(&survey->owners, survey->proc_fd, inodes, count);
    free(survey->held);
    survey->held = error ? NULL : calloc(count + 1, sizeof *survey->held);
    if (!error && !survey->held)
        error = -ENOMEM;
    for (size_t i = 0; !error && i < count; i++)
        if (inodes[i])
            survey->held[i].count = owners_of(&survey->owners, inodes[i], &survey->held[i].first);
    free(inodes);
    return error ? failed(survey, "can't find out who holds the sockets", error) : 0;
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

void survey_print_unseen(const struct survey *survey, uint64_t older_than_ms, FILE *out)
{
    size_t unseen = survey_unseen(survey, older_than_ms);
    if (unseen == 0)
        return;
    fprintf(out, "%zu of them belong to no process that this user may look into", unseen);
    if (survey->owners.denied_count)
        fprintf(out, " (%zu processes refused)", survey->owners.denied_count);
    fprintf(
        out,
        ".\nRun it as root or with CAP_SYS_PTRACE, and where the process is visible: /proc without hidepid,"
        " its own or the host's pid namespace.\n");
}

/* ---- text and JSON ---- */

const char *survey_age_text(uint64_t ms, char text[SURVEY_AGE_TEXT])
{
    static const struct {
        uint64_t s;
        char unit, below;
        unsigned below_s;
    } units[] = {{86400, 'd', 'h', 3600}, {3600, 'h', 'm', 60}, {60, 'm', 's', 1}};

    uint64_t s = ms / 1000;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (s < units[i].s)
            continue;
        snprintf(text, SURVEY_AGE_TEXT, "%ju%c%02u%c", (uintmax_t)(s / units[i].s), units[i].unit,
                 (unsigned)(s % units[i].s / units[i].below_s), units[i].below);
        return text;
    }
    snprintf(text, SURVEY_AGE_TEXT, ms < 1000 ? "%jums" : "%jus", (uintmax_t)(ms < 1000 ? ms : s));
    return text;
}

const char *survey_leak_age_text(const struct survey *survey, const struct leak *leak,
                                 char text[SURVEY_AGE_TEXT])
{
    bool exact;
    char age[SURVEY_AGE_TEXT];
    survey_age_text(leak_age_ms(leak, survey->now_ms, &exact), age);
    size_t prefix = exact ? 0 : 2;
    memcpy(text, ">=", 2);
    memcpy(text + prefix, age, SURVEY_AGE_TEXT - prefix);
    text[SURVEY_AGE_TEXT - 1] = '\0';
    return text;
}

const char *survey_sum_name(const struct survey_sum *sum, char text[OWNER_PROGRAM])
{
    if (sum->process)
        snprintf(text, OWNER_PROGRAM, "%s", sum->process->program);
    else
        snprintf(text, OWNER_PROGRAM, "uid %u (not visible)", sum->uid);
    return text;
}

enum { HOLDERS_SHOWN = 3 };

/* "1234,1235,1236+2" of the holders' pids or descriptors. */
static void holders_cell(const struct survey *survey, struct survey_held held, bool pids, struct table *table)
{
    char text[HOLDERS_SHOWN * 12 + 24];
    size_t length = 0;
    for (size_t i = 0; i < held.count && i < HOLDERS_SHOWN; i++)
        length +=
            (size_t)snprintf(text + length, sizeof text - length, i ? ",%d" : "%d",
                             pids ? survey->owners.processes[held.first[i].process].pid : held.first[i].fd);
    if (held.count > HOLDERS_SHOWN)
        snprintf(text + length, sizeof text - length, "+%zu", held.count - HOLDERS_SHOWN);
    table_text(table, text);
}

void survey_owner_cells(const struct survey *survey, const struct leak *leak, struct table *table)
{
    struct survey_held held = survey_holders(survey, leak);
    bool queued = leak->cause == TRIAGE_NEVER_ACCEPTED;
    if (held.count == 0) {
        table_text(table, "?");
        table_format(table, "uid %u", leak->row.uid);
        table_text(table, queued ? "backlog" : "?");
        return;
    }
    holders_cell(survey, held, true, table);
    table_text(table, survey->owners.processes[held.first[0].process].program);
    if (queued)
        table_text(table, "backlog");
    else
        holders_cell(survey, held, false, table);
}

static json_t *holders_json(const struct survey *survey, const struct leak *leak)
{
    struct survey_held held = survey_holders(survey, leak);
    json_t *array = json_array();
    for (size_t i = 0; i < held.count; i++) {
        const struct owner_process *process = &survey->owners.processes[held.first[i].process];
        json_array_append_new(array, json_pack("{s:i, s:s, s:i, s:s}", "pid", (int)process->pid, "program",
                                               process->program, "fd", held.first[i].fd, "process_state",
                                               owner_state_name(process->state)));
    }
    return array;
}

json_t *survey_leak_json(const struct survey *survey, const struct leak *leak)
{
    char local[DIAG_ENDPOINT_TEXT], remote[DIAG_ENDPOINT_TEXT];
    const struct diag_row *row = &leak->row;
    bool exact;
    uint64_t age_ms = leak_age_ms(leak, survey->now_ms, &exact);
    json_t *object = json_pack("{s:s, s:s, s:s, s:s, s:I, s:b, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", //
                               "local", diag_endpoint_text(&row->id.local, local),                       //
                               "peer", diag_endpoint_text(&row->id.remote, remote),                      //
                               "state", diag_state_name(row->state),                                     //
                               "cause", triage_cause_name(leak->cause),                                  //
                               "age_ms", (json_int_t)age_ms,                                             //
                               "age_exact", exact,                                                       //
                               "side", leak->client_side ? "client" : "server",                          //
                               "rqueue_bytes", (json_int_t)row->rqueue_bytes,                            //
                               "wqueue_bytes", (json_int_t)row->wqueue_bytes,                            //
                               "received_bytes", (json_int_t)row->info.received_bytes,                   //
                               "acked_bytes", (json_int_t)row->info.acked_bytes,                         //
                               "uid", (json_int_t)row->uid,                                              //
                               "inode", (json_int_t)row->inode,                                          //
                               "cookie", (json_int_t)row->id.cookie);
    if (!survey->brief) {
        json_object_set_new(object, "peer_end", json_string(triage_peer_name(leak->peer)));
        json_object_set_new(object, "holders", holders_json(survey, leak));
    }
    return object;
}

int survey_print_json(const char *command, json_t *object)
{
    int failed =
        object ? json_dumpf(object, stdout, isatty(STDOUT_FILENO) ? JSON_INDENT(2) : JSON_COMPACT) : -1;
    json_decref(object);
    if (failed || putchar('\n') == EOF || fflush(stdout) == EOF) {
        fprintf(stderr, "%s: can't print: %s\n", command, object ? "writing failed" : "no memory");
        return -EIO;
    }
    return 0;
}
