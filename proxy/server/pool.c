#include "proxy/server/pool.h"

#include "proxy/server/retire.h"
#include "reaper/container.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <utlist.h>

/* #syscalls worker: recvfrom */

struct pooled {
    struct retiring leg; /* first, for it is freed as this: what the leg becomes when nobody takes it */
    struct pool *pool;
    uint64_t since_ms;
    uint64_t usable_ms; /* nobody takes the leg before */
    uint64_t grace_ms;
};

static struct pooled *pooled_of(struct retiring *leg)
{
    return CONTAINER(struct pooled, leg, leg);
}

static struct retiring *oldest(const struct pool *pool)
{
    return pool->legs->prev;
}

static uint64_t expires_ms(const struct pool *pool)
{
    return deadline_add(pooled_of(oldest(pool))->since_ms, pool->conf->reuse_idle_ms);
}

/* Takes the leg out of its pool. */
static void take_out(struct retiring *leg)
{
    struct pool *pool = pooled_of(leg)->pool;
    DL_DELETE(pool->legs, leg);
    if (--pool->count == 0)
        DL_DELETE(pool->shared->pools, pool); /* its alarm rings for nothing, if no leg comes until then */
}

static void retire(struct retiring *leg)
{
    take_out(leg);
    retire_adopt(leg, pooled_of(leg)->grace_ms);
}

static void empty(struct pool *pool)
{
    while (pool->count > 0)
        retire(oldest(pool));
}

static bool is_silent(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EINTR);
}

static void on_ready(struct poller_source *source, uint32_t events)
{
    struct retiring *leg = CONTAINER(struct retiring, source, source);
    (void)events;
    if (leg->fd >= 0 && !is_silent(leg->fd))
        retire(leg);
}

static void on_alarm(struct alarm *alarm)
{
    struct pool *pool = CONTAINER(struct pool, alarm, alarm);
    while (pool->count > 0 && expires_ms(pool) <= loop_now_ms(&pool->shared->loop))
        retire(oldest(pool));
    if (pool->count > 0)
        loop_set_alarm(&pool->shared->loop, &pool->alarm, expires_ms(pool));
}

/* Its share of what all workers may keep. */
static uint64_t share(const struct pool *pool)
{
    unsigned workers = pool->shared->workers;
    return (pool->conf->reuse_max + workers - 1) / workers;
}

void pool_init(struct pool *pool, struct shared *shared, const struct conf_backend *conf)
{
    *pool = (struct pool){.shared = shared, .conf = conf, .alarm.ring = on_alarm};
}

/* NULL: out of memory or places, or the poller is. */
static struct retiring *keep(struct pool *pool, int fd, uint64_t grace_ms, uint64_t settle_ms)
{
    struct shared *shared = pool->shared;
    if (!limit_take(shared->limit, LIMIT_LEG))
        return NULL;
    struct pooled *pooled = calloc(1, sizeof *pooled);
    if (pooled) {
        *pooled = (struct pooled){.leg = {.source.ready = on_ready, .shared = shared, .fd = fd},
                                  .pool = pool,
                                  .since_ms = loop_now_ms(&shared->loop),
                                  .usable_ms = loop_now_ms(&shared->loop) + settle_ms,
                                  .grace_ms = grace_ms};
        if (poller_move(&shared->loop.poller, fd, EPOLLIN | EPOLLRDHUP, &pooled->leg.source) == 0)
            return &pooled->leg;
    }
    free(pooled);
    limit_give_back(shared->limit, LIMIT_LEG);
    return NULL;
}

static void put(struct pool *pool, int fd, uint64_t grace_ms, uint64_t settle_ms)
{
    struct shared *shared = pool->shared;
    bool keeps = !pool->closed && !shared->ends;
    struct retiring *leg = keeps ? keep(pool, fd, grace_ms, settle_ms) : NULL;
    if (!leg) {
        retire_begin(shared, fd, grace_ms);
        return;
    }
    DL_PREPEND(pool->legs, leg);
    if (pool->count++ == 0) {
        DL_APPEND(shared->pools, pool);
        loop_set_alarm(&shared->loop, &pool->alarm, expires_ms(pool));
    }
    if (pool->count > share(pool))
        retire(oldest(pool));
}

void pool_put(struct pool *pool, int fd, uint64_t grace_ms)
{
    put(pool, fd, grace_ms, 0);
}

void pool_put_settling(struct pool *pool, int fd, uint64_t grace_ms)
{
    put(pool, fd, grace_ms, POOL_SETTLE_MS);
}

/* The newest leg that has settled; as many steps as the pool may keep legs. */
static struct retiring *newest_usable(const struct pool *pool)
{
    uint64_t now_ms = loop_now_ms(&pool->shared->loop);
    struct retiring *leg;
    DL_FOREACH(pool->legs, leg)
    {
        if (pooled_of(leg)->usable_ms <= now_ms)
            return leg;
    }
    return NULL;
}

int pool_take(struct pool *pool, uint32_t events, struct poller_source *source)
{
    struct shared *shared = pool->shared;
    struct retiring *leg;
    while ((leg = newest_usable(pool))) {
        int fd = leg->fd;
        if (!is_silent(fd) || poller_move(&shared->loop.poller, fd, events, source)) {
            retire(leg);
            continue;
        }
        take_out(leg);
        retire_bury(leg);
        limit_give_back(shared->limit, LIMIT_LEG);
        return fd;
    }
    return -1;
}

void pool_close(struct pool *pool)
{
    pool->closed = true;
    empty(pool);
    loop_clear_alarm(&pool->shared->loop, &pool->alarm);
}

void pool_empty_all(struct shared *shared)
{
    while (shared->pools)
        empty(shared->pools);
}

void pool_give_way(struct shared *shared, unsigned descriptors)
{
    for (; descriptors > 0 && shared->pools; descriptors--) {
        struct pool *pool, *first = shared->pools;
        DL_FOREACH(shared->pools, pool)
        {
            if (pooled_of(oldest(pool))->since_ms < pooled_of(oldest(first))->since_ms)
                first = pool;
        }
        retire(oldest(first));
    }
}
