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
 * The session decides nothing about teardown: it reports to the pair and does what it says. It belongs to
 * the worker that accepted it, lives from session_open() until the end of the pass in which it is done, and
 * ends in one function, once. Invariants: a leg's descriptor is open exactly while the pair says that the
 * leg is up, or while the backend leg is connecting. After its end it owns no descriptor, no buffer and no
 * place; it may stay a moment to see whether the backend's socket that it reset went away, and is then
 * done. */

#include "proxy/session/state.h"

/* What one session may move in a pass (struct shared, budget_bytes). */
enum { SESSION_BUDGET_BYTES = 1 << 20 };

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

#endif
