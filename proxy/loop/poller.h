#ifndef PROXY_LOOP_POLLER_H
#define PROXY_LOOP_POLLER_H

/* The epoll set of one thread, behind one uv_poll_t.
 *
 * Every socket is registered once, edge-triggered, for everything it may ever be asked for, and taken out
 * before it is closed: no system call per change of interest, and HUP and ERR are seen even when nobody reads
 * (libuv's own handles drop their watcher after EOF and miss those). Edges are remembered by whoever owns the
 * source. Figures for and against a uv_poll_t per socket are in bench/README.md.
 *
 * A source belongs to the caller. After its descriptor was taken out an event of the batch being delivered
 * may still reach the source, so its memory must live until the pass is over (loop.h).
 *
 * Sources are told one after the other, however many have something to hear. So a source that is told does
 * little: it notes what happened, and leaves what takes longer to a task (loop.h). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct poller_source {
    /* Called with EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR as they came. */
    void (*ready)(struct poller_source *source, uint32_t events);
};

struct poller {
    uv_poll_t handle;
    int fd;
    size_t watched; /* descriptors */
    void (*waiting)(void *context);
    void *context;
};

/* `waiting` is called when there are events, which poller_deliver() then delivers. 0 or a negative errno. The
 * loop is borrowed. */
int poller_init(struct poller *poller, uv_loop_t *loop, void (*waiting)(void *context), void *context);

/* Delivers one batch of events, without waiting for any. True: there may be more. */
bool poller_deliver(struct poller *poller);

/* Registers the descriptor for `events` (EPOLLET is added). 0, -ENOMEM or -ENOSPC. */
int poller_add(struct poller *poller, int fd, uint32_t events, struct poller_source *source);

/* Takes it out again. Closing does so only if nobody else holds the socket: a process that borrowed the
 * descriptor (pidfd_getfd(2), as `lastack reap` does), a fork, another worker's dup() (epoll(7), Q6). */
void poller_remove(struct poller *poller, int fd);

/* Delivers what has happened before the call, without waiting: before time is held against a session, for a
 * process that was stopped for a while must not take what queued up meanwhile for silence. What happens
 * meanwhile does not prolong it: events that are ready come in the order of their edges (epoll(7)), so that
 * one for each descriptor that is watched is all there was. */
void poller_catch_up(struct poller *poller);

/* Gives a registered descriptor another source; what is ready now is reported to it once more. */
int poller_move(struct poller *poller, int fd, uint32_t events, struct poller_source *source);

/* Leaves the loop; sources are not told. The poller must stay in place until the loop has been run once more.
 */
void poller_close(struct poller *poller);

#endif
