#include "tests/unit/cmocka.h"

#include "proxy/server/health.h"

#include <errno.h>
#include <string.h>

static struct health_pool among;

static const struct conf_backend conf = {
    .set_aside_ms = 1000, .set_aside_max_ms = 30000, .rise = 2, .fall = 3};

static struct conf_address address_of(uint16_t port)
{
    struct conf_address address = {.address.ss_family = 2, .length = 16};
    memcpy((char *)&address.address + 2, &port, sizeof port);
    return address;
}

/* ---- pools -------------------------------------------------------------------------------------------- */

static void workers_that_join_an_address_share_what_is_known(void **state)
{
    struct health_pool pool;
    struct conf_address one = address_of(1), other = address_of(2);
    (void)state;
    health_pool_init(&pool);
    struct health *first = health_join(&pool, &one), *second = health_join(&pool, &one),
                  *third = health_join(&pool, &other);
    assert_ptr_equal(first, second);
    assert_ptr_not_equal(first, third);
    assert_int_equal(health_failed(first, &conf, 5000), 1000);
    assert_int_equal(health_due_ms(second, 5000), 6000);
    assert_int_equal(health_due_ms(third, 5000), 0);
    health_leave(first);
    assert_int_equal(health_due_ms(second, 5000), 6000); /* the other one still holds it */
    health_leave(second);
    second = health_join(&pool, &one);
    assert_int_equal(health_due_ms(second, 5000), 0); /* forgotten with the last */
    health_leave(third);
    health_leave(second);
    health_pool_free(&pool);
}

/* As the path of one unix socket may begin like another's. */
static void an_address_that_begins_like_another_is_another(void **state)
{
    struct health_pool pool;
    struct conf_address one = address_of(1), shorter = one;
    (void)state;
    shorter.length -= 4;
    health_pool_init(&pool);
    struct health *first = health_join(&pool, &one), *second = health_join(&pool, &shorter);
    assert_ptr_not_equal(first, second);
    health_leave(first);
    health_leave(second);
    health_pool_free(&pool);
}

/* ---- connecting --------------------------------------------------------------------------------------- */

static void a_server_is_due_until_it_fails_and_again_when_its_time_is_over(void **state)
{
    struct health health = {.pool = &among};
    (void)state;
    assert_int_equal(health_due_ms(&health, 7), 0);
    assert_int_equal(health_failed(&health, &conf, 7), 1000);
    assert_int_equal(health_due_ms(&health, 7), 1007);
    assert_int_equal(health_due_ms(&health, 1006), 1007);
    assert_int_equal(health_due_ms(&health, 1007), 0);
}

static void each_further_failure_doubles_up_to_the_most(void **state)
{
    static const uint64_t expected[] = {1000, 2000, 4000, 8000, 16000, 30000, 30000};
    struct health health = {.pool = &among};
    uint64_t now_ms = 1;
    (void)state;
    for (size_t i = 0; i < 200; i++) { /* the count of failures is bounded too */
        uint64_t for_ms = health_failed(&health, &conf, now_ms);
        assert_int_equal(for_ms, expected[i < 6 ? i : 6]);
        now_ms += for_ms;
        assert_int_equal(health_due_ms(&health, now_ms), 0);
    }
}

static void a_success_clears_the_history(void **state)
{
    struct health health = {.pool = &among};
    (void)state;
    health_failed(&health, &conf, 0);
    assert_int_equal(health_failed(&health, &conf, 1000), 2000);
    health_succeeded(&health);
    assert_int_equal(health_due_ms(&health, 1000), 0);
    assert_int_equal(health_failed(&health, &conf, 1000), 1000);
}

static void what_was_under_way_when_it_was_set_aside_counts_once(void **state)
{
    struct health health = {.pool = &among};
    (void)state;
    assert_int_equal(health_failed(&health, &conf, 0), 1000);
    for (uint64_t now_ms = 0; now_ms < 1000; now_ms++)
        assert_int_equal(health_failed(&health, &conf, now_ms), 0);
    assert_int_equal(health_due_ms(&health, 999), 1000); /* nor is it prolonged */
}

static void one_session_at_a_time_tries_a_server_that_is_due(void **state)
{
    struct health health = {.pool = &among};
    (void)state;
    health_failed(&health, &conf, 0);
    assert_int_equal(health_failed(&health, &conf, 1000), 2000);
    health_try(&health, &conf, 2999); /* for want of a better one: it is not due yet */
    assert_int_equal(health_due_ms(&health, 2999), 3000);
    health_try(&health, &conf, 3000);
    assert_int_equal(health_due_ms(&health, 3000), 5000); /* for as long as the last time */
    /* An attempt of which nobody hears holds it up no longer. */
    assert_int_equal(health_due_ms(&health, 5000), 0);
    health_try(&health, &conf, 5000);
    assert_int_equal(health_failed(&health, &conf, 5001), 4000); /* it counts, for it was made to find out */
    assert_int_equal(health_due_ms(&health, 5001), 9001);
    health_try(&health, &conf, 9001);
    health_succeeded(&health);
    assert_int_equal(health_due_ms(&health, 9001), 0);
    health_try(&health, &conf, 9001); /* without a failure there is nothing to find out */
    assert_int_equal(health_due_ms(&health, 9001), 0);
}

static void off_sets_nobody_aside_and_the_most_bounds_the_first(void **state)
{
    struct health health = {.pool = &among};
    struct conf_backend off = conf, most = conf;
    (void)state;
    off.set_aside_ms = DEADLINE_OFF;
    assert_int_equal(health_failed(&health, &off, 0), 0);
    assert_int_equal(health_due_ms(&health, 0), 0);
    most.set_aside_max_ms = 300;
    assert_int_equal(health_failed(&health, &most, 0), 300);
    assert_int_equal(health_failed(&health, &most, 300), 300);
}

static void what_we_lack_is_no_failure_of_the_server(void **state)
{
    static const int ours[] = {EMFILE, ENFILE, ENOMEM, ENOBUFS, ENOSPC, EADDRNOTAVAIL};
    static const int theirs[] = {ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH,
                                 ECONNRESET,   ENOENT,    EAGAIN,       EACCES};
    (void)state;
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        assert_false(health_is_servers(-ours[i]));
    for (size_t i = 0; i < sizeof theirs / sizeof theirs[0]; i++)
        assert_true(health_is_servers(-theirs[i]));
}

/* ---- checks ------------------------------------------------------------------------------------------- */

/* Results as letters: g good, b bad; and of each whether it changed something: d down, u up, '.' nothing. */
static void check(struct health *health, const char *results, const char *changes)
{
    for (size_t i = 0; results[i]; i++) {
        bool changed = health_checked(health, results[i] == 'g', &conf);
        bool down = health_due_ms(health, 0) == HEALTH_DOWN;
        char change = '.';
        if (changed)
            change = down ? 'd' : 'u';
        if (change != changes[i])
            fail_msg("result %zu of %s: %c instead of %c", i, results, change, changes[i]);
    }
}

static void so_many_results_in_a_row_take_a_server_down_and_up(void **state)
{
    struct health health = {.pool = &among};
    (void)state;
    check(&health, "gbbgbbgbbb", ".........d");
    check(&health, "bbgbgbgbgg", ".........u");
    check(&health, "bbb", "..d");
}

static void down_by_checks_is_for_the_end_whatever_sessions_find(void **state)
{
    struct health health = {.pool = &among};
    (void)state;
    check(&health, "bbb", "..d");
    health_succeeded(&health);
    assert_true(health_due_ms(&health, 0) == HEALTH_DOWN);
    health_failed(&health, &conf, 0);
    check(&health, "gg", ".u");
    assert_int_equal(health_due_ms(&health, 0), 1000); /* what sessions found holds for them */
}

/* Whoever has looked at all servers need not look again before the count differs. */
static void what_changes_is_counted_and_nothing_else(void **state)
{
    struct health health = {.pool = &among};
    uint64_t before = health_changes(&among);
    (void)state;
    assert_false(health_succeeded(&health));
    health_try(&health, &conf, 1000);
    assert_false(health_checked(&health, true, &conf));
    assert_int_equal(health_changes(&among), before);
    assert_true(health_failed(&health, &conf, 1000) > 0);
    assert_int_equal(health_changes(&among), before + 1);
    assert_int_equal(health_failed(&health, &conf, 1000), 0);
    assert_int_equal(health_changes(&among), before + 1);
    health_try(&health, &conf, 100000000);
    assert_int_equal(health_changes(&among), before + 2);
    assert_true(health_succeeded(&health));
    assert_int_equal(health_changes(&among), before + 3);
    while (!health_checked(&health, false, &conf))
        assert_int_equal(health_changes(&among), before + 3);
    assert_int_equal(health_changes(&among), before + 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_changes_is_counted_and_nothing_else),
        cmocka_unit_test(workers_that_join_an_address_share_what_is_known),
        cmocka_unit_test(an_address_that_begins_like_another_is_another),
        cmocka_unit_test(a_server_is_due_until_it_fails_and_again_when_its_time_is_over),
        cmocka_unit_test(each_further_failure_doubles_up_to_the_most),
        cmocka_unit_test(a_success_clears_the_history),
        cmocka_unit_test(what_was_under_way_when_it_was_set_aside_counts_once),
        cmocka_unit_test(one_session_at_a_time_tries_a_server_that_is_due),
        cmocka_unit_test(off_sets_nobody_aside_and_the_most_bounds_the_first),
        cmocka_unit_test(what_we_lack_is_no_failure_of_the_server),
        cmocka_unit_test(so_many_results_in_a_row_take_a_server_down_and_up),
        cmocka_unit_test(down_by_checks_is_for_the_end_whatever_sessions_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
