#ifndef REAPER_KERNEL_OWNER_H
#define REAPER_KERNEL_OWNER_H

/* Who holds a socket: from its inode to processes and their file descriptors, by way of /proc.
 *
 * One walk over /proc finds all holders of all wanted sockets, forked ones too, since the kernel has no index
 * from a socket to its holders. It reads the links in every process's fd directory, and everything else
 * (program, state) only of processes that hold a wanted socket. What it was not allowed to look into it
 * counts, so that nobody takes "not found" for "nobody".
 *
 * The caller owns a struct owners and frees it with owners_clear(); one thread at a time may use it. What it
 * says is past at once: a process may end and its number be given anew, a descriptor be closed and opened as
 * something else. Whoever acts checks the socket's cookie on the descriptor itself.
 *
 * Sources: proc(5), Documentation/filesystems/proc.rst. */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { OWNER_PROGRAM = 64, OWNER_WCHAN = 64, OWNER_COMMAND = 128, OWNER_SERVICE = 80 };

struct owner_process {
    pid_t pid;
    uid_t uid;
    char program
        [OWNER_PROGRAM];     /* the kernel's name of it, cut to 15 bytes by the kernel; clean, see text.h */
    char state;              /* R, S, D, T, t, Z ... of its main thread; '?' when it went away */
    char wchan[OWNER_WCHAN]; /* where its main thread sleeps in the kernel; "" when that is not told */
    char command
        [OWNER_COMMAND]; /* its command line, cut; a program may rewrite it, as PostgreSQL does; clean */
    char service
        [OWNER_SERVICE]; /* "nginx.service" or "container 0123456789ab", from its control group; "" where
                                    it has none; clean */
    unsigned threads;
    unsigned blocked_threads; /* in states D, T, t */
};

/* One descriptor of one process. */
struct owner_holder {
    uint32_t inode;
    uint32_t process; /* index into processes */
    int fd;
};

struct owners {
    struct owner_holder *holders; /* sorted by inode, then pid, then fd */
    size_t holder_count, holder_room;
    struct owner_process *processes;
    size_t process_count, process_room;
    pid_t *denied; /* processes that we may not look into */
    size_t denied_count, denied_room;
};

/* Finds the holders of `count` socket inodes (any order, may repeat; zeroes are ignored). `proc_fd` is an
 * open directory, usually /proc. Returns 0, -ENOMEM, or an error of reading that directory itself; processes
 * that vanish or may not be looked into are no error. On an error `owners` is empty. */
int owners_find(struct owners *owners, int proc_fd, const uint32_t *inodes, size_t count);

/* The same; -ECANCELED soon after *stop has become true. NULL: never. */
int owners_find_until(struct owners *owners, int proc_fd, const uint32_t *inodes, size_t count,
                      const atomic_bool *stop);

void owners_clear(struct owners *owners);

/* The holders of one inode: sets *first and returns how many there are. */
size_t owners_of(const struct owners *owners, uint32_t inode, const struct owner_holder **first);

/* Whether that process's descriptor is still that socket: 1 yes, 0 no, or -EACCES. */
int owner_holds(int proc_fd, pid_t pid, int fd, uint32_t inode);

/* What people know it by: its service, else its command line, else its program's name. Points into it. */
const char *owner_known_as(const struct owner_process *process);

/* The service in the text of /proc/PID/cgroup, "" where there is none: the innermost systemd unit that is a
 * service, or the first twelve digits of a container's id, as docker, podman and Kubernetes name its
 * group. */
void owner_service_of(const char *cgroup, char service[OWNER_SERVICE]);

/* "running", "sleeping", "stopped" ... for the letter of /proc/PID/stat. Static storage. */
const char *owner_state_name(char state);

#endif
