#include "tests/unit/cmocka.h"

#include "reaper/error.h"
#include "reaper/kernel/diag.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum { SEQUENCE = 77, DUMP_SIZE = sizeof(struct nlmsghdr) + sizeof(struct inet_diag_req) };

static struct diag_endpoint endpoint(const char *host, uint16_t port)
{
    struct diag_endpoint e = {.port = port};
    if (strchr(host, ':'))
        assert_int_equal(inet_pton(AF_INET6, host, e.host), 1);
    else
        assert_int_equal(inet_pton(AF_INET, host, e.host + 12), 1), e.host[10] = e.host[11] = 0xff;
    return e;
}

/* ---- what the kernel's bytecode machine would say, from net/ipv4/inet_diag.c ---- */

static bool prefix_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
    for (unsigned i = 0; i < bits; i++)
        if ((a[i / 8] ^ b[i / 8]) >> (7 - i % 8) & 1)
            return false;
    return true;
}

static bool op_holds(const uint8_t *at, const struct inet_diag_bc_op *op, const struct diag_id *id)
{
    struct inet_diag_bc_op operand;
    struct inet_diag_hostcond host;
    memcpy(&operand, at + sizeof *op, sizeof operand);
    memcpy(&host, at + sizeof *op, sizeof host);
    const struct diag_endpoint *e = op->code == INET_DIAG_BC_S_COND ? &id->local : &id->remote;
    bool v4 = host.family == AF_INET;
    switch (op->code) {
    case INET_DIAG_BC_JMP:
        return false;
    case INET_DIAG_BC_S_EQ:
        return id->local.port == operand.no;
    case INET_DIAG_BC_D_EQ:
        return id->remote.port == operand.no;
    case INET_DIAG_BC_S_COND:
    case INET_DIAG_BC_D_COND:
        return (!v4 || diag_host_is_v4(e->host)) &&
               prefix_equal(e->host + (v4 ? 12 : 0), at + sizeof *op + sizeof host, host.prefix_len);
    default:
        fail_msg("operation %u", op->code);
        return false;
    }
}

/* The audit: every jump lands on an operation, the end, or four beyond it. */
static void audit(const uint8_t *code, size_t length)
{
    bool start[70000] = {false};
    size_t at = 0;
    for (struct inet_diag_bc_op op; at < length; at += op.yes) {
        memcpy(&op, code + at, sizeof op);
        start[at] = true;
        assert_true(op.yes >= sizeof op && op.yes % 4 == 0 && op.no % 4 == 0);
    }
    assert_int_equal(at, length);
    start[length] = start[length + 4] = true;
    at = 0;
    for (struct inet_diag_bc_op op; at < length; at += op.yes) {
        memcpy(&op, code + at, sizeof op);
        assert_true(op.no >= sizeof op && at + op.no <= length + 4 && start[at + op.no]);
    }
}

static bool accepts(const uint8_t *code, size_t length, const struct diag_id *id)
{
    long left = (long)length;
    while (left > 0) {
        struct inet_diag_bc_op op;
        memcpy(&op, code + length - left, sizeof op);
        left -= op_holds(code + length - left, &op, id) ? op.yes : op.no;
    }
    return left == 0;
}

static uint8_t request[70000];

/* Builds the dump, checks its frame, and returns where the bytecode is. */
static const uint8_t *bytecode(const struct diag_filter *filter, size_t *length)
{
    ssize_t total = diag_build_dump(request, sizeof request, filter, SEQUENCE);
    struct nlmsghdr head;
    struct inet_diag_req body;
    struct nlattr attribute;
    assert_int_equal(total, diag_dump_size(filter));
    memcpy(&head, request, sizeof head);
    memcpy(&body, request + sizeof head, sizeof body);
    assert_int_equal(head.nlmsg_len, total);
    assert_int_equal(head.nlmsg_type, TCPDIAG_GETSOCK);
    assert_int_equal(head.nlmsg_flags, NLM_F_REQUEST | NLM_F_DUMP);
    assert_int_equal(head.nlmsg_seq, SEQUENCE);
    assert_int_equal(body.idiag_states, filter->states);
    assert_int_equal(body.idiag_ext, filter->want_info ? 1U << (INET_DIAG_INFO - 1) : 0);
    *length = 0;
    if (total == DUMP_SIZE)
        return NULL;
    memcpy(&attribute, request + DUMP_SIZE, sizeof attribute);
    assert_int_equal(attribute.nla_type, INET_DIAG_REQ_BYTECODE);
    assert_int_equal(attribute.nla_len, total - DUMP_SIZE);
    *length = attribute.nla_len - sizeof attribute;
    const uint8_t *code = request + DUMP_SIZE + sizeof attribute;
    audit(code, *length);
    return code;
}

static bool filter_accepts(const struct diag_filter *filter, const char *local, uint16_t local_port,
                           const char *remote, uint16_t remote_port)
{
    const struct diag_id id = {.local = endpoint(local, local_port), .remote = endpoint(remote, remote_port)};
    size_t length;
    const uint8_t *code = bytecode(filter, &length);
    return length == 0 || accepts(code, length, &id);
}

static void a_filter_without_ports_has_no_bytecode(void **state)
{
    (void)state;
    size_t length;
    const struct diag_filter filter = {.states = DIAG_STATE_BIT(DIAG_CLOSE_WAIT)};
    assert_null(bytecode(&filter, &length));
    assert_int_equal(filter.states, 1U << 8);
}

static void ports_are_looked_for_on_the_side_that_was_named(void **state)
{
    (void)state;
    const uint16_t ports[] = {80, 443, 8080};
    for (size_t count = 1; count <= 3; count++) {
        for (size_t i = 0; i < 3; i++) {
            struct diag_filter filter = {.states = 1, .ports = ports, .port_count = count};
            bool wanted = i < count;
            filter.side = DIAG_LOCAL;
            assert_int_equal(filter_accepts(&filter, "127.0.0.1", ports[i], "127.0.0.1", 5), wanted);
            assert_false(filter_accepts(&filter, "127.0.0.1", 5, "127.0.0.1", ports[i]));
            filter.side = DIAG_REMOTE;
            assert_false(filter_accepts(&filter, "::1", ports[i], "::1", 5));
            assert_int_equal(filter_accepts(&filter, "::1", 5, "::1", ports[i]), wanted);
            filter.side = DIAG_EITHER;
            assert_int_equal(filter_accepts(&filter, "::1", ports[i], "::1", 5), wanted);
            assert_int_equal(filter_accepts(&filter, "::1", 5, "::1", ports[i]), wanted);
            assert_false(filter_accepts(&filter, "::1", 5, "::1", 6));
        }
    }
}

static void hosts_narrow_the_ports(void **state)
{
    (void)state;
    const uint16_t port = 80;
    const struct diag_prefix loopback = {.host = {[10] = 0xff, 0xff, 127}, .bits = 96 + 8};
    const struct diag_prefix documentation = {.host = {0x20, 0x01, 0x0d, 0xb8}, .bits = 32};
    struct diag_filter filter = {.states = 1, .ports = &port, .port_count = 1, .local_host = &loopback};
    assert_true(filter_accepts(&filter, "127.9.9.9", 80, "10.0.0.1", 1));
    assert_false(filter_accepts(&filter, "128.9.9.9", 80, "10.0.0.1", 1));
    assert_false(filter_accepts(&filter, "127.9.9.9", 81, "10.0.0.1", 1));
    filter.local_host = NULL;
    filter.remote_host = &documentation;
    assert_true(filter_accepts(&filter, "::1", 80, "2001:db8::7", 1));
    assert_false(filter_accepts(&filter, "::1", 80, "2001:db9::7", 1));
    filter.port_count = 0;
    assert_true(filter_accepts(&filter, "::1", 81, "2001:db8::7", 1));
    filter.local_host = &loopback;
    assert_false(filter_accepts(&filter, "::1", 80, "2001:db8::7", 1));
}

static void as_many_ports_as_the_jumps_reach(void **state)
{
    (void)state;
    static uint16_t ports[6000];
    for (size_t i = 0; i < 6000; i++)
        ports[i] = (uint16_t)(i + 1);
    struct diag_filter filter = {.states = 1, .ports = ports, .port_count = 5461};
    assert_true(filter_accepts(&filter, "::1", 1, "::1", 9));
    assert_true(filter_accepts(&filter, "::1", 5461, "::1", 9));
    assert_false(filter_accepts(&filter, "::1", 5462, "::1", 9));
    filter.port_count = 5462;
    assert_int_equal(diag_build_dump(request, sizeof request, &filter, 1), -E2BIG);
    filter.port_count = SIZE_MAX;
    assert_int_equal(diag_build_dump(request, sizeof request, &filter, 1), -E2BIG);
}

static void a_short_buffer_is_refused_not_overrun(void **state)
{
    (void)state;
    const uint16_t ports[] = {80, 443};
    const struct diag_filter filter = {.states = 1, .ports = ports, .port_count = 2, .side = DIAG_EITHER};
    const struct diag_id id = {.family = AF_INET, .cookie = 9};
    for (size_t size = 0; size < diag_dump_size(&filter); size++) {
        uint8_t *small = malloc(size + 1);
        assert_int_equal(diag_build_dump(small, size, &filter, 1), -ENOBUFS);
        if (size < DIAG_REQUEST_SIZE) {
            assert_int_equal(diag_build_destroy(small, size, &id, 1), -ENOBUFS);
            assert_int_equal(diag_build_lookup(small, size, &id, false, 1), -ENOBUFS);
        }
        free(small);
    }
}

static void destroy_names_the_socket_with_its_cookie(void **state)
{
    (void)state;
    struct diag_id id = {.family = AF_INET,
                         .local = endpoint("127.0.0.1", 80),
                         .remote = endpoint("10.1.2.3", 4242),
                         .interface = 3,
                         .cookie = 0x1122334455667788};
    struct nlmsghdr head;
    struct inet_diag_req_v2 body;
    assert_int_equal(diag_build_destroy(request, sizeof request, &id, SEQUENCE), DIAG_REQUEST_SIZE);
    memcpy(&head, request, sizeof head);
    memcpy(&body, request + sizeof head, sizeof body);
    assert_int_equal(head.nlmsg_type, SOCK_DESTROY);
    assert_int_equal(head.nlmsg_flags, NLM_F_REQUEST | NLM_F_ACK);
    assert_int_equal(body.id.idiag_sport, htons(80));
    assert_int_equal(body.id.idiag_dport, htons(4242));
    assert_int_equal(body.id.idiag_src[0], htonl(0x7f000001));
    assert_int_equal(body.id.idiag_dst[0], htonl(0x0a010203));
    assert_int_equal(body.id.idiag_src[1], 0);
    assert_int_equal(body.id.idiag_if, 3);
    assert_int_equal(body.id.idiag_cookie[0], 0x55667788);
    assert_int_equal(body.id.idiag_cookie[1], 0x11223344);
    id.cookie = DIAG_NO_COOKIE;
    assert_int_equal(diag_build_destroy(request, sizeof request, &id, SEQUENCE), -EINVAL);
}

static void an_ipv6_socket_that_carries_ipv4_keeps_its_family_in_requests(void **state)
{
    (void)state;
    const struct diag_id id = {.family = AF_INET6,
                               .local = endpoint("127.0.0.1", 80),
                               .remote = endpoint("127.0.0.2", 81),
                               .cookie = 1};
    struct inet_diag_req_v2 body;
    diag_build_lookup(request, sizeof request, &id, true, 1);
    memcpy(&body, request + sizeof(struct nlmsghdr), sizeof body);
    assert_int_equal(body.sdiag_family, AF_INET6);
    assert_int_equal(body.id.idiag_src[2], htonl(0xffff));
    assert_int_equal(body.id.idiag_src[3], htonl(0x7f000001));
    assert_int_equal(body.idiag_ext, 1U << (INET_DIAG_INFO - 1));
}

/* ---- replies ---- */

/* A datagram under construction. */
struct datagram {
    uint8_t bytes[4096];
    size_t length;
};

static void put(struct datagram *d, const void *bytes, size_t length)
{
    memcpy(d->bytes + d->length, bytes, length);
    d->length += (length + 3) & ~(size_t)3;
}

static void put_message(struct datagram *d, uint16_t type, uint16_t flags, uint32_t sequence,
                        const void *body, size_t length)
{
    const struct nlmsghdr head = {.nlmsg_len = (uint32_t)(sizeof head + length),
                                  .nlmsg_type = type,
                                  .nlmsg_flags = flags,
                                  .nlmsg_seq = sequence};
    put(d, &head, sizeof head);
    put(d, body, length);
}

static void put_status(struct datagram *d, uint16_t type, int32_t code)
{
    put_message(d, type, NLM_F_MULTI, SEQUENCE, &code, sizeof code);
}

/* A row with an attribute we skip and a tcp_info of the given length. */
static void put_row(struct datagram *d, uint8_t family, uint16_t flags, size_t info_length)
{
    struct datagram body = {.length = 0};
    struct inet_diag_msg m = {.idiag_family = family,
                              .idiag_state = DIAG_CLOSE_WAIT,
                              .idiag_timer = 2,
                              .idiag_retrans = 1,
                              .id = {.idiag_sport = htons(80),
                                     .idiag_dport = htons(4242),
                                     .idiag_if = 2,
                                     .idiag_cookie = {0x55667788, 0x11223344}},
                              .idiag_expires = 6000,
                              .idiag_rqueue = 12,
                              .idiag_wqueue = 34,
                              .idiag_uid = 1000,
                              .idiag_inode = 98765};
    const struct tcp_info info = {.tcpi_last_ack_recv = 1500,
                                  .tcpi_last_data_recv = 1600,
                                  .tcpi_last_data_sent = 1700,
                                  .tcpi_bytes_acked = 1U << 30,
                                  .tcpi_bytes_received = 42,
                                  .tcpi_bytes_sent = 43};
    inet_pton(family, family == AF_INET ? "127.0.0.1" : "::ffff:127.0.0.1", m.id.idiag_src);
    inet_pton(family, family == AF_INET ? "127.0.0.2" : "2001:db8::1", m.id.idiag_dst);
    put(&body, &m, sizeof m);
    const struct nlattr shutdown = {.nla_len = sizeof shutdown + 1, .nla_type = INET_DIAG_SHUTDOWN};
    put(&body, &shutdown, sizeof shutdown);
    put(&body, "\1", 1);
    const struct nlattr head = {.nla_len = (uint16_t)(sizeof head + info_length), .nla_type = INET_DIAG_INFO};
    put(&body, &head, sizeof head);
    uint8_t long_info[1024] = {0};
    memcpy(long_info, &info, sizeof info);
    put(&body, long_info, info_length);
    put_message(d, SOCK_DIAG_BY_FAMILY, (uint16_t)(NLM_F_MULTI | flags), SEQUENCE, body.bytes, body.length);
}

static void a_row_is_decoded_whole(void **state)
{
    (void)state;
    struct datagram d = {.length = 0};
    struct diag_reader reader;
    struct diag_row row;
    put_row(&d, AF_INET, 0, sizeof(struct tcp_info));
    put_status(&d, NLMSG_DONE, 0);
    diag_reader_init(&reader, d.bytes, d.length, SEQUENCE);
    assert_int_equal(diag_next(&reader, &row), DIAG_MESSAGE_ROW);
    const struct diag_endpoint local = endpoint("127.0.0.1", 80), remote = endpoint("127.0.0.2", 4242);
    assert_true(diag_endpoint_equal(&row.id.local, &local));
    assert_true(diag_endpoint_equal(&row.id.remote, &remote));
    assert_int_equal(row.id.family, AF_INET);
    assert_int_equal(row.id.interface, 2);
    assert_true(row.id.cookie == 0x1122334455667788);
    assert_int_equal(row.state, DIAG_CLOSE_WAIT);
    assert_int_equal(row.timer, 2);
    assert_int_equal(row.timer_tries, 1);
    assert_int_equal(row.timer_ms, 6000);
    assert_int_equal(row.rqueue_bytes, 12);
    assert_int_equal(row.wqueue_bytes, 34);
    assert_int_equal(row.uid, 1000);
    assert_int_equal(row.inode, 98765);
    assert_true(row.has_info);
    assert_int_equal(row.info.last_ack_recv_ms, 1500);
    assert_int_equal(row.info.last_data_recv_ms, 1600);
    assert_int_equal(row.info.last_data_sent_ms, 1700);
    assert_int_equal(row.info.acked_bytes, 1U << 30);
    assert_int_equal(row.info.received_bytes, 42);
    assert_int_equal(row.info.sent_bytes, 43);
    assert_int_equal(diag_next(&reader, &row), DIAG_MESSAGE_DONE);
    assert_int_equal(diag_next(&reader, &row), DIAG_MESSAGE_NONE);
    assert_false(reader.interrupted);
}

static void an_ipv4_address_is_the_same_in_both_families(void **state)
{
    (void)state;
    struct datagram d = {.length = 0};
    struct diag_reader reader;
    struct diag_row row;
    put_row(&d, AF_INET6, 0, 0);
    diag_reader_init(&reader, d.bytes, d.length, SEQUENCE);
    assert_int_equal(diag_next(&reader, &row), DIAG_MESSAGE_ROW);
    const struct diag_endpoint local = endpoint("127.0.0.1", 80);
    assert_true(diag_endpoint_equal(&row.id.local, &local));
    assert_int_equal(row.id.family, AF_INET6);
    char text[DIAG_ENDPOINT_TEXT];
    assert_string_equal(diag_endpoint_text(&row.id.local, text), "127.0.0.1:80");
    assert_string_equal(diag_endpoint_text(&row.id.remote, text), "[2001:db8::1]:4242");
}

static void a_tcp_info_of_another_kernels_length_is_fine(void **state)
{
    (void)state;
    const size_t lengths[] = {0, 4, offsetof(struct tcp_info, tcpi_last_ack_recv),
                              offsetof(struct tcp_info, tcpi_bytes_acked), 1000};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct datagram d = {.length = 0};
        struct diag_reader reader;
        struct diag_row row;
        put_row(&d, AF_INET, 0, lengths[i]);
        diag_reader_init(&reader, d.bytes, d.length, SEQUENCE);
        assert_int_equal(diag_next(&reader, &row), DIAG_MESSAGE_ROW);
        assert_true(row.has_info);
        assert_int_equal(row.info.acked_bytes, lengths[i] == 1000 ? 1U << 30 : 0);
        assert_int_equal(row.info.last_ack_recv_ms, i > 2 ? 1500 : 0);
    }
}

static void answers_other_than_rows_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        uint16_t type;
        int32_t code;
        int expected;
    } cases[] = {
        {NLMSG_ERROR, -ENOENT, -ENOENT},
        {NLMSG_ERROR, -EOPNOTSUPP, -EOPNOTSUPP},
        {NLMSG_ERROR, 0, DIAG_MESSAGE_ACK},
        {NLMSG_ERROR, 5, ERROR_MALFORMED},
        {NLMSG_ERROR, INT32_MIN, ERROR_MALFORMED},
        {NLMSG_DONE, 0, DIAG_MESSAGE_DONE},
        {NLMSG_DONE, -EINTR, -EINTR},
        {NLMSG_OVERRUN, 0, -ENOBUFS},
        {NLMSG_NOOP, 0, DIAG_MESSAGE_NONE},
        {1234, 0, DIAG_MESSAGE_NONE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct datagram d = {.length = 0};
        struct diag_reader reader;
        struct diag_row row;
        put_status(&d, cases[i].type, cases[i].code);
        diag_reader_init(&reader, d.bytes, d.length, SEQUENCE);
        assert_int_equal(diag_next(&reader, &row), cases[i].expected);
    }
}

static void messages_of_another_request_are_skipped(void **state)
{
    (void)state;
    struct datagram d = {.length = 0};
    struct diag_reader reader;
    struct diag_row row;
    put_row(&d, AF_INET, NLM_F_DUMP_INTR, 0);
    diag_reader_init(&reader, d.bytes, d.length, SEQUENCE + 1);
    assert_int_equal(diag_next(&reader, &row), DIAG_MESSAGE_NONE);
    assert_false(reader.interrupted);
}

static void an_interrupted_dump_is_noticed_wherever_the_mark_is(void **state)
{
    (void)state;
    struct datagram d = {.length = 0};
    struct diag_reader reader;
    struct diag_row row;
    put_row(&d, AF_INET, 0, 0);
    put_row(&d, AF_INET, NLM_F_DUMP_INTR, 0);
    put_status(&d, NLMSG_DONE, 0);
    diag_reader_init(&reader, d.bytes, d.length, SEQUENCE);
    while (diag_next(&reader, &row) == DIAG_MESSAGE_ROW)
        ;
    assert_true(reader.interrupted);
}

/* Reads everything out of a copy that has not one byte to spare, so that a sanitizer sees a read past its
 * end. */
static unsigned read_all(const uint8_t *bytes, size_t length, int *last_error)
{
    uint8_t *exact = malloc(length ? length : 1);
    struct diag_reader reader;
    struct diag_row row;
    unsigned rows = 0;
    int result;
    memcpy(exact, bytes, length);
    diag_reader_init(&reader, exact, length, SEQUENCE);
    *last_error = 0;
    while ((result = diag_next(&reader, &row)) != DIAG_MESSAGE_NONE) {
        rows += result == DIAG_MESSAGE_ROW;
        if (result < 0)
            *last_error = result;
    }
    free(exact);
    return rows;
}

static void a_datagram_cut_anywhere_yields_its_whole_rows_and_an_error(void **state)
{
    (void)state;
    struct datagram d = {.length = 0};
    size_t ends[3];
    for (size_t i = 0; i < 3; i++) {
        put_row(&d, i % 2 ? AF_INET6 : AF_INET, 0, sizeof(struct tcp_info));
        ends[i] = d.length;
    }
    for (size_t length = 0; length <= d.length; length++) {
        unsigned whole = 0;
        bool clean = length == 0;
        int error;
        for (size_t i = 0; i < 3; i++) {
            whole += length >= ends[i];
            clean |= length == ends[i];
        }
        assert_int_equal(read_all(d.bytes, length, &error), whole);
        assert_int_equal(error, clean ? 0 : ERROR_TRUNCATED);
    }
}

static void a_message_shorter_than_its_row_is_an_error(void **state)
{
    (void)state;
    for (uint32_t length = 0; length < sizeof(struct nlmsghdr) + sizeof(struct inet_diag_msg); length++) {
        struct datagram d = {.length = 0};
        int error;
        put_row(&d, AF_INET, 0, 0);
        memcpy(d.bytes, &length, sizeof length);
        assert_int_equal(read_all(d.bytes, d.length, &error), 0);
        assert_int_equal(error, length < sizeof(struct nlmsghdr) ? ERROR_MALFORMED : ERROR_TRUNCATED);
    }
}

static void an_attribute_that_lies_is_an_error(void **state)
{
    (void)state;
    const size_t at = sizeof(struct nlmsghdr) + sizeof(struct inet_diag_msg);
    for (uint32_t length = 0; length < 0x10000; length += length < 600 ? 1 : 777) {
        struct datagram d = {.length = 0};
        uint16_t lie = (uint16_t)length;
        int error;
        put_row(&d, AF_INET, 0, sizeof(struct tcp_info));
        memcpy(d.bytes + at, &lie, sizeof lie);
        unsigned rows = read_all(d.bytes, d.length, &error);
        if (length < sizeof(struct nlattr))
            assert_int_equal(error, ERROR_MALFORMED);
        else if (length > d.length - at)
            assert_int_equal(error, ERROR_TRUNCATED);
        assert_int_equal(rows, error == 0);
    }
}

static void damaged_bytes_never_lead_past_the_end(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252; /* xorshift64, so that a failure repeats */
    for (unsigned round = 0; round < 50000; round++) {
        struct datagram d = {.length = 0};
        int error;
        put_row(&d, AF_INET, 0, 100);
        put_row(&d, AF_INET6, 0, sizeof(struct tcp_info));
        put_status(&d, NLMSG_DONE, 0);
        for (unsigned i = 0; i < 4; i++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            d.bytes[seed % d.length] = (uint8_t)(seed >> 32);
        }
        read_all(d.bytes, d.length - seed % 7, &error);
    }
}

static void every_state_has_a_name_that_parses(void **state)
{
    (void)state;
    for (int s = 1; s < DIAG_STATE_COUNT; s++)
        assert_int_equal(diag_state_parse(diag_state_name((unsigned)s)), s);
    assert_string_equal(diag_state_name(0), "unknown");
    assert_string_equal(diag_state_name(99), "unknown");
    assert_int_equal(diag_state_parse("closewait"), -EINVAL);
    assert_int_equal(diag_state_parse(""), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_filter_without_ports_has_no_bytecode),
        cmocka_unit_test(ports_are_looked_for_on_the_side_that_was_named),
        cmocka_unit_test(hosts_narrow_the_ports),
        cmocka_unit_test(as_many_ports_as_the_jumps_reach),
        cmocka_unit_test(a_short_buffer_is_refused_not_overrun),
        cmocka_unit_test(destroy_names_the_socket_with_its_cookie),
        cmocka_unit_test(an_ipv6_socket_that_carries_ipv4_keeps_its_family_in_requests),
        cmocka_unit_test(a_row_is_decoded_whole),
        cmocka_unit_test(an_ipv4_address_is_the_same_in_both_families),
        cmocka_unit_test(a_tcp_info_of_another_kernels_length_is_fine),
        cmocka_unit_test(answers_other_than_rows_are_told_apart),
        cmocka_unit_test(messages_of_another_request_are_skipped),
        cmocka_unit_test(an_interrupted_dump_is_noticed_wherever_the_mark_is),
        cmocka_unit_test(a_datagram_cut_anywhere_yields_its_whole_rows_and_an_error),
        cmocka_unit_test(a_message_shorter_than_its_row_is_an_error),
        cmocka_unit_test(an_attribute_that_lies_is_an_error),
        cmocka_unit_test(damaged_bytes_never_lead_past_the_end),
        cmocka_unit_test(every_state_has_a_name_that_parses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
