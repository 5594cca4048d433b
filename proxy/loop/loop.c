#include "proxy/loop/loop.h"

#include "reaper/container.h"

#include <assert.h>
#include <utlist.h>

/* What each part of a pass may take, beside what is begun when it is over. */
enum { SHARE_MS = 2 };

/* Alarms that ring before sockets get their turn. Ending a session takes some 50 us, for the look whether its
 * peer is gone, and thousands of deadlines may come due in one millisecond. */
enum { ALARMS_PER_PASS = 64 };

/* ---- shares ---- */

static void begin_share(struct loop *loop)
{
    loop->share_ns = uv_hrtime() + UINT64_C(1000000) * SHARE_MS;
}

bool loop_share_is_over(const struct loop *loop)
{
    return uv_hrtime() >= loop->share_ns;
}

/* ---- tasks ---- */

/* Those that are queued now; what they queue again is behind them, and waits for another round. */
static void run_tasks(struct loop *loop, struct task **queue)
{
    uint64_t round = ++loop->round;
    begin_share(loop);
    while (*queue && (*queue)->round != round) {
        struct task *task = *queue;
        loop_forget(loop, task);
        uv_update_time(&loop->uv);
        task->run(task);
        if (loop_share_is_over(loop))
            break;
    }
}

static void on_idle(uv_idle_t *handle)
{
    struct loop *loop = handle->data;
    run_tasks(loop, &loop->put_off);
    run_tasks(loop, &loop->soon); /* those that the last share was too short for */
    loop_settle(loop);
}

static void on_waiting(void *context)
{
    struct loop *loop = context;
    uv_update_time(&loop->uv);
    (void)poller_deliver(&loop->poller); /* there is another pass for the others */
    run_tasks(loop, &loop->soon);
    loop_settle(loop);
}

static void queue(struct loop *loop, struct task *task, struct task **queue)
{
    if (loop_is_queued(task))
        return;
    task->queue = queue;
    task->round = loop->round;
    DL_APPEND(*queue, task);
    uv_idle_start(&loop->idle, on_idle);
}

void loop_do_soon(struct loop *loop, struct task *task)
{
    queue(loop, task, &loop->soon);
}

void loop_put_off(struct loop *loop, struct task *task)
{
    queue(loop, task, &loop->put_off);
}

void loop_forget(struct loop *loop, struct task *task)
{
    (void)loop;
    if (!loop_is_queued(task))
        return;
    DL_DELETE(*task->queue, task);
    task->queue = NULL;
}

/* ---- alarms ---- */

void loop_set_alarm(struct loop *loop, struct alarm *alarm, uint64_t due_ms)
{
    if (due_ms == UINT64_MAX)
        return;
    if (wheel_entry_linked(&alarm->entry)) {
        if (alarm->entry.due_ms <= due_ms)
            return;
        wheel_remove(&loop->wheel, &alarm->entry);
    }
    wheel_add(&loop->wheel, &alarm->entry, due_ms);
}

void loop_clear_alarm(struct loop *loop, struct alarm *alarm)
{
    wheel_remove(&loop->wheel, &alarm->entry);
}

static void on_timer(uv_timer_t *handle)
{
    struct loop *loop = handle->data;
    struct wheel_entry *entry;
    loop->timer_due_ms = UINT64_MAX;
    uv_update_time(&loop->uv);
    poller_catch_up(&loop->poller);
    begin_share(loop);
    for (int i = 0; i < ALARMS_PER_PASS && (entry = wheel_pop(&loop->wheel, loop_now_ms(loop))); i++) {
        struct alarm *alarm = CONTAINER(struct alarm, entry, entry);
        alarm->ring(alarm);
        if (loop_share_is_over(loop))
            break;
    }
    loop_settle(loop);
}

static void set_timer(struct loop *loop)
{
    uint64_t next_ms = wheel_next_ms(&loop->wheel);
    uint64_t now_ms = loop_now_ms(loop);
    if (next_ms >= loop->timer_due_ms)
        return;
    loop->timer_due_ms = next_ms;
    /* Not 0: libuv 1.44 runs what is due at once in the same pass, and the sockets would wait. */
    uv_timer_start(&loop->timer, on_timer, next_ms > now_ms ? next_ms - now_ms : 1, 0);
}

/* ---- graves ---- */

void loop_bury(struct loop *loop, struct grave *grave, void (*free)(struct grave *grave))
{
    grave->free = free;
    LL_PREPEND(loop->graves, grave);
}

static void empty_graves(struct loop *loop)
{
    while (loop->graves) {
        struct grave *grave = loop->graves;
        LL_DELETE(loop->graves, grave);
        grave->free(grave);
    }
}

/* ---- life ---- */

void loop_settle(struct loop *loop)
{
    empty_graves(loop);
    loop->settled(loop->context);
    if (loop_is_closing(loop))
        return;
    if (!loop->soon && !loop->put_off)
        uv_idle_stop(&loop->idle);
    set_timer(loop);
}

int loop_init(struct loop *loop, void (*settled)(void *context), void *context)
{
    *loop = (struct loop){.timer_due_ms = UINT64_MAX, .settled = settled, .context = context};
    int error = uv_loop_init(&loop->uv);
    if (error)
        return error;
    error = poller_init(&loop->poller, &loop->uv, on_waiting, loop);
    if (error) {
        uv_loop_close(&loop->uv);
        return error;
    }
    uv_timer_init(&loop->uv, &loop->timer);
    uv_idle_init(&loop->uv, &loop->idle);
    loop->timer.data = loop->idle.data = loop;
    wheel_init(&loop->wheel, loop_now_ms(loop));
    return 0;
}

void loop_close(struct loop *loop)
{
    poller_close(&loop->poller);
    uv_close((uv_handle_t *)&loop->timer, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
}

bool loop_is_closing(const struct loop *loop)
{
    return uv_is_closing((const uv_handle_t *)&loop->timer);
}

void loop_end(struct loop *loop)
{
    empty_graves(loop);
    int error = uv_loop_close(&loop->uv);
    assert(!error);
    (void)error;
}
