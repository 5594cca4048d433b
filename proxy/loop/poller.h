#ifndef PROXY_LOOP_POLLER_H
#define PROXY_LOOP_POLLER_H

/* A worker's own epoll set behind one uv_poll_t.
 *
 * Every socket is registered once, edge-triggered, for everything it may ever be asked for, and taken out
 * before it is closed: no system call per change of interest, and HUP and ERR are seen even when nobody reads
 * (libuv's own handles drop their watcher after EOF and miss those). Edges are remembered by whoever owns the
 * source. Figures for and against a uv_poll_t per socket are in bench/README.md.
 *
 * One poller a worker thread. A source belongs to the caller. After its descriptor was taken out an event of
 * the batch being delivered may still reach it, so its memory must live until `settle` is called. */

#include <stdint.h>
#include <uv.h>

struct poller_source {
    /* Called on the worker's thread with EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLHUP | EPOLLERR as they
     * came. */
    void (*ready)(struct poller_source *source, uint32_t events);
};

struct poller {
    uv_poll_t handle;
    int fd;
    void (*settle)(void *context); /* called after each batch of events */
    void *context;
};

/* 0 or a negative errno. The loop is borrowed. */
int poller_init(struct poller *poller, uv_loop_t *loop, void (*settle)(void *), void *context);

/* Registers the descriptor for `events` (EPOLLET is added). 0, -ENOMEM or -ENOSPC. */
int poller_add(struct poller *poller, int fd, uint32_t events, struct poller_source *source);

/* Takes it out again. Closing does so only if nobody else holds the socket: a process that borrowed the
 * descriptor (pidfd_getfd(2), as `lastack reap` does), a fork, another worker's dup() (epoll(7), Q6). */
void poller_remove(struct poller *poller, int fd);

/* Delivers what has already happened, without waiting: before time is held against a session, for a process
 * that was stopped for a while must not take what queued up meanwhile for silence. */
void poller_catch_up(struct poller *poller);

/* Gives a registered descriptor another source; what is ready now is reported to it once more. */
int poller_move(struct poller *poller, int fd, uint32_t events, struct poller_source *source);

/* Leaves the loop; sources are not told. The poller must stay in place until the loop has been run once more.
 */
void poller_close(struct poller *poller);

#endif
