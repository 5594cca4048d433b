#include "proxy/entry/listener.h"

#include "proxy/exchange/mode.h"
#include "proxy/server/pool.h"
#include "proxy/session/bytes.h"
#include "proxy/session/preface.h"
#include "proxy/session/session.h"
#include "reaper/container.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

/* #syscalls worker: getsockopt close */

/* Connections accepted before others get their turn. */
enum { ACCEPTS_PER_PASS = 64 };

/* What the backlog of a unix socket holds at most, for the kernel does not tell: net.core.somaxconn, by
 * default. */
enum { BACKLOG_UNIX = 4096 };

/* A listener at its limit stops and goes on with every session that ends; it says so this often at most. */
enum { SAY_EVERY_MS = 10000 };

/* Idle backend legs are the first to go when descriptors run out. */
static void give_way(struct listener *listener)
{
    if (limit_is_full(listener->shared->limit))
        pool_give_way(listener->shared, LIMIT_SESSION);
}

static void say_paused(struct listener *listener, const char *why)
{
    struct log_ring *log = listener->shared->log;
    if (!log_wants(log, CONF_LOG_WARNING))
        return;
    struct line line;
    line_begin(&line, log_format(log), CONF_LOG_WARNING, "accept_paused");
    line_text(&line, "frontend", listener->frontend->conf->name);
    line_text(&line, "reason", why);
    log_line(log, line_end(&line));
}

/* One more has been accepted only to be refused: how many since that was last said. */
static void note_refused(struct listener *listener, const char *why)
{
    struct log_ring *log = listener->shared->log;
    uint64_t now_ms = loop_now_ms(&listener->shared->loop);
    listener->refused++;
    if (now_ms < listener->refused_again_ms || !log_wants(log, CONF_LOG_WARNING))
        return;
    struct line line;
    line_begin(&line, log_format(log), CONF_LOG_WARNING, "refused");
    line_text(&line, "frontend", listener->frontend->conf->name);
    line_text(&line, "reason", why);
    line_number(&line, "count", listener->refused);
    log_line(log, line_end(&line));
    listener->refused = 0;
    listener->refused_again_ms = now_ms + SAY_EVERY_MS;
}

static void pause_accepting(struct listener *listener, const char *why)
{
    uint64_t now_ms = loop_now_ms(&listener->shared->loop);
    if (now_ms >= listener->say_again_ms) {
        say_paused(listener, why);
        listener->say_again_ms = now_ms + SAY_EVERY_MS;
    }
    listener->paused = true;
    loop_set_alarm(&listener->shared->loop, &listener->retry, now_ms + LISTENER_RETRY_MS);
}

/* Not even when another connection comes. */
static void pause_until_retry(struct listener *listener, const char *why)
{
    pause_accepting(listener, why);
    listener->paused_until_ms = loop_now_ms(&listener->shared->loop) + LISTENER_RETRY_MS;
}

/* One connection. False when there is none, or none can be taken now. */
static bool accept_one(struct listener *listener)
{
    struct limit *limit = listener->shared->limit;
    struct frontend *frontend = listener->frontend;
    union socket_address client;
    enum place place = limit_take_place(limit, frontend);
    if (place == PLACE_NONE) {
        give_way(listener);
        pause_accepting(listener, limit_is_full(limit) ? "descriptors" : "limit");
        return false;
    }
    int fd = socket_accept(listener->fd, &client);
    if (fd < 0) {
        limit_give_back_place(limit, frontend, place);
        if (fd != -EAGAIN) {
            pool_give_way(listener->shared, LIMIT_SESSION);
            pause_accepting(listener, uv_err_name(fd));
        }
        return false;
    }
    if (preface_of(frontend->conf, &client) == PREFACE_REFUSED) {
        socket_abort(fd);
        limit_give_back_place(limit, frontend, place);
        note_refused(listener, "untrusted");
        return true;
    }
    place = limit_settle_place(limit, frontend, place);
    if (place == PLACE_SURPLUS) {
        give_way(listener);
        note_refused(listener, limit_is_full(limit) ? "descriptors" : "limit");
    }
    listener->paused = false;
    listener->shared->local_error = 0;
    int error = session_open(listener->shared, frontend, listener->protocol, place, fd, &client);
    if (error) {
        socket_abort(fd);
        limit_give_back_place(limit, frontend, place);
    } else {
        error = listener->shared->local_error;
    }
    if (error)
        pause_until_retry(listener, uv_err_name(error));
    return !error;
}

/* False when there is none left, or none can be taken now. */
static bool accept_some(struct listener *listener)
{
    struct loop *loop = &listener->shared->loop;
    for (int i = 0; i < ACCEPTS_PER_PASS && (i == 0 || !loop_share_is_over(loop)); i++)
        if (!accept_one(listener))
            return false;
    return true;
}

static void on_ready(struct poller_source *source, uint32_t events)
{
    struct listener *listener = CONTAINER(struct listener, source, source);
    (void)events;
    if (listener->fd >= 0)
        loop_do_soon(&listener->shared->loop, &listener->task);
}

static void on_task(struct task *task)
{
    struct listener *listener = CONTAINER(struct listener, task, task);
    struct loop *loop = &listener->shared->loop;
    if (loop_now_ms(loop) < listener->paused_until_ms)
        return; /* the alarm is set */
    if (accept_some(listener))
        loop_put_off(loop, task);
}

static void on_retry(struct alarm *alarm)
{
    struct listener *listener = CONTAINER(struct listener, retry, alarm);
    if (listener->registered)
        listener_resume(listener);
    else
        listener_open(listener);
}

static const struct protocol *protocol_of(const struct frontend *frontend)
{
    return frontend->conf->mode == CONF_MODE_HTTP ? &mode_http : &bytes_protocol;
}

void listener_init(struct listener *listener, struct shared *shared, struct frontend *frontend, int fd)
{
    *listener = (struct listener){.source.ready = on_ready,
                                  .task.run = on_task,
                                  .retry.ring = on_retry,
                                  .shared = shared,
                                  .frontend = frontend,
                                  .protocol = protocol_of(frontend),
                                  .fd = fd};
}

void listener_open(struct listener *listener)
{
    /* One unix listening socket is shared by all workers: wake one of them, not all. */
    int error =
        poller_add(&listener->shared->loop.poller, listener->fd, EPOLLIN | EPOLLEXCLUSIVE, &listener->source);
    listener->registered = !error;
    if (error)
        pause_accepting(listener, uv_err_name(error));
}

void listener_resume(struct listener *listener)
{
    if (listener->fd >= 0 && listener->paused)
        loop_do_soon(&listener->shared->loop, &listener->task);
}

/* How many connections wait to be accepted: net/ipv4/tcp.c, tcp_get_info(), for a listening socket. */
static uint64_t backlog(int fd)
{
    struct tcp_info info = {0};
    socklen_t size = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size))
        return BACKLOG_UNIX;
    return info.tcpi_unacked;
}

bool listener_finish(struct listener *listener)
{
    struct loop *loop = &listener->shared->loop;
    if (listener->fd < 0)
        return true;
    if (!listener->finishing) {
        listener->finishing = true;
        listener->paused = false;
        listener->waiting = backlog(listener->fd);
        loop_forget(loop, &listener->task);
        loop_clear_alarm(loop, &listener->retry);
        poller_remove(&loop->poller, listener->fd);
    }
    for (int i = 0; i < ACCEPTS_PER_PASS && listener->waiting > 0; i++) {
        if (i > 0 && loop_share_is_over(loop))
            return false;
        listener->waiting = accept_one(listener) ? listener->waiting - 1 : 0;
    }
    if (listener->waiting > 0)
        return false;
    listener_close(listener);
    return true;
}

void listener_close(struct listener *listener)
{
    struct loop *loop = &listener->shared->loop;
    if (listener->fd < 0)
        return;
    loop_forget(loop, &listener->task);
    loop_clear_alarm(loop, &listener->retry);
    poller_remove(&loop->poller, listener->fd);
    close(listener->fd);
    listener->fd = -1;
}
