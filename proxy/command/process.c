#include "proxy/command/process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* More than libuv takes for its first loop, and than the log takes. */
enum { DESCRIPTORS_LEAST = 16 };

void process_fill_standard(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR); /* the lowest number that is free */
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* Whether so many can be opened, beside those that were inherited. */
static bool has_room(void)
{
    int fds[DESCRIPTORS_LEAST];
    size_t count = 0;
    while (count < DESCRIPTORS_LEAST && (fds[count] = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)) >= 0)
        count++;
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
    return count == DESCRIPTORS_LEAST;
}

bool process_serves(const char *name)
{
    struct rlimit limit;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (has_room())
        return true;
    fprintf(stderr,
            "%s: this process may open no more than %ju files, too few to begin with; raise the limit "
            "(ulimit -n, or LimitNOFILE= of its unit)\n",
            name, (uintmax_t)limit.rlim_max);
    return false;
}

static void mask(int how, bool all)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    if (all) {
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
    }
    (void)pthread_sigmask(how, &set, NULL);
}

void process_hold_hangup(void)
{
    mask(SIG_BLOCK, false);
}

void process_hold_signals(void)
{
    mask(SIG_BLOCK, true);
}

void process_release_signals(void)
{
    mask(SIG_UNBLOCK, true);
}
