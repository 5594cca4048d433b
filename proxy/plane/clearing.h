#ifndef PROXY_PLANE_CLEARING_H
#define PROXY_PLANE_CLEARING_H

/* Whether a backend's socket really went away when we reset our leg to it.
 *
 * A RST can be lost on a network, so that for a remote backend "reset" is a belief. For one in the same network
 * namespace the kernel can be asked: the socket is looked up before the RST, to have its cookie, and after it.
 * A look-up is one hash access in the kernel, not a dump, and needs no capability.
 *
 * Works on sockets that the caller owns; the struct netlink's thread only. */

#include "reaper/kernel/netlink.h"

enum clearing {
    CLEARING_NONE,    /* not looked for */
    CLEARING_GONE,    /* the kernel has no such socket any more */
    CLEARING_STILL,   /* it is still there */
    CLEARING_REMOTE,  /* it was not in this network namespace to begin with */
    CLEARING_UNKNOWN, /* the kernel would not say */
    CLEARING_COUNT
};

/* Before the RST: finds the socket at the other end of `fd`, and fills in *peer. CLEARING_STILL when it is here. */
enum clearing clearing_find(struct netlink *netlink, int fd, struct diag_id *peer);

/* After it: CLEARING_GONE, _STILL or _UNKNOWN. */
enum clearing clearing_look(struct netlink *netlink, const struct diag_id *peer);

const char *clearing_name(enum clearing clearing);

#endif
