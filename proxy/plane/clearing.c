#include "proxy/plane/clearing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>

/* False for what is not an internet address. */
static bool to_endpoint(const struct sockaddr_storage *address, struct diag_endpoint *endpoint)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        memcpy(endpoint->host, mapped, sizeof mapped);
        memcpy(endpoint->host + sizeof mapped, &in->sin_addr, sizeof in->sin_addr);
        endpoint->port = ntohs(in->sin_port);
        return true;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
    memcpy(endpoint->host, &in6->sin6_addr, sizeof endpoint->host);
    endpoint->port = ntohs(in6->sin6_port);
    return address->ss_family == AF_INET6;
}

enum clearing clearing_find(struct netlink *netlink, int fd, struct diag_id *peer)
{
    struct sockaddr_storage ours, theirs;
    socklen_t our_length = sizeof ours, their_length = sizeof theirs;
    struct diag_row row;
    if (getsockname(fd, (struct sockaddr *)&ours, &our_length) ||
        getpeername(fd, (struct sockaddr *)&theirs, &their_length))
        return CLEARING_UNKNOWN;
    memset(peer, 0, sizeof *peer);
    peer->family = (uint8_t)theirs.ss_family;
    peer->cookie = DIAG_NO_COOKIE;
    if (!to_endpoint(&theirs, &peer->local) || !to_endpoint(&ours, &peer->remote))
        return CLEARING_UNKNOWN;
    int error = netlink_lookup(netlink, peer, &row);
    if (error == -ENOENT)
        return CLEARING_REMOTE;
    if (error)
        return CLEARING_UNKNOWN;
    *peer = row.id;
    return CLEARING_STILL;
}

enum clearing clearing_look(struct netlink *netlink, const struct diag_id *peer)
{
    struct diag_row row;
    int error = netlink_lookup(netlink, peer, &row);
    if (error == -ENOENT)
        return CLEARING_GONE;
    return error ? CLEARING_UNKNOWN : CLEARING_STILL;
}

const char *clearing_name(enum clearing clearing)
{
    static const char *const names[CLEARING_COUNT] = {
        [CLEARING_NONE] = "none",     [CLEARING_GONE] = "gone",       [CLEARING_STILL] = "still",
        [CLEARING_REMOTE] = "remote", [CLEARING_UNKNOWN] = "unknown",
    };
    return names[clearing];
}
