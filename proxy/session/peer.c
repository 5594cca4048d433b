#include "proxy/session/peer.h"

#include <errno.h>
#include <string.h>

/* #syscalls worker: getsockname getpeername */

bool peer_id(int fd, struct diag_id *peer)
{
    struct sockaddr_storage ours = {0}, theirs = {0};
    socklen_t our_length = sizeof ours, their_length = sizeof theirs;
    if (getsockname(fd, (struct sockaddr *)&ours, &our_length) ||
        getpeername(fd, (struct sockaddr *)&theirs, &their_length))
        return false;
    memset(peer, 0, sizeof *peer);
    peer->family = (uint8_t)theirs.ss_family;
    peer->cookie = DIAG_NO_COOKIE;
    return diag_endpoint_of(&theirs, &peer->local) && diag_endpoint_of(&ours, &peer->remote);
}

enum clearing peer_find(struct netlink *netlink, int fd, struct diag_id *peer)
{
    struct diag_row row;
    if (!peer_id(fd, peer))
        return CLEARING_UNKNOWN;
    int error = netlink_lookup(netlink, peer, &row);
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

enum peer_hold peer_hold(struct netlink *netlink, const struct diag_id *peer)
{
    struct diag_row row = {0};
    if (netlink_lookup(netlink, peer, &row))
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
