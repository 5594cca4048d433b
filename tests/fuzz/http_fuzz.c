/* Fuzzes the follower of HTTP messages and the writer of heads. However a stream of requests is cut into
 * reads, the same messages are found in it, and it is refused behind the same one with the same status. A
 * request as it is passed on reads as the same request. */

#include "proxy/plane/head.h"
#include "proxy/plane/http.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct message_limits limits = {.head_bytes = 4096, .line_bytes = 1024, .fields = 20};

struct reader {
    struct http http;
    bool in_body;
    int status;
    size_t taken;  /* bytes, the one at which it was refused included */
    uint64_t hash; /* of the places where messages ended */
};

static void check_rewritten(const struct message *request)
{
    static const struct head_origin origin = {
        .forwarded = CONF_FORWARDED_X, .via = true, .address = "192.0.2.1", .request_id = "made"};
    char space[4096 + HEAD_ADDED_MAX];
    struct message_limits wider = {.head_bytes = sizeof space, .line_bytes = 1024, .fields = 40};
    struct message again;
    size_t size = head_write_request(space, sizeof space, request, &origin, HEAD_CLOSE);
    assert(size > 0);
    assert(message_parse_request(&again, space, size, &wider) == 0);
    assert(again.framing == request->framing && again.length == request->length);
    assert(again.upgrade == request->upgrade && again.minor == request->minor);
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

static void feed(struct reader *reader, const char *bytes, size_t size)
{
    while (reader->status == 0) {
        size_t used = 0;
        int status = reader->in_body ? http_follow(&reader->http, bytes, size, &used)
                                     : take_head(reader, bytes, size, &used);
        assert(used <= size);
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
    http_begin(&reader.http, HTTP_REQUEST);
    for (size_t at = 0; at < size; at += step)
        feed(&reader, bytes + at, size - at < step ? size - at : step);
    http_release_head(&reader.http);
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
            assert(pieces.http.state == whole.http.state && pieces.http.body_left == whole.http.body_left);
    }
    return 0;
}
