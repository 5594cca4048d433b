/* Any user may dump the TCP sockets of its network namespace. sock_diag(7); net/ipv4/inet_diag.c. */
#include "tests/kernel/fact.h"

#include <sys/prctl.h>

static int count_row(void *context, const struct diag_row *row)
{
    (void)row;
    ++*(int *)context;
    return 0;
}

int main(void)
{
    int rows = 0;
    fact_namespace();
    struct fact_tcp tcp = fact_tcp();
    close(tcp.client);
    fact_reach(tcp.server, DIAG_CLOSE_WAIT);
    if (getuid() == 0)
        fact_need(setuid(65534), "setuid");
    struct netlink *netlink = fact_netlink();
    struct diag_filter filter = {.states = DIAG_STATE_BIT(DIAG_CLOSE_WAIT)};
    struct netlink_sink sink = {.row = count_row, .context = &rows};
    int error = netlink_dump(netlink, &filter, &sink);
    if (error)
        fact_fails("a dump by user %u: %s", (unsigned)getuid(), strerror(-error));
    if (rows != 1)
        fact_fails("%d rows in CLOSE_WAIT instead of one", rows);
    fact_holds("A user without privilege sees the sockets in CLOSE_WAIT, and the kernel sends no others.");
}
