#ifndef PROXY_SHARED_LOG_H
#define PROXY_SHARED_LOG_H

/* Log lines from several threads to one target, without making any of them wait.
 *
 *   worker 0 --ring--\
 *   worker 1 --ring----> writer thread --batch--> write(2): stderr, stdout or a file
 *   main     --ring--/
 *
 * Each producing thread has a ring of its own: one writer, one reader, no lock. A target that blocks (a full
 * pipe, a hung disk) or fails (a full disk) holds up the writer thread only: it tries again, from the byte on
 * at which it stopped, so that no line is torn. Meanwhile rings fill up, further lines are dropped and
 * counted, and the count is logged as soon as lines are taken again; of a failure stderr hears once. A target
 * that is opened again gets the line that was begun in the old one whole.
 *
 * A file is made with mode 0640 less the umask. Symbolic links are followed only where nobody
 * else could have put them (proxy/shared/path.h); /dev/stderr is one. A FIFO without
 * a reader takes what fits and blocks then.
 *
 * Where the target is journald's stream (systemd.exec(5), JOURNAL_STREAM) a line begins with its priority
 * (sd-daemon(3)), "<4>" for a warning. */

#include "conf/conf.h"
#include "proxy/shared/line.h"

#include <stdbool.h>
#include <sys/types.h>

struct log;
struct log_ring;

/* Opens the target and starts the writer thread. 0 or a negative errno. */
int log_open(const struct conf_log *settings, struct log **out);

/* Both apart, for who gives up rights between the two: until log_begin() lines wait in the rings. */
int log_prepare(const struct conf_log *settings, struct log **out);
int log_begin(struct log *log);

/* Between the two: gives a file that was made just now to that user, who is to open it again. */
int log_give_to(const struct log *log, uid_t uid, gid_t gid);

/* Likewise: whether log_reopen() would succeed now. 0 or a negative errno. */
int log_reopens(const struct log *log);

/* A ring for one producing thread, owned by the log. Call before that thread starts; NULL: out of memory. */
struct log_ring *log_ring(struct log *log);

/* Whether lines of this level are wanted; ask before building one. */
bool log_wants(const struct log_ring *ring, enum conf_log_level level);

/* Whether lines about what ended well are wanted. */
bool log_wants_normal(const struct log_ring *ring);

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

/* Straight to the target, and to stderr, before the process is ended by a signal of its own: safe within the
 * signal's handler, whatever the writer does. */
void log_last_words(const struct log *log, const struct line *line);
enum conf_log_format log_format_of(const struct log *log);

/* The file is opened again before the next line, as log rotation wants it, also while the old one blocks. Any
 * thread. */
void log_reopen(struct log *log);

/* Writes what is in the rings, stops the thread, frees everything. Producers have ended. The rest is lost
 * when the target takes nothing for a second, or not all in ten. A writer that hangs in a system call is
 * left behind after three seconds, with its memory: the process is to end. */
void log_close(struct log *log);

#endif
