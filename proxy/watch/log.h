#ifndef PROXY_WATCH_LOG_H
#define PROXY_WATCH_LOG_H

/* Log lines from several threads to one target, without making any of them wait.
 *
 *   worker 0 --ring--\
 *   worker 1 --ring----> writer thread --write(2)--> stderr, stdout or a file
 *   main     --ring--/
 *
 * Each producing thread has a ring of its own: one writer, one reader, no lock. A target that blocks (a full
 * pipe, a hung disk) blocks the writer thread only; rings fill up, further lines are dropped and counted, and
 * the count is logged when there is room again. */

#include "conf/conf.h"
#include "proxy/watch/line.h"

#include <stdbool.h>

struct log;
struct log_ring;

/* Opens the target and starts the writer thread. 0 or a negative errno. */
int log_open(const struct conf_log *settings, struct log **out);

/* A ring for one producing thread, owned by the log. Call before that thread starts; NULL: out of memory. */
struct log_ring *log_ring(struct log *log);

/* Whether lines of this level are wanted; ask before building one. */
bool log_wants(const struct log_ring *ring, enum conf_log_level level);
enum conf_log_format log_format(const struct log_ring *ring);

/* Copies a finished line into the ring. The thread of the ring. */
void log_line(struct log_ring *ring, const struct line *line);

/* Whether the ring has room for a few hundred lines. Who has thousands to say waits for it, a while. */
bool log_has_room(const struct log_ring *ring);

/* Wakes the writer if lines came since the last call. Once a loop turn, not once a line. */
void log_flush(struct log_ring *ring);

/* A line with a message and one field, flushed: what programs say about themselves. `key` may be NULL. */
void log_say(struct log_ring *ring, enum conf_log_level level, const char *message, const char *key,
             const char *value);

/* The file is opened again before the next line, as log rotation wants it. Any thread. */
void log_reopen(struct log *log);

/* Writes what is in the rings, stops the thread, frees everything. Producers have ended. A target that takes
 * nothing for a second loses the rest. */
void log_close(struct log *log);

#endif
