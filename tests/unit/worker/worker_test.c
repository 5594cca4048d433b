#include "tests/unit/cmocka.h"

#include "proxy/server/health.h"
#include "proxy/worker/worker.h"
#include "tests/unit/proxy.h"

#include <sys/epoll.h>

/* A worker without its thread, whose loop is run here turn by turn. */

enum { ALARMS = 5000, ALARMS_AT_ONCE = 64, CROWD = 200, ACCEPTS_AT_ONCE = 64 };

struct fixture {
    struct proxy proxy; /* whose configuration and log the worker uses */
    struct worker worker;
    struct frontend frontend;
    struct health_pool health;
    struct resolver *resolver;
    struct limit limit;
    int listener;
    struct sockaddr_in address; /* its */
    int clients[CROWD];

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

/* Whether there is always one more connection to accept, and how many have been. */
static bool endless;
static unsigned accepted;

int __real_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    int ends[2], got = __real_accept4(fd, address, length, flags);
    if (got < 0 && endless) {
        unix_pair(ends);
        close(ends[1]);
        got = ends[0];
        address->sa_family = AF_UNIX;
        *length = sizeof address->sa_family;
    }
    accepted += got >= 0;
    return got;
}

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
    assert_non_null(f);
    fixture = f;
    endless = false;
    proxy_prepare(&f->proxy);
    proxy_start(&f->proxy);
    f->listener = listen_on_loopback(&f->address);
    assert_int_equal(resolve_new(&f->proxy.conf, &f->resolver), 0);
    health_pool_init(&f->health);
    f->frontend.conf = &f->proxy.frontend;
    f->limit.max = UINT64_MAX / 2;
    const struct worker_settings settings = {.conf = &f->proxy.conf,
                                             .workers = 1,
                                             .frontends = &f->frontend,
                                             .health = &f->health,
                                             .resolver = f->resolver,
                                             .limit = &f->limit,
                                             .log = f->proxy.log};
    assert_int_equal(worker_init(&f->worker, &settings, &f->listener), 0);
    unix_pair(f->fds);
    f->source.ready = on_ready;
    assert_int_equal(poller_add(&f->worker.shared.loop.poller, f->fds[0], EPOLLIN, &f->source), 0);
    *state = f;
    return 0;
}

static int stop(void **state)
{
    struct fixture *f = *state;
    poller_remove(&f->worker.shared.loop.poller, f->fds[0]);
    worker_free(&f->worker);
    resolve_free(f->resolver);
    health_pool_free(&f->health);
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
        loop_set_alarm(&f->worker.shared.loop, &f->alarms[i], loop_now_ms(&f->worker.shared.loop));
    }
    worker_set_mode(&f->worker, WORKER_RUNNING); /* a turn that changes nothing, and sets the timer */
    while (f->rung < ALARMS || f->ready)
        (void)uv_run(&f->worker.shared.loop.uv, UV_RUN_NOWAIT);
    assert_int_equal(f->rung, ALARMS);
    assert_in_range(f->latest, 1, ALARMS_AT_ONCE);
    assert_in_range(f->served, ALARMS / ALARMS_AT_ONCE, ALARMS);
}

/* However quickly clients come: each pass takes a share of those that waited when the end began. */
static void a_worker_that_drains_accepts_what_waited_and_a_share_of_it_at_a_time(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < CROWD; i++) {
        f->clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(f->clients[i], (struct sockaddr *)&f->address, sizeof f->address), 0);
    }
    endless = true;
    accepted = 0;
    worker_set_mode(&f->worker, WORKER_DRAINING);
    for (unsigned before = 0; !f->worker.drains; before = accepted) {
        (void)uv_run(&f->worker.shared.loop.uv, UV_RUN_NOWAIT);
        assert_in_range(accepted - before, 0, ACCEPTS_AT_ONCE);
    }
    assert_int_equal(accepted, CROWD);
    for (int i = 0; i < CROWD; i++)
        close(f->clients[i]);
    worker_set_mode(&f->worker, WORKER_ABORTING);
    while (uv_run(&f->worker.shared.loop.uv, UV_RUN_ONCE))
        ;
    assert_null(f->worker.shared.sessions);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(sockets_have_their_turn_while_thousands_of_alarms_are_due, start,
                                        stop),
        cmocka_unit_test_setup_teardown(a_worker_that_drains_accepts_what_waited_and_a_share_of_it_at_a_time,
                                        start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
