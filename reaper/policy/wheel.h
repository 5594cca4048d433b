#ifndef REAPER_POLICY_WHEEL_H
#define REAPER_POLICY_WHEEL_H

/* A timer wheel: which entry is due next, in constant time however many there are.
 *
 * The caller owns the entries, embedded in whatever they are a timer of; the wheel only links them and never
 * allocates. Time is a parameter, milliseconds of one monotonic clock, and never read. One thread a wheel.
 * The wheel calls nobody: expired entries are taken with wheel_pop(), one by one and already unlinked, so
 * what is done about one may add, remove and free any other, also one that is due in the same millisecond.
 *
 * It refuses to guess: adding an entry that is linked, or for a time that never comes, is an assertion. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 64 slots a level, 6 bits of the time each. Eleven levels hold any 64-bit time, so that there is no horizon
 * and no case for what lies beyond it; a wheel is 5.6 KiB, and a worker has one. */
enum { WHEEL_SLOTS = 64, WHEEL_LEVELS = 11 };

/* Zeroed is unlinked. Written by the wheel only. */
struct wheel_entry {
    struct wheel_entry *next;
    struct wheel_entry **link; /* what points to this entry; NULL: unlinked */
    uint64_t due_ms;           /* when wheel_pop() will return it; kept after it has */
};

/* Read and written by wheel.c only. */
struct wheel {
    uint64_t at_ms;    /* the hand: no entry is due before it */
    uint64_t floor_ms; /* the earliest time that may still be added for */
    size_t count;
    uint64_t occupied[WHEEL_LEVELS]; /* a bit for each slot that holds an entry */
    struct wheel_entry *slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *wheel, uint64_t now_ms);

/* Links an unlinked entry. A due time that a wheel_pop() has already been told of is over: such an entry is
 * due one millisecond after the latest time given to wheel_pop(). So an entry that is added again and again
 * while expired ones are being taken can't keep the caller in his loop. due_ms must not be UINT64_MAX. */
void wheel_add(struct wheel *wheel, struct wheel_entry *entry, uint64_t due_ms);

/* Unlinks an entry of this wheel; nothing happens to one that is not linked. */
void wheel_remove(struct wheel *wheel, struct wheel_entry *entry);

static inline bool wheel_entry_linked(const struct wheel_entry *entry)
{
    return entry->link != NULL;
}

/* The earliest time at which wheel_pop() has something to do; UINT64_MAX when the wheel is empty. Never later
 * than the earliest due time, and sometimes earlier: a wheel_pop() at that time then returns NULL, but has
 * brought the next answer closer to the truth. An entry costs at most WHEEL_LEVELS such answers. */
uint64_t wheel_next_ms(const struct wheel *wheel);

/* The next entry due at now_ms or before, unlinked; NULL when there is none left. Entries come in the order
 * of their due times, those of one millisecond in any order. A now_ms earlier than one given before, to
 * wheel_init() or here, is taken for that one: no time has passed. A jump over days costs no more than a jump
 * over the entries that are due. */
struct wheel_entry *wheel_pop(struct wheel *wheel, uint64_t now_ms);

/* Asserts every invariant; for tests. Visits every entry. */
void wheel_check(const struct wheel *wheel);

#endif
