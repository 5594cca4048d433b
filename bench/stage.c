#include "bench/stage.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_A_TURN = 256, ACCEPTS_A_TURN = 256, BACKLOG = 4096 };

bool stage_is_tcp(const struct stage *stage, enum end_side side)
{
    const struct stage_address *address = side == END_CLIENT ? &stage->target : &stage->backend;
    return address->address.ss_family != AF_UNIX;
}

uint16_t stage_port(const struct stage *stage)
{
    struct sockaddr_in in;
    if (!stage_is_tcp(stage, END_BACKEND))
        return 0;
    memcpy(&in, &stage->backend.address, sizeof in); /* the port is at the same place in IPv6 */
    return ntohs(in.sin_port);
}

/* ---- listening ---- */

static void listener_watch(struct stage *stage)
{
    struct epoll_event event = {.events = stage->is_accepting ? EPOLLIN : 0, .data.ptr = NULL};
    epoll_ctl(stage->epoll, EPOLL_CTL_MOD, stage->listener, &event);
}

static int listener_set_up(struct stage *stage, int fd, int backlog)
{
    const struct sockaddr *address = (const struct sockaddr *)&stage->backend.address;
    struct epoll_event event = {.events = stage->is_accepting ? EPOLLIN : 0};
    int on = 1;
    if (stage->backend.address.ss_family == AF_UNIX)
        unlink(((const struct sockaddr_un *)(const void *)address)->sun_path);
    else if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
             setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) < 0) /* inherited by what is accepted */
        return -errno;
    if (bind(fd, address, stage->backend.length) < 0 || listen(fd, backlog) < 0 ||
        getsockname(fd, (struct sockaddr *)&stage->backend.address, &stage->backend.length) < 0 ||
        epoll_ctl(stage->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        return -errno;
    return 0;
}

int stage_listen(struct stage *stage, int backlog)
{
    int fd = socket(stage->backend.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int error = listener_set_up(stage, fd, backlog);
    if (error) {
        close(fd);
        return error;
    }
    stage->listener = fd;
    return 0;
}

void stage_deafen(struct stage *stage)
{
    if (stage->listener >= 0)
        close(stage->listener);
    stage->listener = -1;
}

void stage_accept(struct stage *stage, bool accept)
{
    stage->is_accepting = accept;
    if (stage->listener >= 0)
        listener_watch(stage);
}

/* ---- strangers ---- */

/* A tag that has come says whose the end is; one that is new, that it is another's now. */
static void claim(struct stage *stage, struct end *end, bool had_tag, uint32_t old_tag)
{
    if (end->side == END_BACKEND && end->heard.has_tag && (!had_tag || end->heard.tag != old_tag))
        stage->events.claim(stage->events.context, end);
}

static struct end *adopt(struct stage *stage, int fd, enum end_side side, bool is_connected)
{
    struct end *end = end_new(stage->epoll, fd, side, is_connected, stage->http);
    if (!end) {
        close(fd);
        return NULL;
    }
    LIST_INSERT_HEAD(&stage->ends, end, link);
    return end;
}

static void accept_some(struct stage *stage)
{
    for (int i = 0; i < ACCEPTS_A_TURN && stage->is_accepting && stage->listener >= 0; i++) {
        int fd = accept4(stage->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct end *end = adopt(stage, fd, END_BACKEND, true);
        if (!end)
            return;
        stage->accepted++;
        if (stage->events.accepted)
            stage->events.accepted(stage->events.context, end);
    }
}

static void end_happens(struct stage *stage, struct end *end, uint32_t events)
{
    bool had_tag = end->heard.has_tag;
    uint32_t tag = end->heard.tag;
    if (end->fd < 0)
        return;
    end_ready(end, events);
    claim(stage, end, had_tag, tag);
    if (stage->events.changed)
        stage->events.changed(stage->events.context, end);
}

static void free_dropped(struct stage *stage)
{
    struct end *end;
    while ((end = LIST_FIRST(&stage->dropped))) {
        LIST_REMOVE(end, link);
        end_free(end);
    }
}

void stage_drop(struct stage *stage, struct end *end)
{
    end_close(end);
    end->owner = NULL;
    LIST_REMOVE(end, link);
    LIST_INSERT_HEAD(&stage->dropped, end, link);
}

void stage_turn(struct stage *stage, int timeout_ms)
{
    stage_turn_ns(stage, (uint64_t)timeout_ms * 1000000);
}

void stage_turn_ns(struct stage *stage, uint64_t timeout_ns)
{
    struct epoll_event events[EVENTS_A_TURN];
    const struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000),
                                     .tv_nsec = (long)(timeout_ns % 1000000000)};
    int count = epoll_pwait2(stage->epoll, events, EVENTS_A_TURN, &timeout, NULL);
    if (count < 0 && errno == ENOSYS) /* before Linux 5.11 */
        count = epoll_wait(stage->epoll, events, EVENTS_A_TURN, (int)((timeout_ns + 999999) / 1000000));
    for (int i = 0; i < count; i++)
        if (events[i].data.ptr)
            end_happens(stage, events[i].data.ptr, events[i].events);
    for (int i = 0; i < count; i++)
        if (!events[i].data.ptr)
            accept_some(stage);
    free_dropped(stage);
}

struct end *stage_connect(struct stage *stage, void *owner)
{
    const struct sockaddr *address = (const struct sockaddr *)&stage->target.address;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd < 0)
        return NULL;
    if (address->sa_family != AF_UNIX)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int error = connect(fd, address, stage->target.length) < 0 ? errno : 0;
    struct end *end = adopt(stage, fd, END_CLIENT, error == 0);
    if (!end)
        return NULL;
    end->owner = owner;
    if (error && error != EINPROGRESS) {
        end->connect_error = error;
        end->over = END_RESET;
        end->over_ns = end_clock_ns();
    }
    return end;
}

/* ---- its life ---- */

static bool same_address(const struct stage_address *a, const struct stage_address *b)
{
    return a->length == b->length && memcmp(&a->address, &b->address, a->length) == 0;
}

int stage_open(struct stage *stage, const struct stage_address *target, const struct stage_address *backend,
               bool http, const struct stage_events *events)
{
    *stage = (struct stage){.target = *target,
                            .backend = *backend,
                            .http = http,
                            .listener = -1,
                            .is_accepting = true,
                            .events = *events};
    LIST_INIT(&stage->ends);
    LIST_INIT(&stage->dropped);
    stage->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (stage->epoll < 0)
        return -errno;
    stage->is_direct = target->length == 0 || same_address(target, backend);
    int error = stage_listen(stage, BACKLOG);
    if (error) {
        close(stage->epoll);
        return error;
    }
    if (stage->is_direct)
        stage->target = stage->backend;
    return 0;
}

void stage_reap(struct stage *stage, const void *owner)
{
    struct end *next;
    for (struct end *end = LIST_FIRST(&stage->ends); end; end = next) {
        next = LIST_NEXT(end, link);
        if (end->owner != owner || (!owner && end->over == END_OPEN && end->fd >= 0))
            continue;
        LIST_REMOVE(end, link);
        end_free(end);
    }
}

void stage_drop_strangers(struct stage *stage)
{
    struct end *next;
    for (struct end *end = LIST_FIRST(&stage->ends); end; end = next) {
        next = LIST_NEXT(end, link);
        if (!end->owner)
            stage_drop(stage, end);
    }
}

void stage_close(struct stage *stage)
{
    struct end *end;
    while ((end = LIST_FIRST(&stage->ends))) {
        LIST_REMOVE(end, link);
        end_free(end);
    }
    free_dropped(stage);
    stage_deafen(stage);
    if (stage->backend.address.ss_family == AF_UNIX)
        unlink(((const struct sockaddr_un *)(const void *)&stage->backend.address)->sun_path);
    close(stage->epoll);
}
