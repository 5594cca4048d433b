#ifndef PROXY_COMMAND_GROWTH_H
#define PROXY_COMMAND_GROWTH_H

/* How fast counts grow: remembers them for a minute, by key. The caller owns it, starts with {0} and ends
 * with growth_clear(); times are parameters and never go back. Without memory a count is not remembered. */

#include <stddef.h>
#include <stdint.h>

struct growth_point {
    uint64_t key, at_ms;
    size_t count;
};

struct growth {
    struct growth_point *points; /* in order of time */
    size_t count, room;
};

/* Records a count. A key that has no count at a time is taken to have had 0 then. */
void growth_record(struct growth *growth, uint64_t key, uint64_t at_ms, size_t count);

/* Growth per minute from the oldest moment remembered, at most a minute ago, to `count` now. 0 at the first.
 */
double growth_per_minute(const struct growth *growth, uint64_t key, uint64_t now_ms, size_t count);

void growth_clear(struct growth *growth);

#endif
