#ifndef REAPER_KERNEL_LADDER_H
#define REAPER_KERNEL_LADDER_H

/* Rungs 3 and 4 of the ladder: finishing leaks of sockets that do not run through the proxy, and proving it.
 *
 *   finish:  takes a copy of the owner's descriptor (pidfd_getfd) and shuts its writing side down: what is
 *            queued is still sent, then FIN; CLOSE_WAIT goes to LAST_ACK. Needs ptrace access to the owner.
 *   destroy: SOCK_DESTROY: RST, the send queue is lost. Needs CAP_NET_ADMIN.
 *
 * The owner's descriptor stays open either way: nothing here cures a leak of descriptors, and nothing here
 * claims to. A rung is taken only when guard_check() says GUARD_CLEAR, and each rung checks once more, at
 * the last moment, what may have changed since the dump: that it is the same socket, by its cookie; that it
 * is still in CLOSE_WAIT; that a process still holds it; and that its peer on this host does not wait.
 *
 * The functions keep no state and block for no longer than the kernel's own work; one thread at a time may
 * use one struct netlink. */

#include "reaper/kernel/guard.h"
#include "reaper/kernel/netlink.h"
#include "reaper/kernel/owner.h"
#include "reaper/kernel/triage.h"

enum ladder_action { LADDER_REPORT, LADDER_FINISH, LADDER_DESTROY, LADDER_BOTH, LADDER_ACTION_COUNT };

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
 * `owners` knows, and with LADDER_BOTH, when that fails or leaves it in CLOSE_WAIT, destroy. The caller has
 * asked guard_check() with the same policy. Nothing is done, with the error
 *   ERROR_NOT_VISIBLE  no process holds it any more, as far as /proc below `proc_fd` shows (unless
 * even_unseen)
 *   ERROR_WAITING      its peer on this host waits for an answer by now (unless even_waiting) */
struct ladder_result ladder_climb(struct netlink *netlink, int proc_fd, const struct owners *owners,
                                  const struct leak *leak, const struct guard_policy *policy,
                                  enum ladder_action action);

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
extern const char *const ladder_words[]; /* the same, NULL at the end (reaper/words.h) */

/* The action with that name, or -EINVAL. */
int ladder_action_parse(const char *name);

const char *ladder_outcome_name(enum ladder_outcome outcome);
const char *ladder_outcome_text(enum ladder_outcome outcome);

#endif
