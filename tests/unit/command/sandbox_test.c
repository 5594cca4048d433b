#include "tests/unit/cmocka.h"

#include "proxy/command/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct conf conf = {.log = {.level = CONF_LOG_INFO, .target = "stderr"}, .seccomp = CONF_SECCOMP_ON};
static struct log *lines;
static uv_async_t refused;

/* In a child under the filter; its exit status is what the test is about. */
static void enter(void)
{
    uv_loop_t *loop = uv_default_loop();
    (void)uv_async_init(loop, &refused, NULL);
    int error = sandbox_prepare(&conf);
    if (error == -ENOTSUP)
        skip();
    assert_int_equal(error, 0);
    assert_int_equal(log_prepare(&conf.log, &lines), 0);
    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(sandbox_enter(&refused, lines), 0);
}

static void a_call_that_nobody_named_fails_and_goes_on(void **state)
{
    (void)state;
    enter();
    assert_int_equal(syscall(SYS_getpgid, 0), -1);
    assert_int_equal(errno, ENOSYS);
    assert_int_equal(socket(AF_PACKET, SOCK_RAW, 0), -1);
    assert_int_equal(errno, ENOSYS);
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    close(fd);
}

static void *worker(void *context)
{
    (void)context;
    sandbox_confine();
    assert_int_equal(open("/dev/null", O_RDONLY | O_CLOEXEC), -1); /* without a word */
    assert_int_equal(errno, EACCES);
    assert_int_equal(syscall(SYS_unlinkat, AT_FDCWD, "/nowhere", 0), -1);
    assert_int_equal(errno, ENOSYS);
    assert_int_equal(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0), -1);
    assert_int_equal(errno, ENOSYS);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    close(fd);
    free(malloc(64 << 20));
    return NULL;
}

static void a_worker_may_less(void **state)
{
    pthread_t thread;
    (void)state;
    enter();
    assert_int_equal(pthread_create(&thread, NULL, worker, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    close(fd);
}

/* How a child ends that makes the call, and what it says. */
static int end_of(void (*call)(void), char *said, size_t size)
{
    int status = 0, ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        (void)dup2(ends[1], STDERR_FILENO);
        enter();
        call();
        _exit(0);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], said, size - 1);
    said[n > 0 ? n : 0] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void run_shell(void)
{
    char *const arguments[] = {(char[]){"sh"}, NULL};
    (void)execv("/bin/sh", arguments);
}

static void make_code(void)
{
    (void)mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void signal_another(void)
{
    (void)syscall(SYS_tgkill, 1, 1, 0);
}

static void make_process(void)
{
    (void)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, 0);
}

static void what_an_intruder_calls_ends_the_process(void **state)
{
    static const struct {
        void (*call)(void);
        const char *name;
    } rows[] = {
        {run_shell, "execve"}, {make_code, "mmap"}, {signal_another, "tgkill"}, {make_process, "clone"}};
    (void)state;
    if (sandbox_prepare(&conf) == -ENOTSUP)
        skip();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char said[1024], wanted[64];
        int status = end_of(rows[i].call, said, sizeof said);
        snprintf(wanted, sizeof wanted, "msg=forbidden_syscall name=%s thread=rest", rows[i].name);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGSYS);
        if (!strstr(said, wanted))
            fail_msg("no %s in: %s", wanted, said);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_nobody_named_fails_and_goes_on),
        cmocka_unit_test(a_worker_may_less),
        cmocka_unit_test(what_an_intruder_calls_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
