#include "tests/simulation/network.h"

#include "proxy/socket/pipe.h"
#include "proxy/socket/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { FIRST_FD = 1000, FIRST_PIPE_FD = 1 << 20, PIPES = 64 };

/* How long the kernel holds bytes back that were written with MSG_MORE. */
enum { CORK_MS = 200 };

struct network network;

/* What is in a pipe: bytes of one stream. */
static struct {
    bool used;
    struct connection *from;
    uint64_t offset, bytes;
} pipes[PIPES];

/* The real ones; the linker gives us those that the proxy calls. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void __wrap_free(void *memory);
ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *buffer, size_t size, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags);
ssize_t __wrap_splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t size, unsigned flags);
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_pipe2(int fds[2], int flags);
int __real_fcntl(int fd, int command, ...);
int __wrap_fcntl(int fd, int command, ...);

/* ---- chance ---- */

static uint64_t random_next(void)
{
    network.random ^= network.random << 13; /* xorshift64, Marsaglia 2003 */
    network.random ^= network.random >> 7;
    network.random ^= network.random << 17;
    return network.random;
}

uint64_t random_below(uint64_t bound)
{
    return bound ? (random_next() >> 11) % bound : 0;
}

bool one_in(uint64_t n)
{
    return random_below(n) == 0;
}

/* ---- memory of the simulation's own ---- */

void *network_memory(void *memory, size_t size)
{
    void *grown = __real_realloc(memory, size);
    if (!grown)
        broken(0, "the simulation has no memory");
    return grown;
}

void network_free(void *memory)
{
    __real_free(memory);
}

/* ---- edges ---- */

static void edge(struct connection *c)
{
    if (c->has_edge || !c->open || !c->source)
        return;
    c->has_edge = true;
    c->next_edge = NULL;
    *network.last_edge = c;
    network.last_edge = &c->next_edge;
}

static uint64_t space(const struct connection *c)
{
    uint64_t queued = c->sent_bytes - c->acked_bytes;
    return queued < c->send_buffer ? c->send_buffer - queued : 0;
}

static uint32_t readiness(const struct connection *c)
{
    uint32_t events = 0;
    if (!c->connected && !c->dead)
        return 0;
    if (c->arrived_bytes > c->read_bytes || c->fin_arrived || c->dead)
        events |= EPOLLIN;
    if (space(c) > 0 || c->dead)
        events |= EPOLLOUT;
    if (c->fin_arrived || c->dead)
        events |= EPOLLRDHUP;
    if (c->dead || (c->fin_arrived && c->fin_sent))
        events |= EPOLLHUP;
    if (c->error)
        events |= EPOLLERR;
    return events;
}

bool network_deliver(void)
{
    bool any = false;
    while (network.edges) {
        struct connection *c = network.edges;
        network.edges = c->next_edge;
        if (!network.edges)
            network.last_edge = &network.edges;
        c->has_edge = false;
        uint32_t events = c->open && c->source ? readiness(c) : 0;
        if (events) {
            any = true;
            network.runs++;
            c->source->ready(c->source, events);
        }
    }
    network.runs++; /* what was put off may follow */
    return any;
}

/* ---- the peer and the wire ---- */

static void after(struct event *event, uint64_t delay_ms)
{
    if (!wheel_entry_linked(&event->entry))
        wheel_add(&network.wheel, &event->entry, network.now_ms + delay_ms);
}

static void stop(struct connection *c)
{
    struct event *all[] = {&c->decide, &c->pump,  &c->arrive, &c->write, &c->read,
                           &c->fault,  &c->probe, &c->ring,   &c->cork};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        wheel_remove(&network.wheel, &all[i]->entry);
}

/* The proxy's socket learns that there is no peer any more. */
static void die(struct connection *c, int error)
{
    stop(c);
    c->dead = true;
    c->error = error;
    c->fin_arrived = false;
    edge(c);
}

/* net/ipv4/tcp_input.c, tcp_reset(): EPIPE in CLOSE_WAIT, else ECONNRESET. */
static void reset_by_peer(struct connection *c)
{
    die(c, c->connected && c->fin_arrived && !c->fin_sent ? -EPIPE : -ECONNRESET);
}

static void peer_writes(struct connection *c, uint64_t bytes)
{
    c->written_bytes += bytes;
    after(&c->arrive, c->peer.delay_ms);
}

void network_fin(struct connection *c)
{
    if (c->fin_written)
        return;
    c->fin_written = true;
    after(&c->arrive, c->peer.delay_ms);
}

/* close() by the peer's application; unread bytes make it RST. */
void network_close(struct connection *c)
{
    if (c->closed || c->dead)
        return;
    c->closed = true;
    wheel_remove(&network.wheel, &c->write.entry);
    wheel_remove(&network.wheel, &c->read.entry);
    if (c->acked_bytes > c->consumed_bytes)
        reset_by_peer(c);
    else
        network_fin(c);
}

static void on_write(struct connection *c)
{
    uint64_t left = c->peer.send_bytes - c->written_bytes;
    uint64_t n = left < c->peer.send_chunk ? left : c->peer.send_chunk;
    if (c->fin_written || c->closed)
        return;
    if (c->written_bytes - c->arrived_bytes > 1 << 18) { /* its own send buffer */
        after(&c->write, c->peer.send_gap_ms + 1);
        return;
    }
    if (n > 0)
        peer_writes(c, n);
    if (left > n) {
        after(&c->write, c->peer.send_gap_ms);
    } else if (c->peer.trickle_bytes > 0) {
        c->peer.trickle_bytes--;
        c->peer.send_bytes++;
        after(&c->write, c->peer.trickle_ms);
    } else if (c->peer.fin_when_sent) {
        network_fin(c);
    } else if (c->application->sent) {
        c->application->sent(c);
    }
}

static void start_writing(struct connection *c)
{
    if (c->writing || c->consumed_bytes < c->peer.await_bytes)
        return;
    c->writing = true;
    after(&c->write, c->peer.think_ms);
}

static void on_eof(struct connection *c)
{
    if (!c->peer.fin_on_eof)
        return;
    if (c->written_bytes < c->peer.send_bytes && c->writing && c->peer.trickle_bytes == 0)
        c->peer.fin_when_sent = true;
    else
        network_fin(c);
}

static void on_read(struct connection *c)
{
    uint64_t waiting = c->acked_bytes - c->consumed_bytes;
    uint64_t n = waiting < c->peer.read_chunk ? waiting : c->peer.read_chunk;
    if (c->closed || c->consumed_bytes >= c->peer.read_limit)
        return;
    c->consumed_bytes += n;
    if (n > 0 && c->sent_bytes > c->acked_bytes)
        after(&c->pump, c->peer.delay_ms);
    if (n > 0 && c->application->reads)
        c->application->reads(c);
    if (c->closed || c->dead || c->vanished)
        return;
    if (c->consumed_bytes >= c->peer.close_after) {
        network_close(c);
        return;
    }
    start_writing(c);
    if (waiting > n)
        after(&c->read, c->peer.read_gap_ms);
    else if (c->fin_acked)
        on_eof(c);
}

/* What the proxy sent arrives and is acknowledged, as far as there is room. */
static void on_pump(struct connection *c)
{
    uint64_t waiting = c->sent_bytes - c->acked_bytes;
    uint64_t room = c->peer.window_bytes - (c->acked_bytes - c->consumed_bytes);
    uint64_t n = waiting < room ? waiting : room;
    if (c->vanished)
        return;
    if (c->closed && waiting > 0) {
        reset_by_peer(c);
        return;
    }
    if (n > 1 && one_in(4))
        n = 1 + random_below(n);
    c->acked_bytes += n;
    if (n > 0) {
        c->last_ack_ms = network.now_ms;
        saw_progress(c, n);
        after(&c->read, c->peer.read_gap_ms);
    }
    if (c->starved && space(c) >= c->send_buffer / 3) {
        c->starved = false;
        edge(c);
    }
    if (n < waiting && n < room)
        after(&c->pump, c->peer.delay_ms);
    if (n == waiting && c->fin_sent && !c->fin_acked) {
        c->fin_acked = true;
        c->last_ack_ms = network.now_ms;
        after(&c->read, c->peer.read_gap_ms);
    }
}

/* What the peer sent arrives, as far as there is room. */
static void on_arrive(struct connection *c)
{
    uint64_t waiting = c->written_bytes - c->arrived_bytes;
    uint64_t room = c->receive_buffer - (c->arrived_bytes - c->read_bytes);
    uint64_t n = waiting < room ? waiting : room;
    if (c->vanished)
        return;
    if (n > 1 && one_in(4))
        n = 1 + random_below(n);
    c->arrived_bytes += n;
    c->heard_ms = network.now_ms;
    if (n < waiting && n < room)
        after(&c->arrive, c->peer.delay_ms);
    if (n == waiting && c->fin_written)
        c->fin_arrived = true;
    if (n > 0 || c->fin_arrived)
        edge(c);
}

static void on_probe(struct connection *c)
{
    if (!c->vanished)
        c->heard_ms = network.now_ms;
}

/* The proxy's kernel has had no answer for long enough. */
static void on_given_up(struct connection *c)
{
    if (c->sent_bytes > c->acked_bytes || (c->fin_sent && !c->fin_acked))
        die(c, -ETIMEDOUT);
}

void network_reset(struct connection *c)
{
    if (!c->dead)
        reset_by_peer(c);
}

void network_vanish(struct connection *c)
{
    c->vanished = true;
    stop(c);
    c->fault.fire = on_given_up;
    after(&c->fault, 10000 + random_below(900000));
}

static void on_fault(struct connection *c)
{
    if (c->peer.reset_at_ms <= network.now_ms)
        reset_by_peer(c);
    else
        network_vanish(c);
}

void network_write(struct connection *c, uint64_t delay_ms)
{
    after(&c->write, delay_ms);
}

void network_ring(struct connection *c, uint64_t delay_ms)
{
    after(&c->ring, delay_ms);
}

static void on_ring(struct connection *c)
{
    c->application->rings(c);
}

/* What MSG_MORE holds back leaves by a timer, that of a lost segment (tcp(7), TCP_CORK). A write that did not
 * fit is pushed all the same (net/ipv4/tcp.c, tcp_sendmsg_locked). */
static void on_cork(struct connection *c)
{
    if (c->corked)
        broken(c->session, "no byte waits for a FIN that does not come");
}

static void on_connected(struct connection *c)
{
    c->connected = true;
    start_writing(c);
    edge(c);
}

static void on_refused(struct connection *c)
{
    die(c, -ECONNREFUSED);
}

static int add_connection(size_t session, enum leg leg, const struct behaviour *peer,
                          const struct application *application)
{
    if (network.connection_count == network.connection_capacity) {
        network.connection_capacity = network.connection_capacity ? 2 * network.connection_capacity : 256;
        network.connections =
            network_memory(network.connections, network.connection_capacity * sizeof(void *));
    }
    struct connection *c = network_memory(NULL, sizeof *c);
    *c = (struct connection){
        .session = session, .leg = leg, .open = true, .peer = *peer, .application = application};
    c->send_buffer = 4096u << random_below(7);
    c->receive_buffer = 4096u << random_below(7);
    if (peer->buffer_bytes > 0)
        c->receive_buffer = peer->buffer_bytes;
    c->decide = (struct event){.connection = c};
    c->pump = (struct event){.connection = c, .fire = on_pump};
    c->arrive = (struct event){.connection = c, .fire = on_arrive};
    c->write = (struct event){.connection = c, .fire = on_write};
    c->read = (struct event){.connection = c, .fire = on_read};
    c->fault = (struct event){.connection = c, .fire = on_fault};
    c->probe = (struct event){.connection = c, .fire = on_probe};
    c->ring = (struct event){.connection = c, .fire = on_ring};
    c->cork = (struct event){.connection = c, .fire = on_cork};
    network.connections[network.connection_count] = c;
    return FIRST_FD + (int)network.connection_count++;
}

static void plan_fault(struct connection *c)
{
    uint64_t at_ms = c->peer.reset_at_ms < c->peer.vanish_at_ms ? c->peer.reset_at_ms : c->peer.vanish_at_ms;
    if (at_ms == NEVER)
        return;
    c->peer.reset_at_ms = c->peer.reset_at_ms == at_ms ? network.now_ms + at_ms : NEVER;
    after(&c->fault, at_ms);
}

int network_accept(size_t session, const struct behaviour *peer, const struct application *application)
{
    int fd = add_connection(session, LEG_CLIENT, peer, application);
    struct connection *c = network_connection(fd);
    c->connected = true;
    start_writing(c);
    plan_fault(c);
    return fd;
}

static bool no_descriptors(void)
{
    return network.now_ms >= network.no_descriptors_from_ms && network.now_ms < network.no_descriptors_to_ms;
}

int network_connect(size_t session, const struct behaviour *peer, const struct application *application,
                    enum outcome outcome)
{
    static const int failures[] = {-EADDRNOTAVAIL, -ECONNREFUSED, -ENETUNREACH, -ENOMEM};
    if (no_descriptors())
        return -EMFILE;
    if (outcome == OUTCOME_FAILS)
        return failures[random_below(sizeof failures / sizeof failures[0])];
    int fd = add_connection(session, LEG_BACKEND, peer, application);
    struct connection *c = network_connection(fd);
    c->decide.fire = outcome == OUTCOME_CONNECTED ? on_connected : on_refused;
    if (outcome != OUTCOME_SILENT)
        after(&c->decide, peer->delay_ms);
    if (outcome == OUTCOME_CONNECTED)
        plan_fault(c);
    return fd;
}

struct connection *network_connection(int fd)
{
    size_t index = (size_t)(fd - FIRST_FD);
    if (fd < FIRST_FD || index >= network.connection_count || !network.connections[index]->open)
        broken(0, "a system call on a descriptor that is not open");
    return network.connections[index];
}

/* ---- the whole ---- */

void network_begin(uint64_t seed, uint64_t now_ms)
{
    memset(&network, 0, sizeof network);
    network.random = seed * UINT64_C(0x9e3779b97f4a7c15) + 0x2545f4914f6cdd1d;
    network.now_ms = now_ms;
    network.last_edge = &network.edges;
    network.no_descriptors_from_ms = NEVER;
    static const uint32_t jiffies_ms[] = {1, 4, 10}; /* HZ 1000, 250, 100 */
    network.jiffy_ms = jiffies_ms[seed % 3];
    network.delays = seed;
    wheel_init(&network.wheel, now_ms);
    for (int i = 0; i < 8; i++)
        (void)random_next();
}

void network_end(void)
{
    for (size_t i = 0; i < network.connection_count; i++) {
        if (network.connections[i]->open)
            broken(network.connections[i]->session, "no descriptor outlives its session");
        if (network.connections[i]->application->forget)
            network.connections[i]->application->forget(network.connections[i]);
        __real_free(network.connections[i]);
    }
    __real_free(network.connections);
    network.connections = NULL;
    network.allocations_per_failure = 0;
    if (network.pipes > 0)
        broken(0, "no pipe outlives the worker");
    if (network.allocations != 0)
        broken(0, "no memory outlives the worker");
}

uint64_t network_clock_ms(void)
{
    return network.now_ms + network.lag_ms;
}

/* What takes its time, now and then; the other chances of a seed stay as they are. */
static void take_time(const uint32_t most_ms[8])
{
    network.delays = network.delays * UINT64_C(6364136223846793005) + 1442695040888963407; /* Knuth, MMIX */
    uint32_t most = most_ms[network.delays >> 61];
    network.lag_ms += (network.delays >> 32 & 0xffff) % (most + 1);
}

void network_take_time(void)
{
    static const uint32_t most_ms[8] = {0, 0, 0, 0, 1, 1, 2, 3};
    take_time(most_ms);
}

/* A system call. */
static void call_takes_time(void)
{
    static const uint32_t most_ms[8] = {0, 0, 0, 0, 1, 1, 3, 40};
    take_time(most_ms);
}

uint64_t network_next_ms(void)
{
    return network.edges ? network.now_ms : wheel_next_ms(&network.wheel);
}

void network_run(uint64_t now_ms)
{
    struct wheel_entry *entry;
    network.lag_ms = 0;
    while (wheel_next_ms(&network.wheel) <= now_ms) {
        uint64_t next_ms = wheel_next_ms(&network.wheel);
        network.now_ms = next_ms > network.now_ms ? next_ms : network.now_ms;
        while ((entry = wheel_pop(&network.wheel, network.now_ms))) {
            struct event *event = (struct event *)entry;
            event->fire(event->connection);
        }
    }
    network.now_ms = now_ms > network.now_ms ? now_ms : network.now_ms;
}

/* ---- system calls ---- */

static ssize_t fails(int error)
{
    errno = error;
    return -1;
}

/* What a read gets: bytes before anything else, then the error once, then EOF. */
static ssize_t readable(struct connection *c, size_t size, bool peek)
{
    uint64_t waiting = c->arrived_bytes - c->read_bytes;
    if (one_in(512))
        return fails(EINTR);
    if (waiting > 0)
        return (ssize_t)(waiting < size ? waiting : size);
    if (c->error) {
        int error = -c->error;
        c->error = 0;
        return fails(error);
    }
    if (c->dead)
        return 0;
    c->fin_read = c->fin_read || (c->fin_arrived && !peek);
    return c->fin_arrived ? 0 : fails(EAGAIN);
}

/* A pass ends: no session reads on once it has read its share, whatever comes. A half with some of its share
 * left may read, so what one read brings beyond the share is not counted: less than two shares of a half in a
 * run, and an alarm and work that was put off may come together, as two. What is written was read. */
static void note_read(struct connection *c, size_t bytes)
{
    uint64_t share = NETWORK_BUDGET_BYTES / HALF_COUNT;
    if (c->run != network.runs)
        c->run_read_bytes = 0;
    c->run = network.runs;
    c->run_read_bytes += bytes < share ? bytes : share;
    if (c->run_read_bytes >= 2 * NETWORK_BUDGET_BYTES)
        broken(c->session, "a session moves no more than its share in a turn");
}

static void was_read(struct connection *c, size_t bytes)
{
    note_read(c, bytes);
    c->read_bytes += bytes;
    if (c->written_bytes > c->arrived_bytes && !c->dead && !c->vanished)
        after(&c->arrive, c->peer.delay_ms);
}

ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags)
{
    struct connection *c = network_connection(fd);
    ssize_t n = readable(c, size < NETWORK_PIECE ? size : NETWORK_PIECE, flags & MSG_PEEK);
    if (n <= 0)
        return n;
    memcpy(buffer, c->application->wrote(c, c->read_bytes), (size_t)n);
    if (!(flags & MSG_PEEK))
        was_read(c, (size_t)n);
    return n;
}

static ssize_t writable(struct connection *c, size_t size)
{
    uint64_t room = space(c);
    if (c->error) {
        int error = -c->error;
        c->error = 0;
        return fails(error);
    }
    if (c->dead)
        return fails(EPIPE);
    if (c->fin_sent)
        broken(c->session, "nothing is written behind a FIN");
    if (one_in(512))
        return fails(EINTR);
    if (room < size)
        c->starved = true;
    return room > 0 ? (ssize_t)(room < size ? room : size) : fails(EAGAIN);
}

/* The peer is shown the bytes; then they count as sent. */
static void was_written(struct connection *c, const void *bytes, size_t size, int flags)
{
    c->application->takes(c, bytes, size);
    c->corked = flags & MSG_MORE;
    wheel_remove(&network.wheel, &c->cork.entry);
    if (c->corked)
        after(&c->cork, CORK_MS);
    c->sent_bytes += size;
    c->last_take_ms = network.now_ms;
    if (!c->vanished)
        after(&c->pump, c->peer.delay_ms);
}

/* How much of so many bytes it takes now, or -1. */
static ssize_t takes_of(struct connection *c, size_t size, int flags)
{
    if (!(flags & MSG_NOSIGNAL))
        broken(c->session, "every write is without SIGPIPE");
    return writable(c, size);
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    struct connection *c = network_connection(fd);
    size_t size = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++)
        size += message->msg_iov[i].iov_len;
    ssize_t n = takes_of(c, size, flags);
    size_t left = n > 0 ? (size_t)n : 0;
    for (size_t i = 0; left > 0; i++) {
        const struct iovec *part = &message->msg_iov[i];
        size_t taken = part->iov_len < left ? part->iov_len : left;
        if (taken > 0)
            was_written(c, part->iov_base, taken, flags);
        left -= taken;
    }
    return n;
}

ssize_t __wrap_send(int fd, const void *buffer, size_t size, int flags)
{
    struct connection *c = network_connection(fd);
    ssize_t n = takes_of(c, size, flags);
    if (n > 0)
        was_written(c, buffer, (size_t)n, (size_t)n == size ? flags : 0);
    return n;
}

static ssize_t splice_in(struct connection *c, int pipe_fd, size_t size)
{
    size_t index = (size_t)(pipe_fd - FIRST_PIPE_FD) / 2;
    ssize_t n = readable(c, size, false);
    if (n <= 0)
        return n;
    if (one_in(4))
        n = 1 + (ssize_t)random_below((uint64_t)n);
    pipes[index].from = c;
    pipes[index].offset = c->read_bytes;
    pipes[index].bytes = (uint64_t)n;
    was_read(c, (size_t)n);
    return n;
}

static ssize_t splice_out(struct connection *c, int pipe_fd, size_t size)
{
    size_t index = (size_t)(pipe_fd - FIRST_PIPE_FD) / 2;
    ssize_t n = writable(c, size);
    if (n <= 0)
        return n;
    if ((uint64_t)n > pipes[index].bytes)
        n = (ssize_t)pipes[index].bytes;
    const struct connection *from = pipes[index].from;
    for (size_t left = (size_t)n; left > 0;) {
        size_t piece = left < NETWORK_PIECE ? left : NETWORK_PIECE;
        was_written(c, from->application->wrote(from, pipes[index].offset), piece, 0);
        pipes[index].offset += piece;
        pipes[index].bytes -= piece;
        left -= piece;
    }
    return n;
}

ssize_t __wrap_splice(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t size, unsigned flags)
{
    (void)in_offset;
    (void)out_offset;
    (void)flags;
    return in >= FIRST_PIPE_FD ? splice_out(network_connection(out), in, size)
                               : splice_in(network_connection(in), out, size);
}

int __wrap_pipe2(int fds[2], int flags)
{
    (void)flags;
    if (no_descriptors())
        return (int)fails(EMFILE);
    for (int i = 0; i < PIPES; i++) {
        if (pipes[i].used)
            continue;
        pipes[i].used = true;
        pipes[i].bytes = 0;
        fds[0] = FIRST_PIPE_FD + 2 * i;
        fds[1] = fds[0] + 1;
        network.pipes++;
        return 0;
    }
    return (int)fails(ENFILE);
}

/* Between batches and behind the last one there is no network: what is called then is libgcov's, which writes
 * down what ran. */
static bool is_over(void)
{
    return !network.connections;
}

int __wrap_fcntl(int fd, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (is_over())
        return __real_fcntl(fd, command, argument);
    return command == F_SETPIPE_SZ && one_in(8) ? (int)fails(EPERM) : (1 << 16) << random_below(3);
}

int __wrap_close(int fd)
{
    if (is_over())
        return __real_close(fd);
    if (fd >= FIRST_PIPE_FD) {
        if ((fd - FIRST_PIPE_FD) % 2 == 0) {
            pipes[(fd - FIRST_PIPE_FD) / 2].used = false;
            network.pipes--;
        }
        return 0;
    }
    struct connection *c = network_connection(fd);
    if (c->source)
        broken(c->session, "no socket is closed that the poller watches");
    if (c->leg == LEG_BACKEND && c->connected && !c->dead && !c->fin_read)
        broken(c->session, "no server is left in CLOSE_WAIT");
    if (c->arrived_bytes > c->read_bytes && !c->dead) { /* net/ipv4/tcp.c, __tcp_close() */
        c->reset = true;
        saw_reset(c);
    } else if (!c->fin_sent && !c->dead && c->connected) {
        socket_fin(fd);
    }
    c->open = false;
    stop(c);
    return 0;
}

void *__wrap_malloc(size_t size)
{
    if (network.allocations_per_failure && one_in(network.allocations_per_failure))
        return NULL;
    network.allocations++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    if (network.allocations_per_failure && one_in(network.allocations_per_failure))
        return NULL;
    network.allocations++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    if (network.allocations_per_failure && one_in(network.allocations_per_failure))
        return NULL;
    network.allocations += memory == NULL;
    return __real_realloc(memory, size);
}

void __wrap_free(void *memory)
{
    if (memory)
        network.allocations--;
    __real_free(memory);
}

/* ---- what proxy/socket/socket.c and poller.c do ---- */

int socket_error(int fd)
{
    struct connection *c = network_connection(fd);
    int error = c->error;
    c->error = 0;
    return error;
}

void socket_fin(int fd)
{
    struct connection *c = network_connection(fd);
    if (c->fin_sent)
        broken(c->session, "a FIN is sent once");
    saw_fin(c);
    if (c->dead)
        return;
    c->fin_sent = true;
    c->corked = false;
    c->fin_sent_ms = network.now_ms;
    if (!c->vanished)
        after(&c->pump, c->peer.delay_ms);
    edge(c);
}

void socket_abort(int fd)
{
    struct connection *c = network_connection(fd);
    if (c->source)
        broken(c->session, "no socket is closed that the poller watches");
    c->reset = !c->dead;
    if (c->reset)
        saw_reset(c);
    c->open = false;
    stop(c);
}

uint64_t socket_unacked(int fd)
{
    const struct connection *c = network_connection(fd);
    if (c->dead)
        return 0;
    return c->sent_bytes - c->acked_bytes + (c->fin_sent && !c->fin_acked ? 1 : 0);
}

/* tcpi_last_ack_recv: any segment of the peer's counts, also one that acknowledges nothing new, as the
 * answers to window probes do. */
uint64_t socket_last_ack_ms(int fd)
{
    const struct connection *c = network_connection(fd);
    uint64_t heard_ms = c->heard_ms > c->last_ack_ms ? c->heard_ms : c->last_ack_ms;
    bool window_probes = c->sent_bytes > c->acked_bytes && !c->vanished && !c->dead;
    call_takes_time();
    uint64_t jiffies = network_clock_ms() / network.jiffy_ms - heard_ms / network.jiffy_ms;
    return window_probes ? 0 : jiffies * network.jiffy_ms;
}

void socket_probe(int fd)
{
    struct connection *c = network_connection(fd);
    after(&c->probe, 2 * (uint64_t)c->peer.delay_ms);
}

void socket_probe_end(int fd, const struct conf_tcp *tcp)
{
    (void)tcp;
    wheel_remove(&network.wheel, &network_connection(fd)->probe.entry);
}

int poller_init(struct poller *poller, uv_loop_t *loop, void (*waiting)(void *context), void *context)
{
    (void)loop;
    *poller = (struct poller){.waiting = waiting, .context = context};
    return 0;
}

void poller_close(struct poller *poller)
{
    (void)poller;
}

bool poller_deliver(struct poller *poller)
{
    (void)poller;
    (void)network_deliver();
    return false;
}

void poller_catch_up(struct poller *poller)
{
    (void)poller_deliver(poller);
}

void poller_remove(struct poller *poller, int fd)
{
    (void)poller;
    network_connection(fd)->source = NULL;
}

int poller_move(struct poller *poller, int fd, uint32_t events, struct poller_source *source)
{
    return poller_add(poller, fd, events, source);
}

int poller_add(struct poller *poller, int fd, uint32_t events, struct poller_source *source)
{
    struct connection *c = network_connection(fd);
    (void)poller;
    (void)events;
    if (network.allocations_per_failure && one_in(network.allocations_per_failure))
        return -ENOMEM;
    c->source = source;
    if (readiness(c))
        edge(c);
    return 0;
}
