#ifndef PROXY_SESSION_PREFACE_H
#define PROXY_SESSION_PREFACE_H

/* What stands before a session's first byte, on either leg.
 *
 *   client leg    a PROXY header, where `accept_proxy` takes it from this client; with `connect_on:
 *                 first_byte` just any byte. The session is in PAIR_STAGE_PREFACE until that is there, within
 *                 the deadline `preface`; then the protocol of its mode begins.
 *   backend leg   with `send_proxy` a header of our own, as soon as it is connected: in one segment with the
 *                 client's first bytes where there are any, and at once where there are none, for the server
 *                 may be the one to speak first.
 *
 * A header is looked at where it lies, in the socket's receive queue, and taken out once it is whole: a part
 * of one costs no memory here. What it says of the client holds everywhere from then on: log, `balance:
 * source`, X-Forwarded-For. UNKNOWN and LOCAL leave the client as the one that connected; they are passed on
 * as what they are.
 *
 * `trusted` says who may send one. A unix socket's clients are trusted by who may open its path. The worker's
 * thread only. */

#include "conf/conf.h"
#include "proxy/socket/socket.h"

#include <stdbool.h>

struct session;

enum preface {
    PREFACE_NONE,
    PREFACE_BYTE,         /* any */
    PREFACE_HEADER,       /* a PROXY header, or the client is refused */
    PREFACE_HEADER_MAYBE, /* a PROXY header, or the first bytes of its own */
    PREFACE_REFUSED,      /* this client may not send one, and none else is served */
};

/* How a session of that client begins. */
enum preface preface_of(const struct conf_frontend *frontend, const union socket_address *client);

/* In stage PREFACE: reads what is there. False once the session has ended. */
bool preface_work(struct session *session);

/* The backend leg is connected, and nothing was written to it: sends its header, if it gets one. False once
 * the session has ended. */
bool preface_send(struct session *session);

/* Gives the memory back. */
void preface_end(struct session *session);

#endif
