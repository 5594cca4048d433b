#ifndef PROXY_COMMAND_SANDBOX_H
#define PROXY_COMMAND_SANDBOX_H

/* The system calls that the process may still make once it serves (seccomp(2)).
 *
 * There are two filters: one for the workers, who meet what clients and servers send, and one for the rest:
 * the main thread, the log's writer, the patrol, the desk and libuv's pool. What they allow stands in
 * comments beside the code that makes the calls, "#syscalls GROUP: NAME...", from which syscalls.sh makes a
 * header:
 *
 *   worker  a worker, and therefore the rest too
 *   rest    the rest alone
 *   finish  the rest, where `reaper.action` lets the patrol finish leaks
 *   names   the rest, where a server is given by name
 *   quiet   refused to workers, without a word: who calls copes, and does so in ordinary work
 *
 * Some are allowed with certain arguments only: sandbox.c says which.
 *
 * A refused call fails with ENOSYS, as on a kernel that does not know it, and the first of each kind is
 * logged. It does not end the process: after an upgrade of libc at night, the service must not go down for a
 * call that libc can do without. What no library needs, but an intruder does (to run a program, to make code
 * from data, to look into other processes), ends the process at once with a line that names the call: an
 * intruder in a worker can read the traffic of all its clients. Neither is ever carried out.
 *
 * Builds with a sanitizer have no filter, for its runtime needs more, and say so. */

#include "conf/conf.h"
#include "proxy/shared/log.h"

#include <stdbool.h>
#include <uv.h>

/* Makes the filters; nothing is confined yet. 0 or a negative errno; -ENOTSUP: this build has a sanitizer. */
int sandbox_prepare(const struct conf *conf);

/* Confines the calling thread, which has no_new_privs, and all that it starts from now on. `refused` is sent
 * after a call was refused; the line before the end goes to `log`. 0 or a negative errno. */
int sandbox_enter(uv_async_t *refused, const struct log *log);

/* Confines a worker's thread further. */
void sandbox_confine(void);

/* Logs what was refused and not yet logged. The main thread. */
void sandbox_say(struct log_ring *ring);

#endif
