#include "tests/unit/cmocka.h"

#include "reaper/error.h"
#include "reaper/kernel/netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Real sockets on loopback: a listener and both ends of one accepted connection. */
struct connection {
    int listener, client, server;
    uint16_t port;
};

static int listener_open(int family, uint16_t *port)
{
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6}; /* any: dual-stack */
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = family == AF_INET ? sizeof v4 : sizeof v6;
    struct sockaddr *address = family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
    int fd = socket(family, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, address, length), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, address, &length), 0);
    *port = ntohs(family == AF_INET ? v4.sin_port : v6.sin6_port);
    return fd;
}

static int client_open(uint16_t port)
{
    const struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static struct connection connection_open(int family)
{
    struct connection c;
    c.listener = listener_open(family, &c.port);
    c.client = client_open(c.port);
    c.server = accept(c.listener, NULL, NULL);
    assert_true(c.server >= 0);
    return c;
}

static void connection_close(struct connection *c)
{
    close(c->client);
    close(c->server);
    close(c->listener);
}

static uint64_t cookie_of(int fd)
{
    uint64_t cookie = 0;
    socklen_t length = sizeof cookie;
    assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
    return cookie;
}

/* The FIN has arrived: loopback delivers it before shutdown() returns, but that is the kernel's business. */
static void wait_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 10000), 1);
}

struct found {
    struct diag_row row;
    uint64_t cookie;
    unsigned matches, rows;
};

static int find(void *context, const struct diag_row *row)
{
    struct found *found = context;
    found->rows++;
    if (row->id.cookie == found->cookie) {
        found->row = *row;
        found->matches++;
    }
    return 0;
}

static struct netlink *netlink;

static int group_open(void **state)
{
    (void)state;
    return netlink_open(&netlink);
}

static int group_close(void **state)
{
    (void)state;
    netlink_close(netlink);
    return 0;
}

static struct found dump(int fd, const struct diag_filter *filter)
{
    struct found found = {.cookie = cookie_of(fd)};
    const struct netlink_sink sink = {.row = find, .context = &found};
    assert_int_equal(netlink_dump(netlink, filter, &sink), 0);
    return found;
}

static void leaks_are_found_in_both_families(void **state)
{
    (void)state;
    const int families[] = {AF_INET, AF_INET6};
    for (size_t i = 0; i < 2; i++) {
        struct connection c = connection_open(families[i]);
        const struct diag_filter filter = {
            .states = DIAG_STATE_BIT(DIAG_CLOSE_WAIT), .ports = &c.port, .port_count = 1, .want_info = true};
        assert_int_equal(send(c.client, "abc", 3, 0), 3);
        assert_int_equal(shutdown(c.client, SHUT_WR), 0);
        wait_readable(c.server);
        struct found found = dump(c.server, &filter);
        assert_int_equal(found.matches, 1);
        assert_int_equal(found.rows, 1);
        assert_int_equal(found.row.id.family, families[i]);
        assert_int_equal(found.row.state, DIAG_CLOSE_WAIT);
        assert_int_equal(found.row.rqueue_bytes, 4);
        assert_int_equal(found.row.uid, getuid());
        assert_true(found.row.inode != 0);
        assert_true(found.row.has_info);
        assert_int_equal(found.row.info.received_bytes, 4);
        assert_true(found.row.info.last_ack_recv_ms < 10000);
        assert_true(diag_host_is_v4(found.row.id.local.host));
        assert_int_equal(found.row.id.local.port, c.port);
        connection_close(&c);
    }
}

static void filters_hold_in_the_kernel(void **state)
{
    (void)state;
    struct connection c = connection_open(AF_INET);
    const uint16_t ports[] = {1, c.port, 2};
    const struct diag_prefix loopback = {.host = {[10] = 0xff, 0xff, 127}, .bits = 104};
    const struct diag_prefix elsewhere = {.host = {[10] = 0xff, 0xff, 126}, .bits = 104};
    struct diag_filter filter = {.states = DIAG_STATE_BIT(DIAG_ESTABLISHED), .ports = ports, .port_count = 3};
    assert_int_equal(dump(c.server, &filter).rows, 1);
    assert_int_equal(dump(c.server, &filter).row.has_info, false);
    filter.side = DIAG_REMOTE;
    assert_int_equal(dump(c.client, &filter).matches, 1);
    assert_int_equal(dump(c.server, &filter).matches, 0);
    filter.side = DIAG_EITHER;
    assert_int_equal(dump(c.server, &filter).rows, 2);
    filter.local_host = &loopback;
    assert_int_equal(dump(c.server, &filter).rows, 2);
    filter.remote_host = &elsewhere;
    assert_int_equal(dump(c.server, &filter).rows, 0);
    filter.remote_host = NULL;
    filter.states = DIAG_STATE_BIT(DIAG_LISTEN);
    assert_int_equal(dump(c.listener, &filter).matches, 1);
    assert_int_equal(dump(c.listener, &filter).row.wqueue_bytes, 16);
    filter.ports = ports + 2;
    filter.port_count = 1;
    assert_int_equal(dump(c.listener, &filter).rows, 0);
    connection_close(&c);
}

static void a_thousand_ports_pass_the_kernels_audit(void **state)
{
    (void)state;
    static uint16_t ports[1000];
    struct connection c = connection_open(AF_INET);
    for (uint16_t i = 0; i < 999; i++)
        ports[i] = (uint16_t)(i + 1);
    ports[999] = c.port;
    const struct diag_filter filter = {
        .states = DIAG_STATES_ALL, .ports = ports, .port_count = 1000, .side = DIAG_EITHER};
    assert_int_equal(dump(c.server, &filter).matches, 1);
    connection_close(&c);
}

static int stop_at_once(void *context, const struct diag_row *row)
{
    (void)row;
    ++*(unsigned *)context;
    return -ECANCELED;
}

static void a_sink_may_stop_and_the_next_dump_is_whole(void **state)
{
    (void)state;
    struct connection c = connection_open(AF_INET);
    const struct diag_filter filter = {.states = DIAG_STATES_ALL};
    unsigned rows = 0;
    const struct netlink_sink sink = {.row = stop_at_once, .context = &rows};
    assert_int_equal(netlink_dump(netlink, &filter, &sink), -ECANCELED);
    assert_int_equal(rows, 1);
    assert_int_equal(dump(c.server, &filter).matches, 1);
    connection_close(&c);
}

static struct diag_id id_of(const struct connection *c)
{
    const struct diag_filter filter = {.states = DIAG_STATES_ALL, .ports = &c->port, .port_count = 1};
    return dump(c->server, &filter).row.id;
}

static void a_lookup_finds_one_socket_and_never_the_listener(void **state)
{
    (void)state;
    const int families[] = {AF_INET, AF_INET6};
    for (size_t i = 0; i < 2; i++) {
        struct connection c = connection_open(families[i]);
        struct diag_id id = id_of(&c);
        struct diag_row row;
        assert_int_equal(netlink_lookup(netlink, &id, &row), 0);
        assert_int_equal(row.state, DIAG_ESTABLISHED);
        assert_true(row.has_info);
        id.cookie++;
        assert_int_equal(netlink_lookup(netlink, &id, &row), -ENOENT);
        id.cookie = DIAG_NO_COOKIE;
        assert_int_equal(netlink_lookup(netlink, &id, &row), 0);
        id.remote.port = 1; /* no such connection: the kernel answers with the listener */
        assert_int_equal(netlink_lookup(netlink, &id, &row), -ENOENT);
        connection_close(&c);
    }
}

static void destroy_takes_the_cookie_seriously(void **state)
{
    (void)state;
    const int families[] = {AF_INET, AF_INET6};
    for (size_t i = 0; i < 2; i++) {
        struct connection c = connection_open(families[i]);
        struct diag_id id = id_of(&c);
        struct diag_row row;
        char byte;
        id.cookie++;
        int error = netlink_destroy(netlink, &id);
        assert_true(error == -ENOENT || error == -EOPNOTSUPP);
        id.cookie--;
        assert_int_equal(netlink_lookup(netlink, &id, &row), 0);
        error = netlink_destroy(netlink, &id);
        if (error == -EPERM || error == -EOPNOTSUPP) {
            connection_close(&c);
            skip();
        }
        assert_int_equal(error, 0);
        assert_int_equal(netlink_lookup(netlink, &id, &row), -ENOENT);
        assert_int_equal(netlink_destroy(netlink, &id), -ENOENT);
        assert_int_equal(recv(c.client, &byte, 1, 0), -1);
        assert_int_equal(errno, ECONNRESET);
        id.cookie = DIAG_NO_COOKIE;
        assert_int_equal(netlink_destroy(netlink, &id), -EINVAL);
        int other = client_open(c.port); /* the listener lives */
        close(other);
        connection_close(&c);
    }
}

static void states_are_counted_by_local_port(void **state)
{
    (void)state;
    struct netlink_counts counts;
    struct connection c = connection_open(AF_INET6);
    int waiting = client_open(c.port);
    assert_int_equal(netlink_count(netlink, c.port, &counts), 0);
    assert_int_equal(counts.of[DIAG_LISTEN], 1);
    assert_int_equal(counts.of[DIAG_ESTABLISHED], 2);
    assert_int_equal(counts.never_accepted, 1);
    assert_int_equal(shutdown(c.client, SHUT_WR), 0);
    wait_readable(c.server);
    assert_int_equal(netlink_count(netlink, c.port, &counts), 0);
    assert_int_equal(counts.of[DIAG_ESTABLISHED], 1);
    assert_int_equal(counts.of[DIAG_CLOSE_WAIT], 1);
    close(waiting);
    connection_close(&c);
}

static void many_rows_come_once_each(void **state)
{
    (void)state;
    enum { PAIRS = 400, ROUNDS = 20 };
    static int clients[PAIRS], servers[PAIRS];
    struct netlink_counts counts;
    uint16_t port;
    int listener = listener_open(AF_INET, &port);
    for (int i = 0; i < PAIRS; i++) {
        clients[i] = client_open(port);
        servers[i] = accept(listener, NULL, NULL);
        assert_true(servers[i] >= 0);
    }
    for (int round = 0; round < ROUNDS; round++) {
        assert_int_equal(netlink_count(netlink, port, &counts), 0);
        assert_int_equal(counts.of[DIAG_ESTABLISHED], PAIRS);
    }
    for (int i = 0; i < PAIRS; i++) {
        close(clients[i]);
        close(servers[i]);
    }
    close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaks_are_found_in_both_families),
        cmocka_unit_test(filters_hold_in_the_kernel),
        cmocka_unit_test(a_thousand_ports_pass_the_kernels_audit),
        cmocka_unit_test(a_sink_may_stop_and_the_next_dump_is_whole),
        cmocka_unit_test(a_lookup_finds_one_socket_and_never_the_listener),
        cmocka_unit_test(destroy_takes_the_cookie_seriously),
        cmocka_unit_test(states_are_counted_by_local_port),
        cmocka_unit_test(many_rows_come_once_each),
    };
    return cmocka_run_group_tests(tests, group_open, group_close);
}
