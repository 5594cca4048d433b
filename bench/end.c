#include "bench/end.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { SCRATCH_BYTES = 64 * 1024, READS_A_TURN = 16, WRITES_A_TURN = 16 };

struct end_segment {
    STAILQ_ENTRY(end_segment) link;
    uint64_t left_bytes;
    uint64_t at; /* the offset of the next byte, in `text` or in the pattern */
    bool is_text;
    char text[];
};

static char scratch[SCRATCH_BYTES];

uint64_t end_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* ---- watching ---- */

/* Level-triggered, so nothing that is there is ever lost; what this end does not want to know it does
 * not watch. HUP and ERR come unasked: an end that has seen its reset leaves the set. */
static void watch(struct end *end)
{
    if (end->fd < 0)
        return;
    uint32_t wanted = 0;
    if (!end->is_connected || end->queued_bytes > 0)
        wanted |= EPOLLOUT;
    if (end->is_connected && !end->is_paused && !end->is_read_out)
        wanted |= EPOLLIN;
    bool in_set = !end->is_reset || (wanted & EPOLLIN);
    if (in_set == end->is_in_set && wanted == end->watched)
        return;
    struct epoll_event event = {.events = wanted, .data.ptr = end};
    int operation = !in_set ? EPOLL_CTL_DEL : end->is_in_set ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    epoll_ctl(end->epoll, operation, end->fd, &event);
    end->is_in_set = in_set;
    end->watched = wanted;
}

static void queue_clear(struct end *end)
{
    struct end_segment *segment;
    while ((segment = STAILQ_FIRST(&end->queue))) {
        STAILQ_REMOVE_HEAD(&end->queue, link);
        free(segment);
    }
    end->queued_bytes = 0;
}

static void over(struct end *end, enum end_over how, int error)
{
    uint64_t now_ns = end_clock_ns();
    if (end->over == END_OPEN) {
        end->over = how;
        end->over_ns = now_ns;
        if (how == END_FIN)
            heard_end(&end->heard);
    }
    if (how == END_RESET && !end->is_reset) {
        end->is_reset = true;
        end->reset_ns = now_ns;
        end->error = error;
        queue_clear(end);
    }
}

/* ---- sending ---- */

static ssize_t segment_send(struct end *end, const struct end_segment *segment)
{
    const char *bytes = segment->is_text ? segment->text + segment->at : scratch;
    size_t length = segment->left_bytes < sizeof scratch ? (size_t)segment->left_bytes : sizeof scratch;
    if (!segment->is_text)
        for (size_t i = 0; i < length; i++)
            scratch[i] = (char)heard_pattern(segment->at + i);
    return send(end->fd, bytes, length, MSG_NOSIGNAL);
}

static void segment_advance(struct end *end, struct end_segment *segment, uint64_t sent)
{
    segment->at += sent;
    segment->left_bytes -= sent;
    end->queued_bytes -= sent;
    end->sent_bytes += sent;
    if (segment->left_bytes > 0)
        return;
    STAILQ_REMOVE_HEAD(&end->queue, link);
    free(segment);
}

static void fin_if_due(struct end *end)
{
    if (!end->wants_fin || end->fin_sent_ns || end->queued_bytes > 0 || !end->is_connected)
        return;
    end->fin_sent_ns = end_clock_ns();
    shutdown(end->fd, SHUT_WR);
}

static void flush(struct end *end)
{
    for (int i = 0; i < WRITES_A_TURN && end->queued_bytes > 0; i++) {
        struct end_segment *segment = STAILQ_FIRST(&end->queue);
        ssize_t sent = segment_send(end, segment);
        if (sent < 0 && errno == EAGAIN)
            break;
        if (sent < 0) {
            over(end, END_RESET, errno);
            break;
        }
        segment_advance(end, segment, (uint64_t)sent);
    }
    fin_if_due(end);
}

static void enqueue(struct end *end, struct end_segment *segment)
{
    if (end->fd < 0 || end->is_reset || end->wants_fin || segment->left_bytes == 0) {
        free(segment);
        return;
    }
    STAILQ_INSERT_TAIL(&end->queue, segment, link);
    end->queued_bytes += segment->left_bytes;
    if (end->is_connected && STAILQ_FIRST(&end->queue) == segment)
        flush(end);
    watch(end);
}

void end_say(struct end *end, const void *bytes, size_t length)
{
    struct end_segment *segment = malloc(sizeof *segment + length);
    if (!segment) {
        over(end, END_RESET, ENOMEM);
        return;
    }
    *segment = (struct end_segment){.left_bytes = length, .is_text = true};
    memcpy(segment->text, bytes, length);
    enqueue(end, segment);
}

void end_body(struct end *end, uint64_t from, uint64_t bytes)
{
    struct end_segment *segment = malloc(sizeof *segment);
    if (!segment) {
        over(end, END_RESET, ENOMEM);
        return;
    }
    *segment = (struct end_segment){.left_bytes = bytes, .at = from};
    enqueue(end, segment);
}

void end_stream(struct end *end, uint64_t bytes)
{
    uint64_t from = end->stream_bytes;
    end->stream_bytes += bytes;
    end_body(end, from, bytes);
}

void end_fin(struct end *end)
{
    if (end->fd < 0)
        return;
    end->wants_fin = true;
    fin_if_due(end);
    watch(end);
}

bool end_urgent(struct end *end, char byte)
{
    return end->fd >= 0 && send(end->fd, &byte, 1, MSG_OOB | MSG_NOSIGNAL) == 1;
}

bool end_is_idle(const struct end *end)
{
    return end->queued_bytes == 0;
}

/* ---- receiving ---- */

static void read_some(struct end *end)
{
    for (int i = 0; i < READS_A_TURN && !end->is_paused && !end->is_read_out; i++) {
        ssize_t got = recv(end->fd, scratch, sizeof scratch, 0);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got > 0) {
            heard_take(&end->heard, scratch, (size_t)got);
            continue;
        }
        end->is_read_out = true;
        if (got == 0)
            over(end, END_FIN, 0);
        else
            over(end, END_RESET, errno);
    }
}

static int socket_error(const struct end *end)
{
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(end->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    return error;
}

static void connected(struct end *end)
{
    end->connect_error = socket_error(end);
    end->is_connected = end->connect_error == 0;
    end->connected_ns = end_clock_ns();
    if (end->connect_error)
        over(end, END_RESET, end->connect_error);
}

void end_ready(struct end *end, uint32_t events)
{
    if (!end->is_connected && end->over == END_OPEN)
        connected(end);
    /* First what can still be read: the error would be taken from the socket by asking for it. */
    if (end->is_connected && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        read_some(end);
    if (events & EPOLLERR) {
        int error = socket_error(end);
        if (error || end->over == END_OPEN)
            over(end, END_RESET, error ? error : ECONNRESET);
    }
    if (end->is_connected && (events & EPOLLOUT) && !end->is_reset)
        flush(end);
    if ((events & EPOLLHUP) && end->over != END_OPEN && end->is_in_set && !end->is_reset) {
        /* Both halves are over: HUP would be reported for ever. A reset behind two FINs means nothing. */
        epoll_ctl(end->epoll, EPOLL_CTL_DEL, end->fd, NULL);
        end->is_in_set = false;
        if (!end->fin_sent_ns)
            over(end, END_RESET, EPIPE); /* it took the socket out of CLOSE_WAIT without our FIN */
        return;
    }
    watch(end);
}

void end_pause(struct end *end)
{
    end->is_paused = true;
    watch(end);
}

void end_resume(struct end *end)
{
    end->is_paused = false;
    if (end->fd >= 0 && end->is_connected)
        read_some(end);
    watch(end);
}

/* ---- its life ---- */

struct end *end_new(int epoll, int fd, enum end_side side, bool is_connected, bool http)
{
    struct end *end = calloc(1, sizeof *end);
    if (!end)
        return NULL;
    end->epoll = epoll;
    end->fd = fd;
    end->side = side;
    end->is_connected = is_connected;
    end->opened_ns = end_clock_ns();
    end->connected_ns = is_connected ? end->opened_ns : 0;
    STAILQ_INIT(&end->queue);
    heard_init(&end->heard, http, side == END_BACKEND);
    watch(end);
    return end;
}

void end_close(struct end *end)
{
    if (end->fd < 0)
        return;
    if (!end->fin_sent_ns)
        end->fin_sent_ns = end_clock_ns();
    queue_clear(end);
    close(end->fd);
    end->fd = -1;
    end->is_in_set = false;
}

void end_reset(struct end *end)
{
    if (end->fd < 0)
        return;
    const struct linger linger = {.l_onoff = 1};
    setsockopt(end->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    end_close(end);
}

void end_free(struct end *end)
{
    end_close(end);
    free(end);
}

unsigned end_state(const struct end *end)
{
    struct tcp_info info;
    socklen_t length = sizeof info;
    if (end->fd < 0 || getsockopt(end->fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
        return 0;
    return info.tcpi_state;
}
