#include "bench/leak.h"
#include "conf/load.h"
#include "conf/value.h"
#include "proxy/command/argument.h"
#include "proxy/command/command.h"
#include "proxy/command/process.h"
#include "proxy/shared/log.h"
#include "proxy/worker/plane.h"
#include "reaper/error.h"
#include "reaper/kernel/netlink.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* The same service twice, one that never closes, and the same clients:
 *
 *   clients ------------------> service      LANE_WITHOUT
 *   clients ----> lastack ----> service      LANE_WITH
 *
 * Each second the kernel is asked how many of either service's sockets are in CLOSE_WAIT. When the clients
 * have left, one count stays and the other falls to nothing. */
enum lane_name { LANE_WITHOUT, LANE_WITH, LANE_COUNT };

enum {
    HALF_CLOSE_S = 2,
    QUIET_S = HALF_CLOSE_S + 2, /* after the last client, within the duration */
    LATE_S = 10,                /* what a busy machine gets on top, if it needs it */
    CLIENT_TIMEOUT_S = 5,
    BAR_COLUMNS = 24,
};

struct lane {
    struct leak_backend *service;
    struct conf_address service_address;
    struct conf_address clients_connect_to;
    uint32_t answered;
    uint32_t close_wait;
};

struct demo {
    uint64_t duration_ms;
    uint64_t clients_a_second;
    struct lane lanes[LANE_COUNT];
    uint32_t clients; /* that have come and gone, in each lane */
    struct conf *conf;
    struct log *log;
    struct plane *plane;
    struct netlink *netlink;
};

/* ---- a client ----------------------------------------------------------------------------------------- */

static bool converse(int fd)
{
    static const char request[] = "How do you do?";
    char answer[sizeof request];
    size_t length = 0;
    if (send(fd, request, sizeof request, MSG_NOSIGNAL) != sizeof request)
        return false;
    while (length < sizeof answer) {
        ssize_t received = recv(fd, answer + length, sizeof answer - length, 0);
        if (received <= 0)
            return false;
        length += (size_t)received;
    }
    return memcmp(answer, request, sizeof request) == 0;
}

/* Connects, asks, waits for the answer and closes. Whether all of it came. */
static bool client_visit(const struct conf_address *address)
{
    struct timeval timeout = {.tv_sec = CLIENT_TIMEOUT_S};
    int fd = socket(address->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    bool fine = setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0 &&
                setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout) == 0 &&
                connect(fd, (const struct sockaddr *)&address->address, address->length) == 0 && converse(fd);
    close(fd);
    return fine;
}

/* ---- setting up --------------------------------------------------------------------------------------- */

static int service_start(struct lane *lane)
{
    struct leak_options options;
    struct conf_address any;
    leak_options_default(&options);
    (void)value_listen("127.0.0.1:0", &any);
    options.address = any.address;
    int error = leak_start(&lane->service, &options);
    if (error < 0)
        return error;
    memcpy(&lane->service_address.address, leak_address(lane->service), sizeof lane->service_address.address);
    lane->service_address.length = any.length;
    return 0;
}

static int proxy_configure(struct demo *demo)
{
    char service[VALUE_ADDRESS_TEXT], text[512];
    value_address_text(&demo->lanes[LANE_WITH].service_address, service);
    int length = snprintf(text, sizeof text,
                          "log: {level: error}\n"
                          "frontends:\n"
                          "  - {name: demo, listen: ['127.0.0.1:0'], backend: service,"
                          " deadlines: {half_close: %ds}}\n"
                          "backends:\n"
                          "  - {name: service, servers: ['%s']}\n",
                          HALF_CLOSE_S, service);
    struct conf_source no_flags = {0};
    struct findings findings = {0};
    int error = conf_load_bytes("demo", text, (size_t)length, &no_flags, &demo->conf, &findings);
    findings_print(&findings, stderr);
    findings_free(&findings);
    return error;
}

static int proxy_start(struct demo *demo, const char **where)
{
    *where = "configuration";
    int error = proxy_configure(demo);
    if (error)
        return error;
    *where = "log";
    error = log_open(&demo->conf->log, &demo->log);
    if (error)
        return error;
    error = plane_start(demo->conf, demo->log, NULL, &demo->plane, where);
    if (error)
        return error;
    demo->lanes[LANE_WITH].clients_connect_to = *plane_address(demo->plane, 0, 0);
    return 0;
}

/* The services come first: they fork, which wants no other threads. */
static int demo_start(struct demo *demo, const char **where)
{
    *where = "service";
    for (enum lane_name lane = 0; lane < LANE_COUNT; lane++) {
        int error = service_start(&demo->lanes[lane]);
        if (error)
            return error;
    }
    demo->lanes[LANE_WITHOUT].clients_connect_to = demo->lanes[LANE_WITHOUT].service_address;
    *where = "sock_diag";
    int error = netlink_open(&demo->netlink);
    return error ? error : proxy_start(demo, where);
}

static void demo_stop(struct demo *demo)
{
    if (demo->plane) {
        plane_abort(demo->plane);
        (void)plane_free(demo->plane); /* it has no names to look up */
    }
    if (demo->log)
        log_close(demo->log);
    conf_free(demo->conf);
    netlink_close(demo->netlink);
    for (enum lane_name lane = 0; lane < LANE_COUNT; lane++)
        if (demo->lanes[lane].service)
            leak_stop(demo->lanes[lane].service);
}

/* ---- what is shown ------------------------------------------------------------------------------------ */

static int count_close_wait(struct demo *demo)
{
    for (enum lane_name name = 0; name < LANE_COUNT; name++) {
        struct lane *lane = &demo->lanes[name];
        struct netlink_counts counts;
        uint16_t port = ntohs(((const struct sockaddr_in *)&lane->service_address.address)->sin_port);
        int error = netlink_count(demo->netlink, port, &counts);
        if (error)
            return error;
        lane->close_wait = counts.of[DIAG_CLOSE_WAIT];
    }
    return 0;
}

static void print_introduction(const struct demo *demo, uint64_t clients_s)
{
    printf("A service that never closes a connection. For %llu seconds %llu clients a second\n"
           "come, ask, get their answer and leave. Each second the kernel is asked how many\n"
           "of the service's sockets are in CLOSE_WAIT: closed by the client, and not by\n"
           "the service.\n\n"
           "        %-*s with lastack before it,\n"
           "second  %-*s half_close %ds\n",
           (unsigned long long)clients_s, (unsigned long long)demo->clients_a_second, BAR_COLUMNS + 8,
           "clients talk to", BAR_COLUMNS + 8, "the service itself", HALF_CLOSE_S);
}

/* A count and a bar of up to BAR_COLUMNS, of which `scale` is the whole. */
static void print_count(uint64_t count, uint64_t scale, int width)
{
    static const char bar[] = "########################";
    _Static_assert(sizeof bar - 1 == BAR_COLUMNS, "a full bar");
    assert(scale > 0);
    uint64_t columns = (count * BAR_COLUMNS + scale - 1) / scale;
    int length = columns < BAR_COLUMNS ? (int)columns : BAR_COLUMNS;
    printf("%7llu%s%-*.*s", (unsigned long long)count, length > 0 ? " " : "", width, length, bar);
}

static void print_second(const struct demo *demo, unsigned second, uint64_t scale)
{
    printf("%6u", second);
    print_count(demo->lanes[LANE_WITHOUT].close_wait, scale, BAR_COLUMNS + 1);
    print_count(demo->lanes[LANE_WITH].close_wait, scale, 0);
    printf("\n");
    fflush(stdout);
}

/* Whether the demo showed what it is to show. */
static bool print_verdict(const struct demo *demo)
{
    const struct lane *without = &demo->lanes[LANE_WITHOUT], *with = &demo->lanes[LANE_WITH];
    printf("\n%u clients came and left on each side. %u got their whole answer without\n"
           "lastack, %u with it.\n\n",
           demo->clients, without->answered, with->answered);
    printf("Without lastack %u sockets are left in CLOSE_WAIT. The kernel has no timer for\n"
           "that state: they stay until the service is restarted.\n\n",
           without->close_wait);
    printf("With lastack %u are left. It passed each client's FIN on, gave the service %d\n"
           "seconds, and reset what had not closed by then.\n\n",
           with->close_wait, HALF_CLOSE_S);
    printf("What it cannot do: the service still holds %llu dead descriptors, which only the\n"
           "service can close.\n\n",
           (unsigned long long)leak_counts(with->service).held);
    bool fine = without->close_wait > 0 && with->close_wait == 0 && with->answered == demo->clients;
    printf("%s\n", fine ? "Verdict: the leak is finished, and no client lost a byte."
                        : "Verdict: this did not go as it should; the counts above say where.");
    return fine;
}

/* ---- the course of it --------------------------------------------------------------------------------- */

static void sleep_until(const struct timespec *start, uint64_t ms)
{
    struct timespec at = {.tv_sec = start->tv_sec + (time_t)(ms / 1000),
                          .tv_nsec = start->tv_nsec + (long)(ms % 1000) * 1000000};
    if (at.tv_nsec >= 1000000000) {
        at.tv_nsec -= 1000000000;
        at.tv_sec++;
    }
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        ;
}

/* The clients of one second, evenly spread. */
static void clients_come(struct demo *demo, const struct timespec *start, unsigned second)
{
    for (uint64_t i = 0; i < demo->clients_a_second; i++) {
        sleep_until(start, (second - 1) * UINT64_C(1000) + i * 1000 / demo->clients_a_second);
        for (enum lane_name name = 0; name < LANE_COUNT; name++) {
            struct lane *lane = &demo->lanes[name];
            if (client_visit(&lane->clients_connect_to))
                lane->answered++;
        }
        demo->clients++;
    }
}

static int demo_show(struct demo *demo, bool *fine)
{
    uint64_t duration_s = demo->duration_ms / 1000, clients_s = duration_s - QUIET_S;
    struct timespec start;
    print_introduction(demo, clients_s);
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (unsigned second = 1; second <= duration_s + LATE_S; second++) {
        if (second <= clients_s)
            clients_come(demo, &start, second);
        sleep_until(&start, second * UINT64_C(1000));
        int error = count_close_wait(demo);
        if (error)
            return error;
        print_second(demo, second, clients_s * demo->clients_a_second);
        if (second >= duration_s && demo->lanes[LANE_WITH].close_wait == 0)
            break;
    }
    *fine = print_verdict(demo);
    return 0;
}

/* ---- the command line --------------------------------------------------------------------------------- */

enum {
    DURATION_MIN_MS = (QUIET_S + 1) * 1000,
    DURATION_MAX_MS = 600 * 1000,
    CLIENTS_MAX = 500,
    LEAKS_MAX = 8000
};

static const struct argp_option options[] = {
    {"duration", 'd', "DURATION", 0, "How long it takes (20s)", 0},
    {"clients", 'n', "NUMBER", 0, "That come in a second, on either side (20)", 0},
    {0},
};

static error_t parse_option(int key, char *argument, struct argp_state *state)
{
    struct demo *demo = state->input;
    switch (key) {
    case 'd':
        demo->duration_ms = argument_duration(state, "--duration", argument);
        if (demo->duration_ms < DURATION_MIN_MS || demo->duration_ms > DURATION_MAX_MS)
            argp_error(state, "--duration: found '%s'; allowed: 5s to 10m", argument);
        return 0;
    case 'n':
        demo->clients_a_second = argument_number(state, "--clients", argument, 1, CLIENTS_MAX);
        return 0;
    case ARGP_KEY_ARG:
        argument_none(state, argument);
        return 0;
    case ARGP_KEY_END:
        if (demo->clients_a_second * (demo->duration_ms / 1000) > LEAKS_MAX)
            argp_error(state, "--duration times --clients: found %ju leaks; allowed: %d",
                       (uintmax_t)(demo->clients_a_second * (demo->duration_ms / 1000)), LEAKS_MAX);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int command_demo(int argc, char **argv)
{
    static const struct argp parser = {
        .options = options,
        .parser = parse_option,
        .doc = "Shows a service that leaks, without lastack and with it, all inside this program. Listens on "
               "127.0.0.1 only, on ports that the kernel chooses.\v"
               "Exit status: 0 the leak was finished, 1 it was not or something failed, 2 wrong usage.",
    };
    struct demo demo = {.duration_ms = 20000, .clients_a_second = 20};
    argument_parse(&parser, argc, argv, &demo);
    if (!process_serves("lastack demo"))
        return EXIT_FOUND;

    const char *where = "";
    bool fine = false;
    int error = demo_start(&demo, &where);
    if (!error) {
        where = "sock_diag";
        error = demo_show(&demo, &fine);
    }
    if (error)
        fprintf(stderr, "lastack demo: %s: %s\n", where, error_text(error));
    demo_stop(&demo);
    return fine ? EXIT_FINE : EXIT_FOUND;
}
