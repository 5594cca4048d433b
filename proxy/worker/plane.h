#ifndef PROXY_WORKER_PLANE_H
#define PROXY_WORKER_PLANE_H

/* The data plane: listeners and workers made from a configuration.
 *
 * The caller owns the configuration and the log, which outlive the plane. plane_start() returns once every
 * address is bound; the workers are threads of their own. All calls come from one thread, the caller's. The
 * process ignores SIGPIPE: splice(2) to a socket that was reset raises it and takes no flag against it. */

#include "conf/conf.h"
#include "proxy/shared/counters.h"
#include "proxy/shared/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct health_pool;
struct plane;

/* What the process gives up on the way: files and ports are open by then, and threads are still to come. */
struct plane_hooks {
    int (*bound)(
        void *context);    /* once every address is bound, before any thread; not 0: nothing is started */
    void (*confine)(void); /* first of all on the thread of each worker */
    void *context;
};

/* 0 or a negative error, and then *where names the address or the thing that failed (static or the
 * configuration's). `stopped` is sent, from a worker's thread, each time a worker has ended; it may be NULL.
 */
int plane_start(const struct conf *conf, struct log *log, uv_async_t *stopped, struct plane **out,
                const char **where);

/* With hooks, for who runs a process of its own; *where is NULL where `bound` failed. */
int plane_start_with(const struct conf *conf, struct log *log, const struct plane_hooks *hooks,
                     uv_async_t *stopped, struct plane **out, const char **where);

/* The address that a frontend's listener was bound to, with the port that the kernel chose. */
const struct conf_address *plane_address(const struct plane *plane, size_t frontend, size_t listen);

/* Stop accepting and end sessions when they come to rest, within the `drain` deadline. */
void plane_drain(struct plane *plane);

/* End every session at once. */
void plane_abort(struct plane *plane);

/* Whether a worker still runs. */
bool plane_running(const struct plane *plane);

/* How many sessions the process has descriptors for. */
uint64_t plane_sessions_max(const struct plane *plane);

/* The counters of one worker, NULL behind the last. */
const struct counters *plane_counters(const struct plane *plane, unsigned worker);

/* Those of one backend; NULL beyond the last worker. */
const struct counters_backend *plane_backend_counters(const struct plane *plane, unsigned worker,
                                                      size_t backend);

/* Waits for the workers and frees everything. After plane_drain() or plane_abort(). False: all are at their
 * end but for the look-up of a name, which nothing can stop: its memory stays, and only _exit(2) does not
 * wait for it. */
bool plane_free(struct plane *plane);

/* What is known of the health of a backend's servers, which all workers share. */
const struct health_pool *plane_health(const struct plane *plane, size_t backend);

unsigned plane_worker_count(const struct plane *plane);

#endif
