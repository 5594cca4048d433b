#include "bench/leak_server.h"

#include <errno.h>
#include <llhttp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { SCRATCH_BYTES = 64 * 1024, EVENTS_A_TURN = 256 };

struct server {
    int epoll, listener, timer, holder;
    bool full; /* out of descriptors: not accepting until a connection closes */
    bool has_stopped;
    bool tick;
    const struct leak_options *options;
    const struct behaviour *behaviour;
    struct leak_tally *tally;
    llhttp_settings_t parser_settings;
    LIST_HEAD(, connection) trickling;
    char scratch[SCRATCH_BYTES];
};

enum phase {
    PHASE_SERVING,
    PHASE_TRICKLING, /* sends a byte per interval; what arrives is discarded */
    PHASE_DRAINING,  /* our FIN is out; what arrives is discarded until the peer's FIN */
};

struct connection {
    int fd;
    enum phase phase;
    uint32_t events;       /* the epoll mask */
    bool has_request;      /* some byte has arrived */
    bool eof;              /* the peer's FIN was read */
    bool last;             /* the answer under way is the last one: the request, or its version, says so */
    bool request_complete; /* set by the parser */
    llhttp_t parser;
    char *pending; /* bytes that the socket did not take yet, or NULL */
    size_t pending_bytes, pending_sent_bytes;
    uint64_t body_left_bytes; /* of an HTTP answer, beyond `pending` */
    LIST_ENTRY(connection) trickling;
};

/* What makes a mode: what it does with a connection at each of its moments. */
struct behaviour {
    const char *name;
    const char *help;
    void (*on_accept)(struct server *server, struct connection *connection); /* NULL: never accepts */
    void (*on_answered)(struct server *server, struct connection *connection);
    void (*on_eof)(struct server *server, struct connection *connection);
    void (*on_fin_arrived)(struct server *server); /* before the connection is read; may be NULL */
    bool always_keeps_alive;                       /* whatever the request says */
    bool answers_for_ever;
    bool has_holder;
};

static const struct behaviour behaviours[LEAK_MODE_COUNT];

/* --- a connection's descriptor: watched, closed or lost --- */

static void server_watch_listener(struct server *server, bool watch)
{
    struct epoll_event event = {.events = watch ? EPOLLIN : 0, .data.ptr = &server->listener};
    epoll_ctl(server->epoll, EPOLL_CTL_MOD, server->listener, &event);
    server->full = !watch;
}

/* Sets the epoll mask to what the connection waits for. It reads only when it has nothing left to write. */
static void connection_watch(struct server *server, struct connection *connection)
{
    uint32_t wanted = 0;
    if (connection->pending || connection->body_left_bytes > 0)
        wanted = EPOLLOUT;
    else if (!connection->eof)
        wanted = server->behaviour->on_fin_arrived ? EPOLLIN | EPOLLRDHUP : EPOLLIN;
    if (wanted == connection->events)
        return;
    connection->events = wanted;
    struct epoll_event event = {.events = wanted, .data.ptr = connection};
    epoll_ctl(server->epoll, EPOLL_CTL_MOD, connection->fd, &event);
}

/* Loses the connection: its descriptor stays open and nobody looks at it again. */
static void connection_forget(struct server *server, struct connection *connection)
{
    if (connection->phase == PHASE_TRICKLING)
        LIST_REMOVE(connection, trickling);
    /* By hand, because close() does it only for the last descriptor of the socket: epoll(7). */
    epoll_ctl(server->epoll, EPOLL_CTL_DEL, connection->fd, NULL);
    free(connection->pending);
    free(connection);
}

static void connection_close(struct server *server, struct connection *connection)
{
    int fd = connection->fd;
    connection_forget(server, connection);
    close(fd);
    if (server->holder < 0) /* else it is still open over there */
        atomic_fetch_sub(&server->tally->held, 1);
    if (server->full)
        server_watch_listener(server, true);
}

/* Ends the connection as a good server does: FIN, then reads on until the peer's FIN, because close() with
 * unread bytes would turn into RST (RFC 2525, 2.17). */
static void connection_finish(struct server *server, struct connection *connection)
{
    if (connection->eof || shutdown(connection->fd, SHUT_WR) < 0) {
        connection_close(server, connection);
        return;
    }
    connection->phase = PHASE_DRAINING;
    connection_watch(server, connection);
}

/* --- the modes' moments --- */

static void serve(struct server *server, struct connection *connection)
{
    connection_watch(server, connection);
}

static void share_with_holder(struct server *server, struct connection *connection)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr header;
    } control = {
        .header = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), &connection->fd, sizeof connection->fd);
    struct iovec byte = {.iov_base = "", .iov_len = 1};
    struct msghdr message = {.msg_iov = &byte,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    if (sendmsg(server->holder, &message, MSG_NOSIGNAL) < 0) {
        connection_close(server, connection);
        return;
    }
    serve(server, connection);
}

static void next_or_finish(struct server *server, struct connection *connection)
{
    if (connection->last)
        connection_finish(server, connection);
    else
        serve(server, connection);
}

/* close() alone, as a parent does that does not know of the child: shutdown() would end the socket for both.
 */
static void next_or_close(struct server *server, struct connection *connection)
{
    if (connection->last)
        connection_close(server, connection);
    else
        serve(server, connection);
}

static void trickle(struct server *server, struct connection *connection)
{
    connection->phase = PHASE_TRICKLING;
    LIST_INSERT_HEAD(&server->trickling, connection, trickling);
    connection_watch(server, connection);
}

static void trickle_or_finish(struct server *server, struct connection *connection)
{
    if (connection->phase == PHASE_TRICKLING)
        connection_watch(server, connection);
    else
        connection_finish(server, connection);
}

static void forget_if_silent(struct server *server, struct connection *connection)
{
    if (connection->has_request)
        connection_finish(server, connection);
    else
        connection_forget(server, connection);
}

static void stop_once(struct server *server)
{
    if (server->has_stopped)
        return;
    server->has_stopped = true;
    raise(SIGSTOP);
}

/* --- answering --- */

/* Writes what it can of `bytes`; the rest is kept. 0 or -errno. */
static int connection_write(struct connection *connection, const char *bytes, size_t length)
{
    ssize_t sent = send(connection->fd, bytes, length, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        return -errno;
    size_t taken = sent < 0 ? 0 : (size_t)sent;
    if (taken == length)
        return 0;
    connection->pending = malloc(length - taken);
    if (!connection->pending)
        return -ENOMEM;
    memcpy(connection->pending, bytes + taken, length - taken);
    connection->pending_bytes = length - taken;
    connection->pending_sent_bytes = 0;
    return 0;
}

/* 0 when all is out or the socket is full, else -errno. */
static int connection_flush(struct connection *connection)
{
    static const char body[16 * 1024]; /* zeroes; written as needed, so a body of any size costs no memory */
    while (connection->pending) {
        size_t left = connection->pending_bytes - connection->pending_sent_bytes;
        ssize_t sent =
            send(connection->fd, connection->pending + connection->pending_sent_bytes, left, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN ? 0 : -errno;
        connection->pending_sent_bytes += (size_t)sent;
        if ((size_t)sent == left) {
            free(connection->pending);
            connection->pending = NULL;
        }
    }
    while (connection->body_left_bytes > 0) {
        size_t length = connection->body_left_bytes < sizeof body ? connection->body_left_bytes : sizeof body;
        ssize_t sent = send(connection->fd, body, length, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN ? 0 : -errno;
        connection->body_left_bytes -= (uint64_t)sent;
    }
    return 0;
}

/* Goes on after a write, or its error: to the mode's next step once the answer is out. */
static void connection_proceed(struct server *server, struct connection *connection, int error)
{
    if (error < 0)
        connection_close(server, connection);
    else if (connection->pending || connection->body_left_bytes > 0 || connection->phase != PHASE_SERVING)
        connection_watch(server, connection);
    else
        server->behaviour->on_answered(server, connection);
}

static int http_message_complete(llhttp_t *parser)
{
    struct connection *connection = parser->data;
    connection->request_complete = true;
    connection->last = !llhttp_should_keep_alive(parser);
    return HPE_PAUSED; /* one answer at a time: a pipelined request waits in the socket */
}

/* Answers the request that was just parsed: 0 or -errno. A trickling answer has no length: its body ends
 * with the connection (RFC 9112, 6.3, rule 8), that is, never. */
static int http_answer(struct server *server, struct connection *connection, bool malformed)
{
    if (malformed)
        connection->last = true;
    if (server->behaviour->always_keeps_alive)
        connection->last = false;
    uint64_t body_bytes = malformed ? 0 : server->options->response_bytes;
    char length[48] = "";
    if (server->behaviour->answers_for_ever)
        connection->last = true;
    else
        snprintf(length, sizeof length, "Content-Length: %llu\r\n", (unsigned long long)body_bytes);
    char head[160];
    int head_bytes =
        snprintf(head, sizeof head, "HTTP/1.1 %s\r\nContent-Type: text/plain\r\n%sConnection: %s\r\n\r\n",
                 malformed ? "400 Bad Request" : "200 OK", length, connection->last ? "close" : "keep-alive");
    bool bodyless = connection->parser.method == HTTP_HEAD || length[0] == '\0';
    connection->body_left_bytes = bodyless ? 0 : body_bytes;
    int error = connection_write(connection, head, (size_t)head_bytes);
    return error < 0 ? error : connection_flush(connection);
}

/* --- reading --- */

static int echo_take(struct server *server, struct connection *connection, size_t length)
{
    atomic_fetch_add(&server->tally->requests, 1);
    return connection_write(connection, server->scratch, length);
}

/* Takes from the socket what belongs to the current request and answers when that is over. The bytes were
 * only peeked at: what lies behind the request stays in the socket. */
static int http_take(struct server *server, struct connection *connection, size_t length)
{
    llhttp_errno_t result = llhttp_execute(&connection->parser, server->scratch, length);
    size_t parsed = length;
    if (connection->request_complete)
        parsed = (size_t)(llhttp_get_error_pos(&connection->parser) - server->scratch);
    /* MSG_TRUNC on TCP: discard, tcp(7). */
    if (recv(connection->fd, NULL, parsed, MSG_TRUNC) < 0)
        return -errno;
    if (result == HPE_OK)
        return 0;
    atomic_fetch_add(&server->tally->requests, 1);
    int error = http_answer(server, connection, !connection->request_complete);
    llhttp_reset(&connection->parser);
    connection->request_complete = false;
    return error < 0 ? error : 1;
}

static void connection_serve_bytes(struct server *server, struct connection *connection, size_t length)
{
    connection->has_request = true;
    if (!server->options->http) {
        connection_proceed(server, connection, echo_take(server, connection, length));
        return;
    }
    int answered = http_take(server, connection, length);
    if (answered != 0)
        connection_proceed(server, connection, answered);
}

static void connection_read(struct server *server, struct connection *connection)
{
    bool serves = connection->phase == PHASE_SERVING;
    int flags = serves && server->options->http ? MSG_PEEK : 0;
    ssize_t arrived = recv(connection->fd, server->scratch, sizeof server->scratch, flags);
    if (arrived < 0) {
        if (errno != EAGAIN)
            connection_close(server, connection);
    } else if (arrived == 0) {
        connection->eof = true;
        if (flags & MSG_PEEK) /* which has left the FIN unread: the receive queue would still count it */
            recv(connection->fd, server->scratch, 1, 0);
        if (connection->phase == PHASE_DRAINING)
            connection_close(server, connection);
        else
            server->behaviour->on_eof(server, connection);
    } else if (serves) {
        connection_serve_bytes(server, connection, (size_t)arrived);
    }
}

static void connection_event(struct server *server, struct connection *connection, uint32_t events)
{
    if (events & EPOLLRDHUP)
        server->behaviour->on_fin_arrived(server);
    if (events & (EPOLLERR | EPOLLHUP))
        connection_close(server, connection);
    else if (events & EPOLLOUT)
        connection_proceed(server, connection, connection_flush(connection));
    else if (events & EPOLLIN)
        connection_read(server, connection);
}

/* --- the server --- */

static void server_welcome(struct server *server, int fd)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection) {
        close(fd);
        return;
    }
    connection->fd = fd;
    llhttp_init(&connection->parser, HTTP_REQUEST, &server->parser_settings);
    connection->parser.data = connection;
    struct epoll_event event = {.events = 0, .data.ptr = connection};
    if (epoll_ctl(server->epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
        free(connection);
        close(fd);
        return;
    }
    atomic_fetch_add(&server->tally->accepted, 1);
    atomic_fetch_add(&server->tally->held, 1);
    server->behaviour->on_accept(server, connection);
}

static void server_accept(struct server *server)
{
    for (;;) {
        int fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            server_welcome(server, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            server_watch_listener(server, false);
            return;
        } else {
            return; /* what is still there to accept is reported again */
        }
    }
}

static void server_trickle(struct server *server)
{
    uint64_t expirations = 0;
    if (read(server->timer, &expirations, sizeof expirations) < 0)
        return;
    struct connection *next = NULL;
    for (struct connection *connection = LIST_FIRST(&server->trickling); connection; connection = next) {
        next = LIST_NEXT(connection, trickling);
        if (send(connection->fd, ".", 1, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
            connection_close(server, connection);
    }
}

static int server_turn(struct server *server)
{
    struct epoll_event events[EVENTS_A_TURN];
    int count = epoll_wait(server->epoll, events, EVENTS_A_TURN, -1);
    if (count < 0)
        return errno == EINTR ? 0 : -errno;
    bool tick = false;
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == &server->listener)
            server_accept(server);
        else if (events[i].data.ptr == &server->timer)
            tick = true;
        else
            connection_event(server, events[i].data.ptr, events[i].events);
    }
    if (tick) /* last, because it may free connections that the turn still had events for */
        server_trickle(server);
    return 0;
}

static int server_watch(struct server *server, int *fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = fd};
    return epoll_ctl(server->epoll, EPOLL_CTL_ADD, *fd, &event) < 0 ? -errno : 0;
}

static int server_start_timer(struct server *server)
{
    uint64_t ms = server->options->trickle_ms;
    struct timespec every = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    struct itimerspec interval = {.it_interval = every, .it_value = every};
    server->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (server->timer < 0 || timerfd_settime(server->timer, 0, &interval, NULL) < 0)
        return -errno;
    return server_watch(server, &server->timer);
}

int leak_server_run(int listener, int holder, const struct leak_options *options, struct leak_tally *tally)
{
    static struct server server; /* static for its scratch buffer: one a process */
    server = (struct server){.listener = listener,
                             .holder = holder,
                             .options = options,
                             .behaviour = &behaviours[options->mode],
                             .tally = tally};
    LIST_INIT(&server.trickling);
    llhttp_settings_init(&server.parser_settings);
    server.parser_settings.on_message_complete = http_message_complete;
    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    int error = server.epoll < 0 ? -errno : 0;
    if (error == 0 && server.behaviour->on_accept)
        error = server_watch(&server, &server.listener);
    if (error == 0 && server.behaviour->answers_for_ever)
        error = server_start_timer(&server);
    while (error == 0)
        error = server_turn(&server);
    return error;
}

int leak_holder_run(int channel)
{
    for (;;) {
        union {
            char bytes[CMSG_SPACE(sizeof(int))];
            struct cmsghdr header;
        } control;
        char byte = 0;
        struct iovec iov = {.iov_base = &byte, .iov_len = 1};
        struct msghdr message = {.msg_iov = &iov,
                                 .msg_iovlen = 1,
                                 .msg_control = control.bytes,
                                 .msg_controllen = sizeof control.bytes};
        ssize_t received = recvmsg(channel, &message, 0); /* the descriptor it brings is not even looked at */
        if (received == 0)
            return 0;
        if (received < 0 && errno != EINTR)
            return -errno;
    }
}

/* --- the table --- */

static const struct behaviour behaviours[LEAK_MODE_COUNT] = {
    [LEAK_NEVER_CLOSE] = {.name = "never-close",
                          .help = "reads the peer's FIN and never closes",
                          .on_accept = serve,
                          .on_answered = serve,
                          .on_eof = connection_forget},
    [LEAK_NEVER_READ] = {.name = "never-read",
                         .help = "answers once and never reads again: the FIN stays unread",
                         .on_accept = serve,
                         .on_answered = connection_forget,
                         .on_eof = connection_finish},
    [LEAK_STOPPED] = {.name = "stopped",
                      .help = "serves until a first FIN arrives, then is stopped (SIGSTOP)",
                      .on_accept = serve,
                      .on_answered = next_or_finish,
                      .on_eof = connection_finish,
                      .on_fin_arrived = stop_once},
    [LEAK_NEVER_ACCEPT] = {.name = "never-accept", .help = "listens and never accepts: the backlog fills"},
    [LEAK_ZERO_BYTE] = {.name = "zero-byte",
                        .help = "never closes what sent a FIN and no byte before; else healthy",
                        .on_accept = serve,
                        .on_answered = next_or_finish,
                        .on_eof = forget_if_silent},
    [LEAK_KEEP_ALIVE] = {.name = "keep-alive",
                         .help = "answers every request and keeps alive, whatever the peer says",
                         .on_accept = serve,
                         .on_answered = serve,
                         .on_eof = connection_forget,
                         .always_keeps_alive = true},
    [LEAK_FORKED] = {.name = "forked",
                     .help = "closes, but another process holds the descriptor too",
                     .on_accept = share_with_holder,
                     .on_answered = next_or_close,
                     .on_eof = connection_close,
                     .has_holder = true},
    [LEAK_QUEUED] = {.name = "queued",
                     .help = "accepts, queues, and never gets round to it",
                     .on_accept = connection_forget},
    [LEAK_TRICKLE] = {.name = "trickle",
                      .help = "answers, then sends one byte per interval for ever",
                      .on_accept = serve,
                      .on_answered = trickle,
                      .on_eof = trickle_or_finish,
                      .answers_for_ever = true},
    [LEAK_HEALTHY] = {.name = "healthy",
                      .help = "answers and closes as it should",
                      .on_accept = serve,
                      .on_answered = next_or_finish,
                      .on_eof = connection_finish},
};

const char *leak_mode_name(enum leak_mode mode)
{
    return behaviours[mode].name;
}

const char *leak_mode_help(enum leak_mode mode)
{
    return behaviours[mode].help;
}

bool leak_mode_has_holder(enum leak_mode mode)
{
    return behaviours[mode].has_holder;
}

int leak_mode_find(const char *name)
{
    for (enum leak_mode mode = 0; mode < LEAK_MODE_COUNT; mode++)
        if (strcmp(behaviours[mode].name, name) == 0)
            return (int)mode;
    return -EINVAL;
}
