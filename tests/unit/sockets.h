#ifndef TESTS_UNIT_SOCKETS_H
#define TESTS_UNIT_SOCKETS_H

/* Socket pairs for tests, and waiting for what the kernel says instead of sleeping. Every wait is bounded,
 * and a test that runs into the bound fails. */

#include "tests/unit/cmocka.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { WAIT_MS = 20000 };

static inline void pause_ms(long ms)
{
    struct timespec pause = {.tv_nsec = ms * 1000000};
    nanosleep(&pause, NULL);
}

/* Until `condition(context)`, looked at every millisecond. */
static inline void wait_until(bool (*condition)(void *), void *context)
{
    for (int waited_ms = 0; !condition(context); waited_ms++) {
        assert_true(waited_ms < WAIT_MS);
        pause_ms(1);
    }
}

static inline void wait_for(int fd, short events)
{
    struct pollfd waited = {.fd = fd, .events = events};
    assert_int_equal(poll(&waited, 1, WAIT_MS), 1);
    assert_true(waited.revents & (events | POLLHUP | POLLERR));
}

static inline int bytes_queued(int fd)
{
    int bytes = 0;
    assert_int_equal(ioctl(fd, FIONREAD, &bytes), 0);
    return bytes;
}

static inline void wait_queued(int fd, int bytes)
{
    for (int waited_ms = 0; bytes_queued(fd) < bytes; waited_ms++) {
        assert_true(waited_ms < WAIT_MS);
        pause_ms(1);
    }
}

static inline void set_buffer(int fd, int option, int bytes)
{
    assert_int_equal(setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof bytes), 0);
}

/* Non-blocking from then on. connect(2) must not wait: when the proxy has accepted the client and reset it by
 * the time that the waiting thread runs, connect(2) says so (ECONNRESET), and the next read does not. */
static inline void connect_to(int fd, const struct sockaddr *address, socklen_t length)
{
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    if (connect(fd, address, length))
        assert_int_equal(errno, EINPROGRESS);
    wait_for(fd, POLLOUT);
}

/* A socket that listens on 127.0.0.1; *address is where. */
static inline int listen_on_loopback(struct sockaddr_in *address)
{
    socklen_t length = sizeof *address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)address, sizeof *address), 0);
    assert_int_equal(listen(fd, 4096), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)address, &length), 0);
    return fd;
}

/* Two ends of a TCP connection, non-blocking. `buffer` > 0: both have buffers of about so many bytes. */
static inline void tcp_pair(int fds[2], int buffer)
{
    struct sockaddr_in address;
    int listener = listen_on_loopback(&address);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fds[0] >= 0);
    for (int i = 0; buffer > 0 && i < 2; i++) {
        set_buffer(i ? listener : fds[0], SO_RCVBUF, buffer);
        set_buffer(i ? listener : fds[0], SO_SNDBUF, buffer);
    }
    assert_int_equal(connect(fds[0], (struct sockaddr *)&address, sizeof address), 0);
    fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fds[1] >= 0);
    assert_int_equal(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    close(listener);
}

static inline void unix_pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

/* Without it a test waits for delayed acknowledgements; a unix socket has no need. */
static inline void send_at_once(int fd)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* RST. */
static inline void reset_close(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    close(fd);
}

static inline void send_text(int fd, const char *text, int flags)
{
    size_t size = strlen(text);
    assert_int_equal(send(fd, text, size, flags | MSG_NOSIGNAL), size);
}

/* Reads so many bytes, waiting for them. */
static inline void receive_exactly(int fd, char *bytes, size_t size)
{
    while (size > 0) {
        wait_for(fd, POLLIN);
        ssize_t n = recv(fd, bytes, size, MSG_DONTWAIT);
        assert_true(n > 0);
        bytes += n;
        size -= (size_t)n;
    }
}

static inline void receive_text(int fd, const char *expected)
{
    char text[256] = "";
    receive_exactly(fd, text, strlen(expected));
    assert_string_equal(text, expected);
}

/* The next read says `end`: 0 for EOF or a positive errno. */
static inline void receive_end(int fd, int end)
{
    char byte;
    wait_for(fd, POLLIN);
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    assert_int_equal(n < 0 ? errno : n > 0 ? -1 : 0, end);
}

/* The descriptors that this process has open. */
static inline int count_descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder));)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count - 1; /* the folder's own */
}

#endif
