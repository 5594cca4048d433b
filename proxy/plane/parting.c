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
    poller_remove(&worker->loop.poller, fd);
    if (abort) {
        socket_abort(fd);
        counter_add(&worker->counters.resets[LEG_BACKEND], 1);
    } else {
        close(fd);
    }
}

static void free_parting(struct grave *grave)
{
    free(CONTAINER(struct parting, grave, grave));
}

void parting_bury(struct parting *parting)
{
    parting->fd = -1;
    loop_bury(&parting->worker->loop, &parting->grave, free_parting);
}

static void end(struct parting *parting, bool abort)
{
    struct worker *worker = parting->worker;
    close_leg(worker, parting->fd, abort);
    plane_release(worker->plane, PLANE_LEG);
    worker->places = true;
    loop_clear_alarm(&worker->loop, &parting->alarm);
    DL_DELETE(worker->partings, parting);
    parting_bury(parting);
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
    loop_set_alarm(&worker->loop, &parting->alarm, loop_now_ms(&worker->loop) + grace_ms);
    if (poller_move(&worker->loop.poller, parting->fd, EPOLLIN | EPOLLRDHUP, &parting->source))
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
