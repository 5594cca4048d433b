#include "proxy/command/command.h"
#include "proxy/command/diagnosis.h"
#include "proxy/command/survey.h"
#include "proxy/command/table.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KEY_PORT = 'p', KEY_FOR = 'f', KEY_JSON = 'j' };

/* A close is under way in every healthy server now and then: younger ones are no symptom. */
enum { SYMPTOM_MS = 1000, WATCH_DEFAULT_MS = 3000 };

static const struct argp_option options[] = {
    {"port", KEY_PORT, "P[,P...]", 0, "Only sockets with this local port; may be repeated (default: all)", 0},
    {"for", KEY_FOR, "DURATION", 0, "How long to watch (default 3s)", 0},
    {"json", KEY_JSON, NULL, 0, "Print JSON", 0},
    {0},
};

struct arguments {
    struct argument_ports ports;
    uint64_t watch_ms;
    bool json;
};

static error_t option_parse(int key, char *text, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case KEY_PORT:
        argument_ports(state, "--port", text, &arguments->ports);
        return 0;
    case KEY_FOR:
        arguments->watch_ms = argument_duration(state, "--for", text);
        if (arguments->watch_ms < 100)
            argp_error(state, "--for: found '%s'; allowed: at least 100ms", text);
        return 0;
    case KEY_JSON:
        arguments->json = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "found '%s'; doctor takes options only", text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options = options,
    .parser = option_parse,
    .doc = "Says why sockets pile up in CLOSE_WAIT: load, a program error, or a client; with its evidence, "
           "and which"
           " kernel settings help.\v"
           "It changes nothing.\n"
           "\n"
           "Exit status: 0 nothing leaks, 1 a diagnosis or a failure, 2 wrong usage.",
};

/* ---- gathering ---- */

struct counters {
    uint64_t accepted, overflows;
};

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

/* A small file of /proc, ended with '\0'; "" when it can't be read. */
static void proc_read(const struct survey *survey, const char *path, char *text, size_t size)
{
    text[0] = '\0';
    int fd = openat(survey->proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t length = read(fd, text, size - 1);
    close(fd);
    text[length > 0 ? length : 0] = '\0';
}

static struct counters counters_read(const struct survey *survey)
{
    char text[16384];
    struct counters counters;
    proc_read(survey, "self/net/snmp", text, sizeof text);
    counters.accepted = counter_find(text, "Tcp: ", "PassiveOpens");
    proc_read(survey, "self/net/netstat", text, sizeof text);
    counters.overflows = counter_find(text, "TcpExt: ", "ListenOverflows");
    return counters;
}

static size_t established_count(struct survey *survey)
{
    struct netlink_counts counts;
    size_t established = 0;
    if (survey->ports->count == 0)
        return netlink_count(survey->netlink, 0, &counts) ? 0 : counts.of[DIAG_ESTABLISHED];
    for (size_t i = 0; i < survey->ports->count; i++)
        if (netlink_count(survey->netlink, survey->ports->port[i], &counts) == 0)
            established += counts.of[DIAG_ESTABLISHED];
    return established;
}

static size_t symptoms(const struct survey *survey)
{
    size_t count = 0;
    for (size_t i = 0; i < survey->now.leak_count; i++)
        count += leak_age_ms(&survey->now.leaks[i], survey->now_ms, NULL) >= SYMPTOM_MS;
    return count;
}

static void gather_rows(const struct survey *survey, struct evidence *evidence)
{
    enum { KEEPALIVE_TIMER = 2 };
    for (size_t i = 0; i < survey->now.leak_count; i++) {
        const struct leak *leak = &survey->now.leaks[i];
        uint64_t age_ms = leak_age_ms(leak, survey->now_ms, NULL);
        if (age_ms < SYMPTOM_MS)
            continue;
        evidence->close_wait++;
        evidence->by_cause[leak->cause]++;
        evidence->zero_bytes += leak->row.info.received_bytes <= 1; /* the FIN counts one */
        evidence->with_keepalive += leak->row.timer == KEEPALIVE_TIMER;
        evidence->peers_closed_here += leak->peer == TRIAGE_PEER_CLOSED;
        if (age_ms > evidence->oldest_ms)
            evidence->oldest_ms = age_ms;
    }
}

static void gather_backlog(const struct survey *survey, struct evidence *evidence)
{
    for (size_t i = 0; i < survey->now.listener_count; i++) {
        const struct diag_row *row = &survey->now.listeners[i];
        if ((uint64_t)row->rqueue_bytes * evidence->backlog_size <
            (uint64_t)evidence->backlog_used * row->wqueue_bytes)
            continue;
        evidence->backlog_used = row->rqueue_bytes;
        evidence->backlog_size = row->wqueue_bytes;
        evidence->backlog_port = row->id.local.port;
    }
}

/* How many descriptors a process has; 0 when that is not told. */
static uint64_t files_open(const struct survey *survey, pid_t pid)
{
    char path[48];
    snprintf(path, sizeof path, "%d/fd", pid);
    int fd = openat(survey->proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    uint64_t count = 0;
    if (!directory)
        return 0;
    for (const struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

static void gather_files(const struct survey *survey, struct evidence *evidence)
{
    char path[48], text[4096];
    snprintf(path, sizeof path, "%d/limits", evidence->owner->pid);
    proc_read(survey, path, text, sizeof text);
    const char *line = strstr(text, "Max open files");
    if (line)
        evidence->owner_files_limit = strtoull(line + strlen("Max open files"), NULL, 10);
    evidence->owner_files = files_open(survey, evidence->owner->pid);
}

static void gather_owner(const struct survey *survey, struct evidence *evidence)
{
    size_t count = 0;
    struct survey_sum *sums = survey_sums(survey, SYMPTOM_MS, &count);
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

static void gather_network(const struct survey *survey, struct evidence *evidence)
{
    static const uint8_t loopback_v4[13] = {[10] = 0xff, 0xff, 127}, loopback_v6[16];
    size_t count = 0, run = 0;
    uint8_t(*networks)[16] = calloc(survey->now.leak_count + 1, sizeof *networks);
    const uint8_t *most = NULL;
    if (!networks)
        return;
    for (size_t i = 0; i < survey->now.leak_count; i++)
        if (leak_age_ms(&survey->now.leaks[i], survey->now_ms, NULL) >= SYMPTOM_MS)
            network_of(&survey->now.leaks[i].row.id.remote, networks[count++]);
    qsort(networks, count, sizeof *networks, network_order);
    for (size_t i = 0; i < count; i++) {
        run = i > 0 && memcmp(networks[i], networks[i - 1], 16) == 0 ? run + 1 : 1;
        if (run > evidence->network_count) {
            evidence->network_count = run;
            most = networks[i];
        }
    }
    if (most) {
        char text[DIAG_HOST_TEXT];
        evidence->network_is_loopback =
            memcmp(most, loopback_v4, 13) == 0 || memcmp(most, loopback_v6, 16) == 0;
        snprintf(evidence->network, sizeof evidence->network, "%s/%d", diag_host_text(most, text),
                 diag_host_is_v4(most) ? 24 : 64);
    }
    free(networks);
}

/* Two looks, `watch_ms` apart. */
static int gather(struct survey *survey, uint64_t watch_ms, struct evidence *evidence)
{
    *evidence = (struct evidence){.seconds = (double)watch_ms / 1000};
    int error = survey_dump(survey);
    if (error)
        return error;
    struct counters before = counters_read(survey);
    evidence->close_wait_before = symptoms(survey);
    evidence->established_before = established_count(survey);
    survey_sleep_ms(watch_ms);
    error = survey_dump(survey);
    if (error == 0)
        error = survey_owners(survey);
    if (error)
        return error;
    struct counters after = counters_read(survey);
    evidence->accepted_per_s = (double)(after.accepted - before.accepted) / evidence->seconds;
    evidence->overflows = after.overflows - before.overflows;
    evidence->established = established_count(survey);
    gather_rows(survey, evidence);
    gather_backlog(survey, evidence);
    gather_owner(survey, evidence);
    gather_network(survey, evidence);
    return 0;
}

/* ---- the answer ---- */

/* The command to run next. */
static void next_command(const struct survey *survey, const struct evidence *evidence,
                         enum diagnosis diagnosis, char text[DIAGNOSIS_LINE])
{
    char ports[64] = "";
    uint16_t port = survey->ports->count ? survey->ports->port[0] : 0;
    for (size_t i = 0; port == 0 && i < survey->now.leak_count; i++)
        port = survey->now.leaks[i].client_side ? 0 : survey->now.leaks[i].row.id.local.port;
    if (port)
        snprintf(ports, sizeof ports, " --port %u", port);
    switch (diagnosis) {
    case DIAGNOSIS_PROGRAM:
        snprintf(text, DIAGNOSIS_LINE,
                 port ? "lastack reap%s --older-than 2m --action finish" : "lastack scan%s", ports);
        return;
    case DIAGNOSIS_STUCK:
        if (evidence->owner && (evidence->owner->state == 'T' || evidence->owner->state == 't'))
            snprintf(text, DIAGNOSIS_LINE, "kill -CONT %d", evidence->owner->pid);
        else if (evidence->owner)
            snprintf(text, DIAGNOSIS_LINE, "gdb -p %d -batch -ex 'thread apply all backtrace'",
                     evidence->owner->pid);
        else
            snprintf(text, DIAGNOSIS_LINE, "sudo lastack doctor%s", ports);
        return;
    case DIAGNOSIS_CLIENT:
        snprintf(text, DIAGNOSIS_LINE, "lastack scan%s --older-than 30s", ports);
        return;
    default:
        snprintf(text, DIAGNOSIS_LINE, "lastack scan%s --watch", ports);
        return;
    }
}

/* What a remedy is set to here. */
static void remedy_value(const struct survey *survey, const struct evidence *evidence,
                         const struct remedy *remedy, char text[DIAGNOSIS_LINE])
{
    char path[96];
    if (!remedy->path) {
        if (evidence->owner_files_limit)
            snprintf(text, DIAGNOSIS_LINE, "%ju", (uintmax_t)evidence->owner_files_limit);
        else
            snprintf(text, DIAGNOSIS_LINE, "?");
        return;
    }
    snprintf(path, sizeof path, "sys/%s", remedy->path);
    proc_read(survey, path, text, DIAGNOSIS_LINE);
    text[strcspn(text, "\n")] = '\0';
    if (text[0] == '\0')
        snprintf(text, DIAGNOSIS_LINE, "not here");
}

static void verdict_print(const struct verdict *verdict, const char *title)
{
    printf("%s: %s\n", title, diagnosis_text(verdict->diagnosis));
    for (size_t i = 0; i < verdict->line_count; i++)
        printf("  - %s\n", verdict->line[i]);
    printf("\n");
}

static void remedies_print(const struct survey *survey, const struct evidence *evidence,
                           enum diagnosis diagnosis)
{
    size_t count;
    const struct remedy *rows = remedies(&count);
    printf("Kernel settings that people change for this:\n\n");
    for (size_t i = 0; i < count; i++) {
        char value[DIAGNOSIS_LINE], helps[DIAGNOSIS_LINE];
        remedy_value(survey, evidence, &rows[i], value);
        rows[i].helps(evidence, diagnosis, helps);
        printf("  %s = %s\n      %s\n      Helps here? %s\n", rows[i].name, value, rows[i].does, helps);
    }
    printf("\n");
}

static int doctor_text(const struct survey *survey, const struct evidence *evidence,
                       const struct verdict *verdicts, size_t count)
{
    char next[DIAGNOSIS_LINE];
    verdict_print(&verdicts[0], "Diagnosis");
    for (size_t i = 1; i < count; i++)
        verdict_print(&verdicts[i], "And");
    survey_print_unseen(survey, SYMPTOM_MS, stdout);
    remedies_print(survey, evidence, verdicts[0].diagnosis);
    next_command(survey, evidence, verdicts[0].diagnosis, next);
    printf("Run next: %s\n", next);
    return fflush(stdout) == EOF ? -EIO : 0;
}

static json_t *verdict_json(const struct verdict *verdict)
{
    json_t *lines = json_array();
    for (size_t i = 0; i < verdict->line_count; i++)
        json_array_append_new(lines, json_string(verdict->line[i]));
    return json_pack("{s:s, s:s, s:I, s:o}", "diagnosis", diagnosis_name(verdict->diagnosis), "text",
                     diagnosis_text(verdict->diagnosis), "sockets", (json_int_t)verdict->weight, "evidence",
                     lines);
}

static json_t *remedies_json(const struct survey *survey, const struct evidence *evidence,
                             enum diagnosis diagnosis)
{
    size_t count;
    const struct remedy *rows = remedies(&count);
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++) {
        char value[DIAGNOSIS_LINE], helps[DIAGNOSIS_LINE];
        remedy_value(survey, evidence, &rows[i], value);
        rows[i].helps(evidence, diagnosis, helps);
        json_array_append_new(array, json_pack("{s:s, s:s, s:s, s:s}", "name", rows[i].name, "value", value,
                                               "does", rows[i].does, "helps", helps));
    }
    return array;
}

static int doctor_json(const struct survey *survey, const struct evidence *evidence,
                       const struct verdict *verdicts, size_t count)
{
    char next[DIAGNOSIS_LINE];
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, verdict_json(&verdicts[i]));
    next_command(survey, evidence, verdicts[0].diagnosis, next);
    return survey_print_json(survey->command,
                             json_pack("{s:s, s:o, s:I, s:I, s:f, s:I, s:o, s:s}",                         //
                                       "diagnosis", diagnosis_name(verdicts[0].diagnosis),                 //
                                       "verdicts", array,                                                  //
                                       "close_wait", (json_int_t)evidence->close_wait,                     //
                                       "established", (json_int_t)evidence->established,                   //
                                       "accepted_per_s", evidence->accepted_per_s,                         //
                                       "not_visible", (json_int_t)survey_unseen(survey, SYMPTOM_MS),       //
                                       "settings", remedies_json(survey, evidence, verdicts[0].diagnosis), //
                                       "next", next));
}

static int doctor(struct survey *survey, const struct arguments *arguments)
{
    struct evidence evidence;
    struct verdict verdicts[DIAGNOSIS_COUNT];
    if (gather(survey, arguments->watch_ms, &evidence))
        return EXIT_FOUND;
    if (!survey_ports_exist(survey))
        return EXIT_FOUND;
    size_t count = diagnose(&evidence, verdicts);
    int error = arguments->json ? doctor_json(survey, &evidence, verdicts, count)
                                : doctor_text(survey, &evidence, verdicts, count);
    return error || verdicts[0].diagnosis != DIAGNOSIS_NOTHING ? EXIT_FOUND : EXIT_FINE;
}

int command_doctor(int argc, char **argv)
{
    struct arguments arguments = {.watch_ms = WATCH_DEFAULT_MS};
    struct survey survey;
    argument_parse(&parser, argc, argv, &arguments);
    if (survey_open(&survey, argv[0], &arguments.ports, DIAG_CLOSE_WAIT))
        return EXIT_FOUND;
    int status = doctor(&survey, &arguments);
    survey_close(&survey);
    return status;
}
