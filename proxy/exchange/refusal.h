#ifndef PROXY_EXCHANGE_REFUSAL_H
#define PROXY_EXCHANGE_REFUSAL_H

/* Answers of our own: to a request that can't be passed on, or whose answer can't. The state machine decides
 * what becomes of the backend leg; the client gets the answer and the connection ends behind it.
 *
 * Works on the session's exchange; the worker's thread only. */

#include "proxy/http/rule.h"
#include "proxy/session/step.h"

/* The request can't be passed on, or its answer can't. `status` 0: the one that fits the reason. */
enum step refusal_begin(struct session *session, enum reason reason, int status);

/* The request itself is at fault, or there is no memory for it. */
enum step refusal_of_request(struct session *session, enum rule rule);

/* Answers the client, as the state machine said (PAIR_DO_ANSWER). False once the session has ended. */
bool refusal_answer(struct session *session);

/* Goes on with an answer that the client did not take at once. */
enum step refusal_work(struct session *session, uint64_t *budget);

#endif
