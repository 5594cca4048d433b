#ifndef REAPER_POLICY_ACTION_H
#define REAPER_POLICY_ACTION_H

/* What the state machine tells its caller to do. */

#include "reaper/policy/half.h"

#include <stdint.h>

/* What the caller does after a step, in this order. A set of bits. */
typedef uint32_t pair_actions;
enum {
    PAIR_DO_FIN = 1u << 0,     /* << leg: shutdown(SHUT_WR) */
    PAIR_DO_RST = 1u << 2,     /* << leg: abort, SO_LINGER{1,0} and close */
    PAIR_DO_CLOSE = 1u << 4,   /* << leg: close; both FINs have been seen, or the peer is gone */
    PAIR_DO_CONNECT = 1u << 6, /* close the backend leg if there is one, and connect to the next server */
    PAIR_DO_PROBE = 1u << 8,   /* << leg: make the peer's kernel acknowledge something (keepalive), then
                                  pair_probes_sent() */
    PAIR_DO_END = 1u << 7,     /* the session is over; `reason` says why */
    PAIR_DO_RETIRE = 1u << 11, /* the backend leg has nothing outstanding: FIN, `message_grace`, RST */
    PAIR_DO_ANSWER = 1u << 10, /* answer the client, for `cause`; then report COMPLETE, or HELD and so on */
};

/* One of those that are shifted by a leg. */
static inline pair_actions action_for(unsigned action, enum leg leg)
{
    return (pair_actions)action << leg;
}

#endif
