#ifndef CONF_VALUE_H
#define CONF_VALUE_H

/* From text to a value, and back: durations, sizes, rates, switches, addresses, networks.
 *
 * Each parser takes the whole text or nothing: no spaces, no sign, no fraction, no trailing bytes, no
 * overflow. It returns NULL and stores the value, or stores nothing and returns what is wrong with the text,
 * as half a sentence in static storage ("a number needs a unit: 30s"). Bounds that differ between options,
 * and words such as `off`, are the option table's business. Nothing here allocates, resolves a name or keeps
 * state; any thread may call it. */

#include "conf/conf.h"

/* "250ms", "30s", "2m", "1h", "1d": milliseconds. One number, one unit. */
const char *value_duration(const char *text, uint64_t *ms);

/* "512B", "16KiB", "1MiB", "2GiB" (powers of 1024), "10kB", "10MB", "1GB" (powers of 1000): bytes. */
const char *value_size(const char *text, uint64_t *bytes);

/* A size and "/s": bytes a second. */
const char *value_rate(const char *text, uint64_t *bytes);

/* Decimal digits. */
const char *value_integer(const char *text, uint64_t *number);

/* "on" or "off". */
const char *value_switch(const char *text, bool *on);

/* A name that is safe in logs, metrics and URLs: 1 to 63 letters, digits, '_', '-', '.'. */
const char *value_name(const char *text);

/* "/run/x.sock": absolute, without control characters. */
const char *value_path(const char *text);

enum { VALUE_REQUEST_PATH_MAX = 1023 };

/* "/health?full=1": what a request asks for, in visible ASCII without '#'. */
const char *value_request_path(const char *text);

/* What one can listen on: "127.0.0.1:8080", "[::]:8080" (port 0: the kernel picks), "unix:/path". */
const char *value_listen(const char *text, struct conf_address *address);

struct value_server {
    struct conf_address address; /* length 0: a name */
    char host[256];              /* "" unless it is a name (RFC 1123 section 2.1, and '_') */
    uint16_t port;               /* 0 for a unix path */
};

/* What one can connect to: as above with a port that is not 0, or "db.internal:9000". */
const char *value_server(const char *text, struct value_server *server);

/* A network: an address and how many of its leading bits count. */
struct value_cidr {
    int family; /* AF_INET or AF_INET6 */
    unsigned bits;
    uint8_t bytes[16]; /* network order; the first 4 for AF_INET */
};

/* "10.0.0.0/8", "fd00::/8", or one address. Bits after the prefix must be 0. */
const char *value_cidr(const char *text, struct value_cidr *cidr);

enum { VALUE_NUMBER_TEXT = 32, VALUE_ADDRESS_TEXT = 128 };

/* The shortest exact text that the parser above reads back as the same value. */
void value_duration_text(uint64_t ms, char text[static VALUE_NUMBER_TEXT]);
void value_size_text(uint64_t bytes, char text[static VALUE_NUMBER_TEXT]);
void value_rate_text(uint64_t bytes, char text[static VALUE_NUMBER_TEXT]);
void value_address_text(const struct conf_address *address, char text[static VALUE_ADDRESS_TEXT]);

/* A network: an address and, behind a '/', how many of its bits count; all of them without. The other bits
 * are zero. NULL or what is wrong with it, static. */
const char *value_network(const char *text, struct conf_network *network);

enum { VALUE_NETWORK_TEXT = 64 };
void value_network_text(const struct conf_network *network, char text[static VALUE_NETWORK_TEXT]);

#endif
