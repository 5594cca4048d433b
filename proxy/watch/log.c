#include "proxy/watch/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

/* Bytes a ring holds, a power of two; about a thousand lines. */
enum { RING_SIZE = 1 << 18 };
enum { RINGS_MAX = 1032 }; /* the 1024 workers that a configuration may ask for, and the main thread */

/* The writer collects for this long before it writes: under load one write carries many lines. */
enum { COLLECT_MS = 20 };

/* How long log_close() waits for a target that takes nothing, and how often the writer looks whether it is
 * to. */
enum { LAST_WORDS_MS = 1000, LOOK_MS = 250 };

/* Positions count up for ever and are taken modulo RING_SIZE; head - tail bytes are in use. */
struct log_ring {
    struct log *log;
    _Atomic size_t head;      /* written by the producer */
    _Atomic size_t tail;      /* written by the writer thread */
    _Atomic uint64_t dropped; /* lines, counted by the producer, taken by the writer thread */
    bool unflushed;           /* producer's own */
    char bytes[RING_SIZE];
};

struct log {
    char *target;
    int fd;
    bool may_block; /* it is no regular file; the writer's own, as is */
    bool given_up;  /* it takes nothing, and the log is to be closed */
    uv_sem_t wake;
    uv_thread_t thread;
    atomic_bool
        woken; /* `wake` was posted and not seen yet: a semaphore that is posted for each turn while the
                          target blocks overflows in the end, and libuv then aborts */
    atomic_bool stop;
    atomic_bool reopen;
    _Atomic size_t ring_count;
    struct log_ring *rings[RINGS_MAX];
    enum conf_log_format format;
    enum conf_log_level level;
};

static int open_target(const char *target)
{
    if (strcmp(target, "stderr") == 0)
        return STDERR_FILENO;
    if (strcmp(target, "stdout") == 0)
        return STDOUT_FILENO;
    int fd = open(target, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    return fd < 0 ? -errno : fd;
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

/* Waits until the target takes PIPE_BUF bytes without blocking (pipe(7)). False: it does not, and the log
 * is to be closed; a full pipe or a stopped terminal must not keep a process from ending. */
static bool wait_writable(struct log *log)
{
    struct pollfd target = {.fd = log->fd, .events = POLLOUT};
    while (!log->given_up) {
        bool stop = atomic_load(&log->stop);
        if (poll(&target, 1, stop ? LAST_WORDS_MS : LOOK_MS) > 0)
            return true;
        log->given_up = stop;
    }
    return false;
}

/* What can't be written is gone: there is nowhere left to say so. */
static void write_all(struct log *log, const char *bytes, size_t size)
{
    while (size > 0) {
        if (log->may_block && !wait_writable(log))
            return;
        ssize_t n = write(log->fd, bytes, log->may_block && size > PIPE_BUF ? PIPE_BUF : size);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return;
        bytes += n;
        size -= (size_t)n;
    }
}

static void write_ring(struct log *log, struct log_ring *ring)
{
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    size_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    while (tail != head) {
        size_t at = tail % RING_SIZE;
        size_t size = head - tail < RING_SIZE - at ? head - tail : RING_SIZE - at;
        write_all(log, ring->bytes + at, size);
        tail += size;
        atomic_store_explicit(&ring->tail, tail, memory_order_release);
    }
    uint64_t dropped = atomic_exchange_explicit(&ring->dropped, 0, memory_order_relaxed);
    if (dropped > 0) {
        struct line line;
        line_begin(&line, log->format, CONF_LOG_WARNING, "log_dropped");
        line_number(&line, "lines", dropped);
        line_end(&line);
        write_all(log, line.text, line.size);
    }
}

static void reopen_target(struct log *log)
{
    int fd = open_target(log->target);
    if (fd < 0) { /* the old file is better than none */
        struct line line;
        line_begin(&line, log->format, CONF_LOG_ERROR, "log_not_reopened");
        line_text(&line, "target", log->target);
        line_text(&line, "error", uv_strerror(fd));
        line_end(&line);
        write_all(log, line.text, line.size);
        fprintf(stderr, "lastack: %s: %s; the log goes on in the old file\n", log->target, uv_strerror(fd));
        return;
    }
    if (fd != log->fd)
        close_target(log->fd);
    log->fd = fd;
    log->may_block = !is_regular(fd);
}

static void writer(void *context)
{
    struct log *log = context;
    bool stop;
    do {
        uv_sem_wait(&log->wake);
        if (!atomic_load(&log->stop))
            uv_sleep(COLLECT_MS);
        (void)atomic_exchange(&log->woken, false);
        stop = atomic_load(&log->stop);
        if (atomic_exchange(&log->reopen, false))
            reopen_target(log);
        size_t count = atomic_load_explicit(&log->ring_count, memory_order_acquire);
        /* The first ring is the main thread's: what it says of the others, "stopped", comes behind what they
         * said. */
        for (size_t i = count; i > 0; i--)
            write_ring(log, log->rings[i - 1]);
    } while (!stop);
}

int log_open(const struct conf_log *settings, struct log **out)
{
    struct log *log = calloc(1, sizeof *log);
    if (!log)
        return -ENOMEM;
    log->format = settings->format;
    log->level = settings->level;
    log->target = strdup(settings->target);
    log->fd = log->target ? open_target(log->target) : -ENOMEM;
    log->may_block = !is_regular(log->fd);
    int error = log->fd < 0 ? log->fd : uv_sem_init(&log->wake, 0);
    if (!error) {
        error = uv_thread_create(&log->thread, writer, log);
        if (error)
            uv_sem_destroy(&log->wake);
    }
    if (error) {
        if (log->fd >= 0)
            close_target(log->fd);
        free(log->target);
        free(log);
        return error;
    }
    *out = log;
    return 0;
}

static void wake_writer(struct log *log)
{
    if (!atomic_exchange(&log->woken, true))
        uv_sem_post(&log->wake);
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
    if (line->size > RING_SIZE - (head - tail)) {
        atomic_fetch_add_explicit(&ring->dropped, 1, memory_order_relaxed);
        return;
    }
    size_t at = head % RING_SIZE;
    size_t first = line->size < RING_SIZE - at ? line->size : RING_SIZE - at;
    memcpy(ring->bytes + at, line->text, first);
    memcpy(ring->bytes, line->text + first, line->size - first);
    atomic_store_explicit(&ring->head, head + line->size, memory_order_release);
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

void log_reopen(struct log *log)
{
    atomic_store(&log->reopen, true);
    wake_writer(log);
}

void log_close(struct log *log)
{
    atomic_store(&log->stop, true);
    wake_writer(log);
    uv_thread_join(&log->thread);
    uv_sem_destroy(&log->wake);
    close_target(log->fd);
    for (size_t i = 0; i < atomic_load(&log->ring_count); i++)
        free(log->rings[i]);
    free(log->target);
    free(log);
}
