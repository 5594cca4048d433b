#ifndef PROXY_ENTRY_LISTENER_H
#define PROXY_ENTRY_LISTENER_H

/* One listening socket of one worker: accepts, and knows when not to.
 *
 * Limits are checked before a connection is accepted, so that one that can't be served waits in the
 * kernel's backlog and is not dropped: the places that there are (proxy/shared/limit.h), and whatever
 * accept4() reports (EMFILE, ENFILE, ENOBUFS, ENOMEM). Where descriptors lack, idle backend legs (pool.h) are
 * parted with first. A listener that had to stop tries again when a session of its worker ends and every
 * LISTENER_RETRY_MS; in between it costs nothing. When an accepted connection could not be served for want of
 * descriptors or memory, the others wait at least that long: they would fare no better. */

#include "proxy/shared/shared.h"

struct protocol;

enum { LISTENER_RETRY_MS = 100 };

struct listener {
    struct poller_source source;
    struct task task;
    struct alarm retry;
    struct shared *shared;
    struct frontend *frontend;
    const struct protocol *protocol; /* of its sessions */
    int fd;
    bool registered;           /* with the poller */
    bool finishing;            /* is to accept no more than `waiting` */
    uint64_t waiting;          /* in the backlog, at most */
    bool paused;               /* had to stop */
    uint64_t say_again_ms;     /* not before */
    uint64_t paused_until_ms;  /* accepts nothing before, whatever comes */
    uint64_t refused;          /* accepted to be refused, since that was said; it is said again */
    uint64_t refused_again_ms; /* not before */
};

void listener_init(struct listener *listener, struct shared *shared, struct frontend *frontend, int fd);

/* Starts accepting, later if the kernel can't watch the socket now (epoll_ctl(2): ENOMEM, ENOSPC). */
void listener_open(struct listener *listener);

/* Tries again if it had to stop. */
void listener_resume(struct listener *listener);

/* Accepts what the backlog held at the first call, as far as limits allow and a share of a pass at a time;
 * then closes. To be called once a pass until it returns true: closed. */
bool listener_finish(struct listener *listener);

/* Closes it at once. */
void listener_close(struct listener *listener);

#endif
