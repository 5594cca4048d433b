#ifndef PROXY_SERVER_CHECK_H
#define PROXY_SERVER_CHECK_H

/* Asks one server at an interval whether it serves, and says so to its health and to the log.
 *
 *   tcp        good: the connection is made
 *   http       good: a final answer 2xx or 3xx, read as strictly as any; the rest of it is thrown away
 *
 * What is not decided by the time of the next check is a bad one. A lack of our own (descriptors, memory,
 * ports) says nothing about a server. The connection is retired as a backend leg is (proxy/server/retire.h),
 * so that a server that leaks does not leak these. A check is no session and takes no place of one.
 *
 * A check sees only its target. Whoever started it stops it, before the target is removed; it lives on the
 * thread of the target's worker. */

struct target;
struct check;

/* The first one is made in the next turn. NULL: out of memory. */
struct check *check_start(struct target *target);

/* Ends it at once; NULL is fine. Not within a batch of the poller's events. */
void check_stop(struct check *check);

#endif
