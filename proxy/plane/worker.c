#include "proxy/plane/worker.h"

#include "proxy/plane/backend.h"
#include "proxy/plane/listener.h"
#include "proxy/plane/parting.h"
#include "proxy/plane/place.h"
#include "proxy/plane/pool.h"
#include "proxy/plane/session.h"
#include "reaper/container.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

/* Alarms that ring before sockets get their turn. Ending a session takes some 50 us, for the look whether its
 * peer is gone, and thousands of deadlines may come due in one millisecond. */
enum { ALARMS_PER_TURN = 64 };

/* Sessions that are aborted in one turn, and how long they wait in all for a log that takes no lines: its
 * ring holds those of about a thousand. */
enum { ABORTS_PER_TURN = 64, ABORTS_WAIT_MS = 1000 };

/* ---- put-off work and alarms ---- */

static void settle(void *context);

static void on_idle(uv_idle_t *handle)
{
    struct worker *worker = handle->data;
    struct task *task;
    size_t count;
    DL_COUNT(worker->tasks, task, count);
    /* What these put off again is behind them and waits for the next turn. */
    while (count-- > 0 && worker->tasks) {
        task = worker->tasks;
        worker_forget(worker, task);
        task->run(task);
    }
    if (!worker->tasks)
        uv_idle_stop(&worker->idle);
    settle(worker);
}

void worker_put_off(struct worker *worker, struct task *task)
{
    if (task->queued)
        return;
    task->queued = true;
    DL_APPEND(worker->tasks, task);
    uv_idle_start(&worker->idle, on_idle);
}

void worker_forget(struct worker *worker, struct task *task)
{
    if (!task->queued)
        return;
    task->queued = false;
    DL_DELETE(worker->tasks, task);
}

void worker_set_alarm(struct worker *worker, struct alarm *alarm, uint64_t due_ms)
{
    if (due_ms == UINT64_MAX)
        return;
    if (wheel_entry_linked(&alarm->entry)) {
        if (alarm->entry.due_ms <= due_ms)
            return;
        wheel_remove(&worker->wheel, &alarm->entry);
    }
    wheel_add(&worker->wheel, &alarm->entry, due_ms);
}

void worker_clear_alarm(struct worker *worker, struct alarm *alarm)
{
    wheel_remove(&worker->wheel, &alarm->entry);
}

static void on_timer(uv_timer_t *handle)
{
    struct worker *worker = handle->data;
    struct wheel_entry *entry;
    worker->timer_due_ms = UINT64_MAX;
    poller_catch_up(&worker->poller);
    for (int i = 0; i < ALARMS_PER_TURN && (entry = wheel_pop(&worker->wheel, worker_now_ms(worker))); i++) {
        struct alarm *alarm = CONTAINER(struct alarm, entry, entry);
        alarm->ring(alarm);
    }
    settle(worker);
}

static void set_timer(struct worker *worker)
{
    uint64_t next_ms = wheel_next_ms(&worker->wheel);
    uint64_t now_ms = worker_now_ms(worker);
    if (next_ms >= worker->timer_due_ms)
        return;
    worker->timer_due_ms = next_ms;
    /* Not 0: libuv 1.44 runs what is due at once in the same turn, and the sockets would wait. */
    uv_timer_start(&worker->timer, on_timer, next_ms > now_ms ? next_ms - now_ms : 1, 0);
}

/* ---- sessions ---- */

void worker_session_opened(struct worker *worker, struct session *session)
{
    /* Unique among workers: they count in steps of their number. */
    session->id = worker->next_id;
    worker->next_id += plane_worker_count(worker->plane);
    counter_add(&worker->counters.accepted, 1);
    DL_APPEND(worker->sessions, session);
}

void worker_session_ended(struct worker *worker, struct session *session)
{
    place_give_back(worker->plane, session->frontend, session->place);
    worker->places = true;
}

void worker_session_done(struct worker *worker, struct session *session)
{
    DL_DELETE(worker->sessions, session);
    LL_PREPEND(worker->done, session);
}

static void free_done(struct worker *worker)
{
    while (worker->done) {
        struct session *session = worker->done;
        LL_DELETE(worker->done, session);
        session_free(session);
    }
    while (worker->parted) {
        struct parting *parting = worker->parted;
        LL_DELETE(worker->parted, parting);
        free(parting);
    }
}

/* ---- life ---- */

static void close_handles(struct worker *worker)
{
    poller_close(&worker->poller);
    uv_close((uv_handle_t *)&worker->timer, NULL);
    uv_close((uv_handle_t *)&worker->idle, NULL);
    uv_close((uv_handle_t *)&worker->wake, NULL);
    for (size_t i = 0; worker->backends && i < plane_conf(worker->plane)->backend_count; i++)
        backend_close(&worker->backends[i]);
}

static bool may_abort(const struct worker *worker, int count)
{
    bool waited = worker_now_ms(worker) - worker->aborting_ms > ABORTS_WAIT_MS;
    return count < ABORTS_PER_TURN && (waited || log_has_room(worker->log));
}

static void abort_some(struct alarm *alarm)
{
    struct worker *worker = CONTAINER(struct worker, aborting, alarm);
    struct session *session, *next;
    int count = 0;
    DL_FOREACH_SAFE(worker->sessions, session, next)
    {
        if (!may_abort(worker, count)) {
            worker_set_alarm(worker, alarm, worker_now_ms(worker) + 1);
            return;
        }
        count += session_abort(session, REASON_SHUTDOWN);
    }
}

static void drain_all(struct worker *worker)
{
    struct session *session, *next;
    DL_FOREACH_SAFE(worker->sessions, session, next)
    {
        session_drain(session);
    }
}

static void abort_all(struct worker *worker)
{
    struct parting *parting, *next;
    DL_FOREACH_SAFE(worker->partings, parting, next)
    {
        parting_abort(parting);
    }
    worker->aborting_ms = worker_now_ms(worker);
    abort_some(&worker->aborting);
}

static bool is_resolving(const struct worker *worker)
{
    for (size_t i = 0; worker->backends && i < plane_conf(worker->plane)->backend_count; i++)
        if (backend_is_resolving(&worker->backends[i]))
            return true;
    return false;
}

static void enter_mode(struct worker *worker, enum worker_mode mode)
{
    worker->entered = mode;
    pool_empty_all(worker);
    for (size_t i = 0; i < worker->listener_count; i++)
        listener_close(&worker->listeners[i], mode == WORKER_DRAINING);
    for (size_t i = 0; i < plane_conf(worker->plane)->backend_count; i++)
        backend_stop_checks(&worker->backends[i]);
    if (mode == WORKER_DRAINING)
        drain_all(worker);
    else
        abort_all(worker);
}

static void on_wake(uv_async_t *handle)
{
    struct worker *worker = handle->data;
    int mode = atomic_load(&worker->mode);
    if (mode != (int)worker->entered)
        enter_mode(worker, (enum worker_mode)mode);
    settle(worker);
}

/* The end of every turn. */
static void settle(void *context)
{
    struct worker *worker = context;
    free_done(worker);
    bool places = worker->places;
    worker->places = false;
    for (size_t i = 0; places && i < worker->listener_count; i++)
        listener_resume(&worker->listeners[i]);
    log_flush(worker->log);
    if (worker->entered != WORKER_RUNNING && !worker->sessions && !worker->partings &&
        !uv_is_closing((uv_handle_t *)&worker->timer)) {
        close_handles(worker);
        if (is_resolving(worker))
            uv_stop(&worker->loop);
        return;
    }
    if (!uv_is_closing((uv_handle_t *)&worker->timer))
        set_timer(worker);
}

void worker_backend_ready(struct worker *worker)
{
    assert(worker->unresolved > 0);
    if (--worker->unresolved > 0 || worker->entered != WORKER_RUNNING)
        return;
    for (size_t i = 0; i < worker->listener_count; i++)
        listener_open(&worker->listeners[i]);
}

static void thread_main(void *context)
{
    struct worker *worker = context;
    settle(worker); /* what worker_init() logged and set */
    uv_run(&worker->loop, UV_RUN_DEFAULT);
    if (is_resolving(worker))
        uv_run(&worker->loop, UV_RUN_NOWAIT); /* what was closed and cancelled */
    free_done(worker);
    plane_worker_stopped(worker->plane);
}

static int init_listeners(struct worker *worker, const int *fds)
{
    const struct conf *conf = plane_conf(worker->plane);
    size_t count = 0;
    for (size_t f = 0; f < conf->frontend_count; f++)
        count += conf->frontends[f].listen_count;
    assert(count > 0);
    worker->listeners = calloc(count, sizeof *worker->listeners);
    if (!worker->listeners)
        return -ENOMEM;
    for (size_t f = 0; f < conf->frontend_count; f++)
        for (size_t l = 0; l < conf->frontends[f].listen_count; l++) {
            size_t i = worker->listener_count++;
            listener_init(&worker->listeners[i], worker, plane_frontend(worker->plane, f), fds[i]);
        }
    return 0;
}

static int init_backends(struct worker *worker)
{
    const struct conf *conf = plane_conf(worker->plane);
    worker->backends = calloc(conf->backend_count, sizeof *worker->backends);
    if (!worker->backends)
        return -ENOMEM;
    worker->unresolved = conf->backend_count;
    int error = 0;
    for (size_t i = 0; i < conf->backend_count && !error; i++)
        error =
            backend_init(&worker->backends[i], &conf->backends[i], plane_health(worker->plane, i), worker);
    return error;
}

static int init_loop(struct worker *worker)
{
    int error = uv_loop_init(&worker->loop);
    if (error)
        return error;
    error = poller_init(&worker->poller, &worker->loop, settle, worker);
    if (error) {
        uv_loop_close(&worker->loop);
        return error;
    }
    uv_timer_init(&worker->loop, &worker->timer);
    uv_idle_init(&worker->loop, &worker->idle);
    uv_async_init(&worker->loop, &worker->wake, on_wake);
    worker->timer.data = worker->idle.data = worker->wake.data = worker;
    wheel_init(&worker->wheel, worker_now_ms(worker));
    return 0;
}

int worker_init(struct worker *worker, struct plane *plane, unsigned index, const int *listen_fds)
{
    memset(worker, 0, sizeof *worker);
    worker->plane = plane;
    worker->index = index;
    worker->next_id = index + 1;
    worker->timer_due_ms = UINT64_MAX;
    worker->aborting.ring = abort_some;
    int error = init_loop(worker);
    if (error)
        return error;
    worker->log = log_ring(plane_log(plane));
    origin_random_init(&worker->random);
    (void)netlink_open(&worker->netlink); /* without it nothing is confirmed, and the log says so */
    worker->tools.scratch = malloc(RELAY_SCRATCH);
    error = worker->log && worker->tools.scratch ? init_listeners(worker, listen_fds) : -ENOMEM;
    if (!error)
        error = init_backends(worker);
    if (error) {
        worker->listener_count = 0; /* the descriptors stay the caller's */
        (void)worker_free(worker);  /* it waits for a look-up: the thread has not run */
    }
    return error;
}

int worker_start(struct worker *worker)
{
    return uv_thread_create(&worker->thread, thread_main, worker);
}

void worker_set_mode(struct worker *worker, enum worker_mode mode)
{
    atomic_store(&worker->mode, mode);
    uv_async_send(&worker->wake);
}

bool worker_free(struct worker *worker)
{
    if (uv_is_closing((uv_handle_t *)&worker->timer) && is_resolving(worker))
        return false;
    if (!uv_is_closing((uv_handle_t *)&worker->timer)) { /* its thread never ran */
        close_handles(worker);
        uv_run(&worker->loop, UV_RUN_DEFAULT);
    }
    int error = uv_loop_close(&worker->loop);
    assert(!error);
    (void)error;
    for (size_t i = 0; i < worker->listener_count; i++)
        listener_close(&worker->listeners[i], false);
    for (size_t i = 0; worker->backends && i < plane_conf(worker->plane)->backend_count; i++)
        backend_free(&worker->backends[i]);
    pipe_pool_free(&worker->tools.pipes);
    netlink_close(worker->netlink);
    free(worker->tools.scratch);
    free(worker->listeners);
    free(worker->backends);
    return true;
}
