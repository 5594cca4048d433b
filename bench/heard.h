#ifndef BENCH_HEARD_H
#define BENCH_HEARD_H

/* What one end of a connection has heard: how many bytes, whether all of them are those that were sent,
 * and, in HTTP, which messages they make.
 *
 * Whatever the yardstick sends is a pattern in which a byte follows from its offset, so the listening
 * end needs no copy to compare with: one byte lost, doubled or changed shows at once. On a TCP stream
 * the offset counts from the first byte behind the tag, in HTTP from the beginning of each body. Pure:
 * no socket, no clock. The caller owns the struct; one thread. It allocates nothing.
 *
 * The tag is how the backend knows whose connection it got through the proxy: 16 bytes at the head of a
 * stream ("LASTACK%08x\n"), or in HTTP the beginning of the request's path ("/LASTACK%08x/"). */

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HEARD_TAG_BYTES = 16, HEARD_STATUSES = 16 };

struct heard {
    bool http;
    bool is_lenient; /* count, don't compare */
    bool awaits_tag; /* a backend's end: the first bytes say whose it is */
    bool has_tag;
    uint32_t tag;
    uint64_t bytes;     /* of the stream behind the tag; of an HTTP end, all */
    uint64_t raw_bytes; /* all, the tag too */
    bool is_wrong;      /* some byte was not the one that was sent, or it is no HTTP */
    uint64_t wrong_at;  /* its offset */
    char tag_text[HEARD_TAG_BYTES];
    size_t tag_length;

    /* HTTP */
    llhttp_t parser;
    unsigned begun, heads, complete; /* messages; interim responses are counted by themselves */
    unsigned interim;
    uint16_t status[HEARD_STATUSES]; /* of the final responses, in their order */
    uint64_t body_bytes;             /* of the message under way, or of the last one */
    bool is_head[HEARD_STATUSES];    /* what the n-th request asked for, so that its answer has no body */
    bool is_connect[HEARD_STATUSES];
    bool is_tunnel; /* upgraded: what follows are bytes of a stream */
    uint64_t tunnel_bytes;
    char target[64];
    size_t target_length;
    uint8_t method;
    bool keeps_alive; /* as the last complete message says */
};

/* The byte at that offset of the pattern. */
uint8_t heard_pattern(uint64_t offset);

/* The tag as it stands at the head of a stream, and, without its '\n', in a path. */
void heard_tag_text(uint32_t tag, char text[static HEARD_TAG_BYTES + 1]);

/* For an end that hears requests (`backend`) or answers. The struct must not move afterwards. */
void heard_init(struct heard *heard, bool http, bool backend);

/* Takes the next bytes. */
void heard_take(struct heard *heard, const void *bytes, size_t length);

/* The peer's FIN came: a body that ends with its connection is complete now. */
void heard_end(struct heard *heard);

/* Whether a message has begun and is not complete. */
bool heard_is_amid(const struct heard *heard);

/* The status of the n-th final response, or 0. */
unsigned heard_status(const struct heard *heard, unsigned n);

#endif
