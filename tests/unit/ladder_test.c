#include "tests/unit/cmocka.h"

#include "reaper/error.h"
#include "reaper/kernel/ladder.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static struct leak due_leak(void)
{
    return (struct leak){
        .row = {.id = {.family = AF_INET, .cookie = 5},
                .state = DIAG_CLOSE_WAIT,
                .inode = 7,
                .has_info = true,
                .info.last_ack_recv_ms = 120000},
        .cause = TRIAGE_READ_EOF,
        .dumps = 2,
        .first_seen_ms = 1000,
        .quiet_since_ms = 1000,
    };
}

static const struct ladder_policy policy = {.action = LADDER_BOTH, .older_than_ms = 120000};

static void a_leak_without_a_guard_is_due(void **state)
{
    (void)state;
    struct leak leak = due_leak();
    assert_int_equal(ladder_check(&leak, &policy, 2000), LADDER_CLEAR);
    leak.row.info.last_ack_recv_ms = 0;
    assert_int_equal(ladder_check(&leak, &policy, 1000 + 120000), LADDER_CLEAR); /* by first sight alone */
}

static void each_guard_holds_alone(void **state)
{
    (void)state;
    struct leak leak = due_leak();
    for (uint8_t s = 0; s < 20; s++) {
        leak.row.state = s;
        assert_int_equal(ladder_check(&leak, &policy, 2000),
                         s == DIAG_CLOSE_WAIT ? LADDER_CLEAR : LADDER_NOT_CLOSE_WAIT);
    }
    leak = due_leak();
    leak.row.id.cookie = DIAG_NO_COOKIE;
    assert_int_equal(ladder_check(&leak, &policy, 2000), LADDER_NO_COOKIE);
    leak = due_leak();
    leak.row.inode = 0;
    assert_int_equal(ladder_check(&leak, &policy, 2000), LADDER_NO_OWNER);
    leak = due_leak();
    leak.dumps = 1;
    assert_int_equal(ladder_check(&leak, &policy, 2000), LADDER_SEEN_ONCE);
    leak = due_leak();
    leak.progressed = true;
    assert_int_equal(ladder_check(&leak, &policy, 2000), LADDER_PROGRESS);
    leak = due_leak();
    leak.row.info.last_ack_recv_ms--;
    assert_int_equal(ladder_check(&leak, &policy, 2000), LADDER_TOO_YOUNG);
}

static void the_client_side_is_left_alone_unless_named(void **state)
{
    (void)state;
    const struct ladder_policy named = {.older_than_ms = 120000, .client_side = true};
    struct leak leak = due_leak();
    leak.client_side = true;
    assert_int_equal(ladder_check(&leak, &policy, 2000), LADDER_CLIENT_SIDE);
    assert_int_equal(ladder_check(&leak, &named, 2000), LADDER_CLEAR);
}

/* ---- real sockets ---- */

static struct netlink *netlink;
static int proc_fd;
static struct ladder_rights rights;

static int group_open(void **state)
{
    (void)state;
    proc_fd = open("/proc", O_PATH | O_DIRECTORY);
    int error = netlink_open(&netlink);
    if (error == 0)
        ladder_probe(netlink, proc_fd, &rights);
    return error;
}

static int group_close(void **state)
{
    (void)state;
    netlink_close(netlink);
    return close(proc_fd);
}

/* A leak on loopback: `server` is in CLOSE_WAIT, `client` still reads. */
struct scene {
    int listener, client, server;
    uint16_t port;
};

static struct scene scene_open(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    struct scene s = {.listener = socket(AF_INET, SOCK_STREAM, 0), .client = socket(AF_INET, SOCK_STREAM, 0)};
    assert_int_equal(bind(s.listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s.listener, 8), 0);
    assert_int_equal(getsockname(s.listener, (struct sockaddr *)&a, &length), 0);
    assert_int_equal(connect(s.client, (struct sockaddr *)&a, sizeof a), 0);
    s.server = accept(s.listener, NULL, NULL);
    assert_int_equal(shutdown(s.client, SHUT_WR), 0);
    struct pollfd p = {.fd = s.server, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 10000), 1);
    s.port = ntohs(a.sin_port);
    return s;
}

static void scene_close(struct scene *s)
{
    close(s->listener);
    close(s->client);
    if (s->server >= 0)
        close(s->server);
}

static int take_row(void *context, const struct diag_row *row)
{
    return triage_add(context, row);
}

/* The scene's leak as two dumps show it. */
static struct leak scene_leak(const struct scene *s)
{
    struct triage triage, again;
    triage_init(&triage, DIAG_CLOSE_WAIT);
    triage_init(&again, DIAG_CLOSE_WAIT);
    const struct diag_filter filter = {.states = triage_leak_states(&triage) | triage_context_states(&triage),
                                       .side = DIAG_EITHER,
                                       .ports = &s->port,
                                       .port_count = 1,
                                       .want_info = true};
    const struct netlink_sink sink = {.row = take_row, .context = &triage};
    const struct netlink_sink second = {.row = take_row, .context = &again};
    assert_int_equal(netlink_dump(netlink, &filter, &sink), 0);
    triage_finish(&triage, NULL, 0);
    assert_int_equal(netlink_dump(netlink, &filter, &second), 0);
    triage_finish(&again, &triage, 1000);
    assert_int_equal(again.leak_count, 1);
    struct leak leak = again.leaks[0];
    triage_clear(&triage);
    triage_clear(&again);
    return leak;
}

static void wait_for_eof(int fd)
{
    char byte;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

static void a_scene_is_what_it_should_be(void **state)
{
    (void)state;
    struct scene s = scene_open();
    struct leak leak = scene_leak(&s);
    assert_int_equal(leak.dumps, 2);
    assert_int_equal(leak.cause, TRIAGE_EOF_UNREAD);
    assert_int_equal(leak.peer, TRIAGE_PEER_HALF_CLOSED);
    assert_false(leak.client_side);
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_STILL);
    scene_close(&s);
}

static void finish_is_graceful_and_leaves_the_descriptor(void **state)
{
    (void)state;
    if (rights.finish && rights.finish != -EACCES)
        skip();
    struct scene s = scene_open();
    struct leak leak = scene_leak(&s);
    assert_int_equal(send(s.server, "bye", 3, 0), 3);
    assert_int_equal(ladder_finish(&leak, getpid(), s.server), ERROR_STALE); /* it has made progress */
    leak = scene_leak(&s);
    assert_int_equal(ladder_finish(&leak, getpid(), s.server), 0);
    char text[3];
    assert_int_equal(recv(s.client, text, sizeof text, MSG_WAITALL), 3);
    wait_for_eof(s.client);
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_GONE);
    assert_int_equal(owner_holds(proc_fd, getpid(), s.server, leak.row.inode), 1);
    assert_int_equal(ladder_finish(&leak, getpid(), s.server), ERROR_STALE);
    scene_close(&s);
}

static void finish_works_on_a_stopped_owner(void **state)
{
    (void)state;
    if (rights.finish)
        skip();
    struct scene s = scene_open();
    struct leak leak = scene_leak(&s);
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    assert_int_equal(kill(child, SIGSTOP), 0);
    assert_int_equal(waitpid(child, NULL, WUNTRACED), child);
    int fd = s.server;
    close(s.server);
    s.server = -1;
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_STILL);
    assert_int_equal(ladder_finish(&leak, child, fd), 0);
    wait_for_eof(s.client);
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_GONE);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    scene_close(&s);
}

static void finish_refuses_whatever_is_not_that_socket(void **state)
{
    (void)state;
    if (rights.finish && rights.finish != -EACCES)
        skip();
    struct scene s = scene_open(), other = scene_open();
    struct leak leak = scene_leak(&s);
    assert_int_equal(ladder_finish(&leak, getpid(), other.server), ERROR_STALE);
    assert_int_equal(ladder_finish(&leak, getpid(), s.listener), ERROR_STALE);
    assert_int_equal(ladder_finish(&leak, getpid(), proc_fd), ERROR_STALE);
    assert_int_equal(ladder_finish(&leak, getpid(), 1 << 20), -EBADF);
    assert_int_equal(ladder_finish(&leak, INT32_MAX, s.server), -ESRCH);
    const struct leak unharmed = scene_leak(&other);
    assert_int_equal(ladder_verify(netlink, &unharmed), LADDER_STILL);
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_STILL);
    scene_close(&s);
    scene_close(&other);
}

static void destroy_resets_that_socket_only(void **state)
{
    (void)state;
    if (rights.destroy)
        skip();
    struct scene s = scene_open(), other = scene_open();
    struct leak leak = scene_leak(&s), unharmed = scene_leak(&other);
    char byte;
    assert_int_equal(ladder_destroy(netlink, &leak), 0);
    assert_int_equal(recv(s.client, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_GONE);
    assert_int_equal(owner_holds(proc_fd, getpid(), s.server, leak.row.inode), 1);
    assert_int_equal(ladder_destroy(netlink, &leak), -ENOENT);
    assert_int_equal(ladder_verify(netlink, &unharmed), LADDER_STILL);
    scene_close(&s);
    scene_close(&other);
}

static void destroy_refuses_a_socket_that_moved_on(void **state)
{
    (void)state;
    if (rights.destroy)
        skip();
    struct scene s = scene_open();
    struct leak leak = scene_leak(&s);
    leak.row.info.acked_bytes++;
    assert_int_equal(ladder_destroy(netlink, &leak), ERROR_STALE);
    leak = scene_leak(&s);
    leak.row.id.cookie++;
    assert_int_equal(ladder_destroy(netlink, &leak), -ENOENT);
    leak.row.id.cookie--;
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_STILL);
    close(s.server);
    s.server = -1;
    wait_for_eof(s.client);
    assert_int_equal(ladder_destroy(netlink, &leak), -ENOENT);
    scene_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leak_without_a_guard_is_due),
        cmocka_unit_test(each_guard_holds_alone),
        cmocka_unit_test(the_client_side_is_left_alone_unless_named),
        cmocka_unit_test(a_scene_is_what_it_should_be),
        cmocka_unit_test(finish_is_graceful_and_leaves_the_descriptor),
        cmocka_unit_test(finish_works_on_a_stopped_owner),
        cmocka_unit_test(finish_refuses_whatever_is_not_that_socket),
        cmocka_unit_test(destroy_resets_that_socket_only),
        cmocka_unit_test(destroy_refuses_a_socket_that_moved_on),
    };
    return cmocka_run_group_tests(tests, group_open, group_close);
}
