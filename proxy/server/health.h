#ifndef PROXY_SERVER_HEALTH_H
#define PROXY_SERVER_HEALTH_H

/* What is known of the servers: which failed lately and is set aside, and which is down by checks.
 *
 *   no failure --failure--> set aside --time--> due: the next session tries it --failure--> set aside, for
 *       ^                                          |                                        twice as long
 *       +-------------------success----------------+
 *
 * One struct health for each address of each backend. The plane owns the pools; workers join when they learn
 * of an address and leave when they drop it, under a mutex, and what is known is forgotten with the last of
 * them. All else is atomic and waits for nobody: any worker notes, any worker reads.
 *
 * Time is a parameter, in milliseconds of the monotonic clock that all loops share. Nothing here picks a
 * server (proxy/server/backend.h), opens a socket or logs. */

#include "conf/conf.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct health {
    struct health_pool *pool;
    struct health *next; /* of the pool; under its mutex, as is `holders` */
    unsigned holders;
    struct conf_address address;
    _Atomic uint64_t record; /* failures to connect (health.c); 0: none since the last success */
    _Atomic bool down;       /* by checks */
    uint32_t against;        /* results in a row that speak against `down`; the checking worker's */
};

/* All addresses of one backend. */
struct health_pool {
    pthread_mutex_t mutex;
    struct health *first;
    _Atomic uint64_t changes; /* of any record or `down`, each counted behind it */
};

void health_pool_init(struct health_pool *pool);

/* After everybody has left. */
void health_pool_free(struct health_pool *pool);

/* The one of this address, new or known to another worker; NULL: out of memory. */
struct health *health_join(struct health_pool *pool, const struct conf_address *address);
void health_leave(struct health *health);

/* A count that differs once any health_due_ms() of the pool may, but for those whose time has come. */
uint64_t health_changes(const struct health_pool *pool);

/* When a session may be sent there: 0 is now, HEALTH_DOWN is when nothing better is left. */
#define HEALTH_DOWN UINT64_MAX
uint64_t health_due_ms(const struct health *health, uint64_t now_ms);

/* A session is about to connect there. A server that was set aside, and is due now, is kept from other
 * sessions until that attempt is decided, or for as long as it was set aside last: one client at a time finds
 * out. */
void health_try(struct health *health, const struct conf_backend *conf, uint64_t now_ms);

/* Connecting went well. True when that ends a time of failures. */
bool health_succeeded(struct health *health);

/* Connecting failed. Returns for how long the server is set aside now; 0: nothing has changed, for it was set
 * aside before, or `set_aside` is off. */
uint64_t health_failed(struct health *health, const struct conf_backend *conf, uint64_t now_ms);

/* Whether a failure to connect (negative errno) is the server's: it is not when descriptors, memory or ports
 * are lacking here. */
bool health_is_servers(int error);

/* A check came out good or not. True when that takes the server down or up. The checking worker only. */
bool health_checked(struct health *health, bool good, const struct conf_backend *conf);

#endif
