#ifndef PROXY_SOCKET_PROXY_HEADER_H
#define PROXY_SOCKET_PROXY_HEADER_H

/* The PROXY protocol's header, versions 1 and 2: read from the first bytes of a connection, and written as
 * the first bytes of one. It tells a server who the client of the proxy before it is.
 *
 *   v1   PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n
 *   v2   signature (12) | version, command | family, protocol | length (2) | addresses | TLV, TLV ...
 *
 * Pure: bytes in, a struct out, and back. No allocation, no system call; any thread. Reading is strict: what
 * the specification does not allow is refused as soon as it is seen, and nothing is guessed. Whether a client
 * may be believed is the caller's to know.
 *
 * Source: "The PROXY protocol, versions 1 & 2" (haproxy, doc/proxy-protocol.txt). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* Bytes that a header may have. The specification asks for 107 in v1 and speaks of 536 in v2; balancers that
 * add what they know of a TLS connection send more. */
enum { PROXY_HEADER_MAX = 4096 };

/* constant, what was found and what is allowed */
#define PROXY_HEADER_ERROR_MAP(X)                                                                            \
    X(PROXY_HEADER_FOREIGN, "the first bytes are neither \"PROXY \" nor the signature of version 2")         \
    X(PROXY_HEADER_LINE, "a line of version 1 that does not end with CR LF within 107 bytes")                \
    X(PROXY_HEADER_PROTOCOL, "a protocol other than TCP4, TCP6 and UNKNOWN in version 1")                    \
    X(PROXY_HEADER_ADDRESS, "an address or a port of version 1 that is not in its canonical form")           \
    X(PROXY_HEADER_VERSION, "a version other than 2 behind the signature")                                   \
    X(PROXY_HEADER_COMMAND, "a command other than LOCAL and PROXY")                                          \
    X(PROXY_HEADER_FAMILY, "an address family or a transport protocol that version 2 does not have")         \
    X(PROXY_HEADER_SIZE, "a header of more than 4096 bytes")                                                 \
    X(PROXY_HEADER_SHORT, "a length that has no room for the addresses of its family")                       \
    X(PROXY_HEADER_TLV,                                                                                      \
      "a field behind the addresses that does not fit, or has another length than its type")                 \
    X(PROXY_HEADER_CHECKSUM, "a CRC32c checksum that is not the header's")

enum proxy_header_error {
    PROXY_HEADER_NO_ERROR,
#define X(constant, text) constant,
    PROXY_HEADER_ERROR_MAP(X)
#undef X
        PROXY_HEADER_ERROR_COUNT
};

/* Static text. */
const char *proxy_header_error_text(enum proxy_header_error error);

/* Types of the fields behind the addresses of version 2 (section 2.2). */
enum {
    PROXY_HEADER_AUTHORITY = 0x02, /* the host name that the client asked for; any bytes */
    PROXY_HEADER_CRC32C = 0x03,
    PROXY_HEADER_UNIQUE_ID = 0x05, /* of the connection, at most 128 bytes */
    PROXY_HEADER_CUSTOM = 0xe0,    /* to 0xef: an application's own */
};

enum { PROXY_HEADER_UNIQUE_ID_MAX = 128 };

struct proxy_header {
    uint8_t version; /* 1 or 2 */
    bool local;      /* the peer's own connection, a health check: nobody is behind it */
    bool known;      /* source and destination are set; else the connection's own addresses hold */
    struct sockaddr_storage source, destination; /* of the client's connection: AF_INET, _INET6 or _UNIX */
};

/* Reads a header from the first `size` bytes of a connection. Positive: the header has so many bytes and
 * *header is set. 0: more bytes are needed. Negative: -(enum proxy_header_error), found in these bytes; more
 * would not help. It never takes more than PROXY_HEADER_MAX bytes, and looks at each byte at most thrice. */
int proxy_header_read(struct proxy_header *header, const uint8_t *bytes, size_t size);

struct proxy_header_field {
    uint8_t type;
    const uint8_t *value; /* borrowed */
    uint16_t size;
};

/* The first field of that type in a header of so many bytes that was read without an error; false: it has
 * none. The value lies within `bytes`. */
bool proxy_header_find(const uint8_t *bytes, size_t size, uint8_t type, struct proxy_header_field *field);

/* Writes a header of header->version; `fields` and `checksum` go into version 2 only. Returns its length, or
 * 0 when `space` is too small; PROXY_HEADER_MAX is always enough for fields of up to 3800 bytes. Addresses of
 * two families are both written as IPv6, IPv4 within ::ffff:0:0/96 (RFC 4291, 2.5.5.2). What version 1 has no
 * words for is UNKNOWN there. */
size_t proxy_header_write(uint8_t *bytes, size_t space, const struct proxy_header *header,
                          const struct proxy_header_field *fields, size_t field_count, bool checksum);

#endif
