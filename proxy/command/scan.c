#include "proxy/command/command.h"
#include "proxy/command/growth.h"
#include "proxy/command/show.h"
#include "proxy/command/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char command[] = "lastack scan";

enum { KEY_STATE = 's', KEY_OLDER = 'o', KEY_WATCH = 'w', KEY_COUNT = 'n', KEY_BRIEF = 'b' };

static const struct argp_option options[] = {
    {"state", KEY_STATE, "STATE", 0, "TCP state to look for (default close-wait)", 0},
    {"older-than", KEY_OLDER, "DURATION", 0, "Only sockets at least this old, for example 30s (default 0s)",
     0},
    {"brief", KEY_BRIEF, NULL, 0,
     "Don't look who holds them or what their peers did; that is most of the work", 0},
    {"watch", KEY_WATCH, "DURATION", OPTION_ARG_OPTIONAL,
     "Scan again every DURATION (default 2s), and show who leaks and how fast it grows", 0},
    {"count", KEY_COUNT, "N", 0, "With --watch: end after N scans", 0},
    {0},
};

struct arguments {
    struct argument_survey survey;
    unsigned state;
    uint64_t older_than_ms;
    uint64_t watch_ms; /* 0: scan once */
    unsigned long count;
    bool brief;
};

static unsigned state_of(struct argp_state *state, const char *text)
{
    int number = diag_state_parse(text);
    if (number < 0)
        argp_error(state,
                   "--state: found '%s'; allowed: established, close-wait, fin-wait-2 and so on, as ss names"
                   " them",
                   text);
    return (unsigned)number;
}

static error_t option_parse(int key, char *text, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    char *end = NULL;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->survey;
        return 0;
    case KEY_STATE:
        arguments->state = state_of(state, text);
        return 0;
    case KEY_OLDER:
        arguments->older_than_ms = argument_duration(state, "--older-than", text);
        return 0;
    case KEY_WATCH:
        arguments->watch_ms = text ? argument_duration(state, "--watch", text) : 2000;
        if (arguments->watch_ms < 100)
            argp_error(state, "--watch: found '%s'; allowed: at least 100ms", text);
        return 0;
    case KEY_COUNT:
        arguments->count = strtoul(text, &end, 10);
        if (arguments->count == 0 || *end)
            argp_error(state, "--count: found '%s'; allowed: a number from 1", text);
        return 0;
    case KEY_BRIEF:
        arguments->brief = true;
        return 0;
    case ARGP_KEY_END:
        if (arguments->brief && arguments->survey.program)
            argp_error(state, "--brief does not look at who holds them, which --program and a name ask for");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp parser = {
    .options = options,
    .parser = option_parse,
    .children = argument_survey_children,
    .doc =
        "Lists sockets that leak: how old, why, and who holds them. `scan 9000` is --port 9000, `scan "
        "python` the "
        "one program with that in its name.\v"
        "An age with >= is a lower bound: something may have reset the kernel's clock since.\n"
        "\n"
        "Causes: read-eof, the program read EOF and never closed; eof-unread, it never read EOF (stuck, "
        "stopped"
        " or paused); data-unread, it has unread data as well; never-accepted, it still waits in the accept"
        " queue.\n"
        "\n"
        "PEER END is what the other end did, where it is on this host: closed, half-closed (it still reads), "
        "or"
        " forgotten (closed, and the kernel dropped it).\n"
        "\n"
        "Exit status: 0 nothing found; 1 found something at least that old, or failed, and a failure always "
        "says "
        "why on stderr, where nothing else is said; 2 wrong usage.",
};

/* What one scan found, and what the scans before it did. */
struct report {
    const struct survey *survey;
    const struct arguments *arguments;
    const struct growth *growth;
    const struct leak **leaks; /* oldest first */
    size_t leak_count;
    struct survey_sum *sums; /* most first */
    size_t sum_count;
};

/* ---- the table of sockets ---- */

static void leak_row(const struct survey *survey, const struct leak *leak, struct table *table)
{
    char text[DIAG_ENDPOINT_TEXT], age[SHOW_AGE_TEXT];
    table_text(table, diag_endpoint_text(&leak->row.id.local, text));
    table_text(table, diag_endpoint_text(&leak->row.id.remote, text));
    table_text(table, show_leak_age(survey, leak, age));
    table_text(table, triage_cause_name(leak->cause));
    table_text(table, leak->client_side ? "client" : "server");
    if (survey->brief)
        return;
    table_text(table, triage_peer_name(leak->peer));
    show_owner_cells(survey, leak, table);
}

/* The oldest first, and no more than somebody reads. */
static int leaks_print(const struct report *report)
{
    static const struct table_column columns[] = {
        {"LOCAL", false},    {"PEER", false}, {"AGE", true},      {"CAUSE", false}, {"SIDE", false},
        {"PEER END", false}, {"PID", true},   {"PROGRAM", false}, {"FD", true},
    };
    bool brief = report->survey->brief; /* without the last four */
    size_t shown = show_rows(&report->arguments->survey, report->leak_count);
    struct table table;
    table_init(&table, columns, sizeof columns / sizeof columns[0] - (brief ? 4 : 0));
    for (size_t i = 0; i < shown; i++)
        leak_row(report->survey, report->leaks[i], &table);
    if (shown)
        printf("\n");
    int error = table_print(&table, stdout);
    table_clear(&table);
    show_left_out(shown, report->leak_count, stdout);
    return error;
}

/* ---- who leaks most ---- */

/* The owner as growth's key: a service with a pid, or with a user whose processes we can't see. 0 is the
 * total. */
static uint64_t sum_key(const struct survey_sum *sum)
{
    uint64_t service = (uint64_t)sum->service.client_side << 16 | sum->service.port;
    uint64_t owner = sum->process ? (uint64_t)sum->process->pid : UINT64_C(1) << 32 | sum->uid;
    return service << 40 | (uint64_t)(sum->sharers > 1) << 39 | owner;
}

/* "1234", or "1234 and 3 more" of sockets that several processes share. */
static void sum_pids(const struct survey_sum *sum, struct table *table)
{
    if (!sum->process)
        table_text(table, "?");
    else if (sum->sharers > 1)
        table_format(table, "%d and %zu more", sum->process->pid, sum->sharers - 1);
    else
        table_format(table, "%d", sum->process->pid);
}

static void sum_row(const struct survey_sum *sum, struct table *table)
{
    char name[OWNER_PROGRAM], age[SHOW_AGE_TEXT], service[SHOW_SERVICE_TEXT];
    table_format(table, "%zu", sum->count);
    table_text(table, show_service(sum->service, service));
    sum_pids(sum, table);
    table_text(table, show_sum_name(sum, name));
    table_text(table, sum->process ? owner_state_name(sum->process->state) : "?");
    for (enum triage_cause cause = TRIAGE_READ_EOF; cause < TRIAGE_CAUSE_COUNT; cause++)
        table_format(table, "%zu", sum->by_cause[cause]);
    table_text(table, show_age(sum->oldest_ms, age));
}

static double sum_growth(const struct report *report, const struct survey_sum *sum)
{
    return growth_per_minute(report->growth, sum_key(sum), report->survey->now_ms, sum->count);
}

static double total_growth(const struct report *report)
{
    return growth_per_minute(report->growth, 0, report->survey->now_ms, report->leak_count);
}

/* Who leaks most; and how fast it grows, when that has been watched. */
static int sums_print(const struct report *report)
{
    static const struct table_column columns[] = {
        {"SOCKETS", true},        {"PORT", true},     {"PID", true},        {"PROGRAM", false},
        {"PROCESS", false},       {"READ-EOF", true}, {"EOF-UNREAD", true}, {"DATA-UNREAD", true},
        {"NEVER-ACCEPTED", true}, {"OLDEST", true},   {"PER MINUTE", true}, {"KNOWN AS", false},
    };
    static const struct table_column once[] = {
        {"SOCKETS", true},        {"PORT", true},     {"PID", true},        {"PROGRAM", false},
        {"PROCESS", false},       {"READ-EOF", true}, {"EOF-UNREAD", true}, {"DATA-UNREAD", true},
        {"NEVER-ACCEPTED", true}, {"OLDEST", true},   {"KNOWN AS", false},
    };
    bool watching = report->arguments->watch_ms > 0;
    struct table table;
    size_t shown = show_rows(&report->arguments->survey, report->sum_count);
    if (watching)
        table_init(&table, columns, sizeof columns / sizeof columns[0]);
    else
        table_init(&table, once, sizeof once / sizeof once[0]);
    for (size_t i = 0; i < shown; i++) {
        sum_row(&report->sums[i], &table);
        if (watching)
            table_format(&table, "%+.1f", sum_growth(report, &report->sums[i]));
        table_format(&table, "%.60s",
                     report->sums[i].process ? owner_known_as(report->sums[i].process) : "?");
    }
    int error = table_print(&table, stdout);
    table_clear(&table);
    show_left_out(shown, report->sum_count, stdout);
    return error;
}

/* The answer first: how many, who and since when; then the sockets themselves. */
static int report_text(const struct report *report)
{
    const struct survey *survey = report->survey;
    const char *state = diag_state_name(survey->now.state);
    bool watching = report->arguments->watch_ms > 0;
    if (watching && isatty(STDOUT_FILENO))
        printf("\033[H\033[2J"); /* home, clear */
    if (watching)
        printf("%zu in %s, %+.1f per minute.\n", report->leak_count, state, total_growth(report));
    else
        printf("%zu in %s.\n", report->leak_count, state);
    show_going_there(survey, command, stdout);
    if (report->sum_count)
        printf("\n");
    int error = sums_print(report);
    if (!survey->brief)
        show_unseen(survey, report->arguments->older_than_ms, stdout);
    if (!watching && error == 0)
        error = leaks_print(report);
    if (error == 0 && fflush(stdout) == EOF)
        error = -EIO;
    if (error)
        fprintf(stderr, "%s: can't print all of it: %s\n", command, strerror(-error));
    return error;
}

static json_t *sum_json(const struct survey_sum *sum, double per_minute)
{
    char name[OWNER_PROGRAM];
    json_t *causes = json_object();
    for (enum triage_cause cause = TRIAGE_READ_EOF; cause < TRIAGE_CAUSE_COUNT; cause++)
        json_object_set_new(causes, triage_cause_name(cause), json_integer((json_int_t)sum->by_cause[cause]));
    return json_pack("{s:i, s:s, s:I, s:s, s:o, s:s, s:I, s:I, s:f, s:I, s:o}",           //
                     "port", (int)sum->service.port,                                      //
                     "side", sum->service.client_side ? "client" : "server",              //
                     "held_by", (json_int_t)sum->sharers,                                 //
                     "known_as", sum->process ? owner_known_as(sum->process) : "",        //
                     "pid", sum->process ? json_integer(sum->process->pid) : json_null(), //
                     "program", show_sum_name(sum, name),                                 //
                     "uid", (json_int_t)sum->uid,                                         //
                     "sockets", (json_int_t)sum->count,                                   //
                     "per_minute", per_minute,                                            //
                     "oldest_ms", (json_int_t)sum->oldest_ms,                             //
                     "causes", causes);
}

static int report_json(const struct report *report)
{
    const struct survey *survey = report->survey;
    size_t unseen = survey->brief ? 0 : survey_unseen(survey, report->arguments->older_than_ms);
    json_t *sockets = json_array(), *owners = json_array();
    for (size_t i = 0; i < report->leak_count; i++)
        json_array_append_new(sockets, show_leak_json(survey, report->leaks[i]));
    for (size_t i = 0; i < report->sum_count; i++)
        json_array_append_new(owners, sum_json(&report->sums[i], sum_growth(report, &report->sums[i])));
    return show_json(command,
                     json_pack("{s:s, s:I, s:I, s:I, s:f, s:I, s:I, s:o, s:o}",               //
                               "state", diag_state_name(survey->now.state),                   //
                               "going_there", (json_int_t)survey->going_there,                //
                               "older_than_ms", (json_int_t)report->arguments->older_than_ms, //
                               "count", (json_int_t)report->leak_count,                       //
                               "per_minute", total_growth(report),                            //
                               "not_visible", (json_int_t)unseen,                             //
                               "processes_refused", (json_int_t)survey->owners.denied_count,  //
                               "owners", owners,                                              //
                               "sockets", sockets));
}

static void growth_remember(const struct report *report, struct growth *growth)
{
    growth_record(growth, 0, report->survey->now_ms, report->leak_count);
    for (size_t i = 0; i < report->sum_count; i++)
        growth_record(growth, sum_key(&report->sums[i]), report->survey->now_ms, report->sums[i].count);
}

/* One scan: an exit status. */
static int scan_once(struct survey *survey, const struct arguments *arguments, struct growth *growth)
{
    struct report report = {.survey = survey, .arguments = arguments, .growth = growth};
    if (show_look(survey, command) || (!survey->brief && show_owners(survey, command)))
        return EXIT_FOUND;
    report.leaks = survey_oldest_first(survey, arguments->older_than_ms, &report.leak_count);
    if (!report.leaks) {
        show_failure(command, "can't sort the sockets", -ENOMEM);
        return EXIT_FOUND;
    }
    if (!survey->brief)
        report.sums = survey_sums(survey, NULL, arguments->older_than_ms, &report.sum_count);
    int error = arguments->survey.json ? report_json(&report) : report_text(&report);
    if (arguments->watch_ms)
        growth_remember(&report, growth);
    bool found = report.leak_count > 0;
    free(report.leaks);
    free(report.sums);
    return !show_ports_exist(survey, command) || error || found ? EXIT_FOUND : EXIT_FINE;
}

int command_scan(int argc, char **argv)
{
    struct arguments arguments = {.state = DIAG_CLOSE_WAIT};
    struct survey survey;
    struct growth growth = {0};
    argument_parse(&parser, argc, argv, &arguments);
    if (show_open(&survey, command, &arguments.survey, arguments.state))
        return EXIT_FOUND;
    survey.brief = arguments.brief;
    int status = scan_once(&survey, &arguments, &growth);
    for (unsigned long scans = 1; arguments.watch_ms && scans != arguments.count; scans++) {
        show_sleep_ms(arguments.watch_ms);
        status = scan_once(&survey, &arguments, &growth);
    }
    growth_clear(&growth);
    survey_close(&survey);
    return status;
}
