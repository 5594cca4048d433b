#ifndef PROXY_SOCKET_PIPE_H
#define PROXY_SOCKET_PIPE_H

/* Pipes for splice(2), made once and lent to whichever half moves bulk at the moment.
 *
 * A pool belongs to one worker and its thread. A pipe made per connection would cost a third of the
 * connection rate (bench/README.md), and one kept per session would cost two descriptors; a pool costs
 * neither. When the kernel gives no more pipes, or only small ones (fs.pipe-user-pages-soft), the half is
 * copied instead. */

#include <stdbool.h>
#include <stddef.h>

/* What a pipe is asked to hold, and how many a worker has at most: 64 x 1 MiB is what fs.pipe-user-pages-soft
 * lets an unprivileged user have. */
enum { PIPE_SIZE = 1 << 20, PIPES_MAX = 32 };

struct pipe {
    struct pipe *next; /* in the pool's list of idle ones */
    int read_fd, write_fd;
    size_t size;  /* capacity, bytes */
    size_t bytes; /* in it now; kept by the borrower */
};

struct pipe_pool {
    struct pipe *idle;
    size_t count; /* idle and lent */
};

/* An empty pipe, or NULL: copy instead. */
struct pipe *pipe_borrow(struct pipe_pool *pool);

/* Gives it back. One that is not empty is closed: what is in it belongs to nobody else. */
void pipe_return(struct pipe_pool *pool, struct pipe *pipe);

/* Closes the idle ones; all were given back. */
void pipe_pool_free(struct pipe_pool *pool);

#endif
