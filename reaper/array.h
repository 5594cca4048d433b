#ifndef REAPER_ARRAY_H
#define REAPER_ARRAY_H

/* Growing arrays: the owner keeps the pointer and the count, where it grows often the room besides, and frees
 * the pointer. */

#include <stddef.h>
#include <stdlib.h>

/* The array with room for one element more than `count`, moved if it must be, or NULL without memory; then
 * the old array stays valid. */
static inline void *array_grow(void *array, size_t count, size_t *room, size_t element_bytes)
{
    if (count < *room)
        return array;
    size_t wanted = *room ? *room * 2 : 64;
    void *larger = reallocarray(array, wanted, element_bytes);
    if (larger)
        *room = wanted;
    return larger;
}

/* The same without room to spare, for what grows only while a configuration is read. */
static inline void *array_extend(void *array, size_t count, size_t element_bytes)
{
    return reallocarray(array, count + 1, element_bytes);
}

#endif
