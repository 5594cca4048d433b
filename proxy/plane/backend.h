#ifndef PROXY_PLANE_BACKEND_H
#define PROXY_PLANE_BACKEND_H

/* The servers of one backend as one worker sees them: their addresses, which of them is next, and how many
 * sessions of this worker each has. Names are resolved through libuv at the start and again at the configured
 * interval; each address of a name is a target of its own. A name that can't be resolved keeps the addresses
 * it had.
 *
 * A backend belongs to a worker; its thread only. Counts are the worker's own, so `leastconn` is exact with
 * one worker and close to it with several. What is known of the health of a server all workers share, and
 * the first of them checks it for all. */

#include "conf/conf.h"
#include "proxy/plane/health.h"
#include "proxy/plane/pool.h"
#include "proxy/plane/socket.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct worker;
struct check;
struct server;

struct target {
    struct server *server;
    struct conf_address address;
    struct health *health; /* shared with other workers */
    struct check *check;   /* NULL: not checked, or not by this worker */
    uint64_t tried;        /* when last, as a count of the backend's tries */
    uint32_t sessions;     /* of this worker */
    uint32_t resting;      /* had a leg here last, and have none now: not counted by the balance */
    bool retired;          /* no longer among the backend's; freed with its last session */
    struct pool pool;      /* legs that no session has; not counted */
    char text[SOCKET_TEXT];
};

/* The addresses of one configured server. */
struct server {
    struct backend *backend;
    const struct conf_server *conf;
    struct target **targets;
    size_t target_count;
    uv_getaddrinfo_t request;
    bool resolving;
    bool answered; /* once at least */
};

struct backend {
    const struct conf_backend *conf;
    struct worker *worker;
    struct health_pool *health;
    struct server *servers;
    size_t waiting; /* servers that have not been resolved once */
    bool ready;
    bool checks; /* this worker checks the servers */
    uint64_t tries;
    size_t next; /* round robin */
    uv_timer_t timer;
};

/* Starts resolving; worker_backend_ready() follows, at once if there is no name. The first worker starts
 * checking. The pool is borrowed. 0 or a negative errno. */
int backend_init(struct backend *backend, const struct conf_backend *conf, struct health_pool *health,
                 struct worker *worker);

/* How many targets there are now. */
size_t backend_targets(const struct backend *backend);

/* The target for a new session of this client or, if `previous` just failed, the one behind it. Those that
 * are set aside or down are left out. When all are, nobody is refused for what is only believed: the one that
 * is due back first is taken and, behind one that failed, the one that this worker tried longest ago. Counted
 * until backend_release(). NULL: there is none. */
struct target *backend_pick(struct backend *backend, const union socket_address *client,
                            const struct target *previous);
void backend_release(struct target *target);

/* The session has no leg there any more, but still names it, until backend_forget(). */
void backend_rest(struct target *target);
void backend_forget(struct target *target);

/* How connecting to the target came out: 0 or a negative errno. */
void backend_tell(struct target *target, int error);

/* Stops checking, and begins none any more. Not within a batch of the poller's events. */
void backend_stop_checks(struct backend *backend);

/* Stops resolving; its handles close in the next turns of the loop. A look-up that runs can't be stopped:
 * backend_is_resolving() stays true until it is over. */
void backend_close(struct backend *backend);
bool backend_is_resolving(const struct backend *backend);

/* After the loop has closed. */
void backend_free(struct backend *backend);

#endif
