#include "tests/unit/cmocka.h"

#include "tests/unit/proxy.h"

#include <sys/syscall.h>

static int start(void **state)
{
    struct proxy *proxy = malloc(sizeof *proxy);
    assert_non_null(proxy);
    proxy_prepare(proxy);
    proxy->frontend.deadlines.after_ms[DEADLINE_GRACE] = 10 * WAIT_MS; /* what waits for it fails the test */
    proxy_start(proxy);
    *state = proxy;
    return 0;
}

static int stop(void **state)
{
    proxy_free(*state);
    free(*state);
    return 0;
}

static void bytes_and_fins_go_both_ways(void **state)
{
    int fds[2];
    proxy_session(*state, fds);
    send_text(fds[0], "question", 0);
    receive_text(fds[1], "question");
    shutdown(fds[0], SHUT_WR);
    receive_end(fds[1], 0);
    send_text(fds[1], "answer", 0);
    receive_text(fds[0], "answer");
    close(fds[1]);
    receive_end(fds[0], 0);
    proxy_wait_ended(*state, REASON_CLOSED, 1);
    close(fds[0]);
}

static void what_a_client_sends_before_the_backend_is_up_is_not_lost(void **state)
{
    struct proxy *proxy = *state;
    int client = proxy_client(proxy);
    send_text(client, "early", 0);
    shutdown(client, SHUT_WR);
    int origin = proxy_origin(proxy);
    receive_text(origin, "early");
    receive_end(origin, 0);
    close(origin);
    receive_end(client, 0);
    proxy_wait_ended(proxy, REASON_CLOSED, 1);
    close(client);
}

static void a_reset_of_the_client_reaches_the_backend_behind_its_bytes(void **state)
{
    int fds[2];
    proxy_session(*state, fds);
    send_text(fds[0], "half a request", 0);
    receive_text(fds[1], "half a request");
    reset_close(fds[0]);
    receive_end(fds[1], ECONNRESET);
    proxy_wait_ended(*state, REASON_CLIENT_RESET, 1);
    close(fds[1]);
}

static void a_reset_of_the_backend_reaches_the_client_behind_its_bytes(void **state)
{
    int fds[2];
    proxy_session(*state, fds);
    send_text(fds[1], "half an answer", 0);
    receive_text(fds[0], "half an answer");
    reset_close(fds[1]);
    receive_end(fds[0], ECONNRESET);
    proxy_wait_ended(*state, REASON_BACKEND_RESET, 1);
    close(fds[0]);
}

static void a_reset_behind_a_fin_is_a_reset(void **state)
{
    int fds[2];
    proxy_session(*state, fds);
    shutdown(fds[0], SHUT_WR);
    receive_end(fds[1], 0);
    reset_close(fds[0]);
    receive_end(fds[1], 0); /* it has had its EOF; writing tells */
    proxy_wait_ended(*state, REASON_CLIENT_RESET, 1);
    close(fds[1]);
}

/* `a`, an urgent `X`, `b`, a write at a time or all at once: as it would arrive without a proxy. */
static void an_urgent_byte_arrives_as_one(void **state)
{
    for (int i = 0; i < 4; i++) {
        int fds[2], leg = i & 1, flags = i & 2 ? MSG_MORE : 0;
        char urgent = 0;
        proxy_session(*state, fds);
        send_text(fds[leg], "a", flags);
        send_text(fds[leg], "X", MSG_OOB);
        wait_for(fds[!leg], POLLPRI);
        assert_int_equal(recv(fds[!leg], &urgent, 1, MSG_OOB), 1);
        assert_int_equal(urgent, 'X');
        send_text(fds[leg], "b", 0);
        receive_text(fds[!leg], "ab");
        close(fds[0]);
        close(fds[1]);
        proxy_wait_ended(*state, REASON_COUNT, (uint64_t)i + 1);
    }
}

static void urgent_bytes_stay_in_the_stream(void **state)
{
    for (int leg = 0; leg < 2; leg++) {
        int fds[2];
        proxy_session(*state, fds);
        int on = 1;
        assert_int_equal(setsockopt(fds[!leg], SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), 0);
        send_text(fds[leg], "a", MSG_OOB);
        send_text(fds[leg], "b", 0);
        send_text(fds[leg], "c", MSG_OOB);
        send_text(fds[leg], "def", 0);
        receive_text(fds[!leg], "abcdef");
        close(fds[0]);
        close(fds[1]);
        proxy_wait_ended(*state, REASON_COUNT, (uint64_t)leg + 1);
    }
}

/* ---- descriptors that somebody else holds too --------------------------------------------------------- */

static int borrow(int fd)
{
    int process = (int)syscall(SYS_pidfd_open, getpid(), 0);
    int copy = process < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, process, fd, 0);
    if (process >= 0)
        close(process);
    return copy;
}

/* As pidfd_getfd(2) or a fork leaves it: closing ours neither closes the connection nor takes it out of an
 * epoll set. */
static void a_leg_that_somebody_else_holds_too_troubles_nobody(void **state)
{
    int fds[2], copies[2];
    proxy_session(*state, fds);
    send_text(fds[0], "x", 0);
    receive_text(fds[1], "x");
    for (int i = 0; i < 2; i++) {
        copies[i] = borrow(find_leg(fds[i]));
        if (copies[i] < 0)
            skip(); /* the host forbids it, so nobody else can do it either */
    }
    shutdown(fds[0], SHUT_WR);
    shutdown(fds[1], SHUT_WR);
    proxy_wait_ended(*state, REASON_CLOSED, 1);

    int others[2]; /* the memory of the first session may be in use again */
    proxy_session(*state, others);
    reset_close(fds[0]);
    reset_close(fds[1]);
    for (int i = 0; i < 2; i++)
        wait_for(copies[i], POLLRDHUP);
    send_text(others[0], "still here", 0);
    receive_text(others[1], "still here");
    assert_int_equal(proxy_ended(*state, REASON_COUNT), 1);
    for (int i = 0; i < 2; i++) {
        close(copies[i]);
        close(others[i]);
    }
}

/* ---- a half that is cut while bytes wait in it -------------------------------------------------------- */

/* Sends until bytes stay unread in the proxy's own queue, because the other side takes none. */
static void back_up(int fd)
{
    static char bytes[1 << 14];
    int leg = find_leg(fd);
    assert_true(leg >= 0);
    for (int full_ms = 0; full_ms < 100; full_ms++) {
        pause_ms(1);
        if (bytes_queued(leg) == 0) {
            wait_for(fd, POLLOUT);
            assert_int_equal(send(fd, bytes, sizeof bytes, MSG_NOSIGNAL), sizeof bytes);
            full_ms = 0;
        }
    }
}

/* RFC 9112, 9.6: RST in answer to an upload can take the answer out of the client's hands, so the rest of
 * the upload is read and thrown away. It may all lie there already when the backend goes; then no event
 * tells of it. */
/* False when everything had gone through before the backend went, which a busy machine may bring about. */
static bool upload_is_drained(struct proxy *proxy)
{
    int fds[2];
    uint64_t ended = proxy_ended(proxy, REASON_COUNT), resets = proxy_ended(proxy, REASON_BACKEND_RESET);
    proxy_session(proxy, fds);
    back_up(fds[0]);
    shutdown(fds[0], SHUT_WR);
    wait_for(find_leg(fds[0]), POLLRDHUP);
    send_text(fds[1], "no, thank you", 0);
    shutdown(fds[1], SHUT_WR);
    receive_text(fds[0], "no, thank you");
    receive_end(fds[0], 0);
    close(fds[1]); /* with unread bytes: RST */
    proxy_wait_ended(proxy, REASON_COUNT, ended + 1);
    close(fds[0]);
    return proxy_ended(proxy, REASON_BACKEND_RESET) > resets;
}

static void a_client_with_an_upload_under_way_is_drained_when_its_answer_was_whole(void **state)
{
    int tries = 0;
    while (!upload_is_drained(*state))
        assert_true(++tries < 20);
}

/* ---- connecting --------------------------------------------------------------------------------------- */

static void a_client_of_a_backend_that_refuses_is_reset(void **state)
{
    struct proxy *proxy = *state;
    close(proxy->origin);
    proxy->origin = -1;
    int client = proxy_client(proxy);
    receive_end(client, ECONNRESET);
    proxy_wait_ended(proxy, REASON_CONNECT_FAILED, 1);
    close(client);
}

static struct proxy *start_with(enum verify verify, uint64_t half_close_ms)
{
    struct proxy *proxy = malloc(sizeof *proxy);
    assert_non_null(proxy);
    proxy_prepare(proxy);
    proxy->frontend.deadlines.verify = verify;
    proxy->frontend.deadlines.after_ms[DEADLINE_HALF_CLOSE] = half_close_ms;
    proxy->frontend.deadlines.after_ms[DEADLINE_HALF_CLOSE_EMPTY] = DEADLINE_OFF;
    proxy_start(proxy);
    return proxy;
}

struct probe {
    int leg;
    int keepalive;
};

static bool is_probed(void *context)
{
    const struct probe *probe = context;
    int value = -1;
    socklen_t length = sizeof value;
    assert_int_equal(getsockopt(probe->leg, SOL_SOCKET, SO_KEEPALIVE, &value, &length), 0);
    return value == probe->keepalive;
}

static void peers_that_answer_a_probe_are_given_more_time(void **state)
{
    struct proxy *proxy =
        start_with(VERIFY_EXTEND, 1500); /* after a second without traffic a probe leaves at once */
    int fds[2];
    (void)state;
    proxy_session(proxy, fds);
    shutdown(fds[0], SHUT_WR);
    receive_end(fds[1], 0);
    int leg = find_leg(fds[1]);
    wait_until(is_probed, &(struct probe){.leg = leg, .keepalive = 1});
    wait_until(is_probed, &(struct probe){.leg = leg, .keepalive = 0});
    assert_int_equal(proxy_ended(proxy, REASON_COUNT), 0);
    send_text(fds[1], "here I am", 0);
    receive_text(fds[0], "here I am");
    close(fds[1]);
    receive_end(fds[0], 0);
    proxy_wait_ended(proxy, REASON_CLOSED, 1);
    close(fds[0]);
    proxy_free(proxy);
    free(proxy);
}

static void a_client_on_this_host_that_has_closed_is_not_waited_for(void **state)
{
    struct proxy *proxy = start_with(VERIFY_ON, 10 * WAIT_MS);
    int fds[2];
    (void)state;
    proxy_session(proxy, fds);
    shutdown(fds[0], SHUT_WR);
    receive_end(fds[1], 0);
    pause_ms(60); /* it is looked at while it is still open, too */
    assert_int_equal(proxy_ended(proxy, REASON_COUNT), 0);
    close(fds[0]);
    proxy_wait_ended(proxy, REASON_CLIENT_CLOSED, 1);
    wait_for(fds[1], POLLHUP);
    close(fds[1]);
    proxy_free(proxy);
    free(proxy);
}

static void deadlines_fire(void **state)
{
    struct proxy *proxy = malloc(sizeof *proxy);
    int fds[2];
    (void)state;
    assert_non_null(proxy);
    proxy_prepare(proxy);
    proxy->frontend.deadlines.after_ms[DEADLINE_HALF_CLOSE] = 50;
    proxy->frontend.deadlines.after_ms[DEADLINE_IDLE] = 200;
    proxy->frontend.deadlines.after_ms[DEADLINE_GRACE] = 50;
    proxy_start(proxy);
    proxy_session(proxy, fds);
    shutdown(fds[0], SHUT_WR);
    receive_end(fds[1], 0);
    proxy_wait_ended(proxy, REASON_HALF_CLOSE, 1);
    receive_end(fds[0], ECONNRESET);
    close(fds[0]);
    close(fds[1]);
    proxy_session(proxy, fds);
    receive_end(fds[0], 0);
    receive_end(fds[1], 0);
    proxy_wait_ended(proxy, REASON_IDLE, 1);
    close(fds[0]);
    close(fds[1]);
    proxy_free(proxy);
    free(proxy);
}

#define SESSION_TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SESSION_TEST(bytes_and_fins_go_both_ways),
        SESSION_TEST(what_a_client_sends_before_the_backend_is_up_is_not_lost),
        SESSION_TEST(a_reset_of_the_client_reaches_the_backend_behind_its_bytes),
        SESSION_TEST(a_reset_of_the_backend_reaches_the_client_behind_its_bytes),
        SESSION_TEST(a_reset_behind_a_fin_is_a_reset),
        SESSION_TEST(an_urgent_byte_arrives_as_one),
        SESSION_TEST(urgent_bytes_stay_in_the_stream),
        SESSION_TEST(a_client_with_an_upload_under_way_is_drained_when_its_answer_was_whole),
        SESSION_TEST(a_leg_that_somebody_else_holds_too_troubles_nobody),
        SESSION_TEST(a_client_of_a_backend_that_refuses_is_reset),
        cmocka_unit_test(deadlines_fire),
        cmocka_unit_test(peers_that_answer_a_probe_are_given_more_time),
        cmocka_unit_test(a_client_on_this_host_that_has_closed_is_not_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
