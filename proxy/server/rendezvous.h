#ifndef PROXY_SERVER_RENDEZVOUS_H
#define PROXY_SERVER_RENDEZVOUS_H

/* Which server a client meets, agreed on by all who know both addresses (highest random weight; Thaler and
 * Ravishankar, "Using name-based mappings to increase hit rates", 1998): each server has a score for each
 * client, and the highest is the one. A server that goes takes no other server's clients away, and one that
 * comes takes only those for whom its score is the highest.
 *
 * Nothing secret is in the scores: a client that may choose its address may choose its server too. Pure. */

#include "proxy/socket/socket.h"

#include <stdint.h>

/* Of the address without its port, so that a client stays with its server. A client without an address (unix)
 * is as any other of these. */
uint64_t rendezvous_client(const union socket_address *client);

/* Of address and port, or of the path. */
uint64_t rendezvous_server(const struct conf_address *server);

uint64_t rendezvous_score(uint64_t client, uint64_t server);

#endif
