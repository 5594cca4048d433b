#include "proxy/server/retire.h"

#include "proxy/socket/socket.h"
#include "reaper/container.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <utlist.h>

/* #syscalls worker: recvfrom close */

static void close_leg(struct shared *shared, int fd, bool abort)
{
    poller_remove(&shared->loop.poller, fd);
    if (abort) {
        socket_abort(fd);
        counter_add(&shared->counters.resets[LEG_BACKEND], 1);
    } else {
        close(fd);
    }
}

static void free_leg(struct grave *grave)
{
    free(CONTAINER(struct retiring, grave, grave));
}

void retire_bury(struct retiring *leg)
{
    leg->fd = -1;
    loop_bury(&leg->shared->loop, &leg->grave, free_leg);
}

static void end(struct retiring *leg, bool abort)
{
    struct shared *shared = leg->shared;
    close_leg(shared, leg->fd, abort);
    limit_give_back(shared->limit, LIMIT_LEG);
    shared->freed_descriptors = true;
    loop_clear_alarm(&shared->loop, &leg->alarm);
    DL_DELETE(shared->retiring, leg);
    retire_bury(leg);
}

void retire_abort(struct retiring *leg)
{
    end(leg, true);
}

/* Edges come once: what came with the FIN is read as far as the FIN. */
static void on_ready(struct poller_source *source, uint32_t events)
{
    struct retiring *leg = CONTAINER(struct retiring, source, source);
    struct shared *shared = leg->shared;
    ssize_t total = 0;
    (void)events;
    while (leg->fd >= 0) {
        ssize_t n = recv(leg->fd, shared->tools.scratch, RELAY_SCRATCH, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return;
        total += n > 0 ? n : 0;
        /* So much a turn is enough for what a server may have had under way; who sends more is not about to
         * close. */
        if (n <= 0 || total >= RELAY_SCRATCH)
            end(leg, n > 0);
    }
}

static void on_alarm(struct alarm *alarm)
{
    end(CONTAINER(struct retiring, alarm, alarm), true);
}

void retire_adopt(struct retiring *leg, uint64_t grace_ms)
{
    struct shared *shared = leg->shared;
    leg->source.ready = on_ready;
    leg->alarm.ring = on_alarm;
    DL_APPEND(shared->retiring, leg);
    socket_fin(leg->fd);
    loop_set_alarm(&shared->loop, &leg->alarm, loop_now_ms(&shared->loop) + grace_ms);
    if (poller_move(&shared->loop.poller, leg->fd, EPOLLIN | EPOLLRDHUP, &leg->source))
        end(leg, true);
}

void retire_begin(struct shared *shared, int fd, uint64_t grace_ms)
{
    struct retiring *leg = calloc(1, sizeof *leg);
    if (!leg) {
        close_leg(shared, fd, true);
        return;
    }
    leg->shared = shared;
    leg->fd = fd;
    limit_take_open(shared->limit, LIMIT_LEG);
    retire_adopt(leg, grace_ms);
}
