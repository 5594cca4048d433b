/* On the wire a close and a half-close look the same. On one host they don't: the row of a peer that
 * closed has no inode, that of one that only sent FIN has. net/ipv4/tcp_diag.c; net/core/sock.c,
 * sock_i_ino(). */
#include "tests/kernel/fact.h"

int main(void)
{
    struct diag_row row;
    fact_namespace();
    struct netlink *netlink = fact_netlink();
    struct fact_tcp tcp = fact_tcp();
    struct diag_id id = fact_id(tcp.client);
    fact_need(shutdown(tcp.client, SHUT_WR), "shutdown");
    fact_reach(tcp.client, DIAG_FIN_WAIT_2);
    if (!fact_row(netlink, &id, &row) || row.state != DIAG_FIN_WAIT_2 || row.inode == 0)
        fact_fails("a half-closed peer has no row in FIN_WAIT_2 with an inode");
    close(tcp.client);
    if (!fact_row(netlink, &id, &row) || row.state != DIAG_FIN_WAIT_2 || row.inode != 0)
        fact_fails("a closed peer has no row in FIN_WAIT_2 without an inode");
    fact_holds("A half-closed peer's row has an inode, a closed peer's has none.");
}
