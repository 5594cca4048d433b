#include "proxy/command/growth.h"

#include <stdlib.h>
#include <string.h>

enum { WINDOW_MS = 60 * 1000 };

static void growth_forget(struct growth *growth, uint64_t now_ms)
{
    size_t old = 0;
    while (old < growth->count && growth->points[old].at_ms + WINDOW_MS < now_ms)
        old++;
    if (old == 0)
        return;
    growth->count -= old;
    memmove(growth->points, growth->points + old, growth->count * sizeof *growth->points);
}

void growth_record(struct growth *growth, uint64_t key, uint64_t at_ms, size_t count)
{
    growth_forget(growth, at_ms);
    if (growth->count == growth->room) {
        size_t room = growth->room ? growth->room * 2 : 64;
        struct growth_point *points = reallocarray(growth->points, room, sizeof *points);
        if (!points)
            return;
        growth->points = points;
        growth->room = room;
    }
    growth->points[growth->count++] = (struct growth_point){.key = key, .at_ms = at_ms, .count = count};
}

double growth_per_minute(const struct growth *growth, uint64_t key, uint64_t now_ms, size_t count)
{
    size_t before = 0;
    if (growth->count == 0 || growth->points[0].at_ms >= now_ms)
        return 0;
    uint64_t oldest_ms = growth->points[0].at_ms;
    for (size_t i = 0; i < growth->count && growth->points[i].at_ms == oldest_ms; i++)
        if (growth->points[i].key == key)
            before = growth->points[i].count;
    return ((double)count - (double)before) * WINDOW_MS / (double)(now_ms - oldest_ms);
}

void growth_clear(struct growth *growth)
{
    free(growth->points);
    *growth = (struct growth){0};
}
