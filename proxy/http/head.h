#ifndef PROXY_HTTP_HEAD_H
#define PROXY_HTTP_HEAD_H

/* Writes the head of a message as it goes on: without the fields that concern one connection only (RFC 9110,
 * 7.6.1), with what the next one has to know. Everything else goes on as it came, in its order.
 *
 * Pure: bytes into a space of the caller's. Any thread. */

#include "conf/conf.h"
#include "proxy/http/message.h"

#include <stdbool.h>
#include <stddef.h>

/* What a request tells the backend about its client. */
struct head_origin {
    enum conf_forwarded forwarded;
    bool trusted; /* what the client says of those before it is believed */
    bool via;
    bool ipv6;
    const char *address;    /* without brackets and port; "unknown" if it has none */
    const char *request_id; /* for one that brings none; NULL: leave the field alone */
};

/* What becomes of the connection that the message is sent on. */
enum head_connection { HEAD_KEEP, HEAD_CLOSE };

/* What a rewritten head is longer than the one read at most, beside the value of the forwarding field. */
enum { HEAD_ADDED_MAX = 2048, HEAD_REQUEST_ID_MAX = 128 };

/* The request id that goes on: the client's if it is good, or the one made. Empty: the field is left. */
struct message_text head_request_id(const struct message *request, const struct head_origin *origin);

/* The size written, or 0: there was not enough space. A space of the head's own size + HEAD_ADDED_MAX is. */
size_t head_write_request(char *space, size_t size, const struct message *request,
                          const struct head_origin *origin, enum head_connection connection);

/* `asked_minor`: HTTP/1.minor of the request. */
size_t head_write_response(char *space, size_t size, const struct message *response, uint8_t asked_minor,
                           bool via, enum head_connection connection);

#endif
