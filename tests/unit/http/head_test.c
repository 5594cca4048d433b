#include "proxy/http/head.h"
#include "tests/unit/cmocka.h"

#include <stdio.h>
#include <string.h>

static const struct message_limits limits = {.head_bytes = 4096, .line_bytes = 1024, .fields = 20};

static const struct head_origin nothing = {.forwarded = CONF_FORWARDED_OFF, .address = "192.0.2.1"};
static const struct head_origin stranger = {.forwarded = CONF_FORWARDED_X, .address = "192.0.2.1"};
static const struct head_origin friend = {
    .forwarded = CONF_FORWARDED_X, .trusted = true, .address = "192.0.2.1"};

static void expect_request(const char *fields, const struct head_origin *origin, const char *expected)
{
    char text[2048], written[4096], wanted[2048];
    struct message request;
    snprintf(text, sizeof text, "GET /a?b HTTP/1.1\r\nHost: a\r\n%s\r\n", fields);
    snprintf(wanted, sizeof wanted, "GET /a?b HTTP/1.1\r\nHost: a\r\n%s\r\n", expected);
    assert_int_equal(message_parse_request(&request, text, strlen(text), &limits), 0);
    size_t size = head_write_request(written, strlen(text) + HEAD_ADDED_MAX, &request, origin, HEAD_KEEP);
    assert_true(size > 0);
    written[size] = '\0';
    assert_string_equal(written, wanted);
}

static void a_request_goes_on_as_it_came(void **state)
{
    (void)state;
    expect_request("Accept: */*\r\nX-Forwarded-For: 1.1.1.1\r\nX: \r\n", &nothing,
                   "Accept: */*\r\nX-Forwarded-For: 1.1.1.1\r\nX: \r\n");
    expect_request("Content-Length: 5\r\nExpect: 100-continue\r\n", &nothing,
                   "Content-Length: 5\r\nExpect: 100-continue\r\n");
    expect_request("Transfer-Encoding: chunked\r\nTrailer: X\r\n", &nothing,
                   "Transfer-Encoding: chunked\r\nTrailer: X\r\n");
}

static void what_concerns_one_connection_stays_behind(void **state)
{
    (void)state;
    expect_request("Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nx-MINE: 2\r\nY: 3\r\n", &nothing,
                   "Y: 3\r\n");
    expect_request("Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: x\r\n",
                   &nothing, "");
}

static void an_upgrade_goes_on_unless_to_http2(void **state)
{
    (void)state;
    expect_request("Connection: Upgrade\r\nUpgrade: websocket\r\n", &nothing,
                   "Upgrade: websocket\r\nConnection: upgrade\r\n");
    expect_request("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n", &nothing,
                   "");
}

static void an_untrusted_client_is_not_believed(void **state)
{
    (void)state;
    expect_request("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nForwarded: for=2.2.2.2\r\n",
                   &stranger, "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n");
    expect_request("X_Forwarded_For: 1.1.1.1\r\nX-Forwarded_Proto: https\r\n", &stranger,
                   "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n");
}

static void a_trusted_client_is_appended_to(void **state)
{
    (void)state;
    expect_request("X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 2.2.2.2\r\n",
                   &friend, "X-Forwarded-Proto: https\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.1\r\n");
    expect_request("", &friend, "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n");
}

static void the_standard_field_is_written_when_asked_for(void **state)
{
    (void)state;
    struct head_origin origin = {.forwarded = CONF_FORWARDED, .trusted = true, .address = "192.0.2.1"};
    expect_request("Forwarded: for=1.1.1.1\r\n", &origin,
                   "Forwarded: for=1.1.1.1, for=192.0.2.1;proto=http\r\nX-Forwarded-Proto: http\r\n");
    origin = (struct head_origin){.forwarded = CONF_FORWARDED, .ipv6 = true, .address = "2001:db8::1"};
    expect_request("Forwarded: for=1.1.1.1\r\n", &origin,
                   "Forwarded: for=\"[2001:db8::1]\";proto=http\r\nX-Forwarded-Proto: http\r\n");
}

static void a_request_id_is_kept_or_made(void **state)
{
    (void)state;
    struct head_origin origin = nothing;
    origin.request_id = "made";
    expect_request("X-Request-Id: theirs\r\n", &origin, "X-Request-Id: theirs\r\n");
    expect_request("X-Request-Id: has blanks\r\n", &origin, "X-Request-Id: made\r\n");
    expect_request("", &origin, "X-Request-Id: made\r\n");
}

static void via_is_appended_to(void **state)
{
    (void)state;
    struct head_origin origin = nothing;
    origin.via = true;
    expect_request("Via: 1.0 fred\r\n", &origin, "Via: 1.0 fred, 1.1 lastack\r\n");
}

static void too_little_space_is_said(void **state)
{
    (void)state;
    static const char text[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    struct message request;
    char space[sizeof text];
    assert_int_equal(message_parse_request(&request, text, sizeof text - 1, &limits), 0);
    for (size_t size = 0; size < sizeof text - 1; size++)
        assert_int_equal(head_write_request(space, size, &request, &nothing, HEAD_KEEP), 0);
    assert_int_equal(head_write_request(space, sizeof text - 1, &request, &nothing, HEAD_KEEP),
                     sizeof text - 1);
}

static void expect_response(const char *text, uint8_t asked_minor, enum head_connection connection,
                            const char *expected)
{
    static const struct message_asked asked = {.upgrade = true, .minor = 1};
    char written[4096];
    struct message response;
    assert_int_equal(message_parse_response(&response, text, strlen(text), &limits, &asked), 0);
    size_t size = head_write_response(written, sizeof written - 1, &response, asked_minor, false, connection);
    assert_true(size > 0);
    written[size] = '\0';
    assert_string_equal(written, expected);
}

static void a_response_says_what_becomes_of_the_clients_connection(void **state)
{
    (void)state;
    static const char text[] = "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
    expect_response(text, 1, HEAD_KEEP, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    expect_response(text, 1, HEAD_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n");
    expect_response(text, 0, HEAD_KEEP,
                    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n");
    expect_response("HTTP/1.1 100 Continue\r\n\r\n", 1, HEAD_CLOSE, "HTTP/1.1 100 Continue\r\n\r\n");
    expect_response("HTTP/1.1 101 Now\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", 1, HEAD_CLOSE,
                    "HTTP/1.1 101 Now\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
    expect_response("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 1, HEAD_KEEP,
                    "HTTP/1.1 204 No Content\r\n\r\n");
    expect_response("HTTP/1.1 404\r\nContent-Length: 1\r\n\r\n", 1, HEAD_KEEP,
                    "HTTP/1.1 404 \r\nContent-Length: 1\r\n\r\n");
}

static void the_request_id_that_goes_on_is_known(void **state)
{
    (void)state;
    static const char bad[] = "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: a b\r\n\r\n";
    static const char good[] = "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: a-b\r\n\r\n";
    const struct head_origin off = {.address = "1.2.3.4"};
    const struct head_origin on = {.address = "1.2.3.4", .request_id = "made"};
    struct message request;
    assert_int_equal(message_parse_request(&request, good, strlen(good), &limits), 0);
    assert_int_equal(head_request_id(&request, &off).size, 0);
    assert_true(message_text_is(head_request_id(&request, &on), "a-b"));
    assert_int_equal(message_parse_request(&request, bad, strlen(bad), &limits), 0);
    assert_true(message_text_is(head_request_id(&request, &on), "made"));
}

static void expect_head(const char *text, const char *expected)
{
    char written[4096];
    struct message request;
    assert_int_equal(message_parse_request(&request, text, strlen(text), &limits), 0);
    size_t size = head_write_request(written, sizeof written - 1, &request, &nothing, HEAD_KEEP);
    written[size] = '\0';
    assert_string_equal(written, expected);
}

static void the_host_of_an_absolute_target_goes_on(void **state)
{
    (void)state;
    expect_head("GET http://b:1/x HTTP/1.1\r\nA: 1\r\nHost: a\r\nB: 2\r\n\r\n",
                "GET http://b:1/x HTTP/1.1\r\nA: 1\r\nHost: b:1\r\nB: 2\r\n\r\n");
    expect_head("GET http://b/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                "GET http://b/x HTTP/1.0\r\nHost: b\r\nConnection: keep-alive\r\n\r\n");
}

static void a_length_goes_on_as_the_number_that_was_read(void **state)
{
    (void)state;
    expect_head("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 010\r\n\r\n",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    expect_head("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 000\r\n\r\n",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    expect_response("HTTP/1.1 200 OK\r\nContent-Length: 07\r\nX: 1\r\nContent-Length: 07\r\n\r\n", 1,
                    HEAD_KEEP, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nX: 1\r\n\r\n");
}

static void what_a_trusted_client_vouches_for_is_not_nominated_away(void **state)
{
    (void)state;
    static const char fields[] = "Connection: x-forwarded-proto\r\nX-Forwarded-Proto: https\r\n";
    expect_request(fields, &friend, "X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.1\r\n");
    expect_request(fields, &stranger, "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\n");
    expect_request(fields, &nothing, "");
}

static void a_version_and_a_method_that_are_newer_go_on(void **state)
{
    (void)state;
    expect_head("QUERY / HTTP/1.2\r\nHost: a\r\n\r\n", "QUERY / HTTP/1.1\r\nHost: a\r\n\r\n");
}

static void a_coding_is_not_told_to_http_1_0(void **state)
{
    (void)state;
    expect_response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0, HEAD_CLOSE,
                    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_goes_on_as_it_came),
        cmocka_unit_test(what_concerns_one_connection_stays_behind),
        cmocka_unit_test(an_upgrade_goes_on_unless_to_http2),
        cmocka_unit_test(an_untrusted_client_is_not_believed),
        cmocka_unit_test(a_trusted_client_is_appended_to),
        cmocka_unit_test(the_standard_field_is_written_when_asked_for),
        cmocka_unit_test(a_request_id_is_kept_or_made),
        cmocka_unit_test(via_is_appended_to),
        cmocka_unit_test(too_little_space_is_said),
        cmocka_unit_test(a_response_says_what_becomes_of_the_clients_connection),
        cmocka_unit_test(the_request_id_that_goes_on_is_known),
        cmocka_unit_test(the_host_of_an_absolute_target_goes_on),
        cmocka_unit_test(a_length_goes_on_as_the_number_that_was_read),
        cmocka_unit_test(what_a_trusted_client_vouches_for_is_not_nominated_away),
        cmocka_unit_test(a_version_and_a_method_that_are_newer_go_on),
        cmocka_unit_test(a_coding_is_not_told_to_http_1_0),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
