#ifndef PROXY_SERVER_RESOLVE_H
#define PROXY_SERVER_RESOLVE_H

/* The names of all servers, resolved once for the process.
 *
 *   first worker's loop: getaddrinfo ---> struct resolve_list, never changed ---> each worker, when woken
 *         ^                    |
 *         +---- interval; after a failure 1 s, doubled up to 30 s ----+
 *
 * One worker's loop asks, through libuv's threads, and publishes what it found as a list that is never
 * changed and that its holders count. The others are woken by their own uv_async_t and take the list up
 * then: the path of a connection meets no lock. A list keeps the order of the one before it, new addresses
 * behind; an answer with the same addresses publishes nothing.
 *
 * An address at which a frontend of this proxy listens that leads back to the same backend is not used, and
 * a warning says so (conf/loop.h).
 *
 * A name that can't be resolved keeps the addresses that it had. A name that has none is asked for again
 * soon, whatever `resolve_interval` says. One that is not answered within RESOLVE_WAIT_MS counts as answered
 * with nothing, so that nobody waits for a name server that is silent; what it says later counts as well. */

#include "conf/conf.h"
#include "proxy/shared/log.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

/* More addresses than this of one name are not used. */
enum { RESOLVE_ADDRESSES_MAX = 256 };

/* How long a frontend waits, at the start, for the first answer. */
enum { RESOLVE_WAIT_MS = 5000 };

/* When a name that was not resolved is asked for again: after the first, doubled up to the second. */
enum { RESOLVE_AGAIN_MS = 1000, RESOLVE_AGAIN_MAX_MS = 30000 };

/* So many names at most are asked for at a time; others wait for one of them. */
enum { RESOLVE_AT_A_TIME = 32 };

struct resolver;
struct resolve_name;

struct resolve_list {
    _Atomic unsigned holders;
    size_t count;
    struct conf_address addresses[]; /* no address twice */
};

/* Whoever wants to be woken when there is something new. */
struct resolve_subscriber {
    struct resolve_subscriber *prev, *next;
    uv_async_t *wake;
};

/* The names of a configuration, which outlives the resolver. Before there are other threads, for it may set
 * UV_THREADPOOL_SIZE in the environment. 0 or -ENOMEM. */
int resolve_new(const struct conf *conf, struct resolver **out);

/* After resolve_close(), and after everybody has unsubscribed; NULL is fine. */
void resolve_free(struct resolver *resolver);

/* Asks for all names, on this loop and its thread. 0 or a negative error; then too resolve_close() is due.
 * */
int resolve_start(struct resolver *resolver, uv_loop_t *loop, struct log_ring *log);

/* Asks for no more names; handles close in the next turns of the loop. A look-up that runs can't be stopped:
 * resolve_is_busy() stays true until it is over. Both on the thread of the loop; nothing if it was not this
 * loop that the resolver was started on. */
void resolve_close(struct resolver *resolver, const uv_loop_t *loop);
bool resolve_is_busy(const struct resolver *resolver, const uv_loop_t *loop);

/* Any thread, as all below. */
void resolve_subscribe(struct resolver *resolver, struct resolve_subscriber *subscriber, uv_async_t *wake);
void resolve_unsubscribe(struct resolver *resolver, struct resolve_subscriber *subscriber);

/* NULL: that server is no name. */
struct resolve_name *resolve_find(struct resolver *resolver, const struct conf_server *server);

/* False: nothing is new since *seen, which is 0 at first and is brought up to date. True: *list is what
 * there is now, to be given back; NULL: the name was asked for, and has no address yet. */
bool resolve_look(struct resolver *resolver, const struct resolve_name *name, uint64_t *seen,
                  struct resolve_list **list);
void resolve_give_back(struct resolve_list *list);

/* Whether a frontend would be met at the address if that is, or becomes, one of this host's; and whether what
 * it gets would come back to the backend, as names are now. The second takes a lock. */
bool resolve_may_lead_back(const struct resolver *resolver, const struct conf_address *address);
bool resolve_leads_back(struct resolver *resolver, const struct conf_backend *backend,
                        const struct conf_address *address);

#endif
