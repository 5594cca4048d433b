#include "tests/unit/cmocka.h"

#include "proxy/exchange/exchange.h"
#include "tests/unit/proxy.h"

#include <sys/mman.h>

/* What the simulation of mode http found, on real sockets: servers at rest that were reset, a request sent
 * again that was being answered, bytes looked at behind a bad answer. test_http.py has the wire. */

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static int start(void **state)
{
    struct proxy *proxy = malloc(sizeof *proxy);
    assert_non_null(proxy);
    proxy_prepare_http(proxy);
    proxy_start(proxy);
    *state = proxy;
    return 0;
}

static int stop(void **state)
{
    proxy_free(*state);
    free(*state);
    return 0;
}

/* A client that has been answered once; its server's end of the connection. */
static int answered_once(const struct proxy *proxy, int client)
{
    send_text(client, GET, 0);
    int origin = proxy_origin(proxy);
    receive_text(origin, GET);
    send_text(origin, OK, 0);
    receive_text(client, OK);
    return origin;
}

struct expected_descriptors {
    int count;
};

static bool has_descriptors(void *context)
{
    const struct expected_descriptors *expected = context;
    return count_descriptors() == expected->count;
}

static uint64_t resets(const struct proxy *proxy)
{
    return counter_read(&plane_counters(proxy->plane, 0)->resets[LEG_BACKEND]);
}

static void a_last_word_and_a_fin_that_come_at_once_end_a_retiring_leg(void **state)
{
    struct proxy *proxy = *state;
    struct expected_descriptors expected = {.count =
                                                count_descriptors() + 2}; /* the client's leg, both ends */
    int client = proxy_client(proxy);
    send_text(client, GET, 0);
    int origin = proxy_origin(proxy);
    receive_text(origin, GET);
    send_text(origin, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", 0);
    receive_text(client, OK);
    receive_end(origin, 0);
    send_text(origin, "bye", MSG_MORE); /* leaves with the FIN */
    close(origin);
    wait_until(has_descriptors, &expected);
    assert_int_equal(resets(proxy), 0);
    close(client);
}

static void a_server_at_rest_is_not_reset_for_a_malformed_request(void **state)
{
    struct proxy *proxy = *state;
    int client = proxy_client(proxy);
    int origin = answered_once(proxy, client);
    send_text(client, "GET  / HTTP/1.1\r\n\r\n", 0);
    receive_text(client, "HTTP/1.1 400 ");
    receive_end(origin, 0);
    close(origin);
    close(client);
    proxy_wait_ended(proxy, REASON_BAD_REQUEST, 1);
    assert_int_equal(resets(proxy), 0);
}

static void a_server_at_rest_is_not_reset_for_a_body_that_is_malformed_at_once(void **state)
{
    struct proxy *proxy = *state;
    int client = proxy_client(proxy);
    int origin = answered_once(proxy, client);
    send_text(client, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n", 0);
    receive_text(client, "HTTP/1.1 400 ");
    receive_end(origin, 0); /* and nothing of the request before it */
    close(origin);
    close(client);
    proxy_wait_ended(proxy, REASON_BAD_REQUEST, 1);
    assert_int_equal(resets(proxy), 0);
}

static void a_request_with_an_interim_answer_is_not_sent_again(void **state)
{
    struct proxy *proxy = *state;
    int client = proxy_client(proxy);
    int origin = answered_once(proxy, client);
    send_text(client, GET, 0);
    receive_text(origin, GET);
    send_text(origin, "HTTP/1.1 103 Early Hints\r\n\r\n", 0);
    receive_text(client, "HTTP/1.1 103 Early Hints\r\n\r\n");
    close(origin);
    receive_text(client, "HTTP/1.1 502 ");
    close(client);
    proxy_wait_ended(proxy, REASON_NO_RESPONSE, 1);
}

static void half_a_head_and_a_fin_are_answered(void **state)
{
    struct proxy *proxy = *state;
    int client = proxy_client(proxy);
    send_text(client, "GET / HTTP/1.1\r\n", 0);
    shutdown(client, SHUT_WR);
    receive_text(client, "HTTP/1.1 400 ");
    close(client);
    proxy_wait_ended(proxy, REASON_REQUEST_CUT, 1);
}

static void a_fresh_server_that_closes_without_an_answer_is_not_asked_again(void **state)
{
    struct proxy *proxy = *state;
    int client = proxy_client(proxy);
    send_text(client, GET, 0);
    int origin = proxy_origin(proxy);
    receive_text(origin, GET);
    close(origin);
    receive_text(client, "HTTP/1.1 502 ");
    close(client);
    proxy_wait_ended(proxy, REASON_NO_RESPONSE, 1);
}

static void a_client_that_resets_while_it_waits_ends_its_request(void **state)
{
    struct proxy *proxy = *state;
    int client = proxy_client(proxy);
    int origin = answered_once(proxy, client);
    send_text(client, GET, 0);
    receive_text(origin, GET);
    reset_close(client);
    receive_end(origin, ECONNRESET);
    close(origin);
    proxy_wait_ended(proxy, REASON_CLIENT_RESET, 1);
}

/* A client whose kernel takes next to nothing unread. */
static int narrow_client(const struct proxy *proxy)
{
    const struct conf_address *address = plane_address(proxy->plane, 0, 0);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    set_buffer(fd, SO_RCVBUF, 2048);
    connect_to(fd, (const struct sockaddr *)&address->address, address->length);
    return fd;
}

static void nothing_is_looked_at_behind_a_bad_answer(void **state)
{
    struct proxy *proxy = *state;
    enum { INTERIMS = 10, SIZE = 4096, GARBAGE = 64 };
    char interim[SIZE + 1], answer[INTERIMS * SIZE + GARBAGE];
    assert_int_equal(snprintf(interim, sizeof interim, "HTTP/1.1 103 Early Hints\r\nA: %04063d\r\n\r\n", 0),
                     SIZE);
    for (size_t i = 0; i < INTERIMS; i++)
        memcpy(answer + i * SIZE, interim, SIZE);
    /* The first of these bytes makes it a bad head, and so does each of the others. */
    memset(answer + (size_t)INTERIMS * SIZE, '\x01', GARBAGE);

    int client = narrow_client(proxy);
    send_text(client, GET, 0);
    int origin = proxy_origin(proxy);
    receive_text(origin, GET);
    set_buffer(find_leg(client), SO_SNDBUF, 2048); /* so that our own answer has to wait */
    assert_int_equal(send(origin, answer, sizeof answer, MSG_NOSIGNAL), sizeof answer);
    for (size_t i = 0; i < INTERIMS; i++) {
        char got[SIZE];
        receive_exactly(client, got, sizeof got);
        assert_memory_equal(got, interim, sizeof got);
    }
    receive_text(client, "HTTP/1.1 502 ");
    close(client);
    close(origin);
    proxy_wait_ended(proxy, REASON_BAD_RESPONSE, 1);
}

static void interim_answers_without_an_end_are_a_bad_answer(void **state)
{
    struct proxy *proxy = *state;
    static const char interim[] = "HTTP/1.1 103 Early Hints\r\n\r\n";
    int client = proxy_client(proxy);
    send_text(client, GET, 0);
    int origin = proxy_origin(proxy);
    receive_text(origin, GET);
    for (size_t i = 0; i < EXCHANGE_INTERIMS_MAX + 1; i++)
        send_text(origin, interim, 0);
    for (size_t i = 0; i < EXCHANGE_INTERIMS_MAX; i++)
        receive_text(client, interim);
    receive_text(client, "HTTP/1.1 502 ");
    close(client);
    close(origin);
    proxy_wait_ended(proxy, REASON_BAD_RESPONSE, 1);
}

static void long_interim_answers_are_bounded_in_bytes(void **state)
{
    struct proxy *proxy = *state;
    static char interim[60000], got[60000];
    int client = proxy_client(proxy);
    snprintf(interim, sizeof interim, "HTTP/1.1 103 Early Hints\r\nA: %059900d\r\n\r\n", 0);
    send_text(client, GET, 0);
    int origin = proxy_origin(proxy);
    receive_text(origin, GET);
    for (size_t i = 0; i < EXCHANGE_INTERIM_HEADS; i++) {
        send_text(origin, interim, 0);
        receive_exactly(client, got, strlen(interim));
        assert_memory_equal(got, interim, strlen(interim));
    }
    send_text(origin, interim, 0);
    receive_text(client, "HTTP/1.1 502 ");
    close(client);
    close(origin);
    proxy_wait_ended(proxy, REASON_BAD_RESPONSE, 1);
}

static void a_client_that_closes_while_its_answer_runs_is_noticed(void **state)
{
    struct proxy *proxy = *state;
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    int client = proxy_client(proxy);
    send_text(client, GET, 0);
    int origin = proxy_origin(proxy);
    receive_text(origin, GET);
    send_text(origin, head, 0);
    receive_text(client, head);
    close(client); /* without `verify`, and with nothing unread that would make it a reset */
    proxy_wait_ended(proxy, REASON_CLIENT_CLOSED, 1);
    receive_end(origin, ECONNRESET);
    close(origin);
}

static void a_client_that_closed_only_its_half_gets_its_answer(void **state)
{
    struct proxy *proxy = *state;
    int client = proxy_client(proxy);
    send_text(client, GET, 0);
    int origin = proxy_origin(proxy);
    receive_text(origin, GET);
    send_text(origin, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", 0);
    receive_text(client, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no");
    shutdown(client, SHUT_WR);
    pause_ms(100); /* it is looked at twice meanwhile */
    send_text(origin, "k", 0);
    receive_text(client, "k");
    receive_end(origin, 0);
    close(origin);
    close(client);
    proxy_wait_ended(proxy, REASON_CLOSED, 1);
}

/* ---- servers that refuse ------------------------------------------------------------------------------ */

static size_t occurrences(const char *text, const char *word)
{
    size_t count = 0;
    for (; (text = strstr(text, word)); text++)
        count++;
    return count;
}

/* All that comes up to its FIN. */
static void receive_all(int fd, char *text, size_t size)
{
    size_t got = 0;
    for (ssize_t n = 1; n > 0; got += (size_t)n) {
        wait_for(fd, POLLIN);
        n = recv(fd, text + got, size - 1 - got, MSG_DONTWAIT);
        assert_true(n >= 0 && got + (size_t)n < size - 1);
    }
    text[got] = '\0';
}

static void each_server_that_refuses_is_tried_once_in_order_and_the_client_told_once(void **state)
{
    static char names[][6] = {"one:1", "two:1", "six:1"};
    enum { SERVERS = sizeof names / sizeof names[0] };
    struct conf_server servers[SERVERS];
    struct proxy proxy;
    char target[32], text[4096];
    (void)state;
    proxy_prepare_http(&proxy);
    for (size_t i = 0; i < SERVERS; i++) {
        struct sockaddr_in dead;
        close(listen_on_loopback(&dead));
        servers[i] = (struct conf_server){.text = names[i], .address = conf_address_of(&dead)};
    }
    proxy.backend.servers = servers;
    proxy.backend.server_count = SERVERS;
    int log = memfd_create("log", MFD_CLOEXEC);
    assert_true(log >= 0);
    snprintf(target, sizeof target, "/proc/self/fd/%d", log);
    proxy.conf.log.target = target;
    proxy_start(&proxy);

    int client = proxy_client(&proxy);
    send_text(client, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 0);
    receive_all(client, text, sizeof text);
    assert_int_equal(occurrences(text, "HTTP/1.1 "), 1);
    close(client);
    proxy_wait_ended(&proxy, REASON_CONNECT_FAILED, 1);
    proxy_free(&proxy); /* writes what is left of the log */

    ssize_t size = pread(log, text, sizeof text - 1, 0);
    assert_true(size > 0);
    text[size] = '\0';
    assert_int_equal(occurrences(text, "connect_failed id="), SERVERS);
    const char *at = text;
    for (size_t i = 0; i < SERVERS; i++) {
        at = strstr(at, "connect_failed id=");
        assert_non_null(at);
        at = strstr(at, "backend=");
        assert_non_null(at);
        at += strlen("backend=");
        assert_memory_equal(at, names[i], strlen(names[i]));
    }
    close(log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_last_word_and_a_fin_that_come_at_once_end_a_retiring_leg, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_server_at_rest_is_not_reset_for_a_malformed_request, start, stop),
        cmocka_unit_test_setup_teardown(a_server_at_rest_is_not_reset_for_a_body_that_is_malformed_at_once,
                                        start, stop),
        cmocka_unit_test_setup_teardown(a_request_with_an_interim_answer_is_not_sent_again, start, stop),
        cmocka_unit_test_setup_teardown(a_fresh_server_that_closes_without_an_answer_is_not_asked_again,
                                        start, stop),
        cmocka_unit_test_setup_teardown(half_a_head_and_a_fin_are_answered, start, stop),
        cmocka_unit_test_setup_teardown(a_client_that_resets_while_it_waits_ends_its_request, start, stop),
        cmocka_unit_test_setup_teardown(interim_answers_without_an_end_are_a_bad_answer, start, stop),
        cmocka_unit_test_setup_teardown(long_interim_answers_are_bounded_in_bytes, start, stop),
        cmocka_unit_test_setup_teardown(a_client_that_closes_while_its_answer_runs_is_noticed, start, stop),
        cmocka_unit_test_setup_teardown(a_client_that_closed_only_its_half_gets_its_answer, start, stop),
        cmocka_unit_test_setup_teardown(nothing_is_looked_at_behind_a_bad_answer, start, stop),
        cmocka_unit_test(each_server_that_refuses_is_tried_once_in_order_and_the_client_told_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
