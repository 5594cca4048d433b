/* shape: an experiment, not a product. A TCP relay with one worker whose data plane can be given one of
 * several shapes by a flag, so that compare.py can say what each shape costs. bench/README.md holds the
 * outcome.
 *
 *   --loop poll     one uv_poll_t a socket; its mask follows what the session waits for
 *   --loop nested   one epoll set of the worker's own, edge-triggered, each socket registered once, the set
 *                   itself behind a single uv_poll_t
 *   --loop bare     the same set without libuv: what `nested` costs is the difference
 *
 * Bytes are copied through one scratch buffer, or, once a half has moved --splice-after bytes within
 * BURST_WINDOW_MS, spliced through pipes that a pool lends out for one run of the half. There are no
 * deadlines and no names to resolve; an error of either leg resets both.
 *
 * Leg 0 is the client, leg 1 the backend; half i runs from leg i to leg 1 - i. */

#include <argp.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum {
    BURST_WINDOW_MS = 1000,
    BURST_READ_MIN = 16 << 10, /* smaller reads are messages: splicing one costs more than copying it */
    RUN_BYTES_MAX = 4 << 20,   /* what a half may move before others get their turn */
    ACCEPT_MAX = 64,           /* connections a turn */
    POOL_MAX = 64,             /* pipes kept; an unprivileged user may hold 64 of 1 MiB (pipe(7)) */
    BATCH_MAX = 1024,
};

enum loop_kind { LOOP_POLL, LOOP_NESTED, LOOP_BARE };

static struct {
    enum loop_kind loop;
    uint16_t listen_port, backend_port;
    size_t scratch_bytes, splice_after_bytes, pipe_bytes; /* splice_after_bytes 0: never */
    int batch, rounds;
    bool short_read; /* a short read tells that the socket is drained; epoll(7), question 9 */
} options = {
    .loop = LOOP_NESTED,
    .scratch_bytes = 64 << 10,
    .pipe_bytes = 1 << 20,
    .batch = 256,
    .rounds = 1,
    .short_read = true,
};

struct pipe {
    struct pipe *next;
    int in, out; /* bytes go in at `in` */
};

struct half {
    struct pipe *pipe; /* held only during a run, or while it holds bytes */
    char *kept;        /* what the sink did not take; NULL: nothing */
    size_t kept_at, kept_bytes, piped_bytes;
    size_t burst_bytes;
    uint64_t burst_since_ms;
    bool bulk, eof, ended;
};

struct leg {
    struct session *session;
    uv_poll_t *poll; /* LOOP_POLL only */
    int fd, mask;
    bool readable, eof_seen;
};

struct session {
    struct leg legs[2];
    struct half halves[2];
    struct session *next; /* once ended: parked until the events at hand are done */
    bool connected, ended;
};

static struct {
    uv_loop_t *uv;
    int epoll_fd, listen_fd;
    char *scratch;
    struct pipe *pool;
    int pooled;
    struct session *parked;
    uint64_t now_ms;
    struct epoll_event events[BATCH_MAX];
} worker;

static void check(int rc, const char *what)
{
    if (rc < 0) {
        perror(what);
        exit(1);
    }
}

/* --- pipes ------------------------------------------------------------------------------------------------
 */

static struct pipe *pipe_take(void)
{
    struct pipe *p = worker.pool;
    if (p) {
        worker.pool = p->next;
        worker.pooled--;
        return p;
    }
    int fds[2];
    if (!(p = malloc(sizeof *p)))
        return NULL;
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) < 0) {
        free(p);
        return NULL;
    }
    fcntl(fds[1], F_SETPIPE_SZ, (int)options.pipe_bytes); /* refused: a smaller pipe serves as well */
    *p = (struct pipe){.in = fds[1], .out = fds[0]};
    return p;
}

static void pipe_give_back(struct pipe *p, bool empty)
{
    if (empty && worker.pooled < POOL_MAX) {
        p->next = worker.pool;
        worker.pool = p;
        worker.pooled++;
        return;
    }
    close(p->in);
    close(p->out);
    free(p);
}

/* --- legs -------------------------------------------------------------------------------------------------
 */

static void leg_event(struct leg *leg, bool readable, bool writable, bool broken);

static void on_poll(uv_poll_t *poll, int status, int events)
{
    worker.now_ms = uv_now(worker.uv);
    leg_event(poll->data, events & UV_READABLE, events & UV_WRITABLE, status < 0);
}

static void leg_watch(struct leg *leg)
{
    if (options.loop == LOOP_POLL) {
        leg->poll = malloc(sizeof *leg->poll);
        assert(leg->poll);
        check(uv_poll_init(worker.uv, leg->poll, leg->fd), "uv_poll_init");
        leg->poll->data = leg;
        return;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = leg};
    check(epoll_ctl(worker.epoll_fd, EPOLL_CTL_ADD, leg->fd, &event), "epoll_ctl");
}

/* Asks for another event although the socket was not drained: EPOLL_CTL_MOD looks at the socket afresh and
 * queues it behind those that are ready already, so no list of unfinished halves is needed. */
static void leg_again(struct leg *leg)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = leg};
    if (options.loop != LOOP_POLL)
        check(epoll_ctl(worker.epoll_fd, EPOLL_CTL_MOD, leg->fd, &event), "epoll_ctl");
}

static bool half_holds(const struct half *half)
{
    return half->kept_bytes || half->piped_bytes;
}

/* LOOP_POLL: READABLE while its own half may read, WRITABLE while the other holds bytes for it, else
 * PRIORITIZED so that a reset is still seen. */
static void leg_remask(struct leg *leg, const struct half *from, const struct half *to)
{
    int mask = 0;
    if (leg->session->connected && !from->eof && !half_holds(from))
        mask |= UV_READABLE;
    if (!leg->session->connected || half_holds(to))
        mask |= UV_WRITABLE;
    if (!mask)
        mask = UV_PRIORITIZED;
    if (mask != leg->mask)
        uv_poll_start(leg->poll, mask, on_poll);
    leg->mask = mask;
}

static void on_poll_closed(uv_handle_t *handle)
{
    free(handle);
}

static void leg_close(struct leg *leg, bool reset)
{
    struct linger abort = {.l_onoff = 1};
    if (reset)
        setsockopt(leg->fd, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
    if (leg->poll) {
        uv_poll_stop(leg->poll);
        uv_close((uv_handle_t *)leg->poll, on_poll_closed);
    }
    close(leg->fd); /* leaves the epoll set by itself: nobody else holds the description */
}

/* --- sessions ---------------------------------------------------------------------------------------------
 */

static void session_end(struct session *session, bool reset)
{
    if (session->ended)
        return;
    session->ended = true;
    for (int i = 0; i < 2; i++) {
        leg_close(&session->legs[i], reset);
        free(session->halves[i].kept);
        if (session->halves[i].pipe)
            pipe_give_back(session->halves[i].pipe, !session->halves[i].piped_bytes);
    }
    session->next = worker.parked;
    worker.parked = session;
}

static void sessions_free_parked(void)
{
    while (worker.parked) {
        struct session *session = worker.parked;
        worker.parked = session->next;
        free(session);
    }
}

/* --- halves -----------------------------------------------------------------------------------------------
 */

/* Whether the error only means "later"; anything else ends the session. */
static bool is_later(struct session *session)
{
    if (errno == EAGAIN || errno == EINTR)
        return true;
    session_end(session, true);
    return false;
}

static bool half_keep(struct half *half, const char *bytes, size_t count)
{
    if (!(half->kept = malloc(count)))
        return false;
    memcpy(half->kept, bytes, count);
    half->kept_at = 0;
    half->kept_bytes = count;
    return true;
}

/* True when nothing is held any more. */
static bool half_flush(struct half *half, struct leg *sink)
{
    while (half_holds(half)) {
        ssize_t n = half->kept ? send(sink->fd, half->kept + half->kept_at, half->kept_bytes, MSG_NOSIGNAL)
                               : splice(half->pipe->out, NULL, sink->fd, NULL, half->piped_bytes,
                                        SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
        if (n < 0) {
            is_later(sink->session);
            return false;
        }
        if (!half->kept) {
            half->piped_bytes -= (size_t)n;
            continue;
        }
        half->kept_at += (size_t)n;
        half->kept_bytes -= (size_t)n;
        if (!half->kept_bytes) {
            free(half->kept);
            half->kept = NULL;
        }
    }
    return true;
}

static ssize_t half_splice(struct half *half, struct leg *source)
{
    ssize_t n = splice(source->fd, NULL, half->pipe->in, NULL, options.pipe_bytes, SPLICE_F_NONBLOCK);
    if (n > 0)
        half->piped_bytes = (size_t)n;
    return n;
}

static ssize_t half_copy(struct half *half, struct leg *source, struct leg *sink)
{
    ssize_t n = recv(source->fd, worker.scratch, options.scratch_bytes, 0);
    if (n <= 0)
        return n;
    if ((size_t)n < options.scratch_bytes && options.short_read && !source->eof_seen)
        source->readable = false;
    ssize_t sent = send(sink->fd, worker.scratch, (size_t)n, MSG_NOSIGNAL);
    if (sent < 0 && !is_later(sink->session))
        return n;
    if (sent < 0)
        sent = 0;
    if (sent < n && !half_keep(half, worker.scratch + sent, (size_t)(n - sent)))
        session_end(source->session, true);
    return n;
}

static void half_count(struct half *half, size_t count)
{
    if (!options.splice_after_bytes)
        return;
    if (worker.now_ms - half->burst_since_ms > BURST_WINDOW_MS) {
        half->bulk = half->burst_bytes > options.splice_after_bytes;
        half->burst_since_ms = worker.now_ms;
        half->burst_bytes = 0;
    }
    if (count >= BURST_READ_MIN)
        half->burst_bytes += count;
    if (half->burst_bytes > options.splice_after_bytes)
        half->bulk = true;
}

/* One read and what it allows to write; bytes moved, 0 when the source is drained or at its end. */
static size_t half_move(struct half *half, struct leg *source, struct leg *sink)
{
    if (half->bulk && !half->pipe)
        half->pipe = pipe_take();
    ssize_t n = half->pipe ? half_splice(half, source) : half_copy(half, source, sink);
    if (n > 0) {
        half_count(half, (size_t)n);
        return (size_t)n;
    }
    if (n == 0)
        half->eof = true;
    else if (is_later(source->session))
        source->readable = false;
    return 0;
}

/* The half's FIN goes out; the second one goes with the close. */
static void half_end(struct session *session, int i)
{
    session->halves[i].ended = true;
    if (session->halves[1 - i].ended)
        session_end(session, false);
    else if (shutdown(session->legs[1 - i].fd, SHUT_WR) < 0)
        session_end(session, true);
}

static void half_run(struct session *session, int i)
{
    struct half *half = &session->halves[i];
    struct leg *source = &session->legs[i], *sink = &session->legs[1 - i];
    size_t moved = 0;
    while (!session->ended && !half->ended && half_flush(half, sink)) {
        if (half->eof)
            half_end(session, i);
        else if (!source->readable)
            break;
        else if (moved >= RUN_BYTES_MAX) {
            leg_again(source);
            break;
        } else
            moved += half_move(half, source, sink);
    }
    if (half->pipe && !half->piped_bytes && !session->ended) {
        pipe_give_back(half->pipe, true);
        half->pipe = NULL;
    }
}

static void leg_event(struct leg *leg, bool readable, bool writable, bool broken)
{
    struct session *session = leg->session;
    if (session->ended)
        return;
    int i = leg == &session->legs[1];
    leg->readable |= readable;
    session->connected |= i == 1 && writable;
    if (broken)
        session_end(session, true);
    if (!session->connected)
        return; /* what is readable is remembered */
    if (readable)
        half_run(session, i);
    if (writable && (half_holds(&session->halves[1 - i]) || session->legs[1 - i].readable))
        half_run(session, 1 - i);
    if (options.loop != LOOP_POLL || session->ended)
        return;
    leg_remask(&session->legs[0], &session->halves[0], &session->halves[1]);
    leg_remask(&session->legs[1], &session->halves[1], &session->halves[0]);
}

/* --- connections ------------------------------------------------------------------------------------------
 */

static int backend_connect(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(options.backend_port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        return -errno;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) < 0 && errno != EINPROGRESS) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

static void session_new(int client_fd)
{
    struct session *session = calloc(1, sizeof *session);
    int backend_fd = session ? backend_connect() : -ENOMEM;
    if (backend_fd < 0) {
        close(client_fd);
        free(session);
        return;
    }
    int fds[2] = {client_fd, backend_fd};
    for (int i = 0; i < 2; i++) {
        session->legs[i] = (struct leg){.session = session, .fd = fds[i]};
        leg_watch(&session->legs[i]);
    }
    if (options.loop == LOOP_POLL)
        for (int i = 0; i < 2; i++)
            leg_remask(&session->legs[i], &session->halves[i], &session->halves[1 - i]);
}

static void accept_all(void)
{
    for (int i = 0; i < ACCEPT_MAX; i++) {
        int fd = accept4(worker.listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        session_new(fd);
    }
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    (void)poll, (void)status, (void)events;
    accept_all();
}

static void listener_open(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(options.listen_port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    check(fd, "socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* inherited by what it accepts */
    check(bind(fd, (struct sockaddr *)&at, sizeof at), "bind");
    check(listen(fd, 4096), "listen");
    worker.listen_fd = fd;
}

/* --- loops ------------------------------------------------------------------------------------------------
 */

/* The number of events handled. */
static int epoll_round(int timeout_ms)
{
    int count = epoll_wait(worker.epoll_fd, worker.events, options.batch, timeout_ms);
    for (int i = 0; i < count; i++) {
        uint32_t events = worker.events[i].events;
        struct leg *leg = worker.events[i].data.ptr;
        if (!leg) {
            accept_all();
            continue;
        }
        leg->eof_seen |= (events & EPOLLRDHUP) != 0;
        leg_event(leg, events & (EPOLLIN | EPOLLRDHUP), events & EPOLLOUT, events & EPOLLERR);
    }
    sessions_free_parked();
    return count;
}

static void on_epoll(uv_poll_t *poll, int status, int events)
{
    (void)poll, (void)status, (void)events;
    worker.now_ms = uv_now(worker.uv);
    for (int i = 0; i < options.rounds && epoll_round(0) > 0; i++)
        ;
}

static void run_bare(void)
{
    for (;;) {
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
        worker.now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
        epoll_round(-1);
    }
}

static void on_check(uv_check_t *after_poll)
{
    (void)after_poll;
    sessions_free_parked();
}

static void run_uv(void)
{
    static uv_poll_t poll;
    static uv_check_t after_poll;
    worker.uv = uv_default_loop();
    bool nested = options.loop == LOOP_NESTED;
    check(uv_poll_init(worker.uv, &poll, nested ? worker.epoll_fd : worker.listen_fd), "uv_poll_init");
    uv_poll_start(&poll, UV_READABLE, nested ? on_epoll : on_listener);
    if (!nested) {
        uv_check_init(worker.uv, &after_poll);
        uv_check_start(&after_poll, on_check);
    }
    uv_run(worker.uv, UV_RUN_DEFAULT);
}

static void epoll_open(void)
{
    struct epoll_event event = {.events = EPOLLIN};
    worker.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    check(worker.epoll_fd, "epoll_create1");
    check(epoll_ctl(worker.epoll_fd, EPOLL_CTL_ADD, worker.listen_fd, &event), "epoll_ctl");
}

/* --- command line -----------------------------------------------------------------------------------------
 */

static size_t parse_size(struct argp_state *state, const char *text)
{
    char *end;
    unsigned long long number = strtoull(text, &end, 10);
    if (*end == 'K' || *end == 'M')
        number <<= *end++ == 'K' ? 10 : 20;
    if (end == text || *end || number > 1 << 30)
        argp_error(state, "'%s' is no size; allowed are 0 to 1024M, with K or M", text);
    return (size_t)number;
}

static enum loop_kind parse_loop(struct argp_state *state, const char *text)
{
    static const char *const names[] = {[LOOP_POLL] = "poll", [LOOP_NESTED] = "nested", [LOOP_BARE] = "bare"};
    for (int kind = LOOP_POLL; kind <= LOOP_BARE; kind++)
        if (strcmp(text, names[kind]) == 0)
            return (enum loop_kind)kind;
    argp_error(state, "'%s' is no loop; allowed are poll, nested and bare", text);
    return LOOP_POLL;
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    switch (key) {
    case 'l':
        options.listen_port = (uint16_t)parse_size(state, text);
        break;
    case 'b':
        options.backend_port = (uint16_t)parse_size(state, text);
        break;
    case 'o':
        options.loop = parse_loop(state, text);
        break;
    case 's':
        options.scratch_bytes = parse_size(state, text);
        break;
    case 'a':
        options.splice_after_bytes = parse_size(state, text);
        break;
    case 'p':
        options.pipe_bytes = parse_size(state, text);
        break;
    case 'n':
        options.batch = (int)parse_size(state, text);
        break;
    case 'r':
        options.rounds = (int)parse_size(state, text);
        break;
    case 'd':
        options.short_read = false;
        break;
    case ARGP_KEY_END:
        if (!options.listen_port || !options.backend_port || options.batch < 1 || options.batch > BATCH_MAX)
            argp_error(state, "--listen, --backend and a batch of 1 to %d are needed", BATCH_MAX);
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct argp_option keys[] = {
        {"listen", 'l', "PORT", 0, "port on 127.0.0.1", 0},
        {"backend", 'b', "PORT", 0, "port on 127.0.0.1", 0},
        {"loop", 'o', "poll|nested|bare", 0, "shape of the event loop (nested)", 0},
        {"scratch", 's', "SIZE", 0, "bytes copied at once (64K)", 0},
        {"splice-after", 'a', "SIZE", 0, "bytes a second from which a half is spliced (0: never)", 0},
        {"pipe", 'p', "SIZE", 0, "size of a pipe (1M)", 0},
        {"batch", 'n', "N", 0, "events taken at once (256)", 0},
        {"rounds", 'r', "N", 0, "nested: batches taken before libuv has its turn (1)", 0},
        {"drain", 'd', NULL, 0, "read until EAGAIN even after a short read", 0},
        {0},
    };
    argp_parse(&(struct argp){.options = keys, .parser = parse_option}, argc, argv, 0, NULL, NULL);
    signal(SIGPIPE, SIG_IGN); /* splice(2) has no MSG_NOSIGNAL */
    worker.scratch = malloc(options.scratch_bytes);
    assert(worker.scratch);
    listener_open();
    epoll_open();
    if (options.loop == LOOP_BARE)
        run_bare();
    else
        run_uv();
    return 0;
}
