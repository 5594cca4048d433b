#ifndef PROXY_EXCHANGE_REQUEST_H
#define PROXY_EXCHANGE_REQUEST_H

/* The request half: collects a head, writes it anew, and relays the body behind it. What the client sends
 * ahead of its answer waits.
 *
 * Works on the session's exchange; the worker's thread only. */

#include "proxy/session/step.h"

/* Works on the half a step further. */
enum step request_work(struct session *session, uint64_t *budget);

/* The client's bytes have ended by its FIN. */
enum step request_ended(struct session *session);

#endif
