#include "tests/unit/cmocka.h"

#include "reaper/kernel/owner.h"
#include "tests/unit/faults.h"

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

/* Root reads what any user has called its process. */
static void a_name_is_clean_when_it_is_read(void **state)
{
    (void)state;
    const uint32_t wanted = 5;
    directory_make("7");
    directory_make("7/fd");
    link_make("7/fd/3", "socket:[5]");
    file_make("7/comm", "\033[2J\xc2\x9b\xff"
                        "a\n");
    file_make("7/wchan", "\x9b"
                         "31m");
    struct owners owners = find_in_tree(&wanted, 1);
    assert_string_equal(owners.processes[0].program, "?[2J??a");
    assert_string_equal(owners.processes[0].wchan, "?31m");
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

/* A process with that socket, and a thread. */
static void process_make(const char *pid, const char *socket)
{
    char name[64];
    directory_make(pid);
    snprintf(name, sizeof name, "%s/fd", pid);
    directory_make(name);
    snprintf(name, sizeof name, "%s/fd/3", pid);
    link_make(name, socket);
    snprintf(name, sizeof name, "%s/stat", pid);
    file_make(name, "1 (app) S 1 7 7 0\n");
    snprintf(name, sizeof name, "%s/task", pid);
    directory_make(name);
    snprintf(name, sizeof name, "%s/task/1", pid);
    directory_make(name);
    snprintf(name, sizeof name, "%s/task/1/stat", pid);
    file_make(name, "1 (app) S 1 7 7 0\n");
}

/* Looks for that inode in the tree while a call fails; what is found is the caller's to clear. */
static int find_with(enum fault_site site, int error, unsigned call, uint32_t inode, struct owners *owners)
{
    int fd = open(tree, O_PATH | O_DIRECTORY);
    assert_true(fd >= 0);
    fault_arm(site, FAULT_MINE, error, call, 1);
    int result = owners_find(owners, fd, &inode, 1);
    bool met = fault_disarm() > 0;
    close(fd);
    assert_true(met || result == 0);
    return met ? result : 1; /* 1: there are fewer calls than that */
}

/* Root is denied nothing, so the calls say so instead: the second openat() is of the first process, the third
 * of its descriptors. */
static void whom_we_may_not_look_into_is_counted(void **state)
{
    (void)state;
    static const int refusals[] = {EACCES, EPERM}, losses[] = {ENOENT, ESRCH};
    struct owners owners;
    process_make("7", "socket:[5]");
    for (unsigned call = 2; call <= 3; call++) {
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(find_with(FAULT_OPENAT, refusals[i], call, 5, &owners), 0);
            assert_int_equal(owners.denied_count, 1);
            assert_int_equal(owners.denied[0], 7);
            assert_int_equal(owners.holder_count, 0);
            owners_clear(&owners);
            assert_int_equal(find_with(FAULT_OPENAT, losses[i], call, 5, &owners), 0);
            assert_int_equal(owners.denied_count, 0); /* it has ended, and holds nothing any more */
            assert_int_equal(owners.holder_count, 0);
            owners_clear(&owners);
        }
    }
}

static void many_that_we_may_not_look_into_are_all_counted(void **state)
{
    (void)state;
    enum { PROCESSES = 70 }; /* more than the list has room for at first */
    uint32_t wanted = 5;
    struct owners owners;
    for (int i = 1; i <= PROCESSES; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        directory_make(name);
    }
    int fd = open(tree, O_PATH | O_DIRECTORY);
    fault_arm(FAULT_OPENAT, FAULT_MINE, EACCES, 2, PROCESSES);
    assert_int_equal(owners_find(&owners, fd, &wanted, 1), 0);
    assert_int_equal(fault_disarm(), PROCESSES);
    close(fd);
    assert_int_equal(owners.denied_count, PROCESSES);
    owners_clear(&owners);
}

static unsigned memory_lacks(unsigned threads_call)
{
    struct owners owners;
    for (unsigned call = 1;; call++) {
        int error = find_with(FAULT_MEMORY, ENOMEM, call, 5, &owners);
        if (error == 1) {
            assert_int_equal(owners.holder_count, 1);
            owners_clear(&owners);
            return call - 1;
        }
        if (call == threads_call) { /* who holds it is known all the same */
            assert_int_equal(error, 0);
            assert_int_equal(owners.holder_count, 1);
            assert_int_equal(owners.processes[0].threads, 0);
            owners_clear(&owners);
            continue;
        }
        assert_int_equal(error, -ENOMEM);
        assert_int_equal(owners.holder_count, 0);
        assert_null(owners.holders);
    }
}

static void a_lack_of_memory_anywhere_leaves_nothing(void **state)
{
    (void)state;
    enum { CALLS = 6 }; /* room for entries, the set, the directory, a holder, a process, its threads */
    process_make("7", "socket:[5]");
    assert_int_equal(memory_lacks(CALLS), CALLS);
    link_make("7/fd/99999", "socket:[5]"); /* found by listing, not by trying */
    char path[128];
    path_of(path, sizeof path, "7/fd/3");
    assert_int_equal(unlink(path), 0);
    assert_int_equal(memory_lacks(CALLS), CALLS);
}

/* A holder that ends while it is read: what was not read yet stays unknown, and the rest is told. */
static void a_holder_may_end_at_any_moment(void **state)
{
    (void)state;
    static const enum fault_site sites[] = {FAULT_OPENAT, FAULT_READ, FAULT_STAT};
    process_make("7", "socket:[5]");
    for (size_t i = 0; i < sizeof sites / sizeof sites[0]; i++) {
        unsigned call = 1;
        for (;; call++) {
            struct owners owners;
            int error = find_with(sites[i], ESRCH, call, 5, &owners);
            if (error == 1) {
                assert_int_equal(owners.processes[0].state, 'S');
                assert_int_equal(owners.processes[0].threads, 1);
                owners_clear(&owners);
                break;
            }
            if (sites[i] == FAULT_OPENAT && call == 1) { /* the directory itself */
                assert_int_equal(error, -ESRCH);
                continue;
            }
            assert_int_equal(error, 0);
            assert_true(owners.holder_count <= 1);
            assert_int_equal(owners.process_count, owners.holder_count);
            if (owners.process_count > 0) {
                const struct owner_process *process = &owners.processes[0];
                assert_int_equal(process->pid, 7);
                assert_true(process->state == 'S' || process->state == '?');
                assert_true(process->program[0] != '\0');
            }
            owners_clear(&owners);
        }
        assert_true(call > 2);
    }
}

static void what_stat_does_not_tell_is_unknown(void **state)
{
    (void)state;
    static const char *const texts[] = {"7 (app", "7 (app)", "7 (app)S", "7 (app) "};
    const uint32_t wanted = 5;
    process_make("7", "socket:[5]");
    directory_make("7/task/2"); /* a thread that has ended meanwhile */
    file_make("7/task/x", "");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        file_make("7/stat", texts[i]);
        struct owners owners = find_in_tree(&wanted, 1);
        assert_int_equal(owners.processes[0].state, '?');
        assert_int_equal(owners.processes[0].threads, 1);
        owners_clear(&owners);
    }
    assert_string_equal(owner_state_name('?'), "unknown");
    assert_string_equal(owner_state_name((char)0xff), "unknown");
    assert_string_equal(owner_state_name('Z'), "a zombie");
}

static void threads_that_cannot_go_on_are_counted(void **state)
{
    (void)state;
    static const struct {
        const char *name, *stat;
    } threads[] = {
        {"2", "2 (app) D 1\n"}, {"3", "3 (app) T 1\n"}, {"4", "4 (app) t 1\n"}, {"5", "5 (app) R 1\n"}};
    const uint32_t wanted = 5;
    process_make("7", "socket:[5]");
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        char name[32];
        snprintf(name, sizeof name, "7/task/%s", threads[i].name);
        directory_make(name);
        snprintf(name, sizeof name, "7/task/%s/stat", threads[i].name);
        file_make(name, threads[i].stat);
    }
    struct owners owners = find_in_tree(&wanted, 1);
    assert_int_equal(owners.processes[0].threads, 5);
    assert_int_equal(owners.processes[0].blocked_threads, 3);
    owners_clear(&owners);
}

static void numbers_too_large_for_the_kernel_are_no_processes_and_no_inodes(void **state)
{
    (void)state;
    const uint32_t wanted[] = {5, 0, 705032704}; /* the last is 5,000,000,000 cut to 32 bits */
    process_make("7", "socket:[5000000000]");
    process_make("3000000000", "socket:[5]");
    process_make("0", "socket:[5]");
    struct owners owners = find_in_tree(wanted, 3);
    assert_int_equal(owners.holder_count, 0);
    owners_clear(&owners);
}

static void a_set_of_any_size_finds_its_inodes(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    uint32_t wanted[COUNT];
    const struct owner_holder *first;
    for (uint32_t i = 0; i < COUNT; i++)
        wanted[i] = (i + 1) * 1024;
    process_make("7", "socket:[1024000]");
    process_make("8", "socket:[1024]");
    process_make("9", "socket:[1025]");
    struct owners owners = find_in_tree(wanted, COUNT);
    assert_int_equal(owners.holder_count, 2);
    assert_int_equal(owners_of(&owners, 1024000, &first), 1);
    assert_int_equal(owners.processes[first->process].pid, 7);
    assert_int_equal(owners_of(&owners, 1024, &first), 1);
    assert_int_equal(owners_of(&owners, 1025, &first), 0);
    owners_clear(&owners);
}

static void a_descriptor_that_we_may_not_look_at_is_neither_held_nor_not(void **state)
{
    (void)state;
    static const int refusals[] = {EACCES, EPERM};
    for (size_t i = 0; i < 2; i++) {
        fault_arm(FAULT_READLINK, FAULT_MINE, refusals[i], 1, 1);
        assert_int_equal(owner_holds(proc_fd, getpid(), 0, 5), -EACCES);
        assert_int_equal(fault_disarm(), 1);
    }
}

static void a_proc_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    const uint32_t wanted = 5;
    struct owners owners;
    assert_int_equal(owners_find(&owners, -1, &wanted, 1), -EBADF);
    assert_int_equal(owners.holder_count, 0);
}

#define IN_TREE(name) cmocka_unit_test_setup_teardown(name, tree_make, tree_remove)

static void a_service_is_named_as_people_know_it(void **state)
{
    (void)state;
#define ID "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
    static const struct {
        const char *cgroup, *service;
    } cases[] = {
        {"0::/system.slice/nginx.service\n", "nginx.service"},
        {"0::/user.slice/user-1.slice/user@1.service/app.slice/web.service\n", "web.service"},
        {"0::/system.slice/docker-" ID ".scope\n", "container 0123456789ab"},
        {"4:memory:/docker/" ID "\n0::/\n", "container 0123456789ab"},
        {"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-" ID ".scope", "container 0123456789ab"},
        {"1:name=systemd:/system.slice/postgresql@15-main.service\n0::/\n", "postgresql@15-main.service"},
        {"0::/user.slice/session-1.scope\n", ""},
        {"0::/.service\n", ""},
        {"0::/a\033[2J.service\n", "a?[2J.service"},
        {"", ""},
        {"\n\n", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char service[OWNER_SERVICE];
        owner_service_of(cases[i].cgroup, service);
        assert_string_equal(service, cases[i].service);
    }
    struct owner_process process = {
        .program = "java", .command = "java -jar shop.jar", .service = "shop.service"};
    assert_string_equal(owner_known_as(&process), "shop.service");
    process.service[0] = '\0';
    assert_string_equal(owner_known_as(&process), "java -jar shop.jar");
    process.command[0] = '\0';
    assert_string_equal(owner_known_as(&process), "java");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_holders_of_a_forked_socket_are_found),
        cmocka_unit_test(a_stopped_owner_is_told_from_a_sleeping_one),
        cmocka_unit_test(a_descriptor_is_checked_again_by_itself),
        IN_TREE(links_that_are_no_socket_of_ours_are_passed_over),
        IN_TREE(a_program_may_have_any_name),
        IN_TREE(a_name_is_clean_when_it_is_read),
        IN_TREE(what_we_may_not_look_into_is_said),
        IN_TREE(whom_we_may_not_look_into_is_counted),
        IN_TREE(many_that_we_may_not_look_into_are_all_counted),
        IN_TREE(a_lack_of_memory_anywhere_leaves_nothing),
        IN_TREE(a_holder_may_end_at_any_moment),
        IN_TREE(what_stat_does_not_tell_is_unknown),
        IN_TREE(threads_that_cannot_go_on_are_counted),
        IN_TREE(numbers_too_large_for_the_kernel_are_no_processes_and_no_inodes),
        IN_TREE(a_set_of_any_size_finds_its_inodes),
        cmocka_unit_test(a_descriptor_that_we_may_not_look_at_is_neither_held_nor_not),
        cmocka_unit_test(a_proc_that_is_not_there_is_an_error),
        cmocka_unit_test(a_service_is_named_as_people_know_it),
    };
    return cmocka_run_group_tests(tests, proc_open, proc_close);
}
