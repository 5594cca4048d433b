#include "proxy/shared/log.h"

#include "proxy/shared/path.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

/* #syscalls rest: write poll fstat newfstatat eventfd2 close */

/* Bytes a ring holds, a power of two; about a thousand lines. */
enum { RING_SIZE = 1 << 18 };
enum { RINGS_MAX = 1032 }; /* 1024 workers may be asked for; the main thread; the patrol */

/* In front of each line in a ring: its level, and its size in two bytes. */
enum { HEADER = 3 };

/* The writer collects for this long before it writes: under load one write carries many lines. */
enum { COLLECT_MS = 20 };
enum { BATCH_SIZE = 1 << 16 };

/* How long the writer rests before it tries a target again that failed. */
enum { RETRY_MS = 250 };

/* How often stderr hears of that, at most. */
enum { SAY_EVERY_MS = 60000 };

/* When the log is closed: how long the target may take nothing, how long it may take in all, and how long a
 * writer that should have given up by then is waited for. */
enum { SILENCE_MS = 1000, LAST_WORDS_MS = 10000, HANGING_MS = 3000 };

/* Positions count up for ever and are taken modulo RING_SIZE; head - tail bytes are in use. */
struct log_ring {
    struct log *log;
    _Atomic size_t head;      /* written by the producer */
    _Atomic size_t tail;      /* written by the writer thread */
    _Atomic uint64_t dropped; /* lines, counted by the producer, taken by the writer thread */
    bool unflushed;           /* producer's own */
    char bytes[RING_SIZE];
};

/* What the writer has and nobody else looks at. */
struct writer {
    int fd;
    bool may_block;      /* it is no regular file */
    bool journal;        /* it is journald's stream: lines begin with a priority */
    size_t at;           /* rings that are still to be written in this round, the last one first */
    uint64_t lost;       /* lines that the log has not owned up to yet */
    int error;           /* negative errno of the last attempt; 0: none */
    int lost_by;         /* the last error since `lost` was 0 */
    bool said;           /* to stderr ... */
    uint64_t said_ms;    /* ... when */
    uint64_t stopped_ms; /* when it was seen that the log is to be closed; 0: it is not */
    uint64_t taken_ms;   /* when the target last took something after that */
    size_t size, written;
    char batch[BATCH_SIZE]; /* whole lines; those before `written` are in the target */
};

struct log {
    char *target;
    int wake; /* eventfds: something is to be done; the writer has ended */
    int ended;
    uv_thread_t thread;
    bool started;      /* the thread */
    bool made;         /* the file, by us */
    atomic_bool woken; /* `wake` was written to and not seen yet */
    atomic_bool stop;
    atomic_bool reopen;
    _Atomic uint64_t taken; /* writes that the target took */
    _Atomic size_t ring_count;
    struct log_ring *rings[RINGS_MAX];
    enum conf_log_format format;
    enum conf_log_level level;
    bool normal;
    struct writer writer;
};

static uint64_t clock_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* ---- the target --------------------------------------------------------------------------------------- */

static int open_file(const char *target, int flags)
{
    return path_open(target, flags | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0640);
}

/* Never waits: a FIFO that nobody reads refuses to be opened for writing alone (fifo(7)). *made: there was no
 * file. */
static int open_target(const char *target, bool *made)
{
    *made = false;
    if (strcmp(target, "stderr") == 0)
        return STDERR_FILENO;
    if (strcmp(target, "stdout") == 0)
        return STDOUT_FILENO;
    int fd = open_file(target, O_WRONLY | O_CREAT | O_EXCL);
    *made = fd >= 0;
    if (fd == -EEXIST || fd == -EISDIR)
        fd = open_file(target, O_WRONLY | O_CREAT);
    return fd == -ENXIO ? open_file(target, O_RDWR) : fd;
}

static void close_target(int fd)
{
    if (fd > STDERR_FILENO)
        close(fd);
}

static bool is_regular(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
}

/* systemd.exec(5): device and inode number, in decimal, with a colon between. */
static bool is_journal(int fd)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat status;
    char here[64];
    if (!stream || fstat(fd, &status))
        return false;
    snprintf(here, sizeof here, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    return strcmp(stream, here) == 0;
}

static bool is_same_file(int a, int b)
{
    struct stat of_a, of_b;
    return fstat(a, &of_a) == 0 && fstat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
           of_a.st_ino == of_b.st_ino;
}

static void set_target(struct writer *w, int fd)
{
    w->fd = fd;
    w->may_block = !is_regular(fd);
    w->journal = is_journal(fd);
}

static bool is_writable(int fd)
{
    struct pollfd target = {.fd = fd, .events = POLLOUT};
    return poll(&target, 1, 0) > 0;
}

/* To stderr, unless the log is that, or it takes nothing. */
static void tell(const struct log *log, const char *what, int error, uint64_t lines)
{
    if (log->writer.fd == STDERR_FILENO || !is_writable(STDERR_FILENO))
        return;
    if (lines > 0)
        dprintf(STDERR_FILENO, "lastack: %s: %s (%s; lines: %ju)\n", log->target, what,
                error ? uv_strerror(error) : "it took none", (uintmax_t)lines);
    else
        dprintf(STDERR_FILENO, "lastack: %s: %s; %s\n", log->target, uv_strerror(error), what);
}

/* ---- from the rings into the batch -------------------------------------------------------------------- */

static void copy_out(const struct log_ring *ring, size_t from, char *bytes, size_t size)
{
    size_t at = from % RING_SIZE;
    size_t first = size < RING_SIZE - at ? size : RING_SIZE - at;
    memcpy(bytes, ring->bytes + at, first);
    memcpy(bytes + first, ring->bytes, size - first);
}

static void copy_in(struct log_ring *ring, size_t to, const char *bytes, size_t size)
{
    size_t at = to % RING_SIZE;
    size_t first = size < RING_SIZE - at ? size : RING_SIZE - at;
    memcpy(ring->bytes + at, bytes, first);
    memcpy(ring->bytes, bytes + first, size - first);
}

/* syslog(3)'s numbers. */
static char priority(enum conf_log_level level)
{
    static const char numbers[] = {
        [CONF_LOG_ERROR] = '3', [CONF_LOG_WARNING] = '4', [CONF_LOG_INFO] = '6', [CONF_LOG_DEBUG] = '7'};
    return numbers[level];
}

static void put_priority(struct writer *w, enum conf_log_level level)
{
    if (!w->journal)
        return;
    const char prefix[] = {'<', priority(level), '>'};
    memcpy(w->batch + w->size, prefix, sizeof prefix);
    w->size += sizeof prefix;
}

/* Fills the batch, which has been written. False: nothing is there up to `head`. */
static bool take_lines(struct writer *w, struct log_ring *ring, size_t head)
{
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    w->size = w->written = 0;
    while (tail != head) {
        unsigned char header[HEADER];
        copy_out(ring, tail, (char *)header, HEADER);
        size_t size = header[1] | (size_t)header[2] << 8;
        if (w->size + size + sizeof "<0>" > BATCH_SIZE)
            break;
        put_priority(w, (enum conf_log_level)header[0]);
        copy_out(ring, tail + HEADER, w->batch + w->size, size);
        w->size += size;
        tail += HEADER + size;
    }
    atomic_store_explicit(&ring->tail, tail, memory_order_release);
    return w->size > 0;
}

static void put_line(struct writer *w, const struct line *line)
{
    w->written = w->size = 0;
    put_priority(w, line->level);
    memcpy(w->batch + w->size, line->text, line->size);
    w->size += line->size;
}

/* ---- from the batch into the target ------------------------------------------------------------------- */

static void failed(struct log *log, int error)
{
    struct writer *w = &log->writer;
    uint64_t now_ms = clock_ms();
    w->error = w->lost_by = error;
    if (w->said && now_ms - w->said_ms < SAY_EVERY_MS)
        return;
    w->said = true;
    w->said_ms = now_ms;
    tell(log, "lines are kept as long as there is room", error, 0);
}

/* False: the target does not take all of it now. */
static bool write_batch(struct log *log)
{
    struct writer *w = &log->writer;
    while (w->written < w->size) {
        size_t size = w->size - w->written;
        /* What takes a byte takes PIPE_BUF without blocking (pipe(7)). */
        if (w->may_block && !is_writable(w->fd))
            return false;
        ssize_t n = write(w->fd, w->batch + w->written, w->may_block && size > PIPE_BUF ? PIPE_BUF : size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) { /* whatever poll(2) said */
            w->error = -EAGAIN;
            return false;
        }
        if (n <= 0) {
            failed(log, n < 0 ? -errno : -EIO);
            return false;
        }
        w->error = 0;
        w->written += (size_t)n;
        w->taken_ms = clock_ms();
        atomic_fetch_add(&log->taken, 1);
    }
    return true;
}

static bool write_ring(struct log *log, struct log_ring *ring)
{
    struct writer *w = &log->writer;
    size_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    if (!write_batch(log))
        return false;
    while (take_lines(w, ring, head))
        if (!write_batch(log))
            return false;
    w->lost += atomic_exchange_explicit(&ring->dropped, 0, memory_order_relaxed);
    return true;
}

static void own_up(struct log *log)
{
    struct writer *w = &log->writer;
    struct line line;
    line_begin(&line, log->format, CONF_LOG_WARNING, "log_dropped");
    line_number(&line, "lines", w->lost);
    if (w->lost_by)
        line_text(&line, "error", uv_strerror(w->lost_by));
    line_end(&line);
    w->lost = 0;
    w->lost_by = 0;
    put_line(w, &line);
}

/* The rings that are left in this round. False: the target takes no more now. */
static bool write_rings(struct log *log)
{
    struct writer *w = &log->writer;
    for (; w->at > 0; w->at--)
        if (!write_ring(log, log->rings[w->at - 1]))
            return false;
    return write_batch(log);
}

/* What is in the rings. False: not all of it could be written, and it goes on from there. */
static bool write_round(struct log *log)
{
    struct writer *w = &log->writer;
    /* The rest of a round that had to stop; meanwhile a ring before that may have got lines, and woken us. */
    if (!write_rings(log))
        return false;
    /* The first ring is the main thread's: what it says of the others, "stopped", comes behind what they
     * said. */
    w->at = atomic_load_explicit(&log->ring_count, memory_order_acquire);
    if (!write_rings(log))
        return false;
    if (w->lost > 0)
        own_up(log);
    return write_batch(log);
}

/* ---- the writer's thread ------------------------------------------------------------------------------ */

/* The line that was begun in the old file is written whole into the new one. */
static void begin_line_again(struct writer *w)
{
    while (w->written > 0 && w->batch[w->written - 1] != '\n')
        w->written--;
}

static void reopen_target(struct log *log)
{
    struct writer *w = &log->writer;
    bool made;
    int fd = open_target(log->target, &made);
    if (fd < 0) { /* the old file is better than none */
        tell(log, "the log goes on in the old file", fd, 0);
        if (w->written < w->size) /* which does not take a line now */
            return;
        struct line line;
        line_begin(&line, log->format, CONF_LOG_ERROR, "log_not_reopened");
        line_text(&line, "target", log->target);
        line_text(&line, "error", uv_strerror(fd));
        line_end(&line);
        put_line(w, &line);
        return;
    }
    if (fd == w->fd)
        return;
    if (!is_same_file(fd, w->fd))
        begin_line_again(w);
    close_target(w->fd);
    set_target(w, fd);
    w->error = 0;
}

/* How long the writer waits at most, with something left to write. */
static int patience_ms(const struct writer *w, bool polled)
{
    if (w->stopped_ms == 0)
        return polled ? -1 : RETRY_MS;
    uint64_t now_ms = clock_ms();
    uint64_t until_ms = w->taken_ms + SILENCE_MS;
    if (until_ms > w->stopped_ms + LAST_WORDS_MS)
        until_ms = w->stopped_ms + LAST_WORDS_MS;
    int left_ms = until_ms > now_ms ? (int)(until_ms - now_ms) : 0;
    return polled || left_ms < RETRY_MS ? left_ms : RETRY_MS;
}

/* Until there is something to do. False: what is left is not to be waited for any longer. */
static bool wait_for_more(struct log *log, bool left)
{
    struct writer *w = &log->writer;
    bool polled = left && w->may_block && w->error == 0;
    struct pollfd fds[] = {{.fd = log->wake, .events = POLLIN}, {.fd = w->fd, .events = POLLOUT}};
    int ms = left ? patience_ms(w, polled) : -1;
    if (ms == 0 || (w->stopped_ms > 0 && !left))
        return false;
    if (poll(fds, polled ? 2 : 1, ms) > 0 && fds[0].revents) {
        eventfd_t count;
        (void)eventfd_read(log->wake, &count);
        bool takes_more = polled && fds[1].revents;
        if (!takes_more && !atomic_load(&log->stop))
            uv_sleep(COLLECT_MS);
        (void)atomic_exchange(&log->woken, false);
    }
    return true;
}

static uint64_t lines_in(const char *bytes, size_t size)
{
    uint64_t count = 0;
    for (size_t i = 0; i < size; i++)
        count += bytes[i] == '\n';
    return count;
}

/* What can't be written any more. */
static void count_lost(struct log *log)
{
    struct writer *w = &log->writer;
    uint64_t lost = w->lost;
    if (w->at == 0)
        w->at = atomic_load_explicit(&log->ring_count, memory_order_acquire);
    do {
        lost += lines_in(w->batch + w->written, w->size - w->written);
        w->size = w->written = 0;
        struct log_ring *ring = w->at > 0 ? log->rings[w->at - 1] : NULL;
        bool more = ring && take_lines(w, ring, atomic_load_explicit(&ring->head, memory_order_acquire));
        if (ring && !more) {
            lost += atomic_exchange_explicit(&ring->dropped, 0, memory_order_relaxed);
            w->at--;
        }
    } while (w->size > 0 || w->at > 0);
    if (lost > 0)
        tell(log, "the end of the log is lost", w->error, lost);
}

static void writer(void *context)
{
    struct log *log = context;
    struct writer *w = &log->writer;
    bool left = false;
    while (wait_for_more(log, left)) {
        if (w->stopped_ms == 0 && atomic_load(&log->stop))
            w->stopped_ms = w->taken_ms = clock_ms();
        if (atomic_exchange(&log->reopen, false))
            reopen_target(log);
        left = !write_round(log);
    }
    if (left)
        count_lost(log);
    (void)eventfd_write(log->ended, 1);
}

/* ---- the interface ------------------------------------------------------------------------------------ */

static void free_log(struct log *log)
{
    if (log->writer.fd >= 0)
        close_target(log->writer.fd);
    if (log->wake >= 0)
        close(log->wake);
    if (log->ended >= 0)
        close(log->ended);
    for (size_t i = 0; i < atomic_load(&log->ring_count); i++)
        free(log->rings[i]);
    free(log->target);
    free(log);
}

int log_prepare(const struct conf_log *settings, struct log **out)
{
    struct log *log = calloc(1, sizeof *log);
    if (!log)
        return -ENOMEM;
    log->format = settings->format;
    log->level = settings->level;
    log->normal = settings->normal;
    log->target = strdup(settings->target);
    log->wake = eventfd(0, EFD_CLOEXEC);
    log->ended = eventfd(0, EFD_CLOEXEC);
    int error = log->wake < 0 || log->ended < 0 ? -errno : 0;
    int fd = log->target ? open_target(log->target, &log->made) : -ENOMEM;
    set_target(&log->writer, fd);
    if (!error && fd < 0)
        error = fd;
    if (error) {
        free_log(log);
        return error;
    }
    *out = log;
    return 0;
}

int log_give_to(const struct log *log, uid_t uid, gid_t gid)
{
    return log->made && fchown(log->writer.fd, uid, gid) ? -errno : 0;
}

int log_reopens(const struct log *log)
{
    bool made;
    int fd = open_target(log->target, &made);
    if (fd >= 0)
        close_target(fd);
    return fd < 0 ? fd : 0;
}

int log_begin(struct log *log)
{
    int error = uv_thread_create(&log->thread, writer, log);
    log->started = error == 0;
    return error;
}

int log_open(const struct conf_log *settings, struct log **out)
{
    int error = log_prepare(settings, out);
    if (!error && (error = log_begin(*out)) != 0) {
        free_log(*out);
        *out = NULL;
    }
    return error;
}

static void wake_writer(struct log *log)
{
    if (!atomic_exchange(&log->woken, true))
        (void)eventfd_write(log->wake, 1);
}

struct log_ring *log_ring(struct log *log)
{
    size_t index = atomic_load_explicit(&log->ring_count, memory_order_relaxed);
    assert(index < RINGS_MAX);
    struct log_ring *ring = calloc(1, sizeof *ring);
    if (!ring)
        return NULL;
    ring->log = log;
    log->rings[index] = ring;
    atomic_store_explicit(&log->ring_count, index + 1, memory_order_release);
    return ring;
}

bool log_wants(const struct log_ring *ring, enum conf_log_level level)
{
    return level <= ring->log->level;
}

bool log_wants_normal(const struct log_ring *ring)
{
    return ring->log->normal;
}

enum conf_log_format log_format(const struct log_ring *ring)
{
    return ring->log->format;
}

bool log_has_room(const struct log_ring *ring)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    return head - atomic_load_explicit(&ring->tail, memory_order_relaxed) <= RING_SIZE / 2;
}

void log_line(struct log_ring *ring, const struct line *line)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    ring->unflushed = true;
    if (HEADER + line->size > RING_SIZE - (head - tail)) {
        atomic_fetch_add_explicit(&ring->dropped, 1, memory_order_relaxed);
        return;
    }
    const char header[HEADER] = {(char)line->level, (char)(line->size & 0xff), (char)(line->size >> 8)};
    copy_in(ring, head, header, HEADER);
    copy_in(ring, head + HEADER, line->text, line->size);
    atomic_store_explicit(&ring->head, head + HEADER + line->size, memory_order_release);
}

void log_flush(struct log_ring *ring)
{
    if (!ring->unflushed)
        return;
    ring->unflushed = false;
    wake_writer(ring->log);
}

void log_say(struct log_ring *ring, enum conf_log_level level, const char *message, const char *key,
             const char *value)
{
    if (!log_wants(ring, level))
        return;
    struct line line;
    line_begin(&line, ring->log->format, level, message);
    if (key)
        line_text(&line, key, value);
    log_line(ring, line_end(&line));
    log_flush(ring);
}

void log_last_words(const struct log *log, const struct line *line)
{
    int fd = log->writer.fd;
    if (fd != STDERR_FILENO && write(fd, line->text, line->size) < 0)
        (void)errno; /* stderr may take it */
    if (is_writable(STDERR_FILENO) && write(STDERR_FILENO, line->text, line->size) < 0)
        (void)errno; /* and nobody is left to tell */
}

enum conf_log_format log_format_of(const struct log *log)
{
    return log->format;
}

void log_reopen(struct log *log)
{
    atomic_store(&log->reopen, true);
    wake_writer(log);
}

/* False: it hangs. As long as the target takes something it does not. */
static bool has_ended(struct log *log)
{
    struct pollfd ended = {.fd = log->ended, .events = POLLIN};
    uint64_t taken = atomic_load(&log->taken), before;
    do {
        if (poll(&ended, 1, HANGING_MS) > 0)
            return true;
        before = taken;
        taken = atomic_load(&log->taken);
    } while (taken !=
             before); /* the writer ends within LAST_WORDS_MS, or is in a call that does not return */
    return false;
}

void log_close(struct log *log)
{
    static struct log *left_behind; /* its thread still uses it */
    atomic_store(&log->stop, true);
    wake_writer(log);
    if (!log->started && log_begin(log) != 0) { /* what is in the rings is lost */
        free_log(log);
        return;
    }
    if (!has_ended(log)) {
        left_behind = log;
        (void)left_behind;
        return;
    }
    uv_thread_join(&log->thread);
    free_log(log);
}
