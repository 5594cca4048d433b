#ifndef REAPER_KERNEL_NETLINK_H
#define REAPER_KERNEL_NETLINK_H

/* Asks the kernel about TCP sockets of this network namespace: the system calls around diag.h.
 *
 * A struct netlink is one socket and one receive buffer. The caller owns it; one thread at a time may use it.
 * All calls block, in practice for the kernel's own work only, and never longer than five seconds without an
 * answer. Dumping needs no capability; netlink_destroy() needs CAP_NET_ADMIN in the namespace's user
 * namespace.
 *
 * A dump is no snapshot: the kernel walks its tables piece by piece while sockets come and go, so that a row
 * may appear twice or show a state that is already past. Whoever acts on a row compares its cookie again. */

#include "reaper/kernel/diag.h"

#include <stdatomic.h>
#include <stdint.h>

struct netlink;

/* Opens a socket. Returns 0 and sets *out, or -ENOMEM, -EPROTONOSUPPORT (a kernel without sock_diag), or what
 * socket(2) says. */
int netlink_open(struct netlink **out);

/* From now on calls stop waiting for the kernel, with -ECANCELED, soon after *stop has become true. */
void netlink_stop_on(struct netlink *netlink, const atomic_bool *stop);

/* NULL is fine. */
void netlink_close(struct netlink *netlink);

/* What a dump calls. `row` may return a negative error to stop; netlink_dump returns that. `restart` (may be
 * NULL) says that the dump begins anew because the kernel reported an inconsistency: drop what was collected.
 * The row is the caller's until the function returns. Neither may use the struct netlink that is dumping. */
struct netlink_sink {
    int (*row)(void *context, const struct diag_row *row);
    void (*restart)(void *context);
    void *context;
};

/* Dumps IPv4 and IPv6 sockets that pass the filter, streaming: nothing is allocated per row. Returns 0,
 * ERROR_INTERRUPTED_DUMP when five attempts were all inconsistent, -ETIMEDOUT, an error of diag_build_dump()
 * or diag_next(), or of the system calls. */
int netlink_dump(struct netlink *netlink, const struct diag_filter *filter, const struct netlink_sink *sink);

/* The row of exactly that socket: same addresses, and same cookie unless that is DIAG_NO_COOKIE. A hash
 * lookup, not a dump. -ENOENT: there is none (any more). Never answers with a listening socket. */
int netlink_lookup(struct netlink *netlink, const struct diag_id *id, struct diag_row *row);

/* Destroys that socket: RST to the peer, ECONNABORTED to the owner. Errors: see diag_build_destroy(). */
int netlink_destroy(struct netlink *netlink, const struct diag_id *id);

/* Sockets by state. */
struct netlink_counts {
    uint32_t of[DIAG_STATE_COUNT]; /* index with enum diag_state */
    uint32_t never_accepted;       /* part of ESTABLISHED and CLOSE_WAIT: still in the accept queue */
};

/* Counts the sockets with this local port by state. A port of 0 counts all. */
int netlink_count(struct netlink *netlink, uint16_t port, struct netlink_counts *counts);

#endif
