#ifndef PROXY_WORKER_WORKER_H
#define PROXY_WORKER_WORKER_H

/* One thread with its loop: it makes and ends its listeners, its servers and what they and its sessions share
 * (proxy/shared/shared.h). No locks: everything in a worker is touched by its own thread, except the counters
 * (read by any), the mode (set by any) and the frontends' totals (atomic). */

#include "proxy/exchange/origin.h"
#include "proxy/server/resolve.h"
#include "proxy/session/inquiry.h"
#include "proxy/shared/shared.h"

#include <stdatomic.h>
#include <uv.h>

struct health_pool;
struct listener;

/* What a worker is made of; all of it outlives the worker. */
struct worker_settings {
    const struct conf *conf;
    unsigned index, workers;    /* which of how many */
    struct frontend *frontends; /* as many as the configuration has, in its order; of all workers */
    struct health_pool *health; /* a pool for each backend; of all workers */
    struct resolver *resolver;  /* of all workers */
    struct limit *limit;        /* of all workers */
    struct inquiry_desk *desk;  /* of all workers; NULL: nobody looks at the kernel's table */
    struct log *log;
    void (*confine)(void);          /* first of all on its thread; may be NULL */
    void (*stopped)(void *context); /* the worker's last word on its own thread */
    void *context;
};

enum worker_mode { WORKER_RUNNING, WORKER_DRAINING, WORKER_ABORTING };

struct worker {
    struct worker_settings settings;
    struct shared shared;
    struct origin_random random;
    uv_thread_t thread;
    uv_async_t wake;          /* the mode changed, or there are new addresses */
    _Atomic int mode;         /* enum worker_mode, as asked for */
    enum worker_mode entered; /* as carried out */

    struct task ending;    /* the worker drains, and not all has been told */
    bool drains;           /* its listeners are closed */
    struct alarm aborting; /* sessions are still to be aborted */
    uint64_t aborting_ms;  /* since then */
    struct listener *listeners;
    size_t listener_count;
    struct resolve_subscriber addresses; /* woken when there are new ones */
    struct inquiry_answers answers;
    struct alarm collecting; /* answers are still to be taken */
    uint64_t collecting_ms;  /* since then; 0: they are not */
};

/* Prepares a worker that is to accept from listen_fds[i], one for each address of each frontend in order; the
 * descriptors become its own. 0 or a negative errno, and then nothing is left behind but the descriptors. */
int worker_init(struct worker *worker, const struct worker_settings *settings, const int *listen_fds);

/* Starts its thread, which ends once the mode is not RUNNING and the last session has ended. */
int worker_start(struct worker *worker);

/* Changes the mode; any thread. */
void worker_set_mode(struct worker *worker, enum worker_mode mode);

/* Frees what is left after the thread was joined, or was never started. False: a name is still being looked
 * up for it, which nothing can stop and may take half a minute. Then its memory must stay, and the process
 * can't end by exit(3): that would wait for libuv's thread (uv_cancel() and uv_library_shutdown() in its
 * documentation). */
bool worker_free(struct worker *worker);

#endif
