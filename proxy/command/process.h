#ifndef PROXY_COMMAND_PROCESS_H
#define PROXY_COMMAND_PROCESS_H

/* What the process itself is made ready with, before any thread or any library of ours runs. Main thread. */

#include <stdbool.h>

/* Opens /dev/null for 0, 1 and 2 where they are closed: a socket or a library's pipe that got such a number
 * would be read as input or be written to as the log. First of all, in main(). */
void process_fill_standard(void);

/* For commands that carry connections. SIGPIPE and SIGXFSZ are ignored from then on, and the calls fail
 * instead: splice(2) to a socket that was reset raises the first and takes no flag against it, a log's pipe
 * without a reader does, and a log's file at a limit raises the second. The soft limit of open files becomes
 * the hard one. False: that is too low for a loop of libuv, which would abort, and it was said. `name` as in
 * messages: "lastack run". */
bool process_serves(const char *name);

/* Holds SIGHUP back, which would end the process before there is a log to open again. */
void process_hold_hangup(void);

/* Holds back all three that `run` listens to: for threads that are started meanwhile, and for an end that is
 * under way. */
void process_hold_signals(void);
void process_release_signals(void);

#endif
