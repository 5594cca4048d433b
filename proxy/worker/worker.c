#include "proxy/worker/worker.h"

#include "proxy/entry/listener.h"
#include "proxy/server/backend.h"
#include "proxy/server/pool.h"
#include "proxy/server/resolve.h"
#include "proxy/server/retire.h"
#include "proxy/session/register.h"
#include "proxy/session/session.h"
#include "reaper/container.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

/* Pooled legs that are retired in one pass of an end, and sessions that are aborted in one. */
enum { RETIRED_PER_PASS = 64, ABORTS_PER_PASS = 64 };

/* How long sessions to be aborted wait in all for a log that takes no lines: its ring holds those of about a
 * thousand. */
enum { ABORTS_WAIT_MS = 1000 };

/* ---- life ---- */

static void close_handles(struct worker *worker)
{
    loop_clear_alarm(&worker->shared.loop, &worker->collecting);
    loop_close(&worker->shared.loop);
    resolve_unsubscribe(worker->settings.resolver, &worker->addresses);
    uv_close((uv_handle_t *)&worker->wake, NULL);
    resolve_close(worker->settings.resolver, &worker->shared.loop.uv);
}

/* An end is carried out in steps of a pass each, however many there are to be told. */

static bool pools_are_empty(struct worker *worker)
{
    pool_give_way(&worker->shared, RETIRED_PER_PASS);
    return !worker->shared.pools;
}

static bool listeners_are_closed(struct worker *worker)
{
    bool closed = true;
    for (size_t i = 0; i < worker->listener_count; i++)
        closed = listener_finish(&worker->listeners[i]) && closed;
    if (closed && !worker->drains) {
        worker->drains = true;
        worker->shared.drain_next = worker->shared.sessions;
    }
    return closed;
}

/* Sessions that have been accepted by now; there are no others to come. */
static bool sessions_are_told(struct worker *worker)
{
    while (worker->shared.drain_next && !loop_share_is_over(&worker->shared.loop)) {
        struct session *session = worker->shared.drain_next;
        worker->shared.drain_next = session->next;
        session_drain(session);
    }
    return !worker->shared.drain_next;
}

static void drain_some(struct worker *worker)
{
    bool closed = listeners_are_closed(worker);
    bool empty = pools_are_empty(worker);
    if (!closed || !empty || !sessions_are_told(worker))
        loop_put_off(&worker->shared.loop, &worker->ending);
}

static void on_ending(struct task *task)
{
    drain_some(CONTAINER(struct worker, ending, task));
}

static bool may_abort(const struct worker *worker, int count)
{
    bool waited = loop_now_ms(&worker->shared.loop) - worker->aborting_ms > ABORTS_WAIT_MS;
    return count < ABORTS_PER_PASS && !loop_share_is_over(&worker->shared.loop) &&
           (waited || log_has_room(worker->shared.log));
}

static bool retiring_are_aborted(struct worker *worker)
{
    while (worker->shared.retiring && !loop_share_is_over(&worker->shared.loop))
        retire_abort(worker->shared.retiring);
    return !worker->shared.retiring;
}

static bool sessions_are_aborted(struct worker *worker)
{
    struct session *session, *next;
    int count = 0;
    DL_FOREACH_SAFE(worker->shared.sessions, session, next)
    {
        if (!may_abort(worker, count))
            return false;
        count += session_abort(session, REASON_SHUTDOWN);
    }
    return true;
}

/* An alarm and not a task: the writer of the log needs its time. */
static void abort_some(struct alarm *alarm)
{
    struct worker *worker = CONTAINER(struct worker, aborting, alarm);
    bool empty = pools_are_empty(worker);
    if (!empty || !retiring_are_aborted(worker) || !sessions_are_aborted(worker))
        loop_set_alarm(&worker->shared.loop, alarm, loop_now_ms(&worker->shared.loop) + 1);
}

static bool is_resolving(const struct worker *worker)
{
    return resolve_is_busy(worker->settings.resolver, &worker->shared.loop.uv);
}

static void enter_mode(struct worker *worker, enum worker_mode mode)
{
    worker->entered = mode;
    worker->shared.ends = true;
    for (size_t i = 0; i < worker->settings.conf->backend_count; i++)
        backend_stop_checks(&worker->shared.backends[i]);
    loop_forget(&worker->shared.loop, &worker->ending);
    worker->shared.drain_next = NULL;
    if (mode == WORKER_DRAINING) {
        loop_put_off(&worker->shared.loop, &worker->ending);
        return;
    }
    for (size_t i = 0; i < worker->listener_count; i++)
        listener_close(&worker->listeners[i]);
    worker->aborting_ms = loop_now_ms(&worker->shared.loop);
    loop_set_alarm(&worker->shared.loop, &worker->aborting, worker->aborting_ms);
}

/* Answers that end thousands of sessions at once wait for the log, as those do who abort them; a while. */
static void collect_some(struct alarm *alarm)
{
    struct worker *worker = CONTAINER(struct worker, collecting, alarm);
    uint64_t now_ms = loop_now_ms(&worker->shared.loop);
    bool waited = worker->collecting_ms != 0 && now_ms - worker->collecting_ms > ABORTS_WAIT_MS;
    if ((waited || log_has_room(worker->shared.log)) && !inquiry_collect(&worker->answers)) {
        worker->collecting_ms = 0;
        return;
    }
    if (worker->collecting_ms == 0)
        worker->collecting_ms = now_ms;
    loop_set_alarm(&worker->shared.loop, alarm, now_ms + 1);
}

static void on_wake(uv_async_t *handle)
{
    struct worker *worker = handle->data;
    int mode = atomic_load(&worker->mode);
    if (mode != (int)worker->entered)
        enter_mode(worker, (enum worker_mode)mode);
    for (size_t i = 0; i < worker->settings.conf->backend_count; i++)
        backend_update(&worker->shared.backends[i]);
    collect_some(&worker->collecting);
    loop_settle(&worker->shared.loop);
}

static bool may_stop(const struct worker *worker)
{
    return worker->entered != WORKER_RUNNING && !loop_is_queued(&worker->ending) &&
           !worker->shared.sessions && !worker->shared.pools && !worker->shared.retiring &&
           !loop_is_closing(&worker->shared.loop);
}

/* The end of every pass. */
static void settled(void *context)
{
    struct worker *worker = context;
    (void)register_give_memory_back(&worker->shared);
    bool freed = worker->shared.freed_descriptors;
    worker->shared.freed_descriptors = false;
    for (size_t i = 0; freed && i < worker->listener_count; i++)
        listener_resume(&worker->listeners[i]);
    log_flush(worker->shared.log);
    if (may_stop(worker)) {
        close_handles(worker);
        if (is_resolving(worker))
            uv_stop(&worker->shared.loop.uv);
    }
}

static void on_backend_ready(struct shared *shared, const struct backend *backend)
{
    struct worker *worker = CONTAINER(struct worker, shared, shared);
    size_t index = (size_t)(backend - worker->shared.backends);
    for (size_t i = 0; i < worker->listener_count && worker->entered == WORKER_RUNNING; i++)
        if (worker->listeners[i].frontend->conf->backend == index)
            listener_open(&worker->listeners[i]);
}

static void thread_main(void *context)
{
    struct worker *worker = context;
    if (worker->settings.confine)
        worker->settings.confine();
    loop_settle(&worker->shared.loop); /* what worker_init() logged and set */
    uv_run(&worker->shared.loop.uv, UV_RUN_DEFAULT);
    if (is_resolving(worker))
        uv_run(&worker->shared.loop.uv, UV_RUN_NOWAIT); /* what was closed and cancelled */
    worker->settings.stopped(worker->settings.context);
}

static int init_listeners(struct worker *worker, const int *fds)
{
    const struct conf *conf = worker->settings.conf;
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
            listener_init(&worker->listeners[i], &worker->shared, &worker->settings.frontends[f], fds[i]);
        }
    return 0;
}

static int init_backends(struct worker *worker)
{
    const struct conf *conf = worker->settings.conf;
    worker->shared.backends = calloc(conf->backend_count, sizeof *worker->shared.backends);
    if (!worker->shared.backends)
        return -ENOMEM;
    int error = 0;
    for (size_t i = 0; i < conf->backend_count && !error; i++)
        error = backend_init(&worker->shared.backends[i], &conf->backends[i], &worker->settings.health[i],
                             worker->settings.resolver, &worker->shared);
    if (!error && worker->settings.index == 0) /* the others are started behind the first */
        error = resolve_start(worker->settings.resolver, &worker->shared.loop.uv, worker->shared.log);
    return error;
}

static void init_shared(struct worker *worker, const struct worker_settings *settings)
{
    struct shared *shared = &worker->shared;
    shared->limit = settings->limit;
    shared->conf = settings->conf;
    shared->index = settings->index;
    shared->workers = settings->workers;
    shared->budget_bytes = SESSION_BUDGET_BYTES;
    shared->next_id = settings->index + 1;
    shared->random = &worker->random;
    shared->backend_ready = on_backend_ready;
    shared->log = log_ring(settings->log);
    shared->tools.scratch = malloc(RELAY_SCRATCH);
    shared->desk = settings->desk; /* without it nothing is confirmed, and the log says so */
    shared->answers = &worker->answers;
}

int worker_init(struct worker *worker, const struct worker_settings *settings, const int *listen_fds)
{
    memset(worker, 0, sizeof *worker);
    worker->settings = *settings;
    worker->aborting.ring = abort_some;
    worker->collecting.ring = collect_some;
    worker->ending.run = on_ending;
    int error = loop_init(&worker->shared.loop, settled, worker);
    if (error)
        return error;
    uv_async_init(&worker->shared.loop.uv, &worker->wake, on_wake);
    worker->wake.data = worker;
    error = inquiry_answers_init(&worker->answers, &worker->wake);
    /* Before the backends look for the first time: what is found behind that wakes this worker. */
    resolve_subscribe(settings->resolver, &worker->addresses, &worker->wake);
    init_shared(worker, settings);
    if (!error)
        error =
            worker->shared.log && worker->shared.tools.scratch ? init_listeners(worker, listen_fds) : -ENOMEM;
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
    if (loop_is_closing(&worker->shared.loop) && is_resolving(worker))
        return false;
    if (!loop_is_closing(&worker->shared.loop)) { /* its thread never ran */
        close_handles(worker);
        uv_run(&worker->shared.loop.uv, UV_RUN_DEFAULT);
    }
    loop_end(&worker->shared.loop);
    for (size_t i = 0; i < worker->listener_count; i++)
        listener_close(&worker->listeners[i]);
    for (size_t i = 0; worker->shared.backends && i < worker->settings.conf->backend_count; i++)
        backend_free(&worker->shared.backends[i]);
    pipe_pool_free(&worker->shared.tools.pipes);
    inquiry_answers_free(&worker->answers);
    free(worker->shared.tools.scratch);
    free(worker->listeners);
    free(worker->shared.backends);
    return true;
}
