#include "bench/leak.h"
#include "conf/value.h"
#include "proxy/command/argument.h"
#include "proxy/command/command.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { OPTION_HTTP = 256, OPTION_BACKLOG, OPTION_RESPONSE, OPTION_INTERVAL };

static const struct argp_option options[] = {
    {"listen", 'l', "ADDRESS", 0, "Where to listen: HOST:PORT or [HOST]:PORT (127.0.0.1:9000)", 0},
    {"mode", 'm', "MODE", 0, "How to leak, see below (never-close)", 0},
    {"http", OPTION_HTTP, NULL, 0, "Answer HTTP/1 requests instead of echoing bytes", 0},
    {"response", OPTION_RESPONSE, "SIZE", 0, "With --http: the body of an answer (6B)", 0},
    {"interval", OPTION_INTERVAL, "DURATION", 0, "In mode trickle: the time from byte to byte (1s)", 0},
    {"backlog", OPTION_BACKLOG, "NUMBER", 0, "Of the listening socket (4096)", 0},
    {0},
};

enum { BACKLOG_MAX = 65535, INTERVAL_MAX_MS = 3600 * 1000 };

static struct sockaddr_storage listen_address(struct argp_state *state, const char *text)
{
    struct conf_address address;
    const char *wrong = value_listen(text, &address);
    if (!wrong && address.address.ss_family == AF_UNIX)
        wrong = "only TCP leaks";
    if (wrong)
        argp_error(state, "--listen: found '%s'; allowed: HOST:PORT or [HOST]:PORT (%s)", text, wrong);
    return address.address;
}

static enum leak_mode mode(struct argp_state *state, const char *text)
{
    int found = leak_mode_find(text);
    if (found < 0)
        argp_error(state, "--mode: found '%s'; allowed: the modes that --help lists", text);
    return (enum leak_mode)found;
}

static uint64_t response_bytes(struct argp_state *state, const char *text)
{
    uint64_t bytes = 0;
    const char *wrong = value_size(text, &bytes);
    if (wrong)
        argp_error(state, "--response: found '%s'; allowed: a size such as 16KiB (%s)", text, wrong);
    return bytes;
}

static uint64_t interval_ms(struct argp_state *state, const char *text)
{
    uint64_t ms = argument_duration(state, "--interval", text);
    if (ms == 0 || ms > INTERVAL_MAX_MS)
        argp_error(state, "--interval: found '%s'; allowed: 1ms to 1h", text);
    return ms;
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct leak_options *leak = state->input;
    switch (key) {
    case 'l':
        leak->address = listen_address(state, argument);
        return 0;
    case 'm':
        leak->mode = mode(state, argument);
        return 0;
    case OPTION_HTTP:
        leak->http = true;
        return 0;
    case OPTION_RESPONSE:
        leak->response_bytes = response_bytes(state, argument);
        return 0;
    case OPTION_INTERVAL:
        leak->trickle_ms = interval_ms(state, argument);
        return 0;
    case OPTION_BACKLOG:
        leak->backlog = (int)argument_number(state, "--backlog", argument, 0, BACKLOG_MAX);
        return 0;
    case ARGP_KEY_INIT:
        leak_options_default(leak);
        leak->address = listen_address(state, "127.0.0.1:9000");
        return 0;
    case ARGP_KEY_ARG:
        argument_none(state, argument);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* The modes, from their table, behind the options. argp frees what this returns. */
static char *list_modes(int key, const char *text, void *input)
{
    (void)input;
    if (key != ARGP_KEY_HELP_POST_DOC)
        return text ? strdup(text) : NULL;
    char *list = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&list, &length);
    if (!out)
        return NULL;
    fprintf(out, "Modes:\n");
    for (enum leak_mode mode = 0; mode < LEAK_MODE_COUNT; mode++)
        fprintf(out, "  %-12s %s\n", leak_mode_name(mode), leak_mode_help(mode));
    fclose(out);
    return list;
}

static const struct argp parser = {
    .options = options,
    .parser = parse_option,
    .doc = "Serves as a backend that leaks connections on purpose, one scenario of real leaks a mode.\v",
    .help_filter = list_modes,
};

static void address_text(const struct sockaddr_storage *of, char text[VALUE_ADDRESS_TEXT])
{
    const struct conf_address address = {.length = sizeof *of, .address = *of};
    value_address_text(&address, text);
}

static void announce(const struct leak_backend *backend, enum leak_mode mode)
{
    struct sockaddr_storage address;
    char text[VALUE_ADDRESS_TEXT];
    memcpy(&address, leak_address(backend), sizeof address);
    address_text(&address, text);
    printf("lastack leak: listening on %s mode %s\n", text, leak_mode_name(mode));
    fflush(stdout);
}

/* Waits for a signal to end, or for the server to fail; EXIT_FINE for the former. */
static int wait_for_end(const struct leak_backend *backend, const sigset_t *signals)
{
    for (;;) {
        int signal = sigwaitinfo(signals, NULL);
        if (signal == SIGTERM || signal == SIGINT)
            return EXIT_FINE;
        siginfo_t ended = {0};
        /* WNOWAIT leaves it to leak_stop(); the child's being stopped is no end. */
        if (signal == SIGCHLD &&
            waitid(P_PID, (id_t)leak_server(backend), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            ended.si_pid != 0) {
            fprintf(stderr, "lastack leak: the server ended\n");
            return EXIT_FOUND;
        }
    }
}

int command_leak(int argc, char **argv)
{
    struct leak_options leak_options;
    argument_parse(&parser, argc, argv, &leak_options);

    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* in the children too: SIGINT of a terminal is for the parent */
    struct leak_backend *backend = NULL;
    int error = leak_start(&backend, &leak_options);
    if (error < 0) {
        char text[VALUE_ADDRESS_TEXT];
        address_text(&leak_options.address, text);
        fprintf(stderr, "lastack leak: cannot listen on %s: %s\n", text, strerror(-error));
        return EXIT_FOUND;
    }
    announce(backend, leak_options.mode);
    int status = wait_for_end(backend, &signals);
    leak_stop(backend);
    return status;
}
