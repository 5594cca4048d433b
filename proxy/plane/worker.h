#ifndef PROXY_PLANE_WORKER_H
#define PROXY_PLANE_WORKER_H

/* One thread with its loop, and what its sessions share: the scratch buffer, counters, servers. No locks:
 * everything in a worker is touched by its own thread, except the counters (read by any), the mode (set by
 * any) and the frontends' totals (atomic). */

#include "conf/conf.h"
#include "proxy/loop/loop.h"
#include "proxy/plane/inquiry.h"
#include "proxy/plane/origin.h"
#include "proxy/plane/plane.h"
#include "proxy/plane/relay.h"
#include "proxy/plane/resolve.h"
#include "proxy/watch/counters.h"
#include "proxy/watch/log.h"

#include <stdatomic.h>
#include <uv.h>

struct backend;
struct session;
struct retiring;
struct pool;
struct listener;

/* What the workers share of a frontend. */
struct frontend {
    const struct conf_frontend *conf;
    _Atomic uint64_t sessions; /* now, of all workers */
    _Atomic uint64_t surplus;  /* beyond those, only to be refused (proxy/plane/place.h) */
    uint64_t surplus_max;
};

enum worker_mode { WORKER_RUNNING, WORKER_DRAINING, WORKER_ABORTING };

struct worker {
    struct plane *plane;
    unsigned index;
    uv_thread_t thread;
    struct loop loop;
    uv_async_t wake;          /* the mode changed, or there are new addresses */
    _Atomic int mode;         /* enum worker_mode, as asked for */
    enum worker_mode entered; /* as carried out */

    struct relay_tools tools;
    struct task ending;         /* the worker drains, and not all has been told */
    bool drains;                /* its listeners are closed */
    struct session *drain_next; /* to be told */
    struct alarm aborting;      /* sessions are still to be aborted */
    uint64_t aborting_ms;       /* since then */
    struct session *sessions;   /* all that are not done */
    bool places;                /* descriptors were given back in this turn */
    struct retiring *retiring;  /* backend legs that are ended: FIN, grace, RST */
    struct pool *pools;         /* those that keep backend legs */
    struct listener *listeners;
    size_t listener_count;
    struct backend *backends;            /* as many as the configuration has, in its order */
    struct resolve_subscriber addresses; /* woken when there are new ones */
    uint64_t next_id;
    int lacks; /* negative: what the last attempt to connect failed for on our side */
    struct origin_random random;
    struct counters counters;
    struct log_ring *log;
    struct inquiry_desk *desk; /* the plane's; NULL: the kernel has no sock_diag for us */
    struct inquiry_answers answers;
    struct alarm collecting; /* answers are still to be taken */
    uint64_t collecting_ms;  /* since then; 0: they are not */
};

/* Prepares a worker that is to accept from listen_fds[i], one for each address of each frontend in order; the
 * descriptors become its own. 0 or a negative errno, and then nothing is left behind but the descriptors. */
int worker_init(struct worker *worker, struct plane *plane, unsigned index, const int *listen_fds);

/* Starts its thread, which ends once the mode is not RUNNING and the last session has ended. */
int worker_start(struct worker *worker);

/* Changes the mode; any thread. */
void worker_set_mode(struct worker *worker, enum worker_mode mode);

/* Frees what is left after the thread was joined, or was never started. False: a name is still being looked
 * up for it, which nothing can stop and may take half a minute. Then its memory must stay, and the process
 * can't end by exit(3): that would wait for libuv's thread (uv_cancel() and uv_library_shutdown() in its
 * documentation). */
bool worker_free(struct worker *worker);

/* The rest is for the worker's own thread. */

/* The frontends that lead to this backend, one of worker->backends, may accept. */
void worker_backend_ready(struct worker *worker, const struct backend *backend);

/* Keeps it in the list of those that live, and gives it its id. */
void worker_session_opened(struct worker *worker, struct session *session);

/* Gives its place back: it has ended, and its descriptors are closed. */
void worker_session_ended(struct worker *worker, struct session *session);

/* Takes it out of the list, and frees it when this pass is over. */
void worker_session_done(struct worker *worker, struct session *session);

#endif
