#include "proxy/plane/origin.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

void origin_random_init(struct origin_random *random)
{
    /* Only for lack of entropy in the first seconds of a boot: then the address of a variable has to do. */
    if (getrandom(&random->state, sizeof random->state, GRND_NONBLOCK) != sizeof random->state)
        random->state = (uintptr_t)random;
}

/* SplitMix64. */
static uint64_t next_random(struct origin_random *random)
{
    uint64_t z = random->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* Points to the address and says of which family it is; an IPv4 client of an IPv6 socket is one of IPv4. */
static const unsigned char *bare(const union socket_address *client, sa_family_t *family)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    *family = client->family;
    if (client->family == AF_INET)
        return client->bytes + offsetof(struct sockaddr_in, sin_addr);
    if (client->family != AF_INET6)
        return NULL;
    const unsigned char *address = client->bytes + offsetof(struct sockaddr_in6, sin6_addr);
    if (memcmp(address, mapped, sizeof mapped) != 0)
        return address;
    *family = AF_INET;
    return address + sizeof mapped;
}

static bool within(const unsigned char *address, const struct conf_network *network)
{
    unsigned whole = network->bits / 8, rest = network->bits % 8;
    if (memcmp(address, network->address, whole) != 0)
        return false;
    return rest == 0 || ((address[whole] ^ network->address[whole]) >> (8 - rest)) == 0;
}

bool origin_trusted(const union socket_address *client, const struct conf_network *networks, size_t count)
{
    sa_family_t family;
    const unsigned char *address = bare(client, &family);
    for (size_t i = 0; address && i < count; i++)
        if (networks[i].family == family && within(address, &networks[i]))
            return true;
    return false;
}

void origin_of(struct head_origin *origin, struct origin_text *text, const union socket_address *client,
               const struct conf_frontend *frontend, struct origin_random *random)
{
    sa_family_t family;
    const unsigned char *address = bare(client, &family);
    *origin = (struct head_origin){
        .forwarded = frontend->http.forwarded,
        .trusted = origin_trusted(client, frontend->trusted, frontend->trusted_count),
        .via = frontend->http.via,
        .ipv6 = family == AF_INET6,
        .address = "unknown", /* RFC 7239, 6.2 */
    };
    if (address && inet_ntop(family, address, text->address, sizeof text->address))
        origin->address = text->address;
    if (!frontend->http.request_id)
        return;
    snprintf(text->request_id, sizeof text->request_id, "%016" PRIx64 "%016" PRIx64, next_random(random),
             next_random(random));
    origin->request_id = text->request_id;
}
