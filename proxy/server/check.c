#include "proxy/server/check.h"

#include "conf/value.h"
#include "proxy/http/http.h"
#include "proxy/server/announce.h"
#include "proxy/server/retire.h"
#include "proxy/server/target.h"
#include "proxy/shared/shared.h"
#include "reaper/container.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

/* #syscalls worker: recvfrom sendto close */

/* Reads for one answer, one in a turn; a body that has more is not worth waiting for. */
enum { READS_MAX = 16 };

static const struct message_limits limits = {
    .head_bytes = 16384, .fields = MESSAGE_FIELDS_MAX, .bare_lf = true};

enum step {
    STEP_NONE, /* waits for its time; no descriptor */
    STEP_CONNECTING,
    STEP_ANSWER, /* is awaited */
    STEP_TAIL,   /* of an answer that was judged */
};

struct check {
    struct poller_source source;
    struct task first; /* time */
    struct task reading;
    unsigned reads;     /* of this answer */
    struct alarm alarm; /* the next one */
    struct shared *shared;
    const struct conf_backend *conf;
    struct target *target;
    enum step step;
    int fd;
    struct http http; /* the answer */
};

static bool is_http(const struct check *check)
{
    return check->conf->check.kind != CONF_CHECK_TCP;
}

/* ---- what it finds ---- */

/* Why it is taken down, one of the two; neither when it is taken up. */
struct finding {
    const char *error;
    uint16_t status;
};

static void say(const struct check *check, bool up, struct finding why)
{
    struct log_ring *log = check->shared->log;
    enum conf_log_level level = up ? CONF_LOG_INFO : CONF_LOG_WARNING;
    struct line line;
    if (!log_wants(log, level))
        return;
    line_begin(&line, log_format(log), level, up ? "server_up" : "server_down");
    line_text(&line, "backend", check->conf->name);
    line_text(&line, "server", check->target->text);
    if (why.error)
        line_text(&line, "error", why.error);
    else if (why.status > 0)
        line_number(&line, "status", why.status);
    log_line(log, line_end(&line));
}

static void found_good(struct check *check)
{
    /* A server that was set aside need not wait for a session that finds it well. */
    target_tell(check->target, 0);
    if (health_checked(check->target->health, true, check->conf))
        say(check, true, (struct finding){0});
}

static void found_bad(struct check *check, struct finding why)
{
    if (health_checked(check->target->health, false, check->conf))
        say(check, false, why);
}

/* ---- the connection ---- */

/* `broken`: nobody is there to retire the connection from, or an attempt is given up that may just have
 * succeeded. */
static void hang_up(struct check *check, bool broken)
{
    const struct deadlines *deadlines = &check->shared->conf->deadlines;
    if (broken) {
        poller_remove(&check->shared->loop.poller, check->fd);
        socket_abort(check->fd);
    } else {
        retire_begin(check->shared, check->fd, deadlines->after_ms[DEADLINE_MESSAGE_GRACE]);
    }
    http_release_head(&check->http);
    loop_forget(&check->shared->loop, &check->reading);
    check->fd = -1;
    check->step = STEP_NONE;
}

static void fail(struct check *check, const char *error)
{
    found_bad(check, (struct finding){.error = error});
    hang_up(check, false);
}

static void break_off(struct check *check, int error)
{
    if (check->step != STEP_TAIL && health_is_servers(error))
        found_bad(check, (struct finding){.error = uv_strerror(error)});
    hang_up(check, true);
}

/* The head of the answer is complete. False once it is over. */
static bool take_answer(struct check *check)
{
    const struct message_asked asked = {.head = check->conf->check.kind == CONF_CHECK_HEAD, .minor = 1};
    struct message answer;
    if (http_parse_response(&check->http, &answer, &limits, &asked)) {
        fail(check, "a malformed answer");
        return false;
    }
    uint16_t status = answer.status;
    if (status < 200) { /* the final one follows (RFC 9110, 15.2) */
        http_begin(&check->http, HTTP_RESPONSE);
        return true;
    }
    if (status < 400)
        found_good(check);
    else
        found_bad(check, (struct finding){.status = status});
    check->step = STEP_TAIL;
    http_release_head(&check->http);
    if (check->http.state == HTTP_COMPLETE)
        hang_up(check, false);
    return check->step == STEP_TAIL;
}

/* False once it is over. */
static bool take(struct check *check, char *bytes, size_t size)
{
    while (size > 0) {
        size_t used, kept;
        bool tail = check->step == STEP_TAIL;
        int status = tail ? http_follow(&check->http, bytes, size, &used, &kept)
                          : http_collect(&check->http, &limits, bytes, size, &used);
        if (status == -RULE_NO_MEMORY && !tail) {
            break_off(check, -ENOMEM);
            return false;
        }
        if (status < 0 && !tail) {
            fail(check, "a malformed answer");
            return false;
        }
        if (tail && status != HTTP_MORE) {
            hang_up(check, false);
            return false;
        }
        if (!tail && status == HTTP_DONE && !take_answer(check))
            return false;
        bytes += used;
        size -= used;
    }
    return true;
}

static void read_answer(struct check *check)
{
    char *scratch = check->shared->tools.scratch;
    ssize_t n = recv(check->fd, scratch, RELAY_SCRATCH, 0);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n < 0 && errno != EINTR) {
        break_off(check, -errno);
        return;
    }
    if (n == 0 && check->step == STEP_ANSWER) {
        fail(check, "closed without an answer");
        return;
    }
    if (n > 0 && !take(check, scratch, (size_t)n))
        return;
    if (n == 0 || ++check->reads == READS_MAX)
        hang_up(check, false);
    else
        loop_put_off(&check->shared->loop, &check->reading);
}

static void on_reading(struct task *task)
{
    read_answer(CONTAINER(struct check, reading, task));
}

static void ask(struct check *check)
{
    static const char *const methods[] = {[CONF_CHECK_GET] = "GET", [CONF_CHECK_HEAD] = "HEAD"};
    const struct conf_check *what = &check->conf->check;
    bool has_host = check->target->address.address.ss_family != AF_UNIX;
    char request[VALUE_REQUEST_PATH_MAX + 512];
    int size =
        snprintf(request, sizeof request,
                 "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: lastack\r\nAccept: */*\r\n"
                 "Connection: close\r\n\r\n",
                 methods[what->kind], what->path, has_host ? check->target->server->text : "localhost");
    assert(size > 0 && (size_t)size < sizeof request);
    check->step = STEP_ANSWER;
    check->reads = 0;
    http_begin(&check->http, HTTP_RESPONSE);
    ssize_t sent = send(check->fd, request, (size_t)size, MSG_NOSIGNAL);
    if (sent != size) /* a new socket has room for all of it */
        break_off(check, sent < 0 ? -errno : -ENOBUFS);
}

/* A server that is told who each client is has to be told that nobody is behind this. */
static bool announce(struct check *check)
{
    uint8_t bytes[ANNOUNCE_MAX];
    if (check->conf->send_proxy == CONF_SEND_PROXY_OFF)
        return true;
    size_t size = announce_write_own(bytes, check->conf->send_proxy, check->fd);
    ssize_t sent = send(check->fd, bytes, size, MSG_NOSIGNAL | (is_http(check) ? MSG_MORE : 0));
    if (sent == (ssize_t)size) /* a new socket has room for all of it */
        return true;
    break_off(check, sent < 0 ? -errno : -ENOBUFS);
    return false;
}

static void connected(struct check *check)
{
    if (!announce(check))
        return;
    if (is_http(check)) {
        ask(check);
        return;
    }
    found_good(check);
    hang_up(check, false);
}

static void on_ready(struct poller_source *source, uint32_t events)
{
    struct check *check = CONTAINER(struct check, source, source);
    if (check->step == STEP_CONNECTING && (events & (EPOLLERR | EPOLLHUP))) {
        int error = socket_error(check->fd);
        break_off(check, error ? error : -ECONNRESET);
    } else if (check->step == STEP_CONNECTING && (events & EPOLLOUT)) {
        connected(check);
    }
    if (check->step > STEP_CONNECTING && (events & ~(uint32_t)EPOLLOUT))
        loop_do_soon(&check->shared->loop, &check->reading);
}

static void begin(struct check *check)
{
    int fd = socket_connect(&check->target->address, &check->conf->tcp);
    int error =
        fd < 0 ? fd
               : poller_add(&check->shared->loop.poller, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP, &check->source);
    if (!error) {
        check->fd = fd;
        check->step = STEP_CONNECTING;
        return;
    }
    if (fd >= 0)
        close(fd);
    if (health_is_servers(error))
        found_bad(check, (struct finding){.error = uv_strerror(error)});
}

static void next(struct check *check)
{
    if (check->step == STEP_CONNECTING || check->step == STEP_ANSWER)
        found_bad(check, (struct finding){.error = "no answer within check_interval"});
    if (check->step != STEP_NONE)
        hang_up(check, check->step == STEP_CONNECTING);
    loop_set_alarm(&check->shared->loop, &check->alarm,
                   loop_now_ms(&check->shared->loop) + check->conf->check_interval_ms);
    begin(check);
}

static void on_task(struct task *task)
{
    next(CONTAINER(struct check, first, task));
}

static void on_alarm(struct alarm *alarm)
{
    next(CONTAINER(struct check, alarm, alarm));
}

/* ---- life ---- */

struct check *check_start(struct target *target)
{
    struct check *check = calloc(1, sizeof *check);
    if (!check)
        return NULL;
    check->source.ready = on_ready;
    check->first.run = on_task;
    check->reading.run = on_reading;
    check->alarm.ring = on_alarm;
    check->shared = target->shared;
    check->conf = target->conf;
    check->target = target;
    check->fd = -1;
    loop_put_off(&check->shared->loop, &check->first);
    return check;
}

void check_stop(struct check *check)
{
    if (!check)
        return;
    if (check->step != STEP_NONE)
        hang_up(check, check->step == STEP_CONNECTING);
    loop_forget(&check->shared->loop, &check->first);
    loop_clear_alarm(&check->shared->loop, &check->alarm);
    free(check);
}
