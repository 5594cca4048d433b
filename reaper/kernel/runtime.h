#ifndef REAPER_KERNEL_RUNTIME_H
#define REAPER_KERNEL_RUNTIME_H

/* What a program runs on, and so how its stacks are looked at: gdb shows a JVM's or a Go program's threads
 * in futex_do_wait whatever they do. Told by the name of its executable file, and for Go by the note that
 * its linker puts behind the ELF header (cmd/link, .note.go.buildid). Blocks for reading 8 KiB of that
 * file, which runs. Any thread. */

#include "reaper/kernel/owner.h"

enum runtime {
    RUNTIME_NATIVE,
    RUNTIME_JVM,
    RUNTIME_GO,
    RUNTIME_PYTHON,
    RUNTIME_NODE,
    RUNTIME_POSTGRESQL,
};

/* RUNTIME_NATIVE also when we may not look. */
enum runtime runtime_of(int proc_fd, const struct owner_process *process);

/* The same from the base name of the executable file; RUNTIME_GO can't be told by it. */
enum runtime runtime_of_name(const char *name);

/* Whether the beginning of an executable file has Go's note. Any bytes will do. */
bool runtime_is_go(const void *file, size_t length);

/* The command that shows where the program is, into `text`. */
void runtime_stack_command(enum runtime runtime, pid_t pid, char *text, size_t size);

/* Whether the kernel function in which its main thread waits says anything: not of a runtime that parks
 * it. */
bool runtime_main_thread_tells(enum runtime runtime);

#endif
