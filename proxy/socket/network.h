#ifndef PROXY_SOCKET_NETWORK_H
#define PROXY_SOCKET_NETWORK_H

/* In which networks an address is. Pure; any thread. */

#include "conf/conf.h"
#include "proxy/socket/socket.h"

/* Points to the address, without its port, and says of which family it is: an IPv4 client of an IPv6 socket
 * is one of IPv4. NULL: it has none. */
const unsigned char *network_bare(const union socket_address *address, sa_family_t *family);

/* Whether the address is in one of the networks. One that has none is in no network. */
bool network_holds(const struct conf_network *networks, size_t count, const union socket_address *address);

#endif
