#ifndef PROXY_PLANE_ATTACHMENT_H
#define PROXY_PLANE_ATTACHMENT_H

/* The backend leg of an exchange: wanted for a request, watched between requests, given up when it ends or
 * when the backend would not go on, while the client's leg lives.
 *
 * Works on the session's exchange; the worker's thread only. */

#include "proxy/plane/turn.h"

/* Connects for the present request. */
enum turn attachment_begin(struct session *session);

/* The backend leg, on which nothing is outstanding, is the session's no more: it gets FIN, and after
 * `message_grace` RST. As the state machine said (PAIR_DO_PART). */
void attachment_leave(struct session *session);

/* The same, and the state machine is told: the client goes on, the backend leg does not. */
enum turn attachment_part(struct session *session);

/* Between requests a backend has nothing to say: it may close, and is left when it says something. */
enum turn attachment_watch(struct session *session);

/* The backend's bytes have ended, in order (LEG_END_FIN) or not (LEG_END_RESET). */
enum turn attachment_ended(struct session *session, enum leg_end end);

#endif
