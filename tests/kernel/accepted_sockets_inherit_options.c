/* What is set on a listening socket holds for those it accepts: one call a listener instead of one a
 * connection. socket(7); net/core/sock.c, sk_clone_lock(). */
#include "tests/kernel/fact.h"

static int get(int fd, int level, int option)
{
    int value = 0;
    socklen_t length = sizeof value;
    fact_need(getsockopt(fd, level, option, &value, &length), "getsockopt");
    return value;
}

int main(void)
{
    struct sockaddr_in address;
    fact_namespace();
    int listener = fact_listen(&address);
    fact_option(listener, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
    fact_option(listener, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
    fact_option(listener, IPPROTO_TCP, TCP_KEEPIDLE, 77, "TCP_KEEPIDLE");
    fact_option(listener, SOL_SOCKET, SO_RCVBUF, 16384, "SO_RCVBUF");
    (void)fact_connect(&address);
    int fd = fact_accept(listener);
    if (!get(fd, IPPROTO_TCP, TCP_NODELAY) || !get(fd, SOL_SOCKET, SO_KEEPALIVE) ||
        get(fd, IPPROTO_TCP, TCP_KEEPIDLE) != 77 || get(fd, SOL_SOCKET, SO_RCVBUF) != 32768)
        fact_fails("an accepted socket lacks what its listener was given");
    fact_holds("An accepted socket inherits TCP_NODELAY, keepalive and buffer sizes from its listener.");
}
