#ifndef TESTS_KERNEL_FACT_H
#define TESTS_KERNEL_FACT_H

/* What a program that proves one fact about the kernel needs: a network namespace of its own, both ends
 * of a TCP connection, the kernel's row of a socket, and three ways to end.
 *
 *   fact_holds()    exit status 0   the kernel does what lastack is built on
 *   fact_fails()                1   it does not
 *   fact_untried()             77   it can't be tried here, and the sentence says why
 *
 * Each program prints one sentence. Nothing outside its namespace is touched. Every wait is for a
 * condition, at most FACT_WAIT_MS long. One thread. */

#include "reaper/kernel/netlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FACT_HOLDS = 0, FACT_FAILS = 1, FACT_UNTRIED = 77 };
enum { FACT_WAIT_MS = 20000 };

__attribute__((noreturn, format(printf, 3, 0))) static inline void
fact_end(int status, const char *before, const char *format, va_list arguments)
{
    printf("%s", before);
    vprintf(format, arguments);
    printf("\n");
    exit(status);
}

__attribute__((noreturn, format(printf, 1, 2))) static inline void fact_holds(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fact_end(FACT_HOLDS, "", format, arguments);
}

__attribute__((noreturn, format(printf, 1, 2))) static inline void fact_fails(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fact_end(FACT_FAILS, "Not so here: ", format, arguments);
}

__attribute__((noreturn, format(printf, 1, 2))) static inline void fact_untried(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fact_end(FACT_UNTRIED, "Can't be tried here: ", format, arguments);
}

/* What has to work before there is anything to prove. */
static inline int fact_need(int result, const char *what)
{
    if (result < 0)
        fact_untried("%s: %s", what, strerror(errno));
    return result;
}

static inline void fact_pause(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static inline uint64_t fact_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Until the condition holds; it is written out at the call and looked at every millisecond. */
#define FACT_WAIT(condition, ...)                                                                            \
    do {                                                                                                     \
        uint64_t fact_until_ms = fact_now_ms() + FACT_WAIT_MS;                                               \
        while (!(condition)) {                                                                               \
            if (fact_now_ms() > fact_until_ms)                                                               \
                fact_fails(__VA_ARGS__);                                                                     \
            fact_pause();                                                                                    \
        }                                                                                                    \
    } while (0)

static inline void fact_write(const char *path, const char *text)
{
    int fd = fact_need(open(path, O_WRONLY | O_CLOEXEC), path);
    fact_need((int)write(fd, text, strlen(text)), path);
    close(fd);
}

/* A network namespace with nothing but its loopback interface, which is up. */
static inline void fact_namespace(void)
{
    uid_t uid = getuid();
    gid_t gid = getgid();
    char map[64];
    if (uid == 0) {
        fact_need(unshare(CLONE_NEWNET), "a network namespace");
    } else {
        fact_need(unshare(CLONE_NEWUSER | CLONE_NEWNET), "a network namespace");
        fact_write("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "0 %u 1", (unsigned)uid);
        fact_write("/proc/self/uid_map", map);
        snprintf(map, sizeof map, "0 %u 1", (unsigned)gid);
        fact_write("/proc/self/gid_map", map);
    }
    int fd = fact_need(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "a socket");
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    fact_need(ioctl(fd, SIOCSIFFLAGS, &request), "the loopback interface");
    close(fd);
}

/* ---- a connection ---- */

struct fact_tcp {
    struct sockaddr_in address; /* of the listener */
    int listener, client, server;
};

static inline int fact_socket(void)
{
    return fact_need(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "a TCP socket");
}

static inline int fact_listen(struct sockaddr_in *address)
{
    socklen_t length = sizeof *address;
    int fd = fact_socket();
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    fact_need(bind(fd, (struct sockaddr *)address, sizeof *address), "bind");
    fact_need(listen(fd, 128), "listen");
    fact_need(getsockname(fd, (struct sockaddr *)address, &length), "getsockname");
    return fd;
}

static inline int fact_connect(const struct sockaddr_in *address)
{
    int fd = fact_socket();
    fact_need(connect(fd, (const struct sockaddr *)address, sizeof *address), "connect");
    return fd;
}

static inline int fact_accept(int listener)
{
    return fact_need(accept4(listener, NULL, NULL, SOCK_CLOEXEC), "accept");
}

static inline struct fact_tcp fact_tcp(void)
{
    struct fact_tcp tcp;
    tcp.listener = fact_listen(&tcp.address);
    tcp.client = fact_connect(&tcp.address);
    tcp.server = fact_accept(tcp.listener);
    return tcp;
}

static inline struct tcp_info fact_info(int fd)
{
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    fact_need(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length), "TCP_INFO");
    return info;
}

static inline bool fact_is(int fd, enum diag_state state)
{
    return fact_info(fd).tcpi_state == state;
}

/* Until the socket is in that state. */
static inline void fact_reach(int fd, enum diag_state state)
{
    FACT_WAIT(fact_is(fd, state), "the socket does not come to %s, it is in %s", diag_state_name(state),
              diag_state_name(fact_info(fd).tcpi_state));
}

/* The client closes and is forgotten by this host's kernel; the server's socket leaks. An orphan in
 * FIN_WAIT_2 lives for tcp_fin_timeout, which is this namespace's own and set to a second. */
static inline void fact_set_fin_timeout(void)
{
    fact_write("/proc/sys/net/ipv4/tcp_fin_timeout", "1");
}

static inline void fact_abort(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    fact_need(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), "SO_LINGER");
    close(fd);
}

static inline void fact_option(int fd, int level, int option, int value, const char *name)
{
    fact_need(setsockopt(fd, level, option, &value, sizeof value), name);
}

/* ---- the kernel's rows ---- */

static inline struct netlink *fact_netlink(void)
{
    struct netlink *netlink;
    int error = netlink_open(&netlink);
    if (error)
        fact_untried("sock_diag: %s", strerror(-error));
    return netlink;
}

static inline struct diag_endpoint fact_endpoint(const struct sockaddr_in *address)
{
    struct diag_endpoint endpoint = {.host = {[10] = 0xff, [11] = 0xff}, .port = ntohs(address->sin_port)};
    memcpy(endpoint.host + 12, &address->sin_addr, 4);
    return endpoint;
}

/* What names this end of the connection, without its cookie. */
static inline struct diag_id fact_id(int fd)
{
    struct sockaddr_in local = {0}, remote = {0};
    socklen_t length = sizeof local;
    fact_need(getsockname(fd, (struct sockaddr *)&local, &length), "getsockname");
    length = sizeof remote;
    fact_need(getpeername(fd, (struct sockaddr *)&remote, &length), "getpeername");
    return (struct diag_id){.family = AF_INET,
                            .local = fact_endpoint(&local),
                            .remote = fact_endpoint(&remote),
                            .cookie = DIAG_NO_COOKIE};
}

/* The same of the other end. */
static inline struct diag_id fact_peer(struct diag_id id)
{
    struct diag_endpoint local = id.local;
    id.local = id.remote;
    id.remote = local;
    return id;
}

/* False: there is no such socket. */
static inline bool fact_row(struct netlink *netlink, const struct diag_id *id, struct diag_row *row)
{
    int error = netlink_lookup(netlink, id, row);
    if (error && error != -ENOENT)
        fact_untried("a look-up: %s", strerror(-error));
    return error == 0;
}

static inline struct diag_row fact_row_of(struct netlink *netlink, int fd)
{
    struct diag_id id = fact_id(fd);
    struct diag_row row;
    if (!fact_row(netlink, &id, &row))
        fact_fails("an open socket has no row");
    return row;
}

#endif
