#include "tests/unit/cmocka.h"

#include "reaper/policy/deadline.h"
#include "reaper/policy/pair.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* What issue and README promise; the table under test is the other copy, on purpose. */
static const struct {
    const char *name;
    uint64_t default_ms, min_ms;
    bool may_be_off, settable_action, spares_delivery;
    enum close_action action;
    enum reason reason;
} promised[DEADLINE_COUNT] = {
    [DEADLINE_CONNECT] = {"connect", 5000, 1, true, false, false, CLOSE_RST, REASON_CONNECT},
    [DEADLINE_IDLE] = {"idle", 3600000, 1, true, true, true, CLOSE_FIN, REASON_IDLE},
    [DEADLINE_HALF_CLOSE] = {"half_close", 30000, 0, true, true, true, CLOSE_RST, REASON_HALF_CLOSE},
    [DEADLINE_HALF_CLOSE_MAX] = {"half_close_max", DEADLINE_OFF, 0, true, true, false, CLOSE_RST,
                                 REASON_HALF_CLOSE_MAX},
    [DEADLINE_WRITE_STALL] = {"write_stall", 60000, 1, true, true, false, CLOSE_RST, REASON_WRITE_STALL},
    [DEADLINE_LIFETIME] = {"lifetime", DEADLINE_OFF, 1, true, true, false, CLOSE_FIN, REASON_LIFETIME},
    [DEADLINE_DRAIN] = {"drain", 30000, 0, true, false, false, CLOSE_RST, REASON_DRAIN},
    [DEADLINE_GRACE] = {"grace", 5000, 0, false, false, true, CLOSE_RST, REASON_NONE},
    [DEADLINE_REQUEST_HEAD] = {"request_head", 10000, 1, true, false, false, CLOSE_FIN, REASON_REQUEST_HEAD},
    [DEADLINE_REQUEST_BODY] = {"request_body", 60000, 1, true, false, false, CLOSE_RST, REASON_REQUEST_BODY},
    [DEADLINE_RESPONSE] = {"response", 60000, 1, true, false, false, CLOSE_RST, REASON_RESPONSE},
    [DEADLINE_EVENT_STREAM] = {"event_stream", 3600000, 1, true, false, false, CLOSE_RST,
                               REASON_EVENT_STREAM},
    [DEADLINE_TUNNEL] = {"tunnel", 3600000, 1, true, true, true, CLOSE_FIN, REASON_TUNNEL},
    [DEADLINE_KEEPALIVE] = {"keepalive", 75000, 1, true, false, false, CLOSE_FIN, REASON_KEEPALIVE},
    [DEADLINE_MESSAGE_GRACE] = {"message_grace", 250, 0, false, false, false, CLOSE_RST,
                                REASON_MESSAGE_GRACE},
    [DEADLINE_HALF_CLOSE_EMPTY] = {"half_close_empty", DEADLINE_OFF, 0, true, false, true, CLOSE_RST,
                                   REASON_HALF_CLOSE_EMPTY},
    [DEADLINE_PREFACE] = {"preface", 10000, 1, true, false, false, CLOSE_RST, REASON_PREFACE},
};

static void every_row_is_as_promised(void **state)
{
    (void)state;
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++) {
        const struct deadline *row = deadline_row(id);
        assert_string_equal(row->name, promised[id].name);
        assert_int_equal(row->default_ms, promised[id].default_ms);
        assert_int_equal(row->min_ms, promised[id].min_ms);
        assert_int_equal(row->may_be_off, promised[id].may_be_off);
        assert_int_equal(row->settable_action, promised[id].settable_action);
        assert_int_equal(row->spares_delivery, promised[id].spares_delivery);
        assert_int_equal(row->default_action, promised[id].action);
        assert_int_equal(row->reason, promised[id].reason);
    }
}

static void every_row_explains_itself(void **state)
{
    (void)state;
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++) {
        const struct deadline *row = deadline_row(id);
        assert_true(strlen(row->runs_while) >= strlen("always"));
        assert_true(strlen(row->at_expiry) > 10);
        assert_int_equal(row->rate_reason != REASON_NONE, row->rate_help != NULL);
        assert_int_equal(row->rate_reason != REASON_NONE, row->trickled != NULL);
        for (enum deadline_id before = 0; before < id; before++)
            assert_string_not_equal(row->name, deadline_row(before)->name);
    }
}

static void every_default_may_be_configured(void **state)
{
    (void)state;
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++) {
        const struct deadline *row = deadline_row(id);
        assert_true(row->min_ms <= row->max_ms && row->max_ms == DEADLINE_MAX_MS);
        if (row->default_ms == DEADLINE_OFF)
            assert_true(row->may_be_off);
        else
            assert_in_range(row->default_ms, row->min_ms, row->max_ms);
    }
}

static void defaults_fill_in_every_setting(void **state)
{
    (void)state;
    struct deadlines deadlines;
    memset(&deadlines, 0xa5, sizeof deadlines);
    deadlines_default(&deadlines);
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++) {
        assert_int_equal(deadlines.after_ms[id], promised[id].default_ms);
        assert_int_equal(deadlines.action[id][LEG_CLIENT], promised[id].action);
        assert_int_equal(deadlines.action[id][LEG_BACKEND], promised[id].action);
    }
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++)
        assert_int_equal(deadlines.rate[id], id == DEADLINE_HALF_CLOSE ? 1024 : 0);
}

static void adding_stops_at_never(void **state)
{
    (void)state;
    assert_int_equal(deadline_add(10, 5), 15);
    assert_int_equal(deadline_add(0, 0), 0);
    assert_true(deadline_add(10, DEADLINE_OFF) == DEADLINE_OFF);
    assert_true(deadline_add(0, DEADLINE_OFF) == DEADLINE_OFF);
    assert_true(deadline_add(UINT64_MAX - 4, 5) == DEADLINE_OFF);
    assert_true(deadline_add(UINT64_MAX - 6, 5) == UINT64_MAX - 1);
}

static unsigned bit(enum deadline_id id)
{
    return 1u << id;
}

static unsigned armed(const struct pair *pair)
{
    unsigned set = 0;
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++)
        if (deadline_row(id)->armed(pair))
            set |= bit(id);
    return set;
}

static struct pair in_phase(enum pair_phase phase, enum reason reason)
{
    return (struct pair){.phase = (uint8_t)phase, .reason = (uint8_t)reason};
}

static void connecting_arms_connect_and_lifetime(void **state)
{
    (void)state;
    struct pair pair = in_phase(PAIR_CONNECTING, REASON_NONE);
    assert_int_equal(armed(&pair), bit(DEADLINE_CONNECT) | bit(DEADLINE_LIFETIME));
}

static void open_arms_idle_and_lifetime(void **state)
{
    (void)state;
    struct pair pair = in_phase(PAIR_OPEN, REASON_NONE);
    assert_int_equal(armed(&pair), bit(DEADLINE_IDLE) | bit(DEADLINE_LIFETIME));
}

static void either_ended_half_arms_both_half_close_deadlines_instead_of_idle(void **state)
{
    (void)state;
    for (enum half half = 0; half < HALF_COUNT; half++) {
        struct pair pair = in_phase(PAIR_OPEN, REASON_NONE);
        pair.half[half].fin_in = pair.half[half].fin_out = true;
        pair.half[HALF_REQUEST].written_bytes = 1;
        assert_int_equal(armed(&pair),
                         bit(DEADLINE_HALF_CLOSE) | bit(DEADLINE_HALF_CLOSE_MAX) | bit(DEADLINE_LIFETIME));
        pair.phase = PAIR_ENDING;
        pair.reason = REASON_LIFETIME;
        assert_int_equal(armed(&pair),
                         bit(DEADLINE_HALF_CLOSE) | bit(DEADLINE_HALF_CLOSE_MAX) | bit(DEADLINE_GRACE));
    }
}

static void held_bytes_arm_write_stall_wherever_they_still_flow(void **state)
{
    (void)state;
    for (enum half half = 0; half < HALF_COUNT; half++) {
        for (enum pair_phase phase = 0; phase < PAIR_PHASE_COUNT; phase++) {
            struct pair pair = in_phase(phase, REASON_DRAIN);
            pair.half[half].held = true;
            bool flows = phase == PAIR_WAITING || phase == PAIR_OPEN || phase == PAIR_ENDING ||
                         phase == PAIR_RESETTING;
            assert_int_equal((armed(&pair) & bit(DEADLINE_WRITE_STALL)) != 0, flows);
        }
    }
}

static void unacknowledged_bytes_arm_write_stall_only_after_a_reset(void **state)
{
    (void)state;
    struct pair pair = in_phase(PAIR_RESETTING, REASON_CLIENT_RESET);
    assert_int_equal(armed(&pair), 0);
    pair.half[HALF_REQUEST].unacked_bytes = 1;
    assert_int_equal(armed(&pair), bit(DEADLINE_WRITE_STALL));
    pair.phase = PAIR_OPEN;
    assert_false(armed(&pair) & bit(DEADLINE_WRITE_STALL));
}

static void ending_keeps_idle_and_keeps_lifetime_until_it_is_the_reason(void **state)
{
    (void)state;
    struct pair pair = in_phase(PAIR_ENDING, REASON_DRAIN);
    pair.draining = true;
    assert_int_equal(armed(&pair), bit(DEADLINE_IDLE) | bit(DEADLINE_LIFETIME) | bit(DEADLINE_DRAIN));
    pair = in_phase(PAIR_ENDING, REASON_LIFETIME);
    assert_int_equal(armed(&pair), bit(DEADLINE_IDLE) | bit(DEADLINE_GRACE));
}

static void closing_arms_grace(void **state)
{
    (void)state;
    struct pair pair = in_phase(PAIR_CLOSING, REASON_IDLE);
    assert_int_equal(armed(&pair), bit(DEADLINE_GRACE));
}

static void draining_arms_drain_until_the_end(void **state)
{
    (void)state;
    for (enum pair_phase phase = 0; phase < PAIR_PHASE_COUNT; phase++) {
        struct pair pair = in_phase(phase, REASON_SHUTDOWN);
        assert_false(armed(&pair) & bit(DEADLINE_DRAIN));
        pair.draining = true;
        assert_int_equal((armed(&pair) & bit(DEADLINE_DRAIN)) != 0, phase != PAIR_ENDED);
    }
}

static void the_end_arms_nothing(void **state)
{
    (void)state;
    struct pair pair = in_phase(PAIR_ENDED, REASON_CLOSED);
    pair.draining = true;
    pair.half[HALF_REQUEST].held = true;
    assert_int_equal(armed(&pair), 0);
}

static void a_row_that_does_not_exist_is_an_assertion(void **state)
{
    (void)state;
    int status;
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        close(STDERR_FILENO);
        deadline_row(DEADLINE_COUNT);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_as_promised),
        cmocka_unit_test(every_row_explains_itself),
        cmocka_unit_test(every_default_may_be_configured),
        cmocka_unit_test(defaults_fill_in_every_setting),
        cmocka_unit_test(adding_stops_at_never),
        cmocka_unit_test(connecting_arms_connect_and_lifetime),
        cmocka_unit_test(open_arms_idle_and_lifetime),
        cmocka_unit_test(either_ended_half_arms_both_half_close_deadlines_instead_of_idle),
        cmocka_unit_test(held_bytes_arm_write_stall_wherever_they_still_flow),
        cmocka_unit_test(unacknowledged_bytes_arm_write_stall_only_after_a_reset),
        cmocka_unit_test(ending_keeps_idle_and_keeps_lifetime_until_it_is_the_reason),
        cmocka_unit_test(closing_arms_grace),
        cmocka_unit_test(draining_arms_drain_until_the_end),
        cmocka_unit_test(the_end_arms_nothing),
        cmocka_unit_test(a_row_that_does_not_exist_is_an_assertion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
