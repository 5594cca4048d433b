#ifndef PROXY_HTTP_HTTP_H
#define PROXY_HTTP_HTTP_H

/* Follows the HTTP/1 messages of one half: bytes in, boundaries out.
 *
 *   http_begin()      the next message
 *   http_collect()    its head, byte by byte if need be, into a buffer that exists only meanwhile
 *   http_parse_*()    what the head says (proxy/http/message.h); from now on the end is known
 *   http_follow()     how many of these bytes still belong to it, which go on, and whether it is complete
 *
 * Every head is read twice, by message.c and by llhttp, and so is every byte of chunked framing that goes
 * on, by the automaton here and by llhttp: a message on which the two do not agree is refused. Bodies are
 * counted, never kept.
 *
 * Pure: no socket, no clock. A follower belongs to its caller, who gives its head back with
 * http_release_head(). One thread at a time. */

#include "proxy/http/message.h"

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum http_state {
    HTTP_IN_HEAD,
    HTTP_IN_BODY,
    HTTP_COMPLETE,
};

struct http {
    llhttp_t parser;
    char *head; /* what has come of it; NULL: nothing */
    uint32_t head_size, head_capacity;
    uint32_t line_start; /* where the last line of the head begins */
    uint8_t state;       /* enum http_state */
    uint8_t framing;     /* enum message_framing */
    uint8_t chunk_state; /* enum chunk_state, http.c */
    uint8_t digits;      /* of a chunk's size */
    uint8_t empty_lines; /* before the request */
    bool crlf, bare_lf;  /* lines have ended in CR LF, in LF alone */
    bool bodyless;       /* whatever the head says, for llhttp */
    bool unwraps;        /* only what is in its chunks goes on */
    char *unwrapped;     /* where the next of it goes to; in http_follow() only */
    bool agreed;         /* llhttp came to the end of the message */
    uint16_t line_bytes; /* of the present line of chunked framing */
    uint32_t trailer_bytes;
    char trailer_name[20]; /* its first letters; longer ones are not of interest */
    uint64_t body_left;    /* of a body with a length, or of a chunk */
};

/* How a step came out; a rule that was broken is negative (-RULE_BARE_CR). */
enum { HTTP_MORE = 0, HTTP_DONE = 1 };

static inline enum rule http_broken(int status)
{
    return (enum rule)(-status);
}

/* Empty lines that may stand before a request (RFC 9112, 2.2). */
enum { HTTP_EMPTY_LINES = 2 };

/* Starts on a message. What the follower still had of another one is given back. */
void http_begin(struct http *http, llhttp_type_t type);

/* Takes bytes of the head, *used of them. HTTP_MORE: all were taken. HTTP_DONE: the head is complete.
 * Negative: a rule was broken, and each line is judged as it ends. Before a request there may be empty
 * lines. */
int http_collect(struct http *http, const struct message_limits *limits, const char *bytes, size_t size,
                 size_t *used);

/* Reads the complete head into `message`, which points into the follower's buffer. 0 or negative: the rule
 * that was broken. */
int http_parse_request(struct http *http, struct message *message, const struct message_limits *limits);
int http_parse_response(struct http *http, struct message *message, const struct message_limits *limits,
                        const struct message_asked *asked);

void http_release_head(struct http *http);

/* Looks at bytes of the body; *used of them belong to the message, and the first *kept are what goes on of
 * those: bytes that do not are moved over. HTTP_MORE: all belong to it, and it goes on. HTTP_DONE: it is
 * complete. Negative: a rule was broken, and none goes on. */
int http_follow(struct http *http, char *bytes, size_t size, size_t *used, size_t *kept);

/* How many bytes of the body can be relayed unseen; told of by http_skip(). UINT64_MAX: until the end. 0:
 * each has to be followed. */
uint64_t http_unseen(const struct http *http);
void http_skip(struct http *http, uint64_t bytes);

/* Whether nothing of a message has come yet. */
static inline bool http_untouched(const struct http *http)
{
    return http->state == HTTP_IN_HEAD && http->head_size == 0;
}

/* Whether the end of the stream ends the message in order. */
static inline bool http_may_end(const struct http *http)
{
    return http->state == HTTP_IN_BODY && http->framing == MESSAGE_UNTIL_CLOSE;
}

#endif
