#include "proxy/server/lowest.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

int lowest_init(struct lowest *lowest, size_t count)
{
    size_t leaves = 1;
    while (leaves < count)
        leaves *= 2;
    *lowest = (struct lowest){
        .nodes = malloc(2 * leaves * sizeof *lowest->nodes), .leaves = leaves, .count = count};
    for (size_t i = 0; lowest->nodes && i < 2 * leaves; i++)
        lowest->nodes[i] = LOWEST_NONE;
    return lowest->nodes ? 0 : -ENOMEM;
}

void lowest_free(struct lowest *lowest)
{
    free(lowest->nodes);
    *lowest = (struct lowest){0};
}

void lowest_set(struct lowest *lowest, size_t index, uint32_t key)
{
    uint32_t *nodes = lowest->nodes;
    assert(index < lowest->count);
    size_t at = lowest->leaves + index;
    nodes[at] = key;
    for (at /= 2; at > 0; at /= 2)
        nodes[at] = nodes[2 * at] < nodes[2 * at + 1] ? nodes[2 * at] : nodes[2 * at + 1];
}

uint32_t lowest_key(const struct lowest *lowest, size_t index)
{
    assert(index < lowest->count);
    return lowest->nodes[lowest->leaves + index];
}

uint32_t lowest_of_all(const struct lowest *lowest)
{
    return lowest->nodes[1];
}

/* The first leaf below this node whose key is at most `max`: the node's own is. */
static size_t descend(const struct lowest *lowest, size_t at, uint32_t max)
{
    while (at < lowest->leaves)
        at = lowest->nodes[2 * at] <= max ? 2 * at : 2 * at + 1;
    return at - lowest->leaves;
}

/* From this leaf on, to the last: up while what is to the right of the way is too high, then down. */
static size_t first_behind(const struct lowest *lowest, size_t from, uint32_t max)
{
    size_t at = lowest->leaves + from;
    if (lowest->nodes[at] <= max)
        return from;
    for (; at > 1; at /= 2)
        if (at % 2 == 0 && lowest->nodes[at + 1] <= max)
            return descend(lowest, at + 1, max);
    return lowest->count;
}

size_t lowest_from(const struct lowest *lowest, size_t from, uint32_t max)
{
    assert(max < LOWEST_NONE && from < lowest->count);
    size_t found = first_behind(lowest, from, max);
    if (found == lowest->count && lowest->nodes[1] <= max)
        found = descend(lowest, 1, max); /* which is before `from` */
    return found;
}
