#include "tests/unit/cmocka.h"

#include "proxy/server/backend.h"
#include "proxy/server/resolve.h"
#include "proxy/shared/shared.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a resolver of the test's own --------------------------------------------------------------------- */

static struct {
    uv_getaddrinfo_t *request; /* under way */
    uv_getaddrinfo_cb answer;
    unsigned asked, cancelled;
    int error; /* of asking */
} resolver;

int __wrap_uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb answer,
                          const char *node, const char *service, const struct addrinfo *hints);
void __wrap_uv_freeaddrinfo(struct addrinfo *found);
int __wrap_uv_cancel(uv_req_t *request);

int __wrap_uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb answer,
                          const char *node, const char *service, const struct addrinfo *hints)
{
    (void)loop;
    resolver.asked++;
    if (resolver.error)
        return resolver.error;
    assert_string_equal(node, "db.test");
    assert_string_equal(service, "9000");
    assert_int_equal(hints->ai_socktype, SOCK_STREAM);
    assert_null(resolver.request);
    resolver.request = request;
    resolver.answer = answer;
    return 0;
}

void __wrap_uv_freeaddrinfo(struct addrinfo *found)
{
    while (found) {
        struct addrinfo *next = found->ai_next;
        free(found->ai_addr);
        free(found);
        found = next;
    }
}

int __wrap_uv_cancel(uv_req_t *request)
{
    assert_ptr_equal(request, resolver.request);
    resolver.cancelled++;
    return 0;
}

static struct addrinfo *address_info(const char *host, struct addrinfo *next)
{
    struct addrinfo *info = calloc(1, sizeof *info);
    struct sockaddr_in *in = calloc(1, sizeof *in);
    assert_non_null(info);
    assert_non_null(in);
    in->sin_family = AF_INET;
    in->sin_port = htons(9000);
    assert_int_equal(inet_pton(AF_INET, host, &in->sin_addr), 1);
    info->ai_addr = (struct sockaddr *)in;
    info->ai_addrlen = sizeof *in;
    info->ai_next = next;
    return info;
}

/* ---- one backend of one worker ------------------------------------------------------------------------ */

struct fixture {
    struct shared shared;
    struct conf whole;
    struct conf_backend conf;
    struct conf_server servers[4];
    struct backend backend;
    struct health_pool health;
    struct resolver *resolver;
    struct log *log;
};

/* The worker is woken, and looks. */
static void resolve(struct fixture *f, int status, struct addrinfo *found)
{
    uv_getaddrinfo_t *request = resolver.request;
    assert_non_null(request);
    resolver.request = NULL;
    resolver.answer(request, status, found);
    backend_update(&f->backend);
}

static char names[4][32];

static void settled(void *context)
{
    (void)context;
}

static void on_ready(struct shared *shared, const struct backend *backend)
{
    (void)shared;
    (void)backend;
}

static void prepare(struct fixture *f, size_t servers, enum conf_balance balance)
{
    static char target[] = "/dev/null", name[] = "service";
    struct conf_log settings = {.level = CONF_LOG_INFO, .target = target};
    memset(f, 0, sizeof *f);
    memset(&resolver, 0, sizeof resolver);
    f->conf = (struct conf_backend){.name = name,
                                    .servers = f->servers,
                                    .server_count = servers,
                                    .balance = balance,
                                    .resolve_interval_ms = DEADLINE_OFF,
                                    .set_aside_ms = 1000,
                                    .set_aside_max_ms = 30000,
                                    .rise = 2,
                                    .fall = 3};
    for (size_t i = 0; i < servers; i++) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(9000 + i))};
        snprintf(names[i], sizeof names[i], "10.0.0.%zu", i);
        f->servers[i] = (struct conf_server){.text = names[i], .address.length = sizeof in};
        memcpy(&f->servers[i].address.address, &in, sizeof in);
    }
    assert_int_equal(log_open(&settings, &f->log), 0);
    assert_int_equal(loop_init(&f->shared.loop, settled, NULL), 0);
    f->shared.log = log_ring(f->log);
    health_pool_init(&f->health);
    f->shared.backends = &f->backend;
    f->shared.backend_ready = on_ready;
    f->whole = (struct conf){.backends = &f->conf, .backend_count = 1};
}

static void prepare_name(struct fixture *f)
{
    static char host[] = "db.test";
    prepare(f, 1, CONF_BALANCE_ROUNDROBIN);
    f->servers[0].address.length = 0;
    f->servers[0].host = host;
    f->servers[0].port = 9000;
}

static int try_to_begin(struct fixture *f)
{
    assert_int_equal(resolve_new(&f->whole, &f->resolver), 0);
    assert_int_equal(backend_init(&f->backend, &f->conf, &f->health, f->resolver, &f->shared), 0);
    return resolve_start(f->resolver, &f->shared.loop.uv, f->shared.log);
}

static void begin(struct fixture *f)
{
    assert_int_equal(try_to_begin(f), 0);
}

static void finish(struct fixture *f)
{
    resolve_close(f->resolver, &f->shared.loop.uv);
    if (resolver.request)
        resolve(f, UV_ECANCELED, NULL);
    loop_close(&f->shared.loop);
    uv_run(&f->shared.loop.uv, UV_RUN_DEFAULT);
    backend_free(&f->backend);
    resolve_free(f->resolver);
    health_pool_free(&f->health); /* nobody is left in it */
    loop_end(&f->shared.loop);
    log_close(f->log);
}

static union socket_address client(uint32_t host, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host), .sin_port = htons(port)};
    union socket_address address = {0};
    memcpy(address.bytes, &in, sizeof in);
    return address;
}

static struct target *target_at(const struct fixture *f, size_t index)
{
    return f->backend.balance.targets[index];
}

static struct target *pick(struct fixture *f)
{
    union socket_address from = client(0x7f000001, 1);
    return backend_pick(&f->backend, &from, NULL);
}

static void round_robin_goes_round(void **state)
{
    struct fixture f;
    const char *order[7];
    (void)state;
    prepare(&f, 3, CONF_BALANCE_ROUNDROBIN);
    f.shared.index = 1; /* begins with the second */
    begin(&f);
    assert_true(f.backend.ready);
    assert_int_equal(backend_target_count(&f.backend), 3);
    for (int i = 0; i < 7; i++) {
        struct target *target = pick(&f);
        order[i] = target->text;
        target_release(target);
    }
    for (int i = 0; i < 7; i++)
        assert_string_equal(order[i], names[(i + 1) % 3]);
    finish(&f);
}

static void the_least_used_gets_the_next_and_equals_take_turns(void **state)
{
    struct fixture f;
    struct target *targets[9];
    (void)state;
    prepare(&f, 3, CONF_BALANCE_LEASTCONN);
    begin(&f);
    for (int i = 0; i < 9; i++)
        targets[i] = pick(&f);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(target_at(&f, i)->sessions, 3);
    struct target *freed = targets[4];
    target_release(targets[4]);
    targets[4] = pick(&f);
    assert_ptr_equal(targets[4], freed);
    for (int i = 0; i < 9; i++)
        target_release(targets[i]);
    finish(&f);
}

static void a_session_without_a_leg_is_not_counted(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f, 2, CONF_BALANCE_LEASTCONN);
    begin(&f);
    struct target *one = pick(&f), *two = pick(&f);
    target_detach(one);
    for (int i = 0; i < 2; i++) { /* busy is only the other */
        struct target *next = pick(&f);
        assert_ptr_equal(next, one);
        target_release(next);
    }
    target_release_detached(one);
    target_release(two);
    finish(&f);
}

static void a_client_stays_with_its_server(void **state)
{
    struct fixture f;
    unsigned used[3] = {0};
    (void)state;
    prepare(&f, 3, CONF_BALANCE_SOURCE);
    begin(&f);
    for (uint32_t host = 0; host < 300; host++) {
        union socket_address first = client(0x0a000000 + host, 1), again = client(0x0a000000 + host, 2);
        struct target *target = backend_pick(&f.backend, &first, NULL);
        struct target *same = backend_pick(&f.backend, &again, NULL);
        assert_ptr_equal(target, same);
        for (size_t i = 0; i < 3; i++)
            used[i] += target_at(&f, i) == target;
        target_release(target);
        target_release(same);
    }
    for (size_t i = 0; i < 3; i++)
        assert_true(used[i] > 50);
    finish(&f);
}

static void any_family_of_client_has_a_server(void **state)
{
    struct fixture f;
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    union socket_address from6 = {0}, from_path = {.family = AF_UNIX};
    (void)state;
    memcpy(from6.bytes, &in6, sizeof in6);
    prepare(&f, 3, CONF_BALANCE_SOURCE);
    begin(&f);
    struct target *one = backend_pick(&f.backend, &from6, NULL),
                  *two = backend_pick(&f.backend, &from_path, NULL);
    assert_non_null(one);
    assert_non_null(two);
    target_release(one);
    target_release(two);
    finish(&f);
}

static void after_a_failure_the_one_behind_is_next(void **state)
{
    static const enum conf_balance balances[] = {CONF_BALANCE_ROUNDROBIN, CONF_BALANCE_LEASTCONN,
                                                 CONF_BALANCE_SOURCE};
    (void)state;
    for (size_t b = 0; b < 3; b++) {
        struct fixture f;
        union socket_address from = client(0x7f000001, 1);
        prepare(&f, 4, balances[b]);
        begin(&f);
        struct target *target = backend_pick(&f.backend, &from, NULL);
        unsigned seen = 0;
        for (int i = 0; i < 4; i++) { /* every server once, and round to the first */
            struct target *next = backend_pick(&f.backend, &from, target);
            seen |= 1u << (ntohs(((struct sockaddr_in *)&next->address.address)->sin_port) - 9000);
            assert_ptr_not_equal(next, target);
            target_release(target);
            target = next;
        }
        assert_int_equal(seen, 15);
        target_release(target);
        finish(&f);
    }
}

/* ---- names -------------------------------------------------------------------------------------------- */

static void listening_waits_for_the_first_answer(void **state)
{
    struct fixture f;
    (void)state;
    prepare_name(&f);
    begin(&f);
    assert_false(f.backend.ready);
    assert_null(pick(&f));
    resolve(&f, 0, address_info("10.1.0.1", address_info("10.1.0.2", address_info("10.1.0.1", NULL))));
    assert_true(f.backend.ready);
    assert_int_equal(backend_target_count(&f.backend), 2); /* each address once */
    struct target *target = pick(&f);
    assert_string_equal(target->text, "10.1.0.1:9000");
    target_release(target);
    finish(&f);
}

static void a_name_that_is_unknown_makes_no_target_but_lets_others_serve(void **state)
{
    struct fixture f;
    (void)state;
    prepare_name(&f);
    begin(&f);
    resolve(&f, UV_EAI_NONAME, NULL);
    assert_true(f.backend.ready);
    assert_int_equal(backend_target_count(&f.backend), 0);
    assert_null(pick(&f));
    finish(&f);
}

static void wait_asked(struct fixture *f, unsigned count)
{
    while (resolver.asked < count)
        uv_run(&f->shared.loop.uv, UV_RUN_NOWAIT); /* nothing else would wake it */
}

static void addresses_come_and_go_and_sessions_outlive_theirs(void **state)
{
    struct fixture f;
    (void)state;
    prepare_name(&f);
    f.conf.resolve_interval_ms = 1;
    begin(&f);
    resolve(&f, 0, address_info("10.1.0.1", address_info("10.1.0.2", NULL)));
    struct target *one = pick(&f), *two = pick(&f);
    wait_asked(&f, 2);
    resolve(&f, 0, address_info("10.1.0.2", address_info("10.1.0.3", NULL)));
    assert_true(one->removed && one->pool.closed);
    assert_false(two->removed);
    assert_int_equal(two->sessions, 1); /* kept its count */
    assert_int_equal(backend_target_count(&f.backend), 2);

    /* Behind one that is gone comes the first. */
    union socket_address from = client(1, 1);
    struct target *next = backend_pick(&f.backend, &from, one);
    assert_ptr_equal(next, two);
    target_release(next);
    target_detach(one);
    target_release_detached(one); /* frees it */

    /* An error keeps what there is; while one is asked for, no second question. */
    wait_asked(&f, 3);
    uv_run(&f.shared.loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(resolver.asked, 3);
    resolve(&f, UV_EAI_AGAIN, NULL);
    assert_int_equal(backend_target_count(&f.backend), 2);
    target_release(two);
    finish(&f);
}

static void a_detached_session_outlives_its_address_too(void **state)
{
    struct fixture f;
    (void)state;
    prepare_name(&f);
    f.conf.resolve_interval_ms = 1;
    begin(&f);
    resolve(&f, 0, address_info("10.1.0.1", NULL));
    struct target *one = pick(&f);
    target_detach(one);
    wait_asked(&f, 2);
    resolve(&f, 0, address_info("10.1.0.2", NULL));
    assert_true(one->removed);
    assert_string_equal(one->text, "10.1.0.1:9000");
    target_release_detached(one); /* frees it */
    finish(&f);
}

static void a_question_that_can_not_be_asked_fails_the_start_and_later_is_asked_again(void **state)
{
    struct fixture f;
    (void)state;
    prepare_name(&f);
    resolver.error = UV_ENOMEM;
    assert_int_equal(try_to_begin(&f), UV_ENOMEM);
    finish(&f);

    prepare_name(&f);
    f.conf.resolve_interval_ms = 1;
    begin(&f);
    resolve(&f, 0, address_info("10.1.0.1", NULL));
    resolver.error = UV_ENOMEM;
    wait_asked(&f, 3);
    resolver.error = 0;
    wait_asked(&f, 4);
    assert_int_equal(backend_target_count(&f.backend), 1);
    resolve(&f, 0, address_info("10.1.0.9", NULL));
    assert_int_equal(backend_target_count(&f.backend), 1);
    finish(&f);
}

static void closing_cancels_the_question(void **state)
{
    struct fixture f;
    (void)state;
    prepare_name(&f);
    begin(&f);
    finish(&f);
    assert_int_equal(resolver.cancelled, 1);
}

static void a_name_with_too_many_addresses_is_cut(void **state)
{
    struct fixture f;
    struct addrinfo *found = NULL;
    char host[32];
    (void)state;
    prepare_name(&f);
    begin(&f);
    for (int i = 0; i < 400; i++) {
        snprintf(host, sizeof host, "10.2.%d.%d", i / 256, i % 256);
        found = address_info(host, found);
    }
    resolve(&f, 0, found);
    assert_int_equal(backend_target_count(&f.backend), 256);
    finish(&f);
}

/* ---- health ------------------------------------------------------------------------------------------- */

static size_t index_of(const struct target *target)
{
    return (size_t)ntohs(((const struct sockaddr_in *)&target->address.address)->sin_port) - 9000;
}

/* Which server so many sessions in a row are sent to, as digits; none stays. */
static const char *turns(struct fixture *f, size_t count)
{
    static char text[16];
    assert_true(count < sizeof text);
    for (size_t i = 0; i < count; i++) {
        struct target *target = pick(f);
        text[i] = (char)('0' + index_of(target));
        target_release(target);
    }
    text[count] = '\0';
    return text;
}

/* A session that fails everywhere. */
static const char *tries(struct fixture *f, size_t count)
{
    static char text[16];
    union socket_address from = client(0x7f000001, 1);
    struct target *target = NULL;
    assert_true(count < sizeof text);
    for (size_t i = 0; i < count; i++) {
        struct target *previous = target;
        target = backend_pick(&f->backend, &from, previous);
        if (previous)
            target_release(previous);
        text[i] = (char)('0' + index_of(target));
        target_tell(target, -ECONNREFUSED);
    }
    target_release(target);
    text[count] = '\0';
    return text;
}

static struct target *server(struct fixture *f, size_t index)
{
    return target_at(f, index);
}

static uint64_t now_ms(const struct fixture *f)
{
    return loop_now_ms(&f->shared.loop);
}

static void set_down(struct fixture *f, size_t index)
{
    while (!health_checked(server(f, index)->health, false, &f->conf))
        ;
}

static void who_is_set_aside_gets_no_session_and_the_others_share_its_turns(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f, 4, CONF_BALANCE_ROUNDROBIN);
    begin(&f);
    target_tell(server(&f, 1), -ECONNREFUSED);
    assert_string_equal(turns(&f, 9), "023023023");
    target_tell(server(&f, 1), 0);
    assert_string_equal(turns(&f, 8), "01230123");
    target_tell(server(&f, 1), -EMFILE); /* that was us */
    assert_string_equal(turns(&f, 4), "0123");
    finish(&f);
}

static void a_server_that_is_due_gets_one_session_that_tries_it(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f, 4, CONF_BALANCE_ROUNDROBIN);
    begin(&f);
    f.conf.set_aside_ms = 1;
    assert_int_equal(health_failed(server(&f, 1)->health, &f.conf, now_ms(&f) - 1), 1);
    assert_string_equal(turns(&f, 8), "01230230");
    target_tell(server(&f, 1), 0);
    assert_string_equal(turns(&f, 4), "1230");
    finish(&f);
}

static void a_server_without_sessions_for_it_refuses_them_is_no_black_hole(void **state)
{
    struct fixture f;
    struct target *held[6];
    (void)state;
    prepare(&f, 3, CONF_BALANCE_LEASTCONN);
    begin(&f);
    target_tell(server(&f, 0), -ECONNREFUSED);
    for (size_t i = 0; i < 6; i++)
        held[i] = pick(&f);
    assert_int_equal(server(&f, 0)->sessions, 0);
    assert_int_equal(server(&f, 1)->sessions, 3);
    assert_int_equal(server(&f, 2)->sessions, 3);
    for (size_t i = 0; i < 6; i++)
        target_release(held[i]);
    finish(&f);
}

static void by_source_only_the_clients_of_the_failed_server_move(void **state)
{
    struct fixture f;
    size_t before[100], moved = 0;
    (void)state;
    prepare(&f, 4, CONF_BALANCE_SOURCE);
    begin(&f);
    for (int failed = 0; failed < 2; failed++) {
        for (uint32_t host = 0; host < 100; host++) {
            union socket_address from = client(0x0a000000 + host, 1);
            struct target *target = backend_pick(&f.backend, &from, NULL);
            if (failed && before[host] == 2)
                moved += index_of(target) == 3;
            else if (failed)
                assert_int_equal(index_of(target), before[host]);
            before[host] = index_of(target);
            target_release(target);
        }
        target_tell(server(&f, 2), -ECONNREFUSED);
    }
    assert_true(moved > 0);
    finish(&f);
}

static void a_session_that_fails_everywhere_tries_every_server_once(void **state)
{
    static const enum conf_balance balances[] = {CONF_BALANCE_ROUNDROBIN, CONF_BALANCE_LEASTCONN,
                                                 CONF_BALANCE_SOURCE};
    (void)state;
    for (size_t b = 0; b < 3; b++)
        for (unsigned set_aside = 0; set_aside < 16; set_aside++)
            for (unsigned down = 0; down < 16; down++) {
                struct fixture f;
                unsigned seen = 0;
                prepare(&f, 4, balances[b]);
                begin(&f);
                for (size_t i = 0; i < 4; i++) {
                    if (set_aside & 1u << i)
                        target_tell(server(&f, i), -ETIMEDOUT);
                    if (down & 1u << i)
                        set_down(&f, i);
                }
                for (const char *at = tries(&f, 4); *at; at++)
                    seen |= 1u << (*at - '0');
                assert_int_equal(seen, 15);
                finish(&f);
            }
}

static void who_has_just_failed_is_not_tried_again_at_once_though_nobody_is_set_aside(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f, 2, CONF_BALANCE_ROUNDROBIN);
    f.conf.set_aside_ms = DEADLINE_OFF;
    begin(&f);
    set_down(&f, 1);
    assert_string_equal(turns(&f, 2), "00");
    assert_string_equal(tries(&f, 2), "01");
    finish(&f);
}

/* 1 is due first, then 3, then 0; 2 is down. */
static void when_nobody_is_left_the_one_due_first_is_used_and_then_each_other(void **state)
{
    static const uint64_t due_ms[] = {3000, 1000, 1000, 2000};
    struct fixture f;
    (void)state;
    prepare(&f, 4, CONF_BALANCE_ROUNDROBIN);
    begin(&f);
    for (size_t i = 0; i < 4; i++) {
        f.conf.set_aside_ms = due_ms[i];
        target_tell(server(&f, i), -ECONNREFUSED);
    }
    set_down(&f, 2);
    assert_string_equal(turns(&f, 3), "111");
    assert_string_equal(tries(&f, 5), "10231");
    assert_int_equal(health_due_ms(server(&f, 1)->health, now_ms(&f)), now_ms(&f) + 1000);
    set_down(&f, 0);
    set_down(&f, 1);
    set_down(&f, 3);
    assert_string_equal(turns(&f, 2), "00");
    assert_string_equal(tries(&f, 4), "0231");
    finish(&f);
}

static void a_single_server_is_used_whatever_is_known_of_it(void **state)
{
    struct fixture f;
    (void)state;
    prepare(&f, 1, CONF_BALANCE_LEASTCONN);
    begin(&f);
    assert_string_equal(tries(&f, 3), "000");
    set_down(&f, 0);
    assert_string_equal(tries(&f, 3), "000");
    finish(&f);
}

static void
an_address_that_another_worker_knows_keeps_its_history_and_one_that_nobody_does_is_new(void **state)
{
    struct fixture f;
    (void)state;
    prepare_name(&f);
    f.conf.resolve_interval_ms = 1;
    begin(&f);
    resolve(&f, 0, address_info("10.1.0.1", address_info("10.1.0.2", NULL)));
    struct target *one = pick(&f);
    struct health *elsewhere = health_join(&f.health, &target_at(&f, 1)->address);
    target_tell(target_at(&f, 0), -ECONNREFUSED);
    target_tell(target_at(&f, 1), -ECONNREFUSED);
    wait_asked(&f, 2);
    resolve(&f, 0, address_info("10.1.0.3", NULL));
    target_tell(one, -ECONNREFUSED); /* retired, and still told of */
    target_release(one);
    wait_asked(&f, 3);
    resolve(&f, 0, address_info("10.1.0.1", address_info("10.1.0.2", NULL)));
    assert_int_equal(health_due_ms(target_at(&f, 0)->health, now_ms(&f)), 0);
    assert_ptr_equal(target_at(&f, 1)->health, elsewhere);
    health_leave(elsewhere);
    finish(&f);
}

static void checks_come_and_go_with_addresses_and_are_the_first_workers(void **state)
{
    (void)state;
    for (unsigned index = 0; index < 2; index++) {
        struct fixture f;
        prepare_name(&f);
        f.conf.resolve_interval_ms = 1;
        f.conf.check.kind = CONF_CHECK_TCP;
        f.shared.index = index;
        begin(&f);
        resolve(&f, 0, address_info("10.1.0.1", address_info("10.1.0.2", NULL)));
        for (size_t i = 0; i < 2; i++)
            assert_int_equal(target_at(&f, i)->check != NULL, index == 0);
        struct check *stays = target_at(&f, 1)->check;
        uv_idle_stop(&f.shared.loop.idle); /* none gets its turn */
        struct target *picked[] = {pick(&f), pick(&f)};
        struct target *one = picked[picked[0] != target_at(&f, 0)],
                      *two = picked[picked[0] == target_at(&f, 0)];
        wait_asked(&f, 2);
        resolve(&f, 0, address_info("10.1.0.3", address_info("10.1.0.2", NULL)));
        uv_idle_stop(&f.shared.loop.idle);
        assert_true(one->removed);
        assert_null(one->check);
        assert_ptr_equal(two->check, stays);
        assert_int_equal(target_at(&f, 0)->check != NULL, index == 0);
        backend_stop_checks(&f.backend);
        wait_asked(&f, 3);
        resolve(&f, 0, address_info("10.1.0.4", address_info("10.1.0.2", NULL)));
        for (size_t i = 0; i < 2; i++)
            assert_null(target_at(&f, i)->check);
        assert_true(!f.shared.loop.soon && !f.shared.loop.put_off);
        target_release(one);
        target_release(two);
        finish(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_robin_goes_round),
        cmocka_unit_test(the_least_used_gets_the_next_and_equals_take_turns),
        cmocka_unit_test(a_session_without_a_leg_is_not_counted),
        cmocka_unit_test(a_client_stays_with_its_server),
        cmocka_unit_test(any_family_of_client_has_a_server),
        cmocka_unit_test(after_a_failure_the_one_behind_is_next),
        cmocka_unit_test(listening_waits_for_the_first_answer),
        cmocka_unit_test(a_name_that_is_unknown_makes_no_target_but_lets_others_serve),
        cmocka_unit_test(addresses_come_and_go_and_sessions_outlive_theirs),
        cmocka_unit_test(a_detached_session_outlives_its_address_too),
        cmocka_unit_test(a_question_that_can_not_be_asked_fails_the_start_and_later_is_asked_again),
        cmocka_unit_test(closing_cancels_the_question),
        cmocka_unit_test(a_name_with_too_many_addresses_is_cut),
        cmocka_unit_test(who_is_set_aside_gets_no_session_and_the_others_share_its_turns),
        cmocka_unit_test(a_server_that_is_due_gets_one_session_that_tries_it),
        cmocka_unit_test(a_server_without_sessions_for_it_refuses_them_is_no_black_hole),
        cmocka_unit_test(by_source_only_the_clients_of_the_failed_server_move),
        cmocka_unit_test(a_session_that_fails_everywhere_tries_every_server_once),
        cmocka_unit_test(who_has_just_failed_is_not_tried_again_at_once_though_nobody_is_set_aside),
        cmocka_unit_test(when_nobody_is_left_the_one_due_first_is_used_and_then_each_other),
        cmocka_unit_test(a_single_server_is_used_whatever_is_known_of_it),
        cmocka_unit_test(
            an_address_that_another_worker_knows_keeps_its_history_and_one_that_nobody_does_is_new),
        cmocka_unit_test(checks_come_and_go_with_addresses_and_are_the_first_workers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
