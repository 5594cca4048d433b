#ifndef PROXY_EXCHANGE_REQUEST_H
#define PROXY_EXCHANGE_REQUEST_H

/* The request half: collects a head, writes it anew, and relays the body behind it. What the client sends
 * ahead of its answer waits.
 *
 * Works on the session's exchange; the worker's thread only. */

#include "proxy/exchange/turn.h"

/* Works on the half a step further. */
enum turn request_work(struct session *session, uint64_t *budget);

#endif
