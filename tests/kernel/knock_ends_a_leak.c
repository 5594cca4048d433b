/* Whoever may bind the address of a peer that is gone can end what leaked: the SYN meets the leaked
 * socket, which answers with a challenge ACK, and this host's kernel resets the connection that it
 * knows nothing of. No privilege is needed, and the listener accepts nothing. RFC 9293, 3.10.7.4; RFC
 * 5961, 4.2; net/ipv4/tcp_input.c. */
#include "tests/kernel/fact.h"

int main(void)
{
    struct diag_row row;
    fact_namespace();
    struct netlink *netlink = fact_netlink();
    fact_set_fin_timeout();
    struct fact_tcp tcp = fact_tcp();
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    fact_need(getsockname(tcp.client, (struct sockaddr *)&peer, &length), "getsockname");
    struct diag_id client = fact_id(tcp.client);
    close(tcp.client);
    fact_reach(tcp.server, DIAG_CLOSE_WAIT);
    FACT_WAIT(!fact_row(netlink, &client, &row), "the closed client's socket stays");
    if (getuid() == 0)
        fact_need(setuid(65534), "setuid");
    int knock = fact_need(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "a TCP socket");
    fact_option(knock, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
    fact_need(bind(knock, (struct sockaddr *)&peer, sizeof peer), "bind to the peer's address");
    if (connect(knock, (struct sockaddr *)&tcp.address, sizeof tcp.address) < 0 && errno != EINPROGRESS)
        fact_fails("connect: %s", strerror(errno));
    close(knock);
    fact_reach(tcp.server, DIAG_CLOSE);
    struct pollfd poller = {.fd = tcp.listener, .events = POLLIN};
    if (poll(&poller, 1, 100) != 0)
        fact_fails("the knock was accepted as a connection");
    fact_holds("A SYN from the address of a peer that is gone ends the leaked socket, and is not accepted.");
}
