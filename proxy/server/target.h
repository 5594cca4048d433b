#ifndef PROXY_SERVER_TARGET_H
#define PROXY_SERVER_TARGET_H

/* One address that sessions are sent to: how many of this worker's sessions have a leg there, its pool of
 * idle legs, and what is known of its health, which all workers share.
 *
 * The backend makes a target, and removes it when the name that it came from has that address no more
 * (proxy/server/backend.h); its memory lives until the last session has let go of it. A target belongs to a
 * worker, and to its thread. */

#include "conf/conf.h"
#include "proxy/server/health.h"
#include "proxy/server/lowest.h"
#include "proxy/server/pool.h"
#include "proxy/socket/socket.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct check;
struct shared;

struct target {
    struct shared *shared;
    const struct conf_backend *conf;
    const struct conf_server *server; /* as it was configured */
    struct conf_address address;
    uint64_t hash;         /* of the address, for `balance: source` */
    struct health *health; /* shared with other workers */
    struct check *check;   /* the backend's; NULL: not checked, or not by this worker */
    struct lowest *use;    /* the backend's: how much each target is used; NULL: removed */
    size_t index;          /* there */
    uint64_t tried;        /* when last, as a count of the backend's tries */
    uint32_t sessions;     /* of this worker: they have a leg here, or make one */
    uint32_t detached;     /* sessions that name it though their leg is gone: not counted by the balance */
    bool may_lead_back;    /* one of our frontends is met there if the address is this host's */
    uint64_t avoid_ms;     /* until then: it does */
    bool removed;          /* no longer among the backend's; freed with its last session */
    struct pool pool;      /* legs that no session has; not counted */
    char text[SOCKET_TEXT];
};

/* Without `text` the address itself is the text. NULL: out of memory. */
struct target *target_new(struct shared *shared, const struct conf_backend *conf,
                          const struct conf_server *server, const struct conf_address *address,
                          const char *text, struct health_pool *health);

/* No session is sent there any more; its check has been stopped. */
void target_remove(struct target *target);

/* Whether sessions may be sent there; else *due_ms is when that may change (HEALTH_DOWN: nobody knows). */
bool target_is_usable(const struct target *target, uint64_t now_ms, uint64_t *due_ms);

/* It leads back to where its sessions come from: no session is sent there for a while, whatever else fails.
 * */
bool target_is_avoided(const struct target *target, uint64_t now_ms);

/* How its use is written down in target->use, while it is usable. */
uint32_t target_use(const struct target *target);

/* Counts one more session. Each taken target is released once: by target_release() or, when the session's
 * leg is gone and the session still names the target, by target_detach() and then target_release_detached().
 * */
void target_take(struct target *target);
void target_release(struct target *target);
void target_detach(struct target *target);
void target_release_detached(struct target *target);

/* How connecting to the target came out: 0 or a negative errno. */
void target_tell(struct target *target, int error);

#endif
