/* pidfd_getfd(2) and shutdown(SHUT_WR) finish a leaked socket in order, while its owner is stopped:
 * what is queued goes first, then FIN, and the socket goes through LAST_ACK. pidfd_getfd(2). */
#include "tests/kernel/fact.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

int main(void)
{
    int status;
    char byte;
    fact_namespace();
    struct fact_tcp tcp = fact_tcp();
    pid_t owner = fact_need(fork(), "fork");
    if (owner == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(tcp.client);
        for (;;)
            pause();
    }
    close(tcp.listener);
    fact_need(kill(owner, SIGSTOP), "SIGSTOP");
    fact_need(waitpid(owner, &status, WUNTRACED), "waitpid");
    int number = tcp.server;
    close(tcp.server); /* the stopped child alone holds it now */
    fact_need(shutdown(tcp.client, SHUT_WR), "shutdown");
    fact_reach(tcp.client, DIAG_FIN_WAIT_2);
    int process = fact_need((int)syscall(SYS_pidfd_open, owner, 0), "pidfd_open");
    int borrowed = fact_need((int)syscall(SYS_pidfd_getfd, process, number, 0), "pidfd_getfd");
    fact_need(shutdown(borrowed, SHUT_WR), "shutdown of the borrowed descriptor");
    if (recv(tcp.client, &byte, 1, 0) != 0)
        fact_fails("the other end sees no FIN");
    fact_reach(borrowed, DIAG_CLOSE);
    kill(owner, SIGKILL);
    fact_holds("shutdown() by a borrowed descriptor finishes a leaked socket while its owner is stopped.");
}
