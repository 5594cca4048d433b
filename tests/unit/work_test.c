#include "tests/unit/cmocka.h"

#include "proxy/http/answer.h"
#include "proxy/http/head.h"
#include "proxy/http/http.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* No work on a message grows faster than its bytes. The compiler makes each block of the code under test
 * call __sanitizer_cov_trace_pc() (-fsanitize-coverage=trace-pc), and memchr() is one of ours: both count
 * steps. */

/* The dearest of the heads below takes a third of it; a walk for each field would take thousands. */
enum { BYTES = 16384, STEPS_A_BYTE = 400 };

static uint64_t steps;

void __sanitizer_cov_trace_pc(void);
void __sanitizer_cov_trace_pc(void)
{
    steps++;
}

void *counted_memchr(const void *bytes, int byte, size_t size);
void *counted_memchr(const void *bytes, int byte, size_t size)
{
    void *found = memchr(bytes, byte, size);
    steps += found ? (uint64_t)((const char *)found - (const char *)bytes) : size;
    return found;
}

static const struct message_limits limits = {
    .head_bytes = 2 * BYTES, .line_bytes = BYTES, .fields = MESSAGE_FIELDS_MAX, .bare_lf = true};

static bool is_websocket(struct message_text token, const void *context)
{
    (void)context;
    return message_text_is(token, "websocket");
}

static void work_on_request(struct http *http)
{
    static const struct head_origin origin = {.forwarded = CONF_FORWARDED_X,
                                              .trusted = true,
                                              .via = true,
                                              .address = "192.0.2.1",
                                              .request_id = "made"};
    static char space[4 * BYTES];
    struct message request;
    if (http_parse_request(http, &request, &limits))
        return;
    message_forgo_upgrades(&request, is_websocket, NULL);
    (void)answer_format(&request);
    (void)message_binds(&request);
    (void)head_request_id(&request, &origin);
    assert_true(head_write_request(space, sizeof space, &request, &origin, HEAD_KEEP) > 0);
}

static void work_on_response(struct http *http)
{
    static const struct message_asked asked = {.minor = 1};
    static char space[4 * BYTES];
    struct message response;
    if (http_parse_response(http, &response, &limits, &asked))
        return;
    (void)message_binds(&response);
    assert_true(head_write_response(space, sizeof space, &response, 1, true, HEAD_KEEP) > 0);
}

/* Reads the head by pieces of that size, and what follows it as its body. */
static void work_on(llhttp_type_t type, const char *text, size_t size, size_t piece)
{
    struct http http = {0};
    char *bytes = malloc(size);
    assert_non_null(bytes);
    memcpy(bytes, text, size);
    http_begin(&http, type);
    int status = HTTP_MORE;
    bool in_body = false;
    for (size_t at = 0; at < size && status >= 0 && (!in_body || http.state == HTTP_IN_BODY);) {
        size_t n = size - at < piece ? size - at : piece, used, kept;
        if (in_body) {
            status = http_follow(&http, bytes + at, n, &used, &kept);
        } else if ((status = http_collect(&http, &limits, bytes + at, n, &used)) == HTTP_DONE) {
            type == HTTP_REQUEST ? work_on_request(&http) : work_on_response(&http);
            in_body = true;
        }
        at += used;
    }
    http_release_head(&http);
    free(bytes);
}

struct shape {
    const char *name, *first, *repeated, *last;
    unsigned fields; /* "X: y" between the repeated part and the last */
    unsigned times;  /* 0: as often as there is room for */
    llhttp_type_t type;
};

#define REQUEST "GET / HTTP/1.1\r\nHost: a\r\n"
#define RESPONSE "HTTP/1.1 200 OK\r\n"

static const struct shape shapes[] = {
    {"nothing in Connection", REQUEST "Connection: ", ",", "a\r\n", 98, 0, HTTP_REQUEST},
    {"close in Connection", REQUEST "Connection: ", "close,", "a\r\n", 98, 0, HTTP_REQUEST},
    {"names in Connection", REQUEST "Connection: ", "X,", "X\r\n", 240, 31, HTTP_REQUEST},
    {"too many names in Connection", REQUEST "Connection: ", "X,", "X\r\n", 98, 0, HTTP_REQUEST},
    {"Connection fields", REQUEST, "Connection: ,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,close\r\n", "", 0, 240,
     HTTP_REQUEST},
    {"Upgrade", REQUEST "Connection: upgrade\r\nUpgrade: ", "websocket,", "h\r\n", 98, 0, HTTP_REQUEST},
    {"nothing in Upgrade", REQUEST "Connection: upgrade\r\nUpgrade: ", ",", "h\r\n", 98, 0, HTTP_REQUEST},
    {"Accept", REQUEST "Accept: ", "text/html;q=0.1,", "a\r\n", 98, 0, HTTP_REQUEST},
    {"short ranges in Accept", REQUEST "Accept: ", "a,", "a\r\n", 98, 0, HTTP_REQUEST},
    {"blanks in Accept", REQUEST "Accept: ", "text/html ; q=0.1 ,", "a\r\n", 98, 0, HTTP_REQUEST},
    {"one range in Accept", REQUEST "Accept: text/html;", "; ", "a\r\n", 98, 0, HTTP_REQUEST},
    {"schemes", REQUEST "Authorization: ", "ntl,", "a\r\n", 98, 0, HTTP_REQUEST},
    {"Via", REQUEST, "Via: 1.1 a\r\n", "", 0, 250, HTTP_REQUEST},
    {"X-Forwarded-For", REQUEST, "X-Forwarded-For: 1.2.3.4\r\n", "", 0, 250, HTTP_REQUEST},
    {"X-Forwarded-Proto", REQUEST, "X-Forwarded-Proto: a\r\n", "", 0, 250, HTTP_REQUEST},
    {"X-Request-Id", REQUEST, "X-Request-Id: a b\r\n", "", 0, 250, HTTP_REQUEST},
    {"short fields", REQUEST, "a:\r\n", "", 0, 250, HTTP_REQUEST},
    {"fields named almost like ours", REQUEST, "proxy-authenticatf:\r\n", "", 0, 250, HTTP_REQUEST},
    {"Host", REQUEST, "Host: a\r\n", "", 0, 250, HTTP_REQUEST},
    {"a long target", "GET /", "a", " HTTP/1.1\r\nHost: a\r\n", 98, 16000, HTTP_REQUEST},
    {"a long absolute target", "GET http://", "a", "/ HTTP/1.1\r\nHost: a\r\n", 98, 16000, HTTP_REQUEST},
    {"a long value", REQUEST "X: ", "a", "\r\n", 98, 0, HTTP_REQUEST},
    {"white space", REQUEST "X: ", " ", "\r\n", 98, 0, HTTP_REQUEST},
    {"LF", "GET / HTTP/1.1\nHost: a\n", "a:\n", "", 0, 250, HTTP_REQUEST},
    {"the same length", RESPONSE, "Content-Length: 5\r\n", "", 0, 250, HTTP_RESPONSE},
    {"challenges", RESPONSE "WWW-Authenticate: ", "ntl,", "a\r\n", 98, 0, HTTP_RESPONSE},
    {"names in a response's Connection", RESPONSE "Connection: ", "X,", "X\r\n", 240, 31, HTTP_RESPONSE},
};

static size_t write_shape(const struct shape *shape, char *text)
{
    size_t tail = strlen(shape->last) + shape->fields * strlen("X: y\r\n") + 2;
    size_t at = (size_t)sprintf(text, "%s", shape->first);
    for (unsigned i = 0; shape->times ? i < shape->times : at + strlen(shape->repeated) + tail < BYTES; i++)
        at += (size_t)sprintf(text + at, "%s", shape->repeated);
    at += (size_t)sprintf(text + at, "%s", shape->last);
    for (unsigned i = 0; i < shape->fields; i++)
        at += (size_t)sprintf(text + at, "X: y\r\n");
    return at + (size_t)sprintf(text + at, "\r\n");
}

static void expect_linear(const char *name, llhttp_type_t type, const char *text, size_t size)
{
    static const size_t pieces[] = {1, 100, 65536};
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        steps = 0;
        work_on(type, text, size, pieces[i]);
        if (steps > STEPS_A_BYTE * (uint64_t)size)
            fail_msg("%s by %zu: %llu steps for %zu bytes, %llu a byte", name, pieces[i],
                     (unsigned long long)steps, size, (unsigned long long)(steps / size));
        if (getenv("VERBOSE"))
            print_message("%s by %zu: %llu a byte\n", name, pieces[i], (unsigned long long)(steps / size));
        assert_true(steps > 0);
    }
}

static void no_work_on_a_head_grows_faster_than_its_bytes(void **state)
{
    (void)state;
    static char text[2 * BYTES];
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        expect_linear(shapes[i].name, shapes[i].type, text, write_shape(&shapes[i], text));
}

static void no_work_on_chunks_grows_faster_than_their_bytes(void **state)
{
    (void)state;
    static const char *const chunks[] = {
        "1\r\na\r\n",
        "1;a=\"\\b\";c\r\na\r\n",
        "000000000000001 ;                                                      a\r\na\r\n",
    };
    static char text[BYTES];
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        size_t at = (size_t)sprintf(text, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        while (at + strlen(chunks[i]) + 2048 < BYTES)
            at += (size_t)sprintf(text + at, "%s", chunks[i]);
        at += (size_t)sprintf(text + at, "0\r\n");
        while (at + 16 < BYTES)
            at += (size_t)sprintf(text + at, "a:\r\n");
        at += (size_t)sprintf(text + at, "\r\n");
        expect_linear(chunks[i], HTTP_REQUEST, text, at);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_work_on_a_head_grows_faster_than_its_bytes),
        cmocka_unit_test(no_work_on_chunks_grows_faster_than_their_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
