#ifndef TESTS_UNIT_FAULTS_H
#define TESTS_UNIT_FAULTS_H

/* Calls of the code under test that fail on command. The linker's --wrap routes every call from our own
 * objects here (libuv's and the C library's own are not touched); while nothing is armed they pass through.
 *
 * A fault counts the calls of one function, on the threads that it is meant for, and lets some of them
 * fail. */

#include <stdbool.h>

enum fault_site {
    FAULT_MEMORY, /* malloc, calloc, reallocarray, strdup, fdopendir */
    FAULT_ACCEPT,
    FAULT_SOCKET,
    FAULT_CONNECT,
    FAULT_BIND,
    FAULT_LISTEN,
    FAULT_EPOLL_CTL,
    FAULT_EPOLL_CREATE,
    FAULT_EPOLL_WAIT,
    FAULT_PIPE,
    FAULT_FCNTL,
    FAULT_SPLICE,
    FAULT_RECV,
    FAULT_SEND,
    FAULT_SOCKNAME,
    FAULT_IOCTL,
    FAULT_SETSOCKOPT,
    FAULT_GETSOCKOPT,
    FAULT_THREAD,
    FAULT_SHUTDOWN,
    FAULT_OPENAT,
    FAULT_READ,
    FAULT_READLINK,
    FAULT_STAT,
    FAULT_SYSCALL, /* those without a function of the C library */
    FAULT_SITE_COUNT
};

/* Whose calls fail. */
enum fault_threads { FAULT_MINE, FAULT_OTHERS };

/* From the `first` call on (1 is the next), `count` calls fail with `error`, a positive errno. */
void fault_arm(enum fault_site site, enum fault_threads threads, int error, unsigned first, unsigned count);

/* How many have failed since. */
unsigned fault_failed(void);

/* No call fails any more. Returns how many did. */
unsigned fault_disarm(void);

#endif
