#include "proxy/loop/poller.h"

#include <assert.h>
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

/* #syscalls worker: epoll_ctl epoll_wait close */

/* Events taken from the kernel at once. */
enum { BATCH = 256 };

/* Delivers one batch; returns how many events it had. */
static size_t deliver(struct poller *poller)
{
    struct epoll_event batch[BATCH];
    int count = epoll_wait(poller->fd, batch, BATCH, 0);
    assert(count >= 0 || errno == EINTR);
    for (int i = 0; i < count; i++) {
        struct poller_source *source = batch[i].data.ptr;
        source->ready(source, batch[i].events);
    }
    return count > 0 ? (size_t)count : 0;
}

bool poller_deliver(struct poller *poller)
{
    return deliver(poller) == BATCH;
}

void poller_catch_up(struct poller *poller)
{
    size_t delivered = 0, most = poller->watched, count;
    do {
        count = deliver(poller);
        delivered += count;
    } while (count == BATCH && delivered < most);
}

static void on_readable(uv_poll_t *handle, int status, int events)
{
    struct poller *poller = handle->data;
    (void)status; /* an epoll descriptor reports no errors */
    (void)events;
    poller->waiting(poller->context);
}

int poller_init(struct poller *poller, uv_loop_t *loop, void (*waiting)(void *context), void *context)
{
    *poller = (struct poller){.waiting = waiting, .context = context};
    poller->fd = epoll_create1(EPOLL_CLOEXEC);
    if (poller->fd < 0)
        return -errno;
    int error = uv_poll_init(loop, &poller->handle, poller->fd);
    if (!error) {
        poller->handle.data = poller;
        error = uv_poll_start(&poller->handle, UV_READABLE, on_readable);
    }
    if (error)
        close(poller->fd);
    return error;
}

int poller_add(struct poller *poller, int fd, uint32_t events, struct poller_source *source)
{
    struct epoll_event event = {.events = events | EPOLLET, .data.ptr = source};
    if (epoll_ctl(poller->fd, EPOLL_CTL_ADD, fd, &event))
        return -errno;
    poller->watched++;
    return 0;
}

void poller_remove(struct poller *poller, int fd)
{
    if (epoll_ctl(poller->fd, EPOLL_CTL_DEL, fd, NULL) == 0) /* ENOENT: a listener that never opened */
        poller->watched--;
}

int poller_move(struct poller *poller, int fd, uint32_t events, struct poller_source *source)
{
    struct epoll_event event = {.events = events | EPOLLET, .data.ptr = source};
    return epoll_ctl(poller->fd, EPOLL_CTL_MOD, fd, &event) ? -errno : 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct poller *poller = handle->data;
    close(poller->fd);
    poller->fd = -1;
}

void poller_close(struct poller *poller)
{
    uv_close((uv_handle_t *)&poller->handle, on_closed);
}
