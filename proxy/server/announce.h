#ifndef PROXY_SERVER_ANNOUNCE_H
#define PROXY_SERVER_ANNOUNCE_H

/* The PROXY header that a server with `send_proxy` is sent before anything else: who the client is, or that
 * nobody is behind a connection of the proxy's own. */

#include "conf/conf.h"
#include "proxy/socket/proxy_header.h"

#include <stddef.h>
#include <stdint.h>

/* Enough for every header that is sent: version 2 of two unix paths (232 bytes), an id and a checksum. */
enum { ANNOUNCE_MAX = 536 };

/* Writes the header, as `how` asks for; header->version is set by it. The id goes into version 2 only; 0:
 * none. Returns its size, never 0. `how` is not CONF_SEND_PROXY_OFF. */
size_t announce_write(uint8_t bytes[static ANNOUNCE_MAX], enum conf_send_proxy how,
                      struct proxy_header *header, uint64_t id);

/* The header of a connection of the proxy's own, a check: LOCAL in version 2; in version 1, which has no word
 * for that, the connection's own addresses (the specification, section 2.1). Returns its size. */
size_t announce_write_own(uint8_t bytes[static ANNOUNCE_MAX], enum conf_send_proxy how, int fd);

#endif
