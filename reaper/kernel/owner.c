#include "reaper/kernel/owner.h"

#include "reaper/array.h"
#include "reaper/kernel/decimal.h"
#include "reaper/kernel/text.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* #syscalls rest: openat newfstatat fstat read getdents64 readlinkat close */

/* A set of inodes with open addressing: asked once for every descriptor on the machine. 0 is no inode. */
struct inode_set {
    uint32_t *slots;
    uint32_t mask;
};

/* What a walk needs at hand. */
struct walk {
    struct owners *owners;
    struct inode_set wanted;
    const atomic_bool *stop;
    char *entries; /* for getdents64, allocated once for all directories but /proc itself */
};

enum { ENTRIES_BYTES = 64 * 1024 };

static uint32_t set_slot(const struct inode_set *set, uint32_t inode)
{
    uint32_t slot = inode * UINT32_C(2654435769) & set->mask; /* Knuth's multiplicative hash */
    while (set->slots[slot] != 0 && set->slots[slot] != inode)
        slot = (slot + 1) & set->mask;
    return slot;
}

static bool set_has(const struct inode_set *set, uint32_t inode)
{
    return inode != 0 && set->slots[set_slot(set, inode)] == inode;
}

static int set_make(struct inode_set *set, const uint32_t *inodes, size_t count)
{
    size_t size = 16;
    while (size < count * 2)
        size *= 2;
    assert(size <= UINT32_MAX);
    set->mask = (uint32_t)(size - 1);
    set->slots = calloc(size, sizeof *set->slots);
    if (!set->slots)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++)
        if (inodes[i] != 0)
            set->slots[set_slot(set, inodes[i])] = inodes[i];
    return 0;
}

static int denied_add(struct owners *owners, pid_t pid)
{
    pid_t *denied = array_grow(owners->denied, owners->denied_count, &owners->denied_room, sizeof *denied);
    if (!denied)
        return -ENOMEM;
    owners->denied = denied;
    denied[owners->denied_count++] = pid;
    return 0;
}

static int holder_add(struct owners *owners, struct owner_holder holder)
{
    struct owner_holder *holders =
        array_grow(owners->holders, owners->holder_count, &owners->holder_room, sizeof *holders);
    if (!holders)
        return -ENOMEM;
    owners->holders = holders;
    holders[owners->holder_count++] = holder;
    return 0;
}

/* The decimal number, at most 32 bits, that `length` bytes of text are, or -1. */
static int64_t number_parse(const char *text, size_t length)
{
    int64_t number = 0;
    if (length == 0 || length > 10)
        return -1;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        number = number * 10 + (text[i] - '0');
    }
    return number <= UINT32_MAX ? number : -1;
}

/* A file name that is a pid or a descriptor, or -1. */
static int name_parse(const char *name)
{
    int64_t number = number_parse(name, strlen(name));
    return number <= INT32_MAX ? (int)number : -1;
}

/* The inode in "socket:[123]", 0 for a link to anything else, or -1 when there is no such link. */
static int64_t link_inode(int directory_fd, const char *name)
{
    static const char before[] = "socket:[";
    enum { BEFORE = sizeof before - 1 };
    char target[BEFORE + 12];
    ssize_t length = readlinkat(directory_fd, name, target, sizeof target);
    if (length < 0)
        return -1;
    if (length <= BEFORE || memcmp(target, before, BEFORE) != 0 || target[length - 1] != ']')
        return 0;
    int64_t inode = number_parse(target + BEFORE, (size_t)length - BEFORE - 1);
    return inode < 0 ? 0 : inode;
}

/* ---- one process ---- */

/* Reads a small file below `directory_fd`; its text ends with '\0' and without the last line feed, and is
 * clean: a process chooses its own name. */
static ssize_t file_read(int directory_fd, const char *name, char *text, size_t size)
{
    int fd = openat(directory_fd, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t length = read(fd, text, size - 1);
    int error = -errno;
    close(fd);
    if (length < 0)
        return error;
    if (length > 0 && text[length - 1] == '\n')
        length--;
    text[length] = '\0';
    text_clean(text);
    return (ssize_t)strlen(text);
}

/* The letter after "pid (program) "; a program's name may itself have ")" in it. '?' when there is none. */
static char stat_state(const char *stat)
{
    const char *end = strrchr(stat, ')');
    if (!end || end[1] != ' ' || end[2] == '\0')
        return '?';
    return end[2];
}

static bool state_is_blocked(char state)
{
    return state == 'D' || state == 'T' || state == 't';
}

static void threads_read(struct owner_process *process, int pid_fd)
{
    int fd = openat(pid_fd, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory) {
        if (fd >= 0)
            close(fd);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(directory));) {
        char name[32], stat[512];
        if (name_parse(entry->d_name) < 0)
            continue;
        snprintf(name, sizeof name, "%.20s/stat", entry->d_name);
        if (file_read(fd, name, stat, sizeof stat) < 0)
            continue;
        process->threads++;
        process->blocked_threads += state_is_blocked(stat_state(stat));
    }
    closedir(directory);
}

/* The arguments, which '\0' separates, as one line. */
static void command_read(int pid_fd, char command[OWNER_COMMAND])
{
    command[0] = '\0';
    int fd = openat(pid_fd, "cmdline", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t length = read(fd, command, OWNER_COMMAND - 1);
    close(fd);
    while (length > 0 && (command[length - 1] == '\0' || command[length - 1] == ' '))
        length--;
    for (ssize_t i = 0; i < length; i++)
        if (command[i] == '\0')
            command[i] = ' ';
    command[length > 0 ? length : 0] = '\0';
    text_clean(command);
}

enum { CONTAINER_ID = 64, CONTAINER_SHOWN = 12 };

/* The first run of 64 hexadecimal digits: an id as docker, containerd and podman make them. */
static const char *container_find(const char *text, size_t length)
{
    size_t run = 0;
    for (size_t i = 0; i < length; i++) {
        bool digit = (text[i] >= '0' && text[i] <= '9') || (text[i] >= 'a' && text[i] <= 'f');
        run = digit ? run + 1 : 0;
        if (run == CONTAINER_ID)
            return text + i + 1 - CONTAINER_ID;
    }
    return NULL;
}

/* The last part of the path that ends in ".service"; its length, or 0. */
static size_t unit_find(const char *path, size_t length, const char **unit)
{
    static const char end[] = ".service";
    enum { END = sizeof end - 1 };
    size_t found = 0;
    for (size_t from = 0; from < length;) {
        size_t part = strcspn(path + from, "/\n");
        if (part > END && memcmp(path + from + part - END, end, END) == 0) {
            *unit = path + from;
            found = part;
        }
        from += part + 1;
    }
    return found;
}

void owner_service_of(const char *cgroup, char service[OWNER_SERVICE])
{
    service[0] = '\0';
    for (const char *line = cgroup; *line;) {
        size_t length = strcspn(line, "\n");
        const char *unit, *id = container_find(line, length);
        size_t unit_length = unit_find(line, length, &unit);
        if (id) {
            snprintf(service, OWNER_SERVICE, "container %.*s", CONTAINER_SHOWN, id);
            return;
        }
        if (unit_length)
            snprintf(service, OWNER_SERVICE, "%.*s", (int)unit_length, unit);
        line += length + (line[length] == '\n');
    }
    text_clean(service);
}

static void service_read(int pid_fd, char service[OWNER_SERVICE])
{
    char cgroup[4096];
    service[0] = '\0';
    int fd = openat(pid_fd, "cgroup", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t length = read(fd, cgroup, sizeof cgroup - 1);
    close(fd);
    cgroup[length > 0 ? length : 0] = '\0';
    owner_service_of(cgroup, service);
}

const char *owner_known_as(const struct owner_process *process)
{
    if (process->service[0])
        return process->service;
    return process->command[0] ? process->command : process->program;
}

static void process_read(struct owner_process *process, int pid_fd)
{
    char stat[512];
    struct stat owner;
    process->state = '?';
    if (fstat(pid_fd, &owner) == 0)
        process->uid = owner.st_uid;
    if (file_read(pid_fd, "comm", process->program, sizeof process->program) < 0)
        snprintf(process->program, sizeof process->program, "?");
    if (file_read(pid_fd, "stat", stat, sizeof stat) > 0)
        process->state = stat_state(stat);
    /* "0": running, or not ours to know. */
    if (file_read(pid_fd, "wchan", process->wchan, sizeof process->wchan) < 0 ||
        strcmp(process->wchan, "0") == 0)
        process->wchan[0] = '\0';
    command_read(pid_fd, process->command);
    service_read(pid_fd, process->service);
    threads_read(process, pid_fd);
}

static int process_add(struct owners *owners, int pid_fd, pid_t pid)
{
    struct owner_process *processes =
        array_grow(owners->processes, owners->process_count, &owners->process_room, sizeof *processes);
    if (!processes)
        return -ENOMEM;
    owners->processes = processes;
    struct owner_process *process = &processes[owners->process_count++];
    *process = (struct owner_process){.pid = pid};
    process_read(process, pid_fd);
    return 0;
}

/* ---- the walk ---- */

/* Looks at one descriptor's link. Returns 1, 0 when there is none, or -ENOMEM. */
static int fd_look(struct walk *walk, int fds_fd, const char *name, int fd)
{
    int64_t inode = link_inode(fds_fd, name);
    if (inode < 0)
        return 0;
    if (!set_has(&walk->wanted, (uint32_t)inode))
        return 1;
    const struct owner_holder holder = {
        .inode = (uint32_t)inode, .process = (uint32_t)walk->owners->process_count, .fd = fd};
    int error = holder_add(walk->owners, holder);
    return error ? error : 1;
}

/* Looks at descriptors 0, 1, 2 ... and spares the kernel the listing, which costs it a fifth of all. The
 * directory's size says how many there are (since Linux 6.2; 0 before); where they are too sparse it gives
 * up. Returns the first descriptor that it has not looked at, INT_MAX when there are no more, or -ENOMEM. */
static int fds_probe(struct walk *walk, int fds_fd)
{
    struct stat directory;
    if (fstat(fds_fd, &directory) < 0 || directory.st_size <= 0)
        return 0;
    off_t left = directory.st_size, holes_left = directory.st_size / 8;
    for (int fd = 0; left > 0; fd++) {
        char name[12];
        *decimal_put(name, (unsigned)fd) = '\0';
        int looked = fd_look(walk, fds_fd, name, fd);
        if (looked < 0)
            return looked;
        left -= looked;
        if (looked == 0 && --holes_left < 0)
            return fd + 1;
    }
    return INT_MAX;
}

static int fds_list(struct walk *walk, int fds_fd, int from)
{
    ssize_t length;
    while ((length = getdents64(fds_fd, walk->entries, ENTRIES_BYTES)) > 0) {
        for (ssize_t at = 0; at < length;) {
            const struct dirent64 *entry = (const struct dirent64 *)(void *)(walk->entries + at);
            int fd = name_parse(entry->d_name);
            int looked = fd < from ? 0 : fd_look(walk, fds_fd, entry->d_name, fd);
            if (looked < 0)
                return looked;
            at += entry->d_reclen;
        }
    }
    return 0;
}

static int fds_walk(struct walk *walk, int fds_fd)
{
    int from = fds_probe(walk, fds_fd);
    if (from < 0)
        return from;
    return from == INT_MAX ? 0 : fds_list(walk, fds_fd, from);
}

/* Only a lack of memory is an error here: a process that ends meanwhile holds nothing any more. */
static int process_walk(struct walk *walk, int proc_fd, const char *name, pid_t pid)
{
    size_t before = walk->owners->holder_count;
    int pid_fd = openat(proc_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (pid_fd < 0)
        return errno == EACCES || errno == EPERM ? denied_add(walk->owners, pid) : 0;
    int fds_fd = openat(pid_fd, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = 0;
    if (fds_fd >= 0)
        error = fds_walk(walk, fds_fd);
    else if (errno == EACCES || errno == EPERM)
        error = denied_add(walk->owners, pid);
    if (error == 0 && walk->owners->holder_count > before)
        error = process_add(walk->owners, pid_fd, pid);
    if (fds_fd >= 0)
        close(fds_fd);
    close(pid_fd);
    return error;
}

static int processes_walk(struct walk *walk, int proc_fd)
{
    int fd = openat(proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *directory = fdopendir(fd);
    if (!directory) {
        close(fd);
        return -ENOMEM;
    }
    int error = 0;
    for (const struct dirent *entry; error == 0 && (entry = readdir(directory));) {
        pid_t pid = name_parse(entry->d_name);
        if (walk->stop && atomic_load_explicit(walk->stop, memory_order_relaxed))
            error = -ECANCELED;
        else if (pid > 0)
            error = process_walk(walk, proc_fd, entry->d_name, pid);
    }
    closedir(directory);
    return error;
}

static int holder_order(const void *a, const void *b)
{
    const struct owner_holder *left = a, *right = b;
    if (left->inode != right->inode)
        return left->inode < right->inode ? -1 : 1;
    if (left->process != right->process) /* /proc lists pids in order */
        return left->process < right->process ? -1 : 1;
    return (left->fd > right->fd) - (left->fd < right->fd);
}

int owners_find(struct owners *owners, int proc_fd, const uint32_t *inodes, size_t count)
{
    return owners_find_until(owners, proc_fd, inodes, count, NULL);
}

int owners_find_until(struct owners *owners, int proc_fd, const uint32_t *inodes, size_t count,
                      const atomic_bool *stop)
{
    *owners = (struct owners){0};
    struct walk walk = {.owners = owners, .stop = stop, .entries = malloc(ENTRIES_BYTES)};
    int error = walk.entries ? set_make(&walk.wanted, inodes, count) : -ENOMEM;
    if (error == 0)
        error = processes_walk(&walk, proc_fd);
    free(walk.wanted.slots);
    free(walk.entries);
    if (error)
        owners_clear(owners);
    if (owners->holder_count > 1)
        qsort(owners->holders, owners->holder_count, sizeof *owners->holders, holder_order);
    return error;
}

void owners_clear(struct owners *owners)
{
    free(owners->holders);
    free(owners->processes);
    free(owners->denied);
    *owners = (struct owners){0};
}

size_t owners_of(const struct owners *owners, uint32_t inode, const struct owner_holder **first)
{
    size_t low = 0, high = owners->holder_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (owners->holders[middle].inode < inode)
            low = middle + 1;
        else
            high = middle;
    }
    size_t count = 0;
    while (low + count < owners->holder_count && owners->holders[low + count].inode == inode)
        count++;
    *first = count ? &owners->holders[low] : NULL;
    return count;
}

int owner_holds(int proc_fd, pid_t pid, int fd, uint32_t inode)
{
    char name[40];
    snprintf(name, sizeof name, "%d/fd/%d", pid, fd);
    errno = 0;
    if (link_inode(proc_fd, name) == inode)
        return 1;
    return errno == EACCES || errno == EPERM ? -EACCES : 0;
}

const char *owner_state_name(char state)
{
    static const char *const names[] = {
        ['R'] = "running", ['S'] = "sleeping", ['D'] = "blocked", ['T'] = "stopped",
        ['t'] = "traced",  ['Z'] = "a zombie", ['X'] = "dead",    ['I'] = "idle",
    };
    unsigned char index = (unsigned char)state;
    return index < sizeof names / sizeof names[0] && names[index] ? names[index] : "unknown";
}
