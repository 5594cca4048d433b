#ifndef REAPER_KERNEL_FILES_H
#define REAPER_KERNEL_FILES_H

/* The descriptors of processes: how many, how many there may be, and how many are dead: TCP sockets that
 * no table of the kernel has any more, because they were reset or ended from outside and their program has
 * not closed them.
 *
 * Reads /proc and dumps the kernel's TCP sockets once. The caller owns a struct files and ends it with
 * files_clear(). One thread at a time may use it. */

#include "reaper/kernel/netlink.h"

#include <sys/types.h>

struct files_process {
    pid_t pid;
    uint64_t open, soft, hard; /* 0: not known; UINT64_MAX: unlimited */
    size_t dead;
};

struct files_socket {
    uint32_t inode, process;
    int fd;
    bool found;                         /* in the kernel's table */
    bool asks;                          /* it is connected, has sent last and waits for more than a second */
    uint32_t waited_ms;                 /* since it sent */
    struct diag_endpoint local, remote; /* of those that ask */
};

struct files {
    struct files_process *processes; /* in the order of the pids */
    size_t process_count;
    struct files_socket *sockets; /* by inode */
    size_t socket_count, socket_room;
    uint32_t *listeners; /* for each port an inode of a socket that listens on it; 0: none */
};

/* 0 or a negative error. `proc_fd` is an open /proc. Processes that vanished or are not ours to look into
 * have zeroes. Those in another network namespace have no dead ones. */
int files_read(struct files *files, int proc_fd, struct netlink *netlink, const pid_t *pids, size_t count);

void files_clear(struct files *files);

/* How many descriptors a process has; 0 when that is not told. */
uint64_t files_open(int proc_fd, pid_t pid);

#endif
