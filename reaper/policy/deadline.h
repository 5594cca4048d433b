#ifndef REAPER_POLICY_DEADLINE_H
#define REAPER_POLICY_DEADLINE_H

/* The deadline table: one row a deadline, everything else is derived from it.
 *
 * A row says what the deadline is called, its default and bounds, in which condition of a session it runs,
 * from which moment it counts, what it does when it fires, and the reason that is then given. The option
 * table, the checks, the help and the README's table read the rows; pair.c evaluates them. A new deadline is
 * an id in settings.h, a row here, a field in track.h if it needs a clock of its own, and a test.
 *
 * All durations are milliseconds of a monotonic clock, given by the caller. Nothing here reads a clock,
 * allocates or logs; any thread may call it. */

#include "reaper/policy/action.h"
#include "reaper/policy/reason.h"
#include "reaper/policy/settings.h"

#include <stdbool.h>
#include <stdint.h>

struct pair;

struct deadline {
    const char *name;        /* key in a configuration; with '-' for '_' the flag */
    const char *runs_while;  /* for help and README */
    const char *at_expiry;   /* for help and README */
    uint64_t default_ms;     /* DEADLINE_OFF: off by default */
    uint64_t min_ms, max_ms; /* what a configuration may set, besides `off` */
    bool may_be_off;
    bool settable_action; /* `client:` and `backend:` may be given */
    bool spares_delivery; /* waits up to DELIVERY_MS for acknowledgements of bytes on their way to a peer */
    enum close_action default_action;
    enum reason reason;
    enum reason rate_reason; /* of what makes progress, but less than its rate; REASON_NONE: it has no rate */
    uint64_t default_rate;   /* bytes a second; 0: off by default */
    const char *rate_help;   /* for help */

    /* Whether it runs in this condition of the session. */
    bool (*armed)(const struct pair *pair);
    /* The moment from which it counts, ms. Called only when armed. */
    uint64_t (*since)(const struct pair *pair);
    /* Whether there was progress since it was last enough. Asked only where there is a rate. */
    bool (*trickled)(const struct pair *pair);
    /* Once due, it waits until then, ms; 0: for nothing. NULL: never for anything. */
    uint64_t (*waits_until)(const struct pair *pair);
    /* What it does when it fires. Called only when armed and due. */
    pair_actions (*fire)(struct pair *pair, enum deadline_id id, uint64_t now_ms);
};

/* RST destroys what is on its way to a peer. A peer that has not acknowledged everything when a deadline
 * comes due is given this long to do so; twice TCP's initial retransmission timeout (RFC 6298, 2), so that
 * one lost packet costs nobody his bytes. `half_close: 0s` thus means "as soon as the FIN has arrived". */
#define DELIVERY_MS UINT64_C(2000)

/* The row; never NULL for an id below DEADLINE_COUNT. Static storage. */
const struct deadline *deadline_row(enum deadline_id id);

/* Fills in every default. */
void deadlines_default(struct deadlines *deadlines);

#endif
