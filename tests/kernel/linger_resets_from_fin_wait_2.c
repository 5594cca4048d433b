/* SO_LINGER{1,0} and close() send RST also behind our own FIN, and the leaked socket leaves CLOSE_WAIT.
 * socket(7), SO_LINGER; net/ipv4/tcp.c, tcp_disconnect() and tcp_need_reset(). */
#include "tests/kernel/fact.h"

int main(void)
{
    fact_namespace();
    struct fact_tcp tcp = fact_tcp();
    fact_need(shutdown(tcp.client, SHUT_WR), "shutdown");
    fact_reach(tcp.client, DIAG_FIN_WAIT_2);
    fact_reach(tcp.server, DIAG_CLOSE_WAIT);
    fact_abort(tcp.client);
    fact_reach(tcp.server, DIAG_CLOSE);
    fact_holds("A RST from FIN_WAIT_2 takes the other end out of CLOSE_WAIT.");
}
