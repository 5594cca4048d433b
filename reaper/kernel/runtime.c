#include "reaper/kernel/runtime.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

enum runtime runtime_of_name(const char *name)
{
    if (strcmp(name, "java") == 0)
        return RUNTIME_JVM;
    if (begins(name, "python") || begins(name, "pypy"))
        return RUNTIME_PYTHON;
    if (strcmp(name, "node") == 0 || strcmp(name, "nodejs") == 0)
        return RUNTIME_NODE;
    return strcmp(name, "postgres") == 0 ? RUNTIME_POSTGRESQL : RUNTIME_NATIVE;
}

/* Go's note: name "Go", type 4. */
static bool note_is_go(const uint8_t *at, size_t left)
{
    static const uint32_t head[] = {4, 0, 4};
    uint32_t found[3];
    if (left < sizeof found + 4)
        return false;
    memcpy(found, at, sizeof found);
    return found[0] == head[0] && found[2] == head[2] && memcmp(at + sizeof found, "Go\0", 4) == 0;
}

bool runtime_is_go(const void *file, size_t length)
{
    const uint8_t *bytes = file;
    Elf64_Ehdr head;
    if (length < sizeof head || memcmp(bytes, ELFMAG, SELFMAG) != 0 || bytes[EI_CLASS] != ELFCLASS64)
        return false;
    memcpy(&head, bytes, sizeof head);
    if (head.e_phoff > length || head.e_phentsize != sizeof(Elf64_Phdr))
        return false;
    size_t room = (length - (size_t)head.e_phoff) / sizeof(Elf64_Phdr);
    for (size_t i = 0; i < head.e_phnum && i < room; i++) {
        Elf64_Phdr part;
        memcpy(&part, bytes + head.e_phoff + i * sizeof part, sizeof part);
        if (part.p_type == PT_NOTE && part.p_offset < length &&
            note_is_go(bytes + part.p_offset, length - (size_t)part.p_offset))
            return true;
    }
    return false;
}

static bool file_is_go(int proc_fd, const char *path)
{
    enum { HEAD_BYTES = 8192 };
    uint8_t bytes[HEAD_BYTES];
    int fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, bytes, sizeof bytes);
    close(fd);
    return length > 0 && runtime_is_go(bytes, (size_t)length);
}

enum runtime runtime_of(int proc_fd, const struct owner_process *process)
{
    char path[32], target[4096];
    snprintf(path, sizeof path, "%d/exe", process->pid);
    ssize_t length = readlinkat(proc_fd, path, target, sizeof target - 1);
    if (length < 0)
        return runtime_of_name(process->program);
    target[length] = '\0';
    const char *slash = strrchr(target, '/');
    enum runtime runtime = runtime_of_name(slash ? slash + 1 : target);
    return runtime == RUNTIME_NATIVE && file_is_go(proc_fd, path) ? RUNTIME_GO : runtime;
}

void runtime_stack_command(enum runtime runtime, pid_t pid, char *text, size_t size)
{
    static const char *const formats[] = {
        [RUNTIME_NATIVE] = "gdb -p %d -batch -ex 'thread apply all backtrace'",
        [RUNTIME_JVM] = "jstack %d    # or kill -QUIT: it prints the same into its own output",
        [RUNTIME_GO] = "kill -QUIT %d    # prints all goroutines into its own output, and ends it",
        [RUNTIME_PYTHON] = "py-spy dump --pid %d",
        [RUNTIME_NODE] = "node inspect -p %d",
        [RUNTIME_POSTGRESQL] =
            "psql -c 'SELECT pid, state, wait_event, query FROM pg_stat_activity WHERE pid = %d'",
    };
    const char *format = formats[runtime], *hole = strstr(format, "%d");
    snprintf(text, size, "%.*s%d%s", (int)(hole - format), format, pid, hole + 2);
}

bool runtime_main_thread_tells(enum runtime runtime)
{
    return runtime == RUNTIME_NATIVE || runtime == RUNTIME_POSTGRESQL;
}
