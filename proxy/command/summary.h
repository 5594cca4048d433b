#ifndef PROXY_COMMAND_SUMMARY_H
#define PROXY_COMMAND_SUMMARY_H

/* What `run` says of itself and of its backends at an interval, in a few lines that can be watched:
 *
 *   msg=summary   the proxy: sessions, the oldest that is open, how they ended, its own descriptors
 *   msg=backend   each backend: sessions, leaks, what is open
 *   msg=service   each server on this host: its program, its connections in the kernel's table, its
 *                 descriptors, and when they run out if they go on growing as in the last interval
 *
 * Looks at SERVICES_MAX servers on this host at most; blocks for one dump and one walk over /proc. The main
 * thread. */

#include "proxy/worker/plane.h"

struct summary;

enum { SUMMARY_SERVICES_MAX = 64 };

/* NULL: no memory. The configuration outlives it. */
struct summary *summary_new(const struct conf *conf);

/* NULL is fine, for both. */
void summary_say(struct summary *summary, const struct plane *plane, struct log_ring *ring, uint64_t now_ms);
void summary_free(struct summary *summary);

#endif
