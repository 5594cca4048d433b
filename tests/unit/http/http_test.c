#include "proxy/http/http.h"
#include "tests/unit/cmocka.h"
#include "tests/unit/http_corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct message_limits limits = {
    .head_bytes = 4096, .line_bytes = 1024, .fields = 20, .connect = true, .bare_lf = true};

/* What a stream of requests came to. */
struct outcome {
    unsigned requests;
    int status;
    bool whole; /* it ended at a boundary */
};

struct reader {
    struct http http;
    bool in_body;
    struct outcome outcome;
};

static void boundary(struct reader *reader)
{
    reader->outcome.requests++;
    reader->in_body = false;
    http_begin(&reader->http, HTTP_REQUEST);
}

static int take_head(struct reader *reader, const char *bytes, size_t size, size_t *used)
{
    struct message message;
    int status = http_collect(&reader->http, &limits, bytes, size, used);
    if (status == HTTP_DONE) {
        status = http_parse_request(&reader->http, &message, &limits);
        http_release_head(&reader->http);
        reader->in_body = status == 0;
    }
    return status;
}

static void feed(struct reader *reader, const char *text, size_t size)
{
    static char space[65536];
    char *bytes = memcpy(space, text, size);
    while (reader->outcome.status == 0) {
        size_t used = 0, kept;
        int status = reader->in_body ? http_follow(&reader->http, bytes, size, &used, &kept)
                                     : take_head(reader, bytes, size, &used);
        assert_true(used <= size);
        bytes += used;
        size -= used;
        if (status < 0)
            reader->outcome.status = rule_status(http_broken(status));
        else if (reader->in_body && (status == HTTP_DONE || reader->http.state == HTTP_COMPLETE))
            boundary(reader);
        else if (size == 0)
            return;
    }
}

static struct outcome read_in_two(const char *bytes, size_t size, size_t split)
{
    struct reader reader = {0};
    http_begin(&reader.http, HTTP_REQUEST);
    feed(&reader, bytes, split);
    feed(&reader, bytes + split, size - split);
    reader.outcome.whole = http_untouched(&reader.http);
    http_release_head(&reader.http);
    return reader.outcome;
}

static struct outcome read_byte_by_byte(const char *bytes, size_t size)
{
    struct reader reader = {0};
    http_begin(&reader.http, HTTP_REQUEST);
    for (size_t i = 0; i < size; i++)
        feed(&reader, bytes + i, 1);
    reader.outcome.whole = http_untouched(&reader.http);
    http_release_head(&reader.http);
    return reader.outcome;
}

static void check(const struct corpus_row *row, struct outcome found, const char *how, size_t at)
{
    if (found.requests == row->requests && found.status == row->status && (found.whole || row->status != 0))
        return;
    fail_msg("%s (%s %zu): %u requests and status %d, expected %u and %d%s", row->name, how, at,
             found.requests, found.status, row->requests, row->status,
             found.whole ? "" : "; not at a boundary");
}

static void every_case_has_its_verdict_however_it_is_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof corpus / sizeof corpus[0]; i++) {
        const struct corpus_row *row = &corpus[i];
        check(row, read_in_two(row->bytes, row->size, row->size), "whole", 0);
        check(row, read_byte_by_byte(row->bytes, row->size), "by bytes", 0);
        for (size_t split = 1; split < row->size; split++)
            check(row, read_in_two(row->bytes, row->size, split), "split at", split);
    }
}

static void the_corpus_has_at_least_150_cases(void **state)
{
    (void)state;
    assert_true(sizeof corpus / sizeof corpus[0] >= 150);
}

/* ---- limits */

static struct outcome read_text(const char *text)
{
    return read_in_two(text, strlen(text), strlen(text));
}

static char *request_with(size_t target, size_t fields, size_t value)
{
    size_t size = 64 + target + fields * (value + 16);
    char *text = calloc(1, size);
    assert_non_null(text);
    size_t at = (size_t)snprintf(text, size, "GET /");
    memset(text + at, 'a', target);
    at += target;
    at += (size_t)snprintf(text + at, size - at, " HTTP/1.1\r\nHost: a\r\n");
    for (size_t i = 0; i < fields; i++) {
        at += (size_t)snprintf(text + at, size - at, "X: ");
        memset(text + at, 'b', value);
        at += value;
        at += (size_t)snprintf(text + at, size - at, "\r\n");
    }
    snprintf(text + at, size - at, "\r\n");
    return text;
}

static int status_of(size_t target, size_t fields, size_t value)
{
    char *text = request_with(target, fields, value);
    int status = read_text(text).status;
    free(text);
    return status;
}

static void a_request_line_beyond_its_limit_is_414(void **state)
{
    (void)state;
    size_t rest = strlen("GET / HTTP/1.1");
    assert_int_equal(status_of(limits.line_bytes - rest, 0, 0), 0);
    assert_int_equal(status_of(limits.line_bytes - rest + 1, 0, 0), 414);
    assert_int_equal(status_of(limits.head_bytes * 2, 0, 0), 414);
}

static void a_head_beyond_its_limit_is_431(void **state)
{
    (void)state;
    assert_int_equal(status_of(0, 3, 1024), 0);
    assert_int_equal(status_of(0, 4, 1024), 431);
    assert_int_equal(status_of(0, limits.fields - 1, 1), 0);
    assert_int_equal(status_of(0, limits.fields, 1), 431);
}

static void a_head_without_an_end_is_refused_before_it_ends(void **state)
{
    (void)state;
    char *text = request_with(0, 1, limits.head_bytes);
    text[limits.head_bytes + 1] = '\0';
    assert_int_equal(read_text(text).status, 431);
    free(text);
}

static void an_endless_chunk_line_or_trailer_is_refused(void **state)
{
    (void)state;
    static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    char text[32768];
    snprintf(text, sizeof text, "%s5;%0300d", head, 0);
    assert_int_equal(read_text(text).status, 400);
    snprintf(text, sizeof text, "%s0\r\nX: %09000d", head, 0);
    assert_int_equal(read_text(text).status, 400);
}

/* ---- what a request says */

static int parse(struct http *http, struct message *message, const char *text)
{
    size_t used;
    http_begin(http, HTTP_REQUEST);
    assert_int_equal(http_collect(http, &limits, text, strlen(text), &used), HTTP_DONE);
    return http_parse_request(http, message, &limits);
}

static void a_connection_goes_on_as_its_version_and_fields_say(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool keep_alive, upgrade, idempotent;
    } rows[] = {
        {"GET / HTTP/1.1\r\nHost: a\r\n\r\n", true, false, true},
        {"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false, false, false},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive, CLOSE\r\n\r\n", false, false, true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: a\r\nConnection: b, close\r\n\r\n", false, false, true},
        {"PUT / HTTP/1.0\r\n\r\n", false, false, true},
        {"DELETE / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true, false, true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", true, true, true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n", true, false, true},
        {"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", true, false, true},
        {"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", false, false, true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", true, false, true},
        {"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x, H2C\r\n\r\n", true, false, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct http http = {0};
        struct message message;
        assert_int_equal(parse(&http, &message, rows[i].text), 0);
        assert_int_equal(message.keep_alive, rows[i].keep_alive);
        assert_int_equal(message.upgrade, rows[i].upgrade);
        assert_int_equal(message.idempotent, rows[i].idempotent);
        http_release_head(&http);
    }
}

/* ---- responses */

static const struct message_asked get = {.minor = 1};
static const struct message_asked head = {.head = true, .minor = 1};
static const struct message_asked tunnel = {.connect = true, .minor = 1};
static const struct message_asked upgrade = {.upgrade = true, .minor = 1};
static const struct message_asked old = {.minor = 0};

static void a_response_ends_where_its_request_and_status_say(void **state)
{
    (void)state;
    static const struct {
        const struct message_asked *asked;
        const char *text;
        enum message_framing framing;
        bool keep_alive;
        int status;
    } rows[] = {
        {&get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", MESSAGE_LENGTH, true, 0},
        {&get, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", MESSAGE_NO_BODY, true, 0},
        {&get, "HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", MESSAGE_CHUNKED, true, 0},
        {&get, "HTTP/1.1 200 OK\r\n\r\n", MESSAGE_UNTIL_CLOSE, false, 0},
        {&get, "HTTP/1.0 200 OK\r\n\r\n", MESSAGE_UNTIL_CLOSE, false, 0},
        {&get, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", MESSAGE_LENGTH, false, 0},
        {&get, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", MESSAGE_LENGTH, true,
         0},
        {&get, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", MESSAGE_NO_BODY, true, 0},
        {&get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", MESSAGE_NO_BODY, true, 0},
        {&get, "HTTP/1.1 304 Not Modified\r\n\r\n", MESSAGE_NO_BODY, true, 0},
        {&get, "HTTP/1.1 100 Continue\r\n\r\n", MESSAGE_NO_BODY, true, 0},
        {&get, "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n", MESSAGE_NO_BODY, true, 0},
        {&head, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", MESSAGE_NO_BODY, true, 0},
        {&head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", MESSAGE_NO_BODY, true, 0},
        {&head, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", MESSAGE_NO_BODY, false, 0},
        {&tunnel, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", MESSAGE_NO_BODY, true, 0},
        {&tunnel, "HTTP/1.1 403 No\r\nContent-Length: 5\r\n\r\n", MESSAGE_LENGTH, true, 0},
        {&upgrade, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
         MESSAGE_NO_BODY, true, 0},
        {&get, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 0, false,
         400},
        {&upgrade, "HTTP/1.1 101 Switching Protocols\r\n\r\n", 0, false, 400},
        {&old, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", MESSAGE_CHUNKED, true, 0},
        {&get, "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", MESSAGE_CHUNKED, false, 0},
        {&get, "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
         MESSAGE_CHUNKED, false, 0},
        {&get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", MESSAGE_LENGTH, true, 0},
        {&get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\nContent-Length: 5\r\nZ: 1\r\n\r\n",
         MESSAGE_LENGTH, true, 0},
        {&get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 05\r\n\r\n", 0, false, 400},
        {&get, "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n", 0, false, 400},
        {&get, "HTTP/1.1 200 OK\r\nContent-Length: 010\r\n\r\n", MESSAGE_LENGTH, true, 0},
        {&get, "HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\n", MESSAGE_LENGTH, true, 0},
        {&get, "HTTP/1.1 200 OK\nContent-Length: 5\nX: y\n\n", MESSAGE_LENGTH, true, 0},
        {&get, "HTTP/1.1 200 OK\r\nX: y\nContent-Length: 5\r\n\r\n", MESSAGE_LENGTH, true, 0},
        {&get, "HTTP/1.1 200 OK\r\nX: y\rContent-Length: 5\r\n\r\n", 0, false, 400},
        {&get, "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 0, false, 400},
        {&get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 0, false, 400},
        {&get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 0, false, 400},
        {&get, "HTTP/1.1 200 OK\r\nX : a\r\n\r\n", 0, false, 400},
        {&get, "HTTP/1.1 2000 OK\r\n\r\n", 0, false, 400},
        {&get, "HTTP/1.1 20 OK\r\n\r\n", 0, false, 400},
        {&get, "HTTP/1.1 099 OK\r\n\r\n", 0, false, 400},
        {&get, "HTTP/2.0 200 OK\r\n\r\n", 0, false, 400},
        {&get, "ICY 200 OK\r\n\r\n", 0, false, 400},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct http http = {0};
        struct message message = {.framing = MESSAGE_NO_BODY};
        size_t used;
        http_begin(&http, HTTP_RESPONSE);
        int collected = http_collect(&http, &limits, rows[i].text, strlen(rows[i].text), &used);
        int status = collected;
        if (collected == HTTP_DONE)
            status = http_parse_response(&http, &message, &limits, rows[i].asked);
        status = rule_status(http_broken(status));
        if (status != rows[i].status)
            fail_msg("%s: %d", rows[i].text, status);
        if (status == 0 && (message.framing != rows[i].framing || message.keep_alive != rows[i].keep_alive))
            fail_msg("%s: framing %d, keep-alive %d", rows[i].text, message.framing, message.keep_alive);
        http_release_head(&http);
    }
}

static void an_authentication_of_a_connection_is_told_from_one_of_a_request(void **state)
{
    (void)state;
    static const struct {
        const char *field;
        bool binds;
    } rows[] = {
        {"Authorization: NTLM TlRMTVNTUAAB", true},
        {"Authorization: Negotiate YII=", true},
        {"authorization:nEGOTIATE", true},
        {"Authorization: Kerberos\tx", true},
        {"Proxy-Authorization: NTLM x", true},
        {"WWW-Authenticate: Basic realm=\"a\", NTLM, Negotiate", true},
        {"Proxy-Authenticate: NTLM", true},
        {"Persistent-Auth: true", true},
        {"Authorization: Basic TlRMTQ==", false},
        {"Authorization: Bearer ntlm", false},
        {"Authorization: NTLMX x", false},
        {"WWW-Authenticate: Digest realm=\"NTLM\"", false},
        {"X-Authorization: NTLM x", false},
        {"Accept: ntlm", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct http http = {0};
        struct message message;
        char text[128];
        snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", rows[i].field);
        assert_int_equal(parse(&http, &message, text), 0);
        if (message_binds(&message) != rows[i].binds)
            fail_msg("%s", rows[i].field);
        http_release_head(&http);
    }
}

static void an_empty_line_before_a_response_is_refused(void **state)
{
    (void)state;
    struct http http = {0};
    size_t used;
    http_begin(&http, HTTP_RESPONSE);
    assert_int_equal(http_collect(&http, &limits, "\r\n", 2, &used), -RULE_NOT_HTTP);
    http_release_head(&http);
}

static void bytes_relayed_unseen_are_counted(void **state)
{
    (void)state;
    struct http http = {0};
    struct message message;
    assert_int_equal(
        parse(&http, &message, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n"), 0);
    http_release_head(&http);
    assert_int_equal(http_unseen(&http), UINT64_C(1000000000000));
    http_skip(&http, UINT64_C(999999999999));
    assert_int_equal(http.state, HTTP_IN_BODY);
    size_t used, kept;
    char ab[] = "ab";
    assert_int_equal(http_follow(&http, ab, 2, &used, &kept), HTTP_DONE);
    assert_int_equal(used, 1);
    assert_int_equal(kept, 1);
    assert_int_equal(http_unseen(&http), 0);
}

/* What goes on of the body of a response, however it is cut into reads. */
static void expect_body(const struct message_asked *asked, const char *head_text, const char *body,
                        const char *expected)
{
    for (size_t step = 1; step <= strlen(body); step++) {
        struct http http = {0};
        struct message message;
        char bytes[512], out[512] = "";
        size_t used, kept, size = strlen(body), out_size = 0;
        int status = HTTP_MORE;
        http_begin(&http, HTTP_RESPONSE);
        assert_int_equal(http_collect(&http, &limits, head_text, strlen(head_text), &used), HTTP_DONE);
        assert_int_equal(http_parse_response(&http, &message, &limits, asked), 0);
        http_release_head(&http);
        for (size_t at = 0; at < size && status == HTTP_MORE; at += step) {
            size_t n = size - at < step ? size - at : step;
            memcpy(bytes, body + at, n);
            status = http_follow(&http, bytes, n, &used, &kept);
            if (status >= 0)
                memcpy(out + out_size, bytes, kept);
            out_size += status >= 0 ? kept : 0;
        }
        if (expected) {
            assert_int_equal(status, HTTP_DONE);
            assert_string_equal(out, expected);
        } else {
            assert_true(status < 0);
        }
    }
}

#define CHUNKED_OK "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static void what_stands_behind_a_size_does_not_go_on(void **state)
{
    (void)state;
    static const char plain[] = "5\r\nhello\r\n0\r\nX: y\r\n\r\n";
    expect_body(&get, CHUNKED_OK, plain, plain);
    expect_body(&get, CHUNKED_OK, "5  \r\nhello\r\n0 \t\r\nX: y\r\n\r\n", plain);
    expect_body(&get, CHUNKED_OK, "5 ; a = \"\\\";\"\r\nhello\r\n0;b\r\nX: y\r\n\r\n", plain);
    expect_body(&get, CHUNKED_OK, "5 x\r\nhello\r\n0\r\n\r\n", NULL);
    expect_body(&get, CHUNKED_OK, "5;\"\r\nhello\r\n0\r\n\r\n", NULL);
    expect_body(&get, CHUNKED_OK, "5\nhello\n0\n\n", NULL);
}

static void who_asked_by_http_1_0_gets_what_is_in_the_chunks(void **state)
{
    (void)state;
    expect_body(&old, CHUNKED_OK, "5\r\nhello\r\nA;x\r\n, world!!\n\r\n0\r\nX: y\r\n\r\n",
                "hello, world!!\n");
    expect_body(&old, CHUNKED_OK, "0\r\n\r\n", "");
    expect_body(&old, CHUNKED_OK, "5\r\nhelloo\r\n0\r\n\r\n", NULL);
}

static void a_flaw_is_found_when_its_line_ends(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum rule rule;
    } rows[] = {
        {"GET  / HTTP/1.1\r\n", RULE_VERSION_FORM},
        {"GET /\r\n", RULE_REQUEST_LINE},
        {"GET / HTTP/2.0\r\n", RULE_VERSION},
        {"get / HTTP/1.1\r\n", RULE_METHOD_CASE},
        {"GET x HTTP/1.1\r\n", RULE_TARGET},
        {"GET / HTTP/1.1\r\nX : y\r\n", RULE_FIELD_NAME},
        {"GET / HTTP/1.1\r\n x: y\r\n", RULE_FOLDED},
        {"GET / HTTP/1.1\r\nX\r\n", RULE_NO_COLON},
        {"GET / HTTP/1.1\r\nContent_Length: 1\r\n", RULE_DISGUISED},
        {"GET / HTTP/1.1\r\nX: y\n", RULE_LINE_ENDS},
        {"\x16", RULE_FIRST_BYTE},
        {"GET / HTTP/1.1\r\nX: a\rb", RULE_BARE_CR},
        {"GET / HTTP/1.1\r\nX: \x01", RULE_CONTROL},
        {"\r\n\r\n\r\n", RULE_EMPTY_LINES},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct http http = {0};
        size_t used;
        http_begin(&http, HTTP_REQUEST);
        assert_int_equal(http_collect(&http, &limits, rows[i].text, strlen(rows[i].text), &used),
                         -(int)rows[i].rule);
        assert_int_equal(used, strlen(rows[i].text));
        assert_true(rule_status(rows[i].rule) >= 400 && *rule_words(rows[i].rule));
        http_release_head(&http);
    }
}

static void bare_lf_and_connect_may_be_refused(void **state)
{
    (void)state;
    struct message_limits strict = limits;
    struct http http = {0};
    struct message message;
    size_t used;
    static const char connect[] = "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n";
    strict.bare_lf = strict.connect = false;
    http_begin(&http, HTTP_REQUEST);
    assert_int_equal(http_collect(&http, &strict, "GET / HTTP/1.1\n", 15, &used), -RULE_BARE_LF);
    http_begin(&http, HTTP_RESPONSE);
    assert_int_equal(http_collect(&http, &strict, "HTTP/1.1 200\n", 13, &used), -RULE_BARE_LF);
    http_begin(&http, HTTP_REQUEST);
    assert_int_equal(http_collect(&http, &strict, connect, strlen(connect), &used), HTTP_DONE);
    assert_int_equal(http_parse_request(&http, &message, &strict), -RULE_CONNECT);
    assert_int_equal(rule_status(RULE_CONNECT), 405);
    http_release_head(&http);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case_has_its_verdict_however_it_is_split),
        cmocka_unit_test(the_corpus_has_at_least_150_cases),
        cmocka_unit_test(a_request_line_beyond_its_limit_is_414),
        cmocka_unit_test(a_head_beyond_its_limit_is_431),
        cmocka_unit_test(a_head_without_an_end_is_refused_before_it_ends),
        cmocka_unit_test(an_endless_chunk_line_or_trailer_is_refused),
        cmocka_unit_test(a_connection_goes_on_as_its_version_and_fields_say),
        cmocka_unit_test(a_response_ends_where_its_request_and_status_say),
        cmocka_unit_test(an_authentication_of_a_connection_is_told_from_one_of_a_request),
        cmocka_unit_test(an_empty_line_before_a_response_is_refused),
        cmocka_unit_test(bytes_relayed_unseen_are_counted),
        cmocka_unit_test(what_stands_behind_a_size_does_not_go_on),
        cmocka_unit_test(who_asked_by_http_1_0_gets_what_is_in_the_chunks),
        cmocka_unit_test(a_flaw_is_found_when_its_line_ends),
        cmocka_unit_test(bare_lf_and_connect_may_be_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
