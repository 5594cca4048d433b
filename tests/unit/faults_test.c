#include "tests/unit/cmocka.h"

#include "proxy/server/health.h"
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

/* Late connections of sessions and checks that failed. */
static void clear_origin(const struct proxy *proxy)
{
    struct pollfd polled = {.fd = proxy->origin, .events = POLLIN};
    while (poll(&polled, 1, 0) == 1)
        close(accept4(proxy->origin, NULL, NULL, SOCK_CLOEXEC));
}

static void end_proxy(struct proxy *proxy)
{
    proxy_free(proxy);
    free(proxy);
}

/* ---- starting ----------------------------------------------------------------------------------------- */

struct start_fault {
    enum fault_site site;
    int error;
    bool checks; /* by the only worker: its thread begins when nothing can fail any more */
};

/* Starts with the fault armed, and serves if that went well. Returns whether the fault was met at all. */
static bool start_with(const struct start_fault *start, unsigned first)
{
    struct proxy *proxy = new_proxy();
    char folder[] = "/tmp/lastack-XXXXXX", path[64];
    struct conf_listen listens[2];
    const char *where = NULL;
    int fds = count_descriptors();
    struct conf_backend backends[2] = {proxy->backend, proxy->backend};
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
    listens[0] = listens[1] = proxy->listen;
    listens[1].address = conf_address_of_path(path);
    proxy->frontend.listen = listens;
    proxy->frontend.listen_count = 2;
    proxy->conf.workers = start->checks ? 1 : 2;
    /* Not the one that serves: its origin has to tell sessions apart. */
    backends[1].check.kind = start->checks ? CONF_CHECK_TCP : CONF_CHECK_OFF;
    backends[1].check_interval_ms = 3600000;
    backends[1].servers = &(struct conf_server){.text = path, .address = conf_address_of_path(folder)};
    proxy->conf.backends = backends;
    proxy->conf.backend_count = 2;

    fault_arm(start->site, FAULT_MINE, start->error, first, 1);
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
        assert_true(failed == -start->error || start->site == FAULT_SETSOCKOPT);
    }
    if (proxy->log)
        log_close(proxy->log);
    assert_int_equal(count_descriptors(), fds);
    assert_int_equal(rmdir(folder), 0); /* no path was left in it */
    close(proxy->origin);
    free(proxy);
    return met;
}

static void a_start_that_fails_leaves_nothing_behind(void **state)
{
    static const struct start_fault faults[] = {
        {FAULT_MEMORY, ENOMEM, false},     {FAULT_MEMORY, ENOMEM, true},
        {FAULT_SOCKET, EMFILE, false},     {FAULT_BIND, EADDRINUSE, false},
        {FAULT_LISTEN, EADDRINUSE, false}, {FAULT_EPOLL_CREATE, EMFILE, false},
        {FAULT_SOCKNAME, ENOBUFS, false},  {FAULT_FCNTL, EMFILE, false},
        {FAULT_THREAD, EAGAIN, false},     {FAULT_SETSOCKOPT, ENOMEM, false},
        {FAULT_EPOLL_CTL, ENOSPC, false},
    };
    uv_loop_t loop; /* the first one makes a pipe that libuv keeps */
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_loop_close(&loop), 0);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        unsigned sites = 0;
        while (start_with(&faults[i], sites + 1))
            sites++;
        print_message("site %d: %u calls failed in turn\n", faults[i].site, sites);
        assert_true(sites > 0);
    }
}

/* ---- health ------------------------------------------------------------------------------------------- */

struct check_fault {
    enum fault_site site;
    int error;
    enum conf_check_kind kind;
    bool is_servers;
};

static void answer_check(const struct proxy *proxy)
{
    char request[512];
    int fd = proxy_origin(proxy);
    wait_for(fd, POLLIN);
    ssize_t n = recv(fd, request, sizeof request, MSG_DONTWAIT);
    if (n > 0) {
        send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0);
        wait_for(fd, POLLIN); /* its end, whichever */
    }
    close(fd);
}

static void wait_failures(unsigned count)
{
    for (int waited_ms = 0; fault_failed() < count; waited_ms++) {
        assert_true(waited_ms < WAIT_MS);
        pause_ms(1);
    }
}

static void a_check_that_we_lack_something_for_says_nothing_of_the_server(void **state)
{
    static char path[] = "/";
    static const struct check_fault faults[] = {
        {FAULT_SOCKET, EMFILE, CONF_CHECK_TCP, false},
        {FAULT_SOCKET, ENOBUFS, CONF_CHECK_TCP, false},
        {FAULT_CONNECT, EADDRNOTAVAIL, CONF_CHECK_TCP, false},
        {FAULT_CONNECT, ECONNREFUSED, CONF_CHECK_TCP, true},
        {FAULT_EPOLL_CTL, ENOMEM, CONF_CHECK_TCP, false},
        {FAULT_EPOLL_CTL, ENOSPC, CONF_CHECK_TCP, false},
        {FAULT_MEMORY, ENOMEM, CONF_CHECK_TCP, false},
        {FAULT_SEND, ENOBUFS, CONF_CHECK_GET, false},
        {FAULT_SEND, ECONNRESET, CONF_CHECK_GET, true},
        {FAULT_RECV, ENOMEM, CONF_CHECK_GET, false},
        {FAULT_RECV, ECONNRESET, CONF_CHECK_GET, true},
        {FAULT_RECV, EINTR, CONF_CHECK_HEAD, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct proxy *proxy = new_proxy();
        proxy->backend.check = (struct conf_check){.kind = faults[i].kind, .path = path};
        proxy->backend.check_interval_ms = 3600000;
        proxy->backend.rise = proxy->backend.fall = 1;
        fault_arm(faults[i].site, FAULT_OTHERS, faults[i].error, 1, 1);
        proxy_start(proxy);
        if (faults[i].kind != CONF_CHECK_TCP)
            answer_check(proxy);
        wait_failures(1);
        fault_disarm();
        clear_origin(proxy);
        proxy_relay_one(proxy); /* by the same worker, so it has come to its finding */
        const struct health *health = plane_health(proxy->plane, 0)->first;
        assert_int_equal(health_due_ms(health, 0) == HEALTH_DOWN, faults[i].is_servers);
        end_proxy(proxy);
    }
}

/* One client. Checks connect too, but say nothing. */
static bool is_served(const struct proxy *proxy)
{
    int client = proxy_client(proxy);
    bool served = false, over = false;
    (void)send(client, "x", 1, MSG_NOSIGNAL); /* it may have been reset already */
    while (!over) {
        struct pollfd polled[] = {{.fd = client, .events = POLLIN}, {.fd = proxy->origin, .events = POLLIN}};
        assert_true(poll(polled, 2, WAIT_MS) > 0);
        over = polled[0].revents != 0;
        if (polled[1].revents == 0)
            continue;
        char byte;
        int origin = proxy_origin(proxy);
        wait_for(origin, POLLIN);
        served = recv(origin, &byte, 1, MSG_DONTWAIT) == 1;
        over = over || served;
        close(origin);
    }
    close(client);
    return served;
}

static void a_name_that_was_resolved_without_memory_is_served_after_the_next_time(void **state)
{
    static char host[] = "localhost";
    unsigned met = 0;
    (void)state;
    for (unsigned first = 1; first <= 8; first++) {
        struct proxy *proxy = new_proxy();
        struct sockaddr_in in;
        memcpy(&in, &proxy->server.address.address, sizeof in);
        proxy->server = (struct conf_server){.text = host, .host = host, .port = ntohs(in.sin_port)};
        proxy->backend.resolve_interval_ms = 20;
        proxy->backend.check.kind = CONF_CHECK_TCP;
        proxy->backend.check_interval_ms = 20;
        proxy->backend.rise = proxy->backend.fall = 1;
        proxy->backend.set_aside_ms = proxy->backend.set_aside_max_ms = 1;
        fault_arm(FAULT_MEMORY, FAULT_OTHERS, ENOMEM, first, 1);
        proxy_start(proxy);
        time_t until = time(NULL) + WAIT_MS / 1000;
        while (!is_served(proxy))
            assert_true(time(NULL) < until);
        met += fault_disarm();
        assert_true(is_served(proxy));
        end_proxy(proxy);
    }
    assert_true(met > 4);
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
    int others[2];
    (void)state;
    proxy_start(proxy);
    proxy_session(proxy, others);
    for (int end = 0; end < 2; end++) {
        int fds[2], error = 0;
        socklen_t length = sizeof error;
        proxy_session(proxy, fds);
        send_text(fds[0], "x", 0);
        receive_text(fds[1], "x");
        int leg = find_leg(fds[end]);
        fault_arm(FAULT_EPOLL_WAIT, FAULT_OTHERS, EINTR, 1, UINT_MAX);
        send_text(others[0], "x", 0); /* makes it look again: the look that began before has ended then */
        wait_failures(2);
        reset_close(fds[end]);
        wait_for(leg, POLLHUP);
        assert_int_equal(getsockopt(leg, SOL_SOCKET, SO_ERROR, &error, &length), 0);
        fault_disarm();
        receive_end(fds[!end], ECONNRESET);
        close(fds[!end]);
        proxy_wait_ended(proxy, end ? REASON_BACKEND_RESET : REASON_CLIENT_RESET, 1);
    }
    close(others[0]);
    close(others[1]);
    end_proxy(proxy);
}

/* ---- legs that are kept ------------------------------------------------------------------------------- */

enum { ORIGINS = 8 };

static const char asked[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
static const char answered[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

static void prepare_reuse(struct proxy *proxy)
{
    proxy->frontend.mode = CONF_MODE_HTTP;
    proxy->frontend.http = (struct conf_http){.max_head = 4096, .max_request_line = 1024, .max_fields = 10};
    proxy->backend.reuse = CONF_REUSE_SAFE;
    proxy->backend.reuse_max = 4;
    proxy->backend.reuse_idle_ms = 5;
}

static void answer_one(struct pollfd *origin)
{
    ssize_t n = recv(origin->fd, scratch, sizeof scratch, MSG_DONTWAIT);
    if (n > 0)
        (void)send(origin->fd, answered, sizeof answered - 1, MSG_NOSIGNAL);
    if (!is_over(n))
        return;
    close(origin->fd);
    origin->fd = -1;
}

/* A request of a client of its own, with the backend that answers it. Whether it was answered. */
static bool ask_once(const struct proxy *proxy, struct pollfd origins[ORIGINS])
{
    int client = proxy_client(proxy);
    ssize_t n = -1;
    (void)send(client, asked, sizeof asked - 1, MSG_NOSIGNAL);
    while (n < 0) {
        struct pollfd polled[2 + ORIGINS] = {{.fd = client, .events = POLLIN},
                                             {.fd = proxy->origin, .events = POLLIN}};
        memcpy(polled + 2, origins, ORIGINS * sizeof *origins);
        assert_true(poll(polled, 2 + ORIGINS, WAIT_MS) > 0);
        for (int i = 0; i < ORIGINS; i++)
            if (polled[2 + i].revents)
                answer_one(&origins[i]);
        for (int i = 0; i < ORIGINS && polled[1].revents; i++)
            if (origins[i].fd < 0) {
                origins[i].fd = accept4(proxy->origin, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
                break;
            }
        if (polled[0].revents)
            n = recv(client, scratch, sizeof scratch, MSG_DONTWAIT);
        if (polled[0].revents && n < 0 && is_over(n))
            n = 0;
    }
    close(client);
    return n > 12 && memcmp(scratch, "HTTP/1.1 200", 12) == 0;
}

/* Two requests, the second perhaps over the leg of the first, and its end; each call fails in turn. */
static void a_leg_that_can_not_be_kept_costs_at_most_one_request(void **state)
{
    static const struct session_fault faults[] = {
        {FAULT_MEMORY, ENOMEM, false}, {FAULT_EPOLL_CTL, ENOMEM, false}, {FAULT_RECV, ENOMEM, false}};
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct proxy *proxy = new_proxy();
        struct pollfd origins[ORIGINS];
        unsigned met = 0;
        for (int o = 0; o < ORIGINS; o++)
            origins[o] = (struct pollfd){.fd = -1, .events = POLLIN};
        prepare_reuse(proxy);
        proxy_start(proxy);
        for (unsigned first = 1; first <= 30; first++) {
            fault_arm(faults[i].site, FAULT_OTHERS, faults[i].error, first, 1);
            int served = ask_once(proxy, origins) + ask_once(proxy, origins);
            wait_all_ended(proxy);
            unsigned failed = fault_disarm();
            met += failed;
            assert_true(served + (int)failed >= 2);
            assert_true(ask_once(proxy, origins));
        }
        assert_true(met > 5);
        end_proxy(proxy);
        for (int o = 0; o < ORIGINS; o++)
            if (origins[o].fd >= 0)
                close(origins[o].fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_that_fails_leaves_nothing_behind),
        cmocka_unit_test(a_check_that_we_lack_something_for_says_nothing_of_the_server),
        cmocka_unit_test(a_name_that_was_resolved_without_memory_is_served_after_the_next_time),
        cmocka_unit_test(one_session_may_end_and_no_other_does),
        cmocka_unit_test(a_shortage_that_lasts_is_outlasted),
        cmocka_unit_test(bytes_that_can_not_be_held_end_their_session),
        cmocka_unit_test(a_reset_whose_error_got_lost_is_still_a_reset),
        cmocka_unit_test(a_leg_that_can_not_be_kept_costs_at_most_one_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
