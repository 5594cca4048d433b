#include "proxy/socket/relay.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* #syscalls worker: recvfrom sendto sendmsg splice ioctl */

/* When a half is bulk. Each read of BULK_READ and more adds to its weight, each smaller one takes away, so
 * that neither the gaps of a bulk flow nor the fast small messages of another protocol change how it is
 * relayed. */
enum {
    BULK_READ = 1 << 14,
    BULK_WEIGHT = 4, /* spliced from here on */
    BULK_WEIGHT_MAX = 8,
};

bool relay_holds(const struct relay *relay)
{
    return relay->held != NULL || (relay->pipe && relay->pipe->bytes > 0);
}

static void release_pipe(struct relay *relay, struct relay_tools *tools)
{
    pipe_return(&tools->pipes, relay->pipe);
    relay->pipe = NULL;
}

static void weigh(struct relay *relay, size_t size)
{
    if (size < BULK_READ)
        relay->weight -= relay->weight > 0;
    else
        relay->weight += relay->weight < BULK_WEIGHT_MAX;
}

void relay_free(struct relay *relay, struct relay_tools *tools)
{
    free(relay->held);
    relay->held = NULL;
    if (relay->pipe)
        release_pipe(relay, tools);
}

static size_t least(size_t size, uint64_t limit)
{
    return size < limit ? size : (size_t)limit;
}

static bool is_transient(int error)
{
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

static void leg_broke(struct relay_leg *leg, int error)
{
    /* The first error is the cause; what follows (EPIPE, then EOF) are echoes. */
    if (!leg->broken)
        leg->error = -error;
    leg->broken = true;
    leg->read_until_eagain = true;
    leg->readable = true;
}

/* A read came back with `n` bytes of `wanted`, or errno. Returns the event if there is one, else
 * RELAY_BLOCKED when nothing was read and RELAY_MORE when something was. */
static enum relay_event after_read(struct relay_leg *source, ssize_t n, size_t wanted)
{
    if (n > 0) {
        /* epoll(7): a short read of a stream has emptied it, and the next byte makes a new edge. */
        if ((size_t)n < wanted && !source->read_until_eagain)
            source->readable = false;
        return RELAY_MORE;
    }
    /* A dead socket never says EAGAIN: it was a write that failed, for want of memory or for a reason that
     * only a unix socket has, and what was to be written is lost. */
    if (n < 0 && is_transient(errno) && source->broken)
        return RELAY_SOURCE_GONE;
    if (n < 0 && errno == EINTR)
        return RELAY_MORE;
    source->readable = false;
    /* The mark went by, or its byte is not in line yet, and then it comes by an edge that announces it again:
     * an event says what holds when it is fetched (net/ipv4/tcp.c, tcp_poll). */
    source->urgent = false;
    if (n < 0 && is_transient(errno))
        return RELAY_BLOCKED;
    if (n < 0)
        leg_broke(source, errno);
    return source->broken ? RELAY_SOURCE_GONE : RELAY_FIN;
}

/* A write of `wanted` bytes came back with `n` or errno. Returns the bytes that were taken, or -1: the sink
 * broke. */
static ssize_t after_write(struct relay_leg *sink, ssize_t n, size_t wanted)
{
    if (n < 0 && !is_transient(errno)) {
        leg_broke(sink, errno);
        return -1;
    }
    if (n < 0 && errno == EINTR)
        return 0;
    if (n < (ssize_t)wanted)
        sink->writable = false;
    return n < 0 ? 0 : n;
}

enum relay_event relay_read(struct relay_leg *source, char *bytes, size_t size, size_t *got)
{
    *got = 0;
    while (source->readable) {
        ssize_t n = recv(source->fd, bytes, size, 0);
        enum relay_event event = after_read(source, n, size);
        if (n > 0)
            *got = (size_t)n;
        if (n > 0 || event != RELAY_MORE)
            return event;
    }
    return RELAY_BLOCKED;
}

static enum relay_event flush_held(struct relay *relay, struct relay_leg *sink, uint64_t *moved)
{
    while (sink->writable) {
        size_t size = relay->held_size - relay->held_offset;
        int flags = MSG_NOSIGNAL | (relay->holds_urgent ? MSG_OOB : 0);
        ssize_t n = send(sink->fd, relay->held + relay->held_offset, size, flags);
        n = after_write(sink, n, size);
        if (n < 0)
            return RELAY_SINK_GONE;
        *moved += (uint64_t)n;
        relay->held_offset += (uint32_t)n;
        if (relay->held_offset == relay->held_size) {
            free(relay->held);
            relay->held = NULL;
            return RELAY_DRAINED;
        }
    }
    return RELAY_BLOCKED;
}

/* Writes what is in the pipe. RELAY_DRAINED when it is empty. */
static enum relay_event flush_pipe(struct relay *relay, struct relay_leg *sink, uint64_t *moved)
{
    struct pipe *pipe = relay->pipe;
    while (pipe->bytes > 0 && sink->writable) {
        ssize_t n =
            splice(pipe->read_fd, NULL, sink->fd, NULL, pipe->bytes, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        n = after_write(sink, n, pipe->bytes);
        if (n < 0)
            return RELAY_SINK_GONE;
        *moved += (uint64_t)n;
        pipe->bytes -= (size_t)n;
    }
    return pipe->bytes > 0 ? RELAY_BLOCKED : RELAY_DRAINED;
}

static enum relay_event discard(struct relay_tools *tools, struct relay_leg *source, uint64_t *budget)
{
    if (!source->readable)
        return RELAY_BLOCKED;
    if (*budget == 0)
        return RELAY_MORE;
    ssize_t n = recv(source->fd, tools->scratch, RELAY_SCRATCH, 0);
    enum relay_event event = after_read(source, n, RELAY_SCRATCH);
    if (n <= 0)
        return event;
    *budget -= (uint64_t)n < *budget ? (uint64_t)n : *budget;
    return RELAY_DISCARDED;
}

void relay_adopt(struct relay *relay, char *bytes, size_t offset, size_t size)
{
    assert(!relay_holds(relay) && offset < size);
    relay->held = bytes;
    relay->held_offset = (uint32_t)offset;
    relay->held_size = (uint32_t)size;
    relay->holds_urgent = false;
}

/* Keeps what the sink left. */
static enum relay_event hold(struct relay *relay, const char *bytes, size_t size)
{
    char *held = malloc(size);
    if (!held)
        return RELAY_NO_MEMORY;
    memcpy(held, bytes, size);
    relay_adopt(relay, held, 0, size);
    return RELAY_HELD;
}

/* Keeps what the sink left of the parts behind `taken` bytes, `size` in all. */
static enum relay_event hold_parts(struct relay *relay, const struct iovec *parts, size_t taken, size_t size)
{
    char *held = malloc(size);
    if (!held)
        return RELAY_NO_MEMORY;
    relay_adopt(relay, held, 0, size);
    for (; size > 0; parts++) {
        size_t skip = taken < parts->iov_len ? taken : parts->iov_len;
        size_t rest = parts->iov_len - skip;
        memcpy(held, (const char *)parts->iov_base + skip, rest);
        held += rest;
        size -= rest;
        taken -= skip;
    }
    return RELAY_HELD;
}

/* Behind what is held already. */
static enum relay_event append_parts(struct relay *relay, const struct iovec *parts, size_t size)
{
    char *grown = realloc(relay->held, relay->held_size + size);
    if (!grown)
        return RELAY_NO_MEMORY;
    relay->held = grown;
    for (; size > 0; parts++) {
        memcpy(grown + relay->held_size, parts->iov_base, parts->iov_len);
        relay->held_size += (uint32_t)parts->iov_len;
        size -= parts->iov_len;
    }
    return RELAY_MORE;
}

enum relay_event relay_write(struct relay *relay, struct relay_leg *sink, struct iovec *parts, int count,
                             uint64_t *moved)
{
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    if (relay->held)
        return append_parts(relay, parts, size);
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (size_t)count};
    ssize_t taken = sink->broken ? 0 : sendmsg(sink->fd, &message, MSG_NOSIGNAL);
    taken = sink->broken ? -1 : after_write(sink, taken, size);
    if (taken < 0)
        return RELAY_SINK_GONE;
    *moved += (uint64_t)taken;
    return (size_t)taken == size ? RELAY_MORE : hold_parts(relay, parts, (size_t)taken, size - (size_t)taken);
}

/* Whether the FIN will be sent right behind what can be read now: then the last bytes wait for it, and leave
 * in one segment with it. Where no FIN comes, the kernel would keep them for 200 ms. A reset announces a FIN
 * too (tcp(7); net/ipv4/tcp.c, tcp_poll), and sends none. */
static bool fin_is_next(const struct relay *relay, const struct relay_leg *source)
{
    return relay->is_stream && source->fin && !source->broken;
}

/* Whether the next byte is the urgent one. A read stops before it (tcp(7), SO_OOBINLINE), so none goes past
 * the mark unseen; asked for only while one is announced. */
static bool is_at_mark(const struct relay *relay, struct relay_leg *source, const struct relay_leg *sink)
{
    int at_mark = 0;
    if (!source->urgent || !relay->is_stream || source->is_unix || sink->is_unix)
        return false;
    source->urgent = ioctl(source->fd, SIOCATMARK, &at_mark) == 0 && !at_mark;
    return at_mark;
}

/* One read and its write. RELAY_MORE when both went well. */
static enum relay_event copy(struct relay *relay, struct relay_tools *tools, struct relay_leg *source,
                             struct relay_leg *sink, uint64_t *moved)
{
    bool urgent = is_at_mark(relay, source, sink);
    size_t wanted = urgent ? 1 : least(RELAY_SCRATCH, relay->limit_bytes);
    ssize_t n = recv(source->fd, tools->scratch, wanted, 0);
    enum relay_event event = after_read(source, n, wanted);
    if (event != RELAY_MORE || n <= 0)
        return event;
    relay->limit_bytes -= (uint64_t)n;
    weigh(relay, (size_t)n);
    int flags = MSG_NOSIGNAL | (fin_is_next(relay, source) ? MSG_MORE : 0) | (urgent ? MSG_OOB : 0);
    ssize_t taken = send(sink->fd, tools->scratch, (size_t)n, flags);
    taken = after_write(sink, taken, (size_t)n);
    if (taken < 0)
        return RELAY_SINK_GONE;
    *moved += (uint64_t)taken;
    if (taken == n)
        return RELAY_MORE;
    event = hold(relay, tools->scratch + taken, (size_t)(n - taken));
    relay->holds_urgent = urgent;
    return event;
}

/* One fill of the pipe and its way out. RELAY_MORE when both went well.
 *
 * Whether a source is empty, or at its end, only recv(2) can say: at urgent data a splice answers as though
 * it were either (net/ipv4/tcp.c, tcp_read_sock). An error of the socket is told once and must be kept; one
 * for lack of memory is not the socket's. */
static enum relay_event spliced(struct relay *relay, struct relay_tools *tools, struct relay_leg *source,
                                struct relay_leg *sink, uint64_t *moved)
{
    struct pipe *pipe = relay->pipe;
    size_t wanted = least(pipe->size, relay->limit_bytes);
    ssize_t n = splice(source->fd, NULL, pipe->write_fd, NULL, wanted, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n <= 0) {
        if (n < 0 && !is_transient(errno) && errno != ENOMEM && errno != EINVAL)
            leg_broke(source, errno);
        return copy(relay, tools, source, sink, moved);
    }
    relay->limit_bytes -= (uint64_t)n;
    weigh(relay, (size_t)n);
    pipe->bytes = (size_t)n;
    enum relay_event event = flush_pipe(relay, sink, moved);
    if (event == RELAY_SINK_GONE)
        return event;
    return event == RELAY_BLOCKED ? RELAY_HELD : RELAY_MORE;
}

static enum relay_event flush(struct relay *relay, struct relay_leg *sink, uint64_t *moved)
{
    if (sink->broken)
        return RELAY_BLOCKED;
    return relay->held ? flush_held(relay, sink, moved) : flush_pipe(relay, sink, moved);
}

/* Lends the half a pipe while it is bulk. A worker that has none to lend now is asked again only after as
 * many reads as make a half bulk. */
static void choose_way(struct relay *relay, struct relay_tools *tools)
{
    if (relay->pipe && relay->weight < BULK_WEIGHT)
        release_pipe(relay, tools);
    if (relay->pipe || relay->weight < BULK_WEIGHT)
        return;
    relay->pipe = pipe_borrow(&tools->pipes);
    if (!relay->pipe)
        relay->weight = 0;
}

static enum relay_event move(struct relay *relay, struct relay_tools *tools, struct relay_leg *source,
                             struct relay_leg *sink, uint64_t budget, uint64_t *moved)
{
    while (source->readable && sink->writable && !sink->broken && relay->limit_bytes > 0) {
        if (*moved >= budget)
            return RELAY_MORE;
        choose_way(relay, tools);
        enum relay_event event = relay->pipe ? spliced(relay, tools, source, sink, moved)
                                             : copy(relay, tools, source, sink, moved);
        if (event != RELAY_MORE)
            return event;
    }
    return RELAY_BLOCKED;
}

enum relay_event relay_work(struct relay *relay, struct relay_tools *tools, struct relay_leg *source,
                            struct relay_leg *sink, bool source_open, bool discarding, uint64_t *budget,
                            uint64_t *moved)
{
    enum relay_event event = RELAY_BLOCKED;
    if (discarding)
        return source_open && source->fd >= 0 ? discard(tools, source, budget) : RELAY_BLOCKED;
    if (relay_holds(relay))
        event = flush(relay, sink, moved);
    else if (source_open)
        event = move(relay, tools, source, sink, *budget, moved);
    if (relay->pipe && relay->pipe->bytes == 0)
        release_pipe(relay, tools);
    return event;
}
