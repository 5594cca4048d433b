#include "proxy/plane/place.h"

#include "proxy/plane/worker.h"

bool place_count(_Atomic uint64_t *count, uint64_t amount, uint64_t max)
{
    uint64_t before = atomic_load_explicit(count, memory_order_relaxed);
    while (before < max && amount <= max - before)
        if (atomic_compare_exchange_weak_explicit(count, &before, before + amount, memory_order_relaxed,
                                                  memory_order_relaxed))
            return true;
    return false;
}

static bool take_served(struct plane *plane, struct frontend *frontend)
{
    uint64_t max = frontend->conf->max_connections;
    if (!place_count(&frontend->sessions, 1, max > 0 ? max : UINT64_MAX))
        return false;
    if (plane_admit(plane, PLANE_SESSION))
        return true;
    atomic_fetch_sub_explicit(&frontend->sessions, 1, memory_order_relaxed);
    return false;
}

/* A listener that finds its backlog empty has had a place for nothing. Where others would be refused for
 * that, it comes with one to be refused, and settles it when there is somebody to be served. */
enum place place_take(struct plane *plane, struct frontend *frontend)
{
    if (place_count(&frontend->surplus, 1, frontend->surplus_max))
        return PLACE_SURPLUS;
    return take_served(plane, frontend) ? PLACE_SERVED : PLACE_NONE;
}

enum place place_settle(struct plane *plane, struct frontend *frontend, enum place place)
{
    if (place != PLACE_SURPLUS || !take_served(plane, frontend))
        return place;
    place_give_back(plane, frontend, PLACE_SURPLUS);
    return PLACE_SERVED;
}

void place_give_back(struct plane *plane, struct frontend *frontend, enum place place)
{
    if (place == PLACE_SURPLUS) {
        atomic_fetch_sub_explicit(&frontend->surplus, 1, memory_order_relaxed);
        return;
    }
    atomic_fetch_sub_explicit(&frontend->sessions, 1, memory_order_relaxed);
    plane_release(plane, PLANE_SESSION);
}
