#include "proxy/server/balance.h"

#include "proxy/server/rendezvous.h"

#include <stdlib.h>

void balance_init(struct balance *balance, const struct conf_backend *conf, struct health_pool *health,
                  size_t first)
{
    *balance = (struct balance){.conf = conf, .health = health, .changes = UINT64_MAX, .next = first};
}

int balance_replace(struct balance *balance, struct target **targets, size_t count)
{
    struct lowest use;
    int error = lowest_init(&use, count);
    if (error)
        return error;
    lowest_free(&balance->use);
    free(balance->targets);
    balance->targets = targets;
    balance->count = count;
    balance->use = use;
    balance->changes = UINT64_MAX;
    for (size_t i = 0; i < count; i++) {
        targets[i]->use = &balance->use;
        targets[i]->index = i;
    }
    return 0;
}

void balance_free(struct balance *balance)
{
    lowest_free(&balance->use);
    free(balance->targets);
    balance->targets = NULL;
    balance->count = 0;
}

/* ---- who is usable ---- */

/* Whoever notes something of a server's health counts it behind that: what is not seen here is counted
 * later. */
static void look_at_health(struct balance *balance, uint64_t now_ms)
{
    uint64_t changes = health_changes(balance->health);
    if (changes == balance->changes && now_ms < balance->again_ms)
        return;
    balance->changes = changes;
    balance->again_ms = UINT64_MAX;
    for (size_t i = 0; i < balance->count; i++) {
        uint64_t due_ms;
        bool usable = target_is_usable(balance->targets[i], now_ms, &due_ms);
        if (!usable && due_ms < balance->again_ms)
            balance->again_ms = due_ms;
        lowest_set(&balance->use, i, usable ? target_use(balance->targets[i]) : LOWEST_NONE);
    }
}

static bool is_usable(const struct balance *balance, size_t index)
{
    return lowest_key(&balance->use, index) != LOWEST_NONE;
}

/* ---- in turn ---- */

/* The first usable target from `index` on, and round to the one before it. */
static struct target *first_from(const struct balance *balance, size_t index, uint32_t max_use)
{
    size_t found = lowest_from(&balance->use, index % balance->count, max_use);
    return found < balance->count ? balance->targets[found] : NULL;
}

/* Those left out must not give all their turns to the one behind them. */
static struct target *in_turn(struct balance *balance)
{
    struct target *target = first_from(balance, balance->next, LOWEST_NONE - 1);
    if (target)
        balance->next = target->index + 1;
    return target;
}

/* Round robin among those with the fewest sessions, so that a fresh server is not the only one tried. */
static struct target *least_used(struct balance *balance)
{
    uint32_t least = lowest_of_all(&balance->use);
    return least == LOWEST_NONE ? NULL : first_from(balance, balance->next++, least);
}

/* The next behind one that failed. */
static struct target *behind(const struct balance *balance, const struct target *failed)
{
    struct target *target = first_from(balance, failed->removed ? 0 : failed->index + 1, LOWEST_NONE - 1);
    return target == failed ? NULL : target; /* all the way round */
}

/* ---- by source ---- */

/* Equal addresses have equal scores: then the first of them comes first. */
static bool comes_before(const struct target *one, uint64_t score_of_one, const struct target *other,
                         uint64_t score_of_other)
{
    return score_of_one > score_of_other || (score_of_one == score_of_other && one->index < other->index);
}

/* Of the usable targets, in the client's own order, the first behind `failed`, or else the first of all. */
static struct target *by_source(const struct balance *balance, uint64_t client, const struct target *failed)
{
    struct target *first = NULL, *next = NULL;
    uint64_t first_score = 0, next_score = 0,
             failed_score = failed ? rendezvous_score(client, failed->hash) : 0;
    for (size_t i = 0; i < balance->count; i++) {
        struct target *target = balance->targets[i];
        uint64_t its = rendezvous_score(client, target->hash);
        if (target == failed || !is_usable(balance, i))
            continue;
        if (!first || comes_before(target, its, first, first_score)) {
            first = target;
            first_score = its;
        }
        if (failed && comes_before(failed, failed_score, target, its) &&
            (!next || comes_before(target, its, next, next_score))) {
            next = target;
            next_score = its;
        }
    }
    return next ? next : first;
}

/* ---- when nobody is usable ---- */

/* The target that is due back first, those that are down behind all others. */
static struct target *due_first(const struct balance *balance, uint64_t now_ms)
{
    struct target *first = NULL;
    uint64_t first_ms = 0;
    for (size_t i = 0; i < balance->count; i++) {
        uint64_t due_ms;
        (void)target_is_usable(balance->targets[i], now_ms, &due_ms);
        if (target_is_avoided(balance->targets[i], now_ms) || (first && due_ms >= first_ms))
            continue;
        first = balance->targets[i];
        first_ms = due_ms;
    }
    return first;
}

/* One has just failed: a session whose attempts all fail is to try each of them. */
static struct target *tried_longest_ago(const struct balance *balance, uint64_t now_ms)
{
    struct target *first = NULL;
    for (size_t i = 0; i < balance->count; i++)
        if (!target_is_avoided(balance->targets[i], now_ms) &&
            (!first || balance->targets[i]->tried < first->tried))
            first = balance->targets[i];
    return first;
}

/* ---- the choice ---- */

void balance_avoid(struct balance *balance, struct target *target, uint64_t until_ms)
{
    target->avoid_ms = until_ms;
    balance->changes = UINT64_MAX;
}

static struct target *choose(struct balance *balance, const union socket_address *client,
                             const struct target *failed)
{
    if (balance->conf->balance == CONF_BALANCE_SOURCE)
        return by_source(balance, rendezvous_client(client), failed);
    if (failed)
        return behind(balance, failed);
    return balance->conf->balance == CONF_BALANCE_LEASTCONN ? least_used(balance) : in_turn(balance);
}

struct target *balance_pick(struct balance *balance, const union socket_address *client,
                            const struct target *previous, uint64_t now_ms)
{
    if (balance->count == 0)
        return NULL;
    look_at_health(balance, now_ms);
    struct target *target = choose(balance, client, previous);
    if (!target)
        target = previous ? tried_longest_ago(balance, now_ms) : due_first(balance, now_ms);
    if (!target)
        return NULL;
    health_try(target->health, balance->conf, now_ms);
    target->tried = ++balance->tries;
    target_take(target);
    return target;
}
