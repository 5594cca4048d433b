#include "tests/unit/cmocka.h"

#include "reaper/kernel/diagnosis.h"

#include <stdio.h>
#include <string.h>

static const struct owner_process sleeping = {.pid = 7, .program = "app", .state = 'S', .threads = 4};
static const struct owner_process stopped = {.pid = 7, .program = "app", .state = 'T', .threads = 4};
static const struct owner_process blocked = {
    .pid = 7, .program = "app", .state = 'S', .threads = 4, .blocked_threads = 3, .wchan = "nfs_wait"};

static const struct owner_process halted = {
    .pid = 7, .program = "app", .state = 'D', .threads = 4, .blocked_threads = 4};

static struct evidence evidence_of(enum triage_cause cause, size_t count)
{
    struct evidence e = {.seconds = 3, .close_wait = count, .oldest_ms = 60000};
    e.owner = &sleeping;
    e.owner_count = count;
    e.by_cause[cause] = e.owner_by_cause[cause] = count;
    return e;
}

static void queue(struct evidence *e, uint32_t used, uint32_t size, uint32_t used_before)
{
    e->backlog_used = used;
    e->backlog_size = size;
    e->backlog_used_before = used_before;
}

static enum diagnosis first(const struct evidence *evidence)
{
    struct verdict verdicts[DIAGNOSIS_COUNT];
    assert_true(diagnose(evidence, verdicts) >= 1);
    return verdicts[0].diagnosis;
}

static bool says(const struct evidence *evidence, const char *words)
{
    struct verdict verdicts[DIAGNOSIS_COUNT];
    size_t count = diagnose(evidence, verdicts);
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < verdicts[i].line_count; k++)
            if (strstr(verdicts[i].line[k], words))
                return true;
    return false;
}

static void without_leaks_there_is_nothing(void **state)
{
    (void)state;
    const struct evidence e = {.seconds = 1, .established = 12};
    assert_int_equal(first(&e), DIAGNOSIS_NOTHING);
}

static void each_cause_has_its_diagnosis(void **state)
{
    (void)state;
    static const enum diagnosis expected[TRIAGE_CAUSE_COUNT] = {
        [TRIAGE_READ_EOF] = DIAGNOSIS_PROGRAM,
        [TRIAGE_EOF_UNREAD] = DIAGNOSIS_STUCK,
        [TRIAGE_DATA_UNREAD] = DIAGNOSIS_STUCK,
        [TRIAGE_NEVER_ACCEPTED] = DIAGNOSIS_STUCK,
    };
    for (enum triage_cause cause = TRIAGE_READ_EOF; cause < TRIAGE_CAUSE_COUNT; cause++) {
        const struct evidence e = evidence_of(cause, 5);
        assert_int_equal(first(&e), expected[cause]);
    }
}

static void what_explains_most_comes_first(void **state)
{
    (void)state;
    struct verdict verdicts[DIAGNOSIS_COUNT];
    struct evidence e = evidence_of(TRIAGE_READ_EOF, 5);
    e.close_wait = 13;
    e.by_cause[TRIAGE_EOF_UNREAD] = 8;
    assert_int_equal(diagnose(&e, verdicts), 2);
    assert_int_equal(verdicts[0].diagnosis, DIAGNOSIS_STUCK);
    assert_int_equal(verdicts[1].diagnosis, DIAGNOSIS_PROGRAM);
}

static void a_stopped_process_is_no_load(void **state)
{
    (void)state;
    struct evidence e = evidence_of(TRIAGE_NEVER_ACCEPTED, 9);
    queue(&e, 90, 100, 10);
    e.queue_left = 3; /* until it was stopped */
    e.overflows = 100;
    assert_int_equal(first(&e), DIAGNOSIS_LOAD);
    e.owner = &stopped;
    assert_int_equal(first(&e), DIAGNOSIS_STUCK);
    assert_true(says(&e, "SIGCONT"));
    e.owner = &halted;
    assert_int_equal(first(&e), DIAGNOSIS_STUCK);
    assert_true(says(&e, "4 of the 4 threads of app (pid 7) are blocked"));
}

static void blocked_threads_and_where_they_wait_are_told(void **state)
{
    (void)state;
    struct evidence e = evidence_of(TRIAGE_EOF_UNREAD, 9);
    e.owner = &blocked;
    assert_true(says(&e, "3 of the 4 threads of app (pid 7) are blocked"));
    assert_false(says(&e, "waits in nfs_wait")); /* of four threads the first says little */
}

static void a_runtime_parks_its_main_thread_and_that_says_nothing(void **state)
{
    (void)state;
    static const struct owner_process parked = {
        .pid = 7, .program = "java", .state = 'S', .threads = 1, .wchan = "futex_do_wait"};
    char next[256];
    struct evidence e = evidence_of(TRIAGE_EOF_UNREAD, 9);
    e.owner = &parked;
    assert_true(says(&e, "waits in futex_do_wait"));
    e.owner_runtime = RUNTIME_JVM;
    assert_false(says(&e, "futex_do_wait"));
    diagnosis_next(&e, DIAGNOSIS_STUCK, next, sizeof next);
    assert_int_equal(strncmp(next, "jstack 7", 8), 0);
    e.others_known = true;
    e.accepted = 1; /* it serves others: not stuck */
    assert_int_equal(first(&e), DIAGNOSIS_FORGOTTEN);
}

static void what_is_not_known_of_other_hosts_is_said(void **state)
{
    (void)state;
    char next[256];
    struct evidence e = evidence_of(TRIAGE_READ_EOF, 9);
    e.port = 80;
    diagnosis_next(&e, DIAGNOSIS_PROGRAM, next, sizeof next);
    assert_string_equal(next, "lastack reap --port 80 --older-than 2m --action finish");
    e.far = 3;
    assert_true(says(&e, "The peers of 3 are on other hosts"));
    diagnosis_next(&e, DIAGNOSIS_PROGRAM, next, sizeof next);
    assert_string_equal(next, "lastack reap --port 80 --older-than 2m");
    e.waiting[TRIAGE_READ_EOF] = 9;
    assert_int_equal(first(&e), DIAGNOSIS_WAITING);
    diagnosis_next(&e, DIAGNOSIS_WAITING, next, sizeof next);
    assert_null(strstr(next, "reap"));
}

static void every_query_is_ended_by_its_pid(void **state)
{
    (void)state;
    char next[256];
    struct evidence e = evidence_of(TRIAGE_EOF_UNREAD, 2);
    e.query_sockets = 2;
    e.querying[e.querying_count++] = 11;
    e.querying[e.querying_count++] = 12;
    assert_int_equal(first(&e), DIAGNOSIS_QUERY);
    diagnosis_next(&e, DIAGNOSIS_QUERY, next, sizeof next);
    assert_string_equal(next, "psql -c 'SELECT pg_terminate_backend(11), pg_terminate_backend(12)'");
}

static void growth_is_held_against_the_load(void **state)
{
    (void)state;
    struct evidence e = evidence_of(TRIAGE_READ_EOF, 9);
    e.came = 6;
    e.went = 1;
    e.established = e.established_before = 100;
    assert_true(says(&e, "6 came and 1 went within 3 s"));
    assert_true(says(&e, "it is not the load that grows"));
    e.established = 200;
    assert_false(says(&e, "it is not the load that grows"));
    e.came = 1;
    assert_true(says(&e, "did not become more"));
}

static void a_full_backlog_is_load_without_a_single_leak(void **state)
{
    (void)state;
    struct evidence e = {.seconds = 1, .port = 80};
    queue(&e, 80, 100, 80);
    assert_int_equal(first(&e), DIAGNOSIS_LOAD);
    assert_true(says(&e, "The accept queue of port 80 holds 80 of 100"));
    queue(&e, 79, 100, 79);
    assert_int_equal(first(&e), DIAGNOSIS_NOTHING);
    queue(&e, 20, 100, 19); /* a fifth, and it grows */
    assert_int_equal(first(&e), DIAGNOSIS_LOAD);
    queue(&e, 19, 100, 1);
    assert_int_equal(first(&e), DIAGNOSIS_NOTHING);
    queue(&e, 0, 0, 0); /* nobody listens */
    assert_int_equal(first(&e), DIAGNOSIS_NOTHING);
}

static void a_queue_that_nothing_leaves_is_no_load_however_full(void **state)
{
    (void)state;
    struct evidence e = evidence_of(TRIAGE_NEVER_ACCEPTED, 101);
    queue(&e, 101, 100, 50);
    assert_int_equal(first(&e), DIAGNOSIS_STUCK);
    assert_true(says(&e, "None of them left the queue within 3 s"));
    assert_false(says(&e, "EOF that was never read"));
    e.queue_left = 1;
    assert_int_equal(first(&e), DIAGNOSIS_LOAD);
    assert_true(says(&e, "1 left the queue"));
}

static void a_few_in_a_queue_that_is_near_empty_are_no_load(void **state)
{
    (void)state;
    struct evidence e = evidence_of(TRIAGE_NEVER_ACCEPTED, 3);
    queue(&e, 3, 4096, 2);
    assert_int_equal(first(&e), DIAGNOSIS_STUCK);
    e.queue_left = 2;
    assert_int_equal(first(&e), DIAGNOSIS_STUCK);
    assert_true(says(&e, "holds 3 of 4096"));
}

static void what_other_services_overflow_is_not_held_against_this_one(void **state)
{
    (void)state;
    struct evidence e = {.seconds = 1, .port = 80, .overflows = 1000};
    queue(&e, 1, 100, 0);
    assert_int_equal(first(&e), DIAGNOSIS_NOTHING);
    e = evidence_of(TRIAGE_READ_EOF, 5);
    e.overflows = 1000;
    queue(&e, 1, 100, 0);
    assert_int_equal(first(&e), DIAGNOSIS_PROGRAM);
    assert_false(says(&e, "1000 connections"));
    queue(&e, 100, 100, 100); /* then they may be its own */
    assert_true(says(&e, "1000 connections found a full queue within 3 s, on all ports of this host"));
}

static void a_longer_queue_helps_a_burst_and_nothing_else(void **state)
{
    (void)state;
    struct evidence e = {.seconds = 1, .port = 80};
    char text[DIAGNOSIS_LINE];
    size_t count;
    const struct remedy *rows = remedies(&count);
    while (strcmp(rows->name, "somaxconn") != 0)
        rows++;
    queue(&e, 100, 100, 100);
    rows->helps(&e, DIAGNOSIS_LOAD, text);
    assert_int_equal(strncmp(text, "Partly. Bursts", 14), 0);
    e.by_cause[TRIAGE_NEVER_ACCEPTED] = 50; /* their clients have given up already */
    rows->helps(&e, DIAGNOSIS_LOAD, text);
    assert_int_equal(strncmp(text, "No. A longer queue", 18), 0);
    rows->helps(&e, DIAGNOSIS_STUCK, text);
    assert_int_equal(strncmp(text, "No. It does nothing", 19), 0);
}

static void what_this_host_opened_may_be_a_pool(void **state)
{
    (void)state;
    struct evidence e = evidence_of(TRIAGE_READ_EOF, 5);
    assert_false(says(&e, "This host opened them"));
    e.client_side = true;
    assert_true(says(&e, "This host opened them"));
}

static void a_client_is_accused_only_with_most_of_many(void **state)
{
    (void)state;
    struct evidence e = evidence_of(TRIAGE_READ_EOF, 20);
    snprintf(e.network, sizeof e.network, "192.0.2.0/24");
    e.network_count = 12;
    e.zero_bytes = 20;
    assert_true(says(&e, "come from 192.0.2.0/24"));
    e.network_count = 11;
    assert_false(says(&e, "come from"));
    e.network_count = 20;
    assert_true(says(&e, "20 of them closed without"));
    /* Silent or not, it may be a gateway, and a program that closes would not leak: never the headline. */
    assert_int_equal(first(&e), DIAGNOSIS_PROGRAM);
    e.network_is_loopback = true;
    assert_false(says(&e, "come from"));
}

static void no_line_overflows_with_the_largest_numbers(void **state)
{
    (void)state;
    struct owner_process process = {
        .pid = INT32_MAX, .state = 'S', .threads = UINT32_MAX, .blocked_threads = 1};
    struct evidence e;
    memset(&e, 0x7f, sizeof e);
    memset(process.program, 'p', sizeof process.program - 1);
    memset(process.wchan, 'w', sizeof process.wchan - 1);
    memset(e.network, '1', sizeof e.network);
    e.network[sizeof e.network - 1] = '\0';
    e.network_is_loopback = false;
    e.client_side = e.others_known = e.upstream_here = true;
    memset(process.command, 'c', sizeof process.command - 1);
    memset(process.service, 's', sizeof process.service - 1);
    e.owner = e.waiter = &process;
    e.upstream_owner = process;
    e.owner_runtime = RUNTIME_NATIVE;
    e.stopped_count = e.querying_count = EVIDENCE_PIDS;
    struct verdict verdicts[DIAGNOSIS_COUNT];
    size_t count = diagnose(&e, verdicts);
    assert_true(count > 0 && count < DIAGNOSIS_COUNT);
    for (enum diagnosis d = 0; d < DIAGNOSIS_COUNT; d++) {
        char next[64];
        diagnosis_next(&e, d, next, sizeof next);
        assert_true(strlen(next) < sizeof next);
    }
}

static void every_remedy_is_judged_for_every_diagnosis(void **state)
{
    (void)state;
    size_t count;
    const struct remedy *rows = remedies(&count);
    for (size_t i = 0; i < count; i++) {
        for (enum diagnosis d = 0; d < DIAGNOSIS_COUNT; d++) {
            struct evidence e = evidence_of(TRIAGE_NEVER_ACCEPTED, 9);
            char text[DIAGNOSIS_LINE] = "";
            e.owner_files_limit = 1024;
            rows[i].helps(&e, d, text);
            assert_true(strncmp(text, "No. ", 4) == 0 || strncmp(text, "Partly. ", 8) == 0);
        }
    }
}

static void keepalive_helps_those_that_have_it(void **state)
{
    (void)state;
    size_t count;
    const struct remedy *rows = remedies(&count);
    struct evidence e = evidence_of(TRIAGE_READ_EOF, 9);
    char text[DIAGNOSIS_LINE];
    e.with_keepalive = 4;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(rows[i].name, "tcp_keepalive", 13) != 0)
            continue;
        rows[i].helps(&e, DIAGNOSIS_PROGRAM, text);
        assert_int_equal(strncmp(text, "Partly. 4 of 9", 14), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_leaks_there_is_nothing),
        cmocka_unit_test(each_cause_has_its_diagnosis),
        cmocka_unit_test(what_explains_most_comes_first),
        cmocka_unit_test(a_stopped_process_is_no_load),
        cmocka_unit_test(blocked_threads_and_where_they_wait_are_told),
        cmocka_unit_test(a_runtime_parks_its_main_thread_and_that_says_nothing),
        cmocka_unit_test(what_is_not_known_of_other_hosts_is_said),
        cmocka_unit_test(every_query_is_ended_by_its_pid),
        cmocka_unit_test(growth_is_held_against_the_load),
        cmocka_unit_test(a_full_backlog_is_load_without_a_single_leak),
        cmocka_unit_test(a_queue_that_nothing_leaves_is_no_load_however_full),
        cmocka_unit_test(a_few_in_a_queue_that_is_near_empty_are_no_load),
        cmocka_unit_test(what_other_services_overflow_is_not_held_against_this_one),
        cmocka_unit_test(a_longer_queue_helps_a_burst_and_nothing_else),
        cmocka_unit_test(what_this_host_opened_may_be_a_pool),
        cmocka_unit_test(a_client_is_accused_only_with_most_of_many),
        cmocka_unit_test(no_line_overflows_with_the_largest_numbers),
        cmocka_unit_test(every_remedy_is_judged_for_every_diagnosis),
        cmocka_unit_test(keepalive_helps_those_that_have_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
