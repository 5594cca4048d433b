#include "proxy/command/show.h"

#include "reaper/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t show_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void show_sleep_ms(uint64_t ms)
{
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

int show_failure(const char *command, const char *what, int error)
{
    if (error == -ENOENT || error == -EOPNOTSUPP) /* only a dump says that */
        what = "this kernel can't list TCP sockets now: it lacks tcp_diag; as root: modprobe tcp_diag";
    fprintf(stderr, "%s: %s: %s (%s)\n", command, what, error_text(error), error_name(error));
    return error;
}

int show_open(struct survey *survey, const char *command, const struct argument_survey *arguments,
              unsigned state)
{
    const struct survey_filter filter = {
        .ports = arguments->ports.port,
        .port_count = arguments->ports.count,
        .to = arguments->to.port,
        .to_count = arguments->to.count,
        .peers = arguments->peers,
        .peer_count = arguments->peer_count,
        .program = arguments->program,
        .program_is_part = arguments->program_is_part,
    };
    int error = survey_open(survey, &filter, state);
    if (!error)
        return 0;
    if (survey->netlink)
        show_failure(command, "can't open /proc, so owners can't be found", error);
    else if (error == -EPROTONOSUPPORT)
        show_failure(command,
                     "this kernel has no sock_diag (CONFIG_INET_DIAG), so its sockets can't be listed",
                     error);
    else
        show_failure(command, "can't open a netlink socket", error);
    survey_close(survey);
    return error;
}

int show_look(struct survey *survey, const char *command)
{
    int error = survey_look(survey, show_clock_ms());
    return error ? show_failure(command, "can't list the kernel's sockets", error) : 0;
}

/* The names of the programs that hold such sockets or listen, each once, as far as one line goes. */
static void programs_list(const struct survey *survey, FILE *out)
{
    enum { LISTED = 12 };
    const struct owners *owners = &survey->owners;
    size_t listed = 0;
    for (size_t i = 0; i < owners->process_count && listed < LISTED; i++) {
        bool known = false;
        for (size_t k = 0; k < i && !known; k++)
            known = strcmp(owners->processes[k].program, owners->processes[i].program) == 0;
        if (!known)
            fprintf(out, "%s%s", listed++ ? ", " : "", owners->processes[i].program);
    }
    fprintf(out, "%s\n", listed == 0 ? "none" : listed == LISTED ? " ..." : "");
}

int show_program_failure(const struct survey *survey, const char *command, int error)
{
    fprintf(stderr, "%s: %s has '%s' in its name; those that hold such sockets or listen: ", command,
            error == -ESRCH ? "no program that is seen here" : "more than one program",
            survey->filter.program);
    programs_list(survey, stderr);
    return error;
}

int show_owners(struct survey *survey, const char *command)
{
    int error = survey_owners(survey);
    if (error == -ESRCH || error == -ENOTUNIQ)
        return show_program_failure(survey, command, error);
    return error ? show_failure(command, "can't find out who holds the sockets", error) : 0;
}

bool show_ports_exist(const struct survey *survey, const char *command)
{
    bool all = true;
    for (size_t i = 0; i < survey->filter.port_count; i++) {
        uint16_t port = survey->filter.ports[i];
        if (survey->going_there || survey_port_exists(survey, port))
            continue;
        fprintf(stderr,
                "%s: nothing in this network namespace listens on port %u, and no socket in %s has it\n",
                command, port, diag_state_name(survey->now.state));
        all = false;
    }
    return all;
}

void show_unseen(const struct survey *survey, uint64_t older_than_ms, FILE *out)
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

void show_going_there(const struct survey *survey, const char *command, FILE *out)
{
    if (survey->going_there == 0)
        return;
    const char *asked = survey->filter.port_count == 1 ? "that port" : "these ports";
    fprintf(out, "%zu sockets of this host in %s go to %s elsewhere: %s --to %u", survey->going_there,
            diag_state_name(survey->now.state), asked, command, survey->filter.ports[0]);
    for (size_t i = 1; i < survey->filter.port_count; i++)
        fprintf(out, ",%u", survey->filter.ports[i]);
    fprintf(out, "\n");
}

enum { ROWS_SHOWN = 20 };

size_t show_rows(const struct argument_survey *arguments, size_t count)
{
    return arguments->all || count < ROWS_SHOWN ? count : ROWS_SHOWN;
}

void show_left_out(size_t shown, size_t count, FILE *out)
{
    if (shown < count)
        fprintf(out, "... and %zu more: --all shows them, --json has them.\n", count - shown);
}

const char *show_service(struct survey_service service, char text[SHOW_SERVICE_TEXT])
{
    snprintf(text, SHOW_SERVICE_TEXT, service.client_side ? "to %u" : "%u", service.port);
    return text;
}

/* ---- text and JSON ---- */

const char *show_age(uint64_t ms, char text[SHOW_AGE_TEXT])
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
        snprintf(text, SHOW_AGE_TEXT, "%ju%c%02u%c", (uintmax_t)(s / units[i].s), units[i].unit,
                 (unsigned)(s % units[i].s / units[i].below_s), units[i].below);
        return text;
    }
    snprintf(text, SHOW_AGE_TEXT, ms < 1000 ? "%jums" : "%jus", (uintmax_t)(ms < 1000 ? ms : s));
    return text;
}

const char *show_leak_age(const struct survey *survey, const struct leak *leak, char text[SHOW_AGE_TEXT])
{
    bool exact;
    char age[SHOW_AGE_TEXT];
    show_age(leak_age_ms(leak, survey->now_ms, &exact), age);
    size_t prefix = exact ? 0 : 2;
    memcpy(text, ">=", 2);
    memcpy(text + prefix, age, SHOW_AGE_TEXT - prefix);
    text[SHOW_AGE_TEXT - 1] = '\0';
    return text;
}

const char *show_sum_name(const struct survey_sum *sum, char text[OWNER_PROGRAM])
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

void show_owner_cells(const struct survey *survey, const struct leak *leak, struct table *table)
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

json_t *show_leak_json(const struct survey *survey, const struct leak *leak)
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

int show_json(const char *command, json_t *object)
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
