#include "bench/plot.h"
#include "bench/teardown.h"
#include "bench/teardown_print.h"
#include "conf/value.h"
#include "proxy/command/argument.h"
#include "proxy/command/command.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum {
    CONNECTIONS_MAX = 1000000,
    RATE_MAX = 100000,
    BYTES_MAX = 16 << 20,
    DIRECT_CONNECTIONS = 500,
    DURATION_MAX_MS = 3600 * 1000,
};

enum {
    OPTION_DIRECT = 0x100,
    OPTION_WHO,
    OPTION_LEAK,
    OPTION_DURATION,
    OPTION_CLIENT_CLOSE,
    OPTION_WATCH,
    OPTION_REQUEST,
    OPTION_RESPONSE,
    OPTION_PLOT,
    OPTION_NO_DIRECT,
};

static const struct argp_option options[] = {
    {"target", 't', "HOST:PORT", 0, "The proxy under test, or unix:/path", 0},
    {"backend-listen", 'b', "HOST:PORT", 0,
     "Where to play its backend; the proxy must be set to connect there", 0},
    {"direct", OPTION_DIRECT, NULL, 0, "Without a proxy", 0},
    {"mode", 'm', "MODE", 0, "tcp or http: what the proxy follows (default tcp)", 0},
    {"connections", 'n', "N", 0, "How many clients come (default 1000)", 0},
    {"rate", 'r', "N", 0, "How many a second, whatever has become of those before (default 200)", 0},
    {"duration", OPTION_DURATION, "DURATION", 0, "For how long they come, instead of --connections", 0},
    {"who-closes", OPTION_WHO, "SIDE", 0, "client (default), backend or both, once the answer is whole", 0},
    {"client-close", OPTION_CLIENT_CLOSE, "HOW", 0,
     "half: by FIN, and it reads on; full: by close() (default half, with --leak full)", 0},
    {"leak", OPTION_LEAK, "MODE", 0, "How the backend leaks; see below", 0},
    {"watch", OPTION_WATCH, "DURATION", 0,
     "How long to watch what has not ended, after the last client has closed (default 10s)", 0},
    {"request", OPTION_REQUEST, "SIZE", 0, "Of a client in mode tcp (default 64B)", 0},
    {"response", OPTION_RESPONSE, "SIZE", 0, "Of the backend's answers (default 1KiB)", 0},
    {"no-direct", OPTION_NO_DIRECT, NULL, 0, "Don't measure what the figures are without a proxy", 0},
    {"json", 'j', NULL, 0, "Print JSON", 0},
    {"plot", OPTION_PLOT, "FILE.svg", 0, "Draw a picture as well", 0},
    {0},
};

struct arguments {
    struct teardown_options bench;
    uint64_t duration_ms;
    const char *plot, *target_text;
    bool json, direct, no_direct, has_close, is_named;
};

static struct stage_address target_of(struct argp_state *state, const char *text)
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

static uint32_t size_of(struct argp_state *state, const char *option, const char *text)
{
    uint64_t bytes = 0;
    const char *wrong = value_size(text, &bytes);
    if (wrong || bytes == 0 || bytes > BYTES_MAX)
        argp_error(state, "%s: found '%s'; allowed: a size from 1B to 16MiB", option, text);
    return (uint32_t)bytes;
}

static uint64_t time_of(struct argp_state *state, const char *option, const char *text)
{
    uint64_t ms = argument_duration(state, option, text);
    if (ms == 0 || ms > DURATION_MAX_MS)
        argp_error(state, "%s: found '%s'; allowed: 1ms to 1h", option, text);
    return ms;
}

/* One of two words: whether it is the second. */
static bool second_of(struct argp_state *state, const char *option, const char *text, const char *first,
                      const char *second)
{
    if (strcmp(text, first) != 0 && strcmp(text, second) != 0)
        argp_error(state, "%s: found '%s'; allowed: %s, %s", option, text, first, second);
    return strcmp(text, second) == 0;
}

static int found(struct argp_state *state, const char *option, const char *text, int number)
{
    if (number < 0)
        argp_error(state, "%s: found '%s'; allowed: what --help lists", option, text);
    return number;
}

static void check_all(struct argp_state *state, struct arguments *arguments)
{
    struct teardown_options *bench = &arguments->bench;
    if (!arguments->is_named)
        argp_error(state, "what to measure is needed: teardown");
    if (arguments->direct == (bench->target.length != 0))
        argp_error(state, "--target, or else --direct, is needed");
    if (bench->backend.length == 0 && !arguments->direct)
        argp_error(state, "--backend-listen is needed");
    if (bench->backend.length == 0)
        bench->backend = listen_of(state, "127.0.0.1:0");
    uint64_t count = arguments->duration_ms * bench->rate / 1000;
    if (count > CONNECTIONS_MAX)
        argp_error(state, "--duration: that would be %llu connections; allowed: %d",
                   (unsigned long long)count, CONNECTIONS_MAX);
    if (count > 0)
        bench->connections = (uint32_t)count;
    if (bench->leak != TEARDOWN_HEALTHY && bench->closer != TEARDOWN_CLIENT)
        argp_error(state, "--leak: a backend that leaks does not close; --who-closes must be client");
    if (!arguments->has_close)
        bench->half_close = bench->leak == TEARDOWN_HEALTHY;
}

static error_t parse_load(int key, char *text, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    struct teardown_options *bench = &arguments->bench;
    switch (key) {
    case 'n':
        bench->connections = (uint32_t)argument_number(state, "--connections", text, 1, CONNECTIONS_MAX);
        return 0;
    case 'r':
        bench->rate = (uint32_t)argument_number(state, "--rate", text, 1, RATE_MAX);
        return 0;
    case OPTION_DURATION:
        arguments->duration_ms = time_of(state, "--duration", text);
        return 0;
    case OPTION_WATCH:
        bench->watch_ms = time_of(state, "--watch", text);
        return 0;
    case OPTION_WHO:
        bench->closer = (enum teardown_closer)found(state, "--who-closes", text, teardown_closer_find(text));
        return 0;
    case OPTION_LEAK:
        bench->leak = (enum teardown_leak)found(state, "--leak", text, teardown_leak_find(text));
        return 0;
    case OPTION_CLIENT_CLOSE:
        bench->half_close = !second_of(state, "--client-close", text, "half", "full");
        arguments->has_close = true;
        return 0;
    case OPTION_REQUEST:
        bench->request_bytes = size_of(state, "--request", text);
        return 0;
    case OPTION_RESPONSE:
        bench->response_bytes = size_of(state, "--response", text);
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
        arguments->bench.target = target_of(state, text);
        arguments->target_text = text;
        return 0;
    case 'b':
        arguments->bench.backend = listen_of(state, text);
        return 0;
    case 'm':
        arguments->bench.http = second_of(state, "--mode", text, "tcp", "http");
        return 0;
    case OPTION_DIRECT:
        arguments->direct = true;
        return 0;
    case OPTION_NO_DIRECT:
        arguments->no_direct = true;
        return 0;
    case 'j':
        arguments->json = true;
        return 0;
    case OPTION_PLOT:
        arguments->plot = text;
        return 0;
    case ARGP_KEY_INIT:
        teardown_options_default(&arguments->bench);
        return 0;
    case ARGP_KEY_ARG:
        if (arguments->is_named || strcmp(text, "teardown") != 0)
            argp_error(state, "found '%s'; allowed: teardown", text);
        arguments->is_named = true;
        return 0;
    case ARGP_KEY_END:
        check_all(state, arguments);
        return 0;
    default:
        return parse_load(key, text, state);
    }
}

/* The leaks, from their table, behind the options. argp frees what this returns. */
static char *list_leaks(int key, const char *text, void *input)
{
    (void)input;
    if (key != ARGP_KEY_HELP_POST_DOC)
        return text ? strdup(text) : NULL;
    char *list = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&list, &length);
    if (!out)
        return NULL;
    fprintf(out, "%s\n\nLeaks:\n", text);
    for (enum teardown_leak leak = 0; leak < TEARDOWN_LEAK_COUNT; leak++)
        fprintf(out, "  %-12s %s\n", teardown_leak_name(leak), teardown_leak_help(leak));
    fclose(out);
    return list;
}

static const struct argp parser = {
    .options = options,
    .parser = parse_option,
    .args_doc = "teardown",
    .doc = "Measures how a proxy, any proxy, ends connections: plays its clients and its backend.\v"
           "Start the proxy so that it connects to the address of --backend-listen, then run this. FIN relay "
           "is from "
           "the close at one end to EOF at the other; leak residency from the client's FIN until the kernel "
           "has the "
           "backend's socket no more in CLOSE_WAIT; harm counts healthy exchanges that saw a reset, a cut or "
           "a wrong "
           "byte.\n\n"
           "Exit status: 0 measured; 1 failed; 2 wrong usage.",
    .help_filter = list_leaks,
};

/* Both ends of every connection are here. */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* The same load without a proxy, with a healthy backend: a leak without a proxy only leaks. */
static int run_direct(const struct teardown_options *proxied, struct teardown_report *report)
{
    struct teardown_options direct = *proxied;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    direct.target.length = 0;
    direct.leak = TEARDOWN_HEALTHY;
    direct.backend.length = sizeof any;
    memset(&direct.backend.address, 0, sizeof direct.backend.address);
    memcpy(&direct.backend.address, &any, sizeof any);
    if (direct.connections > DIRECT_CONNECTIONS)
        direct.connections = DIRECT_CONNECTIONS;
    return teardown_run(&direct, report);
}

static int picture_write(const struct arguments *arguments, const struct teardown_report *report)
{
    char title[200];
    FILE *out = fopen(arguments->plot, "w");
    if (!out) {
        fprintf(stderr, "lastack bench: cannot write %s: %s\n", arguments->plot, strerror(errno));
        return -errno;
    }
    snprintf(title, sizeof title, "%s, mode %s, backend %s",
             arguments->target_text ? arguments->target_text : "direct",
             arguments->bench.http ? "http" : "tcp", teardown_leak_name(arguments->bench.leak));
    plot_write(report, title, out);
    return fclose(out) == 0 ? 0 : -errno;
}

static int measure(const struct arguments *arguments, struct teardown_report *report,
                   struct teardown_report *direct)
{
    bool both = !arguments->direct && !arguments->no_direct;
    int error = both ? run_direct(&arguments->bench, direct) : 0;
    if (!error)
        error = teardown_run(&arguments->bench, report);
    if (error) {
        fprintf(stderr, "lastack bench: cannot listen where the backend is to be: %s\n", strerror(-error));
        return error;
    }
    if (arguments->json)
        error = teardown_print_json(&arguments->bench, report, both ? direct : NULL, stdout);
    else
        teardown_print_text(&arguments->bench, report, both ? direct : NULL, stdout);
    if (!error && arguments->plot)
        error = picture_write(arguments, report);
    return error;
}

int command_bench(int argc, char **argv)
{
    struct arguments arguments = {0};
    static struct teardown_report report, direct; /* large */
    argument_parse(&parser, argc, argv, &arguments);
    raise_descriptors();
    int error = measure(&arguments, &report, &direct);
    teardown_free(&report);
    teardown_free(&direct);
    return error ? EXIT_FOUND : EXIT_FINE;
}
