#include "bench/conform.h"
#include "bench/conform_print.h"
#include "conf/value.h"
#include "proxy/command/argument.h"
#include "proxy/command/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum { CASES_MAX = 64, BOUND_MIN_MS = 1000, BOUND_MAX_MS = 3600 * 1000 };

enum {
    OPTION_HTML = 0x100,
    OPTION_TAP,
    OPTION_CASE,
    OPTION_LIST,
    OPTION_QUICK,
    OPTION_LEAK_BOUND,
    OPTION_BOUND,
    OPTION_DIRECT,
};

static const struct argp_option options[] = {
    {"target", 't', "HOST:PORT", 0, "The proxy under test, or unix:/path", 0},
    {"backend-listen", 'b', "HOST:PORT", 0,
     "Where to play its backend; the proxy must be set to connect there", 0},
    {"direct", OPTION_DIRECT, NULL, 0, "Without a proxy: what the suite itself does", 0},
    {"mode", 'm', "MODE", 0, "tcp or http: what the proxy follows (default tcp)", 0},
    {"case", OPTION_CASE, "NAME", 0, "Only this case; may be repeated", 0},
    {"quick", OPTION_QUICK, NULL, 0, "Leave out cases that take more than 10 s", 0},
    {"bound", OPTION_BOUND, "DURATION", 0,
     "How long to wait for what a good proxy does at once (default 15s)", 0},
    {"leak-bound", OPTION_LEAK_BOUND, "DURATION", 0,
     "How long the proxy may let a leak last: more than its own deadline for it (default 40s)", 0},
    {"json", 'j', NULL, 0, "Print JSON", 0},
    {"tap", OPTION_TAP, NULL, 0, "Print TAP", 0},
    {"html", OPTION_HTML, "FILE", 0, "Write a page as well", 0},
    {"list", OPTION_LIST, NULL, 0, "List the cases and end", 0},
    {0},
};

struct arguments {
    struct conform_options conform;
    const char *names[CASES_MAX];
    const char *target_text;
    const char *html;
    bool json, tap, list, direct;
};

static struct stage_address server_of(struct argp_state *state, const char *text)
{
    struct value_server server;
    const char *wrong = value_server(text, &server);
    if (!wrong && server.address.length == 0)
        wrong = "an address, not a name";
    if (wrong)
        argp_error(state, "--target: found '%s'; allowed: HOST:PORT, [HOST]:PORT or unix:/path (%s)", text,
                   wrong);
    return (struct stage_address){.address = server.address.address, .length = server.address.length};
}

static struct stage_address listen_of(struct argp_state *state, const char *text)
{
    struct conf_address address;
    const char *wrong = value_listen(text, &address);
    if (wrong)
        argp_error(state, "--backend-listen: found '%s'; allowed: HOST:PORT, [HOST]:PORT or unix:/path (%s)",
                   text, wrong);
    return (struct stage_address){.address = address.address, .length = address.length};
}

static uint64_t bound_of(struct argp_state *state, const char *option, const char *text)
{
    uint64_t ms = argument_duration(state, option, text);
    if (ms < BOUND_MIN_MS || ms > BOUND_MAX_MS)
        argp_error(state, "%s: found '%s'; allowed: 1s to 1h", option, text);
    return ms;
}

static void name_add(struct argp_state *state, struct arguments *arguments, const char *name)
{
    if (!conform_find(name))
        argp_error(state, "--case: found '%s'; allowed: the names that --list prints", name);
    if (arguments->conform.name_count == CASES_MAX)
        argp_error(state, "--case: at most %d", CASES_MAX);
    arguments->names[arguments->conform.name_count++] = name;
}

static void mode_set(struct argp_state *state, struct arguments *arguments, const char *text)
{
    if (strcmp(text, "tcp") != 0 && strcmp(text, "http") != 0)
        argp_error(state, "--mode: found '%s'; allowed: tcp, http", text);
    arguments->conform.http = strcmp(text, "http") == 0;
}

static void check_all(struct argp_state *state, struct arguments *arguments)
{
    struct conform_options *conform = &arguments->conform;
    if (arguments->list)
        return;
    if (arguments->direct == (conform->target.length != 0))
        argp_error(state, "--target, or else --direct, is needed");
    if (conform->backend.length == 0 && !arguments->direct)
        argp_error(state, "--backend-listen is needed");
    if (conform->backend.length == 0)
        conform->backend = listen_of(state, "127.0.0.1:0");
    if (arguments->json && arguments->tap)
        argp_error(state, "--json and --tap exclude each other");
    for (size_t i = 0; i < conform->name_count; i++)
        if (!(conform_find(arguments->names[i])->flags & (conform->http ? CONFORM_HTTP : CONFORM_TCP)))
            argp_error(state, "--case: '%s' is not of mode %s", arguments->names[i],
                       conform->http ? "http" : "tcp");
}

static error_t parse_output(int key, char *text, struct arguments *arguments)
{
    switch (key) {
    case 'j':
        arguments->json = true;
        return 0;
    case OPTION_TAP:
        arguments->tap = true;
        return 0;
    case OPTION_HTML:
        arguments->html = text;
        return 0;
    case OPTION_LIST:
        arguments->list = true;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case 't':
        arguments->conform.target = server_of(state, text);
        arguments->target_text = text;
        return 0;
    case 'b':
        arguments->conform.backend = listen_of(state, text);
        return 0;
    case 'm':
        mode_set(state, arguments, text);
        return 0;
    case OPTION_DIRECT:
        arguments->direct = true;
        return 0;
    case OPTION_CASE:
        name_add(state, arguments, text);
        return 0;
    case OPTION_QUICK:
        arguments->conform.quick = true;
        return 0;
    case OPTION_LEAK_BOUND:
        arguments->conform.leak_bound_ms = bound_of(state, "--leak-bound", text);
        return 0;
    case OPTION_BOUND:
        arguments->conform.bound_ms = bound_of(state, "--bound", text);
        return 0;
    case ARGP_KEY_INIT:
        conform_options_default(&arguments->conform);
        return 0;
    case ARGP_KEY_ARG:
        argument_none(state, text);
        return 0;
    case ARGP_KEY_END:
        check_all(state, arguments);
        return 0;
    default:
        return parse_output(key, text, arguments);
    }
}

static const struct argp parser = {
    .options = options,
    .parser = parse_option,
    .doc = "Tests how a proxy, any proxy, ends connections: plays its client and its backend.\v"
           "Start the proxy so that it connects to the address of --backend-listen, then run this. Cases are "
           "played "
           "side by side; --list says what each expects and why.\n\n"
           "Verdicts: pass; fail; destroys-data, bytes were lost or a cut was passed off as an end; opinion, "
           "good "
           "proxies differ; skip.\n\n"
           "Exit status: 0 nothing failed; 1 something did, or the backend's address cannot be listened on; "
           "2 wrong "
           "usage.",
};

static void list_cases(void)
{
    const struct conform_case *row;
    for (size_t i = 0; (row = conform_case(i)); i++) {
        const char *mode = (row->flags & CONFORM_BOTH) == CONFORM_BOTH ? "both"
                           : row->flags & CONFORM_TCP                  ? "tcp"
                                                                       : "http";
        printf("%-25s %-5s %s [%s]\n", row->name, mode, row->good, row->origin);
        if (row->opinion)
            printf("%-31s or: %s\n", "", row->opinion);
    }
}

static int page_write(const struct arguments *arguments, const struct conform_report *report)
{
    FILE *out = fopen(arguments->html, "w");
    if (!out) {
        fprintf(stderr, "lastack conform: cannot write %s: %s\n", arguments->html, strerror(errno));
        return -errno;
    }
    conform_print_html(report, arguments->target_text ? arguments->target_text : "direct", out);
    return fclose(out) == 0 ? 0 : -errno;
}

static int print(const struct arguments *arguments, const struct conform_report *report)
{
    int error = 0;
    if (arguments->json)
        error = conform_print_json(report, stdout);
    else if (arguments->tap)
        conform_print_tap(report, stdout);
    else
        conform_print_text(report, stdout);
    if (!error && arguments->html)
        error = page_write(arguments, report);
    return error;
}

/* Both ends of every connection are here. */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int command_conform(int argc, char **argv)
{
    struct arguments arguments = {0};
    struct conform_report report;
    argument_parse(&parser, argc, argv, &arguments);
    if (arguments.list) {
        list_cases();
        return EXIT_FINE;
    }
    raise_descriptors();
    arguments.conform.names = arguments.names;
    if (!arguments.json && !arguments.tap)
        arguments.conform.progress = stderr;
    int error = conform_run(&arguments.conform, &report);
    if (error) {
        fprintf(stderr, "lastack conform: cannot listen where the backend is to be: %s\n", strerror(-error));
        return EXIT_FOUND;
    }
    error = print(&arguments, &report);
    bool bad = report.of[CONFORM_FAIL] + report.of[CONFORM_DESTROYS_DATA] > 0;
    conform_free(&report);
    return error || bad ? EXIT_FOUND : EXIT_FINE;
}
