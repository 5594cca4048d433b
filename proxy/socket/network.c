#include "proxy/socket/network.h"

#include <netinet/in.h>
#include <stddef.h>
#include <string.h>

const unsigned char *network_bare(const union socket_address *whose, sa_family_t *family)
{
    static const unsigned char mapped[12] = {[10] = 0xff, [11] = 0xff};
    *family = whose->family;
    if (whose->family == AF_INET)
        return whose->bytes + offsetof(struct sockaddr_in, sin_addr);
    if (whose->family != AF_INET6)
        return NULL;
    const unsigned char *address = whose->bytes + offsetof(struct sockaddr_in6, sin6_addr);
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

bool network_holds(const struct conf_network *networks, size_t count, const union socket_address *whose)
{
    sa_family_t family;
    const unsigned char *address = network_bare(whose, &family);
    for (size_t i = 0; address && i < count; i++)
        if (networks[i].family == family && within(address, &networks[i]))
            return true;
    return false;
}
