#ifndef PROXY_SHARED_SHARED_H
#define PROXY_SHARED_SHARED_H

/* What all sessions, servers and listeners of one worker share. The worker embeds it, fills it in before any
 * of those is made, and ends it behind the last; all others only point to it. So nobody needs to know what a
 * worker is.
 *
 * The lists belong to the modules that are named there, and only those and the worker read them. One thread,
 * the worker's; `limit` is the process's, and the counters may be read by any thread. */

#include "conf/conf.h"
#include "proxy/loop/loop.h"
#include "proxy/shared/counters.h"
#include "proxy/shared/limit.h"
#include "proxy/shared/log.h"
#include "proxy/socket/relay.h"

#include <stdbool.h>
#include <stdint.h>

struct backend;
struct inquiry_answers;
struct inquiry_desk;
struct origin_random;
struct pool;
struct retiring;
struct session;

struct shared {
    struct loop loop;
    struct relay_tools tools;
    struct limit *limit;
    const struct conf *conf;
    unsigned index, workers; /* which worker of how many */
    uint64_t budget_bytes;   /* that a session may move in a pass before others get theirs */
    bool ends;               /* the worker comes to its end: nothing is kept for later */

    struct log_ring *log;
    struct counters counters;
    struct inquiry_desk *desk; /* the process's; NULL: the kernel has no sock_diag for us */
    struct inquiry_answers *answers;
    struct origin_random *random;

    bool freed_descriptors; /* in this pass: listeners that had to stop may go on */
    int local_error;        /* why the last attempt to connect failed on our side, negative; 0: for nothing */

    struct session *sessions;           /* all that are not done (register.h) */
    size_t session_count, session_peak; /* of these: now, and since memory was last given back */
    struct session *drain_next;         /* the next to be told that the worker drains; NULL: none */
    uint64_t next_id;                   /* of a session */
    struct pool *pools;                 /* those that keep backend legs (pool.h) */
    struct retiring *retiring;          /* backend legs that are ended: FIN, grace, RST (retire.h) */
    struct backend *backends;           /* as many as the configuration has, in its order (backend.h) */

    /* The frontends that lead to this backend may accept. */
    void (*backend_ready)(struct shared *shared, const struct backend *backend);
};

#endif
