#ifndef PROXY_SOCKET_RELAY_H
#define PROXY_SOCKET_RELAY_H

/* Moves the bytes of one half from its source leg to its sink leg, and says what happened; what that means is
 * for the session's state machine.
 *
 * Bytes are read into the worker's scratch buffer and written to the sink at once. What the sink does not
 * take is held, in a buffer of just that size, and nothing more is read until it has gone: a half never holds
 * more than RELAY_SCRATCH bytes, a pipe's worth when it is spliced, or one answer of the proxy's own. A half
 * with large reads is bulk: it is spliced, through a pipe that the worker's pool lends it for one run or for
 * as long as it holds bytes. An idle half owns nothing.
 *
 * A relay belongs to a session; its worker's thread only. */

#include "proxy/socket/pipe.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { RELAY_SCRATCH = 1 << 16 };

/* A relay without a limit. */
#define RELAY_UNLIMITED UINT64_MAX

/* What a half is relayed with; one a worker. */
struct relay_tools {
    char *scratch; /* RELAY_SCRATCH bytes */
    struct pipe_pool pipes;
};

/* A leg as the relay sees it. The flags remember edges of epoll. */
struct relay_leg {
    int fd;                 /* -1: down */
    bool readable;          /* cleared by a read that found nothing more */
    bool writable;          /* cleared by a write that did not fit */
    bool read_until_eagain; /* a short read does not mean that all was read: FIN, RST or urgent data was
                               announced, or it is a unix socket, which stops behind each descriptor that it
                               is sent */
    bool is_unix;           /* no urgent byte is passed on from it or to it */
    bool urgent;            /* an urgent byte was announced (EPOLLPRI), and there may be one to read yet */
    bool fin;               /* FIN was announced: what can be read now is the last */
    bool broken;            /* reset or failed: its EOF is no FIN, and nothing can be written to it */
    int error;              /* why it is broken, negative */
};

struct relay {
    char *held;
    uint32_t held_offset, held_size; /* bytes [offset, size) of `held` */
    uint32_t weight;                 /* how bulky it has been lately */
    uint64_t limit_bytes;            /* may still be read: what follows belongs to another message */
    struct pipe *pipe;               /* lent while a bulk half moves, or holds bytes */
    bool
        is_stream; /* the sink gets the source's FIN behind the last byte, and its urgent mark; where messages
                         are followed it gets neither, and the urgent byte stays among the others */
    bool holds_urgent; /* what is held is one byte, the urgent one */
};

enum relay_event {
    RELAY_BLOCKED,     /* nothing more can be done before the next edge */
    RELAY_MORE,        /* the budget is used up and there is more to do */
    RELAY_HELD,        /* bytes are held now */
    RELAY_DRAINED,     /* the held ones have gone */
    RELAY_FIN,         /* EOF of the source */
    RELAY_DISCARDED,   /* bytes were read and thrown away */
    RELAY_SOURCE_GONE, /* the source is broken and everything before that was read; `error` says why */
    RELAY_SINK_GONE,   /* the sink broke; what was to be written to it is lost */
    RELAY_NO_MEMORY,   /* bytes were read that can't be held */
};

/* Works on one half until something happens that the session must know of; call again until RELAY_BLOCKED or
 * RELAY_MORE. `source_open` is false once the source's FIN was reported: then only held bytes move.
 * `discard`: bytes are read and thrown away, and taken off *budget. Bytes taken by the sink are added to
 * *moved, which stops at about *budget. */
enum relay_event relay_work(struct relay *relay, struct relay_tools *tools, struct relay_leg *source,
                            struct relay_leg *sink, bool source_open, bool discard, uint64_t *budget,
                            uint64_t *moved);

/* Reads up to `size` bytes. RELAY_MORE: *got of them; else BLOCKED, FIN or SOURCE_GONE. */
enum relay_event relay_read(struct relay_leg *source, char *bytes, size_t size, size_t *got);

/* Writes the parts to the sink in one go. RELAY_MORE: all were taken, or added to what is held already; HELD:
 * the rest is held now; or SINK_GONE, NO_MEMORY. */
enum relay_event relay_write(struct relay *relay, struct relay_leg *sink, struct iovec *parts, int count,
                             uint64_t *moved);

/* Holds bytes of the caller's, from malloc(), and owns them from now on; it holds nothing else. */
void relay_adopt(struct relay *relay, char *bytes, size_t offset, size_t size);

bool relay_holds(const struct relay *relay);

/* Throws away what is held. */
void relay_free(struct relay *relay, struct relay_tools *tools);

#endif
