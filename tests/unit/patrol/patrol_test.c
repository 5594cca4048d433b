#include "tests/unit/cmocka.h"

#include "proxy/patrol/patrol.h"
#include "reaper/kernel/netlink.h"
#include "tests/unit/faults.h"
#include "tests/unit/sockets.h"

#include <netdb.h>
#include <stdatomic.h>
#include <uv.h>

/* ---- a kernel whose dumps have no end, and a name service that says nothing -----------------------------
 * */

int __wrap_netlink_dump(struct netlink *netlink, const struct diag_filter *filter,
                        const struct netlink_sink *sink);
int __wrap_uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb done,
                          const char *node, const char *service, const struct addrinfo *hints);

static atomic_bool endless;
static atomic_uint dumps, given_up, lookups;

/* Rows of other ports, for as long as somebody takes them: a minute at most. */
int __wrap_netlink_dump(struct netlink *netlink, const struct diag_filter *filter,
                        const struct netlink_sink *sink)
{
    const struct diag_row row = {.state = DIAG_CLOSE_WAIT, .id.local.port = 1};
    (void)netlink;
    (void)filter;
    atomic_fetch_add(&dumps, 1);
    for (int ms = 0; atomic_load(&endless) && ms < 60000; ms++) {
        int error = sink->row(sink->context, &row);
        if (error) {
            atomic_fetch_add(&given_up, 1);
            return error;
        }
        pause_ms(1);
    }
    return 0;
}

static void never(uv_work_t *work)
{
    (void)work;
    pause_ms(900);
}

int __wrap_uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb done,
                          const char *node, const char *service, const struct addrinfo *hints)
{
    static uv_work_t work; /* outlives the loop's owner, as libuv's own request does */
    (void)request;
    (void)done;
    (void)service;
    (void)hints;
    assert_string_equal(node, "service");
    assert_int_equal(uv_queue_work(loop, &work, never, NULL), 0);
    atomic_fetch_add(&lookups, 1);
    return 0;
}

static bool dumping(void *context)
{
    return atomic_load(&dumps) >= *(unsigned *)context;
}

static bool looking_up(void *context)
{
    (void)context;
    return atomic_load(&lookups) > 0;
}

static struct log *lines;

static int log_start(void **state)
{
    char nowhere[] = "/dev/null";
    const struct conf_log conf = {.target = nowhere};
    (void)state;
    return log_open(&conf, &lines);
}

static int log_end(void **state)
{
    (void)state;
    log_close(lines);
    return 0;
}

static const struct conf_reaper one_port = {
    .ports = {80}, .port_count = 1, .action = LADDER_REPORT, .interval_ms = 10};

static int reset(void **state)
{
    (void)state;
    atomic_store(&endless, false);
    atomic_store(&dumps, 0);
    atomic_store(&given_up, 0);
    return 0;
}

static void it_looks_again_and_again(void **state)
{
    const struct conf conf = {.reaper = one_port};
    struct patrol *patrol;
    unsigned three = 3;
    (void)state;
    assert_int_equal(patrol_start(&conf, log_ring(lines), &patrol), 0);
    wait_until(dumping, &three);
    assert_true(patrol_stop(patrol));
}

/* Neither who starts it nor who stops it, the thread that hears SIGTERM, waits for a dump. */
static void nobody_waits_for_a_dump(void **state)
{
    const struct conf conf = {.reaper = one_port};
    struct patrol *patrol;
    unsigned one = 1;
    (void)state;
    atomic_store(&endless, true);
    assert_int_equal(patrol_start(&conf, log_ring(lines), &patrol), 0);
    wait_until(dumping, &one);
    assert_int_equal(atomic_load(&given_up), 0);
    assert_true(patrol_stop(patrol));
    assert_int_equal(atomic_load(&given_up), 1); /* and not at its end, a minute later */
}

static void nothing_to_watch_is_no_thread(void **state)
{
    const struct conf conf = {.reaper = {.interval_ms = 10}};
    struct patrol *patrol;
    (void)state;
    assert_int_equal(patrol_start(&conf, log_ring(lines), &patrol), 0);
    assert_null(patrol);
    assert_true(patrol_stop(patrol));
}

static void what_keeps_it_from_starting_is_told(void **state)
{
    static const enum fault_site sites[] = {FAULT_MEMORY, FAULT_SOCKET, FAULT_THREAD};
    const struct conf conf = {.reaper = one_port};
    struct patrol *patrol;
    (void)state;
    assert_int_equal(patrol_start(&conf, log_ring(lines), &patrol), 0);
    assert_true(patrol_stop(patrol));
    for (size_t i = 0; i < sizeof sites / sizeof sites[0]; i++) {
        int fds = count_descriptors(); /* libuv opens some of its own once, for the first loop of a process */
        struct log_ring *ring = log_ring(lines);
        fault_arm(sites[i], FAULT_MINE, sites[i] == FAULT_SOCKET ? EPROTONOSUPPORT : ENOMEM, 1, 1);
        assert_true(patrol_start(&conf, ring, &patrol) < 0);
        assert_int_equal(fault_disarm(), 1);
        assert_null(patrol);
        assert_int_equal(count_descriptors(), fds);
    }
}

static void nobody_waits_for_a_name_service(void **state)
{
    char name[] = "service";
    struct conf_server server = {.host = name, .port = 80};
    struct conf_backend backend = {.servers = &server, .server_count = 1};
    const struct conf conf = {
        .reaper = {.backends = true, .interval_ms = 10}, .backends = &backend, .backend_count = 1};
    struct patrol *patrol;
    (void)state;
    assert_int_equal(patrol_start(&conf, log_ring(lines), &patrol), 0);
    wait_until(looking_up, NULL);
    assert_false(patrol_stop(patrol)); /* and its memory stays */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(it_looks_again_and_again, reset),
        cmocka_unit_test_setup(nobody_waits_for_a_dump, reset),
        cmocka_unit_test_setup(nothing_to_watch_is_no_thread, reset),
        cmocka_unit_test_setup(what_keeps_it_from_starting_is_told, reset),
        cmocka_unit_test_setup(nobody_waits_for_a_name_service, reset),
    };
    return cmocka_run_group_tests(tests, log_start, log_end);
}
