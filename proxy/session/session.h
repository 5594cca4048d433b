#ifndef PROXY_SESSION_SESSION_H
#define PROXY_SESSION_SESSION_H

/* One proxied connection: two sockets, two relays, one state machine (reaper/policy/pair.h).
 *
 *        epoll edges            events                 actions
 *   sockets -------> session ----------> struct pair ----------> session: FIN, RST, close, connect, end
 *                      |  ^
 *                      v  | bytes moved, held, drained, EOF, gone
 *                    relay (one a half)
 *
 * The session decides nothing about teardown: it reports to the pair and does what it says. It belongs to the
 * worker that accepted it, lives from session_open() until a turn after it is done, and ends in one function,
 * once. Invariants: a leg's descriptor is open exactly while the pair says that the leg is up, or while the
 * backend leg is connecting. After its end it owns no descriptor, no buffer and no place; it may stay a
 * moment to see whether the backend's socket that it reset went away, and is then done. */

#include "proxy/session/inquiry.h"
#include "proxy/session/preface.h"
#include "proxy/shared/shared.h"
#include "proxy/socket/relay.h"
#include "proxy/socket/socket.h"
#include "reaper/policy/pair.h"

struct exchange;
struct protocol;
struct proxy_header;

struct session_leg {
    struct poller_source source;
    struct relay_leg relay;
};

struct session {
    struct session *prev, *next; /* in shared->sessions */
    struct grave grave;          /* when it is done */
    struct shared *shared;
    struct frontend *frontend;
    struct target *target; /* of the present or last attempt; NULL: none yet */
    struct pair pair;
    struct session_leg legs[LEG_COUNT];
    struct relay relays[HALF_COUNT];
    const struct protocol *protocol;
    struct exchange *exchange; /* the protocol's part; NULL: it has none */
    struct alarm alarm;        /* the next deadline */
    struct task task;          /* more to relay, or to follow up */
    bool runs;                 /* the task: what a step leaves to be done needs no other */
    bool wants_attempt;        /* to connect, as a step said (PAIR_DO_CONNECT) */
    bool wants_answer;         /* so for the client (PAIR_DO_ANSWER) */
    bool expired;              /* the alarm rang while the task was queued */
    uint64_t id;               /* unique in this process */
    enum place place;
    bool detached;          /* has no leg at its target any more */
    enum clearing clearing; /* of the backend's socket after our RST */
    uint32_t looks;         /* how often we looked, for that or for the client */
    struct inquiry reset;   /* what became of that socket, and which it is */
    struct inquiry hold;    /* whether the client still holds its own */
    bool over;              /* has ended, and only waits for the answer to an inquiry */
    enum preface preface;   /* what is still awaited before the first byte */
    const char *why;        /* its header was refused for; static; NULL: for nothing */
    struct proxy_header
        *told; /* the client's header, for the backend's; NULL: it had none, or none goes on */
    union socket_address client; /* whom it speaks for: the one that connected, or named in its header */
};

/* Makes a session of an accepted client and starts connecting. Takes over `fd` and the place that was taken
 * for it, unless it fails: -ENOMEM, or what registering the socket returned. */
int session_open(struct shared *shared, struct frontend *frontend, const struct protocol *protocol,
                 enum place place, int fd, const union socket_address *client);

/* Ends it when it comes to rest, within the `drain` deadline. It may end, but is not freed, before this
 * returns. */
void session_drain(struct session *session);

/* Ends it at once. False if it had ended before, and only looks whether its backend's socket went away. */
bool session_abort(struct session *session, enum reason reason);

/* For protocols (proxy/session/protocol.h): */

struct relay_leg *session_leg(struct session *session, enum leg leg);

/* It has no leg at its target any more; the log names it until there is another. */
void session_detach(struct session *session);
void session_leave_target(struct session *session);

/* Reports an event to the state machine and does what it says. False once the session has ended. */
bool session_step(struct session *session, struct pair_input input);
bool session_step_half(struct session *session, enum pair_event event, enum half half);

/* The leg's peer is gone, and everything that it sent has been read. */
bool session_step_gone(struct session *session, enum leg leg);

/* With `verify`: asks whether a client that sent FIN has closed; if so the session ends when the answer
 * comes. */
void session_look_for_client(struct session *session);

/* Frees one that is done. */
void session_free(struct grave *grave);

#endif
