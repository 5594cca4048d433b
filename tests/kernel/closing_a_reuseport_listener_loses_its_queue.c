/* Connections that wait in the queue of one of several SO_REUSEPORT listeners are reset when that one
 * closes, unless net.ipv4.tcp_migrate_req is set. socket(7), SO_REUSEPORT; Documentation/networking/ip-
 * sysctl.rst. */
#include "tests/kernel/fact.h"

enum { CLIENTS = 64 };

static int listen_at(struct sockaddr_in *address)
{
    socklen_t length = sizeof *address;
    int fd = fact_socket();
    fact_option(fd, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
    fact_need(bind(fd, (struct sockaddr *)address, sizeof *address), "bind");
    fact_need(listen(fd, 2 * CLIENTS), "listen");
    fact_need(getsockname(fd, (struct sockaddr *)address, &length), "getsockname");
    return fd;
}

/* How many of the clients are reset when the first of two listeners closes. */
static int lost(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int clients[CLIENTS], count = 0;
    int first = listen_at(&address), second = listen_at(&address);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = fact_connect(&address);
    close(first);
    for (int i = 0; i < CLIENTS; i++) {
        count += !fact_is(clients[i], DIAG_ESTABLISHED);
        close(clients[i]);
    }
    close(second);
    return count;
}

int main(void)
{
    fact_namespace();
    int without = lost();
    fact_write("/proc/sys/net/ipv4/tcp_migrate_req", "1");
    int with = lost();
    if (without == 0)
        fact_fails("none of %d waiting connections is lost", CLIENTS);
    if (with != 0)
        fact_fails("%d of %d waiting connections are lost with tcp_migrate_req", with, CLIENTS);
    fact_holds(
        "Closing one of two SO_REUSEPORT listeners resets what waits in it; with tcp_migrate_req nothing.");
}
