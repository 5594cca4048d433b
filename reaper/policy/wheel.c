#include "reaper/policy/wheel.h"

#include <assert.h>

/* A time is eleven digits of six bits, the highest first:
 *
 *              level 10  ...  level 2   level 1   level 0
 *   at_ms        0               3        17         5
 *   due_ms       0               3        20        61     the highest digit that differs is that of level 1,
 *                                                          so the entry waits in slot 20 of level 1
 *
 * An entry lies at the level of the highest digit in which its due time differs from the hand, in the slot of
 * that digit. Three things follow, and wheel_check() holds the wheel to them:
 *
 *   - where an entry lies can be told from the hand and its due time alone, so it is not stored;
 *   - above level 0 an occupied slot is always ahead of the hand, at level 0 ahead or under it: nothing
 * wraps;
 *   - whatever lies at a lower level is due before anything at a higher one, so the next occupied slot is the
 *     lowest bit of the lowest level that has one.
 *
 * When the hand comes to a slot above level 0, that slot's entries are placed anew, each at a lower level
 * than before, so an entry moves at most ten times. The hand never passes an occupied slot. */

enum { DIGIT_BITS = 6, DIGIT_MASK = WHEEL_SLOTS - 1 };

_Static_assert(WHEEL_SLOTS == 1 << DIGIT_BITS, "a digit names a slot");
_Static_assert(WHEEL_LEVELS *DIGIT_BITS >= 64, "every time has a level");
_Static_assert(sizeof(struct wheel_entry) <= 32, "every session carries one");

struct place {
    unsigned level, slot;
};

static struct place place_of(const struct wheel *wheel, uint64_t due_ms)
{
    uint64_t differing = wheel->at_ms ^ due_ms;
    unsigned level = differing ? (63 - (unsigned)__builtin_clzll(differing)) / DIGIT_BITS : 0;
    return (struct place){level, (unsigned)(due_ms >> (level * DIGIT_BITS)) & DIGIT_MASK};
}

/* The first occupied slot ahead of the hand, and whether there is one. */
static bool first_place(const struct wheel *wheel, struct place *place)
{
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        if (wheel->occupied[level]) {
            *place = (struct place){level, (unsigned)__builtin_ctzll(wheel->occupied[level])};
            return true;
        }
    }
    return false;
}

/* When the hand reaches the slot: the hand's digits above the level, the slot, then zeros. */
static uint64_t place_ms(const struct wheel *wheel, struct place place)
{
    unsigned shift = place.level * DIGIT_BITS;
    uint64_t above = (wheel->at_ms >> shift) & ~(uint64_t)DIGIT_MASK;
    return (above | place.slot) << shift;
}

static void link_entry(struct wheel *wheel, struct wheel_entry *entry)
{
    struct place place = place_of(wheel, entry->due_ms);
    struct wheel_entry **head = &wheel->slots[place.level][place.slot];
    entry->next = *head;
    entry->link = head;
    if (entry->next)
        entry->next->link = &entry->next;
    *head = entry;
    wheel->occupied[place.level] |= UINT64_C(1) << place.slot;
}

static void unlink_entry(struct wheel *wheel, struct wheel_entry *entry)
{
    struct place place = place_of(wheel, entry->due_ms);
    *entry->link = entry->next;
    if (entry->next)
        entry->next->link = entry->link;
    entry->next = NULL;
    entry->link = NULL;
    if (!wheel->slots[place.level][place.slot])
        wheel->occupied[place.level] &= ~(UINT64_C(1) << place.slot);
}

void wheel_init(struct wheel *wheel, uint64_t now_ms)
{
    *wheel = (struct wheel){.at_ms = now_ms, .floor_ms = now_ms};
}

void wheel_add(struct wheel *wheel, struct wheel_entry *entry, uint64_t due_ms)
{
    assert(!wheel_entry_linked(entry));
    assert(due_ms != UINT64_MAX);
    entry->due_ms = due_ms > wheel->floor_ms ? due_ms : wheel->floor_ms;
    link_entry(wheel, entry);
    wheel->count++;
}

void wheel_remove(struct wheel *wheel, struct wheel_entry *entry)
{
    if (!wheel_entry_linked(entry))
        return;
    assert(*entry->link == entry);
    assert(wheel->count > 0);
    unlink_entry(wheel, entry);
    wheel->count--;
}

uint64_t wheel_next_ms(const struct wheel *wheel)
{
    struct place place;
    return first_place(wheel, &place) ? place_ms(wheel, place) : UINT64_MAX;
}

/* Places anew what lies in the slot above level 0 that the hand has come to. */
static void cascade(struct wheel *wheel, struct place place)
{
    struct wheel_entry *entry = wheel->slots[place.level][place.slot];
    wheel->slots[place.level][place.slot] = NULL;
    wheel->occupied[place.level] &= ~(UINT64_C(1) << place.slot);
    while (entry) {
        struct wheel_entry *next = entry->next;
        link_entry(wheel, entry);
        entry = next;
    }
}

struct wheel_entry *wheel_pop(struct wheel *wheel, uint64_t now_ms)
{
    assert(now_ms < UINT64_MAX - 1);
    if (now_ms < wheel->at_ms)
        now_ms = wheel->at_ms;
    if (now_ms >= wheel->floor_ms)
        wheel->floor_ms = now_ms + 1;

    struct place place;
    while (first_place(wheel, &place) && place_ms(wheel, place) < wheel->floor_ms) {
        wheel->at_ms = place_ms(wheel, place);
        if (place.level == 0) {
            struct wheel_entry *entry = wheel->slots[0][place.slot];
            assert(entry);
            wheel_remove(wheel, entry);
            return entry;
        }
        cascade(wheel, place);
    }
    /* Nothing lies between, so the hand may catch up: what is added next is placed closer to its slot. */
    wheel->at_ms = wheel->floor_ms - 1;
    return NULL;
}

static void check_entry(const struct wheel *wheel, const struct wheel_entry *entry, struct place place)
{
    struct place due = place_of(wheel, entry->due_ms);
    assert(entry->due_ms >= wheel->at_ms && entry->due_ms != UINT64_MAX);
    assert(due.level == place.level && due.slot == place.slot);
    assert(*entry->link == entry);
    assert(!entry->next || entry->next->link == &entry->next);
}

void wheel_check(const struct wheel *wheel)
{
    size_t count = 0;
    assert(wheel->at_ms <= wheel->floor_ms);
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) {
            const struct wheel_entry *first = wheel->slots[level][slot];
            assert(!first == !(wheel->occupied[level] >> slot & 1));
            assert(!first || first->link == &wheel->slots[level][slot]);
            for (const struct wheel_entry *entry = first; entry; entry = entry->next, count++)
                check_entry(wheel, entry, (struct place){level, slot});
        }
    }
    assert(count == wheel->count);
}
