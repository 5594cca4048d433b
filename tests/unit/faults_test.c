#include "tests/unit/cmocka.h"

#include "tests/unit/faults.h"
#include "tests/unit/proxy.h"

#include <limits.h>
#include <sys/stat.h>

/* Nothing ends the process, nothing leaks, and once the fault is over everybody is served. Memory is
 * watched by the build with AddressSanitizer. */

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

/* ---- starting ----------------------------------------------------------------------------------------- */

/* Starts with the fault armed, and serves if that went well. Returns whether the fault was met at all. */
static bool start_with(enum fault_site site, int error, unsigned first)
{
    struct proxy *proxy = new_proxy();
    char folder[] = "/tmp/lastack-XXXXXX", path[64];
    struct conf_listen listens[2];
    const char *where = NULL;
    int fds = count_descriptors();
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
    listens[0] = listens[1] = proxy->listen;
    listens[1].address = conf_address_of_path(path);
    proxy->frontend.listen = listens;
    proxy->frontend.listen_count = 2;
    proxy->conf.workers = 2;

    fault_arm(site, FAULT_MINE, error, first, 1);
    int failed = log_open(&proxy->conf.log, &proxy->log);
    if (!failed) {
        failed = plane_start(&proxy->conf, proxy->log, NULL, &proxy->plane, &where);
        assert_true(!failed || where);
    }
    bool met = fault_disarm() > 0;
    assert_true(met || !failed);
    if (!failed) {
        proxy_relay_one(proxy);
        plane_abort(proxy->plane);
        assert_true(plane_free(proxy->plane));
    } else {
        /* An option that could not be set may make the next step fail instead. */
        assert_true(failed == -error || site == FAULT_SETSOCKOPT);
    }
    if (proxy->log)
        log_close(proxy->log);
    assert_int_equal(count_descriptors(), fds);
    assert_int_equal(rmdir(folder), 0); /* no path was left in it */
    close(proxy->origin);
    free(proxy);
    return met;
}

struct start_fault {
    enum fault_site site;
    int error;
};

static void a_start_that_fails_leaves_nothing_behind(void **state)
{
    static const struct start_fault faults[] = {
        {FAULT_MEMORY, ENOMEM},     {FAULT_SOCKET, EMFILE},       {FAULT_BIND, EADDRINUSE},
        {FAULT_LISTEN, EADDRINUSE}, {FAULT_EPOLL_CREATE, EMFILE}, {FAULT_SOCKNAME, ENOBUFS},
        {FAULT_FCNTL, EMFILE},      {FAULT_THREAD, EAGAIN},       {FAULT_SETSOCKOPT, ENOMEM},
        {FAULT_EPOLL_CTL, ENOSPC},
    };
    uv_loop_t loop; /* the first one makes a pipe that libuv keeps */
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        unsigned sites = 0;
        while (start_with(faults[i].site, faults[i].error, sites + 1))
            sites++;
        print_message("site %d: %u calls failed in turn\n", faults[i].site, sites);
        assert_true(sites > 0);
    }
}

/* ---- sessions ----------------------------------------------------------------------------------------- */

enum { UPLOAD = 3 << 20 };

struct transfer {
    int client, origin; /* origin -1: not connected yet */
    size_t sent, received;
    bool stuffed; /* the proxy took no more for a while, so it has to hold bytes */
    bool over;
};

static char scratch[1 << 17];

static bool is_over(ssize_t n)
{
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static void move_client(struct transfer *t, const struct pollfd *polled)
{
    if (polled->revents & (POLLIN | POLLHUP | POLLERR)) {
        t->over = t->over || is_over(recv(t->client, scratch, sizeof scratch, MSG_DONTWAIT));
    } else if ((polled->revents & POLLOUT) && t->sent < UPLOAD) {
        size_t size = UPLOAD - t->sent < sizeof scratch ? UPLOAD - t->sent : sizeof scratch;
        ssize_t n = send(t->client, scratch, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        t->sent += n > 0 ? (size_t)n : 0;
        if (t->sent == UPLOAD)
            shutdown(t->client, SHUT_WR);
    }
}

static void move_origin(struct transfer *t)
{
    ssize_t n = recv(t->origin, scratch, sizeof scratch, MSG_DONTWAIT);
    if (n > 0) {
        t->received += (size_t)n;
    } else if (is_over(n)) {
        close(t->origin);
        t->origin = -2;
    }
}

static void take_origin(const struct proxy *proxy, struct transfer *t)
{
    t->origin = accept4(proxy->origin, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(t->origin >= 0);
}

static void turn(const struct proxy *proxy, struct transfer *t)
{
    bool wants_out = t->sent < UPLOAD;
    struct pollfd polled[] = {
        {.fd = t->client, .events = (short)(POLLIN | (wants_out ? POLLOUT : 0))},
        {.fd = t->origin == -1 ? proxy->origin : -1, .events = POLLIN},
        {.fd = t->stuffed ? t->origin : -1, .events = POLLIN},
    };
    int ready = poll(polled, 3, 20);
    assert_true(ready >= 0);
    if (ready == 0)
        t->stuffed = true;
    if (polled[0].revents)
        move_client(t, &polled[0]);
    if (polled[1].revents)
        take_origin(proxy, t);
    if (polled[2].revents)
        move_origin(t);
}

/* A bulk upload to an origin that reads late, then its end. True when every byte came through. */
static bool transfer(const struct proxy *proxy)
{
    struct transfer t = {.client = proxy_client(proxy), .origin = -1};
    time_t until = time(NULL) + WAIT_MS / 1000;
    while (!t.over) {
        assert_true(time(NULL) < until);
        turn(proxy, &t);
    }
    close(t.client);
    if (t.origin >= 0)
        close(t.origin);
    return t.received == UPLOAD;
}

/* Late connections of sessions that failed. */
static void clear_origin(const struct proxy *proxy)
{
    struct pollfd polled = {.fd = proxy->origin, .events = POLLIN};
    while (poll(&polled, 1, 0) == 1)
        close(accept4(proxy->origin, NULL, NULL, SOCK_CLOEXEC));
}

static void wait_all_ended(const struct proxy *proxy)
{
    for (int waited_ms = 0; proxy_ended(proxy, REASON_COUNT) < proxy_accepted(proxy); waited_ms++) {
        assert_true(waited_ms < WAIT_MS);
        pause_ms(1);
    }
}

/* A transfer with the fault armed, then one without. Returns how many calls failed. */
static unsigned serve_with(const struct proxy *proxy, enum fault_site site, int error, unsigned first,
                           unsigned count)
{
    uint64_t unserved = proxy_ended(proxy, REASON_NO_MEMORY) + proxy_ended(proxy, REASON_NO_DESCRIPTORS) +
                        proxy_ended(proxy, REASON_NO_PORTS) + proxy_ended(proxy, REASON_CONNECT_FAILED);
    fault_arm(site, FAULT_OTHERS, error, first, count);
    bool whole = transfer(proxy);
    wait_all_ended(proxy);
    unsigned failed = fault_disarm();
    uint64_t now_unserved = proxy_ended(proxy, REASON_NO_MEMORY) + proxy_ended(proxy, REASON_NO_DESCRIPTORS) +
                            proxy_ended(proxy, REASON_NO_PORTS) + proxy_ended(proxy, REASON_CONNECT_FAILED);
    assert_true(whole || failed > 0);
    /* One that was accepted at all says why it ended. */
    assert_true(whole || now_unserved == unserved + 1 ||
                proxy_accepted(proxy) == proxy_ended(proxy, REASON_COUNT));
    clear_origin(proxy);
    return failed;
}

struct session_fault {
    enum fault_site site;
    int error;
    bool is_harmless; /* no session may suffer */
};

static const struct session_fault session_faults[] = {
    {FAULT_MEMORY, ENOMEM, false},       {FAULT_ACCEPT, EMFILE, true},
    {FAULT_ACCEPT, ENFILE, true},        {FAULT_ACCEPT, ENOMEM, true},
    {FAULT_ACCEPT, ENOBUFS, true},       {FAULT_ACCEPT, EINTR, true},
    {FAULT_ACCEPT, ECONNABORTED, true},  {FAULT_ACCEPT, EPROTO, true},
    {FAULT_SOCKET, EMFILE, false},       {FAULT_SOCKET, ENFILE, false},
    {FAULT_SOCKET, ENOBUFS, false},      {FAULT_CONNECT, EADDRNOTAVAIL, false},
    {FAULT_CONNECT, ENETUNREACH, false}, {FAULT_CONNECT, ECONNREFUSED, false},
    {FAULT_EPOLL_CTL, ENOMEM, false},    {FAULT_EPOLL_CTL, ENOSPC, false},
    {FAULT_EPOLL_WAIT, EINTR, true},     {FAULT_PIPE, EMFILE, true},
    {FAULT_PIPE, ENFILE, true},          {FAULT_FCNTL, EPERM, true},
    {FAULT_SPLICE, EINTR, true},         {FAULT_RECV, EINTR, true},
    {FAULT_RECV, ENOMEM, false},         {FAULT_SEND, EINTR, true},
    {FAULT_SEND, ENOBUFS, false},        {FAULT_IOCTL, EINVAL, true},
    {FAULT_SETSOCKOPT, ENOMEM, true},    {FAULT_GETSOCKOPT, ENOBUFS, true},
};

/* The first calls in turn; what comes later repeats. */
enum { CALLS = 6 };

static void one_session_may_end_and_no_other_does(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof session_faults / sizeof session_faults[0]; i++) {
        const struct session_fault *row = &session_faults[i];
        struct proxy *proxy = new_proxy();
        unsigned met = 0, calls = row->site == FAULT_MEMORY ? 20 : CALLS;
        proxy_start(proxy);
        for (unsigned first = 1; first <= calls; first++) {
            uint64_t closed = proxy_ended(proxy, REASON_CLOSED);
            met += serve_with(proxy, row->site, row->error, first, 1);
            assert_true(!row->is_harmless || proxy_ended(proxy, REASON_CLOSED) == closed + 1);
            proxy_relay_one(proxy);
        }
        if (met == 0)
            print_message("site %d, error %d: never met\n", row->site, row->error);
        end_proxy(proxy);
    }
}

/* A shortage that lasts: whoever can wait waits, and is served. */
static void a_shortage_that_lasts_is_outlasted(void **state)
{
    static const struct session_fault faults[] = {
        {FAULT_ACCEPT, EMFILE, true}, {FAULT_ACCEPT, ENOBUFS, true}, {FAULT_PIPE, EMFILE, true}};
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct proxy *proxy = new_proxy();
        proxy_start(proxy);
        assert_true(serve_with(proxy, faults[i].site, faults[i].error, 1, 8) > 1);
        assert_int_equal(proxy_ended(proxy, REASON_CLOSED), 1);
        end_proxy(proxy);
    }
}

/* Writes so little at a time that it is copied, until the proxy has to hold bytes and can't. */
static void bytes_that_can_not_be_held_end_their_session(void **state)
{
    struct proxy *proxy = new_proxy();
    int fds[2];
    (void)state;
    proxy_start(proxy);
    proxy_session(proxy, fds);
    int leg = find_leg(fds[0]);
    fault_arm(FAULT_MEMORY, FAULT_OTHERS, ENOMEM, 1, 1);
    while (proxy_ended(proxy, REASON_COUNT) == 0) {
        struct pollfd polled = {.fd = fds[0], .events = POLLOUT};
        int queued = 0;
        assert_int_equal(poll(&polled, 1, WAIT_MS), 1);
        if (ioctl(leg, FIONREAD, &queued) || queued > 0)
            continue;
        ssize_t n = send(fds[0], scratch, 1 << 13, MSG_NOSIGNAL);
        assert_true(n > 0 || errno != EAGAIN);
    }
    assert_int_equal(fault_disarm(), 1);
    assert_int_equal(proxy_ended(proxy, REASON_NO_MEMORY), 1);
    wait_for(fds[0], POLLHUP);
    close(fds[0]);
    close(fds[1]);
    proxy_relay_one(proxy);
    end_proxy(proxy);
}

/* A splice(2) that was half done when the reset came takes the error off the socket: nothing but the
 * hang-up is left to tell. Here the worker is kept from looking while the test takes it. */
static void a_reset_whose_error_got_lost_is_still_a_reset(void **state)
{
    struct proxy *proxy = new_proxy();
    (void)state;
    proxy_start(proxy);
    for (int end = 0; end < 2; end++) {
        int fds[2], error = 0;
        socklen_t length = sizeof error;
        proxy_session(proxy, fds);
        send_text(fds[0], "x", 0);
        receive_text(fds[1], "x");
        int leg = find_leg(fds[end]);
        fault_arm(FAULT_EPOLL_WAIT, FAULT_OTHERS, EINTR, 1, UINT_MAX);
        pause_ms(10); /* a look that began before has ended; else the test finds no error to take */
        reset_close(fds[end]);
        wait_for(leg, POLLHUP);
        assert_int_equal(getsockopt(leg, SOL_SOCKET, SO_ERROR, &error, &length), 0);
        fault_disarm();
        receive_end(fds[!end], ECONNRESET);
        close(fds[!end]);
        proxy_wait_ended(proxy, end ? REASON_BACKEND_RESET : REASON_CLIENT_RESET, 1);
    }
    end_proxy(proxy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_that_fails_leaves_nothing_behind),
        cmocka_unit_test(one_session_may_end_and_no_other_does),
        cmocka_unit_test(a_shortage_that_lasts_is_outlasted),
        cmocka_unit_test(bytes_that_can_not_be_held_end_their_session),
        cmocka_unit_test(a_reset_whose_error_got_lost_is_still_a_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
