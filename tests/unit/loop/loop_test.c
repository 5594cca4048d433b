#include "tests/unit/cmocka.h"

#include "proxy/loop/loop.h"
#include "reaper/container.h"
#include "tests/unit/sockets.h"

#include <stdlib.h>
#include <sys/epoll.h>

/* A loop on the test's own clocks: what is done takes the time that the test says it does. */

enum { NS_PER_MS = 1000000, SHARE_MS = 2, MANY = 1000, START_MS = 5000 };

static uint64_t spent_ns, now_ms, cached_ms;

uint64_t __wrap_uv_hrtime(void);
uint64_t __wrap_uv_now(const uv_loop_t *loop);
void __wrap_uv_update_time(uv_loop_t *loop);

uint64_t __wrap_uv_hrtime(void)
{
    return spent_ns;
}

uint64_t __wrap_uv_now(const uv_loop_t *loop)
{
    (void)loop;
    return cached_ms;
}

void __wrap_uv_update_time(uv_loop_t *loop)
{
    (void)loop;
    cached_ms = now_ms;
}

static void spend(uint64_t ms)
{
    spent_ns += ms * NS_PER_MS;
    now_ms += ms;
}

struct item {
    struct task task;
    struct alarm alarm;
    struct grave grave;
    unsigned runs;
    uint64_t seen_ms;
};

struct fixture {
    struct loop loop;
    struct item items[MANY];
    struct poller_source source;
    int fds[2]; /* [0] is watched */
    unsigned passes, ran, rung, told, freed;
    bool again; /* who has run puts itself off again */
};

static struct fixture *fixture;

static void on_settled(void *context)
{
    struct fixture *f = context;
    f->passes++;
}

static void on_task(struct task *task)
{
    struct item *item = CONTAINER(struct item, task, task);
    item->runs++;
    item->seen_ms = loop_now_ms(&fixture->loop);
    fixture->ran++;
    spend(1);
    if (fixture->again)
        loop_put_off(&fixture->loop, task);
}

static void on_alarm(struct alarm *alarm)
{
    CONTAINER(struct item, alarm, alarm)->runs++;
    fixture->rung++;
    spend(1);
}

static void on_free(struct grave *grave)
{
    CONTAINER(struct item, grave, grave)->runs++;
    fixture->freed++;
}

static void on_ready(struct poller_source *source, uint32_t events)
{
    (void)source;
    (void)events;
    fixture->told++;
    loop_do_soon(&fixture->loop, &fixture->items[0].task);
}

static int start(void **state)
{
    struct fixture *f = fixture = calloc(1, sizeof *f);
    assert_non_null(f);
    spent_ns = 0;
    now_ms = cached_ms = START_MS;
    assert_int_equal(loop_init(&f->loop, on_settled, f), 0);
    for (int i = 0; i < MANY; i++) {
        f->items[i].task.run = on_task;
        f->items[i].alarm.ring = on_alarm;
    }
    unix_pair(f->fds);
    f->source.ready = on_ready;
    assert_int_equal(poller_add(&f->loop.poller, f->fds[0], EPOLLIN, &f->source), 0);
    *state = f;
    return 0;
}

static int stop(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < MANY; i++) {
        loop_forget(&f->loop, &f->items[i].task);
        loop_clear_alarm(&f->loop, &f->items[i].alarm);
    }
    poller_remove(&f->loop.poller, f->fds[0]);
    loop_close(&f->loop);
    uv_run(&f->loop.uv, UV_RUN_DEFAULT);
    loop_end(&f->loop);
    close(f->fds[0]);
    close(f->fds[1]);
    free(f);
    return 0;
}

static void pass(struct fixture *f)
{
    (void)uv_run(&f->loop.uv, UV_RUN_NOWAIT);
}

static void a_pass_ends_however_many_tasks_wait(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < MANY; i++)
        loop_put_off(&f->loop, &f->items[i].task);
    pass(f);
    assert_int_equal(f->ran, SHARE_MS);
    assert_int_equal(f->passes, 1);
    for (unsigned passes = 1; passes < MANY / SHARE_MS; passes++)
        pass(f);
    assert_int_equal(f->ran, MANY);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(f->items[i].runs, 1);
}

static void who_was_put_off_waits_for_the_next_pass(void **state)
{
    struct fixture *f = *state;
    f->again = true;
    loop_put_off(&f->loop, &f->items[0].task);
    for (unsigned passes = 1; passes <= 3; passes++) {
        pass(f);
        assert_int_equal(f->ran, passes);
    }
}

static void what_sockets_bring_does_not_wait_for_those_that_were_put_off(void **state)
{
    struct fixture *f = *state;
    f->again = true;
    for (int i = 1; i < MANY; i++)
        loop_put_off(&f->loop, &f->items[i].task);
    pass(f);
    send_text(f->fds[1], "x", 0);
    pass(f);
    assert_int_equal(f->told, 1);
    assert_int_equal(f->items[0].runs, 1);
    assert_int_equal(f->ran, 2 * SHARE_MS + 1);
}

/* Each of the sockets' tasks queues one more. */
static void on_chain(struct task *task)
{
    struct item *item = CONTAINER(struct item, task, task);
    item->runs++;
    fixture->ran++;
    spend(1);
    if (item + 1 < fixture->items + MANY)
        loop_do_soon(&fixture->loop, &item[1].task);
}

static void tasks_that_make_tasks_do_not_prolong_a_pass(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < MANY; i++)
        f->items[i].task.run = on_chain;
    send_text(f->fds[1], "x", 0);
    pass(f);
    assert_int_equal(f->ran, 1);
    pass(f);
    assert_int_equal(f->ran, 2);
}

static void what_a_share_was_too_short_for_is_done_though_nothing_comes(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 10; i++)
        loop_do_soon(&f->loop, &f->items[i].task);
    for (unsigned passes = 1; passes <= 10 / SHARE_MS; passes++) {
        pass(f);
        assert_int_equal(f->ran, passes * SHARE_MS);
    }
}

static void each_task_knows_the_time_when_it_begins(void **state)
{
    struct fixture *f = *state;
    loop_put_off(&f->loop, &f->items[0].task);
    loop_put_off(&f->loop, &f->items[1].task);
    pass(f);
    assert_int_equal(f->items[0].seen_ms, START_MS);
    assert_int_equal(f->items[1].seen_ms, START_MS + 1);
}

/* The timer is libuv's, on the time of this machine: one pass in which it has come. */
static void ring_some(struct fixture *f)
{
    for (unsigned before = f->rung; f->rung == before;)
        pass(f);
}

static void a_pass_ends_however_many_alarms_are_due(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < MANY; i++)
        loop_set_alarm(&f->loop, &f->items[i].alarm, START_MS);
    loop_settle(&f->loop);
    ring_some(f);
    assert_int_equal(f->rung, SHARE_MS);
    while (f->rung < 10 * SHARE_MS)
        ring_some(f);
    assert_int_equal(f->rung, 10 * SHARE_MS);
}

/* So that nobody is told that he is late of what came in time: what happened up to the time that alarms are
 * measured by was delivered before. */
static void an_alarm_is_not_due_by_the_time_that_others_took(void **state)
{
    struct fixture *f = *state;
    loop_set_alarm(&f->loop, &f->items[0].alarm, START_MS);
    loop_set_alarm(&f->loop, &f->items[1].alarm, START_MS + 1);
    loop_settle(&f->loop);
    ring_some(f);
    assert_int_equal(f->items[0].runs, 1);
    assert_int_equal(f->items[1].runs, 0);
    ring_some(f);
    assert_int_equal(f->items[1].runs, 1);
}

static void a_grave_is_emptied_when_the_pass_is_over(void **state)
{
    struct fixture *f = *state;
    loop_bury(&f->loop, &f->items[0].grave, on_free);
    loop_bury(&f->loop, &f->items[1].grave, on_free);
    assert_int_equal(f->freed, 0);
    loop_settle(&f->loop);
    assert_int_equal(f->freed, 2);
    loop_settle(&f->loop);
    assert_int_equal(f->freed, 2);
}

static void the_last_graves_are_emptied_with_the_loop(void **state)
{
    struct fixture *f = *state;
    struct loop loop;
    assert_int_equal(loop_init(&loop, on_settled, f), 0);
    loop_close(&loop);
    uv_run(&loop.uv, UV_RUN_DEFAULT);
    loop_bury(&loop, &f->items[0].grave, on_free);
    loop_end(&loop);
    assert_int_equal(f->freed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_pass_ends_however_many_tasks_wait, start, stop),
        cmocka_unit_test_setup_teardown(who_was_put_off_waits_for_the_next_pass, start, stop),
        cmocka_unit_test_setup_teardown(what_sockets_bring_does_not_wait_for_those_that_were_put_off, start,
                                        stop),
        cmocka_unit_test_setup_teardown(tasks_that_make_tasks_do_not_prolong_a_pass, start, stop),
        cmocka_unit_test_setup_teardown(what_a_share_was_too_short_for_is_done_though_nothing_comes, start,
                                        stop),
        cmocka_unit_test_setup_teardown(each_task_knows_the_time_when_it_begins, start, stop),
        cmocka_unit_test_setup_teardown(a_pass_ends_however_many_alarms_are_due, start, stop),
        cmocka_unit_test_setup_teardown(an_alarm_is_not_due_by_the_time_that_others_took, start, stop),
        cmocka_unit_test_setup_teardown(a_grave_is_emptied_when_the_pass_is_over, start, stop),
        cmocka_unit_test_setup_teardown(the_last_graves_are_emptied_with_the_loop, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
