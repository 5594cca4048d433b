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
#include "proxy/session/state.h"

#include <stdbool.h>

/* How a session of that client begins. */
enum preface preface_of(const struct conf_frontend *frontend, const union socket_address *client);

enum preface_result {
    PREFACE_WAITS,       /* for more bytes */
    PREFACE_TELLS,       /* *input is for the state machine */
    PREFACE_CLIENT_GONE, /* the client's leg broke */
};

/* In stage PREFACE: reads what is there. What is to be told is the session's to tell. */
enum preface_result preface_work(struct session *session, struct pair_input *input);

/* The backend leg is connected, and nothing was written to it: sends its header, if it gets one. True when
 * *input is for the state machine. */
bool preface_send(struct session *session, struct pair_input *input);

/* Gives the memory back. */
void preface_end(struct session *session);

#endif
