#ifndef PROXY_PATROL_LEAKS_H
#define PROXY_PATROL_LEAKS_H

/* The leaks of watched ports that did not go through this proxy: said, and ended as far as the user allows.
 *
 * At an interval the kernel's table is looked at. What leaks is logged by cause and by owner whenever it has
 * changed, at most every ten seconds; what is due by the ladder's guards is ended, and each ending is logged
 * with what a second look found. Sockets whose peer is a leg of this proxy are left to their session's
 * deadlines, and sockets of this process are never touched.
 *
 * One thread, which may block for as long as a dump and a walk over /proc take. */

#include "conf/conf.h"
#include "proxy/shared/log.h"

#include <netdb.h>
#include <stdatomic.h>

struct leaks;

/* Watches what conf->reaper and the backends' servers name; both stay the caller's and outlive it. *out is
 * NULL when nothing is to be watched. Once `stop` is true a look under way is given up soon. 0, -ENOMEM, or
 * what the kernel says who has no sock_diag. */
int leaks_open(const struct conf *conf, struct log_ring *ring, const atomic_bool *stop, struct leaks **out);

/* The names among the servers, NULL after the last one, and their addresses, without which nothing is
 * watched for them. At most eight addresses a name are taken, ports in them ignored. */
const char *leaks_name(const struct leaks *leaks, size_t index);
void leaks_set_addresses(struct leaks *leaks, size_t index, const struct addrinfo *addresses);

/* One look. now_ms: CLOCK_MONOTONIC. */
void leaks_look(struct leaks *leaks, uint64_t now_ms);

/* NULL is fine. */
void leaks_close(struct leaks *leaks);

#endif
