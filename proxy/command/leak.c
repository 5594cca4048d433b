#include "proxy/command/command.h"

#include "bench/leak.h"
#include "conf/value.h"

#include <argp.h>
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

/* What is wrong with the argument of an option, or NULL once it is stored. */
static const char *set_listen(struct leak_options *leak, const char *text)
{
    struct conf_address address;
    const char *wrong = value_listen(text, &address);
    if (wrong)
        return wrong;
    if (address.address.ss_family == AF_UNIX)
        return "only TCP leaks";
    leak->address = address.address;
    return NULL;
}

static const char *set_mode(struct leak_options *leak, const char *text)
{
    int mode = leak_mode_find(text);
    if (mode < 0)
        return "there is no such mode; --help lists them";
    leak->mode = (enum leak_mode)mode;
    return NULL;
}

static const char *set_interval(struct leak_options *leak, const char *text)
{
    const char *wrong = value_duration(text, &leak->trickle_ms);
    if (wrong)
        return wrong;
    return leak->trickle_ms == 0 || leak->trickle_ms > INTERVAL_MAX_MS ? "allowed are 1ms to 1h" : NULL;
}

static const char *set_backlog(struct leak_options *leak, const char *text)
{
    uint64_t backlog = 0;
    const char *wrong = value_integer(text, &backlog);
    if (wrong)
        return wrong;
    if (backlog > BACKLOG_MAX)
        return "allowed are 0 to 65535";
    leak->backlog = (int)backlog;
    return NULL;
}

static const char *set_option(struct leak_options *leak, int key, const char *text)
{
    switch (key) {
    case 'l':
        return set_listen(leak, text);
    case 'm':
        return set_mode(leak, text);
    case OPTION_RESPONSE:
        return value_size(text, &leak->response_bytes);
    case OPTION_INTERVAL:
        return set_interval(leak, text);
    case OPTION_BACKLOG:
        return set_backlog(leak, text);
    default:
        leak->http = true;
        return NULL;
    }
}

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    for (const struct argp_option *option = options; option->name; option++) {
        if (option->key != key)
            continue;
        const char *wrong = set_option(state->input, key, argument);
        if (wrong)
            argp_error(state, "--%s: found '%s': %s", option->name, argument, wrong);
        return 0;
    }
    return ARGP_ERR_UNKNOWN;
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

static void announce(const struct leak_backend *backend, enum leak_mode mode)
{
    struct conf_address address = {.length = sizeof address.address};
    memcpy(&address.address, leak_address(backend), sizeof address.address);
    char text[VALUE_ADDRESS_TEXT];
    value_address_text(&address, text);
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
    leak_options_default(&leak_options);
    (void)set_listen(&leak_options, "127.0.0.1:9000");
    argp_err_exit_status = EXIT_USAGE;
    argp_parse(&parser, argc, argv, 0, NULL, &leak_options);

    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* in the children too: SIGINT of a terminal is for the parent */
    struct leak_backend *backend = NULL;
    int error = leak_start(&backend, &leak_options);
    if (error < 0) {
        fprintf(stderr, "lastack leak: cannot start: %s\n", strerror(-error));
        return EXIT_FOUND;
    }
    announce(backend, leak_options.mode);
    int status = wait_for_end(backend, &signals);
    leak_stop(backend);
    return status;
}
