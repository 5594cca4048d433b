#include "tests/unit/cmocka.h"

#include "proxy/server/balance.h"
#include "proxy/shared/shared.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Targets of one backend, without a name service, a socket or a clock. */

enum { TARGETS_MAX = 64, HELD_MAX = 400 };

struct bed {
    struct shared shared;
    struct conf_backend conf;
    struct conf_server server;
    struct health_pool health;
    struct target *targets[TARGETS_MAX];
    size_t count;
    struct balance balance;
};

static uint32_t random_state;

static uint32_t random_below(uint32_t bound)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % bound;
}

static void replace(struct bed *bed, size_t without)
{
    struct target **targets = calloc(bed->count, sizeof(struct target *));
    size_t count = 0;
    assert_non_null(targets);
    for (size_t i = 0; i < bed->count; i++)
        if (i != without)
            targets[count++] = bed->targets[i];
    assert_int_equal(balance_replace(&bed->balance, targets, count), 0);
}

static void prepare(struct bed *bed, size_t count, enum conf_balance balance)
{
    static char name[] = "service";
    memset(bed, 0, sizeof *bed);
    random_state = 1;
    bed->conf = (struct conf_backend){.name = name,
                                      .balance = balance,
                                      .set_aside_ms = 1000,
                                      .set_aside_max_ms = 30000,
                                      .rise = 1,
                                      .fall = 1};
    health_pool_init(&bed->health);
    balance_init(&bed->balance, &bed->conf, &bed->health, 0);
    for (bed->count = 0; bed->count < count; bed->count++) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(80)};
        struct conf_address address = {.length = sizeof in};
        in.sin_addr.s_addr = htonl(0x0a000000 + (uint32_t)bed->count);
        memcpy(&address.address, &in, sizeof in);
        bed->targets[bed->count] =
            target_new(&bed->shared, &bed->conf, &bed->server, &address, NULL, &bed->health);
        assert_non_null(bed->targets[bed->count]);
    }
    replace(bed, TARGETS_MAX);
}

static void finish(struct bed *bed)
{
    for (size_t i = 0; i < bed->count; i++)
        target_remove(bed->targets[i]);
    balance_free(&bed->balance);
    health_pool_free(&bed->health);
}

static union socket_address client(uint32_t host)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host), .sin_port = htons(1)};
    union socket_address address = {0};
    memcpy(address.bytes, &in, sizeof in);
    return address;
}

/* ---- by turn and by use: as if each target were looked at --------------------------------------------- */

static bool may_serve(const struct bed *bed, size_t index, uint64_t now_ms)
{
    uint64_t due_ms;
    return target_is_usable(bed->targets[index], now_ms, &due_ms);
}

static struct target *by_looking(const struct bed *bed, size_t next, uint64_t now_ms)
{
    struct target *best = NULL;
    for (size_t i = 0; i < bed->count; i++) {
        size_t index = (next + i) % bed->count;
        struct target *target = bed->targets[index];
        if (may_serve(bed, index, now_ms) &&
            (!best || (bed->conf.balance == CONF_BALANCE_LEASTCONN && target->sessions < best->sessions)))
            best = target;
    }
    return best;
}

static void note_something(struct bed *bed, uint64_t now_ms)
{
    struct health *health = bed->targets[random_below((uint32_t)bed->count)]->health;
    switch (random_below(4)) {
    case 0:
        (void)health_failed(health, &bed->conf, now_ms);
        break;
    case 1:
        (void)health_succeeded(health);
        break;
    default:
        (void)health_checked(health, random_below(3) > 0, &bed->conf);
    }
}

static void choose_as_by_looking(size_t count, enum conf_balance kind)
{
    struct bed bed;
    struct target *held[HELD_MAX];
    size_t held_count = 0;
    uint64_t now_ms = 1000000;
    union socket_address from = client(1);
    prepare(&bed, count, kind);
    for (int step = 0; step < 20000; step++) {
        now_ms += random_below(20);
        if (random_below(10) == 0)
            note_something(&bed, now_ms);
        if (held_count == HELD_MAX || (held_count > 0 && random_below(2))) {
            size_t index = random_below((uint32_t)held_count);
            target_release(held[index]);
            held[index] = held[--held_count];
            continue;
        }
        struct target *expected = by_looking(&bed, bed.balance.next, now_ms);
        struct target *target = balance_pick(&bed.balance, &from, NULL, now_ms);
        assert_non_null(target);
        if (expected)
            assert_ptr_equal(target, expected);
        held[held_count++] = target;
    }
    while (held_count > 0)
        target_release(held[--held_count]);
    finish(&bed);
}

static void by_turn_and_by_use_it_chooses_as_if_it_looked_at_each(void **state)
{
    (void)state;
    for (size_t count = 1; count <= TARGETS_MAX; count += count < 6 ? 1 : 29) {
        choose_as_by_looking(count, CONF_BALANCE_ROUNDROBIN);
        choose_as_by_looking(count, CONF_BALANCE_LEASTCONN);
    }
}

/* ---- by source ---------------------------------------------------------------------------------------- */

enum { CLIENTS = 10000 };

static struct target *pick_for(struct bed *bed, uint32_t host)
{
    union socket_address from = client(host);
    struct target *target = balance_pick(&bed->balance, &from, NULL, 1000);
    target_release(target);
    return target;
}

static void of_ten_thousand_clients_only_those_of_the_lost_server_move(void **state)
{
    static struct target *before[CLIENTS];
    struct bed bed;
    size_t moved = 0;
    (void)state;
    prepare(&bed, 20, CONF_BALANCE_SOURCE);
    for (uint32_t host = 0; host < CLIENTS; host++)
        before[host] = pick_for(&bed, host);
    replace(&bed, 7);
    for (uint32_t host = 0; host < CLIENTS; host++) {
        struct target *target = pick_for(&bed, host);
        moved += target != before[host];
        assert_ptr_not_equal(target, bed.targets[7]);
        if (before[host] != bed.targets[7])
            assert_ptr_equal(target, before[host]);
    }
    assert_in_range(moved, CLIENTS / 20 * 8 / 10, CLIENTS / 20 * 12 / 10);
    replace(&bed, TARGETS_MAX); /* it comes back, and so do they */
    for (uint32_t host = 0; host < CLIENTS; host++)
        assert_ptr_equal(pick_for(&bed, host), before[host]);
    finish(&bed);
}

static void the_order_of_the_addresses_does_not_matter(void **state)
{
    static struct target *before[CLIENTS];
    struct bed bed;
    (void)state;
    prepare(&bed, 20, CONF_BALANCE_SOURCE);
    for (uint32_t host = 0; host < CLIENTS; host++)
        before[host] = pick_for(&bed, host);
    for (size_t i = 0; i < bed.count; i++) {
        size_t other = random_below((uint32_t)bed.count);
        struct target *target = bed.targets[i];
        bed.targets[i] = bed.targets[other];
        bed.targets[other] = target;
    }
    replace(&bed, TARGETS_MAX);
    for (uint32_t host = 0; host < CLIENTS; host++)
        assert_ptr_equal(pick_for(&bed, host), before[host]);
    finish(&bed);
}

static void the_clients_of_a_server_that_is_set_aside_are_shared_by_all_others(void **state)
{
    struct bed bed;
    unsigned got[20] = {0};
    (void)state;
    prepare(&bed, 20, CONF_BALANCE_SOURCE);
    for (uint32_t host = 0; host < CLIENTS; host++) {
        if (pick_for(&bed, host) != bed.targets[3])
            continue;
        (void)health_failed(bed.targets[3]->health, &bed.conf, 1000);
        got[pick_for(&bed, host)->index]++;
        (void)health_succeeded(bed.targets[3]->health);
    }
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(got[i] > 0, i != 3);
    finish(&bed);
}

static void an_address_that_leads_back_gets_no_session_though_nobody_else_is_left(void **state)
{
    static const enum conf_balance kinds[] = {CONF_BALANCE_ROUNDROBIN, CONF_BALANCE_LEASTCONN,
                                              CONF_BALANCE_SOURCE};
    union socket_address from = client(1);
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        struct bed bed;
        prepare(&bed, 2, kinds[k]);
        balance_avoid(&bed.balance, bed.targets[0], 2000);
        for (int i = 0; i < 4; i++)
            assert_ptr_equal(pick_for(&bed, 1), bed.targets[1]);
        balance_avoid(&bed.balance, bed.targets[1], 2000);
        assert_null(balance_pick(&bed.balance, &from, NULL, 1999));
        assert_null(balance_pick(&bed.balance, &from, bed.targets[1], 1999));
        struct target *target = balance_pick(&bed.balance, &from, NULL, 2000);
        assert_non_null(target);
        target_release(target);
        finish(&bed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_that_leads_back_gets_no_session_though_nobody_else_is_left),
        cmocka_unit_test(by_turn_and_by_use_it_chooses_as_if_it_looked_at_each),
        cmocka_unit_test(of_ten_thousand_clients_only_those_of_the_lost_server_move),
        cmocka_unit_test(the_order_of_the_addresses_does_not_matter),
        cmocka_unit_test(the_clients_of_a_server_that_is_set_aside_are_shared_by_all_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
