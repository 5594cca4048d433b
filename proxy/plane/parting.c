#include "proxy/plane/parting.h"

#include "proxy/plane/socket.h"
#include "reaper/container.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <utlist.h>

static void close_leg(struct worker *worker, int fd, bool abort)
{
    poller_remove(&worker->poller, fd);
    if (abort) {
        socket_abort(fd);
        counter_add(&worker->counters.resets[LEG_BACKEND], 1);
    } else {
        close(fd);
    }
}

static void end(struct parting *parting, bool abort)
{
    struct worker *worker = parting->worker;
    close_leg(worker, parting->fd, abort);
    parting->fd = -1;
    plane_release(worker->plane, PLANE_LEG);
    worker->places = true;
    worker_clear_alarm(worker, &parting->alarm);
    DL_DELETE(worker->partings, parting);
    LL_PREPEND(worker->parted, parting);
}

void parting_abort(struct parting *parting)
{
    end(parting, true);
}

/* Edges come once: what came with the FIN is read as far as the FIN. */
static void on_ready(struct poller_source *source, uint32_t events)
{
    struct parting *parting = CONTAINER(struct parting, source, source);
    struct worker *worker = parting->worker;
    ssize_t total = 0;
    (void)events;
    while (parting->fd >= 0) {
        ssize_t n = recv(parting->fd, worker->tools.scratch, RELAY_SCRATCH, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        total += n > 0 ? n : 0;
        /* So much a turn is enough for what a server may have had under way; more of it is no goodbye. */
        if (n <= 0 || total >= RELAY_SCRATCH)
            end(parting, n > 0);
    }
}

static void on_alarm(struct alarm *alarm)
{
    end(CONTAINER(struct parting, alarm, alarm), true);
}

void parting_adopt(struct parting *parting, uint64_t grace_ms)
{
    struct worker *worker = parting->worker;
    parting->source.ready = on_ready;
    parting->alarm.ring = on_alarm;
    DL_APPEND(worker->partings, parting);
    socket_fin(parting->fd);
    worker_set_alarm(worker, &parting->alarm, worker_now_ms(worker) + grace_ms);
    if (poller_move(&worker->poller, parting->fd, EPOLLIN | EPOLLRDHUP, &parting->source))
        end(parting, true);
}

void parting_begin(struct worker *worker, int fd, uint64_t grace_ms)
{
    struct parting *parting = calloc(1, sizeof *parting);
    if (!parting) {
        close_leg(worker, fd, true);
        return;
    }
    parting->worker = worker;
    parting->fd = fd;
    plane_count(worker->plane, PLANE_LEG);
    parting_adopt(parting, grace_ms);
}
