#ifndef PROXY_PLANE_CHECK_H
#define PROXY_PLANE_CHECK_H

/* Asks one server at an interval whether it serves, and says so to its health and to the log.
 *
 *   tcp        good: the connection is made
 *   http       good: a final answer 2xx or 3xx, read as strictly as any; the rest of it is thrown away
 *
 * What is not decided by the time of the next check is a bad one. What we lack ourselves (descriptors,
 * memory, ports) says nothing about a server. The connection ends as a backend leg does that its session has
 * left (proxy/plane/parting.h), so a server that leaks does not leak these. No session, no place.
 *
 * A check belongs to its target and lives from check_start() to check_stop(), on the thread of the worker. */

struct backend;
struct target;
struct check;

/* The first one is made in the next turn. NULL: out of memory. */
struct check *check_start(struct backend *backend, struct target *target);

/* Ends it at once; NULL is fine. Not within a batch of the poller's events. */
void check_stop(struct check *check);

#endif
