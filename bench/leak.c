#include "bench/leak.h"
#include "bench/leak_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct leak_backend {
    pid_t server, holder; /* 0: not started */
    struct sockaddr_storage address;
    struct leak_options options;
    struct leak_tally *tally; /* shared with the server */
};

void leak_options_default(struct leak_options *options)
{
    *options = (struct leak_options){
        .mode = LEAK_NEVER_CLOSE, .backlog = 4096, .response_bytes = 6, .trickle_ms = 1000};
}

/* --- in the children --- */

static void close_all_but(int a, int b)
{
    unsigned low = (unsigned)(a < b ? a : b);
    unsigned high = (unsigned)(a < b ? b : a);
    if (low > 3)
        close_range(3, low - 1, 0);
    if (high - low > 1)
        close_range(low + 1, high - 1, 0);
    close_range(high + 1, ~0U, 0);
}

/* Makes the fresh process a child that ends with its parent and holds as many connections as it is allowed
 * to. */
static void child_settle(pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1); /* it died before the line above */
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static _Noreturn void child_end(const char *who, int error)
{
    if (error < 0)
        fprintf(stderr, "lastack leak: the %s failed: %s\n", who, strerror(-error));
    _exit(error < 0 ? 1 : 0);
}

/* --- in the caller --- */

static int holder_start(struct leak_backend *backend, int channel)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        child_settle(parent);
        close_all_but(channel, channel);
        child_end("holder", leak_holder_run(channel));
    }
    backend->holder = pid;
    return 0;
}

static int server_start(struct leak_backend *backend, int listener, int holder)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        child_settle(parent);
        close_all_but(listener, holder < 0 ? listener : holder);
        child_end("server", leak_server_run(listener, holder, &backend->options, backend->tally));
    }
    backend->server = pid;
    return 0;
}

static int processes_start(struct leak_backend *backend, int listener)
{
    if (!leak_mode_has_holder(backend->options.mode))
        return server_start(backend, listener, -1);
    int channel[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) < 0)
        return -errno;
    int error = holder_start(backend, channel[1]);
    if (error == 0)
        error = server_start(backend, listener, channel[0]);
    close(channel[0]);
    close(channel[1]);
    return error;
}

static socklen_t address_length(const struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static int bind_and_listen(struct leak_backend *backend, int fd)
{
    struct sockaddr *address = (struct sockaddr *)&backend->address;
    socklen_t length = address_length(&backend->address);
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0 || /* inherited by what is accepted */
        bind(fd, address, length) < 0 || listen(fd, backend->options.backlog) < 0 ||
        getsockname(fd, address, &length) < 0)
        return -errno;
    return 0;
}

static int leak_launch(struct leak_backend *backend)
{
    int fd = socket(backend->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int error = bind_and_listen(backend, fd);
    if (error == 0)
        error = processes_start(backend, fd);
    close(fd);
    return error;
}

int leak_start(struct leak_backend **out, const struct leak_options *options)
{
    struct leak_backend *backend = calloc(1, sizeof *backend);
    if (!backend)
        return -ENOMEM;
    backend->options = *options;
    backend->address = options->address;
    backend->tally =
        mmap(NULL, sizeof *backend->tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (backend->tally == MAP_FAILED) {
        free(backend);
        return -ENOMEM;
    }
    int error = leak_launch(backend);
    if (error < 0) {
        leak_stop(backend);
        return error;
    }
    *out = backend;
    return 0;
}

static void child_stop(pid_t pid)
{
    if (pid == 0)
        return;
    kill(pid, SIGKILL); /* also ends a stopped process */
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
}

void leak_stop(struct leak_backend *backend)
{
    child_stop(backend->server);
    child_stop(backend->holder);
    munmap(backend->tally, sizeof *backend->tally);
    free(backend);
}

const struct sockaddr *leak_address(const struct leak_backend *backend)
{
    return (const struct sockaddr *)&backend->address;
}

pid_t leak_server(const struct leak_backend *backend)
{
    return backend->server;
}

struct leak_counts leak_counts(const struct leak_backend *backend)
{
    return (struct leak_counts){.accepted = atomic_load(&backend->tally->accepted),
                                .requests = atomic_load(&backend->tally->requests),
                                .held = atomic_load(&backend->tally->held)};
}
