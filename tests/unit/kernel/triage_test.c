#include "tests/unit/cmocka.h"

#include "reaper/kernel/triage.h"
#include "tests/unit/faults.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

static struct diag_endpoint endpoint(const char *host, uint16_t port)
{
    struct diag_endpoint e = {.port = port, .host = {[10] = 0xff, 0xff}};
    assert_int_equal(inet_pton(AF_INET, host, e.host + 12), 1);
    return e;
}

/* A server's socket in CLOSE_WAIT on 10.0.0.1:80 whose peer is 10.0.0.2 with the cookie's number as port. */
static struct diag_row leak_row(uint64_t cookie, uint32_t inode, uint32_t rqueue_bytes)
{
    return (struct diag_row){
        .id = {.family = AF_INET,
               .local = endpoint("10.0.0.1", 80),
               .remote = endpoint("10.0.0.2", (uint16_t)cookie),
               .cookie = cookie},
        .state = DIAG_CLOSE_WAIT,
        .inode = inode,
        .rqueue_bytes = rqueue_bytes,
        .has_info = true,
        .info = {.last_ack_recv_ms = 5000, .last_data_sent_ms = 6000, .acked_bytes = 100, .sent_bytes = 100},
    };
}

static struct diag_row peer_row(const struct diag_row *of, unsigned peer_state, uint32_t inode)
{
    struct diag_row row = {.id = {.local = of->id.remote, .remote = of->id.local, .cookie = 999},
                           .inode = inode};
    row.state = (uint8_t)peer_state;
    return row;
}

static struct diag_row listener_row(uint16_t port)
{
    return (struct diag_row){.state = DIAG_LISTEN, .id.local = endpoint("0.0.0.0", port)};
}

static struct triage triage_of(const struct diag_row *rows, size_t count, const struct triage *before,
                               uint64_t now)
{
    struct triage triage;
    triage_init(&triage, DIAG_CLOSE_WAIT);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(triage_add(&triage, &rows[i]), 0);
    triage_finish(&triage, before, now);
    return triage;
}

static void the_cause_is_in_inode_and_receive_queue(void **state)
{
    (void)state;
    static const struct {
        uint32_t inode, rqueue_bytes;
        enum triage_cause cause;
    } cases[] = {
        {7, 0, TRIAGE_READ_EOF},       {7, 1, TRIAGE_EOF_UNREAD},
        {7, 2, TRIAGE_DATA_UNREAD},    {7, UINT32_MAX, TRIAGE_DATA_UNREAD},
        {0, 0, TRIAGE_NEVER_ACCEPTED}, {0, 9000, TRIAGE_NEVER_ACCEPTED},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct diag_row row = leak_row(1, cases[i].inode, cases[i].rqueue_bytes);
        struct triage triage = triage_of(&row, 1, NULL, 0);
        assert_int_equal(triage.leaks[0].cause, cases[i].cause);
        triage_clear(&triage);
    }
}

static void only_close_wait_has_a_cause(void **state)
{
    (void)state;
    struct diag_row row = leak_row(1, 7, 0);
    struct triage triage;
    row.state = DIAG_ESTABLISHED;
    triage_init(&triage, DIAG_ESTABLISHED);
    assert_int_equal(triage_add(&triage, &row), 0);
    triage_finish(&triage, NULL, 0);
    assert_int_equal(triage.leaks[0].cause, TRIAGE_NO_CAUSE);
    triage_clear(&triage);
}

static void a_peer_on_this_host_tells_close_from_half_close(void **state)
{
    (void)state;
    struct diag_row rows[7];
    rows[0] = leak_row(1, 7, 0);
    rows[1] = leak_row(2, 7, 0);
    rows[2] = leak_row(3, 7, 0);
    rows[3] = peer_row(&rows[0], DIAG_FIN_WAIT_2, 0);
    rows[4] = peer_row(&rows[1], DIAG_FIN_WAIT_2, 55);
    rows[5] = leak_row(4, 7, 0);
    rows[5].id.local = endpoint("127.0.0.1", 80);
    rows[5].id.remote = endpoint("127.0.0.1", 4);
    rows[6] = leak_row(5, 7, 0);
    rows[6].id.remote.port = 6;
    rows[6].id.local = rows[6].id.remote; /* both ends have the address of one interface */
    struct triage triage = triage_of(rows, 7, NULL, 0);
    assert_int_equal(triage.leak_count, 5);
    assert_int_equal(triage_find(&triage, 1)->peer, TRIAGE_PEER_CLOSED);
    assert_int_equal(triage_find(&triage, 2)->peer, TRIAGE_PEER_HALF_CLOSED);
    assert_int_equal(triage_find(&triage, 3)->peer, TRIAGE_PEER_REMOTE);
    assert_int_equal(triage_find(&triage, 4)->peer, TRIAGE_PEER_FORGOTTEN);
    assert_int_equal(triage_find(&triage, 5)->peer, TRIAGE_PEER_FORGOTTEN);
    triage_clear(&triage);
}

static void without_a_listener_it_is_the_client_side(void **state)
{
    (void)state;
    struct diag_row rows[] = {listener_row(443), leak_row(1, 7, 0), leak_row(2, 7, 0), listener_row(80)};
    rows[2].id.local.port = 40000;
    struct triage triage = triage_of(rows, 4, NULL, 0);
    assert_false(triage_find(&triage, 1)->client_side);
    assert_true(triage_find(&triage, 2)->client_side);
    assert_int_equal(triage.listener_count, 2);
    assert_int_equal(triage.listeners[0].id.local.port, 80);
    triage_clear(&triage);
}

static struct diag_endpoint endpoint6(const char *host, uint16_t port)
{
    struct diag_endpoint e = {.port = port};
    assert_int_equal(inet_pton(AF_INET6, host, e.host), 1);
    return e;
}

/* Somebody who listens on the port at another address says nothing about a socket. */
static void a_listener_serves_its_own_address_only(void **state)
{
    (void)state;
    static const struct {
        const char *listener, *local; /* in IPv6's form */
        uint8_t family;
        bool v6_only, served;
    } rows[] = {
        {"::ffff:127.0.0.1", "::ffff:127.0.0.1", AF_INET, false, true},
        {"::ffff:127.0.0.1", "::ffff:127.0.0.2", AF_INET, false, false},
        {"::ffff:0.0.0.0", "::ffff:127.0.0.2", AF_INET, false, true},
        {"::ffff:0.0.0.0", "::1", AF_INET, false, false},
        {"::", "::ffff:127.0.0.2", AF_INET6, false, true}, /* dual stack */
        {"::", "::ffff:127.0.0.2", AF_INET6, true, false},
        {"::", "::1", AF_INET6, true, true},
        {"::ffff:127.0.0.1", "::ffff:127.0.0.1", AF_INET6, false, true}, /* mapped */
        {"::ffff:0.0.0.0", "::ffff:127.0.0.1", AF_INET6, false, true},
        {"::ffff:0.0.0.0", "::1", AF_INET6, false, false},
        {"fd00::1", "fd00::2", AF_INET6, false, false},
        {"fd00::1", "fd00::1", AF_INET6, false, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct diag_row both[] = {listener_row(80), leak_row(1, 7, 0)};
        both[0].id.family = rows[i].family;
        both[0].id.local = endpoint6(rows[i].listener, 80);
        both[0].v6_only = rows[i].v6_only;
        both[1].id.local = endpoint6(rows[i].local, 80);
        struct triage triage = triage_of(both, 2, NULL, 0);
        assert_int_equal(triage.leaks[0].client_side, !rows[i].served);
        triage_clear(&triage);
    }
}

static void the_listener_on_just_the_address_is_found_before_one_on_any(void **state)
{
    (void)state;
    struct diag_row rows[] = {listener_row(80), listener_row(80), listener_row(80), listener_row(443),
                              leak_row(1, 7, 0)};
    rows[1].id.local = rows[4].id.local;
    rows[2].id.local = endpoint("10.0.0.9", 80);
    for (uint32_t i = 0; i < 4; i++)
        rows[i].inode = i;
    struct triage triage = triage_of(rows, 5, NULL, 0);
    assert_int_equal(triage_listener(&triage, &triage.leaks[0].row)->inode, 1);
    triage_clear(&triage);
    rows[1].id.interface = 3; /* bound to a device that the leak is not bound to */
    triage = triage_of(rows, 5, NULL, 0);
    assert_int_equal(triage_listener(&triage, &triage.leaks[0].row)->inode, 0);
    triage_clear(&triage);
}

static void a_row_that_came_twice_counts_once(void **state)
{
    (void)state;
    const struct diag_row rows[] = {leak_row(2, 7, 0), leak_row(1, 7, 0), leak_row(2, 7, 0)};
    struct triage triage = triage_of(rows, 3, NULL, 0);
    assert_int_equal(triage.leak_count, 2);
    assert_null(triage_find(&triage, 3));
    triage_clear(&triage);
}

static void what_an_earlier_dump_knew_is_carried_over_by_cookie(void **state)
{
    (void)state;
    struct diag_row rows[] = {leak_row(1, 7, 0), leak_row(2, 7, 0)};
    struct triage first = triage_of(rows, 1, NULL, 1000);
    struct triage second = triage_of(rows, 2, &first, 61000);
    const struct leak *old = triage_find(&second, 1), *new = triage_find(&second, 2);
    assert_int_equal(old->dumps, 2);
    assert_int_equal(old->first_seen_ms, 1000);
    assert_int_equal(new->dumps, 1);
    assert_int_equal(new->first_seen_ms, 61000);
    bool exact;
    assert_int_equal(leak_age_ms(old, 61000, &exact), 60000); /* a keepalive has reset what the kernel says */
    assert_false(exact);
    assert_int_equal(leak_age_ms(new, 61000, &exact), 5000);
    assert_true(exact);
    triage_clear(&first);
    triage_clear(&second);
}

static void acknowledged_bytes_are_progress_and_make_it_young_again(void **state)
{
    (void)state;
    struct diag_row row = leak_row(1, 7, 0);
    struct triage first = triage_of(&row, 1, NULL, 1000);
    row.info.acked_bytes++;
    row.info.last_ack_recv_ms = 10;
    struct triage second = triage_of(&row, 1, &first, 61000);
    struct triage third = triage_of(&row, 1, &second, 62000);
    assert_true(second.leaks[0].progressed);
    assert_int_equal(leak_quiet_ms(&second.leaks[0], 61000), 10);
    assert_int_equal(leak_age_ms(&second.leaks[0], 61000, NULL), 60000);
    assert_false(third.leaks[0].progressed);
    assert_int_equal(leak_quiet_ms(&third.leaks[0], 62000), 1000);
    triage_clear(&first);
    triage_clear(&second);
    triage_clear(&third);
}

static void an_age_is_exact_only_if_nothing_can_have_reset_it(void **state)
{
    (void)state;
    struct diag_row rows[] = {leak_row(1, 7, 0), leak_row(2, 7, 0), leak_row(3, 7, 0), leak_row(4, 7, 0),
                              leak_row(5, 7, 0)};
    const bool expected[] = {true, false, false, false, true};
    rows[1].info.last_data_sent_ms = 5000; /* sent after the FIN: its ACK reset the clock */
    rows[4].info.last_data_sent_ms = 5000; /* which is that of the handshake when nothing was sent */
    rows[4].info.sent_bytes = 0;
    rows[2].timer = 2; /* keepalive */
    rows[3].has_info = false;
    struct triage triage = triage_of(rows, 5, NULL, 1000);
    for (uint64_t cookie = 1; cookie <= 5; cookie++) {
        bool exact;
        leak_age_ms(triage_find(&triage, cookie), 1000, &exact);
        assert_int_equal(exact, expected[cookie - 1]);
    }
    triage_clear(&triage);
}

static void a_dump_that_starts_again_is_not_counted_twice(void **state)
{
    (void)state;
    const struct diag_row row = leak_row(1, 7, 0), listener = listener_row(80);
    struct triage triage = triage_of(&row, 1, NULL, 0);
    assert_int_equal(triage_add(&triage, &listener), 0);
    triage_restart(&triage);
    assert_int_equal(triage.leak_count, 0);
    triage_finish(&triage, NULL, 0);
    assert_null(triage_find(&triage, 1));
    triage_clear(&triage);
}

static void many_rows_are_all_found_again(void **state)
{
    (void)state;
    enum { ROWS = 100000 };
    struct triage first, second;
    triage_init(&first, DIAG_CLOSE_WAIT);
    triage_init(&second, DIAG_CLOSE_WAIT);
    for (uint64_t i = 0; i < ROWS; i++) {
        const struct diag_row row = leak_row(1 + i * 48271 % 2147483647, 7, 0);
        assert_int_equal(triage_add(&first, &row), 0);
        assert_int_equal(triage_add(&second, &row), 0);
    }
    triage_finish(&first, NULL, 1);
    triage_finish(&second, &first, 2);
    assert_int_equal(second.leak_count, ROWS);
    for (size_t i = 0; i < ROWS; i++)
        assert_int_equal(second.leaks[i].dumps, 2);
    triage_clear(&first);
    triage_clear(&second);
}

static void a_row_without_memory_is_an_error_and_costs_no_other(void **state)
{
    (void)state;
    static const uint8_t states[] = {DIAG_CLOSE_WAIT, DIAG_LISTEN, DIAG_FIN_WAIT_2};
    enum { FIRST_ROOM = 64 };
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        struct triage triage;
        triage_init(&triage, DIAG_CLOSE_WAIT);
        for (uint64_t cookie = 1; cookie <= FIRST_ROOM; cookie++) {
            struct diag_row row = leak_row(cookie, 7, 0);
            row.state = states[i];
            assert_int_equal(triage_add(&triage, &row), 0);
        }
        struct diag_row row = leak_row(FIRST_ROOM + 1, 7, 0);
        row.state = states[i];
        fault_arm(FAULT_MEMORY, FAULT_MINE, ENOMEM, 1, 1);
        assert_int_equal(triage_add(&triage, &row), -ENOMEM);
        assert_int_equal(fault_disarm(), 1);
        assert_int_equal(triage.leak_count + triage.listener_count + triage.peer_count, FIRST_ROOM);
        triage_finish(&triage, NULL, 0);
        assert_int_equal(triage_find(&triage, FIRST_ROOM) != NULL, states[i] == DIAG_CLOSE_WAIT);
        triage_clear(&triage);
    }
}

static void a_peer_that_this_hosts_kernel_forgot_is_told_from_a_remote_one(void **state)
{
    (void)state;
    static const struct {
        uint8_t local[16], remote[16];
        enum triage_peer expected;
    } rows[] = {
        {{[10] = 0xff, 0xff, 10, 0, 0, 1}, {[10] = 0xff, 0xff, 10, 0, 0, 1}, TRIAGE_PEER_FORGOTTEN},
        {{[10] = 0xff, 0xff, 127, 0, 0, 1}, {[10] = 0xff, 0xff, 127, 9, 9, 9}, TRIAGE_PEER_FORGOTTEN},
        {{0xfd, [15] = 1}, {[15] = 1}, TRIAGE_PEER_FORGOTTEN},
        {{[10] = 0xff, 0xff, 10, 0, 0, 1}, {[10] = 0xff, 0xff, 10, 0, 0, 2}, TRIAGE_PEER_REMOTE},
        {{0xfd, [15] = 1}, {0xfd, [15] = 2}, TRIAGE_PEER_REMOTE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct diag_row row = leak_row(1, 7, 0);
        memcpy(row.id.local.host, rows[i].local, sizeof row.id.local.host);
        memcpy(row.id.remote.host, rows[i].remote, sizeof row.id.remote.host);
        struct triage triage = triage_of(&row, 1, NULL, 0);
        assert_int_equal(triage.leaks[0].peer, rows[i].expected);
        triage_clear(&triage);
    }
}

static void every_word_is_there(void **state)
{
    (void)state;
    for (enum triage_cause c = 0; c < TRIAGE_CAUSE_COUNT; c++)
        assert_true(strlen(triage_cause_name(c)) > 0 && strlen(triage_cause_text(c)) > 10);
    for (enum triage_peer p = 0; p < TRIAGE_PEER_COUNT; p++)
        assert_true(strlen(triage_peer_name(p)) > 0 && strlen(triage_peer_text(p)) > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cause_is_in_inode_and_receive_queue),
        cmocka_unit_test(only_close_wait_has_a_cause),
        cmocka_unit_test(a_peer_on_this_host_tells_close_from_half_close),
        cmocka_unit_test(without_a_listener_it_is_the_client_side),
        cmocka_unit_test(a_listener_serves_its_own_address_only),
        cmocka_unit_test(the_listener_on_just_the_address_is_found_before_one_on_any),
        cmocka_unit_test(a_row_that_came_twice_counts_once),
        cmocka_unit_test(what_an_earlier_dump_knew_is_carried_over_by_cookie),
        cmocka_unit_test(acknowledged_bytes_are_progress_and_make_it_young_again),
        cmocka_unit_test(an_age_is_exact_only_if_nothing_can_have_reset_it),
        cmocka_unit_test(a_dump_that_starts_again_is_not_counted_twice),
        cmocka_unit_test(many_rows_are_all_found_again),
        cmocka_unit_test(a_row_without_memory_is_an_error_and_costs_no_other),
        cmocka_unit_test(a_peer_that_this_hosts_kernel_forgot_is_told_from_a_remote_one),
        cmocka_unit_test(every_word_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
