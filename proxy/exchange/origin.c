#include "proxy/exchange/origin.h"

#include "proxy/socket/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* #syscalls worker: getrandom */

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

void origin_of(struct head_origin *origin, struct origin_text *text, const union socket_address *client,
               const struct conf_frontend *frontend, struct origin_random *random)
{
    sa_family_t family;
    unsigned char id[ORIGIN_ID_TEXT / 2];
    const unsigned char *address = network_bare(client, &family);
    *origin = (struct head_origin){
        .forwarded = frontend->http.forwarded,
        .trusted = network_holds(frontend->trusted, frontend->trusted_count, client),
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
