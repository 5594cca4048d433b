#include "tests/unit/cmocka.h"

#include "proxy/socket/relay.h"
#include "tests/unit/sockets.h"

#include <linux/sockios.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

/* One half: writer --> [source ... relay ... sink] --> reader. */
struct half_line {
    struct relay relay;
    struct relay_tools tools;
    struct relay_leg source, sink;
    int writer, reader;
    uint64_t moved;
};

enum { PLENTY = 1 << 30 };

static void line_open(struct half_line *line, int buffer)
{
    int in[2], out[2];
    tcp_pair(in, buffer);
    tcp_pair(out, buffer);
    *line = (struct half_line){.relay = {.limit_bytes = RELAY_UNLIMITED},
                               .source = {.fd = in[1], .readable = true},
                               .sink = {.fd = out[1], .writable = true},
                               .writer = in[0],
                               .reader = out[0]};
    line->tools.scratch = malloc(RELAY_SCRATCH);
    assert_non_null(line->tools.scratch);
}

static void line_close(struct half_line *line)
{
    int fds[] = {line->writer, line->reader, line->source.fd, line->sink.fd};
    relay_free(&line->relay, &line->tools);
    pipe_pool_free(&line->tools.pipes);
    free(line->tools.scratch);
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static enum relay_event work_within(struct half_line *line, uint64_t budget)
{
    return relay_work(&line->relay, &line->tools, &line->source, &line->sink, true, false, &budget,
                      &line->moved);
}

static enum relay_event work(struct half_line *line)
{
    return work_within(line, PLENTY);
}

static enum relay_event discard(struct half_line *line, uint64_t *budget)
{
    return relay_work(&line->relay, &line->tools, &line->source, &line->sink, true, true, budget,
                      &line->moved);
}

static void write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        wait_for(fd, POLLOUT);
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
        assert_true(n > 0);
        bytes += n;
        size -= (size_t)n;
    }
}

/* A byte of the stream at this place. */
static char pattern(size_t at)
{
    return (char)((at * 2654435761u) >> 13);
}

static char *pattern_of(size_t size)
{
    char *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = pattern(i);
    return bytes;
}

static void receive_pattern(int fd, size_t from, size_t size)
{
    char *bytes = malloc(size);
    assert_non_null(bytes);
    receive_exactly(fd, bytes, size);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(bytes[i], pattern(from + i));
    free(bytes);
}

static void what_the_source_sends_reaches_the_sink(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 0);
    send_text(line.writer, "hello", 0);
    wait_queued(line.source.fd, 5);
    assert_int_equal(work(&line), RELAY_BLOCKED);
    assert_int_equal(line.moved, 5);
    assert_false(line.source.readable);
    assert_false(relay_holds(&line.relay));
    receive_text(line.reader, "hello");
    line_close(&line);
}

static void nothing_is_read_while_the_sink_takes_nothing(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 0);
    line.sink.writable = false;
    send_text(line.writer, "hello", 0);
    wait_queued(line.source.fd, 5);
    assert_int_equal(work(&line), RELAY_BLOCKED);
    assert_int_equal(line.moved, 0);
    assert_int_equal(bytes_queued(line.source.fd), 5);
    line_close(&line);
}

static void an_empty_source_blocks(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 0);
    assert_int_equal(work(&line), RELAY_BLOCKED);
    assert_false(line.source.readable);
    line_close(&line);
}

static void a_fin_comes_behind_every_byte(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 0);
    send_text(line.writer, "last words", 0);
    shutdown(line.writer, SHUT_WR);
    wait_for(line.source.fd, POLLRDHUP);
    line.source.read_until_eagain = true;
    assert_int_equal(work(&line), RELAY_FIN);
    assert_int_equal(line.moved, 10);
    assert_false(line.source.broken);
    receive_text(line.reader, "last words");
    line_close(&line);
}

/* Sends pattern bytes until the sink is full, working as it goes; ends with RELAY_HELD. */
static size_t fill_until_held(struct half_line *line)
{
    char bytes[1000];
    size_t sent = 0;
    enum relay_event event = RELAY_BLOCKED;
    while (event != RELAY_HELD) {
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = pattern(sent + i);
        write_all(line->writer, bytes, sizeof bytes);
        sent += sizeof bytes;
        assert_true(sent < 100 << 20);
        wait_queued(line->source.fd, 1);
        line->source.readable = true;
        event = work(line);
        assert_true(event == RELAY_BLOCKED || event == RELAY_HELD);
    }
    return sent;
}

static int bytes_unsent(int fd)
{
    int count = 0;
    assert_int_equal(ioctl(fd, SIOCOUTQNSD, &count), 0);
    return count;
}

static void the_last_bytes_wait_for_the_fin_and_leave_with_it(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 0);
    send_text(line.writer, "the end", 0);
    shutdown(line.writer, SHUT_WR);
    wait_for(line.source.fd, POLLRDHUP);
    line.source.fin = line.source.read_until_eagain = line.relay.is_stream = true;
    assert_int_equal(work(&line), RELAY_FIN);
    assert_int_equal(line.moved, 7);
    assert_int_equal(bytes_unsent(line.sink.fd), 7);
    shutdown(line.sink.fd, SHUT_WR);
    receive_text(line.reader, "the end");
    line_close(&line);
}

static void nothing_waits_for_a_fin_that_is_not_passed_on(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 0);
    send_text(line.writer, "a body", 0);
    shutdown(line.writer, SHUT_WR);
    wait_for(line.source.fd, POLLRDHUP);
    line.source.fin = line.source.read_until_eagain = true;
    assert_int_equal(work(&line), RELAY_FIN);
    assert_int_equal(line.moved, 6);
    assert_int_equal(bytes_unsent(line.sink.fd), 0);
    line_close(&line);
}

static void nothing_waits_for_the_fin_that_a_reset_announces(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 0);
    send_text(line.writer, "cut", 0);
    wait_queued(line.source.fd, 3);
    reset_close(line.writer);
    line.writer = -1;
    wait_for(line.source.fd, POLLRDHUP);
    line.source.fin = line.source.read_until_eagain = line.source.broken = line.relay.is_stream = true;
    line.source.error = -ECONNRESET;
    assert_int_equal(work(&line), RELAY_SOURCE_GONE);
    assert_int_equal(line.moved, 3);
    assert_int_equal(bytes_unsent(line.sink.fd), 0);
    line_close(&line);
}

static void what_the_sink_does_not_take_is_held_and_goes_first(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 4096);
    size_t sent = fill_until_held(&line);
    assert_true(relay_holds(&line.relay));
    assert_false(line.sink.writable);
    assert_true(line.moved < sent);

    /* More comes, and is left alone. */
    line.source.readable = true;
    assert_int_equal(work(&line), RELAY_BLOCKED);

    size_t received = 0;
    while (relay_holds(&line.relay)) {
        size_t had = line.moved;
        receive_pattern(line.reader, received, had - received);
        received = had;
        wait_for(line.sink.fd, POLLOUT);
        line.sink.writable = true;
        enum relay_event event = work(&line);
        assert_true(event == RELAY_DRAINED || event == RELAY_BLOCKED);
        assert_true(line.moved > had);
    }
    receive_pattern(line.reader, received, line.moved - received);
    line_close(&line);
}

static void only_held_bytes_move_once_the_source_has_ended(void **state)
{
    struct half_line line;
    uint64_t budget = PLENTY;
    (void)state;
    line_open(&line, 0);
    send_text(line.writer, "late", 0);
    wait_queued(line.source.fd, 4);
    assert_int_equal(
        relay_work(&line.relay, &line.tools, &line.source, &line.sink, false, false, &budget, &line.moved),
        RELAY_BLOCKED);
    assert_int_equal(bytes_queued(line.source.fd), 4);
    line_close(&line);
}

static void the_budget_ends_a_turn(void **state)
{
    struct half_line line;
    char *bytes = pattern_of(3 * RELAY_SCRATCH);
    (void)state;
    line_open(&line, 1 << 20);
    write_all(line.writer, bytes, 3 * RELAY_SCRATCH);
    wait_queued(line.source.fd, 3 * RELAY_SCRATCH);
    assert_int_equal(work_within(&line, 1), RELAY_MORE);
    assert_int_equal(line.moved, RELAY_SCRATCH);
    assert_int_equal(work_within(&line, 1), RELAY_MORE);
    assert_int_equal(line.moved, RELAY_SCRATCH);
    assert_int_equal(work_within(&line, PLENTY), RELAY_BLOCKED);
    receive_pattern(line.reader, 0, 3 * RELAY_SCRATCH);
    free(bytes);
    line_close(&line);
}

static void a_reset_comes_behind_every_byte_and_says_so(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 0);
    send_text(line.writer, "before", 0);
    wait_queued(line.source.fd, 6);
    reset_close(line.writer);
    line.writer = -1;
    wait_for(line.source.fd, POLLRDHUP);
    line.source.read_until_eagain = true;
    assert_int_equal(work(&line), RELAY_SOURCE_GONE);
    assert_int_equal(line.moved, 6);
    assert_true(line.source.broken);
    assert_int_equal(line.source.error, -ECONNRESET);
    receive_text(line.reader, "before");
    line_close(&line);
}

/* Who takes SO_ERROR off the socket turns the next read into an EOF. */
static void an_error_that_was_taken_already_is_no_fin(void **state)
{
    struct half_line line;
    int error = 0;
    socklen_t length = sizeof error;
    (void)state;
    line_open(&line, 0);
    send_text(line.writer, "before", 0);
    wait_queued(line.source.fd, 6);
    reset_close(line.writer);
    line.writer = -1;
    wait_for(line.source.fd, POLLRDHUP);
    assert_int_equal(getsockopt(line.source.fd, SOL_SOCKET, SO_ERROR, &error, &length), 0);
    assert_int_equal(error, ECONNRESET);
    line.source.read_until_eagain = line.source.broken = true;
    line.source.error = -error;
    assert_int_equal(work(&line), RELAY_SOURCE_GONE);
    assert_int_equal(line.source.error, -ECONNRESET);
    assert_int_equal(line.moved, 6);
    line_close(&line);
}

static void a_sink_that_was_reset_is_reported_once(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 0);
    reset_close(line.reader);
    line.reader = -1;
    wait_for(line.sink.fd, POLLRDHUP);
    send_text(line.writer, "nobody hears this", 0);
    wait_queued(line.source.fd, 17);
    assert_int_equal(work(&line), RELAY_SINK_GONE);
    assert_true(line.sink.broken);
    assert_int_equal(line.sink.error, -ECONNRESET);
    assert_true(line.sink.readable); /* its own last bytes, and its end, are to be looked for */
    line.source.readable = true;
    assert_int_equal(work(&line), RELAY_BLOCKED);
    line_close(&line);
}

static void a_sink_that_is_reset_while_bytes_are_held_is_reported(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 4096);
    fill_until_held(&line);
    reset_close(line.reader);
    line.reader = -1;
    wait_for(line.sink.fd, POLLRDHUP);
    line.sink.writable = true;
    assert_int_equal(work(&line), RELAY_SINK_GONE);
    assert_int_equal(work(&line), RELAY_BLOCKED);
    assert_true(relay_holds(&line.relay));
    line_close(&line);
}

static void a_cut_half_throws_away_what_comes(void **state)
{
    struct half_line line;
    uint64_t budget = 8;
    (void)state;
    line_open(&line, 0);
    send_text(line.writer, "12345", 0);
    wait_queued(line.source.fd, 5);
    assert_int_equal(discard(&line, &budget), RELAY_DISCARDED);
    assert_int_equal(budget, 3);
    assert_int_equal(discard(&line, &budget), RELAY_BLOCKED);
    send_text(line.writer, "12345", 0);
    wait_queued(line.source.fd, 5);
    line.source.readable = true;
    assert_int_equal(discard(&line, &budget), RELAY_DISCARDED);
    assert_int_equal(budget, 0);
    line.source.readable = true;
    assert_int_equal(discard(&line, &budget), RELAY_MORE);
    shutdown(line.writer, SHUT_WR);
    wait_for(line.source.fd, POLLRDHUP);
    budget = 1;
    assert_int_equal(discard(&line, &budget), RELAY_FIN);
    assert_int_equal(line.moved, 0);
    line_close(&line);
}

static void a_cut_half_sees_the_reset_of_its_source(void **state)
{
    struct half_line line;
    uint64_t budget = PLENTY;
    (void)state;
    line_open(&line, 0);
    reset_close(line.writer);
    line.writer = -1;
    wait_for(line.source.fd, POLLRDHUP);
    assert_int_equal(discard(&line, &budget), RELAY_SOURCE_GONE);
    line.source.fd = -1;
    assert_int_equal(discard(&line, &budget), RELAY_BLOCKED);
    line_close(&line);
}

/* ---- splice ---- */

/* Relays `size` pattern bytes from `from` on, waiting for all of them to lie in the source's queue first. */
static void relay_at_once(struct half_line *line, size_t from, size_t size)
{
    char *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = pattern(from + i);
    write_all(line->writer, bytes, size);
    free(bytes);
    wait_queued(line->source.fd, (int)size);
    line->source.readable = true;
}

enum { BULK = 6 * RELAY_SCRATCH };

static void bulk_is_spliced_and_an_idle_half_owns_no_pipe(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 4 << 20);
    relay_at_once(&line, 0, BULK);
    assert_int_equal(work(&line), RELAY_BLOCKED);
    assert_int_equal(line.moved, BULK);
    assert_int_equal(line.tools.pipes.count, 1); /* it was bulk */
    assert_non_null(line.tools.pipes.idle);      /* and is not any more */
    assert_null(line.relay.pipe);
    relay_at_once(&line, BULK, 100);
    assert_int_equal(work(&line), RELAY_BLOCKED);
    receive_pattern(line.reader, 0, BULK + 100);
    line_close(&line);
}

/* Fills the sink by splicing until the pipe keeps bytes. Returns how many were written to the source. */
static size_t fill_pipe(struct half_line *line)
{
    size_t sent = 0;
    enum relay_event event = RELAY_MORE;
    while (event != RELAY_HELD) {
        assert_true(sent < 64 << 20);
        relay_at_once(line, sent, BULK);
        sent += BULK;
        line->relay.weight = 8; /* bulk from its first byte */
        event = work(line);
    }
    assert_non_null(line->relay.pipe);
    return sent;
}

static size_t open_with_held_pipe(struct half_line *line)
{
    line_open(line, 1 << 20);
    return fill_pipe(line);
}

static void a_pipe_keeps_what_the_sink_does_not_take(void **state)
{
    struct half_line line;
    (void)state;
    size_t sent = open_with_held_pipe(&line), received = 0;
    enum relay_event event = RELAY_BLOCKED;
    assert_true(relay_holds(&line.relay));
    line.source.readable = true;
    assert_int_equal(work(&line), RELAY_BLOCKED);
    while (received < sent) {
        receive_pattern(line.reader, received, line.moved - received);
        received = line.moved;
        wait_for(line.sink.fd, POLLOUT);
        line.sink.writable = true;
        event = work(&line);
        assert_true(event == RELAY_BLOCKED || event == RELAY_DRAINED || event == RELAY_HELD);
        if (line.moved == received)
            break;
    }
    while (event != RELAY_BLOCKED)
        event = work(&line);
    receive_pattern(line.reader, received, sent - received);
    assert_null(line.relay.pipe);
    line_close(&line);
}

static void a_pipe_that_is_not_empty_is_not_lent_again(void **state)
{
    struct half_line line;
    (void)state;
    open_with_held_pipe(&line);
    assert_int_equal(line.tools.pipes.count, 1);
    relay_free(&line.relay, &line.tools);
    assert_int_equal(line.tools.pipes.count, 0);
    assert_false(relay_holds(&line.relay));
    line_close(&line);
}

static void a_sink_that_is_reset_behind_a_pipe_is_reported(void **state)
{
    struct half_line line;
    (void)state;
    (void)signal(SIGPIPE, SIG_IGN);
    open_with_held_pipe(&line);
    reset_close(line.reader);
    line.reader = -1;
    wait_for(line.sink.fd, POLLRDHUP);
    line.sink.writable = true;
    assert_int_equal(work(&line), RELAY_SINK_GONE);
    assert_true(line.sink.error == -ECONNRESET || line.sink.error == -EPIPE);
    line_close(&line);
}

static void a_spliced_half_ends_like_any_other(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 4 << 20);
    relay_at_once(&line, 0, BULK);
    shutdown(line.writer, SHUT_WR);
    wait_for(line.source.fd, POLLRDHUP);
    line.source.read_until_eagain = true;
    assert_int_equal(work(&line), RELAY_FIN);
    assert_int_equal(line.moved, BULK);
    assert_int_equal(line.tools.pipes.count, 1);
    assert_null(line.relay.pipe);
    line_close(&line);
}

static void a_spliced_half_keeps_why_its_source_broke(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 4 << 20);
    relay_at_once(&line, 0, BULK);
    reset_close(line.writer);
    line.writer = -1;
    wait_for(line.source.fd, POLLRDHUP);
    line.source.read_until_eagain = true;
    assert_int_equal(work(&line), RELAY_SOURCE_GONE);
    assert_int_equal(line.source.error, -ECONNRESET);
    assert_int_equal(line.moved, BULK);
    line_close(&line);
}

/* ---- reads that stop short ---- */

static void urgent_data_hides_nothing_behind_it(void **state)
{
    struct half_line line;
    int on = 1;
    (void)state;
    line_open(&line, 0);
    line.source.read_until_eagain = true; /* EPOLLPRI told the session */
    assert_int_equal(setsockopt(line.source.fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), 0);
    send_text(line.writer, "a", 0);
    send_text(line.writer, "b", MSG_OOB);
    send_text(line.writer, "c", 0);
    wait_queued(line.source.fd, 1);
    wait_for(line.source.fd, POLLPRI);
    while (line.moved < 3) {
        line.source.readable = true;
        assert_int_equal(work(&line), RELAY_BLOCKED);
    }
    receive_text(line.reader, "abc");
    line_close(&line);
}

/* splice(2) stops at the mark and says EAGAIN or, with a FIN behind it, 0. */
static void urgent_data_does_not_end_a_spliced_half(void **state)
{
    struct half_line line;
    char *bytes = pattern_of(2 * BULK);
    int on = 1;
    (void)state;
    line_open(&line, 4 << 20);
    assert_int_equal(setsockopt(line.source.fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), 0);
    write_all(line.writer, bytes, BULK);
    wait_for(line.writer, POLLOUT);
    assert_int_equal(send(line.writer, bytes + BULK, 1, MSG_OOB), 1);
    write_all(line.writer, bytes + BULK + 1, BULK - 1);
    shutdown(line.writer, SHUT_WR);
    wait_for(line.source.fd, POLLRDHUP);
    line.source.read_until_eagain = true;
    assert_int_equal(work(&line), RELAY_FIN);
    assert_int_equal(line.moved, 2 * BULK);
    receive_pattern(line.reader, 0, 2 * BULK);
    free(bytes);
    line_close(&line);
}

/* The bytes before the mark are spliced, the urgent one is not. */
static void an_urgent_byte_keeps_its_mark_beside_splice(void **state)
{
    struct half_line line;
    char *bytes = pattern_of(BULK + 1), urgent = 0;
    int on = 1;
    (void)state;
    line_open(&line, 4 << 20);
    line.relay.is_stream = line.source.read_until_eagain = true;
    assert_int_equal(setsockopt(line.source.fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), 0);
    write_all(line.writer, bytes, BULK);
    wait_for(line.writer, POLLOUT);
    assert_int_equal(send(line.writer, bytes + BULK, 1, MSG_OOB), 1);
    wait_for(line.source.fd, POLLPRI);
    line.source.urgent = true;
    while (line.moved < BULK + 1) {
        line.source.readable = true;
        assert_int_equal(work(&line), RELAY_BLOCKED);
    }
    assert_false(line.source.urgent);
    wait_for(line.reader, POLLPRI);
    assert_int_equal(recv(line.reader, &urgent, 1, MSG_OOB), 1);
    assert_int_equal(urgent, bytes[BULK]);
    receive_pattern(line.reader, 0, BULK);
    free(bytes);
    line_close(&line);
}

/* Asking for the mark costs a system call for each read, so nobody asks for one that has gone by. */
static void a_mark_that_has_gone_by_is_not_looked_for_any_more(void **state)
{
    struct half_line line;
    (void)state;
    line_open(&line, 0);
    line.relay.is_stream = line.source.read_until_eagain = line.source.urgent = true;
    send_text(line.writer, "hello", 0);
    wait_queued(line.source.fd, 5);
    assert_int_equal(work(&line), RELAY_BLOCKED);
    receive_text(line.reader, "hello");
    assert_false(line.source.urgent);
    line_close(&line);
}

/* Its mark comes later than it would, and with it. */
static void an_urgent_byte_that_is_held_keeps_its_mark(void **state)
{
    struct half_line line;
    char full[1 << 12] = {0}, urgent = 0;
    size_t size = 0;
    int on = 1;
    (void)state;
    line_open(&line, 4096);
    line.relay.is_stream = line.source.read_until_eagain = line.source.urgent = true;
    assert_int_equal(setsockopt(line.source.fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), 0);
    for (ssize_t n; (n = send(line.sink.fd, full, sizeof full, 0)) > 0;)
        size += (size_t)n;
    assert_int_equal(errno, EAGAIN);
    send_text(line.writer, "X", MSG_OOB);
    wait_for(line.source.fd, POLLPRI);
    assert_int_equal(work(&line), RELAY_HELD);
    assert_int_equal(line.moved, 0);
    while (size > 0) {
        wait_for(line.reader, POLLIN);
        ssize_t n = recv(line.reader, full, size < sizeof full ? size : sizeof full, 0);
        assert_true(n > 0);
        size -= (size_t)n;
    }
    wait_for(line.sink.fd, POLLOUT);
    line.sink.writable = true;
    assert_int_equal(work(&line), RELAY_DRAINED);
    wait_for(line.reader, POLLPRI);
    assert_int_equal(recv(line.reader, &urgent, 1, MSG_OOB), 1);
    assert_int_equal(urgent, 'X');
    send_text(line.writer, "b", 0); /* and what follows is not urgent */
    wait_queued(line.source.fd, 1);
    line.source.readable = true;
    assert_int_equal(work(&line), RELAY_BLOCKED);
    receive_text(line.reader, "b");
    line_close(&line);
}

static void what_is_adopted_is_not_urgent(void **state)
{
    struct half_line line;
    char *bytes = malloc(1);
    (void)state;
    assert_non_null(bytes);
    *bytes = 'a';
    line_open(&line, 0);
    line.relay.holds_urgent = true; /* of what was thrown away */
    relay_adopt(&line.relay, bytes, 0, 1);
    assert_int_equal(work(&line), RELAY_DRAINED);
    receive_text(line.reader, "a");
    line_close(&line);
}

static void send_descriptor(int fd, char *text)
{
    char control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {.iov_base = text, .iov_len = strlen(text)};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    assert_int_equal(sendmsg(fd, &message, 0), strlen(text));
}

static void descriptors_sent_along_hide_nothing_behind_them(void **state)
{
    struct half_line line;
    char text[] = "one ";
    int pair[2];
    (void)state;
    line_open(&line, 0);
    unix_pair(pair);
    close(line.writer);
    close(line.source.fd);
    line.writer = pair[0];
    line.source = (struct relay_leg){.fd = pair[1], .readable = true, .read_until_eagain = true};
    send_descriptor(line.writer, text);
    send_text(line.writer, "two", 0);
    assert_int_equal(work(&line), RELAY_BLOCKED);
    receive_text(line.reader, "one two");
    line_close(&line);
}

/* ---- random traffic, by the edges of a real epoll set ---- */

static uint64_t random_state;

static uint64_t random_below(uint64_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % bound;
}

/* Mostly small, sometimes large. */
static size_t random_size(void)
{
    return 1 + (size_t)random_below(UINT64_C(1) << (1 + random_below(19)));
}

struct traffic {
    struct half_line line;
    int epoll;
    size_t total, sent, received;
    char *bytes;
    bool fin;
};

static void watch(struct traffic *traffic, struct relay_leg *leg)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET,
                                .data.ptr = leg};
    leg->readable = leg->writable = false;
    assert_int_equal(epoll_ctl(traffic->epoll, EPOLL_CTL_ADD, leg->fd, &event), 0);
}

static void take_edges(struct traffic *traffic, int timeout_ms)
{
    struct epoll_event events[4];
    int count = epoll_wait(traffic->epoll, events, 4, timeout_ms);
    for (int i = 0; i < count; i++) {
        struct relay_leg *leg = events[i].data.ptr;
        leg->readable |= (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)) != 0;
        leg->writable |= (events[i].events & EPOLLOUT) != 0;
        leg->read_until_eagain |= (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI)) != 0;
    }
}

static void write_some(struct traffic *traffic)
{
    size_t size = random_size();
    if (size > traffic->total - traffic->sent)
        size = traffic->total - traffic->sent;
    if (size == 0)
        return;
    ssize_t n = send(traffic->line.writer, traffic->bytes + traffic->sent, size, MSG_NOSIGNAL);
    assert_true(n > 0 || errno == EAGAIN);
    traffic->sent += n > 0 ? (size_t)n : 0;
    if (traffic->sent == traffic->total)
        shutdown(traffic->line.writer, SHUT_WR);
}

static void read_some(struct traffic *traffic)
{
    static char got[1 << 20];
    ssize_t n = recv(traffic->line.reader, got, random_size() % sizeof got + 1, 0);
    assert_true(n > 0 || (n < 0 && errno == EAGAIN));
    if (n < 0)
        return;
    assert_memory_equal(got, traffic->bytes + traffic->received, (size_t)n);
    traffic->received += (size_t)n;
}

static void relay_some(struct traffic *traffic)
{
    enum relay_event event;
    do {
        event = work_within(&traffic->line, traffic->line.moved + 1 + random_below(1 << 20));
        assert_false(traffic->fin);
        traffic->fin = event == RELAY_FIN;
        assert_true(event <= RELAY_FIN);
    } while (event != RELAY_BLOCKED && event != RELAY_FIN);
}

static void run_traffic(size_t total, int buffer)
{
    struct traffic traffic = {
        .total = total, .bytes = pattern_of(total), .epoll = epoll_create1(EPOLL_CLOEXEC)};
    time_t until = time(NULL) + WAIT_MS / 1000;
    line_open(&traffic.line, buffer);
    watch(&traffic, &traffic.line.source);
    watch(&traffic, &traffic.line.sink);
    while (!traffic.fin || traffic.received < total) {
        assert_true(time(NULL) < until);
        if (random_below(3) > 0)
            write_some(&traffic);
        take_edges(&traffic, traffic.sent == total ? 1 : 0);
        if (!traffic.fin && random_below(4) > 0)
            relay_some(&traffic);
        if (random_below(2) > 0)
            read_some(&traffic);
    }
    assert_int_equal(traffic.line.moved, total);
    assert_false(relay_holds(&traffic.line.relay));
    assert_null(traffic.line.relay.pipe);
    close(traffic.epoll);
    free(traffic.bytes);
    line_close(&traffic.line);
}

static void random_traffic_arrives_whole_and_its_fin_last(void **state)
{
    const char *given = getenv("LASTACK_SEED");
    uint64_t seed =
        given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + (uint64_t)getpid();
    (void)state;
    random_state = seed ? seed : 1;
    print_message("LASTACK_SEED=%llu replays this\n", (unsigned long long)seed);
    for (int round = 0; round < 60; round++)
        run_traffic(1 + (size_t)random_below(UINT64_C(1) << (10 + random_below(12))),
                    random_below(2) ? 2048 << random_below(9) : 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_the_source_sends_reaches_the_sink),
        cmocka_unit_test(nothing_is_read_while_the_sink_takes_nothing),
        cmocka_unit_test(an_empty_source_blocks),
        cmocka_unit_test(a_fin_comes_behind_every_byte),
        cmocka_unit_test(the_last_bytes_wait_for_the_fin_and_leave_with_it),
        cmocka_unit_test(nothing_waits_for_a_fin_that_is_not_passed_on),
        cmocka_unit_test(nothing_waits_for_the_fin_that_a_reset_announces),
        cmocka_unit_test(what_the_sink_does_not_take_is_held_and_goes_first),
        cmocka_unit_test(only_held_bytes_move_once_the_source_has_ended),
        cmocka_unit_test(the_budget_ends_a_turn),
        cmocka_unit_test(a_reset_comes_behind_every_byte_and_says_so),
        cmocka_unit_test(an_error_that_was_taken_already_is_no_fin),
        cmocka_unit_test(a_sink_that_was_reset_is_reported_once),
        cmocka_unit_test(a_sink_that_is_reset_while_bytes_are_held_is_reported),
        cmocka_unit_test(a_cut_half_throws_away_what_comes),
        cmocka_unit_test(a_cut_half_sees_the_reset_of_its_source),
        cmocka_unit_test(bulk_is_spliced_and_an_idle_half_owns_no_pipe),
        cmocka_unit_test(a_pipe_keeps_what_the_sink_does_not_take),
        cmocka_unit_test(a_pipe_that_is_not_empty_is_not_lent_again),
        cmocka_unit_test(a_sink_that_is_reset_behind_a_pipe_is_reported),
        cmocka_unit_test(a_spliced_half_ends_like_any_other),
        cmocka_unit_test(a_spliced_half_keeps_why_its_source_broke),
        cmocka_unit_test(urgent_data_hides_nothing_behind_it),
        cmocka_unit_test(urgent_data_does_not_end_a_spliced_half),
        cmocka_unit_test(an_urgent_byte_keeps_its_mark_beside_splice),
        cmocka_unit_test(a_mark_that_has_gone_by_is_not_looked_for_any_more),
        cmocka_unit_test(an_urgent_byte_that_is_held_keeps_its_mark),
        cmocka_unit_test(what_is_adopted_is_not_urgent),
        cmocka_unit_test(descriptors_sent_along_hide_nothing_behind_them),
        cmocka_unit_test(random_traffic_arrives_whole_and_its_fin_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
