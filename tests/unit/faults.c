#include "tests/unit/faults.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

static struct {
    _Atomic int site; /* enum fault_site; FAULT_SITE_COUNT: none is armed */
    enum fault_threads threads;
    pthread_t mine;
    int error;
    unsigned first, count;
    _Atomic unsigned calls, failed;
} fault = {.site = FAULT_SITE_COUNT};

void fault_arm(enum fault_site site, enum fault_threads threads, int error, unsigned first, unsigned count)
{
    fault.threads = threads;
    fault.mine = pthread_self();
    fault.error = error;
    fault.first = first;
    fault.count = count;
    atomic_store(&fault.calls, 0);
    atomic_store(&fault.failed, 0);
    atomic_store(&fault.site, (int)site);
}

unsigned fault_failed(void)
{
    return atomic_load(&fault.failed);
}

unsigned fault_disarm(void)
{
    atomic_store(&fault.site, FAULT_SITE_COUNT);
    return atomic_load(&fault.failed);
}

static bool fails(enum fault_site site)
{
    if (atomic_load(&fault.site) != (int)site)
        return false;
    if ((pthread_equal(pthread_self(), fault.mine) != 0) != (fault.threads == FAULT_MINE))
        return false;
    unsigned call = atomic_fetch_add(&fault.calls, 1) + 1;
    if (call < fault.first || call - fault.first >= fault.count)
        return false;
    atomic_fetch_add(&fault.failed, 1);
    errno = fault.error;
    return true;
}

/* A wrapper of a function with a fixed list of parameters. */
#define WRAP(site, type, failure, name, parameters, arguments)                                               \
    type __real_##name parameters;                                                                           \
    type __wrap_##name parameters;                                                                           \
    type __wrap_##name parameters                                                                            \
    {                                                                                                        \
        return fails(site) ? (failure) : __real_##name arguments;                                            \
    }

WRAP(FAULT_MEMORY, void *, NULL, malloc, (size_t size), (size))
WRAP(FAULT_MEMORY, void *, NULL, calloc, (size_t count, size_t size), (count, size))
WRAP(FAULT_MEMORY, void *, NULL, reallocarray, (void *array, size_t count, size_t size), (array, count, size))
WRAP(FAULT_MEMORY, char *, NULL, strdup, (const char *text), (text))
WRAP(FAULT_ACCEPT, int, -1, accept4, (int fd, struct sockaddr *address, socklen_t *length, int flags),
     (fd, address, length, flags))
WRAP(FAULT_SOCKET, int, -1, socket, (int family, int type, int protocol), (family, type, protocol))
WRAP(FAULT_CONNECT, int, -1, connect, (int fd, const struct sockaddr *address, socklen_t length),
     (fd, address, length))
WRAP(FAULT_BIND, int, -1, bind, (int fd, const struct sockaddr *address, socklen_t length),
     (fd, address, length))
WRAP(FAULT_LISTEN, int, -1, listen, (int fd, int backlog), (fd, backlog))
WRAP(FAULT_EPOLL_CTL, int, -1, epoll_ctl, (int set, int what, int fd, struct epoll_event *event),
     (set, what, fd, event))
WRAP(FAULT_EPOLL_CREATE, int, -1, epoll_create1, (int flags), (flags))
WRAP(FAULT_EPOLL_WAIT, int, -1, epoll_wait, (int set, struct epoll_event *events, int max, int timeout_ms),
     (set, events, max, timeout_ms))
WRAP(FAULT_PIPE, int, -1, pipe2, (int fds[2], int flags), (fds, flags))
WRAP(FAULT_SPLICE, ssize_t, -1, splice,
     (int in, off_t *in_at, int out, off_t *out_at, size_t size, unsigned flags),
     (in, in_at, out, out_at, size, flags))
WRAP(FAULT_RECV, ssize_t, -1, recv, (int fd, void *bytes, size_t size, int flags), (fd, bytes, size, flags))
/* recv() of an optimised build, where the size of the memory is known (_FORTIFY_SOURCE). */
WRAP(FAULT_RECV, ssize_t, -1, __recv_chk, (int fd, void *bytes, size_t size, size_t space, int flags),
     (fd, bytes, size, space, flags))
WRAP(FAULT_SEND, ssize_t, -1, send, (int fd, const void *bytes, size_t size, int flags),
     (fd, bytes, size, flags))
WRAP(FAULT_SOCKNAME, int, -1, getsockname, (int fd, struct sockaddr *address, socklen_t *length),
     (fd, address, length))
WRAP(FAULT_SETSOCKOPT, int, -1, setsockopt,
     (int fd, int level, int name, const void *value, socklen_t length), (fd, level, name, value, length))
WRAP(FAULT_GETSOCKOPT, int, -1, getsockopt, (int fd, int level, int name, void *value, socklen_t *length),
     (fd, level, name, value, length))
WRAP(FAULT_THREAD, int, -EAGAIN, uv_thread_create, (uv_thread_t * thread, uv_thread_cb entry, void *context),
     (thread, entry, context))

WRAP(FAULT_MEMORY, DIR *, NULL, fdopendir, (int fd), (fd))
WRAP(FAULT_SHUTDOWN, int, -1, shutdown, (int fd, int how), (fd, how))
WRAP(FAULT_READ, ssize_t, -1, read, (int fd, void *bytes, size_t size), (fd, bytes, size))
WRAP(FAULT_READLINK, ssize_t, -1, readlinkat, (int folder, const char *name, char *target, size_t size),
     (folder, name, target, size))
WRAP(FAULT_STAT, int, -1, fstat, (int fd, struct stat *status), (fd, status))

/* Those with optional parameters. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
int __real_openat(int folder, const char *name, int flags, ...);
int __wrap_openat(int folder, const char *name, int flags, ...);
int __real_fcntl(int fd, int what, ...);
int __wrap_fcntl(int fd, int what, ...);
int __real_ioctl(int fd, unsigned long what, ...);
int __wrap_ioctl(int fd, unsigned long what, ...);

int __wrap_fcntl(int fd, int what, ...)
{
    va_list list;
    va_start(list, what);
    long argument = va_arg(list, long);
    va_end(list);
    return fails(FAULT_FCNTL) ? -1 : __real_fcntl(fd, what, argument);
}

int __wrap_ioctl(int fd, unsigned long what, ...)
{
    va_list list;
    va_start(list, what);
    void *argument = va_arg(list, void *);
    va_end(list);
    return fails(FAULT_IOCTL) ? -1 : __real_ioctl(fd, what, argument);
}

int __wrap_openat(int folder, const char *name, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    int mode = va_arg(list, int);
    va_end(list);
    return fails(FAULT_OPENAT) ? -1 : __real_openat(folder, name, flags, mode);
}

/* Ours have three arguments at most. */
long __wrap_syscall(long number, ...)
{
    va_list list;
    va_start(list, number);
    long first = va_arg(list, long);
    long second = va_arg(list, long);
    long third = va_arg(list, long);
    va_end(list);
    return fails(FAULT_SYSCALL) ? -1 : __real_syscall(number, first, second, third);
}
