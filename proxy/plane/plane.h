#ifndef PROXY_PLANE_PLANE_H
#define PROXY_PLANE_PLANE_H

/* The data plane: listeners and workers made from a configuration.
 *
 * The caller owns the configuration and the log, which outlive the plane. plane_start() returns once every
 * address is bound; the workers are threads of their own. All calls come from one thread, the caller's. The
 * process ignores SIGPIPE: splice(2) to a socket that was reset raises it and takes no flag against it. */

#include "conf/conf.h"
#include "proxy/watch/counters.h"
#include "proxy/watch/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

struct health_pool;
struct plane;
struct resolver;
struct worker;

/* 0 or a negative error, and then *where names the address or the thing that failed (static or the
 * configuration's). `stopped` is sent, from a worker's thread, each time a worker has ended; it may be NULL.
 */
int plane_start(const struct conf *conf, struct log *log, uv_async_t *stopped, struct plane **out,
                const char **where);

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

/* For workers. */

const struct conf *plane_conf(const struct plane *plane);
struct frontend *plane_frontend(struct plane *plane, size_t index);
struct health_pool *plane_health(struct plane *plane, size_t backend);
struct resolver *plane_resolver(struct plane *plane);
struct inquiry_desk *plane_desk(struct plane *plane); /* NULL: nobody looks at the kernel's table */
struct log *plane_log(struct plane *plane);
unsigned plane_worker_count(const struct plane *plane);

/* Descriptors that are promised to somebody: a session has two, a backend leg beside its session one. */
enum { PLANE_SESSION = 2, PLANE_LEG = 1 };

/* Promises so many of those that the limits allow; false: there are not so many. Any thread. */
bool plane_admit(struct plane *plane, unsigned descriptors);

/* Whether there is no place for another session. Any thread. */
bool plane_is_full(struct plane *plane);

/* For what is open already: nobody is admitted until as many were given back. Any thread. */
void plane_count(struct plane *plane, unsigned descriptors);

/* Any thread. */
void plane_release(struct plane *plane, unsigned descriptors);

/* The worker's last word on its own thread. */
void plane_worker_stopped(struct plane *plane);

#endif
