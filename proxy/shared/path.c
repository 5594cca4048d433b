#include "proxy/shared/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* #syscalls rest: openat newfstatat fstat fstatfs readlinkat close */

enum { LINKS_MAX = 40 }; /* as the kernel: path_resolution(7) */

enum { GO_ON = INT_MIN }; /* no error is that */

enum { FOLDER = O_PATH | O_DIRECTORY | O_CLOEXEC };

/* How far the way has been gone. */
struct walk {
    int folder;
    int links;
    char rest[PATH_MAX]; /* what is still to be gone */
};

/* Changes to another folder, or ends in the error. */
static int enter(struct walk *walk, int folder)
{
    int error = folder < 0 ? -errno : 0;
    if (error)
        return error;
    if (walk->folder >= 0)
        close(walk->folder);
    walk->folder = folder;
    return 0;
}

/* Cuts the first name off. True: it was the last one. */
static bool next_name(struct walk *walk, char name[static NAME_MAX + 1])
{
    const char *from = walk->rest + strspn(walk->rest, "/");
    size_t size = strcspn(from, "/");
    size_t taken = size > NAME_MAX ? NAME_MAX : size;
    memcpy(name, from, taken);
    name[taken] = '\0';
    from += size;
    from += strspn(from, "/");
    memmove(walk->rest, from, strlen(from) + 1);
    return walk->rest[0] == '\0';
}

static bool others_may_write(int folder)
{
    struct stat status;
    if (fstat(folder, &status))
        return true;
    bool group = (status.st_mode & S_IWGRP) && status.st_gid != 0;
    bool owner = status.st_uid != 0 && status.st_uid != geteuid();
    return owner || group || (status.st_mode & S_IWOTH);
}

/* Its links lead to open files and not to paths, and nobody can make one. */
static bool is_proc(int folder)
{
    struct statfs status;
    return fstatfs(folder, &status) == 0 && status.f_type == PROC_SUPER_MAGIC;
}

/* What the link says comes before what is left. */
static int follow(struct walk *walk, const char *name)
{
    char target[PATH_MAX], rest[PATH_MAX];
    if (++walk->links > LINKS_MAX || others_may_write(walk->folder))
        return -ELOOP;
    ssize_t size = readlinkat(walk->folder, name, target, sizeof target - 1);
    if (size < 0)
        return -errno;
    target[size] = '\0';
    int written = snprintf(rest, sizeof rest, "%s/%s", target, walk->rest);
    if (written < 0 || (size_t)written >= sizeof rest)
        return -ENAMETOOLONG;
    memcpy(walk->rest, rest, (size_t)written + 1);
    return target[0] == '/' ? enter(walk, open("/", FOLDER)) : 0;
}

/* One name. The descriptor where it was the last one, GO_ON, or a negative errno. */
static int step(struct walk *walk, int flags, mode_t mode)
{
    char name[NAME_MAX + 1];
    struct stat status;
    bool last = next_name(walk, name);
    bool found = fstatat(walk->folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
    bool link = found && S_ISLNK(status.st_mode);
    bool led = link && is_proc(walk->folder);
    if (link && !led) {
        int error = follow(walk, name);
        return error ? error : GO_ON;
    }
    int fd = openat(walk->folder, name, (last ? flags : FOLDER) | (led ? 0 : O_NOFOLLOW), mode);
    if (last)
        return fd < 0 ? -errno : fd;
    int error = enter(walk, fd);
    return error ? error : GO_ON;
}

int path_open(const char *path, int flags, mode_t mode)
{
    struct walk walk = {.folder = -1};
    size_t size = strlen(path);
    if (size >= sizeof walk.rest)
        return -ENAMETOOLONG;
    memcpy(walk.rest, path, size + 1);
    int result = enter(&walk, open("/", FOLDER));
    while (!result && (result = step(&walk, flags, mode)) == GO_ON)
        result = 0;
    if (walk.folder >= 0)
        close(walk.folder);
    return result;
}
