/* prlimit(2) raises the soft limit of descriptors of another process of the same user up to its hard
 * limit. */
#include "tests/kernel/fact.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

int main(void)
{
    struct rlimit low = {.rlim_cur = 64, .rlim_max = 128}, high = {.rlim_cur = 128, .rlim_max = 128}, now;
    int ready[2];
    char byte;
    fact_need(pipe2(ready, O_CLOEXEC), "pipe2");
    if (getuid() == 0)
        fact_need(setuid(65534), "setuid");
    pid_t child = fact_need(fork(), "fork");
    if (child == 0) {
        prctl(PR_SET_DUMPABLE, 1);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (setrlimit(RLIMIT_NOFILE, &low) || write(ready[1], "x", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    fact_need((int)read(ready[0], &byte, 1), "the child");
    if (prlimit(child, RLIMIT_NOFILE, &high, &now))
        fact_fails("prlimit by the same user: %s", strerror(errno));
    if (now.rlim_cur != 64)
        fact_fails("the limit was %ju before", (uintmax_t)now.rlim_cur);
    kill(child, SIGKILL);
    fact_holds("The same user raises another process's soft limit of descriptors up to its hard limit.");
}
