#include "tests/unit/cmocka.h"

#include "proxy/socket/socket.h"
#include "tests/unit/sockets.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <sys/wait.h>

static const struct conf_tcp defaults = {
    .nodelay = true, .keepalive_ms = DEADLINE_OFF, .user_timeout_ms = DEADLINE_OFF};

static struct conf_address loopback(uint16_t port)
{
    struct sockaddr_in in = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
    struct conf_address address = {.length = sizeof in};
    memcpy(&address.address, &in, sizeof in);
    return address;
}

static struct conf_address loopback6(void)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct conf_address address = {.length = sizeof in6};
    memcpy(&address.address, &in6, sizeof in6);
    return address;
}

static struct conf_address path_address(const char *path)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct conf_address address = {.length = sizeof un};
    snprintf(un.sun_path, sizeof un.sun_path, "%s", path);
    memcpy(&address.address, &un, sizeof un);
    return address;
}

static int option_of(int fd, int level, int option)
{
    int value = -1;
    socklen_t length = sizeof value;
    assert_int_equal(getsockopt(fd, level, option, &value, &length), 0);
    return value;
}

static const char *text_of(const struct conf_address *address)
{
    static char text[SOCKET_TEXT];
    union socket_address peer;
    memcpy(peer.bytes, &address->address, sizeof peer.bytes);
    return socket_text(&peer, text);
}

static void addresses_have_texts(void **state)
{
    struct conf_address address = loopback(8080), address6 = loopback6(), path = path_address("/x");
    (void)state;
    ((struct sockaddr_in6 *)&address6.address)->sin6_port = htons(443);
    assert_string_equal(text_of(&address), "127.0.0.1:8080");
    assert_string_equal(text_of(&address6), "[::1]:443");
    assert_string_equal(text_of(&path), "unix");
}

/* Listens, connects to it and accepts; the listener is closed. */
static void connect_through(struct conf_address *address, const struct conf_tcp *tcp, int fds[2],
                            union socket_address *peer)
{
    int listener = socket_listen(address, tcp, SOCKET_ALONE);
    assert_true(listener >= 0);
    if (address->address.ss_family != AF_UNIX)
        assert_int_equal(socket_bound(listener, address), 0);
    assert_int_equal(socket_accept(listener, peer), -EAGAIN);
    fds[0] = socket_connect(address, tcp);
    assert_true(fds[0] >= 0);
    wait_for(listener, POLLIN);
    fds[1] = socket_accept(listener, peer);
    assert_true(fds[1] >= 0);
    wait_for(fds[0], POLLOUT);
    assert_int_equal(socket_error(fds[0]), 0);
    close(listener);
}

static void assert_owned(int fd)
{
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}

static void both_ends_of_a_connection_are_set_as_configured(void **state)
{
    struct conf_tcp tcp = {.nodelay = true,
                           .keepalive_ms = 7000,
                           .user_timeout_ms = 9000,
                           .receive_buffer = 100000,
                           .send_buffer = 50000};
    struct conf_address address = loopback(0);
    union socket_address peer;
    int fds[2];
    (void)state;
    connect_through(&address, &tcp, fds, &peer);
    for (int i = 0; i < 2; i++) {
        assert_owned(fds[i]);
        assert_true(option_of(fds[i], IPPROTO_TCP, TCP_NODELAY));
        assert_true(option_of(fds[i], SOL_SOCKET, SO_KEEPALIVE));
        assert_true(option_of(fds[i], SOL_SOCKET, SO_OOBINLINE));
        assert_int_equal(option_of(fds[i], IPPROTO_TCP, TCP_KEEPIDLE), 7);
        assert_int_equal(option_of(fds[i], IPPROTO_TCP, TCP_USER_TIMEOUT), 9000);
        assert_int_equal(option_of(fds[i], SOL_SOCKET, SO_RCVBUF), 100000);
        assert_int_equal(option_of(fds[i], IPPROTO_TCP, TCP_NOTSENT_LOWAT), 50000);
    }
    assert_int_equal(peer.family, AF_INET);
    close(fds[0]);
    close(fds[1]);
}

static void what_is_off_stays_off(void **state)
{
    struct conf_tcp tcp = {.keepalive_ms = DEADLINE_OFF, .user_timeout_ms = DEADLINE_OFF};
    struct conf_address address = loopback(0);
    union socket_address peer;
    int fds[2];
    (void)state;
    connect_through(&address, &tcp, fds, &peer);
    for (int i = 0; i < 2; i++) {
        assert_false(option_of(fds[i], IPPROTO_TCP, TCP_NODELAY));
        assert_false(option_of(fds[i], SOL_SOCKET, SO_KEEPALIVE));
        assert_int_equal(option_of(fds[i], IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
        close(fds[i]);
    }
}

/* ---- a port of the kernel's choice ---- */

enum { ONLY_PORT = 40000 };

/* A network namespace with loopback, in which connect() has one port to choose. False: not allowed. */
static bool enter_namespace_with_one_port(void)
{
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    if (unshare(CLONE_NEWNET) && unshare(CLONE_NEWUSER | CLONE_NEWNET))
        return false;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    FILE *range = fopen("/proc/sys/net/ipv4/ip_local_port_range", "we");
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &lo), 0);
    close(fd);
    assert_non_null(range);
    assert_true(fprintf(range, "%d %d\n", ONLY_PORT, ONLY_PORT) > 0);
    assert_int_equal(fclose(range), 0);
    return true;
}

static void connect_where_nobody_listens(void)
{
    const struct conf_tcp tcp = {.keepalive_ms = DEADLINE_OFF, .user_timeout_ms = DEADLINE_OFF};
    struct conf_address addresses[] = {loopback(ONLY_PORT), loopback6(), loopback(ONLY_PORT)};
    ((struct sockaddr_in6 *)&addresses[1].address)->sin6_port = htons(ONLY_PORT);
    ((struct sockaddr_in *)&addresses[2].address)->sin_addr.s_addr = htonl(INADDR_ANY);
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        assert_int_equal(socket_connect(&addresses[i], &tcp), -ECONNREFUSED);
        /* And the port is free: a service that starts again can have it. */
        int listener = socket_listen(&addresses[i], &tcp, SOCKET_ALONE);
        assert_true(listener >= 0);
        close(listener);
    }
    /* Another port of the same address is another matter. */
    struct conf_address other = loopback(ONLY_PORT - 1);
    int fd = socket_connect(&other, &tcp);
    assert_true(fd >= 0);
    wait_for(fd, POLLOUT);
    assert_int_equal(socket_error(fd), -ECONNREFUSED);
    close(fd);
}

/* The first test, so that nothing has asked for the range of this process's namespace yet. */
static void a_socket_that_would_connect_to_itself_is_refused(void **state)
{
    enum { NOT_ALLOWED = 77 };
    int status = 0;
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!enter_namespace_with_one_port())
            _exit(NOT_ALLOWED);
        connect_where_nobody_listens();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_ALLOWED)
        skip();
    assert_int_equal(status, 0);
}

static void an_ipv6_listener_leaves_ipv4_alone(void **state)
{
    struct conf_address address = loopback6();
    (void)state;
    int fd = socket_listen(&address, &defaults, SOCKET_ALONE);
    if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL)
        skip(); /* no IPv6 here */
    assert_true(fd >= 0);
    assert_true(option_of(fd, IPPROTO_IPV6, IPV6_V6ONLY));
    assert_int_equal(socket_bound(fd, &address), 0);
    assert_true(((struct sockaddr_in6 *)&address.address)->sin6_port != 0);
    close(fd);
}

static void a_port_is_shared_only_if_asked(void **state)
{
    struct conf_address address = loopback(0);
    (void)state;
    int first = socket_listen(&address, &defaults, SOCKET_FIRST);
    assert_int_equal(socket_bound(first, &address), 0);
    int second = socket_listen(&address, &defaults, SOCKET_BESIDE);
    assert_true(first >= 0 && second >= 0);
    assert_int_equal(socket_listen(&address, &defaults, SOCKET_ALONE), -EADDRINUSE);
    assert_int_equal(socket_listen(&address, &defaults, SOCKET_FIRST), -EADDRINUSE);
    close(first);
    close(second);
}

static void errors_of_the_system_are_passed_on(void **state)
{
    struct conf_address nowhere = loopback(0), path = path_address("/nonexistent/socket"), odd = {0};
    ((struct sockaddr_in *)&nowhere.address)->sin_addr.s_addr = inet_addr("192.0.2.1");
    (void)state;
    assert_int_equal(socket_listen(&nowhere, &defaults, SOCKET_ALONE), -EADDRNOTAVAIL);
    assert_int_equal(socket_listen(&path, &defaults, SOCKET_ALONE), -ENOENT);
    assert_int_equal(socket_connect(&path, &defaults), -ENOENT);
    odd.address.ss_family = 99;
    assert_int_equal(socket_listen(&odd, &defaults, SOCKET_ALONE), -EAFNOSUPPORT);
    assert_int_equal(socket_connect(&odd, &defaults), -EAFNOSUPPORT);
    assert_int_equal(socket_error(-1), -EBADF);
    assert_int_equal(socket_bound(-1, &odd), -EBADF);
    assert_int_equal(socket_accept(-1, &(union socket_address){.family = 0}), -EBADF);
}

static void a_refused_connection_says_so_when_it_is_decided(void **state)
{
    struct sockaddr_in in;
    int listener = listen_on_loopback(&in);
    struct conf_address address = loopback(ntohs(in.sin_port));
    (void)state;
    close(listener);
    int fd = socket_connect(&address, &defaults);
    assert_true(fd >= 0);
    wait_for(fd, POLLOUT);
    assert_int_equal(socket_error(fd), -ECONNREFUSED);
    assert_int_equal(socket_error(fd), 0); /* it was taken */
    close(fd);
}

static void fin_and_abort_are_what_their_names_say(void **state)
{
    int fds[2];
    (void)state;
    tcp_pair(fds, 0);
    send_text(fds[0], "bytes", 0);
    socket_fin(fds[0]);
    receive_text(fds[1], "bytes");
    receive_end(fds[1], 0);
    socket_abort(fds[0]); /* from FIN_WAIT_2 */
    wait_for(fds[1], POLLHUP);
    assert_int_equal(socket_error(fds[1]), -EPIPE);
    socket_fin(fds[1]); /* no error of ours */
    close(fds[1]);
}

static bool is_acknowledged(void *fd)
{
    return socket_unacked(*(int *)fd) == 0;
}

static void what_the_peer_acknowledged_is_known(void **state)
{
    static char bytes[1 << 16];
    int fds[2], pair[2];
    (void)state;
    tcp_pair(fds, 4096);
    while (send(fds[0], bytes, sizeof bytes, MSG_NOSIGNAL) > 0)
        ;
    assert_true(socket_unacked(fds[0]) > 0);
    while (!is_acknowledged(&fds[0]))
        if (recv(fds[1], bytes, sizeof bytes, 0) < 0)
            pause_ms(1);
    assert_true(socket_last_ack_ms(fds[0]) < WAIT_MS);
    assert_int_equal(socket_unacked(-1), 0);
    assert_int_equal(socket_last_ack_ms(-1), 0);
    unix_pair(pair);
    send_text(pair[0], "x", 0);
    assert_true(socket_unacked(pair[0]) > 0);
    receive_text(pair[1], "x");
    wait_until(is_acknowledged, &pair[0]);
    assert_int_equal(socket_last_ack_ms(pair[0]), 0);
    for (int i = 0; i < 2; i++) {
        close(fds[i]);
        close(pair[i]);
    }
}

static void a_unix_socket_works_like_any_other(void **state)
{
    char folder[] = "/tmp/lastack-XXXXXX", name[64];
    union socket_address peer;
    int fds[2];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(name, sizeof name, "%s/socket", folder);
    struct conf_address address = path_address(name);
    connect_through(&address, &defaults, fds, &peer);
    assert_int_equal(peer.family, AF_UNIX);
    assert_owned(fds[0]);
    assert_owned(fds[1]);
    send_text(fds[0], "over a path", 0);
    receive_text(fds[1], "over a path");
    close(fds[0]);
    close(fds[1]);

    /* Its listener is gone: the path is stale, and replaced. */
    connect_through(&address, &defaults, fds, &peer);
    close(fds[0]);
    close(fds[1]);
    assert_int_equal(unlink(name), 0);

    /* What is no socket is left alone. */
    int file = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    close(file);
    assert_int_equal(socket_listen(&address, &defaults, SOCKET_ALONE), -EADDRINUSE);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(rmdir(folder), 0);
}

/* Between bind(2) and listen(2) a socket refuses connections, but is not dead. */
static void a_path_whose_owner_does_not_listen_yet_is_not_taken(void **state)
{
    char folder[] = "/tmp/lastack-XXXXXX", name[64];
    (void)state;
    assert_non_null(mkdtemp(folder));
    snprintf(name, sizeof name, "%s/socket", folder);
    struct conf_address address = path_address(name);
    int owner = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(owner, (struct sockaddr *)&address.address, address.length), 0);
    assert_int_equal(socket_listen(&address, &defaults, SOCKET_ALONE), -EADDRINUSE);
    close(owner);
    assert_int_equal(unlink(name), 0);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_socket_that_would_connect_to_itself_is_refused),
        cmocka_unit_test(addresses_have_texts),
        cmocka_unit_test(both_ends_of_a_connection_are_set_as_configured),
        cmocka_unit_test(what_is_off_stays_off),
        cmocka_unit_test(an_ipv6_listener_leaves_ipv4_alone),
        cmocka_unit_test(a_port_is_shared_only_if_asked),
        cmocka_unit_test(errors_of_the_system_are_passed_on),
        cmocka_unit_test(a_refused_connection_says_so_when_it_is_decided),
        cmocka_unit_test(fin_and_abort_are_what_their_names_say),
        cmocka_unit_test(what_the_peer_acknowledged_is_known),
        cmocka_unit_test(a_unix_socket_works_like_any_other),
        cmocka_unit_test(a_path_whose_owner_does_not_listen_yet_is_not_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
