#ifndef REAPER_POLICY_SETTINGS_H
#define REAPER_POLICY_SETTINGS_H

/* What a user can set of the policy: how long each deadline is, what it does with each leg, and whether peers
 * are asked first. Values only; what they mean is in the rows of reaper/policy/deadline.h. */

#include "reaper/policy/half.h"

#include <stdint.h>

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
    DEADLINE_EVENT_STREAM,
    DEADLINE_KEEPALIVE,
    DEADLINE_TUNNEL,
    DEADLINE_MESSAGE_GRACE,
    DEADLINE_HALF_CLOSE_EMPTY,
    DEADLINE_PREFACE,
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

/* "fin", "rst"; "off", "on", "extend". NULL at the end (reaper/words.h). */
extern const char *const close_action_words[];
extern const char *const verify_words[];

/* The settings of one frontend; index with the enums. */
struct deadlines {
    uint64_t after_ms[DEADLINE_COUNT];                   /* DEADLINE_OFF: never */
    enum close_action action[DEADLINE_COUNT][LEG_COUNT]; /* meaningless for rows without `settable_action` */
    enum verify verify;
    uint64_t rate[DEADLINE_COUNT]; /* bytes a second below which nothing is progress for it; 0: any byte is.
                                      Meaningless for rows without `rate_reason` */
};

#define DEADLINE_MAX_MS (UINT64_C(365) * 24 * 3600 * 1000)

/* since + after, without overflow; DEADLINE_OFF when after is DEADLINE_OFF. */
static inline uint64_t deadline_add(uint64_t since_ms, uint64_t after_ms)
{
    uint64_t due_ms;
    if (after_ms == DEADLINE_OFF || __builtin_add_overflow(since_ms, after_ms, &due_ms))
        return DEADLINE_OFF;
    return due_ms;
}

#endif
