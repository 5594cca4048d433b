#ifndef PROXY_SESSION_BYTES_H
#define PROXY_SESSION_BYTES_H

/* The protocol of mode tcp: bytes are relayed as they come, and nothing in them is followed. A session of
 * another protocol may come to that too (a tunnel).
 *
 * The worker's thread only. */

#include "proxy/session/protocol.h"
#include "reaper/policy/half.h"

extern const struct protocol bytes_protocol;

/* As protocol->work and protocol->ended. */
bool bytes_work(struct session *session, enum half half, uint64_t *budget, bool *again);
enum step bytes_ended(struct session *session, enum half half, enum relay_event event);

#endif
