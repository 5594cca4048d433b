#include "tests/unit/cmocka.h"

#include "proxy/server/pool.h"
#include "proxy/server/retire.h"
#include "reaper/container.h"
#include "tests/unit/sockets.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <utlist.h>

/* ---- what a pool is among: a clock, places and a worker of the test's own --------------------------- */

enum { LEGS = 8, GRACE_MS = 250, IDLE_MS = 4000, START_MS = 1000000 };

static struct {
    uint64_t now_ms;
    struct limit limit; /* of descriptors */
} around;

uint64_t __wrap_uv_now(const uv_loop_t *loop);
uint64_t __wrap_uv_now(const uv_loop_t *loop)
{
    (void)loop;
    return around.now_ms;
}

struct bed {
    struct shared shared;
    struct conf_backend conf;
    struct pool pool;
    struct poller_source source; /* of the session that has a leg */
    int backend[LEGS];           /* the other ends */
    int fds[LEGS];
};

static void settled(void *context)
{
    (void)context;
}

static void on_session(struct poller_source *source, uint32_t events)
{
    (void)source;
    (void)events;
}

static void prepare(struct bed *bed)
{
    memset(bed, 0, sizeof *bed);
    around.now_ms = START_MS;
    around.limit = (struct limit){.max = 100};
    bed->shared.limit = &around.limit;
    bed->shared.workers = 1;
    bed->shared.workers = 1;
    assert_int_equal(loop_init(&bed->shared.loop, settled, NULL), 0);
    bed->shared.tools.scratch = malloc(RELAY_SCRATCH);
    assert_non_null(bed->shared.tools.scratch);
    bed->conf = (struct conf_backend){.reuse_max = 32, .reuse_idle_ms = IDLE_MS};
    bed->source.ready = on_session;
    pool_init(&bed->pool, &bed->shared, &bed->conf);
    for (int i = 0; i < LEGS; i++) {
        int ends[2];
        tcp_pair(ends, 0);
        bed->fds[i] = ends[0];
        bed->backend[i] = ends[1];
        assert_int_equal(poller_add(&bed->shared.loop.poller, ends[0], EPOLLIN, &bed->source), 0);
    }
}

/* Everything was given back. */
static void finish(struct bed *bed)
{
    struct retiring *leg, *next;
    pool_close(&bed->pool);
    DL_FOREACH_SAFE(bed->shared.retiring, leg, next)
    {
        retire_abort(leg);
    }
    loop_settle(&bed->shared.loop);
    assert_null(bed->shared.pools);
    assert_int_equal(around.limit.taken, 0);
    assert_true(wheel_next_ms(&bed->shared.loop.wheel) == UINT64_MAX);
    for (int i = 0; i < LEGS; i++)
        if (bed->backend[i] >= 0)
            close(bed->backend[i]);
    loop_close(&bed->shared.loop);
    uv_run(&bed->shared.loop.uv, UV_RUN_DEFAULT);
    loop_end(&bed->shared.loop);
    free(bed->shared.tools.scratch);
}

static void put(struct bed *bed, int leg)
{
    pool_put(&bed->pool, bed->fds[leg], GRACE_MS);
}

static void put_some(struct bed *bed, int count)
{
    for (int i = 0; i < count; i++) {
        put(bed, i);
        around.now_ms++;
    }
}

static void take(struct bed *bed, int leg)
{
    assert_int_equal(pool_take(&bed->pool, EPOLLIN, &bed->source), leg < 0 ? -1 : bed->fds[leg]);
}

static void pass(struct bed *bed, uint64_t ms)
{
    struct wheel_entry *entry;
    for (uint64_t until_ms = around.now_ms + ms; around.now_ms < until_ms;) {
        uint64_t next_ms = wheel_next_ms(&bed->shared.loop.wheel);
        around.now_ms = next_ms < until_ms ? (next_ms > around.now_ms ? next_ms : around.now_ms) : until_ms;
        while ((entry = wheel_pop(&bed->shared.loop.wheel, around.now_ms))) {
            struct alarm *alarm = CONTAINER(struct alarm, entry, entry);
            alarm->ring(alarm);
        }
    }
    loop_settle(&bed->shared.loop);
}

/* What has happened to the sockets. */
static void look(struct bed *bed)
{
    poller_catch_up(&bed->shared.loop.poller);
}

static void backend_closes(struct bed *bed, int leg)
{
    close(bed->backend[leg]);
    bed->backend[leg] = -1;
    wait_for(bed->fds[leg], POLLIN);
}

static void is_untouched(const struct bed *bed, int leg)
{
    char byte;
    assert_int_equal(recv(bed->backend[leg], &byte, 1, MSG_DONTWAIT), -1);
    assert_int_equal(errno, EAGAIN);
}

static size_t retiring(const struct bed *bed)
{
    size_t count;
    struct retiring *leg;
    DL_COUNT(bed->shared.retiring, leg, count);
    return count;
}

/* ---- putting and taking ------------------------------------------------------------------------------- */

static void the_newest_is_taken_first(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    take(&bed, -1);
    put_some(&bed, 3);
    assert_int_equal(around.limit.taken, 3);
    take(&bed, 2);
    take(&bed, 1);
    put(&bed, 2);
    take(&bed, 2);
    take(&bed, 0);
    take(&bed, -1);
    assert_int_equal(around.limit.taken, 0);
    for (int i = 0; i < LEGS; i++)
        is_untouched(&bed, i);
    finish(&bed);
}

static void what_its_backend_closed_reset_or_wrote_to_is_not_given_out(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    put_some(&bed, 4);
    send_text(bed.backend[3], "?", 0);
    wait_for(bed.fds[3], POLLIN);
    backend_closes(&bed, 2);
    reset_close(bed.backend[1]);
    bed.backend[1] = -1;
    wait_for(bed.fds[1], POLLHUP);
    take(&bed, 0);
    assert_int_equal(retiring(&bed), 3);
    look(&bed); /* of those that the backend has ended, nothing is waited for */
    assert_int_equal(retiring(&bed), 1);
    receive_end(bed.backend[3], 0);
    pass(&bed, GRACE_MS);
    wait_for(bed.backend[3], POLLHUP);
    assert_int_equal(retiring(&bed), 0);
    finish(&bed);
}

static void an_event_of_the_turn_in_which_a_leg_was_taken_finds_its_memory(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    put(&bed, 0);
    take(&bed, 0);
    struct retiring *taken = CONTAINER(struct retiring, grave, bed.shared.loop.graves);
    assert_non_null(taken);
    send_text(bed.backend[0], "?", 0); /* it is the session's affair */
    wait_for(bed.fds[0], POLLIN);
    taken->source.ready(&taken->source, EPOLLIN | EPOLLRDHUP);
    assert_int_equal(retiring(&bed), 0);
    finish(&bed);
}

/* recv(2) leaves errno alone then. */
static void the_end_of_a_stream_is_no_silence_whatever_failed_before(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    put(&bed, 0);
    backend_closes(&bed, 0);
    errno = EAGAIN;
    take(&bed, -1);
    finish(&bed);
}

static void an_event_for_nothing_leaves_it_where_it_is(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    put(&bed, 0);
    bed.pool.legs->source.ready(&bed.pool.legs->source, EPOLLIN);
    take(&bed, 0);
    finish(&bed);
}

/* ---- ends --------------------------------------------------------------------------------------------- */

static void a_backend_that_closes_or_speaks_takes_its_leg_out(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    put_some(&bed, 3);
    look(&bed);
    assert_int_equal(bed.pool.count, 3);
    backend_closes(&bed, 0);
    send_text(bed.backend[1], "?", 0);
    wait_for(bed.fds[1], POLLIN);
    look(&bed);
    assert_int_equal(bed.pool.count, 1);
    receive_end(bed.backend[1], 0);
    take(&bed, 2);
    finish(&bed);
}

static void an_idle_leg_gets_fin_and_after_the_grace_rst(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    put(&bed, 0);
    pass(&bed, 1000);
    put(&bed, 1);
    pass(&bed, IDLE_MS - 1000);
    receive_end(bed.backend[0], 0);
    is_untouched(&bed, 1);
    assert_int_equal(bed.pool.count, 1);
    pass(&bed, GRACE_MS);
    wait_for(bed.backend[0], POLLHUP); /* reset */
    assert_int_equal(counter_read(&bed.shared.counters.resets[LEG_BACKEND]), 1);
    pass(&bed, 1000 - GRACE_MS);
    receive_end(bed.backend[1], 0);
    backend_closes(&bed, 1);
    look(&bed);
    assert_int_equal(retiring(&bed), 0);
    assert_int_equal(counter_read(&bed.shared.counters.resets[LEG_BACKEND]), 1);
    assert_true(bed.shared.freed_descriptors); /* listeners that wait for one go on */
    finish(&bed);
}

static void a_leg_that_came_back_counts_anew(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    for (int i = 0; i < 5; i++) {
        put(&bed, 0);
        pass(&bed, IDLE_MS - 1);
        take(&bed, 0);
    }
    put(&bed, 0);
    pass(&bed, IDLE_MS);
    assert_int_equal(bed.pool.count, 0);
    receive_end(bed.backend[0], 0);
    finish(&bed);
}

static void a_full_pool_parts_with_the_oldest(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    bed.conf.reuse_max = 4;
    bed.shared.workers = 3; /* two for each */
    put_some(&bed, 3);
    assert_int_equal(bed.pool.count, 2);
    receive_end(bed.backend[0], 0);
    take(&bed, 2);
    take(&bed, 1);
    take(&bed, -1);
    finish(&bed);
}

static void the_pool_of_a_target_that_is_gone_keeps_nothing(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    put_some(&bed, 2);
    pool_close(&bed.pool);
    put(&bed, 2);
    for (int i = 0; i < 3; i++)
        receive_end(bed.backend[i], 0);
    assert_int_equal(retiring(&bed), 3);
    take(&bed, -1);
    finish(&bed);
}

static void a_worker_that_ends_keeps_nothing(void **state)
{
    struct bed bed;
    struct pool other;
    (void)state;
    prepare(&bed);
    pool_init(&other, &bed.shared, &bed.conf);
    put_some(&bed, 2);
    pool_put(&other, bed.fds[2], GRACE_MS);
    bed.shared.ends = true;
    pool_empty_all(&bed.shared);
    put(&bed, 3);
    assert_int_equal(bed.pool.count + other.count, 0);
    assert_int_equal(retiring(&bed), 4);
    pool_close(&other);
    finish(&bed);
}

/* ---- descriptors -------------------------------------------------------------------------------------- */

static void without_a_place_a_leg_parts(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    around.limit.max = 2;
    put_some(&bed, 3);
    assert_int_equal(bed.pool.count, 2);
    receive_end(bed.backend[2], 0);
    assert_int_equal(around.limit.taken, 3); /* it is open, and nobody is admitted until it is not */
    pass(&bed, GRACE_MS);
    assert_int_equal(around.limit.taken, 2);
    finish(&bed);
}

static void what_the_poller_will_not_watch_is_reset_and_its_place_given_back(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    poller_remove(&bed.shared.loop.poller, bed.fds[0]);
    put(&bed, 0);
    wait_for(bed.backend[0], POLLHUP);
    assert_int_equal(around.limit.taken, 0);
    finish(&bed);
}

static void those_that_were_idle_for_longest_give_way(void **state)
{
    struct bed bed;
    struct pool other;
    (void)state;
    prepare(&bed);
    pool_init(&other, &bed.shared, &bed.conf);
    put_some(&bed, 1);
    pool_put(&other, bed.fds[1], GRACE_MS);
    around.now_ms++;
    put(&bed, 2);
    pool_give_way(&bed.shared, 1);
    receive_end(bed.backend[0], 0);
    is_untouched(&bed, 1);
    pool_give_way(&bed.shared, 1);
    receive_end(bed.backend[1], 0);
    assert_int_equal(bed.pool.count, 1);
    pool_give_way(&bed.shared, 2);
    pool_give_way(&bed.shared, 2); /* there is none left */
    assert_int_equal(retiring(&bed), 3);
    pool_close(&other);
    finish(&bed);
}

static void a_leg_that_settles_is_taken_only_behind_its_time(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    put(&bed, 0);
    pool_put_settling(&bed.pool, bed.fds[1], GRACE_MS);
    take(&bed, 0); /* though the other is newer */
    take(&bed, -1);
    pass(&bed, POOL_SETTLE_MS - 1);
    take(&bed, -1);
    pass(&bed, 1);
    take(&bed, 1);
    finish(&bed);
}

static void a_leg_on_which_more_is_said_while_it_settles_is_retired(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed);
    pool_put_settling(&bed.pool, bed.fds[0], GRACE_MS);
    send_text(bed.backend[0], "late", 0);
    wait_for(bed.fds[0], POLLIN);
    look(&bed);
    assert_int_equal(bed.pool.count, 0);
    assert_int_equal(retiring(&bed), 1);
    pass(&bed, POOL_SETTLE_MS);
    take(&bed, -1);
    finish(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leg_that_settles_is_taken_only_behind_its_time),
        cmocka_unit_test(a_leg_on_which_more_is_said_while_it_settles_is_retired),
        cmocka_unit_test(the_newest_is_taken_first),
        cmocka_unit_test(what_its_backend_closed_reset_or_wrote_to_is_not_given_out),
        cmocka_unit_test(an_event_of_the_turn_in_which_a_leg_was_taken_finds_its_memory),
        cmocka_unit_test(the_end_of_a_stream_is_no_silence_whatever_failed_before),
        cmocka_unit_test(an_event_for_nothing_leaves_it_where_it_is),
        cmocka_unit_test(a_backend_that_closes_or_speaks_takes_its_leg_out),
        cmocka_unit_test(an_idle_leg_gets_fin_and_after_the_grace_rst),
        cmocka_unit_test(a_leg_that_came_back_counts_anew),
        cmocka_unit_test(a_full_pool_parts_with_the_oldest),
        cmocka_unit_test(the_pool_of_a_target_that_is_gone_keeps_nothing),
        cmocka_unit_test(a_worker_that_ends_keeps_nothing),
        cmocka_unit_test(without_a_place_a_leg_parts),
        cmocka_unit_test(what_the_poller_will_not_watch_is_reset_and_its_place_given_back),
        cmocka_unit_test(those_that_were_idle_for_longest_give_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
