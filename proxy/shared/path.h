#ifndef PROXY_SHARED_PATH_H
#define PROXY_SHARED_PATH_H

/* Opens a file by its path without being led elsewhere by somebody else.
 *
 * A symbolic link is followed only where nobody but root and this process's user could have put it: in a
 * folder of theirs that no group (but root's) and no others may write to. /dev/stderr and links that an
 * administrator made are such ones; one in /tmp is not. The kernel's own check (fs.protected_symlinks)
 * knows the folders with a sticky bit only, and openat2(2) can but refuse all links. Any thread. */

#include <sys/types.h>

/* As open(2), of an absolute path. The descriptor, or a negative errno; -ELOOP: a link that is not followed,
 * or too many of them. */
int path_open(const char *path, int flags, mode_t mode);

#endif
