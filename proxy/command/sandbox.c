#include "proxy/command/sandbox.h"

#include "syscalls.h"

#include <assert.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <ucontext.h>
#include <unistd.h>

/* What libraries call, where no source of ours names it.
 *
 * Memory, locks, the end of a thread, the time where the vDSO does not tell it, and the number of processors,
 * which malloc() asks for when it makes an arena; qsort() asks how much memory there is:
 * #syscalls worker: mmap munmap mremap mprotect brk madvise futex exit clock_gettime gettimeofday
 * #syscalls worker: getrandom sched_getaffinity sched_yield clock_nanosleep nanosleep restart_syscall sysinfo
 *
 * A signal's handler, assert() and abort():
 * #syscalls worker: rt_sigreturn rt_sigprocmask rt_sigaction getpid gettid tgkill exit_group write writev
 *
 * libuv's loop: waiting, waking (uv_async_send), and what a handle is made ready with:
 * #syscalls worker: epoll_wait epoll_pwait epoll_pwait2 epoll_ctl read write close ioctl fcntl
 *
 * malloc() asks whether memory is overcommitted, and strftime() where it is; both take no answer for "no":
 * #syscalls quiet: openat
 *
 * Threads that begin, their names, and what this file does to them:
 * #syscalls rest: clone set_robust_list rseq sigaltstack prctl seccomp capget capset
 *
 * libuv's loop of the main thread, with its signals, and that of the patrol:
 * #syscalls rest: epoll_create1 eventfd2 pipe2 readv poll ppoll
 *
 * stdio, opendir() and their kin, in files of any thread but a worker:
 * #syscalls rest: openat open newfstatat fstat fstatfs stat statx lseek getdents64 readlink readlinkat
 * #syscalls rest: access faccessat faccessat2 pread64 getcwd prlimit64 getrlimit uname dup
 * #syscalls rest: getuid geteuid getgid getegid sysinfo
 *
 * getaddrinfo() in libuv's pool, which reads files, asks over UDP, TCP or a socket of nscd or of
 * systemd-resolved, and sorts what it gets by the addresses of this host; modules that it loads are code (see
 * `limits`):
 * #syscalls names: socket connect bind sendto sendmsg sendmmsg recvfrom recvmsg getsockname getpeername
 * #syscalls names: setsockopt poll sysinfo
 */

/* SYS_SECCOMP of the kernel's <asm-generic/siginfo.h>, which does not go with libc's headers. */
enum { BY_FILTER = 1 };

/* Numbers beyond are no calls of this machine. */
enum { CALLS = 1024, NAME_SIZE = 32 };

enum group {
    GROUP_WORKER = 1,
    GROUP_REST = 2,
    GROUP_FINISH = 4,
    GROUP_NAMES = 8,
    GROUP_QUIET = 16,
};

static const struct {
    const char *name;
    enum group group;
} calls[] = {
#define X(name) {#name, GROUP_WORKER},
    SYSCALLS_WORKER(X)
#undef X
#define X(name) {#name, GROUP_REST},
        SYSCALLS_REST(X)
#undef X
#define X(name) {#name, GROUP_FINISH},
            SYSCALLS_FINISH(X)
#undef X
#define X(name) {#name, GROUP_NAMES},
                SYSCALLS_NAMES(X)
#undef X
#define X(name) {#name, GROUP_QUIET},
                    SYSCALLS_QUIET(X)
#undef X
};

#define IS(number, value)                                                                                    \
    {                                                                                                        \
        .arg = (number), .op = SCMP_CMP_EQ, .datum_a = (value)                                               \
    }
#define HAS(number, mask, value)                                                                             \
    {                                                                                                        \
        .arg = (number), .op = SCMP_CMP_MASKED_EQ, .datum_a = (mask), .datum_b = (value)                     \
    }

/* Calls that are allowed with these arguments only; each row is one way. Threads are made by clone(2), whose
 * flags a filter can read; it can't read clone3(2)'s, and libc copes without. Data never becomes code, but
 * for modules of the name service: files that are mapped to be run and can't be written to. */
static const struct limit {
    const char *name;
    unsigned groups;
    unsigned count;
    struct scmp_arg_cmp args[2];
} limits[] = {
    {"mmap", GROUP_WORKER | GROUP_REST, 1, {HAS(2, PROT_EXEC, 0)}},
    {"mmap", GROUP_NAMES, 2, {HAS(2, PROT_EXEC | PROT_WRITE, PROT_EXEC), HAS(3, MAP_ANONYMOUS, 0)}},
    {"mprotect", GROUP_WORKER | GROUP_REST, 1, {HAS(2, PROT_EXEC, 0)}},
    {"clone", GROUP_REST, 1, {HAS(0, CLONE_THREAD | CLONE_VM, CLONE_THREAD | CLONE_VM)}},
    {"socket", GROUP_WORKER | GROUP_REST, 1, {IS(0, AF_INET)}},
    {"socket", GROUP_WORKER | GROUP_REST, 1, {IS(0, AF_INET6)}},
    {"socket", GROUP_WORKER | GROUP_REST, 1, {IS(0, AF_UNIX)}},
    {"socket", GROUP_REST, 1, {IS(0, AF_NETLINK)}},
    {"ioctl", GROUP_WORKER | GROUP_REST, 1, {IS(1, FIONBIO)}},
    {"ioctl", GROUP_WORKER | GROUP_REST, 1, {IS(1, FIOCLEX)}},
    {"ioctl", GROUP_WORKER | GROUP_REST, 1, {IS(1, FIONREAD)}},
    {"ioctl", GROUP_WORKER | GROUP_REST, 1, {IS(1, TIOCOUTQ)}},
    {"ioctl", GROUP_WORKER | GROUP_REST, 1, {IS(1, SIOCATMARK)}},
    {"ioctl", GROUP_REST, 1, {IS(1, TCGETS)}},
    {"prctl", GROUP_REST, 1, {IS(0, PR_SET_NAME)}},
    {"prctl", GROUP_REST, 1, {IS(0, PR_SET_SECCOMP)}},
    {"prctl", GROUP_REST, 1, {IS(0, PR_CAPBSET_READ)}},
};

/* What no library needs and every intruder does; also where only its arguments are refused. */
static const char *const deadly[] = {
    "execve",      "execveat",     "fork",          "vfork",       "clone",          "ptrace",
    "mprotect",    "mmap",         "pkey_mprotect", "pidfd_getfd", "pidfd_open",     "process_vm_readv",
    "tgkill",      "tkill",        "kill",          "bpf",         "io_uring_setup", "process_vm_writev",
    "userfaultfd", "memfd_create", "mount",         "unshare",     "setns",          "perf_event_open",
    "setuid",      "setresuid",    "setgid",        "setresgid",   "init_module",    "finit_module",
    "keyctl",      "add_key",      "request_key",   "prctl",       "personality",    "open_by_handle_at",
    "modify_ldt",  "shmat",        "chroot",        "pivot_root",  "kexec_load",     "kexec_file_load",
};

struct filter {
    struct sock_fprog program;
};

static struct filter rest, worker;
static char names[CALLS][NAME_SIZE];
static bool is_deadly[CALLS];

/* Set once, before any handler can run. */
static uv_async_t *wake;
static const struct log *target;

enum said { SAID_NOTHING, TO_SAY_OF_WORKER, TO_SAY_OF_REST, SAID };
static atomic_uchar refused[CALLS];
static _Thread_local bool is_worker;

/* ---- making ------------------------------------------------------------------------------------------- */

static void name_calls(void)
{
    for (int i = 0; i < CALLS; i++) {
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, i);
        snprintf(names[i], NAME_SIZE, "%s", name ? name : "?");
        free(name);
    }
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++) {
        int number = seccomp_syscall_resolve_name(deadly[i]);
        if (number >= 0 && number < CALLS)
            is_deadly[number] = true;
    }
}

/* 0 or a negative errno. */
static int allow(scmp_filter_ctx context, const char *name, unsigned groups)
{
    int number = seccomp_syscall_resolve_name(name);
    bool limited = strcmp(name, "tgkill") == 0;
    int error = 0;
    if (number < 0) /* this machine has no such call */
        return 0;
    if (limited)
        error = seccomp_rule_add(context, SCMP_ACT_ALLOW, number, 1,
                                 (struct scmp_arg_cmp)IS(0, (scmp_datum_t)getpid()));
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (strcmp(limits[i].name, name) != 0)
            continue;
        limited = true;
        if (!error && (limits[i].groups & groups))
            error = seccomp_rule_add_array(context, SCMP_ACT_ALLOW, number, limits[i].count, limits[i].args);
    }
    if (!limited)
        error = seccomp_rule_add(context, SCMP_ACT_ALLOW, number, 0);
    return error == -EEXIST ? 0 : error;
}

/* The kernel's form, that any thread may load without libseccomp. */
static int export(scmp_filter_ctx context, struct filter *filter)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    struct stat status = {0};
    int error = seccomp_export_bpf(context, fd);
    if (!error && fstat(fd, &status))
        error = -errno;
    size_t size = (size_t)status.st_size;
    struct sock_filter *code = error ? NULL : malloc(size);
    if (!error && (!code || pread(fd, code, size, 0) != (ssize_t)size))
        error = -ENOMEM;
    close(fd);
    if (error) {
        free(code);
        return error;
    }
    filter->program.filter = code;
    filter->program.len = (unsigned short)(size / sizeof *code);
    return 0;
}

static int fill(scmp_filter_ctx context, unsigned groups, bool logs)
{
    int error = 0;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0] && !error; i++)
        if (calls[i].group & groups)
            error = allow(context, calls[i].name, groups);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0] && !error && !logs; i++) {
        int number = seccomp_syscall_resolve_name(calls[i].name);
        if (calls[i].group == GROUP_QUIET && !(groups & GROUP_REST) && number >= 0)
            error = seccomp_rule_add(context, SCMP_ACT_ERRNO(EACCES), number, 0);
    }
    if (!error && !logs)
        error = seccomp_rule_add(context, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    return error;
}

static int make(struct filter *filter, unsigned groups, bool logs)
{
    scmp_filter_ctx context = seccomp_init(logs ? SCMP_ACT_LOG : SCMP_ACT_TRAP);
    if (!context)
        return -ENOMEM;
    int error =
        seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, logs ? SCMP_ACT_LOG : SCMP_ACT_KILL_PROCESS);
    (void)seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE,
                           2); /* a tree; older libraries have a list only */
    if (!error)
        error = fill(context, groups, logs);
    if (!error)
        error = export(context, filter);
    seccomp_release(context);
    return error;
}

static bool has_sanitizer(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#elif defined(__has_feature)
    return __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||
           __has_feature(memory_sanitizer);
#else
    return false;
#endif
}

int sandbox_prepare(const struct conf *conf)
{
    bool logs = conf->seccomp == CONF_SECCOMP_LOG;
    unsigned groups = GROUP_WORKER | GROUP_REST;
    if (has_sanitizer())
        return -ENOTSUP;
    if (conf->reaper.action == LADDER_FINISH || conf->reaper.action == LADDER_BOTH)
        groups |= GROUP_FINISH;
    if (conf_has_names(conf))
        groups |= GROUP_NAMES;
    name_calls();
    int error = make(&rest, groups, logs);
    return error ? error : make(&worker, GROUP_WORKER, logs);
}

/* ---- refusing ----------------------------------------------------------------------------------------- */

/* False: nobody knows where the result stands on this machine. */
static bool set_result(ucontext_t *context, int result)
{
#if defined(__x86_64__)
    context->uc_mcontext.gregs[REG_RAX] = result;
    return true;
#elif defined(__aarch64__)
    context->uc_mcontext.regs[0] = (unsigned long long)(long long)result;
    return true;
#else
    (void)context;
    (void)result;
    return false;
#endif
}

/* The signal comes from a call of this very thread, which is in none of the functions that are used here. */
static void end_with(int number)
{
    struct line line;
    line_begin(&line, log_format_of(target), CONF_LOG_ERROR, "forbidden_syscall");
    line_text(&line, "name", names[number]);
    line_text(&line, "thread", is_worker ? "worker" : "rest");
    line_text(&line, "error", "the process ends: no part of it makes this call, an intruder would");
    log_last_words(target, line_end(&line));
    (void)signal(SIGSYS, SIG_DFL);
    (void)raise(SIGSYS);
}

static void on_refused(int signal_number, siginfo_t *info, void *context)
{
    int before = errno;
    unsigned number = (unsigned)info->si_syscall % CALLS;
    unsigned char nothing = SAID_NOTHING;
    (void)signal_number;
    if (info->si_code != BY_FILTER) { /* somebody sent it */
        (void)signal(SIGSYS, SIG_DFL);
        (void)raise(SIGSYS);
        return;
    }
    if (is_deadly[number] || !set_result(context, -ENOSYS))
        end_with((int)number);
    if (atomic_compare_exchange_strong(&refused[number], &nothing,
                                       is_worker ? TO_SAY_OF_WORKER : TO_SAY_OF_REST))
        uv_async_send(wake);
    errno = before;
}

void sandbox_say(struct log_ring *ring)
{
    for (size_t i = 0; i < CALLS; i++) {
        unsigned char what = atomic_load(&refused[i]);
        struct line line;
        if (what != TO_SAY_OF_WORKER && what != TO_SAY_OF_REST)
            continue;
        atomic_store(&refused[i], SAID);
        line_begin(&line, log_format(ring), CONF_LOG_ERROR, "refused_syscall");
        line_text(&line, "name", names[i]);
        line_text(&line, "thread", what == TO_SAY_OF_WORKER ? "worker" : "rest");
        line_text(&line, "error",
                  "it failed as on a kernel without it; please report it; `seccomp: log` allows it");
        log_line(ring, line_end(&line));
    }
    log_flush(ring);
}

/* ---- entering ----------------------------------------------------------------------------------------- */

static int load(const struct filter *filter)
{
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter->program, 0, 0) ? -errno : 0;
}

int sandbox_enter(uv_async_t *refused_one, const struct log *log)
{
    struct sigaction action = {.sa_sigaction = on_refused, .sa_flags = SA_SIGINFO | SA_NODEFER};
    wake = refused_one;
    target = log;
    if (sigaction(SIGSYS, &action, NULL))
        return -errno;
    return load(&rest);
}

void sandbox_confine(void)
{
    is_worker = true;
    if (worker.program.len > 0)
        (void)load(&worker); /* the other filter could be loaded too */
}
