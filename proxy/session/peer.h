#ifndef PROXY_SESSION_PEER_H
#define PROXY_SESSION_PEER_H

/* The socket at the other end of a leg, where it is in the same network namespace.
 *
 * Across a network a close and a half-close look the same, and a RST may be lost. On the same host the kernel
 * can be asked: whether the peer that sent FIN still holds its socket, and whether the socket that we reset
 * is gone. A look-up is one hash access in the kernel, not a dump, and needs no capability.
 *
 * Works on descriptors that the caller owns, on the thread of the struct netlink. */

#include "reaper/kernel/netlink.h"

#include <stdbool.h>

/* What became of a backend's socket after our RST. */
enum clearing {
    CLEARING_NONE,    /* not looked for */
    CLEARING_GONE,    /* the kernel has no such socket any more */
    CLEARING_STILL,   /* it is still there */
    CLEARING_REMOTE,  /* it was not in this network namespace to begin with */
    CLEARING_UNKNOWN, /* the kernel would not say */
    CLEARING_COUNT
};

/* The addresses of the peer of `fd`, without its cookie: no look at the kernel's table. False when it has
 * none. */
bool peer_id(int fd, struct diag_id *peer);

/* Before the RST: finds the peer of `fd`, and fills in *peer. CLEARING_STILL when it is here. */
enum clearing peer_find(struct netlink *netlink, int fd, struct diag_id *peer);

/* After it: CLEARING_GONE, _STILL or _UNKNOWN. */
enum clearing peer_look(struct netlink *netlink, const struct diag_id *peer);

const char *clearing_name(enum clearing clearing);

/* Whether a process still holds the socket of a peer that has sent FIN. */
enum peer_hold {
    PEER_HOLDS,   /* it is half-closed and may be reading */
    PEER_CLOSED,  /* it has closed: nobody is left to read */
    PEER_UNKNOWN, /* it is not in this network namespace, or the kernel would not say */
};

enum peer_hold peer_hold(struct netlink *netlink, const struct diag_id *peer);

#endif
