#ifndef PROXY_SESSION_PROTOCOL_H
#define PROXY_SESSION_PROTOCOL_H

/* What a session does with its bytes: the part that a mode plugs in. The listener chooses one by the mode
 * of its frontend; proxy/session/bytes.h relays bytes as they come, proxy/exchange/ follows the messages in
 * them.
 *
 * The session owns its legs, its relays and its state machine, and carries out what the state machine says.
 * The protocol works on the halves and reports events (session_step()). It never closes a leg by itself.
 *
 * A member that may be NULL says what that means. Every member is called on the session's thread, and none
 * but `work`, `ended` and `answer` may end the session. */

#include "proxy/socket/relay.h"
#include "reaper/policy/action.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct line;
struct session;

/* What came of working on a half. */
enum step {
    STEP_BLOCKED, /* until the next edge */
    STEP_AGAIN,   /* there may be more to do */
    STEP_OTHER,   /* blocked, but the other half has to be looked at again */
    STEP_ENDED,   /* the session is over */
};

struct protocol {
    /* Memory of the protocol's own, as zeros behind the session: session->exchange. 0: none. */
    size_t size;

    /* Starts the state machine, and says what is to be done first: 0, or PAIR_DO_CONNECT. */
    pair_actions (*begin)(struct session *session);

    /* Works on one half until it is blocked, or has used up *budget: every byte that is read or written is
     * taken off it; the rest is put off to the next pass. False once the session has ended; *again when the
     * other half has to be looked at again. */
    bool (*work)(struct session *session, enum half half, uint64_t *budget, bool *again);

    /* The relay of the half reports RELAY_FIN, RELAY_SOURCE_GONE or RELAY_SINK_GONE. */
    enum step (*ended)(struct session *session, enum half half, enum relay_event event);

    /* Answers the client, as PAIR_DO_ANSWER said; not within the step that said so. False once the session
     * has ended. NULL: there is no way to answer, and what would be answered aborts the session. */
    bool (*answer)(struct session *session);

    /* The descriptor of a leg that has served others at the session's target, registered for these events
     * as its backend leg; -1: there is none. NULL: never. */
    int (*take_leg)(struct session *session, uint32_t events);

    /* The backend leg, with nothing outstanding, is the session's no more (PAIR_DO_RETIRE). NULL: never. */
    void (*retire_leg)(struct session *session);

    /* Whether the client, which has sent FIN, is still waited for, so that it is worth knowing whether it has
     * closed. NULL: the session knows by itself. */
    bool (*awaits)(struct session *session);

    /* Adds fields to the line that says how the session ended. NULL: none. */
    void (*log)(const struct session *session, struct line *line);

    /* The session has ended: gives back memory and what else it holds. NULL: nothing. */
    void (*end)(struct session *session);
};

#endif
