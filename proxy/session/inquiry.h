#ifndef PROXY_SESSION_INQUIRY_H
#define PROXY_SESSION_INQUIRY_H

/* Questions about peers on this host, asked by workers and answered by a thread of its own.
 *
 * A look at the kernel's table (peer.h) is a system call that may block: older kernels let one thread look
 * at a time, and a dump by anybody holds that up. So a worker never looks; it puts an inquiry into the
 * desk's inbox and goes on, and is woken for the answer. What is asked after a reset has to be known before,
 * so the desk sends that reset as well: it takes the descriptor over.
 *
 * An inquiry is embedded in who asks, and belongs to the desk from inquiry_ask() until `answered` is called:
 * whoever asks lives that long. The inbox is bounded; when it is full the answer is "unknown", at once. */

#include "proxy/session/peer.h"

#include <stdbool.h>
#include <uv.h>

enum inquiry_kind {
    INQUIRY_RESET, /* find the peer of `fd`, reset `fd`, and look for that peer: sets `peer` and `clearing` */
    INQUIRY_LOOK,  /* is `peer` still there? sets `clearing` */
    INQUIRY_HOLD,  /* does a process hold `peer`, of which the addresses are known? sets `hold` */
};

struct inquiry {
    struct inquiry *next;
    enum inquiry_kind kind;
    int fd; /* of INQUIRY_RESET: becomes the desk's */
    struct diag_id peer;
    enum clearing clearing;
    enum peer_hold hold;
    bool pending;                              /* for who asks */
    struct inquiry_answers *to;                /* the asking thread's */
    void (*answered)(struct inquiry *inquiry); /* called by that thread */
};

/* Answers on their way to one thread, which is woken by `wake`. */
struct inquiry_answers {
    uv_mutex_t lock;
    struct inquiry *first, **last; /* come, and not fetched */
    struct inquiry *fetched;       /* the asking thread's own */
    uv_async_t *wake;
};

int inquiry_answers_init(struct inquiry_answers *answers, uv_async_t *wake);
void inquiry_answers_free(struct inquiry_answers *answers);

/* Calls `answered` for answers that have come, first come first; at most 64 a call, for each may end a
 * session and write a line of the log. True: there may be more of them. The thread that asked. */
bool inquiry_collect(struct inquiry_answers *answers);

struct inquiry_desk;

/* 0 or a negative error: a kernel without sock_diag, no memory, no thread. */
int inquiry_desk_start(struct inquiry_desk **out);

/* Ends the thread. Nobody asks any more, and all is answered. NULL is fine. */
void inquiry_desk_stop(struct inquiry_desk *desk);

/* Any thread. False: nothing was taken, `fd` neither, since there is no desk (NULL) or its inbox is full. */
bool inquiry_ask(struct inquiry_desk *desk, struct inquiry *inquiry);

#endif
