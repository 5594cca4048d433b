#include "tests/unit/cmocka.h"

#include "tests/unit/proxy.h"

/* Which backend leg a request goes over when legs are shared, on real sockets: whose it was, whose it must
 * never be, and what a second attempt takes. One worker, so that an answered client's leg is in the pool
 * before any other client is looked at. test_http_reuse.py has the binary. */

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define LAST_GET "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static void start(struct proxy *proxy, enum conf_reuse reuse, uint64_t legs)
{
    proxy->backend.reuse = reuse;
    proxy->backend.reuse_max = legs;
    proxy->backend.reuse_idle_ms = 10 * WAIT_MS; /* what waits for it fails the test */
    proxy_start(proxy);
}

static void prepare_and_start(struct proxy *proxy, enum conf_reuse reuse)
{
    proxy_prepare_http(proxy);
    start(proxy, reuse, 32);
}

static void answer(int client, int origin, const char *response)
{
    send_text(origin, response, 0);
    receive_text(client, response);
}

/* A request that has to arrive over this connection. */
static void ask_over(int client, int origin, const char *request)
{
    send_text(client, request, 0);
    receive_text(origin, request);
}

/* One that has to arrive over a new connection. */
static int ask_over_new(const struct proxy *proxy, int client, const char *request)
{
    send_text(client, request, 0);
    int origin = proxy_origin(proxy);
    receive_text(origin, request);
    return origin;
}

static int answered_over_new(const struct proxy *proxy, int client, const char *request)
{
    int origin = ask_over_new(proxy, client, request);
    answer(client, origin, OK);
    return origin;
}

static void answered_over(int client, int origin, const char *request)
{
    ask_over(client, origin, request);
    answer(client, origin, OK);
}

static void close_all(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
}

/* ---- whose it is -------------------------------------------------------------------------------------- */

static void what_one_client_leaves_the_next_takes(void **state)
{
    struct proxy proxy;
    (void)state;
    prepare_and_start(&proxy, CONF_REUSE_SAFE);
    int clients[] = {proxy_client(&proxy), proxy_client(&proxy)};
    int origin = answered_over_new(&proxy, clients[0], GET);
    answered_over(clients[1], origin, GET);
    answered_over(clients[0], origin, GET);
    close_all(clients, 2);
    close(origin);
    proxy_free(&proxy);
}

static void without_reuse_each_client_keeps_its_own(void **state)
{
    struct proxy proxy;
    (void)state;
    prepare_and_start(&proxy, CONF_REUSE_OFF);
    int clients[] = {proxy_client(&proxy), proxy_client(&proxy)};
    int origins[] = {answered_over_new(&proxy, clients[0], GET), answered_over_new(&proxy, clients[1], GET)};
    answered_over(clients[0], origins[0], POST);
    answered_over(clients[1], origins[1], GET);
    close(clients[0]);
    receive_end(origins[0], 0);
    close(clients[1]);
    close_all(origins, 2);
    proxy_free(&proxy);
}

static void what_can_not_be_repeated_gets_a_new_one_but_with_always(void **state)
{
    (void)state;
    for (enum conf_reuse reuse = CONF_REUSE_SAFE; reuse <= CONF_REUSE_ALWAYS; reuse++) {
        struct proxy proxy;
        prepare_and_start(&proxy, reuse);
        int clients[] = {proxy_client(&proxy), proxy_client(&proxy)};
        int origin = answered_over_new(&proxy, clients[0], GET);
        if (reuse == CONF_REUSE_ALWAYS)
            answered_over(clients[1], origin, POST);
        else
            close(answered_over_new(&proxy, clients[1], POST));
        close_all(clients, 2);
        close(origin);
        proxy_free(&proxy);
    }
}

/* It had no time to be shared. */
static void nor_does_it_go_over_the_one_of_the_request_before_it(void **state)
{
    struct proxy proxy;
    (void)state;
    prepare_and_start(&proxy, CONF_REUSE_SAFE);
    int client = proxy_client(&proxy), other = proxy_client(&proxy);
    send_text(client, GET GET POST, 0);
    int first = proxy_origin(&proxy);
    receive_text(first, GET);
    answer(client, first, OK);
    receive_text(first, GET);
    answer(client, first, OK);
    int second = proxy_origin(&proxy);
    receive_text(second, POST);
    answered_over(other, first, GET); /* where it was shared */
    answer(client, second, OK);
    int fds[] = {client, other, first, second};
    close_all(fds, 4);
    proxy_free(&proxy);
}

/* Through the pool it would push out another. */
static void what_waits_already_and_may_be_repeated_stays_on_the_leg_it_is_on(void **state)
{
    struct proxy proxy;
    char byte;
    (void)state;
    proxy_prepare_http(&proxy);
    start(&proxy, CONF_REUSE_SAFE, 1);
    int client = proxy_client(&proxy), other = proxy_client(&proxy);
    int pooled = ask_over_new(&proxy, other, GET);
    send_text(client, GET GET, 0);
    int kept = proxy_origin(&proxy);
    receive_text(kept, GET);
    answer(other, pooled, OK);
    answer(client, kept, OK);
    receive_text(kept, GET);
    assert_int_equal(recv(pooled, &byte, 1, MSG_DONTWAIT), -1);
    answer(client, kept, OK);
    receive_end(pooled, 0); /* now there is one too many */
    int fds[] = {client, other, kept, pooled};
    close_all(fds, 4);
    proxy_free(&proxy);
}

static void what_is_to_be_closed_is_not_shared(void **state)
{
    static const char last[] = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
    static const char *const requests[] = {GET, LAST_GET};
    struct proxy proxy;
    (void)state;
    prepare_and_start(&proxy, CONF_REUSE_ALWAYS);
    for (size_t i = 0; i < 2; i++) {
        int client = proxy_client(&proxy), other = proxy_client(&proxy);
        send_text(client, requests[i], 0);
        int origin = proxy_origin(&proxy);
        receive_text(origin, GET);
        send_text(origin, last, 0);
        receive_text(client, "HTTP/1.1 200 OK\r\n");
        receive_end(origin, 0);
        close(origin);
        origin = answered_over_new(&proxy, other, GET);
        int fds[] = {client, other, origin};
        close_all(fds, 3);
    }
    proxy_free(&proxy);
}

static void a_client_that_wants_no_more_leaves_it_to_the_next(void **state)
{
    struct proxy proxy;
    (void)state;
    prepare_and_start(&proxy, CONF_REUSE_SAFE);
    int clients[] = {proxy_client(&proxy), proxy_client(&proxy)};
    send_text(clients[0], LAST_GET, 0);
    int origin = proxy_origin(&proxy);
    receive_text(origin, GET);
    send_text(origin, OK, 0);
    receive_text(clients[0], "HTTP/1.1 200 OK\r\n");
    answered_over(clients[1], origin, GET);
    close_all(clients, 2);
    close(origin);
    proxy_free(&proxy);
}

/* ---- whose turn it is --------------------------------------------------------------------------------- */

static void start_two_servers(struct proxy *proxy, struct conf_server servers[2], enum conf_balance balance)
{
    proxy_prepare_http(proxy);
    servers[0] = servers[1] = proxy->server;
    proxy->backend.servers = servers;
    proxy->backend.server_count = 2;
    proxy->backend.balance = balance;
    start(proxy, CONF_REUSE_SAFE, 32);
}

/* As one that has refused is. */
static void the_server_of_the_last_request_is_not_passed_over(void **state)
{
    struct proxy proxy;
    struct conf_server servers[2];
    (void)state;
    start_two_servers(&proxy, servers, CONF_BALANCE_SOURCE);
    int client = proxy_client(&proxy);
    int origin = answered_over_new(&proxy, client, GET);
    answered_over(client, origin, GET);
    close(client);
    close(origin);
    proxy_free(&proxy);
}

/* Turns begin with the first server, the second, the first and so on. */
static void a_client_that_has_left_its_leg_is_no_burden_to_its_server(void **state)
{
    struct proxy proxy;
    struct conf_server servers[2];
    (void)state;
    start_two_servers(&proxy, servers, CONF_BALANCE_LEASTCONN);
    int clients[] = {proxy_client(&proxy), proxy_client(&proxy), proxy_client(&proxy)};
    int first = answered_over_new(&proxy, clients[0], GET);
    int second = answered_over_new(&proxy, clients[0], GET);
    ask_over(clients[1], first, GET); /* which is busy from now on */
    answered_over(clients[0], second, GET);
    answered_over(clients[2], second, GET); /* though it would be the first one's turn */
    close_all(clients, 3);
    close(first);
    close(second);
    proxy_free(&proxy);
}

/* ---- whose it must never be --------------------------------------------------------------------------- */

/* NTLM and Negotiate authenticate a connection, not a request: whoever has it next would be taken for that
 * client. */
static void one_that_a_request_authenticates_is_new_and_nobody_elses(void **state)
{
    static const char *const requests[] = {
        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM TlRMTVNTUAAB\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Negotiate YII\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nProxy-Authorization: NTLM TlRMTVNTUAAB\r\n\r\n",
    };
    struct proxy proxy;
    (void)state;
    prepare_and_start(&proxy, CONF_REUSE_ALWAYS);
    int other = proxy_client(&proxy);
    int shared = answered_over_new(&proxy, other, GET);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        int client = proxy_client(&proxy);
        int its_own = answered_over_new(&proxy, client, requests[i]); /* not one that others may have */
        answered_over(other, shared, GET);
        answered_over(client, its_own, GET); /* and what follows stays there, whatever it may take */
        answered_over(other, shared, POST);
        answered_over(client, its_own, POST);
        answered_over(other, shared, GET);
        close(client);
        receive_end(its_own, 0);
        close(its_own);
        answered_over(other, shared, GET);
    }
    close(other);
    close(shared);
    proxy_free(&proxy);
}

static void a_client_whose_own_is_gone_shares_again(void **state)
{
    struct proxy proxy;
    (void)state;
    prepare_and_start(&proxy, CONF_REUSE_SAFE);
    int client = proxy_client(&proxy), other = proxy_client(&proxy);
    int its_own =
        answered_over_new(&proxy, client, "GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM x\r\n\r\n");
    int shared = answered_over_new(&proxy, other, GET);
    shutdown(its_own, SHUT_WR);
    receive_end(its_own, 0);
    answered_over(client, shared, GET);
    answered_over(other, shared, GET);
    int fds[] = {client, other, its_own, shared};
    close_all(fds, 4);
    proxy_free(&proxy);
}

static void one_whose_backend_asks_for_such_an_authentication_is_nobody_elses(void **state)
{
    static const char *const answers[] = {
        "HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"a\", Negotiate\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nPersistent-Auth: true\r\nContent-Length: 0\r\n\r\n",
    };
    struct proxy proxy;
    (void)state;
    prepare_and_start(&proxy, CONF_REUSE_SAFE);
    int other = proxy_client(&proxy);
    int shared = answered_over_new(&proxy, other, GET);
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        int client = proxy_client(&proxy);
        int its_own = shared;
        ask_over(client, its_own, GET);
        answer(client, its_own, answers[i]);
        shared = answered_over_new(&proxy, other, GET);
        answered_over(client, its_own, POST); /* in safe, too: a handshake has to end where it began */
        answered_over(other, shared, GET);
        close(client);
        receive_end(its_own, 0);
        close(its_own);
    }
    close(other);
    close(shared);
    proxy_free(&proxy);
}

/* ---- a second time ------------------------------------------------------------------------------------ */

/* Two that are in the pool: `later` is taken first. */
static void pool_two(const struct proxy *proxy, const int clients[2], int *earlier, int *later)
{
    *earlier = ask_over_new(proxy, clients[0], GET);
    *later = ask_over_new(proxy, clients[1], GET);
    answer(clients[0], *earlier, OK);
    answer(clients[1], *later, OK);
}

static void a_request_that_meets_a_close_is_sent_again_over_a_new_one(void **state)
{
    struct proxy proxy;
    int earlier, later;
    (void)state;
    prepare_and_start(&proxy, CONF_REUSE_SAFE);
    int clients[] = {proxy_client(&proxy), proxy_client(&proxy)};
    pool_two(&proxy, clients, &earlier, &later);
    ask_over(clients[0], later, GET);
    close(later);
    int fresh = proxy_origin(&proxy); /* not the other one, which may be as old */
    receive_text(fresh, GET);
    answer(clients[0], fresh, OK);
    answered_over(clients[0], fresh, GET); /* the next request is another one */
    ask_over(clients[0], fresh, GET);
    answered_over(clients[1], earlier, GET);
    answer(clients[0], fresh, OK);
    int fds[] = {clients[0], clients[1], earlier, fresh};
    close_all(fds, 4);
    proxy_free(&proxy);
}

static void a_second_time_is_the_last(void **state)
{
    struct proxy proxy;
    int earlier, later;
    (void)state;
    prepare_and_start(&proxy, CONF_REUSE_ALWAYS);
    int clients[] = {proxy_client(&proxy), proxy_client(&proxy)};
    pool_two(&proxy, clients, &earlier, &later);
    ask_over(clients[0], later, GET);
    close(later);
    int fresh = proxy_origin(&proxy);
    receive_text(fresh, GET);
    close(fresh);
    receive_text(clients[0], "HTTP/1.1 502 ");
    answered_over(clients[1], earlier, GET); /* which nobody has troubled */
    close_all(clients, 2);
    close(earlier);
    proxy_free(&proxy);
}

static void what_can_not_be_repeated_is_not_sent_again(void **state)
{
    struct proxy proxy;
    (void)state;
    prepare_and_start(&proxy, CONF_REUSE_ALWAYS);
    int clients[] = {proxy_client(&proxy), proxy_client(&proxy)};
    int origin = answered_over_new(&proxy, clients[0], GET);
    ask_over(clients[1], origin, POST);
    close(origin);
    receive_text(clients[1], "HTTP/1.1 502 ");
    close(answered_over_new(&proxy, clients[0], GET)); /* the first that comes is this one */
    close_all(clients, 2);
    proxy_free(&proxy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_one_client_leaves_the_next_takes),
        cmocka_unit_test(without_reuse_each_client_keeps_its_own),
        cmocka_unit_test(what_can_not_be_repeated_gets_a_new_one_but_with_always),
        cmocka_unit_test(nor_does_it_go_over_the_one_of_the_request_before_it),
        cmocka_unit_test(what_waits_already_and_may_be_repeated_stays_on_the_leg_it_is_on),
        cmocka_unit_test(what_is_to_be_closed_is_not_shared),
        cmocka_unit_test(a_client_that_wants_no_more_leaves_it_to_the_next),
        cmocka_unit_test(the_server_of_the_last_request_is_not_passed_over),
        cmocka_unit_test(a_client_that_has_left_its_leg_is_no_burden_to_its_server),
        cmocka_unit_test(one_that_a_request_authenticates_is_new_and_nobody_elses),
        cmocka_unit_test(a_client_whose_own_is_gone_shares_again),
        cmocka_unit_test(one_whose_backend_asks_for_such_an_authentication_is_nobody_elses),
        cmocka_unit_test(a_request_that_meets_a_close_is_sent_again_over_a_new_one),
        cmocka_unit_test(a_second_time_is_the_last),
        cmocka_unit_test(what_can_not_be_repeated_is_not_sent_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
