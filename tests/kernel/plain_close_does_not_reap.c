/* A peer that sends FIN and closes becomes an orphan in FIN_WAIT_2, which goes after tcp_fin_timeout
 * without a word. The other end stays in CLOSE_WAIT. tcp(7), tcp_fin_timeout; net/ipv4/tcp.c,
 * __tcp_close(). */
#include "tests/kernel/fact.h"

int main(void)
{
    struct diag_row row;
    fact_namespace();
    struct netlink *netlink = fact_netlink();
    struct fact_tcp tcp = fact_tcp();
    struct diag_id client = fact_id(tcp.client);
    fact_set_fin_timeout();
    close(tcp.client);
    fact_reach(tcp.server, DIAG_CLOSE_WAIT);
    FACT_WAIT(!fact_row(netlink, &client, &row), "the closed client's socket stays");
    if (!fact_is(tcp.server, DIAG_CLOSE_WAIT))
        fact_fails("the server's socket is in %s", diag_state_name(fact_info(tcp.server).tcpi_state));
    fact_holds(
        "A peer that closes is forgotten after tcp_fin_timeout, and the other end stays in CLOSE_WAIT.");
}
