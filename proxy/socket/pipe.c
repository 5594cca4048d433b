#include "proxy/socket/pipe.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* #syscalls worker: pipe2 fcntl close */

/* Below this a spliced half would be slower than a copied one. */
enum { PIPE_SIZE_MIN = 1 << 16 };

static void pipe_free(struct pipe_pool *pool, struct pipe *pipe)
{
    close(pipe->read_fd);
    close(pipe->write_fd);
    free(pipe);
    pool->count--;
}

static struct pipe *pipe_new(struct pipe_pool *pool)
{
    int fds[2];
    struct pipe *pipe = calloc(1, sizeof *pipe);
    if (!pipe)
        return NULL;
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC)) {
        free(pipe);
        return NULL;
    }
    pool->count++;
    pipe->read_fd = fds[0];
    pipe->write_fd = fds[1];
    int size = fcntl(pipe->write_fd, F_SETPIPE_SZ, PIPE_SIZE);
    if (size < 0)
        size = fcntl(pipe->write_fd, F_GETPIPE_SZ);
    if (size < PIPE_SIZE_MIN) {
        pipe_free(pool, pipe);
        return NULL;
    }
    pipe->size = (size_t)size;
    return pipe;
}

struct pipe *pipe_borrow(struct pipe_pool *pool)
{
    struct pipe *pipe = pool->idle;
    if (!pipe)
        return pool->count < PIPES_MAX ? pipe_new(pool) : NULL;
    pool->idle = pipe->next;
    assert(pipe->bytes == 0);
    return pipe;
}

void pipe_return(struct pipe_pool *pool, struct pipe *pipe)
{
    if (pipe->bytes > 0) {
        pipe_free(pool, pipe);
        return;
    }
    pipe->next = pool->idle;
    pool->idle = pipe;
}

void pipe_pool_free(struct pipe_pool *pool)
{
    while (pool->idle) {
        struct pipe *pipe = pool->idle;
        pool->idle = pipe->next;
        pipe_free(pool, pipe);
    }
    assert(pool->count == 0);
}
