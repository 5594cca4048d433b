#ifndef PROXY_SHARED_LIMIT_H
#define PROXY_SHARED_LIMIT_H

/* How many descriptors and sessions there may be in the process.
 *
 * A session takes a place before its connection is accepted, and gives it back once its descriptors are
 * closed. Places to be served are bounded by `max_connections` of the frontend and by the descriptors of the
 * process. A frontend that refuses what is beyond (`over_limit: refuse`) has some more, conf_surplus(),
 * for sessions that are told 503 and nothing else; these have descriptors of their own and never take the
 * place of a session that is served. Where descriptors are too few for that, the frontend has none.
 *
 * Counts are atomic and never beyond their bounds, not for a moment, but for limit_take_open(). Any
 * thread. */

#include "conf/conf.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Descriptors: a session has two, a backend leg that has left its session has one. */
enum { LIMIT_SESSION = 2, LIMIT_LEG = 1 };

struct limit {
    _Atomic uint64_t taken; /* descriptors */
    uint64_t max;
};

/* What the workers share of a frontend. */
struct frontend {
    const struct conf_frontend *conf;
    _Atomic uint64_t sessions; /* now, of all workers */
    _Atomic uint64_t surplus;  /* beyond those, only to be refused */
    uint64_t surplus_max;
};

enum place { PLACE_NONE, PLACE_SERVED, PLACE_SURPLUS };

/* So many descriptors; false: the limit does not allow it, and none is taken. */
bool limit_take(struct limit *limit, unsigned descriptors);

/* Descriptors that are open already, whatever the limit says: nobody else gets any until as many were given
 * back. */
void limit_take_open(struct limit *limit, unsigned descriptors);

void limit_give_back(struct limit *limit, unsigned descriptors);

/* Whether the descriptors of another session could not be taken now. */
bool limit_is_full(const struct limit *limit);

/* How many sessions there are descriptors for. */
uint64_t limit_sessions_max(const struct limit *limit);

/* A place for the next connection, if there is one. */
enum place limit_take_place(struct limit *limit, struct frontend *frontend);

/* A connection has been accepted: what its place is in the end. */
enum place limit_settle_place(struct limit *limit, struct frontend *frontend, enum place place);

void limit_give_back_place(struct limit *limit, struct frontend *frontend, enum place place);

#endif
