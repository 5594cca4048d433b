#ifndef PROXY_SERVER_LOWEST_H
#define PROXY_SERVER_LOWEST_H

/* The lowest of many keys, and where it is, without looking at all of them: a tree in which each node is the
 * lower of the two below it. Changing a key and finding one cost as many steps as `count` has binary digits.
 *
 * Pure; whoever has it calls it on one thread at a time. */

#include <stddef.h>
#include <stdint.h>

/* The key of what is not to be found. */
#define LOWEST_NONE UINT32_MAX

struct lowest {
    uint32_t *nodes; /* [1] is the root, those below [n] are [2n] and [2n + 1], the keys begin at [leaves] */
    size_t leaves;   /* a power of two */
    size_t count;
};

/* All keys are LOWEST_NONE. 0 or -ENOMEM. */
int lowest_init(struct lowest *lowest, size_t count);
void lowest_free(struct lowest *lowest);

void lowest_set(struct lowest *lowest, size_t index, uint32_t key);
uint32_t lowest_key(const struct lowest *lowest, size_t index);

/* The lowest of all keys. */
uint32_t lowest_of_all(const struct lowest *lowest);

/* The first index from `from` on, and round to the one before it, whose key is at most `max`, which is below
 * LOWEST_NONE; `count` when there is none. `from` is below `count`. */
size_t lowest_from(const struct lowest *lowest, size_t from, uint32_t max);

#endif
