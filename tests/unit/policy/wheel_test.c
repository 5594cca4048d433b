#include "tests/unit/cmocka.h"

#include "reaper/policy/deadline.h"
#include "reaper/policy/wheel.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SPAN_MS = 5000, CROWD = 10000 };

/* Where digits carry, where 32 bits end, and where nothing special happens. */
static const uint64_t starts_ms[] = {
    0,
    1,
    62,
    63,
    64,
    65,
    4096 - 2501,
    4096 - 1,
    4096,
    4096 + 1,
    262144 - 2500,
    262144 - 1,
    262144,
    123456789,
    (UINT64_C(1) << 24) - 1,
    (UINT64_C(1) << 30) - 4999,
    (UINT64_C(1) << 30) - 1,
    (UINT64_C(1) << 32) - 2500,
    (UINT64_C(1) << 32) - 1,
    (UINT64_C(1) << 32),
    (UINT64_C(1) << 36) - 1,
    (UINT64_C(1) << 36),
    (UINT64_C(1) << 60) - 1,
    (UINT64_C(1) << 63) - 2500,
};
enum { STARTS = sizeof starts_ms / sizeof starts_ms[0] };

static struct wheel wheel;
static struct wheel_entry entries[CROWD];

static int begin(void **state)
{
    (void)state;
    wheel_init(&wheel, 0);
    memset(entries, 0, sizeof entries);
    return 0;
}

static void an_empty_wheel_has_nothing_due(void **state)
{
    (void)state;
    assert_int_equal(wheel_next_ms(&wheel), UINT64_MAX);
    assert_null(wheel_pop(&wheel, 0));
    assert_null(wheel_pop(&wheel, UINT64_MAX - 2));
    assert_int_equal(wheel_next_ms(&wheel), UINT64_MAX);
    wheel_check(&wheel);
}

static void every_due_time_is_met_to_the_millisecond_when_each_is_looked_at(void **state)
{
    (void)state;
    for (size_t s = 0; s < STARTS; s++) {
        uint64_t start_ms = starts_ms[s];
        wheel_init(&wheel, start_ms);
        for (size_t i = 0; i <= SPAN_MS; i++)
            wheel_add(&wheel, &entries[i], start_ms + i);
        wheel_check(&wheel);
        for (size_t i = 0; i <= SPAN_MS; i++) {
            assert_true(wheel_next_ms(&wheel) <= start_ms + i);
            assert_ptr_equal(wheel_pop(&wheel, start_ms + i), &entries[i]);
            assert_null(wheel_pop(&wheel, start_ms + i));
        }
        wheel_check(&wheel);
        assert_int_equal(wheel.count, 0);
    }
}

static void every_due_time_is_met_when_only_wheel_next_ms_is_looked_at(void **state)
{
    (void)state;
    struct wheel_entry *entry = &entries[0];
    for (size_t s = 0; s < STARTS; s++) {
        for (uint64_t due_ms = starts_ms[s]; due_ms <= starts_ms[s] + SPAN_MS; due_ms++) {
            wheel_init(&wheel, starts_ms[s]);
            wheel_add(&wheel, entry, due_ms);
            int answers = 0;
            uint64_t now_ms = wheel_next_ms(&wheel);
            for (; !wheel_pop(&wheel, now_ms); now_ms = wheel_next_ms(&wheel)) {
                assert_true(now_ms < due_ms);
                assert_true(wheel_next_ms(&wheel) > now_ms);
                assert_true(++answers <= WHEEL_LEVELS);
            }
            assert_int_equal(now_ms, due_ms);
        }
    }
}

static void a_lone_entry_is_never_early_and_comes_after_any_jump(void **state)
{
    (void)state;
    struct wheel_entry *entry = &entries[0];
    for (size_t s = 0; s < STARTS; s++) {
        for (uint64_t after_ms = 1; after_ms <= SPAN_MS; after_ms++) {
            wheel_init(&wheel, starts_ms[s]);
            wheel_add(&wheel, entry, starts_ms[s] + after_ms);
            assert_null(wheel_pop(&wheel, starts_ms[s] + after_ms - 1));
            assert_ptr_equal(wheel_pop(&wheel, starts_ms[s] + after_ms + 7 * after_ms * after_ms), entry);
            assert_false(wheel_entry_linked(entry));
        }
    }
}

static void the_longest_deadline_is_met(void **state)
{
    (void)state;
    for (size_t s = 0; s < STARTS; s++) {
        uint64_t due_ms = starts_ms[s] + DEADLINE_MAX_MS;
        wheel_init(&wheel, starts_ms[s]);
        wheel_add(&wheel, &entries[0], due_ms);
        wheel_check(&wheel);
        assert_null(wheel_pop(&wheel, due_ms - 1));
        wheel_check(&wheel);
        assert_ptr_equal(wheel_pop(&wheel, due_ms), &entries[0]);
    }
}

static void there_is_no_horizon(void **state)
{
    (void)state;
    for (unsigned bit = 0; bit < 64; bit++)
        wheel_add(&wheel, &entries[bit], UINT64_C(1) << bit);
    wheel_add(&wheel, &entries[64], UINT64_MAX - 2);
    wheel_check(&wheel);
    for (unsigned bit = 0; bit < 64; bit++) {
        assert_null(wheel_pop(&wheel, (UINT64_C(1) << bit) - 1));
        assert_ptr_equal(wheel_pop(&wheel, UINT64_C(1) << bit), &entries[bit]);
        wheel_check(&wheel);
    }
    assert_ptr_equal(wheel_pop(&wheel, UINT64_MAX - 2), &entries[64]);
}

static void a_jump_over_days_returns_all_in_order(void **state)
{
    (void)state;
    const uint64_t day_ms = UINT64_C(24) * 3600 * 1000;
    for (size_t i = 0; i < 1000; i++)
        wheel_add(&wheel, &entries[i], (i * 7919 % 1000) * day_ms / 100 + i);
    uint64_t before_ms = 0;
    for (size_t i = 0; i < 1000; i++) {
        struct wheel_entry *entry = wheel_pop(&wheel, 11 * day_ms);
        assert_non_null(entry);
        assert_true(entry->due_ms >= before_ms);
        before_ms = entry->due_ms;
    }
    assert_null(wheel_pop(&wheel, 11 * day_ms));
}

static void a_clock_that_goes_back_stands_still(void **state)
{
    (void)state;
    assert_null(wheel_pop(&wheel, 1000));
    wheel_add(&wheel, &entries[0], 1010);
    assert_null(wheel_pop(&wheel, 400));
    assert_null(wheel_pop(&wheel, 1009));
    assert_null(wheel_pop(&wheel, 0));
    wheel_check(&wheel);
    assert_ptr_equal(wheel_pop(&wheel, 1010), &entries[0]);

    wheel_init(&wheel, 1000);
    wheel_add(&wheel, &entries[0], 1000);
    wheel_add(&wheel, &entries[1], 1001);
    assert_ptr_equal(wheel_pop(&wheel, 990), &entries[0]);
    assert_null(wheel_pop(&wheel, 990));
    wheel_check(&wheel);
}

static void what_is_due_in_the_past_is_due_at_once(void **state)
{
    (void)state;
    wheel_init(&wheel, 5000);
    wheel_add(&wheel, &entries[0], 10);
    wheel_add(&wheel, &entries[1], 5000);
    assert_int_equal(wheel_next_ms(&wheel), 5000);
    assert_non_null(wheel_pop(&wheel, 5000));
    assert_non_null(wheel_pop(&wheel, 5000));

    /* 5000 has been taken care of, so at once is 5001. */
    wheel_add(&wheel, &entries[0], 10);
    assert_int_equal(wheel_next_ms(&wheel), 5001);
    assert_int_equal(entries[0].due_ms, 5001);
    assert_null(wheel_pop(&wheel, 5000));
    assert_ptr_equal(wheel_pop(&wheel, 5001), &entries[0]);
}

static void entries_added_while_popping_cannot_starve_the_caller(void **state)
{
    (void)state;
    const uint64_t now_ms = UINT64_C(30) * 24 * 3600 * 1000;
    for (size_t i = 0; i < 100; i++)
        wheel_add(&wheel, &entries[i], i * 77777);
    size_t popped = 0;
    for (struct wheel_entry *entry; (entry = wheel_pop(&wheel, now_ms)); popped++) {
        wheel_add(&wheel, entry, popped % 2 ? 0 : entry->due_ms + 1);
        wheel_check(&wheel);
    }
    assert_int_equal(popped, 100);
    assert_int_equal(wheel_next_ms(&wheel), now_ms + 1);
    for (popped = 0; wheel_pop(&wheel, now_ms + 1);)
        popped++;
    assert_int_equal(popped, 100);
}

static void an_entry_that_is_due_may_be_removed_by_another_that_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < 100; i++)
        wheel_add(&wheel, &entries[i], 50 + i % 2);
    size_t popped = 0;
    for (struct wheel_entry *entry; (entry = wheel_pop(&wheel, 51)); popped++) {
        size_t i = (size_t)(entry - entries);
        wheel_remove(&wheel, &entries[(i + 50) % 100]);
        wheel_check(&wheel);
    }
    assert_int_equal(popped, 50);
    assert_int_equal(wheel_next_ms(&wheel), UINT64_MAX);
}

static void removing_twice_is_removing_once(void **state)
{
    (void)state;
    wheel_remove(&wheel, &entries[0]);
    wheel_add(&wheel, &entries[0], 100);
    assert_true(wheel_entry_linked(&entries[0]));
    wheel_remove(&wheel, &entries[0]);
    wheel_remove(&wheel, &entries[0]);
    assert_false(wheel_entry_linked(&entries[0]));
    assert_null(wheel_pop(&wheel, 1000));
    wheel_check(&wheel);
}

static void ten_thousand_at_once_all_come_at_once(void **state)
{
    (void)state;
    const uint64_t due_ms = 30000;
    for (size_t i = 0; i < CROWD; i++)
        wheel_add(&wheel, &entries[i], due_ms);
    wheel_check(&wheel);
    assert_null(wheel_pop(&wheel, due_ms - 1));
    for (size_t i = 0; i < CROWD; i++)
        assert_non_null(wheel_pop(&wheel, due_ms));
    assert_null(wheel_pop(&wheel, due_ms));
    for (size_t i = 0; i < CROWD; i++)
        assert_false(wheel_entry_linked(&entries[i]));
    wheel_check(&wheel);
}

/* The naive model: the same entries, looked through one by one. */
enum { MODELLED = 150, STEPS = 60000 };

struct model {
    uint64_t now_ms, floor_ms;
    uint64_t due_ms[MODELLED]; /* UINT64_MAX: not in the wheel */
};

static uint64_t random_state;

/* xorshift64* (Vigna, An experimental exploration of Marsaglia's xorshift generators, 2014). */
static uint64_t random_below(uint64_t bound)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * UINT64_C(2685821657736338717) >> 16) % bound;
}

/* Most are near, some are years away: every level gets its share. */
static uint64_t random_span_ms(void)
{
    return random_below(UINT64_C(1) << (1 + random_below(38)));
}

static uint64_t earliest_ms(const struct model *model)
{
    uint64_t earliest = UINT64_MAX;
    for (size_t i = 0; i < MODELLED; i++)
        earliest = model->due_ms[i] < earliest ? model->due_ms[i] : earliest;
    return earliest;
}

static void change_one(struct model *model)
{
    size_t i = (size_t)random_below(MODELLED);
    uint64_t back_ms = random_below(100);
    assert_int_equal(wheel_entry_linked(&entries[i]), model->due_ms[i] != UINT64_MAX);
    wheel_remove(&wheel, &entries[i]);
    model->due_ms[i] = UINT64_MAX;
    if (random_below(3) == 0)
        return;
    uint64_t due_ms = model->floor_ms + random_span_ms();
    due_ms -= back_ms < due_ms ? back_ms : due_ms;
    model->due_ms[i] = due_ms > model->floor_ms ? due_ms : model->floor_ms;
    wheel_add(&wheel, &entries[i], due_ms);
}

static void pop_one(struct model *model, uint64_t now_ms)
{
    model->now_ms = now_ms > model->now_ms ? now_ms : model->now_ms;
    model->floor_ms = model->now_ms + 1;
    struct wheel_entry *entry = wheel_pop(&wheel, now_ms);
    uint64_t earliest = earliest_ms(model);
    if (!entry) {
        assert_true(earliest >= model->floor_ms);
        return;
    }
    assert_true(earliest < model->floor_ms);
    assert_int_equal(model->due_ms[entry - entries], earliest);
    assert_int_equal(entry->due_ms, earliest);
    model->due_ms[entry - entries] = UINT64_MAX;
}

static void it_does_what_a_naive_model_does(void **state)
{
    (void)state;
    const char *given = getenv("WHEEL_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
    printf("WHEEL_SEED=%llu\n", (unsigned long long)seed);
    random_state = seed | 1;

    uint64_t now_ms = random_span_ms();
    struct model model = {.now_ms = now_ms, .floor_ms = now_ms};
    memset(model.due_ms, 0xff, sizeof model.due_ms);
    wheel_init(&wheel, now_ms);
    for (size_t step = 0; step < STEPS; step++) {
        uint64_t dice = random_below(10);
        if (dice < 6)
            change_one(&model);
        else if (dice < 8)
            pop_one(&model, now_ms - (now_ms > 50 ? random_below(50) : 0));
        else
            pop_one(&model, now_ms += random_below(4) ? random_below(100) : random_span_ms());
        assert_true(wheel_next_ms(&wheel) <= earliest_ms(&model));
        assert_int_equal(wheel_next_ms(&wheel) == UINT64_MAX, earliest_ms(&model) == UINT64_MAX);
        if (step % 16 == 0)
            wheel_check(&wheel);
    }
}

static void add_for_a_time_that_never_comes(void)
{
    wheel_add(&wheel, &entries[0], UINT64_MAX);
}

static void add_twice(void)
{
    wheel_add(&wheel, &entries[0], 1);
    wheel_add(&wheel, &entries[0], 2);
}

static void pop_at_the_end_of_time(void)
{
    wheel_pop(&wheel, UINT64_MAX);
}

static void change_a_due_time_behind_the_wheels_back(void)
{
    wheel_add(&wheel, &entries[0], 100);
    entries[0].due_ms = 200;
    wheel_check(&wheel);
}

static void assert_aborts(void (*misuse)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGABRT, SIG_DFL);
        fclose(stderr);
        misuse();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void misuse_is_an_assertion(void **state)
{
    (void)state;
    assert_aborts(add_for_a_time_that_never_comes);
    assert_aborts(add_twice);
    assert_aborts(pop_at_the_end_of_time);
    assert_aborts(change_a_due_time_behind_the_wheels_back);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(an_empty_wheel_has_nothing_due, begin),
        cmocka_unit_test_setup(every_due_time_is_met_to_the_millisecond_when_each_is_looked_at, begin),
        cmocka_unit_test_setup(every_due_time_is_met_when_only_wheel_next_ms_is_looked_at, begin),
        cmocka_unit_test_setup(a_lone_entry_is_never_early_and_comes_after_any_jump, begin),
        cmocka_unit_test_setup(the_longest_deadline_is_met, begin),
        cmocka_unit_test_setup(there_is_no_horizon, begin),
        cmocka_unit_test_setup(a_jump_over_days_returns_all_in_order, begin),
        cmocka_unit_test_setup(a_clock_that_goes_back_stands_still, begin),
        cmocka_unit_test_setup(what_is_due_in_the_past_is_due_at_once, begin),
        cmocka_unit_test_setup(entries_added_while_popping_cannot_starve_the_caller, begin),
        cmocka_unit_test_setup(an_entry_that_is_due_may_be_removed_by_another_that_is, begin),
        cmocka_unit_test_setup(removing_twice_is_removing_once, begin),
        cmocka_unit_test_setup(ten_thousand_at_once_all_come_at_once, begin),
        cmocka_unit_test_setup(it_does_what_a_naive_model_does, begin),
        cmocka_unit_test_setup(misuse_is_an_assertion, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
