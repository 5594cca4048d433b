#include "tests/unit/cmocka.h"

#include "proxy/patrol/leaks.h"
#include "tests/unit/faults.h"
#include "tests/unit/sockets.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

/* ---- a process that leaks ----------------------------------------------------------------------------- */

enum { LEAKS = 3 };

struct leaker {
    pid_t pid;
    uint16_t port;
    int release; /* closed: it ends */
    int clients[LEAKS];
};

/* Accepts, and never closes until it is released. */
static void leak(int listener, int ready, int release)
{
    char byte = 0;
    for (int i = 0; i < LEAKS; i++)
        if (accept(listener, NULL, NULL) < 0)
            _exit(1);
    if (write(ready, &byte, 1) != 1)
        _exit(1);
    _exit(read(release, &byte, 1) == 0 ? 0 : 1);
}

static void leaker_start(struct leaker *leaker)
{
    struct sockaddr_in address;
    int ready[2], release[2];
    char byte;
    int listener = listen_on_loopback(&address);
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    assert_int_equal(pipe2(release, O_CLOEXEC), 0);
    leaker->port = ntohs(address.sin_port);
    leaker->pid = fork();
    assert_true(leaker->pid >= 0);
    if (leaker->pid == 0) {
        close(release[1]);
        leak(listener, ready[1], release[0]);
    }
    close(listener);
    close(ready[1]);
    close(release[0]);
    leaker->release = release[1];
    for (int i = 0; i < LEAKS; i++) {
        leaker->clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(leaker->clients[i], (struct sockaddr *)&address, sizeof address), 0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
}

static void leaker_end(struct leaker *leaker)
{
    int status;
    close(leaker->release);
    assert_int_equal(waitpid(leaker->pid, &status, 0), leaker->pid);
    assert_int_equal(status, 0);
    for (int i = 0; i < LEAKS; i++)
        if (leaker->clients[i] >= 0)
            close(leaker->clients[i]);
}

static void client_close(struct leaker *leaker, int client)
{
    close(leaker->clients[client]);
    leaker->clients[client] = -1;
}

/* ---- what watches it ---------------------------------------------------------------------------------- */

static atomic_bool stop;

struct fixture {
    char folder[32], target[64];
    struct conf conf;
    struct log *log;
    struct leaks *leaks;
    uint64_t now_ms;
};

static void watch(struct fixture *f, uint16_t port, enum ladder_action action)
{
    memset(f, 0, sizeof *f);
    snprintf(f->folder, sizeof f->folder, "/tmp/lastack-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->target, sizeof f->target, "%s/log", f->folder);
    f->conf.reaper = (struct conf_reaper){.ports = {port}, .port_count = 1, .action = action};
    f->conf.log = (struct conf_log){.level = CONF_LOG_INFO, .target = f->target};
    f->now_ms = UINT64_C(1000000000);
    assert_int_equal(log_open(&f->conf.log, &f->log), 0);
    assert_int_equal(leaks_open(&f->conf, log_ring(f->log), &stop, &f->leaks), 0);
    assert_non_null(f->leaks);
}

static void look_once(struct fixture *f)
{
    leaks_look(f->leaks, f->now_ms);
    f->now_ms += 20000; /* whatever is said at most so often is said again */
}

/* Ends the watching; *text is what was logged, to be freed. */
static char *unwatch(struct fixture *f)
{
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    leaks_close(f->leaks);
    log_close(f->log);
    FILE *file = fopen(f->target, "re");
    assert_non_null(file);
    size_t size = fread(text, 1, (1 << 20) - 1, file);
    assert_true(size < (1 << 20) - 1);
    fclose(file);
    unlink(f->target);
    assert_int_equal(rmdir(f->folder), 0);
    return text;
}

static size_t count_of(const char *text, const char *word)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, word)); at += strlen(word))
        count++;
    return count;
}

static void what_leaks_is_said_with_its_owner_when_it_changed(void **state)
{
    struct leaker leaker;
    struct fixture f;
    char owner[64];
    (void)state;
    leaker_start(&leaker);
    watch(&f, leaker.port, LADDER_REPORT);
    look_once(&f);
    for (int i = 0; i < LEAKS; i++)
        client_close(&leaker, i);
    for (int i = 0; i < 3; i++)
        look_once(&f);
    char *text = unwatch(&f);
    assert_int_equal(count_of(text, "msg=leaks count=3"), 1);
    snprintf(owner, sizeof owner, "msg=leak_owner pid=%d program=leaks_test", (int)leaker.pid);
    assert_int_equal(count_of(text, owner), 1);
    assert_int_equal(count_of(text, "leak_ended"), 0);
    free(text);
    leaker_end(&leaker);
}

/* A peer of ours belongs to a session, with deadlines of its own: it is neither said nor ended. */
static void what_is_connected_to_this_process_is_left_alone(void **state)
{
    struct leaker leaker;
    struct fixture f;
    (void)state;
    leaker_start(&leaker);
    watch(&f, leaker.port, LADDER_BOTH);
    for (int i = 0; i < LEAKS; i++)
        shutdown(leaker.clients[i], SHUT_WR);
    for (int i = 0; i < 4; i++)
        look_once(&f);
    char *text = unwatch(&f);
    assert_int_equal(count_of(text, "msg=leaks"), 0);
    assert_int_equal(count_of(text, "leak_ended"), 0);
    free(text);
    leaker_end(&leaker);
}

static void what_is_beside_is_ended_as_far_as_allowed(void **state)
{
    struct leaker leaker;
    struct fixture f;
    (void)state;
    leaker_start(&leaker);
    watch(&f, leaker.port, LADDER_BOTH);
    for (int i = 0; i < LEAKS; i++)
        client_close(&leaker, i);
    for (int i = 0; i < 4; i++)
        look_once(&f);
    char *text = unwatch(&f);
    if (strstr(text, "EPERM") || strstr(text, "ERROR_NOT_VISIBLE")) {
        free(text);
        leaker_end(&leaker);
        skip(); /* without the privilege to end anything */
    }
    assert_int_equal(count_of(text, "msg=leak_ended"), LEAKS);
    assert_int_equal(count_of(text, "descriptors_held=1"), LEAKS); /* it can't be said often enough */
    assert_int_equal(count_of(text, "msg=leaks count=0"), 1);
    free(text);
    leaker_end(&leaker);
}

/* Its peer, another program on this host, has shut its writing side and waits for the answer. */
static void whose_peer_waits_for_an_answer_is_left_alone(void **state)
{
    struct leaker leaker;
    struct fixture f;
    char byte;
    int release[2];
    (void)state;
    leaker_start(&leaker);
    watch(&f, leaker.port, LADDER_BOTH);
    assert_int_equal(pipe2(release, O_CLOEXEC), 0);
    pid_t waiting = fork();
    assert_true(waiting >= 0);
    if (waiting == 0) {
        close(release[1]);
        _exit(read(release[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(release[0]);
    for (int i = 0; i < LEAKS; i++) {
        shutdown(leaker.clients[i], SHUT_WR);
        client_close(&leaker, i);
    }
    for (int i = 0; i < 4; i++)
        look_once(&f);
    char *text = unwatch(&f);
    assert_int_equal(count_of(text, "msg=leaks count=3"), 1); /* said, though */
    assert_int_equal(count_of(text, "leak_ended"), 0);
    assert_int_equal(count_of(text, "leak_not_ended"), 0);
    free(text);
    close(release[1]);
    assert_int_equal(waitpid(waiting, NULL, 0), waiting);
    leaker_end(&leaker);
}

static void that_it_sees_nothing_is_said_once_and_nothing_is_forgotten(void **state)
{
    struct leaker leaker;
    struct fixture f;
    (void)state;
    leaker_start(&leaker);
    watch(&f, leaker.port, LADDER_BOTH);
    for (int i = 0; i < LEAKS; i++)
        client_close(&leaker, i);
    look_once(&f);
    fault_arm(FAULT_SEND, FAULT_MINE, ENOBUFS, 1, 3);
    for (int i = 0; i < 3; i++)
        look_once(&f);
    assert_int_equal(fault_disarm(), 3);
    look_once(&f); /* the second that shows them, though not the next one */
    char *text = unwatch(&f);
    assert_int_equal(count_of(text, "msg=reaper_blind"), 1);
    assert_int_equal(count_of(text, "msg=leaks count=3"), 1);
    assert_true(strstr(text, "msg=leak_ended") || strstr(text, "msg=leak_not_ended"));
    free(text);
    leaker_end(&leaker);
}

static void a_look_that_is_stopped_says_nothing(void **state)
{
    struct leaker leaker;
    struct fixture f;
    (void)state;
    leaker_start(&leaker);
    watch(&f, leaker.port, LADDER_BOTH);
    for (int i = 0; i < LEAKS; i++)
        client_close(&leaker, i);
    look_once(&f);
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++)
        look_once(&f);
    atomic_store(&stop, false);
    char *text = unwatch(&f);
    assert_int_equal(count_of(text, "reaper_blind"), 0);
    assert_int_equal(count_of(text, "leak_ended"), 0);
    free(text);
    leaker_end(&leaker);
}

static void that_one_cannot_be_ended_is_said_with_the_reason_and_not_at_every_look(void **state)
{
    struct leaker leaker;
    struct fixture f;
    (void)state;
    leaker_start(&leaker);
    watch(&f, leaker.port, LADDER_FINISH);
    for (int i = 0; i < LEAKS; i++)
        client_close(&leaker, i);
    look_once(&f);
    fault_arm(FAULT_SYSCALL, FAULT_MINE, ENOSYS, 1, UINT32_MAX); /* no pidfds */
    for (int i = 0; i < 5; i++) {
        leaks_look(f.leaks, f.now_ms);
        f.now_ms += 100;
    }
    assert_true(fault_disarm() >= 5 * LEAKS);
    char *text = unwatch(&f);
    assert_int_equal(count_of(text, "msg=leak_not_ended"), 1);
    assert_int_equal(count_of(text, "rung=finish error=ENOSYS verified=still"), 1);
    assert_int_equal(count_of(text, "msg=leak_ended"), 0);
    free(text);
    leaker_end(&leaker);
}

/* Wherever the first look runs out of memory: rows, their sort, owners. */
static void a_look_without_memory_is_made_up_for_by_the_next(void **state)
{
    (void)state;
    unsigned met = 1;
    for (unsigned first = 1; met > 0; first++) {
        struct leaker leaker;
        struct fixture f;
        leaker_start(&leaker);
        watch(&f, leaker.port, LADDER_REPORT);
        for (int k = 0; k < LEAKS; k++)
            client_close(&leaker, k);
        fault_arm(FAULT_MEMORY, FAULT_MINE, ENOMEM, first, UINT32_MAX);
        look_once(&f);
        met = fault_disarm();
        look_once(&f);
        char *text = unwatch(&f);
        assert_int_equal(count_of(text, "msg=leaks count=3"), 1);
        free(text);
        leaker_end(&leaker);
    }
}

static void what_keeps_it_from_watching_is_told(void **state)
{
    static const struct {
        enum fault_site site;
        int error;
        unsigned calls;
    } faults[] = {{FAULT_MEMORY, ENOMEM, 3}, {FAULT_SOCKET, EPROTONOSUPPORT, 1}};
    struct conf conf = {.reaper = {.ports = {80}, .port_count = 1, .action = LADDER_REPORT}};
    struct leaks *leaks = NULL;
    (void)state;
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        for (unsigned call = 1; call <= faults[i].calls; call++) {
            int fds = count_descriptors();
            fault_arm(faults[i].site, FAULT_MINE, faults[i].error, call, 1);
            assert_int_equal(leaks_open(&conf, NULL, &stop, &leaks), -faults[i].error);
            assert_int_equal(fault_disarm(), 1);
            assert_null(leaks);
            assert_int_equal(count_descriptors(), fds);
        }
    }
}

static void nothing_to_watch_is_no_error(void **state)
{
    struct conf conf = {.reaper = {.action = LADDER_REPORT}};
    struct leaks *leaks = NULL;
    (void)state;
    assert_int_equal(leaks_open(&conf, NULL, &stop, &leaks), 0);
    assert_null(leaks);
    leaks_close(leaks);
}

/* As the name service would: it knows loopback only. */
static void resolve(struct fixture *f, const char *name)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct addrinfo many[10], address = {.ai_addr = (struct sockaddr *)&in, .ai_addrlen = sizeof in};
    if (!name) {
        assert_null(leaks_name(f->leaks, 0));
        return;
    }
    assert_string_equal(leaks_name(f->leaks, 0), name);
    assert_null(leaks_name(f->leaks, 1));
    for (size_t i = 0; i < 10; i++) { /* more than are taken */
        many[i] = address;
        many[i].ai_next = i < 9 ? &many[i + 1] : NULL;
    }
    leaks_set_addresses(f->leaks, 0, many);
    leaks_set_addresses(f->leaks, 0, &address);
}

/* How many leaks of that leaker's port are seen by somebody who watches a backend with this one server. */
static size_t seen_at(const struct leaker *leaker, const struct conf_server *server)
{
    struct fixture f;
    struct conf_server servers[2] = {*server, {.port = 0}}; /* and one on a unix path */
    struct conf_backend backend = {.servers = servers, .server_count = 2};
    watch(&f, 1, LADDER_REPORT);
    leaks_close(f.leaks);
    f.conf.reaper = (struct conf_reaper){.backends = true, .action = LADDER_REPORT};
    f.conf.backends = &backend;
    f.conf.backend_count = 1;
    servers[0].port = leaker->port;
    assert_int_equal(leaks_open(&f.conf, log_ring(f.log), &stop, &f.leaks), 0);
    assert_non_null(f.leaks);
    resolve(&f, server->host);
    look_once(&f);
    look_once(&f);
    char *text = unwatch(&f);
    size_t seen = count_of(text, "msg=leaks count=1");
    free(text);
    return seen;
}

static struct conf_server server_at(const char *host, uint16_t port)
{
    struct conf_server server = {.port = port};
    struct sockaddr_in *in = (struct sockaddr_in *)&server.address.address;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&server.address.address;
    if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(port);
        server.address.length = sizeof *in;
        return server;
    }
    assert_int_equal(inet_pton(AF_INET6, host, &in6->sin6_addr), 1);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    server.address.length = sizeof *in6;
    return server;
}

/* A server's port may be in use by quite another program, where the server is on another host or address. */
static void a_backends_server_is_watched_at_its_address_and_nowhere_else(void **state)
{
    static const struct {
        const char *host;
        size_t seen;
    } rows[] = {
        {"127.0.0.1", 1},  {"::ffff:127.0.0.1", 1}, {"0.0.0.0", 1}, /* connects to loopback */
        {"192.0.2.77", 0}, {"127.0.0.2", 0},        {"::1", 0},     {"::", 0},
    };
    struct leaker leaker;
    char name[] = "service";
    (void)state;
    leaker_start(&leaker);
    client_close(&leaker, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct conf_server server = server_at(rows[i].host, leaker.port);
        assert_int_equal(seen_at(&leaker, &server), rows[i].seen);
    }
    const struct conf_server named = {.host = name};
    assert_int_equal(seen_at(&leaker, &named), 1);
    leaker_end(&leaker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_to_watch_is_no_error),
        cmocka_unit_test(what_leaks_is_said_with_its_owner_when_it_changed),
        cmocka_unit_test(what_is_connected_to_this_process_is_left_alone),
        cmocka_unit_test(what_is_beside_is_ended_as_far_as_allowed),
        cmocka_unit_test(a_backends_server_is_watched_at_its_address_and_nowhere_else),
        cmocka_unit_test(whose_peer_waits_for_an_answer_is_left_alone),
        cmocka_unit_test(that_it_sees_nothing_is_said_once_and_nothing_is_forgotten),
        cmocka_unit_test(a_look_that_is_stopped_says_nothing),
        cmocka_unit_test(that_one_cannot_be_ended_is_said_with_the_reason_and_not_at_every_look),
        cmocka_unit_test(a_look_without_memory_is_made_up_for_by_the_next),
        cmocka_unit_test(what_keeps_it_from_watching_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
