#include "reaper/kernel/files.h"

#include "reaper/array.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

/* ---- one process ---- */

static DIR *directory_open(int proc_fd, pid_t pid)
{
    char path[32];
    snprintf(path, sizeof path, "%d/fd", pid);
    int fd = openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory && fd >= 0)
        close(fd);
    return directory;
}

uint64_t files_open(int proc_fd, pid_t pid)
{
    DIR *directory = directory_open(proc_fd, pid);
    uint64_t count = 0;
    if (!directory)
        return 0;
    for (const struct dirent *entry; (entry = readdir(directory));)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

static uint64_t limit_parse(const char **at)
{
    static const char unlimited[] = "unlimited";
    *at += strspn(*at, " ");
    if (strncmp(*at, unlimited, sizeof unlimited - 1) == 0) {
        *at += sizeof unlimited - 1;
        return UINT64_MAX;
    }
    char *end;
    uint64_t limit = strtoull(*at, &end, 10);
    *at = end;
    return limit;
}

static void limits_read(int proc_fd, struct files_process *process)
{
    static const char label[] = "Max open files";
    char path[32], text[4096];
    snprintf(path, sizeof path, "%d/limits", process->pid);
    int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    text[length > 0 ? length : 0] = '\0';
    const char *at = strstr(text, label);
    if (!at)
        return;
    at += sizeof label - 1;
    process->soft = limit_parse(&at);
    process->hard = limit_parse(&at);
}

static int socket_add(struct files *files, struct files_socket socket)
{
    struct files_socket *larger =
        array_grow(files->sockets, files->socket_count, &files->socket_room, sizeof *larger);
    if (!larger)
        return -ENOMEM;
    files->sockets = larger;
    larger[files->socket_count++] = socket;
    return 0;
}

static int process_read(struct files *files, int proc_fd, uint32_t index)
{
    struct files_process *process = &files->processes[index];
    DIR *directory = directory_open(proc_fd, process->pid);
    int error = 0;
    if (!directory)
        return 0;
    limits_read(proc_fd, process);
    for (const struct dirent *entry; !error && (entry = readdir(directory));) {
        char link[40];
        if (entry->d_name[0] == '.')
            continue;
        process->open++;
        ssize_t length = readlinkat(dirfd(directory), entry->d_name, link, sizeof link - 1);
        if (length < 0)
            continue;
        link[length] = '\0';
        if (strncmp(link, "socket:[", 8) == 0)
            error = socket_add(files, (struct files_socket){.inode = (uint32_t)strtoul(link + 8, NULL, 10),
                                                            .process = index,
                                                            .fd = (int)strtol(entry->d_name, NULL, 10)});
    }
    closedir(directory);
    return error;
}

/* ---- the kernel's table ---- */

static int inode_order(const void *a, const void *b)
{
    const struct files_socket *left = a, *right = b;
    return left->inode < right->inode ? -1 : left->inode > right->inode;
}

enum { ASKS_MS = 1000 };

/* The kernel sets the time of what was received last when a connection is made, too. */
static bool row_asks(const struct diag_row *row)
{
    const struct diag_info *info = &row->info;
    return row->state == DIAG_ESTABLISHED && row->has_info && info->sent_bytes > 0 &&
           info->last_data_sent_ms >= ASKS_MS &&
           (info->received_bytes == 0 || info->last_data_sent_ms < info->last_data_recv_ms);
}

static int row_take(void *context, const struct diag_row *row)
{
    struct files *files = context;
    const struct files_socket key = {.inode = row->inode};
    if (row->state == DIAG_LISTEN)
        files->listeners[row->id.local.port] = row->inode;
    if (row->inode == 0 || files->socket_count == 0)
        return 0;
    struct files_socket *first = bsearch(&key, files->sockets, files->socket_count, sizeof key, inode_order);
    struct files_socket *end = files->sockets + files->socket_count;
    while (first && first > files->sockets && first[-1].inode == row->inode)
        first--;
    for (struct files_socket *at = first; at && at < end && at->inode == row->inode; at++) {
        at->found = true;
        at->asks = row_asks(row);
        at->waited_ms = row->info.last_data_sent_ms;
        at->local = row->id.local;
        at->remote = row->id.remote;
    }
    return 0;
}

static void restart(void *context)
{
    (void)context; /* what was found stays found */
}

/* Whether that descriptor is a TCP socket, by the name that the kernel's sockfs gives its protocol. */
static bool is_tcp(int proc_fd, pid_t pid, int fd)
{
    char path[64], name[16] = "";
    snprintf(path, sizeof path, "/proc/self/fd/%d/%d/fd/%d", proc_fd, pid, fd);
    return getxattr(path, "system.sockprotoname", name, sizeof name - 1) > 0 && strncmp(name, "TCP", 3) == 0;
}

static bool same_namespace(int proc_fd, pid_t pid)
{
    char path[32];
    struct stat own, other;
    snprintf(path, sizeof path, "%d/ns/net", pid);
    return fstatat(proc_fd, "self/ns/net", &own, 0) == 0 && fstatat(proc_fd, path, &other, 0) == 0 &&
           own.st_ino == other.st_ino && own.st_dev == other.st_dev;
}

static void dead_count(struct files *files, int proc_fd)
{
    for (size_t i = 0; i < files->socket_count; i++) {
        struct files_process *process = &files->processes[files->sockets[i].process];
        bool doubled = i > 0 && files->sockets[i - 1].inode == files->sockets[i].inode &&
                       files->sockets[i - 1].process == files->sockets[i].process;
        if (!files->sockets[i].found && !doubled && is_tcp(proc_fd, process->pid, files->sockets[i].fd))
            process->dead++;
        if (files->sockets[i].asks && files->listeners[files->sockets[i].local.port])
            files->sockets[i].asks = false; /* it answers others: who waits there is the other end */
    }
    for (size_t i = 0; i < files->process_count; i++)
        if (files->processes[i].dead && !same_namespace(proc_fd, files->processes[i].pid))
            files->processes[i].dead = 0;
}

int files_read(struct files *files, int proc_fd, struct netlink *netlink, const pid_t *pids, size_t count)
{
    const struct diag_filter filter = {.states = DIAG_STATES_ALL, .want_info = true};
    const struct netlink_sink sink = {.row = row_take, .restart = restart, .context = files};
    *files = (struct files){.processes = calloc(count + 1, sizeof *files->processes),
                            .process_count = count,
                            .listeners = calloc(UINT16_MAX + 1, sizeof *files->listeners)};
    int error = files->processes && files->listeners ? 0 : -ENOMEM;
    for (size_t i = 0; !error && i < count; i++) {
        files->processes[i].pid = pids[i];
        error = process_read(files, proc_fd, (uint32_t)i);
    }
    if (!error && files->socket_count > 1)
        qsort(files->sockets, files->socket_count, sizeof *files->sockets, inode_order);
    if (!error)
        error = netlink_dump(netlink, &filter, &sink);
    if (!error)
        dead_count(files, proc_fd);
    else
        files_clear(files);
    return error;
}

void files_clear(struct files *files)
{
    free(files->processes);
    free(files->sockets);
    free(files->listeners);
    *files = (struct files){0};
}
