#include "tests/unit/cmocka.h"

#include "reaper/error.h"
#include "reaper/kernel/netlink.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* The test plays the kernel: what netlink.c sends is looked at and dropped, and what it receives was put
 * there before. So the answers are those that no kernel gives on demand. */

enum { REPLIES = 16, REPLY_BYTES = 1024 };

/* What one recv() gives: bytes, or an error. */
struct reply {
    int error;
    size_t length_bytes, stated_bytes; /* stated: what MSG_TRUNC says, if more than there are */
    uint8_t bytes[REPLY_BYTES];
};

static struct {
    struct reply reply[REPLIES];
    unsigned replies, received;
    int send_errors[4]; /* of the next sends; 0: fine */
    unsigned sent, sockets;
    uint32_t sequence; /* of the last request */
    uint16_t type;
    int fail_memory, fail_socket, fail_connect, fail_option; /* which call fails, counted from 1; 0: none */
} kernel;

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
int __real_socket(int family, int type, int protocol);
int __wrap_socket(int family, int type, int protocol);
int __real_connect(int fd, const struct sockaddr *address, socklen_t length);
int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length);
int __real_setsockopt(int fd, int level, int name, const void *value, socklen_t length);
int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t length);
ssize_t __wrap_send(int fd, const void *bytes, size_t size, int flags);
ssize_t __wrap_recv(int fd, void *bytes, size_t size, int flags);

static bool is_the_one(int *countdown)
{
    return *countdown > 0 && --*countdown == 0;
}

void *__wrap_malloc(size_t size)
{
    return is_the_one(&kernel.fail_memory) ? NULL : __real_malloc(size);
}

int __wrap_socket(int family, int type, int protocol)
{
    kernel.sockets++;
    if (!is_the_one(&kernel.fail_socket))
        return __real_socket(family, type, protocol);
    errno = EMFILE;
    return -1;
}

int __wrap_connect(int fd, const struct sockaddr *address, socklen_t length)
{
    if (!is_the_one(&kernel.fail_connect))
        return __real_connect(fd, address, length);
    errno = ECONNREFUSED;
    return -1;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t length)
{
    if (!is_the_one(&kernel.fail_option))
        return __real_setsockopt(fd, level, name, value, length);
    errno = ENOMEM;
    return -1;
}

ssize_t __wrap_send(int fd, const void *bytes, size_t size, int flags)
{
    struct nlmsghdr head;
    (void)fd;
    (void)flags;
    errno = kernel.send_errors[kernel.sent++ % 4];
    if (errno)
        return -1;
    memcpy(&head, bytes, sizeof head);
    assert_int_equal(head.nlmsg_len, size);
    kernel.sequence = head.nlmsg_seq;
    kernel.type = head.nlmsg_type;
    return (ssize_t)size;
}

/* ---- what it answers ---------------------------------------------------------------------------------- */

/* The sequence number that a reply has when it is written before the request: the request's, plus this. */
enum { OF_THIS = 0, OF_THE_LAST = -1 };

static struct reply *reply_add(void)
{
    assert_true(kernel.replies < REPLIES);
    return &kernel.reply[kernel.replies++];
}

static void reply_error(int error)
{
    reply_add()->error = error;
}

/* Appends a message; recv() adds the request's sequence number to `sequence`. */
static void message_add(struct reply *reply, unsigned type, unsigned flags, int sequence, const void *body,
                        size_t body_bytes)
{
    const struct nlmsghdr head = {.nlmsg_len = (uint32_t)(sizeof head + body_bytes),
                                  .nlmsg_type = (uint16_t)type,
                                  .nlmsg_flags = (uint16_t)flags,
                                  .nlmsg_seq = (uint32_t)sequence};
    assert_true(reply->length_bytes + NLMSG_ALIGN(head.nlmsg_len) <= REPLY_BYTES);
    memcpy(reply->bytes + reply->length_bytes, &head, sizeof head);
    if (body_bytes)
        memcpy(reply->bytes + reply->length_bytes + sizeof head, body, body_bytes);
    reply->length_bytes += NLMSG_ALIGN(head.nlmsg_len);
}

static const struct diag_id wanted = {.family = AF_INET,
                                      .local = {.host = {[10] = 0xff, 0xff, 127, 0, 0, 1}, .port = 80},
                                      .remote = {.host = {[10] = 0xff, 0xff, 127, 0, 0, 1}, .port = 4000},
                                      .cookie = 9};

static void row_add(struct reply *reply, unsigned flags, int sequence, unsigned state, uint32_t inode)
{
    const struct inet_diag_msg row = {
        .idiag_family = AF_INET,
        .idiag_state = (uint8_t)state,
        .idiag_inode = inode,
        .id = {.idiag_sport = htons(80),
               .idiag_dport = htons(4000),
               .idiag_src = {htonl(INADDR_LOOPBACK)},
               .idiag_dst = {htonl(INADDR_LOOPBACK)},
               .idiag_cookie = {9}},
    };
    message_add(reply, SOCK_DIAG_BY_FAMILY, NLM_F_MULTI | flags, sequence, &row, sizeof row);
}

static void done_add(struct reply *reply, unsigned flags, int error)
{
    message_add(reply, NLMSG_DONE, NLM_F_MULTI | flags, OF_THIS, &error, sizeof error);
}

static void error_add(struct reply *reply, int sequence, int error)
{
    const struct nlmsgerr body = {.error = error};
    message_add(reply, NLMSG_ERROR, 0, sequence, &body, sizeof body);
}

static void sequences_fill_in(uint8_t *bytes, size_t length_bytes)
{
    struct nlmsghdr head;
    for (size_t at = 0; at + sizeof head <= length_bytes; at += NLMSG_ALIGN(head.nlmsg_len)) {
        memcpy(&head, bytes + at, sizeof head);
        head.nlmsg_seq += kernel.sequence;
        memcpy(bytes + at, &head, sizeof head);
    }
}

ssize_t __wrap_recv(int fd, void *bytes, size_t size, int flags)
{
    (void)fd;
    assert_int_equal(flags, MSG_TRUNC);
    assert_true(kernel.received < kernel.replies); /* it asks for more than the kernel has to say */
    struct reply *reply = &kernel.reply[kernel.received++];
    assert_true(reply->length_bytes <= size);
    errno = reply->error;
    if (errno)
        return -1;
    sequences_fill_in(reply->bytes, reply->length_bytes);
    memcpy(bytes, reply->bytes, reply->length_bytes);
    return (ssize_t)(reply->stated_bytes ? reply->stated_bytes : reply->length_bytes);
}

static bool all_is_read(void)
{
    return kernel.received == kernel.replies;
}

/* ---- the client --------------------------------------------------------------------------------------- */

static struct netlink *netlink;

static int open_it(void **state)
{
    (void)state;
    memset(&kernel, 0, sizeof kernel);
    return netlink_open(&netlink);
}

static int close_it(void **state)
{
    (void)state;
    netlink_close(netlink);
    return 0;
}

struct seen {
    unsigned rows, restarts;
};

static int see(void *context, const struct diag_row *row)
{
    struct seen *seen = context;
    assert_int_equal(row->id.local.port, 80);
    seen->rows++;
    return 0;
}

static void see_again(void *context)
{
    struct seen *seen = context;
    seen->rows = 0;
    seen->restarts++;
}

static int dump(struct seen *seen)
{
    const struct diag_filter filter = {.states = DIAG_STATES_ALL};
    const struct netlink_sink sink = {.row = see, .restart = see_again, .context = seen};
    *seen = (struct seen){0};
    return netlink_dump(netlink, &filter, &sink);
}

static void a_dump_in_pieces_is_put_together(void **state)
{
    (void)state;
    struct seen seen;
    struct reply *reply = reply_add();
    row_add(reply, 0, OF_THIS, DIAG_CLOSE_WAIT, 1);
    row_add(reply, 0, OF_THE_LAST, DIAG_CLOSE_WAIT, 1); /* of a dump that was given up */
    row_add(reply, 0, OF_THIS, DIAG_CLOSE_WAIT, 1);
    row_add(reply_add(), 0, OF_THIS, DIAG_CLOSE_WAIT, 1);
    done_add(reply_add(), 0, 0);
    assert_int_equal(dump(&seen), 0);
    assert_int_equal(seen.rows, 3);
    assert_int_equal(seen.restarts, 0);
    assert_true(all_is_read());
}

static void an_inconsistent_dump_starts_again_and_what_it_showed_is_dropped(void **state)
{
    (void)state;
    struct seen seen;
    struct reply *reply = reply_add();
    row_add(reply, NLM_F_DUMP_INTR, OF_THIS, DIAG_CLOSE_WAIT, 1);
    done_add(reply, 0, 0);
    reply = reply_add();
    row_add(reply, 0, OF_THIS, DIAG_CLOSE_WAIT, 1);
    done_add(reply, 0, 0);
    assert_int_equal(dump(&seen), 0);
    assert_int_equal(seen.rows, 1);
    assert_int_equal(seen.restarts, 1);
}

static void a_dump_that_never_settles_is_given_up_after_five_attempts(void **state)
{
    (void)state;
    struct seen seen;
    for (int attempt = 0; attempt < 5; attempt++)
        done_add(reply_add(), NLM_F_DUMP_INTR, 0);
    assert_int_equal(dump(&seen), ERROR_INTERRUPTED_DUMP);
    assert_int_equal(seen.restarts, 4);
    assert_true(all_is_read());
}

static void a_sink_need_not_care_about_restarts(void **state)
{
    (void)state;
    struct seen seen = {0};
    const struct diag_filter filter = {.states = DIAG_STATES_ALL};
    const struct netlink_sink sink = {.row = see, .context = &seen};
    done_add(reply_add(), NLM_F_DUMP_INTR, 0);
    done_add(reply_add(), 0, 0);
    assert_int_equal(netlink_dump(netlink, &filter, &sink), 0);
    assert_true(all_is_read());
}

/* After each of these the next dump is whole, on a socket of its own. */
static void a_dump_that_fails_is_told_and_leaves_nothing_to_the_next(void **state)
{
    (void)state;
    static const struct {
        int received, expected;
    } errors[] = {{EAGAIN, -ETIMEDOUT}, {ENOBUFS, -ENOBUFS}, {ENOMEM, -ENOMEM}};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        struct seen seen;
        unsigned before = kernel.sockets;
        row_add(reply_add(), 0, OF_THIS, DIAG_CLOSE_WAIT, 1);
        reply_error(errors[i].received);
        assert_int_equal(dump(&seen), errors[i].expected);
        assert_int_equal(kernel.sockets, before + 1);
        done_add(reply_add(), 0, 0);
        assert_int_equal(dump(&seen), 0);
        assert_int_equal(kernel.sockets, before + 1);
    }
}

static void what_the_kernel_refuses_is_passed_on(void **state)
{
    (void)state;
    struct seen seen;
    error_add(reply_add(), OF_THIS, -ENOENT); /* no tcp_diag */
    assert_int_equal(dump(&seen), -ENOENT);
    done_add(reply_add(), 0, -EINVAL); /* it gave up half-way */
    assert_int_equal(dump(&seen), -EINVAL);
    message_add(reply_add(), NLMSG_OVERRUN, 0, OF_THIS, NULL, 0);
    assert_int_equal(dump(&seen), -ENOBUFS);
}

static void an_answer_cut_short_is_no_answer(void **state)
{
    (void)state;
    struct seen seen;
    struct reply *reply = reply_add();
    row_add(reply, 0, OF_THIS, DIAG_CLOSE_WAIT, 1);
    reply->length_bytes -= 8; /* the row ends before its stated length */
    assert_int_equal(dump(&seen), ERROR_TRUNCATED);
    reply = reply_add();
    done_add(reply, 0, 0);
    reply->stated_bytes = 1 << 20; /* the datagram was larger than the buffer */
    assert_int_equal(dump(&seen), ERROR_TRUNCATED);
    message_add(reply_add(), NLMSG_ERROR, 0, OF_THIS, NULL, 0); /* an error that does not say which */
    assert_int_equal(dump(&seen), ERROR_TRUNCATED);
    reply = reply_add();
    row_add(reply, 0, OF_THIS, DIAG_CLOSE_WAIT, 1);
    reply->bytes[sizeof(struct nlmsghdr)] = AF_UNIX;
    assert_int_equal(dump(&seen), ERROR_MALFORMED);
}

static void a_signal_interrupts_neither_question_nor_answer(void **state)
{
    (void)state;
    struct seen seen;
    kernel.send_errors[0] = EINTR;
    reply_error(EINTR);
    done_add(reply_add(), 0, 0);
    assert_int_equal(dump(&seen), 0);
    assert_int_equal(kernel.sent, 2);
}

static void a_question_that_cannot_be_sent_is_an_error(void **state)
{
    (void)state;
    struct seen seen;
    struct diag_row row;
    static uint16_t ports[6000];
    const struct diag_filter too_many = {
        .states = DIAG_STATES_ALL, .ports = ports, .port_count = sizeof ports / sizeof ports[0]};
    const struct netlink_sink sink = {.row = see, .context = &seen};
    kernel.send_errors[0] = kernel.send_errors[1] = ENOBUFS;
    assert_int_equal(dump(&seen), -ENOBUFS);
    assert_int_equal(netlink_lookup(netlink, &wanted, &row), -ENOBUFS);
    kernel.fail_memory = 1;
    assert_int_equal(dump(&seen), -ENOMEM);
    assert_int_equal(netlink_dump(netlink, &too_many, &sink), -E2BIG);
    assert_int_equal(kernel.received, 0);
}

static void without_a_fresh_socket_a_failed_dump_says_why_there_is_none(void **state)
{
    (void)state;
    struct seen seen;
    reply_error(EAGAIN);
    kernel.fail_socket = 1;
    assert_int_equal(dump(&seen), -EMFILE);
    done_add(reply_add(), 0, 0);
    assert_int_equal(dump(&seen), 0); /* the old socket is still there */
}

/* ---- one socket --------------------------------------------------------------------------------------- */

static void a_lookup_skips_answers_to_earlier_questions(void **state)
{
    (void)state;
    struct diag_row row;
    reply_error(EAGAIN);
    assert_int_equal(netlink_lookup(netlink, &wanted, &row), -ETIMEDOUT);
    error_add(reply_add(), OF_THE_LAST, -ENOENT); /* comes after all */
    row_add(reply_add(), 0, OF_THIS, DIAG_LAST_ACK, 1);
    assert_int_equal(netlink_lookup(netlink, &wanted, &row), 0);
    assert_int_equal(row.state, DIAG_LAST_ACK);
    assert_int_equal(row.id.cookie, 9);
}

static void a_lookup_takes_only_that_sockets_row(void **state)
{
    (void)state;
    struct diag_row row;
    struct diag_id other = wanted;
    other.remote.port++;
    row_add(reply_add(), 0, OF_THIS, DIAG_LISTEN, 1);
    assert_int_equal(netlink_lookup(netlink, &other, &row), -ENOENT);
    other = wanted;
    other.local.port++;
    row_add(reply_add(), 0, OF_THIS, DIAG_LISTEN, 1);
    assert_int_equal(netlink_lookup(netlink, &other, &row), -ENOENT);
    error_add(reply_add(), OF_THIS, 0); /* an acknowledgement is no row */
    assert_int_equal(netlink_lookup(netlink, &wanted, &row), ERROR_MALFORMED);
}

static void what_speaks_against_destroying_is_passed_on(void **state)
{
    (void)state;
    static const int errors[] = {ENOENT, EPERM, EOPNOTSUPP, EINVAL};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        error_add(reply_add(), OF_THIS, -errors[i]);
        assert_int_equal(netlink_destroy(netlink, &wanted), -errors[i]);
        assert_int_equal(kernel.type, SOCK_DESTROY);
    }
    row_add(reply_add(), 0, OF_THIS, DIAG_CLOSE, 1); /* no word on whether it was done */
    assert_int_equal(netlink_destroy(netlink, &wanted), ERROR_MALFORMED);
    error_add(reply_add(), OF_THIS, 0);
    assert_int_equal(netlink_destroy(netlink, &wanted), 0);
}

/* ---- counting ----------------------------------------------------------------------------------------- */

static void only_sockets_in_an_accept_queue_are_counted_as_such(void **state)
{
    (void)state;
    struct netlink_counts counts;
    struct reply *reply = reply_add();
    row_add(reply, NLM_F_DUMP_INTR, OF_THIS, DIAG_CLOSE_WAIT, 0); /* of the attempt that does not count */
    done_add(reply, 0, 0);
    reply = reply_add();
    row_add(reply, 0, OF_THIS, DIAG_CLOSE_WAIT, 0);
    row_add(reply, 0, OF_THIS, DIAG_ESTABLISHED, 0);
    row_add(reply, 0, OF_THIS, DIAG_ESTABLISHED, 5);
    row_add(reply, 0, OF_THIS, DIAG_FIN_WAIT_2, 0); /* an orphan */
    row_add(reply, 0, OF_THIS, 200, 0);             /* a state of a kernel to come */
    done_add(reply, 0, 0);
    assert_int_equal(netlink_count(netlink, 80, &counts), 0);
    assert_int_equal(counts.of[DIAG_CLOSE_WAIT], 1);
    assert_int_equal(counts.of[DIAG_ESTABLISHED], 2);
    assert_int_equal(counts.of[DIAG_FIN_WAIT_2], 1);
    assert_int_equal(counts.never_accepted, 2);
}

/* ---- opening ------------------------------------------------------------------------------------------ */

static void what_keeps_it_from_opening_is_told(void **state)
{
    (void)state;
    static const struct {
        int *call, expected;
    } steps[] = {{&kernel.fail_memory, -ENOMEM},
                 {&kernel.fail_socket, -EMFILE},
                 {&kernel.fail_connect, -ECONNREFUSED},
                 {&kernel.fail_option, -ENOMEM}};
    int lowest = dup(0);
    close(lowest);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct netlink *none = NULL;
        *steps[i].call = 1;
        assert_int_equal(netlink_open(&none), steps[i].expected);
        assert_null(none);
        netlink_close(none);
    }
    int again = dup(0);
    close(again);
    assert_int_equal(again, lowest); /* no descriptor stayed open */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_it, close_it)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_dump_in_pieces_is_put_together),
        TEST(an_inconsistent_dump_starts_again_and_what_it_showed_is_dropped),
        TEST(a_dump_that_never_settles_is_given_up_after_five_attempts),
        TEST(a_sink_need_not_care_about_restarts),
        TEST(a_dump_that_fails_is_told_and_leaves_nothing_to_the_next),
        TEST(what_the_kernel_refuses_is_passed_on),
        TEST(an_answer_cut_short_is_no_answer),
        TEST(a_signal_interrupts_neither_question_nor_answer),
        TEST(a_question_that_cannot_be_sent_is_an_error),
        TEST(without_a_fresh_socket_a_failed_dump_says_why_there_is_none),
        TEST(a_lookup_skips_answers_to_earlier_questions),
        TEST(a_lookup_takes_only_that_sockets_row),
        TEST(what_speaks_against_destroying_is_passed_on),
        TEST(only_sockets_in_an_accept_queue_are_counted_as_such),
        TEST(what_keeps_it_from_opening_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
