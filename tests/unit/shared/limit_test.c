#include "tests/unit/cmocka.h"

#include "proxy/shared/limit.h"

/* The process's. */
static struct limit limit;

static void allow(uint64_t sessions)
{
    limit = (struct limit){.max = sessions * LIMIT_SESSION};
}

static const struct conf_frontend waits = {.max_connections = 2, .mode = CONF_MODE_HTTP};
static const struct conf_frontend refuses = {
    .max_connections = 2, .mode = CONF_MODE_HTTP, .http.over_limit = CONF_OVER_LIMIT_REFUSE};

/* As a listener does with a connection that is there. */
static enum place admit(struct frontend *frontend)
{
    enum place place = limit_take_place(&limit, frontend);
    return place == PLACE_NONE ? place : limit_settle_place(&limit, frontend, place);
}

static void expect_counts(const struct frontend *frontend, uint64_t served, uint64_t surplus, uint64_t left)
{
    assert_int_equal(frontend->sessions, served);
    assert_int_equal(frontend->surplus, surplus);
    assert_int_equal(limit.max - limit.taken, left * LIMIT_SESSION);
}

static void those_beyond_the_limit_wait(void **state)
{
    (void)state;
    struct frontend frontend = {.conf = &waits};
    allow(10);
    assert_int_equal(admit(&frontend), PLACE_SERVED);
    assert_int_equal(admit(&frontend), PLACE_SERVED);
    assert_int_equal(admit(&frontend), PLACE_NONE);
    expect_counts(&frontend, 2, 0, 8);
    limit_give_back_place(&limit, &frontend, PLACE_SERVED);
    assert_int_equal(admit(&frontend), PLACE_SERVED);
    expect_counts(&frontend, 2, 0, 8);
}

static void a_frontend_that_refuses_has_a_bounded_surplus(void **state)
{
    (void)state;
    struct frontend frontend = {.conf = &refuses, .surplus_max = CONF_SURPLUS_MAX};
    allow(10);
    assert_int_equal(admit(&frontend), PLACE_SERVED);
    assert_int_equal(admit(&frontend), PLACE_SERVED);
    for (int i = 0; i < CONF_SURPLUS_MAX; i++)
        assert_int_equal(admit(&frontend), PLACE_SURPLUS);
    assert_int_equal(admit(&frontend), PLACE_NONE);
    expect_counts(&frontend, 2, CONF_SURPLUS_MAX, 8);
}

static void a_full_surplus_keeps_nobody_from_being_served(void **state)
{
    (void)state;
    struct frontend frontend = {.conf = &refuses, .surplus_max = CONF_SURPLUS_MAX, .sessions = 2};
    allow(12);
    limit_take_open(&limit, 2 * LIMIT_SESSION);
    for (int i = 0; i < CONF_SURPLUS_MAX; i++)
        assert_int_equal(admit(&frontend), PLACE_SURPLUS);
    limit_give_back_place(&limit, &frontend, PLACE_SERVED);
    assert_int_equal(admit(&frontend), PLACE_SERVED);
    assert_int_equal(admit(&frontend), PLACE_NONE);
    limit_give_back_place(&limit, &frontend, PLACE_SURPLUS);
    assert_int_equal(admit(&frontend), PLACE_SURPLUS);
    expect_counts(&frontend, 2, CONF_SURPLUS_MAX, 10);
}

static void a_look_at_an_empty_backlog_has_nobody_refused(void **state)
{
    (void)state;
    struct frontend frontend = {.conf = &refuses, .surplus_max = CONF_SURPLUS_MAX, .sessions = 1};
    allow(10);
    enum place looking = limit_take_place(&limit, &frontend);
    assert_int_equal(admit(&frontend), PLACE_SERVED);
    limit_give_back_place(&limit, &frontend, looking);
    expect_counts(&frontend, 2, 0, 9);
}

static void who_finds_no_descriptors_is_refused_or_waits(void **state)
{
    (void)state;
    struct frontend refusing = {.conf = &refuses, .surplus_max = CONF_SURPLUS_MAX};
    struct frontend waiting = {.conf = &waits};
    allow(0);
    assert_int_equal(admit(&refusing), PLACE_SURPLUS);
    assert_int_equal(admit(&waiting), PLACE_NONE);
    expect_counts(&refusing, 0, 1, 0);
    expect_counts(&waiting, 0, 0, 0);
}

static void mode_tcp_has_no_surplus(void **state)
{
    (void)state;
    struct conf_frontend conf = refuses;
    assert_int_equal(conf_surplus(&conf), CONF_SURPLUS_MAX);
    conf.mode = CONF_MODE_TCP;
    assert_int_equal(conf_surplus(&conf), 0);
    assert_int_equal(conf_surplus(&waits), 0);
}

static void without_a_limit_descriptors_are_the_limit(void **state)
{
    (void)state;
    static const struct conf_frontend unlimited = {.mode = CONF_MODE_TCP};
    struct frontend frontend = {.conf = &unlimited};
    allow(100);
    for (int i = 0; i < 100; i++)
        assert_int_equal(admit(&frontend), PLACE_SERVED);
    assert_int_equal(admit(&frontend), PLACE_NONE);
    expect_counts(&frontend, 100, 0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(those_beyond_the_limit_wait),
        cmocka_unit_test(a_frontend_that_refuses_has_a_bounded_surplus),
        cmocka_unit_test(a_full_surplus_keeps_nobody_from_being_served),
        cmocka_unit_test(a_look_at_an_empty_backlog_has_nobody_refused),
        cmocka_unit_test(who_finds_no_descriptors_is_refused_or_waits),
        cmocka_unit_test(mode_tcp_has_no_surplus),
        cmocka_unit_test(without_a_limit_descriptors_are_the_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
