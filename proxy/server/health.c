#include "proxy/server/health.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A record is one word, so that it changes as a whole: until when the server is set aside in the upper bits,
 * whether a session has been sent there to try it, and how often in a row it has failed. */
enum { FAILURES_MAX = 0x3f, TRIED = 0x40, UNTIL_SHIFT = 7 };

static uint64_t record_of(uint64_t until_ms, bool tried, uint64_t failures)
{
    return until_ms << UNTIL_SHIFT | (tried ? TRIED : 0) |
           (failures < FAILURES_MAX ? failures : FAILURES_MAX);
}

static uint64_t until_ms(uint64_t record)
{
    return record >> UNTIL_SHIFT;
}

static uint64_t failures(uint64_t record)
{
    return record & FAILURES_MAX;
}

/* ---- pools ---- */

void health_pool_init(struct health_pool *pool)
{
    *pool = (struct health_pool){.mutex = PTHREAD_MUTEX_INITIALIZER};
}

void health_pool_free(struct health_pool *pool)
{
    assert(!pool->first);
    pthread_mutex_destroy(&pool->mutex);
}

static bool is_of(const struct health *health, const struct conf_address *address)
{
    return health->address.length == address->length &&
           memcmp(&health->address.address, &address->address, address->length) == 0;
}

static struct health *find_or_add(struct health_pool *pool, const struct conf_address *address)
{
    for (struct health *health = pool->first; health; health = health->next)
        if (is_of(health, address))
            return health;
    struct health *health = calloc(1, sizeof *health);
    if (!health)
        return NULL;
    health->pool = pool;
    health->address = *address;
    health->next = pool->first;
    pool->first = health;
    return health;
}

struct health *health_join(struct health_pool *pool, const struct conf_address *address)
{
    pthread_mutex_lock(&pool->mutex);
    struct health *health = find_or_add(pool, address);
    if (health)
        health->holders++;
    pthread_mutex_unlock(&pool->mutex);
    return health;
}

void health_leave(struct health *health)
{
    struct health_pool *pool = health->pool;
    pthread_mutex_lock(&pool->mutex);
    assert(health->holders > 0);
    if (--health->holders == 0) {
        struct health **at = &pool->first;
        while (*at != health)
            at = &(*at)->next;
        *at = health->next;
        free(health);
    }
    pthread_mutex_unlock(&pool->mutex);
}

/* ---- changes ---- */

static void count_change(struct health *health)
{
    atomic_fetch_add_explicit(&health->pool->changes, 1, memory_order_release);
}

uint64_t health_changes(const struct health_pool *pool)
{
    return atomic_load_explicit(&pool->changes, memory_order_acquire);
}

/* ---- connecting ---- */

/* For how long after so many failures: `set_aside`, doubled with each after the first. */
static uint64_t step_ms(const struct conf_backend *conf, uint64_t count)
{
    uint64_t step = conf->set_aside_ms;
    while (count-- > 1 && step < conf->set_aside_max_ms)
        step *= 2;
    return step < conf->set_aside_max_ms ? step : conf->set_aside_max_ms;
}

uint64_t health_due_ms(const struct health *health, uint64_t now_ms)
{
    if (atomic_load_explicit(&health->down, memory_order_relaxed))
        return HEALTH_DOWN;
    uint64_t until = until_ms(atomic_load_explicit(&health->record, memory_order_relaxed));
    return until > now_ms ? until : 0;
}

void health_try(struct health *health, const struct conf_backend *conf, uint64_t now_ms)
{
    uint64_t record = atomic_load_explicit(&health->record, memory_order_relaxed);
    if (record == 0 || until_ms(record) > now_ms)
        return;
    uint64_t count = failures(record);
    /* Another worker that tries at the same moment does no harm. */
    if (atomic_compare_exchange_strong_explicit(&health->record, &record,
                                                record_of(now_ms + step_ms(conf, count), true, count),
                                                memory_order_relaxed, memory_order_relaxed))
        count_change(health);
}

bool health_succeeded(struct health *health)
{
    /* Nearly always there is nothing to write, and the line stays in every processor's cache. */
    if (atomic_load_explicit(&health->record, memory_order_relaxed) == 0)
        return false;
    bool had_failed = atomic_exchange_explicit(&health->record, 0, memory_order_relaxed) != 0;
    if (had_failed)
        count_change(health);
    return had_failed;
}

uint64_t health_failed(struct health *health, const struct conf_backend *conf, uint64_t now_ms)
{
    if (conf->set_aside_ms == DEADLINE_OFF)
        return 0;
    uint64_t record = atomic_load_explicit(&health->record, memory_order_relaxed);
    uint64_t step;
    do {
        /* Many attempts may have been under way when the server failed: the first that says so counts. Those
         * that are made while it is set aside, for want of a better server, do not count. */
        if (until_ms(record) > now_ms && !(record & TRIED))
            return 0;
        step = step_ms(conf, failures(record) + 1);
    } while (!atomic_compare_exchange_weak_explicit(&health->record, &record,
                                                    record_of(now_ms + step, false, failures(record) + 1),
                                                    memory_order_relaxed, memory_order_relaxed));
    count_change(health);
    return step;
}

bool health_is_servers(int error)
{
    switch (error) {
    case -EMFILE:
    case -ENFILE:
    case -ENOMEM:
    case -ENOBUFS:
    case -ENOSPC: /* epoll_ctl(2): max_user_watches */
    case -EADDRNOTAVAIL:
        return false;
    default:
        return true;
    }
}

/* ---- checks ---- */

bool health_checked(struct health *health, bool good, const struct conf_backend *conf)
{
    bool down = atomic_load_explicit(&health->down, memory_order_relaxed);
    if (good != down) { /* the check found what was known */
        health->against = 0;
        return false;
    }
    if (++health->against < (good ? conf->rise : conf->fall))
        return false;
    health->against = 0;
    atomic_store_explicit(&health->down, !down, memory_order_relaxed);
    count_change(health);
    return true;
}
