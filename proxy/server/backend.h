#ifndef PROXY_SERVER_BACKEND_H
#define PROXY_SERVER_BACKEND_H

/* The servers of one backend as one worker sees them: their addresses, which of them is next, and how many
 * sessions of this worker each has. A server that is a name has a target for each of its addresses, which
 * the resolver finds for all workers (proxy/server/resolve.h).
 *
 * A backend is ready, for the frontends that lead to it to accept, as soon as it has a target; at the start
 * it waits for one until each of its names was answered, or was not for RESOLVE_WAIT_MS. Without a target it
 * is ready then too, and its clients are refused at once (connect_failed, 503) until there is one.
 *
 * A backend belongs to a worker; its thread only. Counts are the worker's own, so `leastconn` is exact with
 * one worker and close to it with several. What is known of the health of a server all workers share, and
 * the first of them checks it for all. */

#include "conf/conf.h"
#include "proxy/server/balance.h"
#include "proxy/shared/shared.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct health_pool;
struct resolver;
struct server;

struct backend {
    const struct conf_backend *conf;
    struct shared *shared;
    struct health_pool *health;
    struct resolver *resolver;
    struct server *servers;
    struct balance balance;
    struct counters_backend counters; /* of this worker */
    struct alarm again;               /* memory was short: addresses are to be looked at again */
    bool ready;
    bool checks; /* this worker checks the servers */
};

/* worker_backend_ready() is called once the backend is ready, at once if it need not wait. The first worker
 * starts checking. The pool and the resolver are borrowed. 0 or a negative errno. */
int backend_init(struct backend *backend, const struct conf_backend *conf, struct health_pool *health,
                 struct resolver *resolver, struct shared *shared);

/* Takes up what the resolver has found since the last time. */
void backend_update(struct backend *backend);

/* How many targets there are now. */
size_t backend_target_count(const struct backend *backend);

/* As balance_pick(). The caller releases it (proxy/server/target.h). */
struct target *backend_pick(struct backend *backend, const union socket_address *client,
                            const struct target *previous);

/* Whether a connection to the target that was just begun comes in at a frontend of ours from which its
 * sessions would come back to this backend. Then the target is avoided for a while, and a warning says so.
 * Asks the kernel only where a frontend listens on all addresses, with that port. */
bool backend_leads_back(struct backend *backend, struct target *target, int fd);

/* Stops checking, and begins none any more. Not within a batch of the poller's events. */
void backend_stop_checks(struct backend *backend);

/* After the last session; while the worker's wheel is there. */
void backend_free(struct backend *backend);

#endif
