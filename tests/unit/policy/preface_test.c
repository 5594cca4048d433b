#include "tests/unit/policy/bed.h"

/* What stands before the first byte: a PROXY header, or just a byte. */

static void prefaced(struct bed *bed)
{
    connecting(bed, 0);
    pair_init_preface(&bed->pair, &bed->deadlines, bed->now_ms);
    pair_check(&bed->pair);
}

static pair_actions begin(struct bed *bed, enum pair_stage stage, uint32_t servers_left)
{
    return step(bed,
                (struct pair_input){.event = PAIR_EVENT_BEGIN, .stage = stage, .servers_left = servers_left});
}

static void a_preface_that_does_not_come_ends_by_its_deadline(void **state)
{
    (void)state;
    struct bed bed;
    prefaced(&bed);
    assert_int_equal(expire_until(&bed, FOREVER_MS), PAIR_DO_RST | PAIR_DO_END);
    assert_int_equal(at(&bed), 10000);
    assert_ended(&bed, REASON_PREFACE, LEG_END_RST, LEG_END_NONE);
}

static void bytes_connect_behind_it_and_every_server_is_tried(void **state)
{
    (void)state;
    struct bed bed;
    prefaced(&bed);
    pass(&bed, 9000);
    assert_int_equal(begin(&bed, PAIR_STAGE_BYTES, 1), PAIR_DO_CONNECT);
    pass(&bed, 4000); /* the deadline of the preface is over, and `connect` counts from the attempt */
    assert_int_equal(event(&bed, PAIR_EVENT_EXPIRED), 0);
    assert_int_equal(fails(&bed, REASON_CONNECT_FAILED), PAIR_DO_CONNECT);
    assert_int_equal(event(&bed, PAIR_EVENT_CONNECTED), 0);
    assert_int_equal(bed.pair.phase, PAIR_OPEN);
    assert_int_equal(bed.pair.stage, PAIR_STAGE_BYTES);
}

static void messages_wait_for_a_head_behind_it_for_its_whole_deadline(void **state)
{
    (void)state;
    struct bed bed;
    prefaced(&bed);
    pass(&bed, 9000);
    assert_int_equal(begin(&bed, PAIR_STAGE_HEAD, 0), 0);
    assert_int_equal(expire_until(&bed, FOREVER_MS), PAIR_DO_ANSWER);
    assert_int_equal(at(&bed), 19000);
    assert_int_equal(bed.pair.cause, REASON_REQUEST_HEAD);
}

static void a_client_that_leaves_without_a_byte_ends_in_order(void **state)
{
    (void)state;
    struct bed bed;
    prefaced(&bed);
    assert_int_equal(step(&bed, (struct pair_input){.event = PAIR_EVENT_COMPLETE, .reason = REASON_CLOSED}),
                     PAIR_DO_FIN);
    assert_int_equal(fin(&bed, HALF_REQUEST), PAIR_DO_CLOSE | PAIR_DO_END);
    assert_ended(&bed, REASON_CLOSED, LEG_END_FIN, LEG_END_NONE);
}

static void a_bad_one_is_reset_at_once(void **state)
{
    (void)state;
    struct bed bed;
    prefaced(&bed);
    assert_int_equal(step(&bed, (struct pair_input){.event = PAIR_EVENT_ABORT, .reason = REASON_BAD_PREFACE}),
                     PAIR_DO_RST | PAIR_DO_END);
    assert_ended(&bed, REASON_BAD_PREFACE, LEG_END_RST, LEG_END_NONE);
}

static void a_client_that_resets_in_it_has_reset(void **state)
{
    (void)state;
    struct bed bed;
    prefaced(&bed);
    assert_int_equal(leg_event(&bed, PAIR_EVENT_RESET, LEG_CLIENT), PAIR_DO_CLOSE | PAIR_DO_END);
    assert_ended(&bed, REASON_CLIENT_RESET, LEG_END_RESET, LEG_END_NONE);
}

static void a_drain_waits_for_it_within_its_own_deadline(void **state)
{
    (void)state;
    struct bed bed;
    prefaced(&bed);
    set_after(&bed, DEADLINE_DRAIN, 3000);
    assert_int_equal(event(&bed, PAIR_EVENT_DRAIN), 0);
    assert_int_equal(expire_until(&bed, FOREVER_MS), PAIR_DO_RST | PAIR_DO_END);
    assert_int_equal(at(&bed), 3000);
    assert_ended(&bed, REASON_DRAIN, LEG_END_RST, LEG_END_NONE);
}

static void its_lifetime_ends_it_in_order(void **state)
{
    (void)state;
    struct bed bed;
    prefaced(&bed);
    set_after(&bed, DEADLINE_LIFETIME, 2000);
    assert_int_equal(expire_until(&bed, FOREVER_MS), PAIR_DO_FIN);
    assert_int_equal(expire_until(&bed, FOREVER_MS), PAIR_DO_RST | PAIR_DO_END);
    assert_ended(&bed, REASON_LIFETIME, LEG_END_RST, LEG_END_NONE);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_preface_that_does_not_come_ends_by_its_deadline),
    cmocka_unit_test(bytes_connect_behind_it_and_every_server_is_tried),
    cmocka_unit_test(messages_wait_for_a_head_behind_it_for_its_whole_deadline),
    cmocka_unit_test(a_client_that_leaves_without_a_byte_ends_in_order),
    cmocka_unit_test(a_bad_one_is_reset_at_once),
    cmocka_unit_test(a_client_that_resets_in_it_has_reset),
    cmocka_unit_test(a_drain_waits_for_it_within_its_own_deadline),
    cmocka_unit_test(its_lifetime_ends_it_in_order),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
