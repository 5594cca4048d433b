#include "tests/unit/cmocka.h"

#include "proxy/plane/worker.h"
#include "tests/unit/proxy.h"

#include <sys/epoll.h>

/* A worker without its thread, whose loop is run here turn by turn. */

enum { ALARMS = 5000, ALARMS_AT_ONCE = 64 };

struct fixture {
    struct proxy proxy; /* whose plane the worker belongs to, beside the one that is its own */
    struct worker worker;
    int listener;

    struct alarm alarms[ALARMS];
    struct poller_source source;
    int fds[2];        /* [0] is watched by the worker */
    bool ready;        /* a byte is waiting there */
    unsigned rung;     /* so far, */
    unsigned ready_at; /* of these when it came, */
    unsigned latest;   /* at most so many behind that before it was read */
    unsigned served;
};

static struct fixture *fixture;

static void on_ready(struct poller_source *source, uint32_t events)
{
    char byte;
    (void)source;
    (void)events;
    if (!fixture->ready || recv(fixture->fds[0], &byte, 1, MSG_DONTWAIT) != 1)
        return;
    unsigned behind = fixture->rung - fixture->ready_at;
    fixture->ready = false;
    fixture->served++;
    fixture->latest = behind > fixture->latest ? behind : fixture->latest;
}

/* The socket is ready from the first alarm on that rings after it was served. */
static void on_alarm(struct alarm *alarm)
{
    (void)alarm;
    if (!fixture->ready) {
        fixture->ready_at = fixture->rung;
        fixture->ready = true;
        send_text(fixture->fds[1], "x", 0);
    }
    fixture->rung++;
}

static int start(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct sockaddr_in address;
    assert_non_null(f);
    fixture = f;
    proxy_prepare(&f->proxy);
    proxy_start(&f->proxy);
    f->listener = listen_on_loopback(&address);
    assert_int_equal(worker_init(&f->worker, f->proxy.plane, 0, &f->listener), 0);
    unix_pair(f->fds);
    f->source.ready = on_ready;
    assert_int_equal(poller_add(&f->worker.loop.poller, f->fds[0], EPOLLIN, &f->source), 0);
    *state = f;
    return 0;
}

static int stop(void **state)
{
    struct fixture *f = *state;
    poller_remove(&f->worker.loop.poller, f->fds[0]);
    worker_free(&f->worker);
    proxy_free(&f->proxy);
    close(f->fds[0]);
    close(f->fds[1]);
    free(f);
    return 0;
}

static void sockets_have_their_turn_while_thousands_of_alarms_are_due(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < ALARMS; i++) {
        f->alarms[i].ring = on_alarm;
        loop_set_alarm(&f->worker.loop, &f->alarms[i], loop_now_ms(&f->worker.loop));
    }
    worker_set_mode(&f->worker, WORKER_RUNNING); /* a turn that changes nothing, and sets the timer */
    while (f->rung < ALARMS || f->ready)
        (void)uv_run(&f->worker.loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(f->rung, ALARMS);
    assert_in_range(f->latest, 1, ALARMS_AT_ONCE);
    assert_in_range(f->served, ALARMS / ALARMS_AT_ONCE, ALARMS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sockets_have_their_turn_while_thousands_of_alarms_are_due, start,
                                        stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
