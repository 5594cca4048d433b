#ifndef REAPER_KERNEL_GUARD_H
#define REAPER_KERNEL_GUARD_H

/* Why a leak is left alone: the one table of guards, for `reap` and for the reaper in `run`.
 *
 * Whoever ends sockets of other programs can harm somebody who has done nothing wrong. So a leak is ended
 * only when none of these guards speaks for it, and what can't be known counts as a reason to leave it
 * alone. Each guard says in words why, and what sets it aside; `lastack reap --explain` prints the table.
 *
 * guard_learn() tells each leak what the walk over /proc found; guard_check() is pure. */

#include "reaper/kernel/owner.h"
#include "reaper/kernel/triage.h"

struct guard_policy {
    uint64_t older_than_ms;
    /* What sets guards aside. The reaper in `run` sets none of them. */
    bool client_side;
    bool even_waiting;
    bool even_unseen;
    bool named_owner; /* only sockets of processes that the user has named are looked at */
};

/* In the order in which they are asked: those that need no walk over /proc first.
 * constant, name, why it is left alone, what sets the guard aside. */
#define GUARD_MAP(X)                                                                                         \
    X(GUARD_CLEAR, "due", "nothing speaks against it", "-")                                                  \
    X(GUARD_NOT_CLOSE_WAIT, "not-close-wait", "it is not in CLOSE_WAIT", "nothing")                          \
    X(GUARD_NO_COOKIE, "no-cookie", "the kernel gave no cookie for it, so another could be hit", "nothing")  \
    X(GUARD_NEVER_ACCEPTED, "never-accepted",                                                                \
      "no process has accepted it; ending it would not free its backlog slot", "nothing")                    \
    X(GUARD_CLIENT_SIDE, "client-side",                                                                      \
      "nothing listens on its local address: this host opened it, and a pool's are often no leak",           \
      "--client-side")                                                                                       \
    X(GUARD_WAITING, "waiting",                                                                              \
      "its peer on this host has only shut its writing side and may be waiting for an answer",               \
      "--even-waiting")                                                                                      \
    X(GUARD_SEEN_ONCE, "seen-once", "seen in CLOSE_WAIT in one dump only",                                   \
      "nothing: it needs a second dump")                                                                     \
    X(GUARD_PROGRESS, "progress", "its peer is still acknowledging new bytes",                               \
      "nothing: it goes when that ends")                                                                     \
    X(GUARD_TOO_YOUNG, "too-young", "not known to be older than the bound", "--older-than DURATION")         \
    X(GUARD_UNSEEN, "unseen",                                                                                \
      "no process that this user may look into holds it: its owner may be another user's, in another pid "   \
      "namespace, or about to receive it from another process",                                              \
      "more rights, or --even-unseen")                                                                       \
    X(GUARD_SOUND_OWNER, "sound-owner",                                                                      \
      "several programs listen on this port (SO_REUSEPORT), and the one that holds it has not been seen to " \
      "read EOF without closing",                                                                            \
      "--pid PID or --program NAME")

enum guard {
#define X(constant, name, why, override) constant,
    GUARD_MAP(X)
#undef X
        GUARD_COUNT
};

/* The inodes whose holders guard_learn() needs: of all leaks, of their half-closed peers on this host, and of
 * all listening sockets. An array of *count
 * that the caller frees, or NULL without memory. */
uint32_t *guard_inodes(const struct triage *triage, size_t *count);

/* Sets `held` and `sound_owner` of each leak from what owners_find() said of those inodes. 0 or -ENOMEM; then
 * none of the leaks is held, and all are left alone. After triage_finish(). */
int guard_learn(struct triage *triage, const struct owners *owners);

/* GUARD_CLEAR, or the first guard that speaks for it. Before guard_learn() no leak is held. */
enum guard guard_check(const struct leak *leak, const struct guard_policy *policy, uint64_t now_ms);

/* Whether nothing but the answer of guard_learn() is missing: whether the walk over /proc is worth it. */
bool guard_needs_owners(const struct leak *leak, const struct guard_policy *policy, uint64_t now_ms);

/* Static storage. */
const char *guard_name(enum guard guard);
const char *guard_why(enum guard guard);
const char *guard_override(enum guard guard);

#endif
