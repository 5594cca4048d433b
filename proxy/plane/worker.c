#include "proxy/plane/worker.h"

#include "proxy/plane/backend.h"
#include "proxy/plane/listener.h"
#include "proxy/plane/place.h"
#include "proxy/plane/pool.h"
#include "proxy/plane/resolve.h"
#include "proxy/plane/retire.h"
#include "proxy/plane/session.h"
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

/* ---- sessions ---- */

void worker_session_opened(struct worker *worker, struct session *session)
{
    /* Unique among workers: they count in steps of their number. */
    session->id = worker->next_id;
    worker->next_id += plane_worker_count(worker->plane);
    counter_add(&worker->counters.accepted, 1);
    counter_add(&worker->backends[session->frontend->conf->backend].counters.opened, 1);
    DL_APPEND(worker->sessions, session);
}

void worker_session_ended(struct worker *worker, struct session *session)
{
    place_give_back(worker->plane, session->frontend, session->place);
    worker->places = true;
}

void worker_session_done(struct worker *worker, struct session *session)
{
    if (worker->drain_next == session)
        worker->drain_next = session->next;
    DL_DELETE(worker->sessions, session);
    loop_bury(&worker->loop, &session->grave, session_free);
}

/* ---- life ---- */

static void close_handles(struct worker *worker)
{
    loop_clear_alarm(&worker->loop, &worker->collecting);
    loop_close(&worker->loop);
    resolve_unsubscribe(plane_resolver(worker->plane), &worker->addresses);
    uv_close((uv_handle_t *)&worker->wake, NULL);
    resolve_close(plane_resolver(worker->plane), &worker->loop.uv);
}

/* An end is carried out in steps of a pass each, however many there are to be told. */

static bool pools_are_empty(struct worker *worker)
{
    pool_give_way(worker, RETIRED_PER_PASS);
    return !worker->pools;
}

static bool listeners_are_closed(struct worker *worker)
{
    bool closed = true;
    for (size_t i = 0; i < worker->listener_count; i++)
        closed = listener_finish(&worker->listeners[i]) && closed;
    if (closed && !worker->drains) {
        worker->drains = true;
        worker->drain_next = worker->sessions;
    }
    return closed;
}

/* Sessions that have been accepted by now; there are no others to come. */
static bool sessions_are_told(struct worker *worker)
{
    while (worker->drain_next && !loop_share_is_over(&worker->loop)) {
        struct session *session = worker->drain_next;
        worker->drain_next = session->next;
        session_drain(session);
    }
    return !worker->drain_next;
}

static void drain_some(struct worker *worker)
{
    bool closed = listeners_are_closed(worker);
    bool empty = pools_are_empty(worker);
    if (!closed || !empty || !sessions_are_told(worker))
        loop_put_off(&worker->loop, &worker->ending);
}

static void on_ending(struct task *task)
{
    drain_some(CONTAINER(struct worker, ending, task));
}

static bool may_abort(const struct worker *worker, int count)
{
    bool waited = loop_now_ms(&worker->loop) - worker->aborting_ms > ABORTS_WAIT_MS;
    return count < ABORTS_PER_PASS && !loop_share_is_over(&worker->loop) &&
           (waited || log_has_room(worker->log));
}

static bool retiring_are_aborted(struct worker *worker)
{
    while (worker->retiring && !loop_share_is_over(&worker->loop))
        retire_abort(worker->retiring);
    return !worker->retiring;
}

static bool sessions_are_aborted(struct worker *worker)
{
    struct session *session, *next;
    int count = 0;
    DL_FOREACH_SAFE(worker->sessions, session, next)
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
        loop_set_alarm(&worker->loop, alarm, loop_now_ms(&worker->loop) + 1);
}

static bool is_resolving(const struct worker *worker)
{
    return resolve_is_busy(plane_resolver(worker->plane), &worker->loop.uv);
}

static void enter_mode(struct worker *worker, enum worker_mode mode)
{
    worker->entered = mode;
    for (size_t i = 0; i < plane_conf(worker->plane)->backend_count; i++)
        backend_stop_checks(&worker->backends[i]);
    loop_forget(&worker->loop, &worker->ending);
    worker->drain_next = NULL;
    if (mode == WORKER_DRAINING) {
        loop_put_off(&worker->loop, &worker->ending);
        return;
    }
    for (size_t i = 0; i < worker->listener_count; i++)
        listener_close(&worker->listeners[i]);
    worker->aborting_ms = loop_now_ms(&worker->loop);
    loop_set_alarm(&worker->loop, &worker->aborting, worker->aborting_ms);
}

/* Answers that end thousands of sessions at once wait for the log, as those do who abort them; a while. */
static void collect_some(struct alarm *alarm)
{
    struct worker *worker = CONTAINER(struct worker, collecting, alarm);
    uint64_t now_ms = loop_now_ms(&worker->loop);
    bool waited = worker->collecting_ms != 0 && now_ms - worker->collecting_ms > ABORTS_WAIT_MS;
    if ((waited || log_has_room(worker->log)) && !inquiry_collect(&worker->answers)) {
        worker->collecting_ms = 0;
        return;
    }
    if (worker->collecting_ms == 0)
        worker->collecting_ms = now_ms;
    loop_set_alarm(&worker->loop, alarm, now_ms + 1);
}

static void on_wake(uv_async_t *handle)
{
    struct worker *worker = handle->data;
    int mode = atomic_load(&worker->mode);
    if (mode != (int)worker->entered)
        enter_mode(worker, (enum worker_mode)mode);
    for (size_t i = 0; i < plane_conf(worker->plane)->backend_count; i++)
        backend_update(&worker->backends[i]);
    collect_some(&worker->collecting);
    loop_settle(&worker->loop);
}

static bool may_stop(const struct worker *worker)
{
    return worker->entered != WORKER_RUNNING && !loop_is_queued(&worker->ending) && !worker->sessions &&
           !worker->pools && !worker->retiring && !loop_is_closing(&worker->loop);
}

/* The end of every pass. */
static void settled(void *context)
{
    struct worker *worker = context;
    bool places = worker->places;
    worker->places = false;
    for (size_t i = 0; places && i < worker->listener_count; i++)
        listener_resume(&worker->listeners[i]);
    log_flush(worker->log);
    if (may_stop(worker)) {
        close_handles(worker);
        if (is_resolving(worker))
            uv_stop(&worker->loop.uv);
    }
}

void worker_backend_ready(struct worker *worker, const struct backend *backend)
{
    size_t index = (size_t)(backend - worker->backends);
    for (size_t i = 0; i < worker->listener_count && worker->entered == WORKER_RUNNING; i++)
        if (worker->listeners[i].frontend->conf->backend == index)
            listener_open(&worker->listeners[i]);
}

static void thread_main(void *context)
{
    struct worker *worker = context;
    loop_settle(&worker->loop); /* what worker_init() logged and set */
    uv_run(&worker->loop.uv, UV_RUN_DEFAULT);
    if (is_resolving(worker))
        uv_run(&worker->loop.uv, UV_RUN_NOWAIT); /* what was closed and cancelled */
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
    int error = 0;
    for (size_t i = 0; i < conf->backend_count && !error; i++)
        error = backend_init(&worker->backends[i], &conf->backends[i], plane_health(worker->plane, i),
                             plane_resolver(worker->plane), worker);
    if (!error && worker->index == 0) /* the others are started behind the first */
        error = resolve_start(plane_resolver(worker->plane), &worker->loop.uv, worker->log);
    return error;
}

int worker_init(struct worker *worker, struct plane *plane, unsigned index, const int *listen_fds)
{
    memset(worker, 0, sizeof *worker);
    worker->plane = plane;
    worker->index = index;
    worker->next_id = index + 1;
    worker->aborting.ring = abort_some;
    worker->collecting.ring = collect_some;
    worker->ending.run = on_ending;
    int error = loop_init(&worker->loop, settled, worker);
    if (error)
        return error;
    uv_async_init(&worker->loop.uv, &worker->wake, on_wake);
    worker->wake.data = worker;
    error = inquiry_answers_init(&worker->answers, &worker->wake);
    /* Before the backends look for the first time: what is found behind that wakes this worker. */
    resolve_subscribe(plane_resolver(plane), &worker->addresses, &worker->wake);
    worker->log = log_ring(plane_log(plane));
    worker->desk = plane_desk(plane); /* without it nothing is confirmed, and the log says so */
    worker->tools.scratch = malloc(RELAY_SCRATCH);
    if (!error)
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
    if (loop_is_closing(&worker->loop) && is_resolving(worker))
        return false;
    if (!loop_is_closing(&worker->loop)) { /* its thread never ran */
        close_handles(worker);
        uv_run(&worker->loop.uv, UV_RUN_DEFAULT);
    }
    loop_end(&worker->loop);
    for (size_t i = 0; i < worker->listener_count; i++)
        listener_close(&worker->listeners[i]);
    for (size_t i = 0; worker->backends && i < plane_conf(worker->plane)->backend_count; i++)
        backend_free(&worker->backends[i]);
    pipe_pool_free(&worker->tools.pipes);
    inquiry_answers_free(&worker->answers);
    free(worker->tools.scratch);
    free(worker->listeners);
    free(worker->backends);
    return true;
}
