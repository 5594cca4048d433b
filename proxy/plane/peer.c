#include "proxy/plane/peer.h"

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
    if (address->ss_family != AF_INET6)
        return false;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
    memcpy(endpoint->host, &in6->sin6_addr, sizeof endpoint->host);
    endpoint->port = ntohs(in6->sin6_port);
    return true;
}

static int find(struct netlink *netlink, int fd, struct diag_row *row)
{
    struct sockaddr_storage ours = {0}, theirs = {0};
    socklen_t our_length = sizeof ours, their_length = sizeof theirs;
    struct diag_id id;
    if (getsockname(fd, (struct sockaddr *)&ours, &our_length) ||
        getpeername(fd, (struct sockaddr *)&theirs, &their_length))
        return -errno;
    memset(&id, 0, sizeof id);
    id.family = (uint8_t)theirs.ss_family;
    id.cookie = DIAG_NO_COOKIE;
    if (!to_endpoint(&theirs, &id.local) || !to_endpoint(&ours, &id.remote))
        return -EAFNOSUPPORT;
    return netlink_lookup(netlink, &id, row);
}

enum clearing peer_find(struct netlink *netlink, int fd, struct diag_id *peer)
{
    struct diag_row row;
    int error = find(netlink, fd, &row);
    if (error)
        return error == -ENOENT ? CLEARING_REMOTE : CLEARING_UNKNOWN;
    *peer = row.id;
    return CLEARING_STILL;
}

enum clearing peer_look(struct netlink *netlink, const struct diag_id *peer)
{
    struct diag_row row;
    int error = netlink_lookup(netlink, peer, &row);
    if (error)
        return error == -ENOENT ? CLEARING_GONE : CLEARING_UNKNOWN;
    return CLEARING_STILL;
}

enum peer_hold peer_hold(struct netlink *netlink, int fd)
{
    struct diag_row row = {0};
    if (find(netlink, fd, &row))
        return PEER_UNKNOWN;
    return row.inode == 0 ? PEER_CLOSED : PEER_HOLDS;
}

const char *clearing_name(enum clearing clearing)
{
    static const char *const names[CLEARING_COUNT] = {
        [CLEARING_NONE] = "none",     [CLEARING_GONE] = "gone",       [CLEARING_STILL] = "still",
        [CLEARING_REMOTE] = "remote", [CLEARING_UNKNOWN] = "unknown",
    };
    return names[clearing];
}
