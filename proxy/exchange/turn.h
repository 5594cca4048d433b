#ifndef PROXY_EXCHANGE_TURN_H
#define PROXY_EXCHANGE_TURN_H

/* What came of working on one half of an exchange, and the steps that request.h, response.h, attachment.h and
 * refusal.h have in common: report to the session's state machine, relay, and say how to go on.
 *
 * After TURN_ENDED the session must not be touched. The worker's thread only. */

#include "proxy/socket/relay.h"
#include "reaper/policy/pair.h"

struct session;

enum turn {
    TURN_BLOCKED, /* until the next edge */
    TURN_AGAIN,   /* there may be more to do */
    TURN_ENDED,   /* the session is over */
};

enum turn turn_after(bool alive);

/* Events for the state machine. */
enum turn turn_step(struct session *session, struct pair_input input);
enum turn turn_stage(struct session *session, enum pair_stage stage);
enum turn turn_abort(struct session *session, enum reason reason);

/* Bytes were read or written: the session's share of this turn is smaller by them. */
void turn_charge(uint64_t *budget, uint64_t bytes);

/* Bytes went to the half's sink. */
void turn_progress(struct session *session, enum half half, uint64_t moved);

/* The sink has taken all, and nothing is outstanding: what the legs' edges said so far is looked at again,
 * for their FINs may be among it, and the session ends. */
enum turn turn_complete(struct session *session);

/* What the relay says of the half means for the session. */
enum turn turn_relay(struct session *session, enum half half, enum relay_event event);

/* The same after a write, of which RELAY_MORE says that it went well. */
enum turn turn_written(struct session *session, enum half half, enum relay_event event);

/* Flushes what is held, then relays as much of a body as needs no looking at. */
enum turn turn_unseen(struct session *session, enum half half, uint64_t *budget);

#endif
