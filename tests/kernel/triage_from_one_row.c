/* The receive queue and the inode of a row in CLOSE_WAIT tell why it leaks; the FIN counts one byte.
 * One limit: a FIN that had come when the last data was read is taken along with it, so an empty queue
 * says that everything was read, not that the program was told of the end (net/ipv4/tcp.c,
 * tcp_recvmsg_locked(), found_fin_ok). net/ipv4/tcp_diag.c, tcp_diag_get_info(). */
#include "tests/kernel/fact.h"

static void expect(struct netlink *netlink, const struct diag_id *id, const char *what, uint32_t rqueue,
                   bool held)
{
    struct diag_row row;
    if (!fact_row(netlink, id, &row))
        fact_fails("%s: no row", what);
    if (row.state != DIAG_CLOSE_WAIT || row.rqueue_bytes != rqueue || (row.inode != 0) != held)
        fact_fails("%s: %s, receive queue %u, inode %u", what, diag_state_name(row.state), row.rqueue_bytes,
                   row.inode);
}

int main(void)
{
    char bytes[8];
    fact_namespace();
    struct netlink *netlink = fact_netlink();
    struct fact_tcp tcp = fact_tcp(), silent = fact_tcp();
    struct diag_id id = fact_id(tcp.server), unread = fact_id(silent.server);
    fact_need((int)send(tcp.client, "data", 4, 0), "send");
    fact_need(shutdown(tcp.client, SHUT_WR), "shutdown");
    fact_need(shutdown(silent.client, SHUT_WR), "shutdown");
    fact_reach(tcp.server, DIAG_CLOSE_WAIT);
    fact_reach(silent.server, DIAG_CLOSE_WAIT);
    expect(netlink, &id, "unread data and EOF", 5, true);
    fact_need((int)recv(tcp.server, bytes, 4, 0), "recv");
    expect(netlink, &id, "data read that had the FIN behind it", 0, true);
    expect(netlink, &unread, "EOF unread", 1, true);
    fact_need((int)recv(silent.server, bytes, 4, 0), "recv");
    expect(netlink, &unread, "EOF read", 0, true);
    int waiting = fact_connect(&tcp.address);
    struct diag_id queued = fact_peer(fact_id(waiting));
    fact_need(shutdown(waiting, SHUT_WR), "shutdown");
    fact_reach(waiting, DIAG_FIN_WAIT_2);
    expect(netlink, &queued, "never accepted", 1, false);
    fact_holds("Receive queue and inode tell EOF read, EOF unread, unread data and never accepted apart.");
}
