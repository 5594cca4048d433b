#include "tests/unit/cmocka.h"

#include "proxy/session/inquiry.h"
#include "tests/unit/sockets.h"

#include <stdatomic.h>
#include <stdlib.h>

/* ---- a kernel that may take its time ------------------------------------------------------------------- */

int __real_netlink_lookup(struct netlink *netlink, const struct diag_id *id, struct diag_row *row);
int __wrap_netlink_lookup(struct netlink *netlink, const struct diag_id *id, struct diag_row *row);

static atomic_bool held_up;

int __wrap_netlink_lookup(struct netlink *netlink, const struct diag_id *id, struct diag_row *row)
{
    while (atomic_load(&held_up))
        pause_ms(1);
    return __real_netlink_lookup(netlink, id, row);
}

/* ---- who asks ------------------------------------------------------------------------------------------ */

struct fixture {
    uv_loop_t loop;
    uv_async_t wake;
    struct inquiry_desk *desk;
    struct inquiry_answers answers;
};

static unsigned answered;

static void on_answered(struct inquiry *inquiry)
{
    assert_false(inquiry->pending);
    answered++;
}

static void on_wake(uv_async_t *wake)
{
    (void)wake;
}

static void begin(struct fixture *f)
{
    answered = 0;
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(uv_async_init(&f->loop, &f->wake, on_wake), 0);
    assert_int_equal(inquiry_answers_init(&f->answers, &f->wake), 0);
    assert_int_equal(inquiry_desk_start(&f->desk), 0);
}

static void end(struct fixture *f)
{
    inquiry_desk_stop(f->desk);
    inquiry_answers_free(&f->answers);
    uv_close((uv_handle_t *)&f->wake, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0);
}

static void wait_answered(struct fixture *f, unsigned count)
{
    for (int waited_ms = 0; answered < count; waited_ms++) {
        assert_true(waited_ms < WAIT_MS);
        pause_ms(1);
        inquiry_collect(&f->answers);
    }
    assert_int_equal(answered, count);
}

static struct inquiry ask(struct fixture *f, struct inquiry inquiry)
{
    unsigned before = answered;
    inquiry.to = &f->answers;
    inquiry.answered = on_answered;
    assert_true(inquiry_ask(f->desk, &inquiry));
    wait_answered(f, before + 1);
    return inquiry;
}

static void a_reset_is_sent_and_what_it_did_is_told(void **state)
{
    struct fixture f;
    int fds[2];
    char byte;
    (void)state;
    begin(&f);
    tcp_pair(fds, 0);
    const struct inquiry reset = ask(&f, (struct inquiry){.kind = INQUIRY_RESET, .fd = fds[0]});
    assert_int_equal(reset.clearing, CLEARING_GONE);
    assert_int_equal(reset.fd, -1);
    wait_for(fds[1], POLLIN);
    assert_int_equal(recv(fds[1], &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    const struct inquiry again = ask(&f, (struct inquiry){.kind = INQUIRY_LOOK, .peer = reset.peer});
    assert_int_equal(again.clearing, CLEARING_GONE);
    close(fds[1]);
    end(&f);
}

static void whether_a_peer_still_holds_its_socket_is_told(void **state)
{
    struct fixture f;
    struct inquiry hold = {.kind = INQUIRY_HOLD};
    int fds[2];
    (void)state;
    begin(&f);
    tcp_pair(fds, 0);
    assert_int_equal(shutdown(fds[1], SHUT_WR), 0);
    wait_for(fds[0], POLLIN);
    assert_true(peer_id(fds[0], &hold.peer));
    assert_int_equal(ask(&f, hold).hold, PEER_HOLDS);
    close(fds[1]);
    assert_int_equal(ask(&f, hold).hold, PEER_CLOSED);
    close(fds[0]);
    hold.peer.local.port = 1; /* nobody's */
    assert_int_equal(ask(&f, hold).hold, PEER_UNKNOWN);
    end(&f);
}

/* Whoever asks goes on at once, however long the kernel takes, and what doesn't fit is refused. */
static void nobody_waits_for_the_kernel_and_the_inbox_is_bounded(void **state)
{
    enum { MANY = 40000 };
    struct fixture f;
    struct inquiry *inquiries = calloc(MANY, sizeof *inquiries);
    unsigned taken = 0;
    (void)state;
    assert_non_null(inquiries);
    begin(&f);
    atomic_store(&held_up, true);
    for (int i = 0; i < MANY; i++) {
        inquiries[i] = (struct inquiry){
            .kind = INQUIRY_LOOK, .peer.family = AF_INET, .to = &f.answers, .answered = on_answered};
        bool asked = inquiry_ask(f.desk, &inquiries[i]);
        assert_int_equal(inquiries[i].pending, asked);
        taken += asked;
    }
    assert_true(taken >= 9000 && taken < MANY);
    assert_false(inquiry_collect(&f.answers)); /* and nothing is answered yet */
    assert_int_equal(answered, 0);
    atomic_store(&held_up, false);
    wait_answered(&f, taken);
    end(&f);
    free(inquiries);
}

static void without_a_desk_nothing_is_asked(void **state)
{
    struct inquiry inquiry = {.kind = INQUIRY_RESET, .fd = -1};
    (void)state;
    assert_false(inquiry_ask(NULL, &inquiry));
    assert_false(inquiry.pending);
    inquiry_desk_stop(NULL);
}

static void an_answer_wakes_who_asked(void **state)
{
    struct fixture f;
    struct inquiry inquiry = {.kind = INQUIRY_LOOK, .peer.family = AF_INET, .answered = on_answered};
    (void)state;
    begin(&f);
    inquiry.to = &f.answers;
    assert_true(inquiry_ask(f.desk, &inquiry));
    assert_int_not_equal(uv_run(&f.loop, UV_RUN_ONCE), 0); /* would wait for ever */
    assert_false(inquiry_collect(&f.answers));
    assert_int_equal(answered, 1);
    end(&f);
}

static void on_too_late(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("no answer wakes who asked any more");
}

/* Whoever collects looks again as long as there may be more, and then only when woken, as a worker does. */
static void no_wake_up_is_lost_however_many_are_collected_at_a_time(void **state)
{
    enum { MANY = 20000 };
    struct fixture f;
    struct inquiry *inquiries = calloc(MANY, sizeof *inquiries);
    uv_timer_t too_late;
    unsigned asked = 0;
    (void)state;
    assert_non_null(inquiries);
    begin(&f);
    uv_timer_init(&f.loop, &too_late);
    uv_timer_start(&too_late, on_too_late, WAIT_MS, 0);
    while (answered < MANY) {
        for (; asked < MANY; asked++) {
            inquiries[asked] = (struct inquiry){
                .kind = INQUIRY_LOOK, .peer.family = AF_INET, .to = &f.answers, .answered = on_answered};
            if (!inquiry_ask(f.desk, &inquiries[asked]))
                break;
        }
        if (!inquiry_collect(&f.answers) && answered < asked)
            uv_run(&f.loop, UV_RUN_ONCE);
    }
    assert_int_equal(answered, MANY);
    for (int i = 0; i < MANY; i++)
        assert_false(inquiries[i].pending);
    uv_close((uv_handle_t *)&too_late, NULL);
    end(&f);
    free(inquiries);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reset_is_sent_and_what_it_did_is_told),
        cmocka_unit_test(whether_a_peer_still_holds_its_socket_is_told),
        cmocka_unit_test(nobody_waits_for_the_kernel_and_the_inbox_is_bounded),
        cmocka_unit_test(without_a_desk_nothing_is_asked),
        cmocka_unit_test(an_answer_wakes_who_asked),
        cmocka_unit_test(no_wake_up_is_lost_however_many_are_collected_at_a_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
