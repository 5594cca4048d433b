#include "tests/unit/cmocka.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void run_here(const char *group, const struct CMUnitTest *test, CMFixtureFunction setup,
                               CMFixtureFunction teardown, pid_t parent)
{
    (void)setpgid(0, 0); /* what it starts is found by this */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(EXIT_FAILURE);
    exit(_cmocka_run_group_tests(group, test, 1, setup, teardown) ? EXIT_FAILURE : EXIT_SUCCESS);
}

/* Waits for a process, and lets its number be given away only behind the end of its group. */
static int end_group(pid_t pid)
{
    siginfo_t info;
    int status = -1, other;
    pid_t ended;
    while (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
        ;
    (void)kill(-pid, SIGKILL);
    while ((ended = waitpid(-pid, &other, 0)) > 0 || errno == EINTR)
        if (ended == pid)
            status = other;
    return status;
}

static bool has_passed(const char *name, pid_t pid)
{
    int status = end_group(pid);
    if (WIFSIGNALED(status))
        fprintf(stderr, "[  FAILED  ] %s: %s\n", name, strsignal(WTERMSIG(status)));
    return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
}

int run_apart(const char *group, const struct CMUnitTest *tests, size_t count, CMFixtureFunction setup,
              CMFixtureFunction teardown)
{
    int failed = 0;
    (void)prctl(PR_SET_CHILD_SUBREAPER, 1); /* those whose parent has ended are waited for here */
    for (size_t i = 0; i < count; i++) {
        pid_t parent = getpid();
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            run_here(group, &tests[i], setup, teardown, parent);
        failed += pid < 0 || !has_passed(tests[i].name, pid);
    }
    printf("%zu tests, %d failed\n", count, failed);
    return failed;
}
