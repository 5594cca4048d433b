#include "tests/unit/cmocka.h"

#include "tests/unit/proxy.h"

#include <sys/resource.h>
#include <sys/stat.h>

/* ---- unix paths --------------------------------------------------------------------------------------- */

struct path {
    char folder[32];
    char name[64];
};

static void path_make(struct path *path)
{
    snprintf(path->folder, sizeof path->folder, "/tmp/lastack-XXXXXX");
    assert_non_null(mkdtemp(path->folder));
    snprintf(path->name, sizeof path->name, "%s/proxy.sock", path->folder);
}

static bool is_there(const char *name)
{
    struct stat status;
    return stat(name, &status) == 0;
}

static struct proxy *new_proxy(void)
{
    struct proxy *proxy = malloc(sizeof *proxy);
    assert_non_null(proxy);
    proxy_prepare(proxy);
    return proxy;
}

static void end_proxy(struct proxy *proxy)
{
    proxy_free(proxy);
    free(proxy);
}

static void a_unix_path_serves_with_every_worker_and_goes_with_the_plane(void **state)
{
    struct proxy *proxy = new_proxy();
    struct path path;
    (void)state;
    path_make(&path);
    proxy->conf.workers = 3;
    proxy->listen.address = conf_address_of_path(path.name);
    proxy_start(proxy);
    assert_true(is_there(path.name));
    for (int i = 0; i < 20; i++)
        proxy_relay_one(proxy);
    end_proxy(proxy);
    assert_false(is_there(path.name));
    assert_int_equal(rmdir(path.folder), 0);
}

static void a_path_that_a_successor_took_over_stays_his(void **state)
{
    struct proxy *old = new_proxy(), *new = new_proxy();
    struct path path;
    (void)state;
    path_make(&path);
    old->listen.address = new->listen.address = conf_address_of_path(path.name);
    proxy_start(old);
    plane_drain(old->plane);
    while (plane_running(old->plane))
        pause_ms(1);
    proxy_start(new);
    end_proxy(old);
    assert_true(is_there(path.name));
    proxy_relay_one(new);
    end_proxy(new);
    assert_int_equal(rmdir(path.folder), 0);
}

static void a_stale_path_is_replaced_and_a_living_one_is_not(void **state)
{
    struct proxy *first = new_proxy(), *second = new_proxy();
    struct conf_address address;
    struct plane *plane = NULL;
    const char *where = NULL;
    struct path path;
    (void)state;
    path_make(&path);
    address = conf_address_of_path(path.name);
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(stale, (struct sockaddr *)&address.address, address.length), 0);
    close(stale);
    first->listen.address = second->listen.address = address;
    proxy_start(first);
    assert_int_equal(plane_start(&second->conf, first->log, NULL, &plane, &where), -EADDRINUSE);
    assert_ptr_equal(where, second->listen.text);
    assert_true(is_there(path.name));
    proxy_relay_one(first);
    end_proxy(first);
    close(second->origin);
    free(second);
    assert_int_equal(rmdir(path.folder), 0);
}

static void a_start_that_fails_leaves_no_path_behind(void **state)
{
    struct proxy *proxy = new_proxy();
    struct conf_listen listens[2];
    struct plane *plane = NULL;
    const char *where = NULL;
    struct path path;
    struct sockaddr_in taken;
    int holder = listen_on_loopback(&taken);
    (void)state;
    path_make(&path);
    listens[0] = listens[1] = proxy->listen;
    listens[0].address = conf_address_of_path(path.name);
    listens[1].address = conf_address_of(&taken);
    proxy->frontend.listen = listens;
    proxy->frontend.listen_count = 2;
    assert_int_equal(log_open(&proxy->conf.log, &proxy->log), 0);
    assert_int_equal(plane_start(&proxy->conf, proxy->log, NULL, &plane, &where), -EADDRINUSE);
    assert_false(is_there(path.name));
    log_close(proxy->log);
    close(proxy->origin);
    close(holder);
    free(proxy);
    assert_int_equal(rmdir(path.folder), 0);
}

/* ---- descriptors run out ------------------------------------------------------------------------------ */

static uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void set_descriptors(rlim_t limit)
{
    struct rlimit set;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &set), 0);
    set.rlim_cur = limit ? limit : set.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &set), 0);
}

/* Leaves room for just so many descriptors. */
static void leave_descriptors(rlim_t count)
{
    int next = dup(0);
    assert_true(next >= 0);
    close(next);
    set_descriptors((rlim_t)next + count);
}

/* The next free descriptor is above all others, so that a limit counts. */
static size_t fill_holes(int *fds, size_t max)
{
    size_t count = 0;
    int highest = fcntl(0, F_DUPFD_CLOEXEC, 0), at = highest;
    for (int fd = 0; fd < 4096; fd++)
        if (fcntl(fd, F_GETFD) >= 0 && fd > highest)
            highest = fd;
    fds[count++] = at;
    while (at < highest && count < max) {
        at = dup(0);
        assert_true(at >= 0);
        fds[count++] = at;
    }
    close(fds[--count]); /* the one above */
    return count;
}

enum { WAITING = 20, HOLES = 256 };

/* With one descriptor left a client can be accepted, but not connected on. The others wait in the backlog
 * and do not all share its fate. */
static void clients_that_can_not_be_served_wait(void **state)
{
    struct proxy *proxy = new_proxy();
    int clients[WAITING], holes[HOLES];
    const struct conf_address *address;
    (void)state;
    proxy_start(proxy);
    proxy_relay_one(proxy);
    address = plane_address(proxy->plane, 0, 0);
    for (int i = 0; i < WAITING; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(clients[i] >= 0);
    }
    size_t hole_count = fill_holes(holes, HOLES);
    leave_descriptors(1);
    uint64_t began_ms = clock_ms();
    for (int i = 0; i < WAITING; i++)
        connect_to(clients[i], (const struct sockaddr *)&address->address, address->length);
    while (proxy_ended(proxy, REASON_NO_DESCRIPTORS) == 0)
        pause_ms(1);
    set_descriptors(0);
    uint64_t took_ms = clock_ms() - began_ms;
    while (proxy_accepted(proxy) < WAITING + 1)
        pause_ms(1);
    uint64_t refused = proxy_ended(proxy, REASON_NO_DESCRIPTORS);
    assert_true(refused <= 2 + took_ms / 50);
    for (int i = 0; i < WAITING; i++)
        close(clients[i]);
    for (size_t i = 0; i < hole_count; i++)
        close(holes[i]);
    for (uint64_t i = 0; i < WAITING - refused; i++)
        close(proxy_origin(proxy));
    proxy_wait_ended(proxy, REASON_COUNT, WAITING + 1);
    proxy_relay_one(proxy);
    end_proxy(proxy);
}

/* accept4(2) itself can't: nobody is lost at all. */
static void clients_that_can_not_be_accepted_wait(void **state)
{
    enum { CROWD = 150 }; /* more than are accepted in a turn */
    struct proxy *proxy = new_proxy();
    int clients[CROWD], holes[HOLES];
    const struct conf_address *address;
    (void)state;
    proxy_start(proxy);
    proxy_relay_one(proxy);
    address = plane_address(proxy->plane, 0, 0);
    for (int i = 0; i < CROWD; i++)
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t hole_count = fill_holes(holes, HOLES);
    leave_descriptors(0);
    for (int i = 0; i < CROWD; i++)
        connect_to(clients[i], (const struct sockaddr *)&address->address, address->length);
    pause_ms(300); /* gives it the time to do wrong; nothing depends on it */
    assert_int_equal(proxy_accepted(proxy), 1);
    set_descriptors(0);
    for (int i = 0; i < CROWD; i++)
        close(proxy_origin(proxy));
    for (int i = 0; i < CROWD; i++) {
        receive_end(clients[i], 0);
        close(clients[i]);
    }
    for (size_t i = 0; i < hole_count; i++)
        close(holes[i]);
    proxy_wait_ended(proxy, REASON_CLOSED, CROWD + 1);
    end_proxy(proxy);
}

static void on_stopped(uv_async_t *stopped)
{
    const struct proxy *proxy = stopped->data;
    if (!plane_running(proxy->plane))
        uv_stop(stopped->loop);
}

static in_port_t port_of(const struct conf_address *address)
{
    return ((const struct sockaddr_in *)&address->address)->sin_port;
}

static void the_end_of_the_workers_is_told_and_every_address_is_known(void **state)
{
    struct proxy *proxy = new_proxy();
    struct conf_frontend frontends[2];
    struct conf_listen listens[2];
    const char *where = NULL;
    uv_loop_t loop;
    uv_async_t stopped;
    (void)state;
    listens[0] = listens[1] = proxy->listen;
    frontends[0] = frontends[1] = proxy->frontend;
    frontends[1].listen = listens;
    frontends[1].listen_count = 2;
    proxy->conf.frontends = frontends;
    proxy->conf.frontend_count = 2;
    proxy->conf.workers = 4;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_async_init(&loop, &stopped, on_stopped), 0);
    stopped.data = proxy;
    assert_int_equal(log_open(&proxy->conf.log, &proxy->log), 0);
    assert_int_equal(plane_start(&proxy->conf, proxy->log, &stopped, &proxy->plane, &where), 0);
    const struct conf_address *all[] = {plane_address(proxy->plane, 0, 0), plane_address(proxy->plane, 1, 0),
                                        plane_address(proxy->plane, 1, 1)};
    for (size_t i = 0; i < 3; i++)
        for (size_t j = 0; j < 3; j++)
            assert_true(i == j || port_of(all[i]) != port_of(all[j]));
    proxy_relay_one(proxy);
    plane_drain(proxy->plane);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_false(plane_running(proxy->plane));
    assert_null(plane_counters(proxy->plane, 4));
    end_proxy(proxy);
    uv_close((uv_handle_t *)&stopped, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_unix_path_serves_with_every_worker_and_goes_with_the_plane),
        cmocka_unit_test(a_path_that_a_successor_took_over_stays_his),
        cmocka_unit_test(a_stale_path_is_replaced_and_a_living_one_is_not),
        cmocka_unit_test(a_start_that_fails_leaves_no_path_behind),
        cmocka_unit_test(clients_that_can_not_be_served_wait),
        cmocka_unit_test(clients_that_can_not_be_accepted_wait),
        cmocka_unit_test(the_end_of_the_workers_is_told_and_every_address_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
