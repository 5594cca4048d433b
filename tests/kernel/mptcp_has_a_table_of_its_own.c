/* A leak between two MPTCP sockets is in ESTABLISHED in TCP's table and in CLOSE_WAIT only in that of
 * protocol 262. include/uapi/linux/inet_diag.h, INET_DIAG_REQ_PROTOCOL; net/mptcp/mptcp_diag.c. */
#include "tests/kernel/fact.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

/* The state in MPTCP's table of the one socket with this local port that is not listening; 0: there is
 * none. */
static unsigned state_in_mptcp_table(uint16_t port)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 request;
        struct nlattr attribute;
        uint32_t protocol;
    } ask = {.header = {.nlmsg_len = sizeof ask,
                        .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                        .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
             .request = {.sdiag_family = AF_INET,
                         .sdiag_protocol = IPPROTO_RAW,
                         .idiag_states = ~DIAG_STATE_BIT(DIAG_LISTEN)},
             .attribute = {.nla_len = sizeof(struct nlattr) + sizeof(uint32_t),
                           .nla_type = INET_DIAG_REQ_PROTOCOL},
             .protocol = IPPROTO_MPTCP};
    static _Alignas(struct nlmsghdr) char reply[32768];
    int fd = fact_need(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), "a netlink socket");
    fact_need((int)send(fd, &ask, sizeof ask, 0), "a dump of protocol 262");
    int size = fact_need((int)recv(fd, reply, sizeof reply, 0), "a dump of protocol 262");
    close(fd);
    for (int at = 0; at < size;) {
        const struct nlmsghdr *header = (const struct nlmsghdr *)(const void *)(reply + at);
        const struct inet_diag_msg *row = (const struct inet_diag_msg *)(const void *)(header + 1);
        if (header->nlmsg_type == SOCK_DIAG_BY_FAMILY && ntohs(row->id.idiag_sport) == port &&
            row->idiag_inode)
            return row->idiag_state;
        at += (int)NLMSG_ALIGN(header->nlmsg_len);
    }
    return 0;
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    fact_namespace();
    struct netlink *netlink = fact_netlink();
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
    if (listener < 0 || client < 0)
        fact_untried("an MPTCP socket: %s", strerror(errno));
    fact_need(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    fact_need(listen(listener, 8), "listen");
    fact_need(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    fact_need(connect(client, (struct sockaddr *)&address, sizeof address), "connect");
    int server = fact_accept(listener);
    struct diag_id id = fact_id(server);
    char byte;
    fact_need(shutdown(client, SHUT_WR), "shutdown");
    if (recv(server, &byte, 1, 0) != 0)
        fact_fails("no end arrives");
    struct diag_row row;
    if (!fact_row(netlink, &id, &row))
        fact_fails("TCP's table has no row of it");
    if (row.state != DIAG_ESTABLISHED)
        fact_fails("in TCP's table it is in %s", diag_state_name(row.state));
    unsigned state = state_in_mptcp_table(id.local.port);
    if (state != DIAG_CLOSE_WAIT)
        fact_fails("in MPTCP's table it is in %s", diag_state_name(state));
    fact_holds("A leak between MPTCP sockets is in ESTABLISHED in TCP's table and in CLOSE_WAIT in MPTCP's.");
}
