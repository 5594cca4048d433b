#include "proxy/command/command.h"

#include "bench/leak.h"

#include <argp.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { OPTION_HTTP = 256, OPTION_BACKLOG, OPTION_RESPONSE_BYTES, OPTION_TRICKLE_MS };

static const struct argp_option options[] = {
    {"listen", 'l', "ADDRESS:PORT", 0, "where to listen; port 0: any (default 127.0.0.1:9000)", 0},
    {"mode", 'm', "MODE", 0, "how to leak, see below (default never-close)", 0},
    {"http", OPTION_HTTP, NULL, 0, "answer HTTP/1 requests instead of echoing bytes", 0},
    {"backlog", OPTION_BACKLOG, "N", 0, "backlog of the listening socket (default 4096)", 0},
    {"response-bytes", OPTION_RESPONSE_BYTES, "N", 0, "body of an HTTP answer (default 6)", 0},
    {"trickle-ms", OPTION_TRICKLE_MS, "N", 0, "mode trickle: a byte every N milliseconds (default 1000)", 0},
    {0},
};

/* ADDRESS:PORT or [ADDRESS]:PORT, both numeric. 0 or -EINVAL. */
static int parse_listen(const char *text, struct sockaddr_storage *address)
{
    char host[INET6_ADDRSTRLEN + 2];
    const char *colon = strrchr(text, ':');
    if (!colon || (size_t)(colon - text) >= sizeof host)
        return -EINVAL;
    size_t length = (size_t)(colon - text);
    bool bracketed = length >= 2 && text[0] == '[' && colon[-1] == ']';
    memcpy(host, text + bracketed, length);
    host[length - 2 * (size_t)bracketed] = '\0';
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
                             .ai_family = bracketed ? AF_INET6 : AF_INET,
                             .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0)
        return -EINVAL;
    memcpy(address, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return 0;
}

static uint64_t parse_number(const char *name, const char *text, uint64_t min, uint64_t max,
                             struct argp_state *state)
{
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || number < min || number > max)
        argp_error(state, "--%s: found '%s', allowed are %llu to %llu", name, text, (unsigned long long)min,
                   (unsigned long long)max);
    return number;
}

static void parse_mode(const char *text, struct leak_options *leak, struct argp_state *state)
{
    int mode = leak_mode_find(text);
    if (mode < 0)
        argp_error(state, "--mode: there is no mode '%s'; the modes are in --help", text);
    else
        leak->mode = (enum leak_mode)mode;
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    struct leak_options *leak = state->input;
    switch (key) {
    case 'l':
        if (parse_listen(arg, &leak->address) < 0)
            argp_error(state, "--listen: found '%s', allowed is ADDRESS:PORT or [IPv6]:PORT, in numbers",
                       arg);
        return 0;
    case 'm':
        parse_mode(arg, leak, state);
        return 0;
    case OPTION_HTTP:
        leak->http = true;
        return 0;
    case OPTION_BACKLOG:
        leak->backlog = (int)parse_number("backlog", arg, 0, 65535, state);
        return 0;
    case OPTION_RESPONSE_BYTES:
        leak->response_bytes = parse_number("response-bytes", arg, 0, UINT64_C(1) << 40, state);
        return 0;
    case OPTION_TRICKLE_MS:
        leak->trickle_ms = parse_number("trickle-ms", arg, 1, 3600000, state);
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

static void announce(const struct leak *leak, const struct leak_options *leak_options)
{
    char host[INET6_ADDRSTRLEN], port[8];
    const struct sockaddr *address = leak_address(leak);
    getnameinfo(address, sizeof(struct sockaddr_storage), host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
    const char *shape[2] = {"", ""};
    if (address->sa_family == AF_INET6)
        shape[0] = "[", shape[1] = "]";
    printf("lastack leak: listening on %s%s%s:%s mode %s\n", shape[0], host, shape[1], port,
           leak_mode_name(leak_options->mode));
    fflush(stdout);
}

/* Waits for a signal to end, or for the server to fail; EXIT_FINE for the former. */
static int wait_for_end(const struct leak *leak, const sigset_t *signals)
{
    for (;;) {
        int signal = sigwaitinfo(signals, NULL);
        if (signal == SIGTERM || signal == SIGINT)
            return EXIT_FINE;
        siginfo_t ended = {0};
        /* WNOWAIT leaves it to leak_stop(); the child's being stopped is no end. */
        if (signal == SIGCHLD &&
            waitid(P_PID, (id_t)leak_server(leak), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
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
    parse_listen("127.0.0.1:9000", &leak_options.address);
    argp_err_exit_status = EXIT_USAGE;
    argp_parse(&parser, argc, argv, 0, NULL, &leak_options);

    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL); /* in the children too: SIGINT of a terminal is for the parent */
    struct leak *leak = NULL;
    int error = leak_start(&leak, &leak_options);
    if (error < 0) {
        fprintf(stderr, "lastack leak: cannot start: %s\n", strerror(-error));
        return EXIT_FOUND;
    }
    announce(leak, &leak_options);
    int status = wait_for_end(leak, &signals);
    leak_stop(leak);
    return status;
}
