#include "reaper/kernel/guard.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct words {
    const char *name, *why, *override;
};

static const struct words guards[GUARD_COUNT] = {
#define X(constant, name, why, override) [constant] = {(name), (why), (override)},
    GUARD_MAP(X)
#undef X
};

const char *guard_name(enum guard guard)
{
    return guards[guard].name;
}

const char *guard_why(enum guard guard)
{
    return guards[guard].why;
}

const char *guard_override(enum guard guard)
{
    return guards[guard].override;
}

/* ---- the guards ---- */

/* Those that the kernel's table alone decides. */
static enum guard check_rows(const struct leak *leak, const struct guard_policy *policy, uint64_t now_ms)
{
    const struct diag_row *row = &leak->row;
    if (row->state != DIAG_CLOSE_WAIT)
        return GUARD_NOT_CLOSE_WAIT;
    if (row->id.cookie == DIAG_NO_COOKIE || row->id.cookie == 0)
        return GUARD_NO_COOKIE;
    if (row->inode == 0)
        return GUARD_NEVER_ACCEPTED;
    if (leak->client_side && !policy->client_side)
        return GUARD_CLIENT_SIDE;
    if (leak->peer == TRIAGE_PEER_HALF_CLOSED && !policy->even_waiting)
        return GUARD_WAITING;
    if (leak->dumps < 2)
        return GUARD_SEEN_ONCE;
    if (leak->progressed)
        return GUARD_PROGRESS;
    return leak_quiet_ms(leak, now_ms) < policy->older_than_ms ? GUARD_TOO_YOUNG : GUARD_CLEAR;
}

bool guard_needs_owners(const struct leak *leak, const struct guard_policy *policy, uint64_t now_ms)
{
    return check_rows(leak, policy, now_ms) == GUARD_CLEAR;
}

enum guard guard_check(const struct leak *leak, const struct guard_policy *policy, uint64_t now_ms)
{
    enum guard guard = check_rows(leak, policy, now_ms);
    if (guard != GUARD_CLEAR)
        return guard;
    if (!leak->held && !policy->even_unseen)
        return GUARD_UNSEEN;
    return leak->sound_owner && !policy->named_owner ? GUARD_SOUND_OWNER : GUARD_CLEAR;
}

/* ---- what /proc says ---- */

uint32_t *guard_inodes(const struct triage *triage, size_t *count)
{
    uint32_t *inodes = calloc(2 * triage->leak_count + triage->listener_count + 1, sizeof *inodes);
    *count = 0;
    for (size_t i = 0; inodes && i < triage->leak_count; i++)
        inodes[(*count)++] = triage->leaks[i].row.inode;
    for (size_t i = 0; inodes && i < triage->leak_count; i++)
        if (triage->leaks[i].peer_inode)
            inodes[(*count)++] = triage->leaks[i].peer_inode;
    for (size_t i = 0; inodes && i < triage->listener_count; i++)
        inodes[(*count)++] = triage->listeners[i].inode;
    return inodes;
}

/* The holders of one socket. */
struct held {
    const struct owner_holder *first;
    size_t count;
};

static struct held held_by(const struct owners *owners, uint32_t inode)
{
    struct held held = {0};
    held.count = owners_of(owners, inode, &held.first);
    return held;
}

static bool held_by_process(struct held held, uint32_t process)
{
    for (size_t i = 0; i < held.count; i++)
        if (held.first[i].process == process)
            return true;
    return false;
}

static bool held_by_all_of(struct held held, struct held others)
{
    for (size_t i = 0; i < others.count; i++)
        if (!held_by_process(held, others.first[i].process))
            return false;
    return true;
}

/* Whether several programs take connections to the leak's local address: sockets that listen there have other
 * holders. One whose holders can't be seen counts as another program's. */
static bool port_is_shared(const struct triage *triage, const struct owners *owners, const struct leak *leak)
{
    struct held first = {0};
    bool found = false;
    for (size_t i = 0; i < triage->listener_count; i++) {
        if (!triage_listens_for(&triage->listeners[i], &leak->row))
            continue;
        struct held held = held_by(owners, triage->listeners[i].inode);
        if (found && (!held_by_all_of(first, held) || !held_by_all_of(held, first)))
            return true;
        first = held;
        found = true;
    }
    return false;
}

/* A process that has read EOF on a socket of this port and not closed it. */
struct leaker {
    uint32_t process;
    uint16_t port;
};

static int leaker_order(const void *a, const void *b)
{
    const struct leaker *left = a, *right = b;
    if (left->process != right->process)
        return left->process < right->process ? -1 : 1;
    return left->port - right->port;
}

/* An array of *count that the caller frees, or NULL without memory. Sorted; a process may be in it more than
 * once. */
static struct leaker *leakers_find(const struct triage *triage, const struct owners *owners, size_t *count)
{
    size_t room = owners->holder_count + 1;
    struct leaker *leakers = calloc(room, sizeof *leakers);
    *count = 0;
    for (size_t i = 0; leakers && i < triage->leak_count; i++) {
        const struct leak *leak = &triage->leaks[i];
        if (leak->cause != TRIAGE_READ_EOF)
            continue;
        struct held held = held_by(owners, leak->row.inode);
        for (size_t k = 0; k < held.count && *count < room; k++)
            leakers[(*count)++] =
                (struct leaker){.process = held.first[k].process, .port = leak->row.id.local.port};
    }
    if (*count > 1)
        qsort(leakers, *count, sizeof *leakers, leaker_order);
    return leakers;
}

/* Whether one of those who hold it leaks by read-eof on that port. */
static bool owner_leaks(const struct leaker *leakers, size_t count, struct held held, uint16_t port)
{
    for (size_t i = 0; count > 0 && i < held.count; i++) {
        const struct leaker key = {.process = held.first[i].process, .port = port};
        if (bsearch(&key, leakers, count, sizeof key, leaker_order))
            return true;
    }
    return false;
}

int guard_learn(struct triage *triage, const struct owners *owners)
{
    size_t count = 0;
    struct leaker *leakers = leakers_find(triage, owners, &count);
    for (size_t i = 0; i < triage->leak_count; i++) {
        struct leak *leak = &triage->leaks[i];
        struct held held = held_by(owners, leak->row.inode);
        leak->held = leakers && held.count > 0;
        leak->sound_owner = leak->held && !owner_leaks(leakers, count, held, leak->row.id.local.port) &&
                            port_is_shared(triage, owners, leak);
    }
    free(leakers);
    return leakers ? 0 : -ENOMEM;
}
