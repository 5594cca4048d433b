#ifndef REAPER_KERNEL_LADDER_H
#define REAPER_KERNEL_LADDER_H

/* Rungs 3 and 4 of the ladder: finishing leaks of sockets that do not run through the proxy, and proving it.
 *
 *   finish   takes a copy of the owner's descriptor (pidfd_getfd) and shuts its writing side down: what is
 * queued is still sent, then FIN; CLOSE_WAIT goes to LAST_ACK. Needs ptrace access to the owner. destroy
 * SOCK_DESTROY: RST, the send queue is lost. Needs CAP_NET_ADMIN.
 *
 * The owner's descriptor stays open either way: nothing here cures a leak of descriptors, and nothing here
 * claims to. A rung is taken only when ladder_check() finds no guard against it, and each rung checks once
 * more, on the socket itself and against its cookie, that it is still the same one and still in CLOSE_WAIT.
 *
 * The functions keep no state and block for no longer than the kernel's own work; one thread at a time may
 * use one struct netlink. */

#include "reaper/kernel/netlink.h"
#include "reaper/kernel/owner.h"
#include "reaper/kernel/triage.h"

enum ladder_action { LADDER_REPORT, LADDER_FINISH, LADDER_DESTROY, LADDER_BOTH, LADDER_ACTION_COUNT };

struct ladder_policy {
    enum ladder_action action;
    uint64_t older_than_ms;
    bool client_side; /* also sockets that this host opened: a pool's CLOSE_WAIT is often normal */
};

/* Why a leak is left alone. */
#define LADDER_GUARD_MAP(X)                                                                                  \
    X(LADDER_CLEAR, "due", "nothing speaks against it")                                                      \
    X(LADDER_NOT_CLOSE_WAIT, "not-close-wait", "it is not in CLOSE_WAIT")                                    \
    X(LADDER_NO_COOKIE, "no-cookie", "the kernel gave no cookie for it")                                     \
    X(LADDER_NO_OWNER, "never-accepted", "no process holds it; ending it would not free its backlog slot")   \
    X(LADDER_CLIENT_SIDE, "client-side", "nothing listens on its local port: this host opened it")           \
    X(LADDER_SEEN_ONCE, "seen-once", "seen in CLOSE_WAIT in one dump only")                                  \
    X(LADDER_PROGRESS, "progress", "its peer is still acknowledging new bytes")                              \
    X(LADDER_TOO_YOUNG, "too-young", "not known to be older than the bound")

enum ladder_guard {
#define X(constant, name, text) constant,
    LADDER_GUARD_MAP(X)
#undef X
        LADDER_GUARD_COUNT
};

/* LADDER_CLEAR, or the first guard that holds. Pure. */
enum ladder_guard ladder_check(const struct leak *leak, const struct ladder_policy *policy, uint64_t now_ms);

/* What may be done here: 0, or why not. */
struct ladder_rights {
    int finish;     /* -EACCES: only to processes of this user; -EPERM: to none; -ENOSYS: before Linux 5.6 */
    int destroy;    /* -EPERM; -EOPNOTSUPP: built without CONFIG_INET_DIAG_DESTROY */
    int yama_scope; /* /proc/sys/kernel/yama/ptrace_scope; 0 also without Yama */
};

/* Tries the kernel out on sockets of its own, which nobody else sees. */
void ladder_probe(struct netlink *netlink, int proc_fd, struct ladder_rights *rights);

/* Rung 3 by one holder of the leak. 0, -ESRCH or -EBADF (vanished), -EPERM or -EACCES, -ENOSYS, ERROR_STALE
 * (that descriptor is another socket by now, or the socket has left CLOSE_WAIT or made progress). */
int ladder_finish(const struct leak *leak, pid_t pid, int fd);

/* Rung 4. 0, ERROR_STALE, -ENOENT (gone already), -EPERM, -EOPNOTSUPP. */
int ladder_destroy(struct netlink *netlink, const struct leak *leak);

/* What became of one leak: the last rung tried and what it said. */
struct ladder_result {
    enum ladder_action rung; /* LADDER_FINISH or LADDER_DESTROY */
    int error;               /* 0: done */
};

/* Climbs as far as `action` allows (which may not be LADDER_REPORT): finish by any of the holders that
 * `owners` knows, and with LADDER_BOTH, when that fails or leaves it in CLOSE_WAIT, destroy.
 * ERROR_NOT_VISIBLE: no holder to finish it by. The caller has asked ladder_check(). */
struct ladder_result ladder_climb(struct netlink *netlink, const struct owners *owners,
                                  const struct leak *leak, enum ladder_action action);

/* What a later look at the kernel's table says. */
#define LADDER_OUTCOME_MAP(X)                                                                                \
    X(LADDER_STILL, "still", "still in CLOSE_WAIT")                                                          \
    X(LADDER_LAST_ACK, "last-ack", "our FIN is sent, the peer has not acknowledged it yet")                  \
    X(LADDER_GONE, "gone", "the kernel has no such connection any more")

enum ladder_outcome {
#define X(constant, name, text) constant,
    LADDER_OUTCOME_MAP(X)
#undef X
        LADDER_OUTCOME_COUNT
};

/* An enum ladder_outcome, or an error of netlink_lookup() other than -ENOENT. */
int ladder_verify(struct netlink *netlink, const struct leak *leak);

/* "report", "finish", "destroy", "ladder". */
const char *ladder_action_name(enum ladder_action action);

/* The action with that name, or -EINVAL. */
int ladder_action_parse(const char *name);

const char *ladder_guard_name(enum ladder_guard guard);
const char *ladder_guard_text(enum ladder_guard guard);
const char *ladder_outcome_name(enum ladder_outcome outcome);
const char *ladder_outcome_text(enum ladder_outcome outcome);

#endif
