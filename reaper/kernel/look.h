#ifndef REAPER_KERNEL_LOOK_H
#define REAPER_KERNEL_LOOK_H

/* One look at the kernel's sockets: the dump that a struct triage wants, at the ports that somebody asked
 * for.
 *
 * Blocks for the kernel's own work; the struct netlink's thread. */

#include "reaper/kernel/netlink.h"
#include "reaper/kernel/triage.h"

/* Fills `triage` (emptied first, room kept) with the sockets of these local ports, none meaning any; the
 * caller then calls triage_finish(). `context`: also what explains them, peers on this host and listening
 * sockets, which doubles the cost; without it only listening sockets. Errors are those of netlink_dump() and
 * triage_add(). */
int look(struct netlink *netlink, struct triage *triage, const uint16_t *ports, size_t port_count,
         bool context);

#endif
