#include "tests/unit/cmocka.h"

#include "reaper/error.h"
#include "reaper/kernel/ladder.h"
#include "tests/unit/faults.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct leak due_leak(void)
{
    return (struct leak){
        .row = {.id = {.family = AF_INET, .cookie = 5},
                .state = DIAG_CLOSE_WAIT,
                .inode = 7,
                .has_info = true,
                .info.last_ack_recv_ms = 120000},
        .cause = TRIAGE_READ_EOF,
        .dumps = 2,
        .first_seen_ms = 1000,
        .quiet_since_ms = 1000,
    };
}

/* What the operator may allow: the scenes' clients are half-closed and wait. */
static const struct guard_policy none = {0}, waiting = {.even_waiting = true},
                                 anything = {.even_waiting = true, .even_unseen = true};

static void every_action_is_found_by_its_name_and_no_other(void **state)
{
    (void)state;
    for (int action = 0; action < LADDER_ACTION_COUNT; action++)
        assert_int_equal(ladder_action_parse(ladder_action_name((enum ladder_action)action)), action);
    assert_int_equal(ladder_action_parse("Destroy"), -EINVAL);
    assert_int_equal(ladder_action_parse(""), -EINVAL);
}

static void every_outcome_has_its_words(void **state)
{
    (void)state;
    for (enum ladder_outcome a = 0; a < LADDER_OUTCOME_COUNT; a++) {
        assert_true(strlen(ladder_outcome_text(a)) > 10);
        for (enum ladder_outcome b = 0; b < a; b++)
            assert_string_not_equal(ladder_outcome_name(a), ladder_outcome_name(b));
    }
}

/* ---- a kernel that says what the test wants ---- */

int __real_netlink_lookup(struct netlink *netlink, const struct diag_id *id, struct diag_row *row);
int __wrap_netlink_lookup(struct netlink *netlink, const struct diag_id *id, struct diag_row *row);
int __real_netlink_destroy(struct netlink *netlink, const struct diag_id *id);
int __wrap_netlink_destroy(struct netlink *netlink, const struct diag_id *id);

static struct {
    bool lookup, destroy; /* these are answered as follows, and not by the kernel */
    int lookup_error, destroy_error;
    struct diag_row row;
    unsigned destroyed;
} fake;

int __wrap_netlink_lookup(struct netlink *netlink, const struct diag_id *id, struct diag_row *row)
{
    if (!fake.lookup)
        return __real_netlink_lookup(netlink, id, row);
    *row = fake.row;
    return fake.lookup_error;
}

int __wrap_netlink_destroy(struct netlink *netlink, const struct diag_id *id)
{
    fake.destroyed++;
    return fake.destroy ? fake.destroy_error : __real_netlink_destroy(netlink, id);
}

static int fake_reset(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof fake);
    return 0;
}

/* The kernel shows that leak, now in this state. */
static void fake_state(const struct leak *leak, enum diag_state now)
{
    fake.lookup = true;
    fake.lookup_error = 0;
    fake.row = leak->row;
    fake.row.state = (uint8_t)now;
}

static void only_close_wait_and_last_ack_are_not_the_end_yet(void **state)
{
    (void)state;
    const struct leak leak = due_leak();
    for (unsigned s = 1; s < DIAG_STATE_COUNT; s++) {
        fake_state(&leak, (enum diag_state)s);
        assert_int_equal(ladder_verify(NULL, &leak), s == DIAG_CLOSE_WAIT ? LADDER_STILL
                                                     : s == DIAG_LAST_ACK ? LADDER_LAST_ACK
                                                                          : LADDER_GONE);
    }
    fake.lookup_error = -ENOENT;
    assert_int_equal(ladder_verify(NULL, &leak), LADDER_GONE);
    fake.lookup_error = -ETIMEDOUT; /* unknown: neither gone nor still there */
    assert_int_equal(ladder_verify(NULL, &leak), -ETIMEDOUT);
}

static void nothing_that_has_moved_on_is_destroyed(void **state)
{
    (void)state;
    const struct leak leak = due_leak();
    fake.destroy = true;
    fake_state(&leak, DIAG_LAST_ACK); /* its owner has closed it meanwhile */
    assert_int_equal(ladder_destroy(NULL, &leak), ERROR_STALE);
    fake_state(&leak, DIAG_CLOSE_WAIT);
    fake.row.inode = 0; /* its owner has ended */
    assert_int_equal(ladder_destroy(NULL, &leak), ERROR_STALE);
    fake_state(&leak, DIAG_CLOSE_WAIT);
    fake.row.info.acked_bytes++; /* it is in use */
    assert_int_equal(ladder_destroy(NULL, &leak), ERROR_STALE);
    fake.lookup_error = -ETIMEDOUT;
    assert_int_equal(ladder_destroy(NULL, &leak), -ETIMEDOUT);
    assert_int_equal(fake.destroyed, 0);
}

static void what_speaks_against_destroying_is_told(void **state)
{
    (void)state;
    static const int errors[] = {-EPERM, -EOPNOTSUPP, -ENOENT};
    const struct leak leak = due_leak();
    fake.destroy = true;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        fake_state(&leak, DIAG_CLOSE_WAIT);
        fake.destroy_error = errors[i];
        assert_int_equal(ladder_destroy(NULL, &leak), errors[i]);
    }
}

/* ---- real sockets ---- */

static struct netlink *netlink;
static int proc_fd;
static struct ladder_rights rights;

static int group_open(void **state)
{
    (void)state;
    proc_fd = open("/proc", O_PATH | O_DIRECTORY);
    int error = netlink_open(&netlink);
    if (error == 0)
        ladder_probe(netlink, proc_fd, &rights);
    return error;
}

static int group_close(void **state)
{
    (void)state;
    netlink_close(netlink);
    return close(proc_fd);
}

/* A leak on loopback: `server` is in CLOSE_WAIT, `client` still reads. */
struct scene {
    int listener, client, server;
    uint16_t port;
};

static struct scene scene_open(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof a;
    struct scene s = {.listener = socket(AF_INET, SOCK_STREAM, 0), .client = socket(AF_INET, SOCK_STREAM, 0)};
    assert_int_equal(bind(s.listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(s.listener, 8), 0);
    assert_int_equal(getsockname(s.listener, (struct sockaddr *)&a, &length), 0);
    assert_int_equal(connect(s.client, (struct sockaddr *)&a, sizeof a), 0);
    s.server = accept(s.listener, NULL, NULL);
    assert_int_equal(shutdown(s.client, SHUT_WR), 0);
    struct pollfd p = {.fd = s.server, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 10000), 1);
    s.port = ntohs(a.sin_port);
    return s;
}

static void scene_close(struct scene *s)
{
    close(s->listener);
    close(s->client);
    if (s->server >= 0)
        close(s->server);
}

static int take_row(void *context, const struct diag_row *row)
{
    return triage_add(context, row);
}

/* The scene's leak as two dumps show it. */
static struct leak scene_leak(const struct scene *s)
{
    struct triage triage, again;
    triage_init(&triage, DIAG_CLOSE_WAIT);
    triage_init(&again, DIAG_CLOSE_WAIT);
    const struct diag_filter filter = {.states = triage_leak_states(&triage) | triage_context_states(&triage),
                                       .side = DIAG_EITHER,
                                       .ports = &s->port,
                                       .port_count = 1,
                                       .want_info = true};
    const struct netlink_sink sink = {.row = take_row, .context = &triage};
    const struct netlink_sink second = {.row = take_row, .context = &again};
    assert_int_equal(netlink_dump(netlink, &filter, &sink), 0);
    triage_finish(&triage, NULL, 0);
    assert_int_equal(netlink_dump(netlink, &filter, &second), 0);
    triage_finish(&again, &triage, 1000);
    assert_int_equal(again.leak_count, 1);
    struct leak leak = again.leaks[0];
    triage_clear(&triage);
    triage_clear(&again);
    return leak;
}

static void wait_for_eof(int fd)
{
    char byte;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_int_equal(recv(fd, &byte, 1, 0), 0);
}

static void a_scene_is_what_it_should_be(void **state)
{
    (void)state;
    struct scene s = scene_open();
    struct leak leak = scene_leak(&s);
    assert_int_equal(leak.dumps, 2);
    assert_int_equal(leak.cause, TRIAGE_EOF_UNREAD);
    assert_int_equal(leak.peer, TRIAGE_PEER_HALF_CLOSED);
    assert_false(leak.client_side);
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_STILL);
    scene_close(&s);
}

static void finish_is_graceful_and_leaves_the_descriptor(void **state)
{
    (void)state;
    if (rights.finish && rights.finish != -EACCES)
        skip();
    struct scene s = scene_open();
    struct leak leak = scene_leak(&s);
    assert_int_equal(send(s.server, "bye", 3, 0), 3);
    assert_int_equal(ladder_finish(&leak, getpid(), s.server), ERROR_STALE); /* it has made progress */
    leak = scene_leak(&s);
    assert_int_equal(ladder_finish(&leak, getpid(), s.server), 0);
    char text[3];
    assert_int_equal(recv(s.client, text, sizeof text, MSG_WAITALL), 3);
    wait_for_eof(s.client);
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_GONE);
    assert_int_equal(owner_holds(proc_fd, getpid(), s.server, leak.row.inode), 1);
    assert_int_equal(ladder_finish(&leak, getpid(), s.server), ERROR_STALE);
    scene_close(&s);
}

static void finish_works_on_a_stopped_owner(void **state)
{
    (void)state;
    if (rights.finish)
        skip();
    struct scene s = scene_open();
    struct leak leak = scene_leak(&s);
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    assert_int_equal(kill(child, SIGSTOP), 0);
    assert_int_equal(waitpid(child, NULL, WUNTRACED), child);
    int fd = s.server;
    close(s.server);
    s.server = -1;
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_STILL);
    assert_int_equal(ladder_finish(&leak, child, fd), 0);
    wait_for_eof(s.client);
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_GONE);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    scene_close(&s);
}

static void finish_refuses_whatever_is_not_that_socket(void **state)
{
    (void)state;
    if (rights.finish && rights.finish != -EACCES)
        skip();
    struct scene s = scene_open(), other = scene_open();
    struct leak leak = scene_leak(&s);
    assert_int_equal(ladder_finish(&leak, getpid(), other.server), ERROR_STALE);
    assert_int_equal(ladder_finish(&leak, getpid(), s.listener), ERROR_STALE);
    assert_int_equal(ladder_finish(&leak, getpid(), proc_fd), ERROR_STALE);
    assert_int_equal(ladder_finish(&leak, getpid(), 1 << 20), -EBADF);
    assert_int_equal(ladder_finish(&leak, INT32_MAX, s.server), -ESRCH);
    const struct leak unharmed = scene_leak(&other);
    assert_int_equal(ladder_verify(netlink, &unharmed), LADDER_STILL);
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_STILL);
    scene_close(&s);
    scene_close(&other);
}

static void destroy_resets_that_socket_only(void **state)
{
    (void)state;
    if (rights.destroy)
        skip();
    struct scene s = scene_open(), other = scene_open();
    struct leak leak = scene_leak(&s), unharmed = scene_leak(&other);
    char byte;
    assert_int_equal(ladder_destroy(netlink, &leak), 0);
    assert_int_equal(recv(s.client, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_GONE);
    assert_int_equal(owner_holds(proc_fd, getpid(), s.server, leak.row.inode), 1);
    assert_int_equal(ladder_destroy(netlink, &leak), -ENOENT);
    assert_int_equal(ladder_verify(netlink, &unharmed), LADDER_STILL);
    scene_close(&s);
    scene_close(&other);
}

static void destroy_refuses_a_socket_that_moved_on(void **state)
{
    (void)state;
    if (rights.destroy)
        skip();
    struct scene s = scene_open();
    struct leak leak = scene_leak(&s);
    leak.row.info.acked_bytes++;
    assert_int_equal(ladder_destroy(netlink, &leak), ERROR_STALE);
    leak = scene_leak(&s);
    leak.row.id.cookie++;
    assert_int_equal(ladder_destroy(netlink, &leak), -ENOENT);
    leak.row.id.cookie--;
    assert_int_equal(ladder_verify(netlink, &leak), LADDER_STILL);
    close(s.server);
    s.server = -1;
    wait_for_eof(s.client);
    assert_int_equal(ladder_destroy(netlink, &leak), -ENOENT);
    scene_close(&s);
}

/* ---- climbing ---- */

static struct owners owners_of_leak(const struct leak *leak)
{
    struct owners owners;
    assert_int_equal(owners_find(&owners, proc_fd, &leak->row.inode, 1), 0);
    assert_true(owners.holder_count > 0);
    return owners;
}

static struct ladder_result climb(const struct owners *owners, const struct leak *leak,
                                  const struct guard_policy *policy, enum ladder_action action)
{
    return ladder_climb(netlink, proc_fd, owners, leak, policy, action);
}

static void finishing_stops_at_the_first_rung(void **state)
{
    (void)state;
    if (rights.finish && rights.finish != -EACCES)
        skip();
    struct scene s = scene_open();
    const struct leak leak = scene_leak(&s);
    struct owners owners = owners_of_leak(&leak);
    fake.destroyed = 0;
    const struct ladder_result result = climb(&owners, &leak, &waiting, LADDER_BOTH);
    assert_int_equal(result.rung, LADDER_FINISH);
    assert_int_equal(result.error, 0);
    assert_int_equal(fake.destroyed, 0);
    wait_for_eof(s.client); /* a FIN, not a reset */
    owners_clear(&owners);
    scene_close(&s);
}

static void a_holder_that_let_go_is_passed_over(void **state)
{
    (void)state;
    if (rights.finish && rights.finish != -EACCES)
        skip();
    struct scene s = scene_open();
    int first = dup(s.server), lower = first < s.server ? first : s.server;
    const struct leak leak = scene_leak(&s);
    struct owners owners = owners_of_leak(&leak);
    assert_int_equal(owners.holder_count, 2);
    close(lower); /* the one that is tried first */
    s.server = lower == first ? s.server : first;
    const struct ladder_result result = climb(&owners, &leak, &waiting, LADDER_FINISH);
    assert_int_equal(result.error, 0);
    wait_for_eof(s.client);
    owners_clear(&owners);
    scene_close(&s);
}

static void without_a_visible_holder_it_is_not_finished(void **state)
{
    (void)state;
    const struct owners nobody = {0};
    const struct leak leak = due_leak();
    const struct ladder_result result = climb(&nobody, &leak, &anything, LADDER_FINISH);
    assert_int_equal(result.rung, LADDER_FINISH);
    assert_int_equal(result.error, ERROR_NOT_VISIBLE);
    assert_int_equal(fake.destroyed, 0);
}

static void destroying_is_tried_where_finishing_did_not_help(void **state)
{
    (void)state;
    const struct owners nobody = {0};
    const struct leak leak = due_leak();
    fake.destroy = true;
    fake_state(&leak, DIAG_CLOSE_WAIT);
    struct ladder_result result = climb(&nobody, &leak, &anything, LADDER_BOTH);
    assert_int_equal(result.rung, LADDER_DESTROY);
    assert_int_equal(result.error, 0);
    assert_int_equal(fake.destroyed, 1);
    result = climb(&nobody, &leak, &anything, LADDER_DESTROY);
    assert_int_equal(result.rung, LADDER_DESTROY);
    assert_int_equal(fake.destroyed, 2);
}

static void what_stays_in_close_wait_after_its_fin_is_destroyed(void **state)
{
    (void)state;
    if (rights.finish && rights.finish != -EACCES)
        skip();
    struct scene s = scene_open();
    const struct leak leak = scene_leak(&s);
    struct owners owners = owners_of_leak(&leak);
    fake.destroy = true;
    fake_state(&leak, DIAG_CLOSE_WAIT);
    const struct ladder_result result = climb(&owners, &leak, &waiting, LADDER_BOTH);
    assert_int_equal(result.rung, LADDER_DESTROY);
    assert_int_equal(fake.destroyed, 1);
    owners_clear(&owners);
    scene_close(&s);
}

/* ---- what may have changed since the dump ---- */

static void a_peer_that_waits_by_now_is_not_cut_off(void **state)
{
    (void)state;
    for (enum ladder_action action = LADDER_FINISH; action <= LADDER_BOTH; action++) {
        struct scene s = scene_open();
        struct leak leak = scene_leak(&s);
        leak.peer = TRIAGE_PEER_FORGOTTEN; /* its row was missed in the dump */
        struct owners owners = owners_of_leak(&leak);
        assert_int_equal(climb(&owners, &leak, &none, action).error, ERROR_WAITING);
        assert_int_equal(ladder_verify(netlink, &leak), LADDER_STILL);
        assert_int_equal(fake.destroyed, 0);
        owners_clear(&owners);
        scene_close(&s);
    }
}

static void a_peer_that_has_closed_does_not_wait(void **state)
{
    (void)state;
    struct scene s = scene_open();
    struct leak leak = scene_leak(&s);
    struct owners owners = owners_of_leak(&leak);
    close(s.client);
    s.client = socket(AF_INET, SOCK_STREAM, 0);
    fake.destroy = true;
    assert_int_equal(climb(&owners, &leak, &none, LADDER_DESTROY).error, 0);
    assert_int_equal(fake.destroyed, 1);
    owners_clear(&owners);
    scene_close(&s);
}

/* Puts the scene's leak on its way to another process, and closes it: no process holds it, though nobody has
 * given it up. Returns where it arrives. */
static int send_off(struct scene *s)
{
    int pair[2];
    char byte = 0;
    struct iovec bytes = {.iov_base = &byte, .iov_len = 1};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = &bytes,
                             .msg_iovlen = 1,
                             .msg_control = control.room,
                             .msg_controllen = sizeof control.room};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &s->server, sizeof(int));
    assert_int_equal(sendmsg(pair[0], &message, 0), 1);
    close(pair[0]);
    close(s->server);
    s->server = -1;
    return pair[1];
}

static void a_descriptor_on_its_way_to_another_process_is_not_touched(void **state)
{
    (void)state;
    static const struct guard_policy seen_only = {.even_waiting = true};
    for (enum ladder_action action = LADDER_FINISH; action <= LADDER_BOTH; action++) {
        struct scene s = scene_open();
        const struct leak leak = scene_leak(&s);
        struct owners before = owners_of_leak(&leak), owners;
        int arrives = send_off(&s);
        assert_int_equal(owners_find(&owners, proc_fd, &leak.row.inode, 1), 0);
        assert_int_equal(owners.holder_count, 0);
        assert_int_equal(climb(&owners, &leak, &seen_only, action).error, ERROR_NOT_VISIBLE);
        assert_int_equal(climb(&before, &leak, &seen_only, action).error, ERROR_NOT_VISIBLE);
        assert_int_equal(ladder_verify(netlink, &leak), LADDER_STILL);
        assert_int_equal(fake.destroyed, 0);
        owners_clear(&before);
        owners_clear(&owners);
        close(arrives);
        scene_close(&s);
    }
}

/* ---- what keeps a rung from working ---- */

static void finish_says_what_the_kernel_or_its_rules_refuse(void **state)
{
    (void)state;
    static const struct {
        enum fault_site site;
        unsigned call;
        int error, expected;
    } faults[] = {
        {FAULT_SYSCALL, 1, ENOSYS, -ENOSYS}, /* pidfd_open: before Linux 5.3 */
        {FAULT_SYSCALL, 2, ENOSYS, -ENOSYS}, /* pidfd_getfd: before 5.6 */
        {FAULT_SYSCALL, 2, EPERM, -EPERM},   /* no ptrace access to the owner */
        {FAULT_GETSOCKOPT, 1, ENOPROTOOPT, ERROR_STALE},
        {FAULT_GETSOCKOPT, 2, ENOPROTOOPT, -ENOPROTOOPT}, /* not TCP any more */
        {FAULT_SHUTDOWN, 1, ENOTCONN, -ENOTCONN},         /* reset by its peer at this moment */
    };
    if (rights.finish && rights.finish != -EACCES)
        skip();
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        struct scene s = scene_open();
        const struct leak leak = scene_leak(&s);
        fault_arm(faults[i].site, FAULT_MINE, faults[i].error, faults[i].call, 1);
        assert_int_equal(ladder_finish(&leak, getpid(), s.server), faults[i].expected);
        assert_int_equal(fault_disarm(), 1);
        assert_int_equal(ladder_verify(netlink, &leak), LADDER_STILL);
        scene_close(&s);
    }
}

/* A /proc with nothing but Yama's scope in it, or not even that. */
static int proc_with_scope(const char *scope)
{
    char folder[] = "/tmp/lastack-ladder-XXXXXX", path[128];
    static const char *const parts[] = {"sys", "sys/kernel", "sys/kernel/yama"};
    assert_non_null(mkdtemp(folder));
    int fd = open(folder, O_PATH | O_DIRECTORY);
    for (size_t i = 0; scope && i < sizeof parts / sizeof parts[0]; i++)
        assert_int_equal(mkdirat(fd, parts[i], 0700), 0);
    if (scope) {
        snprintf(path, sizeof path, "%s/sys/kernel/yama/ptrace_scope", folder);
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs(scope, file);
        fclose(file);
    }
    return fd;
}

static void proc_remove(int fd)
{
    char link[64], folder[128];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, folder, sizeof folder - 1);
    assert_true(length > 0);
    folder[length] = '\0';
    unlinkat(fd, "sys/kernel/yama/ptrace_scope", 0);
    unlinkat(fd, "sys/kernel/yama", AT_REMOVEDIR);
    unlinkat(fd, "sys/kernel", AT_REMOVEDIR);
    unlinkat(fd, "sys", AT_REMOVEDIR);
    close(fd);
    assert_int_equal(rmdir(folder), 0);
}

/* Of a process without a capability: the third system call of the probe asks for them and fails. */
static struct ladder_rights rights_without_capabilities(const char *scope)
{
    struct ladder_rights found;
    int fd = proc_with_scope(scope);
    fault_arm(FAULT_SYSCALL, FAULT_MINE, EPERM, 3, 1);
    ladder_probe(netlink, fd, &found);
    fault_disarm();
    proc_remove(fd);
    return found;
}

static void yama_decides_whose_sockets_may_be_finished(void **state)
{
    (void)state;
    static const struct {
        const char *scope;
        int number, finish;
    } rows[] = {
        {NULL, 0, -EACCES}, /* no Yama */
        {"", 0, -EACCES},   {"0\n", 0, -EACCES}, {"1\n", 1, -EPERM}, {"2\n", 2, -EPERM}, {"3\n", 3, -EPERM},
    };
    if (rights.finish && rights.finish != -EACCES)
        skip();
    fake.destroy = true;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct ladder_rights found = rights_without_capabilities(rows[i].scope);
        assert_int_equal(found.yama_scope, rows[i].number);
        assert_int_equal(found.finish, rows[i].finish);
    }
}

static void a_kernel_without_pidfds_cannot_finish_at_all(void **state)
{
    (void)state;
    struct ladder_rights found;
    fake.destroy = true;
    fault_arm(FAULT_SYSCALL, FAULT_MINE, ENOSYS, 1, 1);
    ladder_probe(netlink, proc_fd, &found);
    assert_int_equal(fault_disarm(), 1);
    assert_int_equal(found.finish, -ENOSYS);
}

static void destroying_is_tried_out_on_a_socket_of_its_own(void **state)
{
    (void)state;
    static const int errors[] = {0, -EPERM, -EOPNOTSUPP};
    struct ladder_rights found;
    fake.destroy = true;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        fake.destroy_error = errors[i];
        ladder_probe(netlink, proc_fd, &found);
        assert_int_equal(found.destroy, errors[i]);
    }
    assert_int_equal(fake.destroyed, 3);
}

static void without_a_socket_to_try_the_capability_decides(void **state)
{
    (void)state;
    static const enum fault_site sites[] = {FAULT_SOCKET, FAULT_SETSOCKOPT, FAULT_BIND, FAULT_SOCKNAME,
                                            FAULT_CONNECT};
    struct ladder_rights found;
    if (rights.destroy == -EOPNOTSUPP)
        skip();
    for (size_t i = 0; i < sizeof sites / sizeof sites[0]; i++) {
        fault_arm(sites[i], FAULT_MINE, ENETDOWN, 1, 1);
        ladder_probe(netlink, proc_fd, &found);
        assert_int_equal(fault_disarm(), 1);
        assert_true(found.destroy == 0 || found.destroy == -EPERM);
        assert_int_equal(found.destroy == 0, rights.destroy == 0);
    }
    assert_int_equal(fake.destroyed, 0);
}

static void a_probe_without_a_cookie_destroys_nothing(void **state)
{
    (void)state;
    struct ladder_rights found;
    fault_arm(FAULT_GETSOCKOPT, FAULT_MINE, ENOPROTOOPT, 1, 1);
    ladder_probe(netlink, proc_fd, &found);
    assert_int_equal(fault_disarm(), 1);
    assert_int_equal(found.destroy, -ENOPROTOOPT);
    assert_int_equal(fake.destroyed, 0);
}

#define FAKED(name) cmocka_unit_test_setup_teardown(name, fake_reset, fake_reset)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_action_is_found_by_its_name_and_no_other),
        cmocka_unit_test(every_outcome_has_its_words),
        FAKED(only_close_wait_and_last_ack_are_not_the_end_yet),
        FAKED(nothing_that_has_moved_on_is_destroyed),
        FAKED(what_speaks_against_destroying_is_told),
        cmocka_unit_test(a_scene_is_what_it_should_be),
        cmocka_unit_test(finish_is_graceful_and_leaves_the_descriptor),
        cmocka_unit_test(finish_works_on_a_stopped_owner),
        cmocka_unit_test(finish_refuses_whatever_is_not_that_socket),
        cmocka_unit_test(destroy_resets_that_socket_only),
        cmocka_unit_test(destroy_refuses_a_socket_that_moved_on),
        FAKED(finishing_stops_at_the_first_rung),
        FAKED(a_holder_that_let_go_is_passed_over),
        FAKED(without_a_visible_holder_it_is_not_finished),
        FAKED(destroying_is_tried_where_finishing_did_not_help),
        FAKED(what_stays_in_close_wait_after_its_fin_is_destroyed),
        FAKED(a_peer_that_waits_by_now_is_not_cut_off),
        FAKED(a_peer_that_has_closed_does_not_wait),
        FAKED(a_descriptor_on_its_way_to_another_process_is_not_touched),
        FAKED(finish_says_what_the_kernel_or_its_rules_refuse),
        FAKED(yama_decides_whose_sockets_may_be_finished),
        FAKED(a_kernel_without_pidfds_cannot_finish_at_all),
        FAKED(destroying_is_tried_out_on_a_socket_of_its_own),
        FAKED(without_a_socket_to_try_the_capability_decides),
        FAKED(a_probe_without_a_cookie_destroys_nothing),
    };
    return cmocka_run_group_tests(tests, group_open, group_close);
}
