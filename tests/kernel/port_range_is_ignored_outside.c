/* IP_LOCAL_PORT_RANGE asks connect() for a source port of a range, but one that lies outside
 * ip_local_port_range is silently ignored: a knock by it would be a new connection. ip(7);
 * net/ipv4/inet_connection_sock.c, inet_sk_get_local_port_range(). */
#include "tests/kernel/fact.h"

#ifndef IP_LOCAL_PORT_RANGE
#define IP_LOCAL_PORT_RANGE 51
#endif

static uint16_t source_port(const struct sockaddr_in *to, uint16_t wanted)
{
    struct sockaddr_in from = {0};
    socklen_t length = sizeof from;
    uint32_t range = ((uint32_t)wanted << 16) | wanted;
    int fd = fact_socket();
    if (setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range, sizeof range))
        fact_untried("IP_LOCAL_PORT_RANGE: %s (Linux 6.3 has it)", strerror(errno));
    fact_need(connect(fd, (const struct sockaddr *)to, sizeof *to), "connect");
    fact_need(getsockname(fd, (struct sockaddr *)&from, &length), "getsockname");
    close(fd);
    return ntohs(from.sin_port);
}

int main(void)
{
    struct sockaddr_in address;
    fact_namespace();
    (void)fact_listen(&address);
    fact_write("/proc/sys/net/ipv4/ip_local_port_range", "40000 50000");
    if (source_port(&address, 45678) != 45678)
        fact_fails("a port inside ip_local_port_range is not taken");
    uint16_t port = source_port(&address, 23456);
    if (port == 23456)
        fact_fails("a port outside ip_local_port_range is taken: the rule can go");
    fact_holds("IP_LOCAL_PORT_RANGE is obeyed inside ip_local_port_range, and outside it silently ignored.");
}
