#include "proxy/command/listening.h"

#include "reaper/kernel/netlink.h"
#include "reaper/kernel/text.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* #syscalls rest: openat read socket bind connect getsockopt close */

struct search {
    struct diag_endpoint wanted;
    uint32_t inode;
    bool found;
};

/* Only of this host's own addresses a socket can be bound to. */
bool listening_is_ours(const struct sockaddr_storage *address)
{
    union {
        struct sockaddr_storage storage;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr any;
    } probe = {.storage = *address};
    if (address->ss_family == AF_INET)
        probe.in.sin_port = 0;
    else
        probe.in6.sin6_port = 0;
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool bound = fd >= 0 && bind(fd, &probe.any, sizeof probe) == 0;
    if (fd >= 0)
        close(fd);
    return bound;
}

static int on_row(void *context, const struct diag_row *row)
{
    struct search *search = context;
    bool same_family = diag_host_is_v4(row->id.local.host) == diag_host_is_v4(search->wanted.host);
    bool any = diag_host_is_any(row->id.local.host) || diag_host_is_any(search->wanted.host);
    bool all_families = diag_host_is_any(row->id.local.host) && !row->v6_only;
    bool same_host = memcmp(row->id.local.host, search->wanted.host, sizeof row->id.local.host) == 0;
    if (!same_host && !(any && (same_family || all_families)))
        return 0;
    search->found = true;
    search->inode = row->inode;
    return 0;
}

static int find_socket(struct search *search)
{
    struct netlink *netlink;
    const struct diag_filter filter = {.states = DIAG_STATE_BIT(DIAG_LISTEN),
                                       .side = DIAG_LOCAL,
                                       .ports = &search->wanted.port,
                                       .port_count = 1};
    const struct netlink_sink sink = {.row = on_row, .context = search};
    int error = netlink_open(&netlink);
    if (error)
        return error;
    error = netlink_dump(netlink, &filter, &sink);
    netlink_close(netlink);
    return error;
}

static bool find_process(uint32_t inode, struct owner_process *process)
{
    struct owners owners = {0};
    const struct owner_holder *first;
    int proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool found = proc_fd >= 0 && owners_find(&owners, proc_fd, &inode, 1) == 0 &&
                 owners_of(&owners, inode, &first) > 0;
    if (found)
        *process = owners.processes[first->process];
    owners_clear(&owners);
    if (proc_fd >= 0)
        close(proc_fd);
    return found;
}

/* Who called listen(2), as whoever connects is told (unix(7), SO_PEERCRED). */
static int find_path(const struct sockaddr_storage *address, struct listening *out)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    char path[32];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    out->is_ours = true;
    out->found = connect(fd, (const struct sockaddr *)address, sizeof(struct sockaddr_un)) == 0;
    if (out->found && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0) {
        snprintf(path, sizeof path, "/proc/%d/comm", (int)peer.pid);
        FILE *file = fopen(path, "re");
        out->has_name = file && fgets(out->process.program, sizeof out->process.program, file);
        out->process.program[strcspn(out->process.program, "\n")] = '\0';
        text_clean(out->process.program);
        out->process.pid = peer.pid;
        if (file)
            fclose(file);
    }
    close(fd);
    return 0;
}

int listening_find(const struct sockaddr_storage *address, bool want_name, struct listening *out)
{
    struct search search = {0};
    *out = (struct listening){0};
    if (address->ss_family == AF_UNIX && want_name)
        return find_path(address, out);
    if (!diag_endpoint_of(address, &search.wanted))
        return -EAFNOSUPPORT;
    out->is_ours = listening_is_ours(address);
    if (!out->is_ours)
        return 0;
    int error = find_socket(&search);
    out->found = search.found;
    if (!error && search.found && want_name && search.inode)
        out->has_name = find_process(search.inode, &out->process);
    return error;
}
