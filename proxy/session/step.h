#ifndef PROXY_SESSION_STEP_H
#define PROXY_SESSION_STEP_H

/* Steps of a protocol's work on one half: an event is reported to the session's state machine, or bytes were
 * relayed, and the result says how to go on. What the relay reports is read here, for all protocols.
 *
 * After STEP_ENDED the session must not be touched. The worker's thread only. */

#include "proxy/session/protocol.h"
#include "reaper/policy/pair.h"

enum step step_after(bool alive);

/* Events for the state machine. */
enum step step_event(struct session *session, struct pair_input input);
enum step step_stage(struct session *session, enum pair_stage stage);
enum step step_answered(struct session *session, bool streams); /* the response begins */
enum step step_abort(struct session *session, enum reason reason);

/* Bytes were read or written: the session's share of this pass is smaller by them. */
void step_charge(uint64_t *budget, uint64_t bytes);

/* Bytes went to the half's sink. */
void step_progress(struct session *session, enum half half, uint64_t moved);

/* The sink has taken all, and nothing is outstanding: what the legs' edges said so far is looked at again,
 * for their FINs may be among it, and the session ends. */
enum step step_complete(struct session *session);

/* What the relay says of the half means for the session. Where one side ended, the protocol decides. */
enum step step_relay(struct session *session, enum half half, enum relay_event event);

/* The same after a write, of which RELAY_MORE says that it went well. */
enum step step_written(struct session *session, enum half half, enum relay_event event);

#endif
