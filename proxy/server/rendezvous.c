#include "proxy/server/rendezvous.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

/* FNV-1a. */
static const uint64_t begin = UINT64_C(14695981039346656037);

static uint64_t follow(uint64_t hash, const void *bytes, size_t size)
{
    for (const unsigned char *at = bytes, *end = at + size; at < end; at++)
        hash = (hash ^ *at) * UINT64_C(1099511628211);
    return hash;
}

uint64_t rendezvous_client(const union socket_address *client)
{
    if (client->family == AF_INET)
        return follow(begin, client->bytes + offsetof(struct sockaddr_in, sin_addr), sizeof(struct in_addr));
    if (client->family == AF_INET6)
        return follow(begin, client->bytes + offsetof(struct sockaddr_in6, sin6_addr),
                      sizeof(struct in6_addr));
    return begin;
}

/* What else the structures hold is not part of the address. */
uint64_t rendezvous_server(const struct conf_address *server)
{
    const void *socket = &server->address;
    const struct sockaddr_in *in = socket;
    const struct sockaddr_in6 *in6 = socket;
    const struct sockaddr_un *un = socket;
    switch (server->address.ss_family) {
    case AF_INET:
        return follow(follow(begin, &in->sin_addr, sizeof in->sin_addr), &in->sin_port, sizeof in->sin_port);
    case AF_INET6:
        return follow(follow(begin, &in6->sin6_addr, sizeof in6->sin6_addr), &in6->sin6_port,
                      sizeof in6->sin6_port);
    default:
        return follow(begin, un->sun_path, strnlen(un->sun_path, sizeof un->sun_path));
    }
}

/* Each bit of both decides over each bit of the score (the finalizer of MurmurHash3). */
uint64_t rendezvous_score(uint64_t client, uint64_t server)
{
    uint64_t mixed = client ^ server;
    mixed = (mixed ^ mixed >> 33) * UINT64_C(0xff51afd7ed558ccd);
    mixed = (mixed ^ mixed >> 33) * UINT64_C(0xc4ceb9fe1a85ec53);
    return mixed ^ mixed >> 33;
}
