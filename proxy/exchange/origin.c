#include "proxy/exchange/origin.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* False when the kernel gives none: no getrandom(2) in a sandbox, or not yet seeded in the first seconds of a
 * boot. Up to 256 bytes are given whole (getrandom(2)). */
static bool take_random(struct origin_random *random, unsigned char *bytes, size_t size)
{
    if (random->left < size) {
        if (getrandom(random->bytes, sizeof random->bytes, GRND_NONBLOCK) != sizeof random->bytes)
            return false;
        random->left = sizeof random->bytes;
    }
    random->left -= (uint32_t)size;
    memcpy(bytes, random->bytes + random->left, size);
    explicit_bzero(random->bytes + random->left, size); /* an id that was given can't be read here any more */
    return true;
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
    unsigned char id[ORIGIN_ID_TEXT / 2];
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
    if (!frontend->http.request_id || !take_random(random, id, sizeof id))
        return;
    for (size_t i = 0; i < sizeof id; i++)
        snprintf(text->request_id + 2 * i, 3, "%02x", id[i]);
    origin->request_id = text->request_id;
}
