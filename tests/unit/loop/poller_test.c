#include "tests/unit/cmocka.h"

#include "proxy/loop/poller.h"
#include "tests/unit/sockets.h"

#include <sys/epoll.h>

struct fixture {
    uv_loop_t loop;
    struct poller poller;
};

/* A socket that counts what it is told. */
struct watched {
    struct poller_source source;
    int fds[2]; /* [0] is watched */
    uint32_t events;
    unsigned calls;
};

static void on_waiting(void *context)
{
    struct fixture *fixture = context;
    (void)poller_deliver(&fixture->poller);
}

static void fixture_open(struct fixture *fixture)
{
    assert_int_equal(uv_loop_init(&fixture->loop), 0);
    assert_int_equal(poller_init(&fixture->poller, &fixture->loop, on_waiting, fixture), 0);
}

static void fixture_close(struct fixture *fixture)
{
    poller_close(&fixture->poller);
    uv_run(&fixture->loop, UV_RUN_DEFAULT);
    assert_int_equal(fixture->poller.fd, -1);
    assert_int_equal(uv_loop_close(&fixture->loop), 0);
}

static void on_ready(struct poller_source *source, uint32_t events)
{
    struct watched *watched = (struct watched *)source;
    watched->events |= events;
    watched->calls++;
}

static void watched_open(struct watched *watched, struct fixture *fixture)
{
    *watched = (struct watched){.source.ready = on_ready};
    tcp_pair(watched->fds, 0);
    assert_int_equal(
        poller_add(&fixture->poller, watched->fds[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP, &watched->source), 0);
}

static void watched_close(struct watched *watched)
{
    close(watched->fds[0]);
    close(watched->fds[1]);
}

static void run_until(struct fixture *fixture, struct watched *watched, uint32_t events)
{
    while ((watched->events & events) != events)
        uv_run(&fixture->loop, UV_RUN_ONCE);
}

static void a_source_is_told_of_each_edge_once(void **state)
{
    struct fixture fixture;
    struct watched watched;
    (void)state;
    fixture_open(&fixture);
    watched_open(&watched, &fixture);
    run_until(&fixture, &watched, EPOLLOUT);
    assert_int_equal(watched.calls, 1);
    send_text(watched.fds[1], "x", 0);
    run_until(&fixture, &watched, EPOLLIN);
    assert_int_equal(watched.calls, 2);
    uv_run(&fixture.loop, UV_RUN_NOWAIT); /* unread, but told */
    assert_int_equal(watched.calls, 2);
    watched_close(&watched);
    fixture_close(&fixture);
}

static void the_end_of_a_peer_is_seen_though_nobody_reads(void **state)
{
    struct fixture fixture;
    struct watched watched;
    (void)state;
    fixture_open(&fixture);
    watched_open(&watched, &fixture);
    shutdown(watched.fds[1], SHUT_WR);
    run_until(&fixture, &watched, EPOLLRDHUP);
    assert_false(watched.events & EPOLLHUP);
    reset_close(watched.fds[1]);
    run_until(&fixture, &watched, EPOLLHUP | EPOLLERR);
    close(watched.fds[0]);
    fixture_close(&fixture);
}

static void one_that_was_removed_hears_nothing_though_it_is_open(void **state)
{
    struct fixture fixture;
    struct watched watched, other;
    (void)state;
    fixture_open(&fixture);
    watched_open(&watched, &fixture);
    watched_open(&other, &fixture);
    poller_remove(&fixture.poller, watched.fds[0]);
    send_text(watched.fds[1], "x", 0);
    wait_queued(watched.fds[0], 1);
    send_text(other.fds[1], "x", 0);
    run_until(&fixture, &other, EPOLLIN);
    assert_int_equal(watched.calls, 0);
    watched_close(&watched);
    watched_close(&other);
    fixture_close(&fixture);
}

enum { MANY = 600 };

static void more_than_a_batch_is_caught_up_with_at_once(void **state)
{
    static struct watched many[MANY];
    struct fixture fixture;
    (void)state;
    fixture_open(&fixture);
    for (int i = 0; i < MANY; i++) {
        many[i] = (struct watched){.source.ready = on_ready};
        unix_pair(many[i].fds);
        send_text(many[i].fds[1], "x", 0);
        assert_int_equal(poller_add(&fixture.poller, many[i].fds[0], EPOLLIN, &many[i].source), 0);
    }
    assert_true(poller_deliver(&fixture.poller)); /* the others wait */
    poller_catch_up(&fixture.poller);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(many[i].calls, 1);
        assert_int_equal(many[i].events, EPOLLIN);
        watched_close(&many[i]);
    }
    fixture_close(&fixture);
}

static unsigned told;

/* Whose peer has something to say again as soon as the last of it was heard. */
static void on_ready_again(struct poller_source *source, uint32_t events)
{
    struct watched *watched = (struct watched *)source;
    char byte;
    (void)events;
    told++;
    if (recv(watched->fds[0], &byte, 1, MSG_DONTWAIT) == 1)
        send_text(watched->fds[1], "x", 0);
}

static void catching_up_ends_though_every_source_always_has_more(void **state)
{
    static struct watched many[MANY];
    struct fixture fixture;
    (void)state;
    fixture_open(&fixture);
    for (int i = 0; i < MANY; i++) {
        many[i] = (struct watched){.source.ready = on_ready_again};
        unix_pair(many[i].fds);
        send_text(many[i].fds[1], "x", 0);
        assert_int_equal(poller_add(&fixture.poller, many[i].fds[0], EPOLLIN, &many[i].source), 0);
    }
    told = 0;
    poller_catch_up(&fixture.poller);
    assert_in_range(told, MANY,
                    2 * MANY); /* whole batches, of those that were ready and of some that are again */
    for (int i = 0; i < MANY; i++)
        watched_close(&many[i]);
    fixture_close(&fixture);
}

static void what_can_not_be_watched_is_an_error(void **state)
{
    struct fixture fixture;
    struct watched watched = {.source.ready = on_ready};
    (void)state;
    fixture_open(&fixture);
    assert_int_equal(poller_add(&fixture.poller, -1, EPOLLIN, &watched.source), -EBADF);
    poller_remove(&fixture.poller, -1);
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_source_is_told_of_each_edge_once),
        cmocka_unit_test(the_end_of_a_peer_is_seen_though_nobody_reads),
        cmocka_unit_test(one_that_was_removed_hears_nothing_though_it_is_open),
        cmocka_unit_test(more_than_a_batch_is_caught_up_with_at_once),
        cmocka_unit_test(catching_up_ends_though_every_source_always_has_more),
        cmocka_unit_test(what_can_not_be_watched_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
