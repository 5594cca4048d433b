#ifndef PROXY_PLANE_PLACE_H
#define PROXY_PLANE_PLACE_H

/* How many sessions there may be: a place is taken before a connection is accepted and given back once its
 * descriptors are closed.
 *
 * Places to be served are bounded by `max_connections` of the frontend and by the descriptors of the process.
 * A frontend that refuses what is beyond (`over_limit: refuse`) has some more, conf_surplus(), for sessions
 * that are told 503 and nothing else; they have descriptors of their own and never take the place of one that
 * is served. Where descriptors are too few for that it has none.
 *
 * Counts are atomic and never beyond their bounds, not for a moment. Any thread. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct frontend;
struct plane;

enum place { PLACE_NONE, PLACE_SERVED, PLACE_SURPLUS };

/* A place for the next connection, if there is one. */
enum place place_take(struct plane *plane, struct frontend *frontend);

/* A connection has been accepted: what its place is in the end. */
enum place place_settle(struct plane *plane, struct frontend *frontend, enum place place);

void place_give_back(struct plane *plane, struct frontend *frontend, enum place place);

/* Adds so many, unless that makes more than `max`. */
bool place_count(_Atomic uint64_t *count, uint64_t amount, uint64_t max);

#endif
