#ifndef PROXY_SERVER_POOL_H
#define PROXY_SERVER_POOL_H

/* The backend legs of one target that are kept for requests to come, whoever's they are.
 *
 *   session ----pool_put----> [ newest ... oldest ] ---reuse_idle, pool full, drain---> retiring (retire.h)
 *           <---pool_take----   |
 *                               +--- the backend closed, reset or spoke unasked ------> retiring
 *
 * The newest is taken first, so that those that are not needed expire. Every leg that is not taken is
 * retired: FIN, the grace, RST. A pool knows nothing of messages: whoever
 * puts a leg into it says that nothing is outstanding on it.
 *
 * An idle leg costs one piece of memory and its place in the poller; a pool has one alarm, which is set for
 * its oldest leg and not anew with each.
 *
 * A pool belongs to its target (backend.h), and with it to a worker: its thread only. It keeps its share of
 * `reuse_max`, rounded up, and only what the limits of descriptors have a place for besides all sessions. */

#include "conf/conf.h"
#include "proxy/shared/shared.h"

struct pool {
    struct pool *prev, *next; /* in shared->pools, while it keeps legs */
    struct shared *shared;
    const struct conf_backend *conf;
    struct retiring *legs; /* each within a struct pooled; the newest first */
    uint32_t count;
    bool closed; /* keeps nothing any more */
    struct alarm alarm;
};

void pool_init(struct pool *pool, struct shared *shared, const struct conf_backend *conf);

/* Takes over a socket that is registered with the worker's poller. A leg that can't be kept is
 * retired with that grace, as it would be in its time. */
void pool_put(struct pool *pool, int fd, uint64_t grace_ms);

/* The same for a leg on which the backend may break the rules and say more: behind a response that has no
 * body by its kind (HEAD, 204, 304) a late one would be taken for the next client's answer. Nobody takes the
 * leg before it was silent for POOL_SETTLE_MS; what comes until then retires it. */
enum { POOL_SETTLE_MS = 1000 };
void pool_put_settling(struct pool *pool, int fd, uint64_t grace_ms);

/* The newest leg of which its backend has neither closed nor said anything: now the caller's, and registered
 * with the worker's poller for these events. -1: there is none. */
int pool_take(struct pool *pool, uint32_t events, struct poller_source *source);

/* Retires all legs, and those that are put into it from now on: its target is gone. */
void pool_close(struct pool *pool);

/* Retires all legs in the pools of the worker. */
void pool_empty_all(struct shared *shared);

/* Retires the legs that have been idle for longest, to make places for so many descriptors. */
void pool_give_way(struct shared *shared, unsigned descriptors);

#endif
