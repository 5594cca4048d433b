#include "tests/unit/cmocka.h"

#include "reaper/kernel/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int proc_fd;

static int proc_open(void **state)
{
    (void)state;
    proc_fd = open("/proc", O_PATH | O_DIRECTORY);
    return proc_fd < 0;
}

static int proc_close(void **state)
{
    (void)state;
    return close(proc_fd);
}

static uint32_t inode_of(int fd)
{
    struct stat s;
    assert_int_equal(fstat(fd, &s), 0);
    return (uint32_t)s.st_ino;
}

/* A child that holds what we hold until `release` is closed on our side. */
static pid_t holder_fork(int *release)
{
    int pipes[2];
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char byte;
        close(pipes[1]);
        _exit(read(pipes[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(pipes[0]);
    *release = pipes[1];
    return pid;
}

static void holder_end(pid_t pid, int release)
{
    close(release);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* The kernel's name of this process: valgrind, when it runs the test. */
static const char *program_name(void)
{
    static char name[32];
    FILE *file = fopen("/proc/self/comm", "r");
    assert_non_null(file);
    assert_non_null(fgets(name, sizeof name, file));
    fclose(file);
    name[strcspn(name, "\n")] = '\0';
    return name;
}

static void all_holders_of_a_forked_socket_are_found(void **state)
{
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM, 0), other = socket(AF_INET, SOCK_STREAM, 0);
    int copy = dup(fd), release;
    pid_t child = holder_fork(&release);
    const uint32_t wanted[] = {inode_of(fd), 0, inode_of(fd)};
    struct owners owners;
    const struct owner_holder *first;
    assert_int_equal(owners_find(&owners, proc_fd, wanted, 3), 0);
    assert_int_equal(owners_of(&owners, inode_of(fd), &first), 4);
    unsigned ours = 0, childs = 0;
    for (size_t i = 0; i < 4; i++) {
        const struct owner_process *process = &owners.processes[first[i].process];
        ours += process->pid == getpid();
        childs += process->pid == child;
        assert_true(first[i].fd == fd || first[i].fd == copy);
        assert_string_equal(process->program, program_name());
        assert_int_equal(process->uid, getuid());
        assert_true(process->threads >= 1);
    }
    assert_int_equal(ours, 2);
    assert_int_equal(childs, 2);
    assert_int_equal(owners.process_count, 2);
    assert_int_equal(owners_of(&owners, inode_of(other), &first), 0);
    assert_null(first);
    owners_clear(&owners);
    holder_end(child, release);
    close(fd);
    close(other);
    close(copy);
}

static void a_stopped_owner_is_told_from_a_sleeping_one(void **state)
{
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM, 0), release;
    pid_t child = holder_fork(&release);
    const uint32_t inode = inode_of(fd);
    struct owners owners;
    assert_int_equal(kill(child, SIGSTOP), 0);
    assert_int_equal(waitpid(child, NULL, WUNTRACED), child);
    close(fd);
    assert_int_equal(owners_find(&owners, proc_fd, &inode, 1), 0);
    assert_int_equal(owners.process_count, 1);
    assert_int_equal(owners.processes[0].pid, child);
    assert_int_equal(owners.processes[0].state, 'T');
    assert_int_equal(owners.processes[0].blocked_threads, 1);
    assert_string_equal(owner_state_name(owners.processes[0].state), "stopped");
    owners_clear(&owners);
    assert_int_equal(kill(child, SIGCONT), 0);
    holder_end(child, release);
}

static void a_descriptor_is_checked_again_by_itself(void **state)
{
    (void)state;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    uint32_t inode = inode_of(fd);
    assert_int_equal(owner_holds(proc_fd, getpid(), fd, inode), 1);
    assert_int_equal(owner_holds(proc_fd, getpid(), fd, inode + 1), 0);
    close(fd);
    assert_int_equal(owner_holds(proc_fd, getpid(), fd, inode), 0);
    assert_int_equal(owner_holds(proc_fd, INT32_MAX, fd, inode), 0);
}

/* ---- a /proc of our own, for what no kernel shows on demand ---- */

static char tree[] = "/tmp/lastack-owner-XXXXXX";

static void path_of(char *path, size_t size, const char *rest)
{
    snprintf(path, size, "%s/%s", tree, rest);
}

static void directory_make(const char *rest)
{
    char path[128];
    path_of(path, sizeof path, rest);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void link_make(const char *rest, const char *target)
{
    char path[128];
    path_of(path, sizeof path, rest);
    assert_int_equal(symlink(target, path), 0);
}

static void file_make(const char *rest, const char *text)
{
    char path[128];
    path_of(path, sizeof path, rest);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int tree_make(void **state)
{
    (void)state;
    memset(tree + sizeof tree - 7, 'X', 6);
    return mkdtemp(tree) == NULL;
}

static int tree_remove(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "chmod -R u+rwx %s; rm -rf %s", tree, tree);
    return system(command); /* NOLINT(cert-env33-c) a path that mkdtemp made */
}

static struct owners find_in_tree(const uint32_t *inodes, size_t count)
{
    struct owners owners;
    int fd = open(tree, O_PATH | O_DIRECTORY);
    assert_true(fd >= 0);
    assert_int_equal(owners_find(&owners, fd, inodes, count), 0);
    close(fd);
    return owners;
}

static void links_that_are_no_socket_of_ours_are_passed_over(void **state)
{
    (void)state;
    static const char *const targets[] = {"socket:[4294967295]",
                                          "socket:[1]",
                                          "socket:[]",
                                          "socket:[1",
                                          "socket:[1x]",
                                          "socket:[-1]",
                                          "socket:[99999999999]",
                                          "socket:",
                                          "pipe:[1]",
                                          "anon_inode:[1]",
                                          "/dev/null",
                                          "socket:[42949672961]",
                                          "socket:[1]\n",
                                          "socket:[01234567890123456789012345678901234567890123456789]"};
    const uint32_t wanted[] = {1, UINT32_MAX};
    const struct owner_holder *first;
    directory_make("12");
    directory_make("12/fd");
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        char name[32];
        snprintf(name, sizeof name, "12/fd/%zu", i);
        link_make(name, targets[i]);
    }
    link_make("12/fd/notafd", "socket:[1]");
    struct owners owners = find_in_tree(wanted, 2);
    assert_int_equal(owners.holder_count, 2);
    assert_int_equal(owners_of(&owners, 1, &first), 1);
    assert_int_equal(first->fd, 1);
    assert_int_equal(owners_of(&owners, UINT32_MAX, &first), 1);
    assert_int_equal(first->fd, 0);
    assert_int_equal(owners.processes[0].pid, 12);
    assert_int_equal(owners.processes[0].state, '?'); /* it went away before its state was read */
    owners_clear(&owners);
}

static void a_program_may_have_any_name(void **state)
{
    (void)state;
    const uint32_t wanted = 5;
    directory_make("7");
    directory_make("7/fd");
    link_make("7/fd/3", "socket:[5]");
    file_make("7/comm", "a) R (b\n");
    file_make("7/stat", "7 (a) R (b) D 1 7 7 0\n");
    file_make("7/wchan", "futex_wait_queue");
    directory_make("x7");
    directory_make("7x");
    struct owners owners = find_in_tree(&wanted, 1);
    assert_int_equal(owners.process_count, 1);
    assert_string_equal(owners.processes[0].program, "a) R (b");
    assert_int_equal(owners.processes[0].state, 'D');
    assert_string_equal(owners.processes[0].wchan, "futex_wait_queue");
    owners_clear(&owners);
}

static void what_we_may_not_look_into_is_said(void **state)
{
    (void)state;
    const uint32_t wanted = 5;
    char path[128];
    if (getuid() == 0)
        skip(); /* nothing is denied to root; the end-to-end tests drop their rights */
    directory_make("7");
    directory_make("7/fd");
    directory_make("8");
    path_of(path, sizeof path, "7/fd");
    assert_int_equal(chmod(path, 0), 0);
    path_of(path, sizeof path, "8");
    assert_int_equal(chmod(path, 0), 0);
    struct owners owners = find_in_tree(&wanted, 1);
    assert_int_equal(owners.denied_count, 2);
    owners_clear(&owners);
}

static void a_proc_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    const uint32_t wanted = 5;
    struct owners owners;
    assert_int_equal(owners_find(&owners, -1, &wanted, 1), -EBADF);
    assert_int_equal(owners.holder_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_holders_of_a_forked_socket_are_found),
        cmocka_unit_test(a_stopped_owner_is_told_from_a_sleeping_one),
        cmocka_unit_test(a_descriptor_is_checked_again_by_itself),
        cmocka_unit_test_setup_teardown(links_that_are_no_socket_of_ours_are_passed_over, tree_make,
                                        tree_remove),
        cmocka_unit_test_setup_teardown(a_program_may_have_any_name, tree_make, tree_remove),
        cmocka_unit_test_setup_teardown(what_we_may_not_look_into_is_said, tree_make, tree_remove),
        cmocka_unit_test(a_proc_that_is_not_there_is_an_error),
    };
    return cmocka_run_group_tests(tests, proc_open, proc_close);
}
