#include "proxy/shared/limit.h"

/* Adds so many, unless that makes more than `max`. */
static bool take(_Atomic uint64_t *count, uint64_t amount, uint64_t max)
{
    uint64_t before = atomic_load_explicit(count, memory_order_relaxed);
    while (before < max && amount <= max - before)
        if (atomic_compare_exchange_weak_explicit(count, &before, before + amount, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    return false;
}

static void give_back(_Atomic uint64_t *count, uint64_t amount)
{
    atomic_fetch_sub_explicit(count, amount, memory_order_relaxed);
}

bool limit_take(struct limit *limit, unsigned descriptors)
{
    return take(&limit->taken, descriptors, limit->max);
}

void limit_take_open(struct limit *limit, unsigned descriptors)
{
    atomic_fetch_add_explicit(&limit->taken, descriptors, memory_order_relaxed);
}

void limit_give_back(struct limit *limit, unsigned descriptors)
{
    give_back(&limit->taken, descriptors);
}

bool limit_is_full(const struct limit *limit)
{
    return atomic_load_explicit(&limit->taken, memory_order_relaxed) + LIMIT_SESSION > limit->max;
}

uint64_t limit_sessions_max(const struct limit *limit)
{
    return limit->max / LIMIT_SESSION;
}

static bool take_served(struct limit *limit, struct frontend *frontend)
{
    uint64_t max = frontend->conf->max_connections;
    if (!take(&frontend->sessions, 1, max > 0 ? max : UINT64_MAX))
        return false;
    if (limit_take(limit, LIMIT_SESSION))
        return true;
    give_back(&frontend->sessions, 1);
    return false;
}

/* A listener takes a place before it knows whether anybody waits. If it took a place to be served each time,
 * another listener could refuse a client meanwhile for want of just that place. So a place of the surplus is
 * taken first, and exchanged for a place to be served once a client has been accepted. */
enum place limit_take_place(struct limit *limit, struct frontend *frontend)
{
    if (take(&frontend->surplus, 1, frontend->surplus_max))
        return PLACE_SURPLUS;
    return take_served(limit, frontend) ? PLACE_SERVED : PLACE_NONE;
}

enum place limit_settle_place(struct limit *limit, struct frontend *frontend, enum place place)
{
    if (place != PLACE_SURPLUS || !take_served(limit, frontend))
        return place;
    limit_give_back_place(limit, frontend, PLACE_SURPLUS);
    return PLACE_SERVED;
}

void limit_give_back_place(struct limit *limit, struct frontend *frontend, enum place place)
{
    if (place == PLACE_SURPLUS) {
        give_back(&frontend->surplus, 1);
        return;
    }
    give_back(&frontend->sessions, 1);
    limit_give_back(limit, LIMIT_SESSION);
}
