#ifndef PROXY_SHARED_COUNTERS_H
#define PROXY_SHARED_COUNTERS_H

/* What one worker counts. Each counter has one writing thread, the worker; any thread may read. */

#include "reaper/policy/half.h"
#include "reaper/policy/reason.h"

#include <stdatomic.h>
#include <stdint.h>

enum { COUNTERS_STATUS_CLASSES = 6 };

struct counters {
    _Atomic uint64_t accepted;  /* sessions */
    _Atomic uint64_t oldest_ms; /* not counted: when the oldest that is open was accepted; 0: none */
    _Atomic uint64_t ended[REASON_COUNT];              /* sessions, by reason */
    _Atomic uint64_t bytes[HALF_COUNT];                /* relayed, of ended sessions */
    _Atomic uint64_t resets[LEG_COUNT];                /* legs that we reset */
    _Atomic uint64_t requests;                         /* mode http: answered, or ended with their session */
    _Atomic uint64_t answers[COUNTERS_STATUS_CLASSES]; /* to these, by the status' first digit; 0: none */
    _Atomic uint64_t cleared;   /* backends' sockets that were seen to be gone after our RST */
    _Atomic uint64_t uncleared; /* and those that were not */
};

/* The same of one backend. */
struct counters_backend {
    _Atomic uint64_t opened, ended; /* sessions */
    _Atomic uint64_t bad, leaked;   /* part of those that ended: by reason_weight(), by reason_is_leak() */
};

/* Not atomic as a whole: there is one writer, so a load and a store do, without a locked instruction. */
static inline void counter_add(_Atomic uint64_t *counter, uint64_t amount)
{
    uint64_t value = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, value + amount, memory_order_relaxed);
}

static inline uint64_t counter_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
