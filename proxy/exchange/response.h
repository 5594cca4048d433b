#ifndef PROXY_EXCHANGE_RESPONSE_H
#define PROXY_EXCHANGE_RESPONSE_H

/* The response half: reads heads, interim ones and the final one, writes them anew, and relays the body to
 * its end; there the session waits for the next request, or ends.
 *
 * Works on the session's exchange; the worker's thread only. */

#include "proxy/session/step.h"

/* Works on the half a step further. */
enum step response_work(struct session *session, uint64_t *budget);

#endif
