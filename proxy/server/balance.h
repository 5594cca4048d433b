#ifndef PROXY_SERVER_BALANCE_H
#define PROXY_SERVER_BALANCE_H

/* Which target of a backend is next.
 *
 *   roundrobin  each in turn
 *   leastconn   the least used; those that are used alike take turns
 *   source      by the client's address, whatever its port: of all targets the one with the highest score, a
 *               hash of both addresses (rendezvous hashing). The order of the targets does not matter, nor
 *               which worker or which host asks, and when a target goes only its own clients move.
 *
 * A choice by turn or by use takes as many steps as the number of targets has binary digits, one by source a
 * step for each target. What is known of their health is looked at again only when it has changed.
 *
 * A balance belongs to a backend, and to its worker's thread. It opens nothing and logs nothing; time is a
 * parameter. */

#include "proxy/server/target.h"

struct balance {
    const struct conf_backend *conf;
    struct health_pool *health;
    struct target **targets; /* in the order of the configuration, and of the answers of the name service */
    size_t count;
    struct lowest use; /* of each target; LOWEST_NONE: not usable */
    uint64_t changes;  /* of health_pool, when `use` was last made anew; UINT64_MAX: it is to be */
    uint64_t again_ms; /* when the first that is not usable may be so again */
    uint64_t tries;
    size_t next; /* round robin */
};

/* Without a target; the first of the turns is the one of this index. The pool is borrowed. */
void balance_init(struct balance *balance, const struct conf_backend *conf, struct health_pool *health,
                  size_t first);

/* Takes over the array of these targets, from malloc(), in place of the present ones, which stay the
 * caller's. 0 or -ENOMEM, and then nothing has changed. */
int balance_replace(struct balance *balance, struct target **targets, size_t count);

/* The array only. */
void balance_free(struct balance *balance);

/* The target for a new session of this client or, if `previous` just failed, the one behind it. Targets that
 * are set aside or down are left out. When all are, nobody is refused for what is only believed: the target
 * that is due back first is taken and, behind one that failed, the one that this worker tried longest ago.
 * Taken (target_take()). NULL: there is none. */
struct target *balance_pick(struct balance *balance, const union socket_address *client,
                            const struct target *previous, uint64_t now_ms);

/* Sends no session there until then, even if there is nobody else. */
void balance_avoid(struct balance *balance, struct target *target, uint64_t until_ms);

#endif
