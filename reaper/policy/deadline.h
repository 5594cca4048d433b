#ifndef REAPER_POLICY_DEADLINE_H
#define REAPER_POLICY_DEADLINE_H

/* The deadline table: one row a deadline, everything else is derived from it.
 *
 * A row says what the deadline is called, its default and bounds, in which condition of a session it runs,
 * from which moment it counts, what happens to each leg when it fires, and the reason that is then given. The
 * option table, the checks, the help and the README's table read the rows; pair.c evaluates them.
 *
 * All durations are milliseconds of a monotonic clock, given by the caller. Nothing here reads a clock,
 * allocates or logs; any thread may call it. */

#include "reaper/policy/half.h"
#include "reaper/policy/reason.h"

#include <stdbool.h>
#include <stdint.h>

struct pair;

/* A duration that never elapses. `off` in a configuration is this value, for every deadline. */
#define DEADLINE_OFF UINT64_MAX

enum deadline_id {
    DEADLINE_CONNECT,
    DEADLINE_IDLE,
    DEADLINE_HALF_CLOSE,
    DEADLINE_HALF_CLOSE_MAX,
    DEADLINE_WRITE_STALL,
    DEADLINE_LIFETIME,
    DEADLINE_DRAIN,
    DEADLINE_GRACE,
    DEADLINE_REQUEST_HEAD,
    DEADLINE_REQUEST_BODY,
    DEADLINE_RESPONSE,
    DEADLINE_KEEPALIVE,
    DEADLINE_MESSAGE_GRACE,
    DEADLINE_COUNT
};

/* What to do with a leg when a deadline fires. */
enum close_action {
    CLOSE_FIN, /* FIN, and after `grace` RST if the peer has not sent its own */
    CLOSE_RST, /* RST at once */
};

/* Whether peers are probed when `half_close` comes due. */
enum verify {
    VERIFY_OFF,
    VERIFY_ON, /* to tell a dead peer from a leak, and to end early where a client is known to have closed */
    VERIFY_EXTEND, /* also: while both peers' kernels answer, it starts again, up to half_close_max */
};

/* The settings of one frontend; index with the enums. */
struct deadlines {
    uint64_t after_ms[DEADLINE_COUNT];                   /* DEADLINE_OFF: never */
    enum close_action action[DEADLINE_COUNT][LEG_COUNT]; /* meaningless for rows without `settable_action` */
    enum verify verify;
    uint64_t half_close_rate; /* bytes a second below which a half-closed session makes no progress; 0: any
                                 byte is progress */
};

struct deadline {
    const char *name;        /* key in a configuration; with '-' for '_' the flag */
    const char *runs_while;  /* for help and README */
    const char *at_expiry;   /* for help and README */
    uint64_t default_ms;     /* DEADLINE_OFF: off by default */
    uint64_t min_ms, max_ms; /* what a configuration may set, besides `off` */
    bool may_be_off;
    bool settable_action; /* `client:` and `backend:` may be given */
    enum close_action default_action;
    enum reason reason;
    bool spares_delivery; /* waits up to DELIVERY_MS for acknowledgements of bytes on their way to a peer */

    /* Whether it runs in this condition of the session. */
    bool (*armed)(const struct pair *pair);
    /* The moment from which it counts, ms. Called only when armed. */
    uint64_t (*since)(const struct pair *pair);
};

#define DEADLINE_HALF_CLOSE_RATE_DEFAULT 1024 /* bytes a second */

/* RST destroys what is on its way to a peer. A peer that has not acknowledged everything when a deadline
 * comes due is given this long to do so; twice TCP's initial retransmission timeout (RFC 6298, 2), so that
 * one lost packet costs nobody his bytes. `half_close: 0s` thus means "as soon as the FIN has arrived". */
#define DELIVERY_MS UINT64_C(2000)

#define DEADLINE_MAX_MS (UINT64_C(365) * 24 * 3600 * 1000)

/* The row; never NULL for an id below DEADLINE_COUNT. Static storage. */
const struct deadline *deadline_row(enum deadline_id id);

/* Fills in every default. */
void deadlines_default(struct deadlines *deadlines);

/* since + after, without overflow; DEADLINE_OFF when after is DEADLINE_OFF. */
uint64_t deadline_add(uint64_t since_ms, uint64_t after_ms);

#endif
