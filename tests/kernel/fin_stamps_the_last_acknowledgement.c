/* The FIN's arrival stamps tcpi_last_ack_recv, so that its age is how long a quiet socket has been in
 * CLOSE_WAIT. A keepalive's acknowledgement stamps it anew. net/ipv4/tcp_input.c, tcp_ack(); jiffies
 * may be 10 ms long. */
#include "tests/kernel/fact.h"

enum { QUIET_MS = 1200, JIFFY_MS = 10 };

int main(void)
{
    fact_namespace();
    struct fact_tcp tcp = fact_tcp();
    fact_need((int)send(tcp.server, "x", 1, 0), "send");
    fact_need(shutdown(tcp.client, SHUT_WR), "shutdown");
    uint64_t before_ms = fact_now_ms();
    fact_reach(tcp.server, DIAG_CLOSE_WAIT);
    uint64_t after_ms = fact_now_ms();
    while (fact_now_ms() < after_ms + QUIET_MS)
        fact_pause();
    uint64_t least_ms = fact_now_ms() - after_ms;
    uint32_t age_ms = fact_info(tcp.server).tcpi_last_ack_recv;
    uint64_t most_ms = fact_now_ms() - before_ms;
    if (age_ms + 2 * JIFFY_MS < least_ms || age_ms > most_ms + 2 * JIFFY_MS)
        fact_fails("%u ms are read %ju to %ju ms after the FIN", age_ms, (uintmax_t)least_ms,
                   (uintmax_t)most_ms);
    fact_option(tcp.server, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
    fact_option(tcp.server, IPPROTO_TCP, TCP_KEEPIDLE, 1, "TCP_KEEPIDLE");
    FACT_WAIT(fact_info(tcp.server).tcpi_last_ack_recv < QUIET_MS / 2,
              "no answer to a keepalive probe is seen in tcpi_last_ack_recv");
    fact_holds("The FIN stamps tcpi_last_ack_recv, and the answer to a keepalive probe stamps it anew.");
}
