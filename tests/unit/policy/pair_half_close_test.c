#include "tests/unit/policy/bed.h"

/* One half has ended: half_close and its relatives, and whether its peers are there. */

/* ---- half_close_empty ---- */

static void a_client_that_only_closed_is_owed_a_second(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE_EMPTY, 1000);
    pass(&bed, 500);
    assert_int_equal(fin(&bed, HALF_REQUEST), to(PAIR_DO_FIN, LEG_BACKEND));
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 1500);
    assert_ended(&bed, REASON_HALF_CLOSE_EMPTY, LEG_END_RST, LEG_END_RST);
}

static void a_backend_that_closes_in_time_ends_an_empty_session_in_order(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE_EMPTY, 1000);
    fin(&bed, HALF_REQUEST);
    assert_int_equal(expire_until(&bed, 999), 0);
    assert_int_equal(fin(&bed, HALF_RESPONSE), to(PAIR_DO_FIN, LEG_CLIENT) | close_both_and_end);
    assert_ended(&bed, REASON_CLOSED, LEG_END_FIN, LEG_END_FIN);
}

/* One byte either way, and it is half_close that counts. */
static void any_byte_gives_a_client_the_whole_half_close(void **state)
{
    (void)state;
    for (enum half half = 0; half < HALF_COUNT; half++) {
        for (int before = 0; before < (half == HALF_REQUEST ? 1 : 2); before++) {
            struct bed bed;
            opened(&bed);
            set_after(&bed, DEADLINE_HALF_CLOSE_EMPTY, 1000);
            if (before == 0)
                relay(&bed, half, 1);
            fin(&bed, HALF_REQUEST);
            pass(&bed, 900);
            if (before == 1)
                relay(&bed, half, 1);
            assert_int_equal(expire_until(&bed, 29999), 0);
            assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
            assert_true(bed.pair.reason != REASON_HALF_CLOSE_EMPTY);
        }
    }
}

static void a_backend_that_finished_without_a_byte_is_no_empty_client(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE_EMPTY, 1000);
    fin(&bed, HALF_RESPONSE);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 30000);
    assert_ended(&bed, REASON_HALF_CLOSE, LEG_END_RST, LEG_END_RST);
}

static void off_leaves_an_empty_client_to_half_close(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    fin(&bed, HALF_REQUEST);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_ended(&bed, REASON_HALF_CLOSE, LEG_END_RST, LEG_END_RST);
}

/* ---- half_close ---- */

static void silence_after_a_half_close_resets_both_when_the_deadline_has_run(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    pass(&bed, 500);
    relay(&bed, HALF_REQUEST, 1);
    fin(&bed, HALF_REQUEST);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 30500);
    assert_ended(&bed, REASON_HALF_CLOSE, LEG_END_RST, LEG_END_RST);
}

static void silence_counts_from_the_last_byte_of_an_answer(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    pass(&bed, 29000);
    relay(&bed, HALF_RESPONSE, 1 << 20);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 29000 + 30000);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
}

static void an_answer_at_the_rate_lives_as_long_as_it_lasts(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    for (int second = 1; second <= 1000; second++) {
        assert_int_equal(expire_until(&bed, (uint64_t)second * 1000), 0);
        relay(&bed, HALF_RESPONSE, 1024);
    }
    assert_int_equal(fin(&bed, HALF_RESPONSE), to(PAIR_DO_FIN, LEG_CLIENT) | close_both_and_end);
}

static void an_answer_that_begins_just_before_the_deadline_is_not_cut(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    assert_int_equal(expire_until(&bed, 29990), 0);
    for (int i = 0; i < 1000; i++) {
        relay(&bed, HALF_RESPONSE, 100);
        assert_int_equal(expire_until(&bed, at(&bed) + 10), 0);
    }
}

static void a_trickle_does_not_live_for_ever(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    pair_actions actions = 0;
    for (int second = 1; second <= 1000 && actions == 0; second++) {
        actions = expire_until(&bed, (uint64_t)second * 1000);
        if (actions == 0)
            relay(&bed, HALF_RESPONSE, 1);
    }
    assert_int_equal(actions, rst_both_and_end);
    assert_in_range(at(&bed), 30000, 30030);
    assert_ended(&bed, REASON_HALF_CLOSE_RATE, LEG_END_RST, LEG_END_RST);
}

/* The FIN's sample is the first that tells of the request's and the answer's bytes, and reads the clock when
 * its turn is no longer young. */
static void bytes_that_moved_before_the_half_closed_are_no_trickle(void **state)
{
    (void)state;
    for (uint64_t late_ms = 0; late_ms <= 20; late_ms++) {
        struct bed bed;
        opened(&bed);
        relay(&bed, HALF_REQUEST, 3);
        relay(&bed, HALF_RESPONSE, 5);
        sample_late(&bed, late_ms);
        assert_int_equal(fin(&bed, HALF_REQUEST), to(PAIR_DO_FIN, LEG_BACKEND));
        assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
        assert_ended(&bed, REASON_HALF_CLOSE, LEG_END_RST, LEG_END_RST);
    }
}

static void a_trickle_of_the_request_is_told_from_silence_too(void **state)
{
    (void)state;
    for (uint64_t bytes = 0; bytes <= 1; bytes++) {
        struct bed bed;
        opened(&bed);
        fin(&bed, HALF_RESPONSE);
        pass(&bed, 20000);
        if (bytes > 0)
            relay(&bed, HALF_REQUEST, bytes);
        assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
        assert_int_equal(bed.pair.reason, bytes > 0 ? REASON_HALF_CLOSE_RATE : REASON_HALF_CLOSE);
    }
}

static void half_the_rate_lives_twice_the_deadline(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    pair_actions actions = 0;
    for (uint64_t tenth = 1; tenth <= 10000 && actions == 0; tenth++) {
        actions = expire_until(&bed, tenth * 100);
        if (actions == 0)
            relay(&bed, HALF_RESPONSE, 51);
    }
    assert_in_range(at(&bed), 59000, 61000);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE_RATE);
}

static void how_often_one_looks_does_not_change_what_bytes_buy(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    pair_actions actions = 0;
    for (uint64_t i = 1; i <= 10000 && actions == 0; i++) {
        relay(&bed, HALF_RESPONSE, 51); /* 510 bytes a second */
        bed.timer_ms = bed.now_ms;
        actions = expire_until(&bed, i * 100);
    }
    assert_in_range(at(&bed), 59400, 60200); /* 30 s / (1 - 510 / 1024), to a byte a look */
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE_RATE);
}

static void of_two_deadlines_due_at_once_the_first_of_the_table_gives_the_reason(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE_MAX, 30000);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_ended(&bed, REASON_HALF_CLOSE, LEG_END_RST, LEG_END_RST);
}

static void a_trickle_over_a_long_round_trip_does_not_live_for_ever_either(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    relay_unacked(&bed, HALF_RESPONSE, 20);
    pair_actions actions = 0;
    for (uint64_t tenth = 1; tenth <= 10000 && actions == 0; tenth++) {
        actions = expire_until(&bed, tenth * 100);
        if (actions != 0)
            break;
        relay_unacked(&bed, HALF_RESPONSE, 20); /* before the last ones are acknowledged */
        ack(&bed, LEG_CLIENT, 20);
    }
    assert_in_range(at(&bed), 37000, 37000 + DELIVERY_MS + 1000);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE_RATE);
}

static void a_rate_of_zero_takes_any_byte_for_progress(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    bed.deadlines.rate[DEADLINE_HALF_CLOSE] = 0;
    for (uint64_t i = 1; i <= 100; i++) {
        assert_int_equal(expire_until(&bed, i * 29000), 0);
        relay(&bed, HALF_RESPONSE, 1);
    }
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 100 * 29000 + 30000);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
}

static void a_burst_is_not_saved_up_for_a_trickle(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    relay(&bed, HALF_RESPONSE, 1 << 30);
    pair_actions actions = 0;
    for (int second = 1; second <= 1000 && actions == 0; second++) {
        actions = expire_until(&bed, (uint64_t)second * 1000);
        if (actions == 0)
            relay(&bed, HALF_RESPONSE, 1);
    }
    assert_in_range(at(&bed), 30000, 61000);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE_RATE);
}

static void an_enormous_rate_does_not_overflow(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    bed.deadlines.rate[DEADLINE_HALF_CLOSE] = UINT64_MAX;
    pass(&bed, 1);
    relay(&bed, HALF_RESPONSE, UINT64_C(1) << 40);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 30000);
    half_closed(&bed);
    pass(&bed, 1);
    relay(&bed, HALF_RESPONSE, UINT64_C(1) << 62);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 30001);
}

static void half_close_zero_ends_as_soon_as_the_fin_has_arrived(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE, 0);
    relay(&bed, HALF_REQUEST, 10);
    assert_int_equal(fin(&bed, HALF_REQUEST), to(PAIR_DO_FIN, LEG_BACKEND));
    assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms), bed.now_ms);
    bed.unacked_bytes[LEG_BACKEND] = 1;
    assert_int_equal(expire_until(&bed, 130), 0);
    bed.unacked_bytes[LEG_BACKEND] = 0;
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_in_range(at(&bed), 130, 180);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
}

static void half_close_zero_waits_no_longer_than_the_delivery_time_for_a_dead_kernel(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE, 0);
    fin(&bed, HALF_REQUEST);
    bed.unacked_bytes[LEG_BACKEND] = 1;
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), DELIVERY_MS);
}

/* Against each bound: the backend has answered 64 MiB and sent FIN, its client reads 6.4 MiB a second. */
static void a_slow_reader_gets_the_whole_answer(uint64_t half_close_ms)
{
    struct bed bed;
    const uint64_t all = UINT64_C(64) << 20, tenth = all / 100;
    opened(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE, half_close_ms);
    relay(&bed, HALF_REQUEST, 1 << 20);
    relay_unacked(&bed, HALF_RESPONSE, all);
    assert_int_equal(fin(&bed, HALF_RESPONSE), to(PAIR_DO_FIN, LEG_CLIENT));
    for (uint64_t i = 1; i <= 100; i++) {
        assert_int_equal(expire_until(&bed, i * 100), 0);
        ack(&bed, LEG_CLIENT, tenth);
    }
    ack(&bed, LEG_CLIENT, bed.unacked_bytes[LEG_CLIENT]);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_in_range(at(&bed), 10000 + half_close_ms, 10050 + half_close_ms);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
}

static void no_half_close_deadline_cuts_a_kernel_that_still_acknowledges(void **state)
{
    (void)state;
    a_slow_reader_gets_the_whole_answer(0);
    a_slow_reader_gets_the_whole_answer(1);
    a_slow_reader_gets_the_whole_answer(1000);
    a_slow_reader_gets_the_whole_answer(30000);
}

static void a_half_closed_session_whose_client_is_dead_ends_by_half_close(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    pass(&bed, 20000);
    relay_unacked(&bed, HALF_RESPONSE, 100000);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 30000 + DELIVERY_MS);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
}

static void half_close_may_leave_the_side_that_has_its_fin_a_grace(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    set_actions(&bed, DEADLINE_HALF_CLOSE, CLOSE_RST, CLOSE_FIN);
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, LEG_CLIENT));
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_int_equal(at(&bed), 35000);
}

static void a_half_closed_peer_never_gets_a_fin_of_our_making(void **state)
{
    (void)state;
    for (enum half half = 0; half < HALF_COUNT; half++) {
        struct bed bed;
        opened(&bed);
        relay(&bed, HALF_REQUEST, 1);
        relay(&bed, HALF_RESPONSE, 1);
        fin(&bed, half);
        set_actions(&bed, DEADLINE_HALF_CLOSE, CLOSE_FIN, CLOSE_FIN);
        assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, half_source(half)));
        opened(&bed);
        half_event(&bed, PAIR_EVENT_HELD, half);
        fin(&bed, half);
        set_after(&bed, DEADLINE_IDLE, 50000);
        assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    }
}

static void half_close_off_waits_for_ever(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE, DEADLINE_OFF);
    assert_true(pair_next_ms(&bed.pair, bed.now_ms) == DEADLINE_OFF);
}

static void half_close_max_ends_a_healthy_answer(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    set_after(&bed, DEADLINE_HALF_CLOSE_MAX, 10500);
    pair_actions actions = 0;
    for (uint64_t second = 1; second <= 100 && actions == 0; second++) {
        relay(&bed, HALF_RESPONSE, 1 << 20);
        actions = expire_until(&bed, second * 1000);
    }
    assert_int_equal(actions, rst_both_and_end);
    assert_int_equal(at(&bed), 10500);
    assert_ended(&bed, REASON_HALF_CLOSE_MAX, LEG_END_RST, LEG_END_RST);
}

/* ---- verify ---- */

static const pair_actions probe_both = PAIR_DO_PROBE | PAIR_DO_PROBE << LEG_BACKEND;

/* Half-closed with nothing under way, and its peers just probed. */
static void probed(struct bed *bed, enum verify verify)
{
    half_closed(bed);
    bed->deadlines.verify = verify;
    assert_int_equal(expire_until(bed, FOREVER_MS), probe_both);
    assert_int_equal(at(bed), 30000);
    assert_true(track_probing(&bed->pair));
}

static void peers_that_answer_a_probe_are_a_leak(void **state)
{
    (void)state;
    struct bed bed;
    probed(&bed, VERIFY_ON);
    pass(&bed, 10);
    bed.last_ack_ms[LEG_CLIENT] = bed.last_ack_ms[LEG_BACKEND] = bed.now_ms;
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 31000);
    assert_ended(&bed, REASON_HALF_CLOSE, LEG_END_RST, LEG_END_RST);
}

/* A probe may be lost as any packet may. */
static void a_peer_that_does_not_answer_is_asked_three_times(void **state)
{
    (void)state;
    static const enum reason reasons[LEG_COUNT] = {
        [LEG_CLIENT] = REASON_CLIENT_LOST, [LEG_BACKEND] = REASON_BACKEND_LOST};
    for (enum leg leg = 0; leg < LEG_COUNT; leg++) {
        for (enum verify verify = VERIFY_ON; verify <= VERIFY_EXTEND; verify++) {
            struct bed bed;
            probed(&bed, verify);
            bed.last_ack_ms[leg_other(leg)] = bed.now_ms;
            assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_PROBE, leg));
            assert_int_equal(at(&bed), 31000);
            assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_PROBE, leg));
            assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
            assert_int_equal(at(&bed), 33000);
            assert_int_equal(bed.pair.reason, reasons[leg]);
        }
    }
}

static void a_peer_that_answers_the_last_probe_is_there(void **state)
{
    (void)state;
    struct bed bed;
    probed(&bed, VERIFY_ON);
    bed.last_ack_ms[LEG_CLIENT] = bed.now_ms;
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_PROBE, LEG_BACKEND));
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_PROBE, LEG_BACKEND));
    bed.last_ack_ms[LEG_BACKEND] = bed.now_ms;
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
}

/* Hundreds are due in one turn: what began it is long past when the last of them is probed, and again when
 * the age of its answer is read; and the kernel counts that age in jiffies. */
static void an_answer_in_a_long_turn_is_heard(void **state)
{
    (void)state;
    enum { TURN_MS = 900 };
    static const uint64_t jiffies_ms[] = {1, 4, 10};
    for (size_t i = 0; i < sizeof jiffies_ms / sizeof jiffies_ms[0]; i++) {
        for (uint64_t phase_ms = 0; phase_ms < jiffies_ms[i]; phase_ms++) {
            struct bed bed;
            uint64_t jiffy_ms = jiffies_ms[i];
            probed(&bed, VERIFY_ON);
            uint64_t sent_ms = bed.now_ms + phase_ms;
            uint64_t answered_ms = sent_ms; /* at once */
            pair_probes_sent(&bed.pair, sent_ms);
            bed.now_ms = sent_ms + 1000;
            uint64_t read_ms = bed.now_ms + TURN_MS;
            uint64_t age_ms = (read_ms / jiffy_ms - answered_ms / jiffy_ms) * jiffy_ms;
            for (enum leg leg = 0; leg < LEG_COUNT; leg++)
                pair_sample(&bed.pair, leg, 0, pair_least_age_ms(age_ms), read_ms);
            const struct pair_input expired = {.event = PAIR_EVENT_EXPIRED};
            assert_int_equal(pair_step(&bed.pair, &expired, bed.now_ms), rst_both_and_end);
            assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE);
        }
    }
}

static void the_time_to_answer_counts_from_the_probe(void **state)
{
    (void)state;
    struct bed bed;
    probed(&bed, VERIFY_ON);
    pair_probes_sent(&bed.pair, bed.now_ms + 900);
    assert_int_equal(pair_next_ms(&bed.pair, bed.now_ms) - START_MS, 31900);
}

static void the_least_age_is_never_more_than_the_true_one(void **state)
{
    (void)state;
    static const uint64_t jiffies_ms[] = {1, 3, 4, 10};
    for (size_t i = 0; i < sizeof jiffies_ms / sizeof jiffies_ms[0]; i++)
        for (uint64_t then_ms = 100; then_ms < 140; then_ms++)
            for (uint64_t now_ms = then_ms; now_ms < 200; now_ms++) {
                uint64_t said_ms = (now_ms / jiffies_ms[i] - then_ms / jiffies_ms[i]) * jiffies_ms[i];
                assert_true(pair_least_age_ms(said_ms) <= now_ms - then_ms);
            }
}

static void peers_that_answer_a_probe_may_be_given_the_deadline_again(void **state)
{
    (void)state;
    struct bed bed;
    probed(&bed, VERIFY_EXTEND);
    bed.last_ack_ms[LEG_CLIENT] = bed.last_ack_ms[LEG_BACKEND] = bed.now_ms;
    assert_int_equal(expire_until(&bed, FOREVER_MS), probe_both);
    assert_int_equal(at(&bed), 61000);
    assert_int_equal(expire_until(&bed, FOREVER_MS), probe_both);
    assert_int_equal(expire_until(&bed, FOREVER_MS), probe_both);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 64000);
    assert_int_equal(bed.pair.reason, REASON_CLIENT_LOST);
}

static void half_close_max_bounds_what_verify_extends(void **state)
{
    (void)state;
    struct bed bed;
    probed(&bed, VERIFY_EXTEND);
    set_after(&bed, DEADLINE_HALF_CLOSE_MAX, 40000);
    bed.last_ack_ms[LEG_CLIENT] = bed.last_ack_ms[LEG_BACKEND] = bed.now_ms;
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(at(&bed), 40000);
    assert_int_equal(bed.pair.reason, REASON_HALF_CLOSE_MAX);
}

static void an_answer_that_begins_while_probing_ends_the_probing(void **state)
{
    (void)state;
    struct bed bed;
    probed(&bed, VERIFY_ON);
    bed.last_ack_ms[LEG_BACKEND] = bed.now_ms;
    pass(&bed, 500);
    relay(&bed, HALF_RESPONSE, 1 << 20);
    assert_int_equal(expire_until(&bed, FOREVER_MS),
                     probe_both); /* and not what was heard half a minute ago */
    assert_int_equal(at(&bed), 60500);
    assert_int_equal(expire_until(&bed, FOREVER_MS), probe_both);
    assert_int_equal(expire_until(&bed, FOREVER_MS), probe_both);
    assert_int_equal(expire_until(&bed, FOREVER_MS), rst_both_and_end);
    assert_int_equal(bed.pair.reason, REASON_CLIENT_LOST);
}

static void a_backend_that_stays_when_its_client_has_closed_is_reset(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    assert_int_equal(event(&bed, PAIR_EVENT_CLOSED), to(PAIR_DO_CLOSE, LEG_CLIENT));
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_int_equal(at(&bed), 250);
    assert_ended(&bed, REASON_CLIENT_CLOSED, LEG_END_FIN, LEG_END_RST);
}

static void a_backend_that_closes_when_its_client_has_ends_in_order(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    event(&bed, PAIR_EVENT_CLOSED);
    assert_int_equal(expire_until(&bed, 240), 0);
    assert_int_equal(fin(&bed, HALF_RESPONSE), to(PAIR_DO_CLOSE, LEG_BACKEND) | PAIR_DO_END);
    assert_ended(&bed, REASON_CLOSED, LEG_END_FIN, LEG_END_FIN);
}

static void a_backend_that_answers_a_client_that_has_closed_is_reset_at_once(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay_unacked(&bed, HALF_REQUEST, 100);
    fin(&bed, HALF_REQUEST);
    event(&bed, PAIR_EVENT_CLOSED);
    assert_int_equal(half_event(&bed, PAIR_EVENT_DISCARDED, HALF_RESPONSE), 0); /* it crossed the request */
    ack(&bed, LEG_BACKEND, 100);
    assert_int_equal(half_event(&bed, PAIR_EVENT_DISCARDED, HALF_RESPONSE),
                     to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_int_equal(at(&bed), 0);
}

static void a_backend_that_answers_a_client_that_reset_is_reset_at_once(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay_unacked(&bed, HALF_REQUEST, 100);
    assert_int_equal(leg_event(&bed, PAIR_EVENT_RESET, LEG_CLIENT), to(PAIR_DO_CLOSE, LEG_CLIENT));
    assert_int_equal(half_event(&bed, PAIR_EVENT_DISCARDED, HALF_RESPONSE), 0);
    ack(&bed, LEG_BACKEND, 100);
    assert_int_equal(half_event(&bed, PAIR_EVENT_DISCARDED, HALF_RESPONSE),
                     to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_ended(&bed, REASON_CLIENT_RESET, LEG_END_RESET, LEG_END_RST);
}

static void what_a_reset_leg_left_behind_is_looked_at_soon_and_then_less_often(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay_unacked(&bed, HALF_REQUEST, 100);
    leg_event(&bed, PAIR_EVENT_RESET, LEG_CLIENT);
    uint64_t looks = 0, last_ms = 0, longest_ms = 0;
    for (; at(&bed) < 1000; looks++, last_ms = at(&bed)) {
        bed.now_ms = bed.timer_ms;
        assert_int_equal(event(&bed, PAIR_EVENT_EXPIRED), 0);
        longest_ms = at(&bed) - last_ms > longest_ms ? at(&bed) - last_ms : longest_ms;
    }
    assert_in_range(looks, 20, 30);
    assert_int_equal(longest_ms, 50);
}

static void the_request_of_a_client_that_has_closed_is_delivered_first(void **state)
{
    (void)state;
    struct bed bed;
    opened(&bed);
    relay_unacked(&bed, HALF_REQUEST, 100);
    fin(&bed, HALF_REQUEST);
    assert_int_equal(event(&bed, PAIR_EVENT_CLOSED), to(PAIR_DO_CLOSE, LEG_CLIENT));
    assert_int_equal(expire_until(&bed, 700), 0);
    ack(&bed, LEG_BACKEND, 100);
    assert_int_equal(expire_until(&bed, FOREVER_MS), to(PAIR_DO_RST, LEG_BACKEND) | PAIR_DO_END);
    assert_in_range(at(&bed), 700, 750);
}

static void that_a_client_has_closed_changes_nothing_in_grace(void **state)
{
    (void)state;
    struct bed bed;
    half_closed(&bed);
    set_actions(&bed, DEADLINE_HALF_CLOSE, CLOSE_RST, CLOSE_FIN);
    expire_until(&bed, FOREVER_MS);
    assert_int_equal(bed.pair.phase, PAIR_CLOSING);
    assert_int_equal(event(&bed, PAIR_EVENT_CLOSED), 0);
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(a_client_that_only_closed_is_owed_a_second),
    cmocka_unit_test(a_backend_that_closes_in_time_ends_an_empty_session_in_order),
    cmocka_unit_test(any_byte_gives_a_client_the_whole_half_close),
    cmocka_unit_test(a_backend_that_finished_without_a_byte_is_no_empty_client),
    cmocka_unit_test(off_leaves_an_empty_client_to_half_close),
    cmocka_unit_test(silence_after_a_half_close_resets_both_when_the_deadline_has_run),
    cmocka_unit_test(silence_counts_from_the_last_byte_of_an_answer),
    cmocka_unit_test(an_answer_at_the_rate_lives_as_long_as_it_lasts),
    cmocka_unit_test(an_answer_that_begins_just_before_the_deadline_is_not_cut),
    cmocka_unit_test(a_trickle_does_not_live_for_ever),
    cmocka_unit_test(bytes_that_moved_before_the_half_closed_are_no_trickle),
    cmocka_unit_test(a_trickle_of_the_request_is_told_from_silence_too),
    cmocka_unit_test(half_the_rate_lives_twice_the_deadline),
    cmocka_unit_test(how_often_one_looks_does_not_change_what_bytes_buy),
    cmocka_unit_test(of_two_deadlines_due_at_once_the_first_of_the_table_gives_the_reason),
    cmocka_unit_test(a_trickle_over_a_long_round_trip_does_not_live_for_ever_either),
    cmocka_unit_test(a_rate_of_zero_takes_any_byte_for_progress),
    cmocka_unit_test(a_burst_is_not_saved_up_for_a_trickle),
    cmocka_unit_test(an_enormous_rate_does_not_overflow),
    cmocka_unit_test(half_close_zero_ends_as_soon_as_the_fin_has_arrived),
    cmocka_unit_test(half_close_zero_waits_no_longer_than_the_delivery_time_for_a_dead_kernel),
    cmocka_unit_test(no_half_close_deadline_cuts_a_kernel_that_still_acknowledges),
    cmocka_unit_test(a_half_closed_session_whose_client_is_dead_ends_by_half_close),
    cmocka_unit_test(half_close_may_leave_the_side_that_has_its_fin_a_grace),
    cmocka_unit_test(a_half_closed_peer_never_gets_a_fin_of_our_making),
    cmocka_unit_test(half_close_off_waits_for_ever),
    cmocka_unit_test(half_close_max_ends_a_healthy_answer),
    cmocka_unit_test(peers_that_answer_a_probe_are_a_leak),
    cmocka_unit_test(a_peer_that_does_not_answer_is_asked_three_times),
    cmocka_unit_test(a_peer_that_answers_the_last_probe_is_there),
    cmocka_unit_test(an_answer_in_a_long_turn_is_heard),
    cmocka_unit_test(the_time_to_answer_counts_from_the_probe),
    cmocka_unit_test(the_least_age_is_never_more_than_the_true_one),
    cmocka_unit_test(peers_that_answer_a_probe_may_be_given_the_deadline_again),
    cmocka_unit_test(half_close_max_bounds_what_verify_extends),
    cmocka_unit_test(an_answer_that_begins_while_probing_ends_the_probing),
    cmocka_unit_test(a_backend_that_stays_when_its_client_has_closed_is_reset),
    cmocka_unit_test(a_backend_that_closes_when_its_client_has_ends_in_order),
    cmocka_unit_test(a_backend_that_answers_a_client_that_has_closed_is_reset_at_once),
    cmocka_unit_test(a_backend_that_answers_a_client_that_reset_is_reset_at_once),
    cmocka_unit_test(what_a_reset_leg_left_behind_is_looked_at_soon_and_then_less_often),
    cmocka_unit_test(the_request_of_a_client_that_has_closed_is_delivered_first),
    cmocka_unit_test(that_a_client_has_closed_changes_nothing_in_grace),
};

int main(void)
{
    return cmocka_run_group_tests(tests, NULL, NULL);
}
