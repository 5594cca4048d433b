#ifndef BENCH_LEAK_MODE_H
#define BENCH_LEAK_MODE_H

/* The ways in which the leaky backend leaks, and what can be said of it (leak.h). Pure; any thread. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum leak_mode {
    LEAK_NEVER_CLOSE,
    LEAK_NEVER_READ,
    LEAK_STOPPED,
    LEAK_NEVER_ACCEPT,
    LEAK_ZERO_BYTE,
    LEAK_KEEP_ALIVE,
    LEAK_FORKED,
    LEAK_QUEUED,
    LEAK_TRICKLE,
    LEAK_HEALTHY,
    LEAK_MODE_COUNT
};

struct leak_options {
    enum leak_mode mode;
    struct sockaddr_storage address; /* where to listen, IPv4 or IPv6; port 0: the kernel chooses */
    int backlog;                     /* as listen(2) takes it */
    bool http;                       /* answer HTTP/1 requests instead of echoing bytes */
    uint64_t response_bytes;         /* body of an HTTP answer */
    uint64_t trickle_ms;             /* one byte per this long in mode trickle; not 0 */
};

/* The mode's name as the command line spells it, and one sentence about it. Static storage. */
const char *leak_mode_name(enum leak_mode mode);
const char *leak_mode_help(enum leak_mode mode);

/* The mode of that name, or -EINVAL. */
int leak_mode_find(const char *name);

/* Whether the mode needs a process that holds its descriptors. */
bool leak_mode_has_holder(enum leak_mode mode);

#endif
