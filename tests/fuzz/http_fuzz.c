/* Fuzzes the follower of HTTP messages and the writer of heads. However a stream of requests is cut into
 * reads, the same messages are found in it, the same bytes of them go on, and it is refused behind the same
 * one for the same rule. A request as it is passed on reads as the same request. And the work grows no
 * faster than the bytes: the functions under test are compiled so that each call is counted. */

#include "proxy/http/head.h"
#include "proxy/http/http.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct message_limits limits = {
    .head_bytes = 4096, .line_bytes = 1024, .fields = 20, .connect = true, .bare_lf = true};

/* Calls for a byte that is read; what a field or a request costs besides is spread over the fewest bytes
 * that it can have. */
enum { CALLS_A_BYTE = 200, CALLS_AT_LEAST = 10000 };

static uint64_t calls;

void __cyg_profile_func_enter(void *function, void *caller);
void __cyg_profile_func_exit(void *function, void *caller);

void __cyg_profile_func_enter(void *function, void *caller)
{
    (void)function;
    (void)caller;
    calls++;
}

void __cyg_profile_func_exit(void *function, void *caller)
{
    (void)function;
    (void)caller;
}

struct reader {
    struct http http;
    bool in_body;
    int status;
    size_t taken;  /* bytes, the one at which it was refused included */
    uint64_t hash; /* of the places where messages ended */
    uint64_t kept; /* the same of the bytes of bodies that go on */
};

static void check_rewritten(const struct message *request)
{
    static const struct head_origin origin = {
        .forwarded = CONF_FORWARDED_X, .via = true, .address = "192.0.2.1", .request_id = "made"};
    char space[4096 + HEAD_ADDED_MAX];
    struct message_limits wider = {
        .head_bytes = sizeof space, .line_bytes = 1024, .fields = 40, .connect = true};
    struct message again;
    size_t size = head_write_request(space, sizeof space, request, &origin, HEAD_CLOSE);
    assert(size > 0);
    assert(message_parse_request(&again, space, size, &wider) == 0);
    assert(again.framing == request->framing && again.length == request->length);
    assert(again.upgrade == request->upgrade && again.minor == request->minor);
    assert(again.authority.size == 0 ||
           message_find(&again, MESSAGE_HOST)->value.size == again.authority.size);
    assert(again.target.size == request->target.size &&
           memcmp(again.target.at, request->target.at, again.target.size) == 0);
}

static int take_head(struct reader *reader, const char *bytes, size_t size, size_t *used)
{
    struct message request;
    int status = http_collect(&reader->http, &limits, bytes, size, used);
    if (status != HTTP_DONE)
        return status;
    status = http_parse_request(&reader->http, &request, &limits);
    if (status == 0)
        check_rewritten(&request);
    http_release_head(&reader->http);
    reader->in_body = status == 0;
    return status;
}

static void feed(struct reader *reader, char *bytes, size_t size)
{
    while (reader->status == 0) {
        size_t used = 0, kept = 0;
        int status = reader->in_body ? http_follow(&reader->http, bytes, size, &used, &kept)
                                     : take_head(reader, bytes, size, &used);
        assert(used <= size && kept <= used);
        for (size_t i = 0; i < kept; i++)
            reader->kept = reader->kept * 31 + (unsigned char)bytes[i];
        bytes += used;
        size -= used;
        reader->taken += used;
        if (status < 0) {
            reader->status = status;
        } else if (reader->in_body && reader->http.state == HTTP_COMPLETE) {
            reader->hash = reader->hash * 31 + reader->taken;
            reader->in_body = false;
            http_begin(&reader->http, HTTP_REQUEST);
        } else if (size == 0) {
            return;
        }
    }
}

/* By reads of one size. */
static struct reader read_by(const char *bytes, size_t size, size_t step)
{
    struct reader reader = {0};
    char *copy = malloc(size + 1);
    assert(copy);
    memcpy(copy, bytes, size);
    calls = 0;
    http_begin(&reader.http, HTTP_REQUEST);
    for (size_t at = 0; at < size; at += step)
        feed(&reader, copy + at, size - at < step ? size - at : step);
    http_release_head(&reader.http);
    assert(calls <= CALLS_A_BYTE * (uint64_t)size + CALLS_AT_LEAST);
    free(copy);
    return reader;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    static const size_t steps[] = {1, 2, 7, 64};
    struct reader whole = read_by(bytes, size, size ? size : 1);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct reader pieces = read_by(bytes, size, steps[i]);
        assert(pieces.status == whole.status && pieces.hash == whole.hash);
        if (whole.status == 0)
            assert(pieces.http.state == whole.http.state && pieces.http.body_left == whole.http.body_left &&
                   pieces.kept == whole.kept);
    }
    return 0;
}
