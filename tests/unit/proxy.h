#ifndef TESTS_UNIT_PROXY_H
#define TESTS_UNIT_PROXY_H

/* A data plane within the test's process, between its own clients and its own backend, made from a
 * configuration written by hand: one frontend, one backend. */

#include "reaper/policy/deadline.h"
#include "tests/unit/cmocka.h"

#include "proxy/worker/plane.h"
#include "tests/unit/sockets.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

struct proxy {
    struct conf conf;
    struct conf_frontend frontend;
    struct conf_listen listen;
    struct conf_backend backend;
    struct conf_server server;
    struct log *log;
    struct plane *plane;
    int origin; /* the backend's listening socket; -1: none */
};

static inline struct conf_address conf_address_of(const struct sockaddr_in *in)
{
    struct conf_address address = {.length = sizeof *in};
    memcpy(&address.address, in, sizeof *in);
    return address;
}

static inline struct conf_address conf_address_of_path(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct conf_address address = {.length = sizeof un};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    memcpy(&address.address, &un, sizeof un);
    return address;
}

/* Everything as by default, one worker, an origin that listens; change what the test needs, then
 * proxy_start(). */
static inline void proxy_prepare(struct proxy *proxy)
{
    (void)signal(SIGPIPE, SIG_IGN); /* as plane.h asks for */
    static char name[] = "main", log_target[] = "/dev/null", text[] = "127.0.0.1:0";
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, origin;
    *proxy = (struct proxy){.origin = listen_on_loopback(&origin)};
    proxy->listen = (struct conf_listen){.text = text, .address = conf_address_of(&any)};
    proxy->server = (struct conf_server){.text = text, .address = conf_address_of(&origin)};
    proxy->frontend = (struct conf_frontend){
        .name = name,
        .listen = &proxy->listen,
        .listen_count = 1,
        .tcp = {.nodelay = true, .keepalive_ms = DEADLINE_OFF, .user_timeout_ms = DEADLINE_OFF},
    };
    deadlines_default(&proxy->frontend.deadlines);
    proxy->backend = (struct conf_backend){
        .name = name,
        .servers = &proxy->server,
        .server_count = 1,
        .resolve_interval_ms = DEADLINE_OFF,
        .tcp = proxy->frontend.tcp,
    };
    proxy->conf = (struct conf){
        .workers = 1,
        .drain_ms = 30000,
        .log = {.level = CONF_LOG_DEBUG, .normal = true, .target = log_target},
        .frontends = &proxy->frontend,
        .frontend_count = 1,
        .backends = &proxy->backend,
        .backend_count = 1,
    };
}

/* The same in mode http, without a field of our own in what goes on. */
static inline void proxy_prepare_http(struct proxy *proxy)
{
    proxy_prepare(proxy);
    proxy->frontend.mode = CONF_MODE_HTTP;
    proxy->frontend.http = (struct conf_http){
        .forwarded = CONF_FORWARDED_OFF, .max_head = 65536, .max_request_line = 8192, .max_fields = 100};
    /* What waits for these fails the test. */
    proxy->frontend.deadlines.after_ms[DEADLINE_GRACE] = 10 * WAIT_MS;
    proxy->frontend.deadlines.after_ms[DEADLINE_MESSAGE_GRACE] = 10 * WAIT_MS;
}

static inline void proxy_start(struct proxy *proxy)
{
    const char *where = NULL;
    assert_int_equal(log_open(&proxy->conf.log, &proxy->log), 0);
    int error = plane_start(&proxy->conf, proxy->log, NULL, &proxy->plane, &where);
    if (error)
        fail_msg("plane_start: %s: %s", where, uv_strerror(error));
}

/* After plane_drain() or plane_abort(), or with neither, then aborted. */
static inline void proxy_free(struct proxy *proxy)
{
    plane_abort(proxy->plane);
    plane_free(proxy->plane);
    log_close(proxy->log);
    if (proxy->origin >= 0)
        close(proxy->origin);
}

/* Connects to the proxy; non-blocking from then on. The proxy may have ended it already. */
static inline int proxy_client(const struct proxy *proxy)
{
    const struct conf_address *address = plane_address(proxy->plane, 0, 0);
    int fd = socket(address->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    connect_to(fd, (const struct sockaddr *)&address->address, address->length);
    send_at_once(fd);
    return fd;
}

/* The next connection that the proxy makes to the origin, non-blocking. */
static inline int proxy_origin(const struct proxy *proxy)
{
    wait_for(proxy->origin, POLLIN);
    int fd = accept4(proxy->origin, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fd >= 0);
    send_at_once(fd);
    return fd;
}

/* A session: fds[0] the client's end, fds[1] the backend's. Only with no other connection under way. */
static inline void proxy_session(const struct proxy *proxy, int fds[2])
{
    fds[0] = proxy_client(proxy);
    fds[1] = proxy_origin(proxy);
}

static inline uint64_t proxy_accepted(const struct proxy *proxy)
{
    uint64_t count = 0;
    const struct counters *counters;
    for (unsigned w = 0; (counters = plane_counters(proxy->plane, w)); w++)
        count += counter_read(&counters->accepted);
    return count;
}

/* Sessions that ended with this reason; REASON_COUNT: with any. */
static inline uint64_t proxy_ended(const struct proxy *proxy, enum reason reason)
{
    uint64_t count = 0;
    const struct counters *counters;
    for (unsigned w = 0; (counters = plane_counters(proxy->plane, w)); w++)
        for (enum reason r = 0; r < REASON_COUNT; r++)
            count += r == reason || reason == REASON_COUNT ? counter_read(&counters->ended[r]) : 0;
    return count;
}

static inline void proxy_wait_ended(const struct proxy *proxy, enum reason reason, uint64_t count)
{
    for (int waited_ms = 0; proxy_ended(proxy, reason) < count; waited_ms++) {
        if (waited_ms >= WAIT_MS)
            for (enum reason r = 0; r < REASON_COUNT; r++)
                print_message("%s: %llu\n", reason_name(r), (unsigned long long)proxy_ended(proxy, r));
        assert_true(waited_ms < WAIT_MS);
        pause_ms(1);
    }
    assert_int_equal(proxy_ended(proxy, reason), count);
}

/* A session with a word each way that ends in order. */
static inline void proxy_relay_one(const struct proxy *proxy)
{
    int fds[2];
    uint64_t closed = proxy_ended(proxy, REASON_CLOSED);
    proxy_session(proxy, fds);
    send_text(fds[0], "ping", 0);
    receive_text(fds[1], "ping");
    send_text(fds[1], "pong", 0);
    receive_text(fds[0], "pong");
    close(fds[0]);
    close(fds[1]);
    proxy_wait_ended(proxy, REASON_CLOSED, closed + 1);
}

static inline bool is_connected_to(int fd, int peer)
{
    struct sockaddr_in remote = {0}, local = {0};
    socklen_t length = sizeof remote;
    if (getpeername(fd, (struct sockaddr *)&remote, &length) || remote.sin_family != AF_INET)
        return false;
    length = sizeof local;
    assert_int_equal(getsockname(peer, (struct sockaddr *)&local, &length), 0);
    return remote.sin_port == local.sin_port;
}

/* The proxy's own descriptor of the connection to `peer`. */
static inline int find_leg(int peer)
{
    int found = -1;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        int fd = (int)strtol(entry->d_name, NULL, 10);
        if (entry->d_name[0] != '.' && is_connected_to(fd, peer))
            found = fd;
    }
    closedir(folder);
    return found;
}

#endif
