/* This host's kernel gives out a connection's addresses only once: a knock can't reach a connection
 * that this host still has, nor one whose orphan it still keeps. net/ipv4/inet_hashtables.c,
 * __inet_check_established(). */
#include "tests/kernel/fact.h"

static int knock(const struct sockaddr_in *from, const struct sockaddr_in *to)
{
    int fd = fact_need(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "a TCP socket");
    fact_option(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
    int result = bind(fd, (const struct sockaddr *)from, sizeof *from);
    if (!result)
        result = connect(fd, (const struct sockaddr *)to, sizeof *to);
    result = result ? errno : 0;
    close(fd);
    return result;
}

int main(void)
{
    fact_namespace();
    struct fact_tcp tcp = fact_tcp();
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    fact_need(getsockname(tcp.client, (struct sockaddr *)&peer, &length), "getsockname");
    int error = knock(&peer, &tcp.address);
    if (error != EADDRNOTAVAIL && error != EADDRINUSE)
        fact_fails("the addresses of a living connection are given out again: %s", strerror(error));
    close(tcp.client);
    fact_reach(tcp.server, DIAG_CLOSE_WAIT);
    error = knock(&peer, &tcp.address);
    if (error != EADDRNOTAVAIL && error != EADDRINUSE)
        fact_fails("the addresses of an orphan in FIN_WAIT_2 are given out again: %s", strerror(error));
    if (!fact_is(tcp.server, DIAG_CLOSE_WAIT))
        fact_fails("a knock that was refused changed the other end");
    fact_holds("The kernel refuses a knock while this host has the connection, or its orphan.");
}
