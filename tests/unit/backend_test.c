#include "tests/unit/cmocka.h"

#include "proxy/plane/backend.h"
#include "proxy/plane/worker.h"

#include <arpa/inet.h>
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

static void resolve(int status, struct addrinfo *found)
{
    uv_getaddrinfo_t *request = resolver.request;
    assert_non_null(request);
    resolver.request = NULL;
    resolver.answer(request, status, found);
}

/* ---- one backend of one worker ------------------------------------------------------------------------ */

struct fixture {
    struct worker worker;
    struct conf_backend conf;
    struct conf_server servers[4];
    struct backend backend;
    struct log *log;
};

static char names[4][32];

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
                                    .resolve_interval_ms = DEADLINE_OFF};
    for (size_t i = 0; i < servers; i++) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(9000 + i))};
        snprintf(names[i], sizeof names[i], "10.0.0.%zu", i);
        f->servers[i] = (struct conf_server){.text = names[i], .address.length = sizeof in};
        memcpy(&f->servers[i].address.address, &in, sizeof in);
    }
    assert_int_equal(log_open(&settings, &f->log), 0);
    assert_int_equal(uv_loop_init(&f->worker.loop), 0);
    f->worker.log = log_ring(f->log);
    f->worker.unresolved = 1;
}

static void prepare_name(struct fixture *f)
{
    static char host[] = "db.test";
    prepare(f, 1, CONF_BALANCE_ROUNDROBIN);
    f->servers[0].address.length = 0;
    f->servers[0].host = host;
    f->servers[0].port = 9000;
}

static void begin(struct fixture *f)
{
    assert_int_equal(backend_init(&f->backend, &f->conf, &f->worker), 0);
}

static void finish(struct fixture *f)
{
    backend_close(&f->backend);
    if (resolver.request)
        resolve(UV_ECANCELED, NULL);
    uv_run(&f->worker.loop, UV_RUN_DEFAULT);
    backend_free(&f->backend);
    assert_int_equal(uv_loop_close(&f->worker.loop), 0);
    log_close(f->log);
}

static union socket_address client(uint32_t host, uint16_t port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host), .sin_port = htons(port)};
    union socket_address address = {0};
    memcpy(address.bytes, &in, sizeof in);
    return address;
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
    f.worker.index = 1; /* begins with the second */
    begin(&f);
    assert_true(f.backend.ready);
    assert_int_equal(backend_targets(&f.backend), 3);
    for (int i = 0; i < 7; i++) {
        struct target *target = pick(&f);
        order[i] = target->text;
        backend_release(target);
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
        assert_int_equal(f.backend.servers[i].targets[0]->sessions, 3);
    struct target *freed = targets[4];
    backend_release(targets[4]);
    targets[4] = pick(&f);
    assert_ptr_equal(targets[4], freed);
    for (int i = 0; i < 9; i++)
        backend_release(targets[i]);
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
            used[i] += f.backend.servers[i].targets[0] == target;
        backend_release(target);
        backend_release(same);
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
    backend_release(one);
    backend_release(two);
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
            backend_release(target);
            target = next;
        }
        assert_int_equal(seen, 15);
        backend_release(target);
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
    assert_int_equal(f.worker.unresolved, 1);
    assert_null(pick(&f));
    resolve(0, address_info("10.1.0.1", address_info("10.1.0.2", address_info("10.1.0.1", NULL))));
    assert_true(f.backend.ready);
    assert_int_equal(f.worker.unresolved, 0);
    assert_int_equal(backend_targets(&f.backend), 2); /* each address once */
    struct target *target = pick(&f);
    assert_string_equal(target->text, "10.1.0.1:9000");
    backend_release(target);
    finish(&f);
}

static void a_name_that_is_unknown_makes_no_target_but_lets_others_serve(void **state)
{
    struct fixture f;
    (void)state;
    prepare_name(&f);
    begin(&f);
    resolve(UV_EAI_NONAME, NULL);
    assert_true(f.backend.ready);
    assert_int_equal(backend_targets(&f.backend), 0);
    assert_null(pick(&f));
    finish(&f);
}

static void wait_asked(struct fixture *f, unsigned count)
{
    while (resolver.asked < count)
        uv_run(&f->worker.loop, UV_RUN_ONCE);
}

static void addresses_come_and_go_and_sessions_outlive_theirs(void **state)
{
    struct fixture f;
    (void)state;
    prepare_name(&f);
    f.conf.resolve_interval_ms = 1;
    begin(&f);
    resolve(0, address_info("10.1.0.1", address_info("10.1.0.2", NULL)));
    struct target *one = pick(&f), *two = pick(&f);
    wait_asked(&f, 2);
    resolve(0, address_info("10.1.0.2", address_info("10.1.0.3", NULL)));
    assert_true(one->retired);
    assert_false(two->retired);
    assert_int_equal(two->sessions, 1); /* kept its count */
    assert_int_equal(backend_targets(&f.backend), 2);

    /* Behind one that is gone comes the first. */
    union socket_address from = client(1, 1);
    struct target *next = backend_pick(&f.backend, &from, one);
    assert_ptr_equal(next, two);
    backend_release(next);
    backend_release(one); /* frees it */

    /* An error keeps what there is; while one is asked for, no second question. */
    wait_asked(&f, 3);
    uv_run(&f.worker.loop, UV_RUN_ONCE);
    assert_int_equal(resolver.asked, 3);
    resolve(UV_EAI_AGAIN, NULL);
    assert_int_equal(backend_targets(&f.backend), 2);
    backend_release(two);
    finish(&f);
}

static void a_question_that_can_not_be_asked_fails_the_start_and_later_is_asked_again(void **state)
{
    struct fixture f;
    (void)state;
    prepare_name(&f);
    resolver.error = UV_ENOMEM;
    assert_int_equal(backend_init(&f.backend, &f.conf, &f.worker), UV_ENOMEM);
    finish(&f);

    prepare_name(&f);
    f.conf.resolve_interval_ms = 1;
    begin(&f);
    resolve(0, address_info("10.1.0.1", NULL));
    resolver.error = UV_ENOMEM;
    wait_asked(&f, 3);
    resolver.error = 0;
    wait_asked(&f, 4);
    assert_int_equal(backend_targets(&f.backend), 1);
    resolve(0, address_info("10.1.0.9", NULL));
    assert_int_equal(backend_targets(&f.backend), 1);
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
    resolve(0, found);
    assert_int_equal(backend_targets(&f.backend), 256);
    finish(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_robin_goes_round),
        cmocka_unit_test(the_least_used_gets_the_next_and_equals_take_turns),
        cmocka_unit_test(a_client_stays_with_its_server),
        cmocka_unit_test(any_family_of_client_has_a_server),
        cmocka_unit_test(after_a_failure_the_one_behind_is_next),
        cmocka_unit_test(listening_waits_for_the_first_answer),
        cmocka_unit_test(a_name_that_is_unknown_makes_no_target_but_lets_others_serve),
        cmocka_unit_test(addresses_come_and_go_and_sessions_outlive_theirs),
        cmocka_unit_test(a_question_that_can_not_be_asked_fails_the_start_and_later_is_asked_again),
        cmocka_unit_test(closing_cancels_the_question),
        cmocka_unit_test(a_name_with_too_many_addresses_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
