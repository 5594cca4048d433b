#include "reaper/kernel/ladder.h"

#include "reaper/error.h"
#include "reaper/words.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* #syscalls finish: openat read pidfd_open pidfd_getfd getsockopt setsockopt shutdown close */

struct word {
    const char *name, *text;
};

static const struct word outcomes[LADDER_OUTCOME_COUNT] = {
#define X(constant, name, text) [constant] = {(name), (text)},
    LADDER_OUTCOME_MAP(X)
#undef X
};

const char *const ladder_words[] = {
    [LADDER_REPORT] = "report",
    [LADDER_FINISH] = "finish",
    [LADDER_DESTROY] = "destroy",
    [LADDER_BOTH] = "ladder",
    NULL,
};

const char *ladder_action_name(enum ladder_action action)
{
    return ladder_words[action];
}

int ladder_action_parse(const char *name)
{
    int action = words_find(ladder_words, name);
    return action < 0 ? -EINVAL : action;
}

const char *ladder_outcome_name(enum ladder_outcome outcome)
{
    return outcomes[outcome].name;
}

const char *ladder_outcome_text(enum ladder_outcome outcome)
{
    return outcomes[outcome].text;
}

/* ---- rights ---- */

static bool capable(unsigned capability)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {{0}};
    if (syscall(SYS_capget, &head, data) < 0)
        return false;
    return data[capability / 32].effective >> capability % 32 & 1;
}

static int yama_scope(int proc_fd)
{
    char text[8] = "";
    int fd = openat(proc_fd, "sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    return length > 0 ? (int)strtol(text, NULL, 10) : 0;
}

/* A copy of that descriptor of that process, or a negative error. */
static int descriptor_fetch(pid_t pid, int fd)
{
    long pidfd = syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return -errno;
    long copy = syscall(SYS_pidfd_getfd, (int)pidfd, fd, 0);
    int error = -errno;
    close((int)pidfd);
    return copy < 0 ? error : (int)copy;
}

/* Whether other processes' descriptors may be fetched. Yama's scopes: Documentation/admin-guide/LSM/Yama.rst.
 */
static int finish_probe(int proc_fd, int scope)
{
    int copy = descriptor_fetch(getpid(), proc_fd);
    if (copy < 0)
        return copy;
    close(copy);
    if (scope >= 3)
        return -EPERM;
    if (capable(CAP_SYS_PTRACE))
        return 0;
    return scope == 0 ? -EACCES : -EPERM;
}

/* A socket connected to itself (a simultaneous open with one end, RFC 9293 3.5): no listener, no peer, no
 * port that anyone else could reach. */
static int socket_to_itself(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct linger abort_on_close = {.l_onoff = 1}; /* leaves no TIME_WAIT behind */
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_on_close, sizeof abort_on_close) == 0 &&
        bind(fd, (const struct sockaddr *)&address, length) == 0 &&
        getsockname(fd, (struct sockaddr *)&address, &length) == 0 &&
        connect(fd, (const struct sockaddr *)&address, length) == 0)
        return fd;
    int error = -errno;
    close(fd);
    return error;
}

static int socket_id(int fd, struct diag_id *id)
{
    struct sockaddr_in address = {0};
    socklen_t length = sizeof address, cookie_length = sizeof id->cookie;
    *id = (struct diag_id){.family = AF_INET};
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_COOKIE, &id->cookie, &cookie_length) < 0)
        return -errno;
    id->local.port = ntohs(address.sin_port);
    id->local.host[10] = id->local.host[11] = 0xff;
    memcpy(id->local.host + 12, &address.sin_addr, 4);
    id->remote = id->local;
    return 0;
}

/* The kernel looks for the socket before it looks at rights, so only a socket that exists tells. */
static int destroy_probe(struct netlink *netlink)
{
    struct diag_id id;
    int fd = socket_to_itself();
    if (fd < 0) /* loopback is down: the capability is the best that can be asked */
        return capable(CAP_NET_ADMIN) ? 0 : -EPERM;
    int error = socket_id(fd, &id);
    if (error == 0)
        error = netlink_destroy(netlink, &id);
    close(fd);
    return error;
}

void ladder_probe(struct netlink *netlink, int proc_fd, struct ladder_rights *rights)
{
    rights->yama_scope = yama_scope(proc_fd);
    rights->finish = finish_probe(proc_fd, rights->yama_scope);
    rights->destroy = destroy_probe(netlink);
}

/* ---- rungs ---- */

static int copy_finish(int copy, const struct leak *leak)
{
    uint64_t cookie = 0;
    struct tcp_info info = {0};
    socklen_t cookie_length = sizeof cookie, info_length = sizeof info;
    if (getsockopt(copy, SOL_SOCKET, SO_COOKIE, &cookie, &cookie_length) < 0 || cookie != leak->row.id.cookie)
        return ERROR_STALE;
    if (getsockopt(copy, IPPROTO_TCP, TCP_INFO, &info, &info_length) < 0)
        return -errno;
    if (info.tcpi_state != DIAG_CLOSE_WAIT || info.tcpi_bytes_acked != leak->row.info.acked_bytes)
        return ERROR_STALE;
    return shutdown(copy, SHUT_WR) < 0 ? -errno : 0;
}

int ladder_finish(const struct leak *leak, pid_t pid, int fd)
{
    assert(leak->row.id.cookie != DIAG_NO_COOKIE);
    int copy = descriptor_fetch(pid, fd);
    if (copy < 0)
        return copy;
    int error = copy_finish(copy, leak);
    close(copy);
    return error;
}

int ladder_destroy(struct netlink *netlink, const struct leak *leak)
{
    struct diag_row now;
    assert(leak->row.id.cookie != DIAG_NO_COOKIE);
    int error = netlink_lookup(netlink, &leak->row.id, &now);
    if (error)
        return error;
    if (now.state != DIAG_CLOSE_WAIT || now.inode == 0 || now.info.acked_bytes != leak->row.info.acked_bytes)
        return ERROR_STALE;
    return netlink_destroy(netlink, &leak->row.id);
}

/* One holder is enough, and which one makes no difference: they share the socket. */
static int finish_by_any(const struct owners *owners, const struct leak *leak)
{
    const struct owner_holder *holders;
    size_t count = owners_of(owners, leak->row.inode, &holders);
    int error = ERROR_NOT_VISIBLE;
    for (size_t i = 0; i < count; i++) {
        error = ladder_finish(leak, owners->processes[holders[i].process].pid, holders[i].fd);
        if (error == 0)
            break;
    }
    return error;
}

/* Looked at in the moment of acting: the dump may be seconds old, and a row can be missed in it. */
static bool peer_waits(struct netlink *netlink, const struct leak *leak)
{
    const struct diag_id mirror = {.family = leak->row.id.family,
                                   .local = leak->row.id.remote,
                                   .remote = leak->row.id.local,
                                   .cookie = DIAG_NO_COOKIE};
    struct diag_row peer;
    return netlink_lookup(netlink, &mirror, &peer) == 0 && peer.inode != 0;
}

static bool still_held(int proc_fd, const struct owners *owners, const struct leak *leak)
{
    const struct owner_holder *holders;
    size_t count = owners_of(owners, leak->row.inode, &holders);
    for (size_t i = 0; i < count; i++) {
        pid_t pid = owners->processes[holders[i].process].pid;
        if (owner_holds(proc_fd, pid, holders[i].fd, leak->row.inode) == 1)
            return true;
    }
    return false;
}

struct ladder_result ladder_climb(struct netlink *netlink, int proc_fd, const struct owners *owners,
                                  const struct leak *leak, const struct guard_policy *policy,
                                  enum ladder_action action)
{
    struct ladder_result result = {.rung = action == LADDER_DESTROY ? LADDER_DESTROY : LADDER_FINISH};
    assert(action != LADDER_REPORT);
    if (!policy->even_waiting && peer_waits(netlink, leak))
        result.error = ERROR_WAITING;
    else if (!policy->even_unseen && !still_held(proc_fd, owners, leak))
        result.error = ERROR_NOT_VISIBLE;
    if (result.error)
        return result;
    if (action != LADDER_DESTROY)
        result.error = finish_by_any(owners, leak);
    if (action == LADDER_FINISH ||
        (action == LADDER_BOTH && result.error == 0 && ladder_verify(netlink, leak) != LADDER_STILL))
        return result;
    result.rung = LADDER_DESTROY;
    result.error = ladder_destroy(netlink, leak);
    return result;
}

int ladder_verify(struct netlink *netlink, const struct leak *leak)
{
    struct diag_row now;
    int error = netlink_lookup(netlink, &leak->row.id, &now);
    if (error == -ENOENT)
        return LADDER_GONE;
    if (error)
        return error;
    switch (now.state) {
    case DIAG_CLOSE_WAIT:
        return LADDER_STILL;
    case DIAG_LAST_ACK:
        return LADDER_LAST_ACK;
    default:
        return LADDER_GONE;
    }
}
