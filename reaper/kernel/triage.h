#ifndef REAPER_KERNEL_TRIAGE_H
#define REAPER_KERNEL_TRIAGE_H

/* What dumped rows mean: which sockets leak, why, for how long, and what their peers did.
 *
 * A struct triage takes the rows of one dump (triage_add), and is then put in order once (triage_finish),
 * against the one of the dump before if there is one: a socket is recognised by its cookie, and what was
 * learned about it is carried over. It is pure: no system call, no clock, times are parameters. It allocates
 * arrays, which the caller frees with triage_clear(); one thread at a time may use it.
 *
 * How old a leak is, the kernel only half says: nothing stamps the arrival of a FIN, but the FIN's ACK stamps
 * tcpi_last_ack_recv, and later ACKs (of data, of keepalives) stamp it anew. So an age is a lower bound, made
 * from that field and from when the cookie was first seen, and says whether it is exact.
 *
 * Rows wanted of a dump: the state in question, LISTEN (to tell server sockets from client sockets),
 * FIN_WAIT_1 and FIN_WAIT_2 (what peers on this host did), all with tcp_info. */

#include "reaper/kernel/diag.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Why a socket is in CLOSE_WAIT, from its inode and its receive queue (in which the FIN counts one byte). */
#define TRIAGE_CAUSE_MAP(X)                                                                                  \
    X(TRIAGE_NO_CAUSE, "-", "not in CLOSE_WAIT")                                                             \
    X(TRIAGE_READ_EOF, "read-eof", "everything was read, most likely EOF too, and it was never closed")      \
    X(TRIAGE_EOF_UNREAD, "eof-unread", "the program has never read EOF: stuck, stopped or paused")           \
    X(TRIAGE_DATA_UNREAD, "data-unread", "unread data and EOF: an overloaded or deadlocked reader")          \
    X(TRIAGE_NEVER_ACCEPTED, "never-accepted", "still in the accept queue")

enum triage_cause {
#define X(constant, name, text) constant,
    TRIAGE_CAUSE_MAP(X)
#undef X
        TRIAGE_CAUSE_COUNT
};

/* What the other end did. A closed and a half-closed peer send the same FIN; only where the peer's socket is
 * in the same namespace can they be told apart. */
#define TRIAGE_PEER_MAP(X)                                                                                   \
    X(TRIAGE_PEER_REMOTE, "remote", "not in this network namespace: unknown")                                \
    X(TRIAGE_PEER_HALF_CLOSED, "half-closed", "it has shut its writing side and still holds the socket")     \
    X(TRIAGE_PEER_CLOSED, "closed", "it has closed; the kernel keeps its FIN_WAIT_2 for a while")            \
    X(TRIAGE_PEER_FORGOTTEN, "forgotten", "it has closed, and its kernel has dropped the socket")

enum triage_peer {
#define X(constant, name, text) constant,
    TRIAGE_PEER_MAP(X)
#undef X
        TRIAGE_PEER_COUNT
};

struct leak {
    struct diag_row row;
    enum triage_cause cause;
    enum triage_peer peer;
    uint32_t peer_inode; /* of a half-closed peer on this host; else 0 */
    bool
        client_side; /* no socket listens on its local address: this end connected, or the listener is gone */
    bool held;       /* a process that we may look into has it as a descriptor; see guard_learn() */
    bool sound_owner;       /* other programs listen on its port too, and its own does not leak by read-eof */
    unsigned dumps;         /* consecutive dumps that showed this cookie in this state */
    bool progressed;        /* the peer acknowledged new bytes between the last two dumps */
    uint64_t first_seen_ms; /* the caller's clock */
    uint64_t quiet_since_ms; /* first seen, or the last dump that showed such progress */
};

struct triage_peer_row {
    struct diag_endpoint local, remote;
    uint32_t inode;
};

struct triage {
    unsigned state; /* enum diag_state whose rows are leaks */
    struct leak *leaks;
    size_t leak_count, leak_room;
    struct diag_row *listeners;
    size_t listener_count, listener_room;
    struct triage_peer_row *peers; /* FIN_WAIT_1 and FIN_WAIT_2 */
    size_t peer_count, peer_room;
};

void triage_init(struct triage *triage, unsigned state);

/* Drops the rows and keeps the room, for a dump that starts again. */
void triage_restart(struct triage *triage);

void triage_clear(struct triage *triage);

/* The states to dump: of the leaks, with tcp_info; and of what explains them, which needs none. */
uint32_t triage_leak_states(const struct triage *triage);
uint32_t triage_context_states(const struct triage *triage);

/* Takes a row; other states than those two are ignored. 0 or -ENOMEM. */
int triage_add(struct triage *triage, const struct diag_row *row);

/* Sorts the leaks by cookie, drops rows that came twice, judges each, and carries over what `before` (may be
 * NULL) knew. Rows of listening sockets are sorted by port. */
void triage_finish(struct triage *triage, const struct triage *before, uint64_t now_ms);

/* Whether connections to this row's local address come to that listening socket. */
bool triage_listens_for(const struct diag_row *listener, const struct diag_row *row);

/* The listening socket that serves this local address: one on just that address before one on any; NULL when
 * none does. After triage_finish(). */
const struct diag_row *triage_listener(const struct triage *triage, const struct diag_row *row);

/* The leak with that cookie, or NULL. After triage_finish(). */
const struct leak *triage_find(const struct triage *triage, uint64_t cookie);

/* How long it has been in its state, at least. `exact` (may be NULL): nothing is known to have reset the
 * clock. */
uint64_t leak_age_ms(const struct leak *leak, uint64_t now_ms, bool *exact);

/* How long nothing has been acknowledged, at least. */
uint64_t leak_quiet_ms(const struct leak *leak, uint64_t now_ms);

const char *triage_cause_name(enum triage_cause cause);
const char *triage_cause_text(enum triage_cause cause);
const char *triage_peer_name(enum triage_peer peer);
const char *triage_peer_text(enum triage_peer peer);

#endif
