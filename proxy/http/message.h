#ifndef PROXY_HTTP_MESSAGE_H
#define PROXY_HTTP_MESSAGE_H

/* What the head of an HTTP/1 message says, read strictly (RFC 9110, RFC 9112).
 *
 * A message that two readers could take for two different ones is how requests are smuggled past a proxy,
 * so what the RFCs leave to robustness is refused here where it could be taken in two ways: several or odd
 * Content-Length, any Transfer-Encoding but exactly `chunked`, both at once, white space before a colon,
 * folded lines, a bare CR, control characters, a doubtful Host (proxy/http/rule.h has all of them). Lines
 * and bytes were checked while the head came in (proxy/http/http.h).
 *
 * No work on a head grows faster than its bytes: whatever walks the fields is called a bounded number of
 * times.
 *
 * Pure: a message points into the bytes it was read from and owns nothing. Any thread. */

#include "proxy/http/rule.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Fields that mean something to a proxy. The rest is MESSAGE_OTHER. */
#define MESSAGE_NAME_MAP(X)                                                                                  \
    X(MESSAGE_ACCEPT, "accept")                                                                              \
    X(MESSAGE_AUTHORIZATION, "authorization")                                                                \
    X(MESSAGE_CONNECTION, "connection")                                                                      \
    X(MESSAGE_CONTENT_LENGTH, "content-length")                                                              \
    X(MESSAGE_CONTENT_TYPE, "content-type")                                                                  \
    X(MESSAGE_EXPECT, "expect")                                                                              \
    X(MESSAGE_FORWARDED, "forwarded")                                                                        \
    X(MESSAGE_HOST, "host")                                                                                  \
    X(MESSAGE_HTTP2_SETTINGS, "http2-settings")                                                              \
    X(MESSAGE_KEEP_ALIVE, "keep-alive")                                                                      \
    X(MESSAGE_PERSISTENT_AUTH, "persistent-auth")                                                            \
    X(MESSAGE_PROXY_AUTHENTICATE, "proxy-authenticate")                                                      \
    X(MESSAGE_PROXY_AUTHORIZATION, "proxy-authorization")                                                    \
    X(MESSAGE_PROXY_CONNECTION, "proxy-connection")                                                          \
    X(MESSAGE_TE, "te")                                                                                      \
    X(MESSAGE_TRANSFER_ENCODING, "transfer-encoding")                                                        \
    X(MESSAGE_UPGRADE, "upgrade")                                                                            \
    X(MESSAGE_VIA, "via")                                                                                    \
    X(MESSAGE_WWW_AUTHENTICATE, "www-authenticate")                                                          \
    X(MESSAGE_X_FORWARDED_FOR, "x-forwarded-for")                                                            \
    X(MESSAGE_X_FORWARDED_PROTO, "x-forwarded-proto")                                                        \
    X(MESSAGE_X_REQUEST_ID, "x-request-id")

enum message_name {
#define X(constant, name) constant,
    MESSAGE_NAME_MAP(X)
#undef X
        MESSAGE_OTHER,
    MESSAGE_NAME_COUNT
};

/* No head may have more fields, whatever is configured. */
enum { MESSAGE_FIELDS_MAX = 256 };

/* Longest host and port of an absolute target: a name has 253 bytes at most. */
enum { MESSAGE_AUTHORITY_MAX = 264 };

struct message_text {
    const char *at; /* not terminated */
    size_t size;
};

struct message_field {
    struct message_text name, value; /* the value without white space around it */
    uint8_t id;                      /* enum message_name */
    bool disguised; /* named so only by those who take '_' for '-', as CGI's variables (RFC 3875, 4.1.18) */
    bool nominated; /* a Connection field names it: it goes no further (RFC 9110, 7.6.1) */
    bool repeated;  /* it says again what another has said, and goes no further */
};

enum message_framing {
    MESSAGE_NO_BODY,
    MESSAGE_LENGTH, /* `length` bytes, at least one */
    MESSAGE_CHUNKED,
    MESSAGE_UNTIL_CLOSE, /* responses only */
};

struct message {
    struct message_text method, target; /* requests */
    struct message_text authority;      /* of an absolute target: it decides over Host; else empty */
    struct message_text reason;         /* responses; may be empty */
    uint16_t status;                    /* responses */
    uint8_t minor;                      /* HTTP/1.minor, 0 or 1 */
    uint8_t framing;                    /* enum message_framing */
    uint64_t length;                    /* what Content-Length says, whatever the framing; 0: nothing */
    bool keep_alive;                    /* the sender would go on after this message */
    bool upgrade;                       /* an upgrade to something other than HTTP/2 is asked for, or given */
    bool idempotent;                    /* requests: may be sent twice (RFC 9110, 9.2.2) */
    bool is_head, is_connect;
    bool bodyless; /* responses: it has no body, whatever its fields say */
    bool unwrap;   /* responses: what is in its chunks goes on without them, until close */
    size_t field_count;
    struct message_field fields[MESSAGE_FIELDS_MAX];
};

struct message_limits {
    uint32_t head_bytes;
    uint32_t line_bytes; /* of the request line */
    uint32_t fields;     /* at most MESSAGE_FIELDS_MAX */
    bool connect;        /* CONNECT is served */
    bool bare_lf;        /* lines may end in LF alone, if all of a request do */
};

/* What a response has to be read with: the request that it answers. */
struct message_asked {
    bool head, connect, upgrade;
    uint8_t minor;
};

/* Reads the whole head of a request, its last empty line included. RULE_NONE, or the rule that it breaks. */
enum rule message_parse_request(struct message *message, const char *head, size_t size,
                                const struct message_limits *limits);

/* The same for a response. */
enum rule message_parse_response(struct message *message, const char *head, size_t size,
                                 const struct message_limits *limits, const struct message_asked *asked);

/* What a line without its end says by itself, so that a head is refused when the flaw is there and not when
 * it ends. `first`: it is the request line or the status line. */
enum rule message_check_line(const char *line, size_t size, bool first, bool response);

/* Makes an ordinary request of one that asks for an upgrade to anything that may not be. */
void message_forgo_upgrades(struct message *message,
                            bool (*may)(struct message_text token, const void *context), const void *context);

/* A method with a meaning to us; others are passed on as they are. */
bool message_knows_method(struct message_text method);

/* The first field of that name, or NULL. */
const struct message_field *message_find(const struct message *message, enum message_name id);

/* Whether it has to do with an authentication that holds for the whole connection, and not for one request:
 * NTLM, Negotiate and Kerberos (RFC 4559, 6). Whoever else used that connection would do so in its name. */
bool message_binds(const struct message *message);

/* Whether it is a stream of events that may be silent for long: text/event-stream. */
bool message_streams(const struct message *message);

bool message_text_is(struct message_text text, const char *lower_case);

/* The next element of a comma-separated list, *rest moved behind it; false when there is none. Empty elements
 * are skipped (RFC 9110, 5.6.1). */
bool message_next_element(struct message_text *rest, struct message_text *element);

const char *message_name_text(enum message_name id);

/* What a byte may be part of (RFC 9110, 5.6.2 and 5.5). */
bool message_is_token(unsigned char byte);
bool message_is_field_byte(unsigned char byte);

#endif
