#include "tests/unit/cmocka.h"

#include "tests/unit/proxy.h"

#include <malloc.h>

/* Thousands of sessions of every kind through a plane in this process; afterwards counters, descriptors
 * and memory are where they were. */

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { BATCHES = 8 };
#else
enum { BATCHES = 30 };
#endif
enum { BATCH = 64 };

static struct proxy *new_proxy(unsigned workers)
{
    struct proxy *proxy = malloc(sizeof *proxy);
    assert_non_null(proxy);
    proxy_prepare(proxy);
    proxy->conf.workers = workers;
    return proxy;
}

static void end_proxy(struct proxy *proxy)
{
    proxy_free(proxy);
    free(proxy);
}

/* ---- kinds of session --------------------------------------------------------------------------------- */

static void exchange(const int fds[2])
{
    send_text(fds[0], "question", 0);
    receive_text(fds[1], "question");
    send_text(fds[1], "answer", 0);
    receive_text(fds[0], "answer");
}

static void client_closes(const int fds[2])
{
    exchange(fds);
    close(fds[0]);
    receive_end(fds[1], 0);
    close(fds[1]);
}

static void backend_closes(const int fds[2])
{
    exchange(fds);
    close(fds[1]);
    receive_end(fds[0], 0);
    close(fds[0]);
}

static void client_half_closes(const int fds[2])
{
    send_text(fds[0], "question", 0);
    shutdown(fds[0], SHUT_WR);
    receive_text(fds[1], "question");
    receive_end(fds[1], 0);
    send_text(fds[1], "a late answer", 0);
    receive_text(fds[0], "a late answer");
    close(fds[1]);
    receive_end(fds[0], 0);
    close(fds[0]);
}

static void backend_half_closes(const int fds[2])
{
    send_text(fds[1], "greeting", 0);
    shutdown(fds[1], SHUT_WR);
    receive_text(fds[0], "greeting");
    receive_end(fds[0], 0);
    send_text(fds[0], "a late question", 0);
    receive_text(fds[1], "a late question");
    close(fds[0]);
    receive_end(fds[1], 0);
    close(fds[1]);
}

static void both_close_at_once(const int fds[2])
{
    exchange(fds);
    shutdown(fds[0], SHUT_WR);
    shutdown(fds[1], SHUT_WR);
    receive_end(fds[0], 0);
    receive_end(fds[1], 0);
    close(fds[0]);
    close(fds[1]);
}

static void client_resets(const int fds[2])
{
    exchange(fds);
    reset_close(fds[0]);
    receive_end(fds[1], ECONNRESET);
    close(fds[1]);
}

static void backend_resets(const int fds[2])
{
    exchange(fds);
    reset_close(fds[1]);
    receive_end(fds[0], ECONNRESET);
    close(fds[0]);
}

static void client_resets_half_closed(const int fds[2])
{
    shutdown(fds[0], SHUT_WR);
    receive_end(fds[1], 0);
    reset_close(fds[0]);
    wait_for(fds[1], POLLHUP);
    close(fds[1]);
}

struct kind {
    void (*run)(const int fds[2]);
    enum reason reason;
};

static const struct kind kinds[] = {
    {client_closes, REASON_CLOSED},         {backend_closes, REASON_CLOSED},
    {client_half_closes, REASON_CLOSED},    {backend_half_closes, REASON_CLOSED},
    {both_close_at_once, REASON_CLOSED},    {client_resets, REASON_CLIENT_RESET},
    {backend_resets, REASON_BACKEND_RESET}, {client_resets_half_closed, REASON_CLIENT_RESET},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* ---- batches ------------------------------------------------------------------------------------------ */

/* Opens BATCH sessions at once. Each client names itself, so that its backend's end is found. */
static void open_batch(const struct proxy *proxy, int fds[BATCH][2])
{
    for (int i = 0; i < BATCH; i++) {
        char name = (char)i;
        fds[i][0] = proxy_client(proxy);
        assert_int_equal(send(fds[i][0], &name, 1, 0), 1);
    }
    for (int i = 0; i < BATCH; i++) {
        char name;
        int fd = proxy_origin(proxy);
        receive_exactly(fd, &name, 1);
        fds[(unsigned char)name][1] = fd;
    }
}

static void run_batch(const struct proxy *proxy, uint64_t expected[REASON_COUNT])
{
    int fds[BATCH][2];
    open_batch(proxy, fds);
    for (int i = 0; i < BATCH; i++) {
        const struct kind *kind = &kinds[i % KINDS];
        kind->run(fds[i]);
        expected[kind->reason]++;
    }
}

static void assert_counters(const struct proxy *proxy, const uint64_t expected[REASON_COUNT])
{
    uint64_t all = 0;
    for (enum reason reason = 0; reason < REASON_COUNT; reason++)
        all += expected[reason];
    proxy_wait_ended(proxy, REASON_COUNT, all);
    assert_int_equal(proxy_accepted(proxy), all);
    for (enum reason reason = 0; reason < REASON_COUNT; reason++)
        assert_int_equal(proxy_ended(proxy, reason), expected[reason]);
    uint64_t opened = 0, ended = 0;
    const struct counters_backend *backend;
    for (unsigned w = 0; (backend = plane_backend_counters(proxy->plane, w, 0)); w++) {
        opened += counter_read(&backend->opened);
        ended += counter_read(&backend->ended);
    }
    assert_int_equal(opened, all); /* of the one backend */
    assert_int_equal(ended, all);
    for (unsigned w = 0; w < 2; w++) /* nothing is open */
        for (int waited_ms = 0; counter_read(&plane_counters(proxy->plane, w)->oldest_ms) != 0; waited_ms++) {
            assert_true(waited_ms < WAIT_MS);
            pause_ms(1);
        }
}

static void wait_descriptors(int count)
{
    for (int waited_ms = 0; count_descriptors() != count; waited_ms++) {
        assert_true(waited_ms < WAIT_MS);
        pause_ms(1);
    }
}

/* 0 under a sanitizer, whose own allocator watches better. */
static size_t memory_in_use(void)
{
    return mallinfo2().uordblks;
}

static void thousands_of_sessions_leave_nothing_behind(void **state)
{
    struct proxy *proxy = new_proxy(2);
    uint64_t expected[REASON_COUNT] = {0};
    (void)state;
    proxy_start(proxy);
    for (int batch = 0; batch < 4; batch++)
        run_batch(proxy, expected);
    assert_counters(proxy, expected);
    int descriptors = count_descriptors();
    size_t bytes = memory_in_use();
    for (int batch = 0; batch < BATCHES; batch++)
        run_batch(proxy, expected);
    assert_counters(proxy, expected);
    wait_descriptors(descriptors);
    assert_true(memory_in_use() < bytes + (size_t)128 * 1024);
    end_proxy(proxy);
}

/* Takes what the proxy has connected to the origin so far. */
static void clear_origin(const struct proxy *proxy)
{
    struct pollfd polled = {.fd = proxy->origin, .events = POLLIN};
    while (poll(&polled, 1, 0) == 1)
        close(accept4(proxy->origin, NULL, NULL, SOCK_CLOEXEC));
}

/* Clients that leave before, or just as, the backend is connected to. */
static void hurried_clients_leave_nothing_behind(void **state)
{
    enum { HURRIED = BATCHES * 16 };
    struct proxy *proxy = new_proxy(2);
    (void)state;
    proxy_start(proxy);
    proxy_relay_one(proxy);
    int descriptors = count_descriptors();
    for (int i = 0; i < HURRIED; i++) {
        int fd = proxy_client(proxy);
        if (i % 2)
            reset_close(fd);
        else
            close(fd);
        clear_origin(proxy);
    }
    for (int waited_ms = 0; proxy_ended(proxy, REASON_COUNT) < HURRIED + 1; waited_ms++) {
        assert_true(waited_ms < WAIT_MS);
        clear_origin(proxy);
        pause_ms(1);
    }
    clear_origin(proxy);
    wait_descriptors(descriptors);
    proxy_relay_one(proxy);
    end_proxy(proxy);
}

static void refused_clients_leave_nothing_behind(void **state)
{
    struct proxy *proxy = new_proxy(1);
    (void)state;
    close(proxy->origin);
    proxy->origin = -1;
    proxy_start(proxy);
    int descriptors = count_descriptors();
    for (uint64_t i = 0; i < BATCHES * 16; i++) {
        int fd = proxy_client(proxy);
        receive_end(fd, ECONNRESET);
        close(fd);
    }
    proxy_wait_ended(proxy, REASON_CONNECT_FAILED, BATCHES * 16);
    wait_descriptors(descriptors);
    end_proxy(proxy);
}

static void another_server_is_tried_when_one_refuses(void **state)
{
    struct proxy *proxy = new_proxy(1);
    struct conf_server servers[2];
    struct sockaddr_in dead;
    (void)state;
    close(listen_on_loopback(&dead));
    servers[0] = servers[1] = proxy->server;
    servers[0].address = conf_address_of(&dead);
    proxy->backend.servers = servers;
    proxy->backend.server_count = 2;
    proxy_start(proxy);
    for (int i = 0; i < 20; i++)
        proxy_relay_one(proxy);
    end_proxy(proxy);
}

/* ---- limits ------------------------------------------------------------------------------------------- */

enum { LIMIT = 4, CLIENTS = 12 };

/* Waits for one of them to be told something, and closes it. */
static void close_one(int clients[CLIENTS])
{
    struct pollfd polled[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        polled[i] = (struct pollfd){.fd = clients[i], .events = POLLIN};
    assert_true(poll(polled, CLIENTS, WAIT_MS) > 0);
    for (int i = 0; i < CLIENTS; i++) {
        if (polled[i].revents) {
            receive_end(clients[i], 0);
            close(clients[i]);
            clients[i] = -1;
            return;
        }
    }
}

static void clients_beyond_the_limit_wait_for_a_place(void **state)
{
    struct proxy *proxy = new_proxy(1);
    int clients[CLIENTS];
    (void)state;
    proxy->frontend.max_connections = LIMIT;
    proxy_start(proxy);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = proxy_client(proxy);
    for (uint64_t i = 0; i < CLIENTS; i++) {
        int origin = proxy_origin(proxy);
        assert_true(proxy_accepted(proxy) <= i + LIMIT);
        close(origin);
        close_one(clients);
        proxy_wait_ended(proxy, REASON_CLOSED, i + 1);
    }
    end_proxy(proxy);
}

/* ---- the end ------------------------------------------------------------------------------------------ */

static void wait_stopped(const struct proxy *proxy)
{
    for (int waited_ms = 0; plane_running(proxy->plane); waited_ms++) {
        assert_true(waited_ms < WAIT_MS);
        pause_ms(1);
    }
}

static void aborting_resets_everybody_at_once(void **state)
{
    struct proxy *proxy = new_proxy(2);
    int fds[BATCH][2];
    (void)state;
    proxy_start(proxy);
    open_batch(proxy, fds);
    plane_abort(proxy->plane);
    wait_stopped(proxy);
    for (int i = 0; i < BATCH; i++) {
        receive_end(fds[i][0], ECONNRESET);
        receive_end(fds[i][1], ECONNRESET);
        close(fds[i][0]);
        close(fds[i][1]);
    }
    assert_int_equal(proxy_ended(proxy, REASON_SHUTDOWN), BATCH);
    end_proxy(proxy);
}

static void draining_lets_answers_through_and_ends_the_rest(void **state)
{
    struct proxy *proxy = new_proxy(2);
    int fds[BATCH][2];
    (void)state;
    proxy->frontend.deadlines.after_ms[DEADLINE_GRACE] = 10 * WAIT_MS;
    proxy->frontend.deadlines.after_ms[DEADLINE_DRAIN] = DEADLINE_OFF;
    proxy_start(proxy);
    open_batch(proxy, fds);
    plane_drain(proxy->plane);
    for (int i = 0; i < BATCH; i++) { /* each was asked for something, by its name */
        send_text(fds[i][1], "at last", 0);
        receive_text(fds[i][0], "at last");
    }
    for (int i = 0; i < BATCH; i++) {
        receive_end(fds[i][0], 0);
        receive_end(fds[i][1], 0);
        close(fds[i][0]);
        close(fds[i][1]);
    }
    wait_stopped(proxy);
    assert_int_equal(proxy_ended(proxy, REASON_DRAIN), BATCH);
    end_proxy(proxy);
}

static void draining_is_bounded(void **state)
{
    struct proxy *proxy = new_proxy(1);
    int fds[2];
    (void)state;
    proxy->frontend.deadlines.after_ms[DEADLINE_DRAIN] = 50;
    proxy_start(proxy);
    proxy_session(proxy, fds);
    send_text(fds[0], "no answer to this", 0);
    receive_text(fds[1], "no answer to this");
    plane_drain(proxy->plane);
    wait_stopped(proxy);
    receive_end(fds[0], ECONNRESET);
    assert_int_equal(proxy_ended(proxy, REASON_DRAIN), 1);
    close(fds[0]);
    close(fds[1]);
    end_proxy(proxy);
}

static void aborting_cuts_a_drain_short(void **state)
{
    struct proxy *proxy = new_proxy(1);
    int fds[2];
    (void)state;
    proxy->frontend.deadlines.after_ms[DEADLINE_DRAIN] = DEADLINE_OFF;
    proxy_start(proxy);
    proxy_session(proxy, fds);
    send_text(fds[0], "no answer to this", 0);
    receive_text(fds[1], "no answer to this");
    plane_drain(proxy->plane);
    plane_drain(proxy->plane);
    plane_abort(proxy->plane);
    wait_stopped(proxy);
    receive_end(fds[0], ECONNRESET);
    close(fds[0]);
    close(fds[1]);
    end_proxy(proxy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thousands_of_sessions_leave_nothing_behind),
        cmocka_unit_test(hurried_clients_leave_nothing_behind),
        cmocka_unit_test(refused_clients_leave_nothing_behind),
        cmocka_unit_test(another_server_is_tried_when_one_refuses),
        cmocka_unit_test(clients_beyond_the_limit_wait_for_a_place),
        cmocka_unit_test(aborting_resets_everybody_at_once),
        cmocka_unit_test(draining_lets_answers_through_and_ends_the_rest),
        cmocka_unit_test(draining_is_bounded),
        cmocka_unit_test(aborting_cuts_a_drain_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
