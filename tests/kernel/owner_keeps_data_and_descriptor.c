/* After a RST the owner can still read what had arrived, then gets an end; its write fails; its
 * descriptor stays. net/ipv4/tcp_input.c, tcp_reset(): in CLOSE_WAIT the error is EPIPE. */
#include "tests/kernel/fact.h"

int main(void)
{
    char bytes[8];
    fact_namespace();
    struct fact_tcp tcp = fact_tcp();
    fact_need((int)send(tcp.client, "data", 4, 0), "send");
    fact_need(shutdown(tcp.client, SHUT_WR), "shutdown");
    fact_reach(tcp.client, DIAG_FIN_WAIT_2);
    fact_abort(tcp.client);
    fact_reach(tcp.server, DIAG_CLOSE);
    struct pollfd poller = {.fd = tcp.server, .events = POLLIN | POLLOUT};
    fact_need(poll(&poller, 1, FACT_WAIT_MS), "poll");
    if (!(poller.revents & POLLHUP) || !(poller.revents & POLLERR))
        fact_fails("poll() tells the owner %#x, without HUP and ERR", (unsigned)poller.revents);
    if (recv(tcp.server, bytes, sizeof bytes, 0) != 4)
        fact_fails("what the owner had not read is gone");
    if (send(tcp.server, "x", 1, MSG_NOSIGNAL) != -1 || errno != EPIPE)
        fact_fails("the owner's write does not fail with EPIPE");
    if (recv(tcp.server, bytes, sizeof bytes, 0) != 0)
        fact_fails("behind the data there is no end");
    if (fcntl(tcp.server, F_GETFD) < 0)
        fact_fails("the descriptor is closed");
    fact_holds(
        "After a RST unread data can be read, a write fails with EPIPE, and the descriptor stays open.");
}
