#ifndef PROXY_PLANE_PARTING_H
#define PROXY_PLANE_PARTING_H

/* A backend leg that no session has a use for any more: it is sent FIN, has a grace for its own, and then
 * RST. What it still sends is thrown away. One that its backend has closed already is just closed.
 *
 * It belongs to the worker, on whose thread it lives until a turn after its socket was closed. Its server's
 * session count does not include it; its descriptor is among those that are promised. */

#include "proxy/plane/worker.h"

struct parting {
    struct poller_source source;
    struct alarm alarm;
    struct parting *prev, *next; /* in worker->partings, or in a pool */
    struct grave grave;          /* when its socket is closed */
    struct worker *worker;
    int fd;
};

/* Takes over a socket that is registered with the worker's poller. Without memory it is reset at once. */
void parting_begin(struct worker *worker, int fd, uint64_t grace_ms);

/* The same with memory that the caller has, from malloc(): worker and fd are set, the rest is zero, and the
 * descriptor is among those promised. */
void parting_adopt(struct parting *parting, uint64_t grace_ms);

/* Frees it when this pass is over: the poller may still have an event for it. */
void parting_bury(struct parting *parting);

/* Resets it. */
void parting_abort(struct parting *parting);

#endif
