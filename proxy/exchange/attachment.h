#ifndef PROXY_EXCHANGE_ATTACHMENT_H
#define PROXY_EXCHANGE_ATTACHMENT_H

/* The backend leg of an exchange: wanted for a request, watched between requests, given up when it ends or
 * when the backend would not go on, while the client's leg lives.
 *
 * With `reuse` a leg is the session's only from a request to the end of its response. Then it goes to the
 * pool of its target (pool.h), and the next request takes one from there. Not shared is a leg that
 *   - may be authenticated as its client (RFC 4559, 6: NTLM, Negotiate, Kerberos),
 *   - has given an answer without a body to HEAD, or by 204 or 304: a server that sends one all the same, a
 *     moment later, would give it to whoever asks next (it stays with its client, as without `reuse`),
 *   - was answered on before the request was whole, or brought more than was asked for,
 *   - the next request of the same client is there for: it stays for that one.
 * With `reuse: safe` a request that may not be sent twice goes over a new leg. With `always` it may go over a
 * used one that looks alive; if the backend closes that at the same moment, the client gets 502.
 *
 * Works on the session's exchange; the worker's thread only. */

#include "proxy/session/step.h"

/* Whether the backend leg is to go on behind its response, for whomever. */
bool attachment_reuses(const struct session *session);

/* A request has come. Leaves the leg that the session has, if the request can't go over it. */
enum step attachment_choose(struct session *session);

/* Finds a leg for the present request, which has none. */
enum step attachment_begin(struct session *session);

/* For the session, which has just picked a target: the descriptor of a leg from its pool, registered as the
 * session's for these events; -1: a new one is to be connected. */
int attachment_take(struct session *session, uint32_t events);

/* Between messages, or at the end of one: whether the leg may go to the pool. */
bool attachment_may_be_shared(const struct session *session);

/* It does, if it is still sound. Between messages only. */
enum step attachment_share(struct session *session);

/* The backend leg, on which nothing is outstanding, is the session's no more: it gets FIN, and after
 * `message_grace` RST. As the state machine said (PAIR_DO_RETIRE). */
void attachment_retire_leg(struct session *session);

/* The same, and the state machine is told: the client goes on, the backend leg does not. */
enum step attachment_retire(struct session *session);

/* Between requests a backend has nothing to say: it may close, and is retired when it says something. */
enum step attachment_watch(struct session *session);

/* The backend's bytes have ended, in order (LEG_END_FIN) or not (LEG_END_RESET). */
enum step attachment_ended(struct session *session, enum leg_end end);

#endif
