#ifndef PROXY_PATROL_PATROL_H
#define PROXY_PATROL_PATROL_H

/* The reaper's own thread: looks for leaks beside the proxy at an interval, says them, and ends what is due.
 *
 * A dump of the kernel's table, a walk over /proc and a name service may take as long as they like: neither
 * the main thread, which hears signals, nor a worker ever waits for them. A look that is under way when the
 * patrol is stopped is given up at its next row, process or answer.
 *
 * The main thread starts and stops it. It refuses to look at anything but what conf->reaper names. */

#include "conf/conf.h"
#include "proxy/shared/log.h"

#include <stdbool.h>

struct patrol;

/* Starts the thread. `conf` outlives it; `ring` becomes its own. *out is NULL when nothing is to be watched.
 * 0, -ENOMEM, what the kernel says who has no sock_diag, or an error of starting a thread. */
int patrol_start(const struct conf *conf, struct log_ring *ring, struct patrol **out);

/* Ends the thread and frees it; NULL is fine. False: a name is still being looked up, which nothing can stop
 * and may take half a minute. Then its memory stays, and the process can't end by exit(3), which would wait.
 * */
bool patrol_stop(struct patrol *patrol);

#endif
