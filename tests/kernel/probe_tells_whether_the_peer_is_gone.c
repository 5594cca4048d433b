/* A keepalive probe on a leaked socket makes the kernel ask the peer: one that is gone answers with
 * RST, and the leak ends; one that only half-closed acknowledges, and nothing changes. RFC 9293, 3.8.4;
 * tcp(7). */
#include "tests/kernel/fact.h"

static void probe(int fd)
{
    fact_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
    fact_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1, "TCP_KEEPIDLE");
}

int main(void)
{
    struct diag_row row;
    fact_namespace();
    struct netlink *netlink = fact_netlink();
    fact_set_fin_timeout();
    struct fact_tcp gone = fact_tcp(), waits = fact_tcp();
    struct diag_id client = fact_id(gone.client);
    close(gone.client);
    fact_need(shutdown(waits.client, SHUT_WR), "shutdown");
    fact_reach(gone.server, DIAG_CLOSE_WAIT);
    fact_reach(waits.server, DIAG_CLOSE_WAIT);
    FACT_WAIT(!fact_row(netlink, &client, &row), "the closed client's socket stays");
    probe(gone.server);
    probe(waits.server);
    fact_reach(gone.server, DIAG_CLOSE);
    FACT_WAIT(fact_info(waits.server).tcpi_last_ack_recv < 500,
              "a half-closed peer does not answer the probe");
    if (!fact_is(waits.server, DIAG_CLOSE_WAIT) || !fact_is(waits.client, DIAG_FIN_WAIT_2))
        fact_fails("the probe changed a connection whose peer is half-closed");
    fact_holds("A probe ends the leak whose peer is gone, and leaves the one whose peer still waits.");
}
