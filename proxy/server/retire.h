#ifndef PROXY_SERVER_RETIRE_H
#define PROXY_SERVER_RETIRE_H

/* Retiring a backend leg for which no session has a use any more: the leg is sent FIN, the backend has a
 * grace for its own FIN, and then the leg is reset. What the backend still sends is thrown away. A leg that
 * the backend has closed already is just closed.
 *
 * A retiring leg belongs to the worker, on whose thread it lives until a turn after its socket was closed.
 * It is not among the sessions of its server; its descriptor is among those that are promised. */

#include "proxy/shared/shared.h"

struct retiring {
    struct poller_source source;
    struct alarm alarm;
    struct retiring *prev, *next; /* in shared->retiring, or in a pool */
    struct grave grave;           /* when its socket is closed */
    struct shared *shared;
    int fd;
};

/* Takes over a socket that is registered with the worker's poller. Without memory it is reset at once. */
void retire_begin(struct shared *shared, int fd, uint64_t grace_ms);

/* The same with memory that the caller has, from malloc(): worker and fd are set, the rest is zero, and the
 * descriptor is among those promised. */
void retire_adopt(struct retiring *leg, uint64_t grace_ms);

/* Frees the leg when this pass is over: the poller may still have an event for it. */
void retire_bury(struct retiring *leg);

/* Resets the leg. */
void retire_abort(struct retiring *leg);

#endif
