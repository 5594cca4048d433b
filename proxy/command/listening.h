#ifndef PROXY_COMMAND_LISTENING_H
#define PROXY_COMMAND_LISTENING_H

/* Who listens on an address of this host, in this network namespace. Blocks for a dump of listening sockets
 * and a walk over /proc. */

#include "reaper/kernel/owner.h"

#include <stdbool.h>
#include <sys/socket.h>

struct listening {
    bool is_ours;  /* the address is this host's; else nothing else is known */
    bool found;    /* somebody listens there */
    bool has_name; /* and we may know who */
    struct owner_process process;
};

/* Whether an IPv4 or IPv6 address is this host's. */
bool listening_is_ours(const struct sockaddr_storage *address);

/* 0 or a negative error. `want_name` false: no walk, and -EAFNOSUPPORT for a unix path, which has to be
 * connected to for an answer. */
int listening_find(const struct sockaddr_storage *address, bool want_name, struct listening *out);

#endif
