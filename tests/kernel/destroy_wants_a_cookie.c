/* SOCK_DESTROY takes a cookie: another one is ENOENT. With the right one the socket goes to CLOSE, what
 * was received stays readable, and the descriptor stays open. net/ipv4/inet_diag.c,
 * inet_diag_find_one_icsk(); tcp_abort(). */
#include "tests/kernel/fact.h"

int main(void)
{
    char bytes[8];
    fact_namespace();
    struct netlink *netlink = fact_netlink();
    struct fact_tcp tcp = fact_tcp();
    fact_need((int)send(tcp.client, "data", 4, 0), "send");
    fact_need(shutdown(tcp.client, SHUT_WR), "shutdown");
    fact_reach(tcp.server, DIAG_CLOSE_WAIT);
    struct diag_id id = fact_row_of(netlink, tcp.server).id;
    struct diag_id other = id;
    other.cookie++;
    int error = netlink_destroy(netlink, &other);
    if (error == -EPERM || error == -EOPNOTSUPP)
        fact_untried("SOCK_DESTROY: %s", strerror(-error));
    if (error != -ENOENT)
        fact_fails("another cookie is answered with %d, not ENOENT", error);
    if (!fact_is(tcp.server, DIAG_CLOSE_WAIT))
        fact_fails("another cookie ended the socket");
    error = netlink_destroy(netlink, &id);
    if (error)
        fact_untried("SOCK_DESTROY: %s", strerror(-error));
    fact_reach(tcp.server, DIAG_CLOSE);
    if (recv(tcp.server, bytes, sizeof bytes, 0) != 4)
        fact_fails("what the owner had not read is gone");
    fact_holds(
        "SOCK_DESTROY with the socket's cookie ends it and keeps what was received; with another, nothing.");
}
