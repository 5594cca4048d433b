/* The kernel arms no timer when a FIN arrives: CLOSE_WAIT lasts until the application closes.
 * net/ipv4/tcp_input.c, tcp_fin(). */
#include "tests/kernel/fact.h"

int main(void)
{
    fact_namespace();
    struct netlink *netlink = fact_netlink();
    struct fact_tcp tcp = fact_tcp();
    fact_set_fin_timeout();
    close(tcp.client);
    fact_reach(tcp.server, DIAG_CLOSE_WAIT);
    struct diag_row row = fact_row_of(netlink, tcp.server);
    if (row.timer != 0)
        fact_fails("a socket in CLOSE_WAIT has timer %u, %u ms", row.timer, row.timer_ms);
    fact_holds("A socket in CLOSE_WAIT has no timer.");
}
