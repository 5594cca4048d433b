#include "tests/unit/cmocka.h"

#include "proxy/shared/log.h"
#include "tests/unit/sockets.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <uv.h>

struct file {
    char folder[32];
    char name[64];
};

static void file_make(struct file *file)
{
    snprintf(file->folder, sizeof file->folder, "/tmp/lastack-XXXXXX");
    assert_non_null(mkdtemp(file->folder));
    snprintf(file->name, sizeof file->name, "%s/log", file->folder);
}

static void file_remove(const struct file *file)
{
    unlink(file->name);
    assert_int_equal(rmdir(file->folder), 0);
}

/* Lines of the file that contain `word`; "" counts all. */
static size_t lines_with(const char *name, const char *word)
{
    char line[4096];
    size_t count = 0;
    FILE *file = fopen(name, "re");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file)) /* a line may be under way */
        count += strchr(line, '\n') && strstr(line, word);
    fclose(file);
    return count;
}

static struct log *open_log(const char *target, enum conf_log_level level)
{
    char copy[128];
    struct log *log = NULL;
    snprintf(copy, sizeof copy, "%s", target);
    struct conf_log settings = {.level = level, .target = copy};
    assert_int_equal(log_open(&settings, &log), 0);
    return log;
}

static void lines_reach_the_file(void **state)
{
    struct file file;
    (void)state;
    file_make(&file);
    struct log *log = open_log(file.name, CONF_LOG_INFO);
    struct log_ring *ring = log_ring(log);
    assert_true(log_wants(ring, CONF_LOG_INFO));
    assert_false(log_wants(ring, CONF_LOG_DEBUG));
    log_say(ring, CONF_LOG_INFO, "hello", "to", "you");
    log_say(ring, CONF_LOG_DEBUG, "unwanted", NULL, NULL);
    log_say(ring, CONF_LOG_ERROR, "bare", NULL, NULL);
    log_close(log);
    assert_int_equal(lines_with(file.name, ""), 2);
    assert_int_equal(lines_with(file.name, "level=info msg=hello to=you\n"), 1);
    assert_int_equal(lines_with(file.name, "level=error msg=bare\n"), 1);
    file_remove(&file);
}

static void a_target_that_can_not_be_opened_is_an_error(void **state)
{
    struct log *log = NULL;
    char target[] = "/nonexistent/log";
    struct conf_log settings = {.target = target};
    (void)state;
    assert_int_equal(log_open(&settings, &log), -ENOENT);
    assert_null(log);
}

enum { PRODUCERS = 4, LINES = 20000 };

struct producer {
    uv_thread_t thread;
    struct log_ring *ring;
    unsigned number;
};

static void produce(void *context)
{
    struct producer *producer = context;
    for (unsigned i = 0; i < LINES; i++) {
        struct line line;
        line_begin(&line, log_format(producer->ring), CONF_LOG_INFO, "count");
        line_number(&line, "producer", producer->number);
        line_number(&line, "line", i);
        log_line(producer->ring, line_end(&line));
        if (i % 16 == 0)
            log_flush(producer->ring);
    }
    log_flush(producer->ring);
}

static size_t dropped_lines(const char *name)
{
    char line[4096];
    size_t count = 0;
    FILE *file = fopen(name, "re");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        const char *at = strstr(line, "msg=log_dropped lines=");
        count += at ? strtoul(at + strlen("msg=log_dropped lines="), NULL, 10) : 0;
    }
    fclose(file);
    return count;
}

static void a_line_is_written_whole_or_counted_as_dropped(void **state)
{
    struct file file;
    struct producer producers[PRODUCERS];
    (void)state;
    file_make(&file);
    struct log *log = open_log(file.name, CONF_LOG_INFO);
    for (unsigned i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.ring = log_ring(log), .number = i};
        assert_int_equal(uv_thread_create(&producers[i].thread, produce, &producers[i]), 0);
    }
    log_reopen(log);
    for (unsigned i = 0; i < PRODUCERS; i++)
        uv_thread_join(&producers[i].thread);
    log_close(log);
    assert_int_equal(lines_with(file.name, "msg=count") + dropped_lines(file.name), PRODUCERS * LINES);
    file_remove(&file);
}

static void a_file_that_was_moved_away_is_made_again(void **state)
{
    struct file file;
    char moved[80];
    (void)state;
    file_make(&file);
    struct log *log = open_log(file.name, CONF_LOG_INFO);
    struct log_ring *ring = log_ring(log);
    snprintf(moved, sizeof moved, "%s.1", file.name);
    log_say(ring, CONF_LOG_INFO, "first", NULL, NULL);
    for (int waited_ms = 0; lines_with(file.name, "first") == 0; waited_ms++) {
        assert_true(waited_ms < WAIT_MS);
        pause_ms(1);
    }
    assert_int_equal(rename(file.name, moved), 0);
    log_reopen(log);
    log_say(ring, CONF_LOG_INFO, "second", NULL, NULL);
    log_close(log);
    assert_int_equal(lines_with(moved, "second"), 0);
    assert_int_equal(lines_with(file.name, "second"), 1);
    unlink(moved);
    file_remove(&file);
}

/* A full pipe, which nobody reads: producers never wait, and closing ends. */
static void a_target_that_blocks_holds_up_nobody(void **state)
{
    struct file file;
    (void)state;
    file_make(&file);
    assert_int_equal(mkfifo(file.name, 0600), 0);
    int reader = open(file.name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0);
    struct log *log = open_log(file.name, CONF_LOG_INFO);
    struct log_ring *ring = log_ring(log);
    for (unsigned i = 0; i < LINES; i++)
        log_say(ring, CONF_LOG_INFO, "into the void", NULL, NULL);
    log_close(log);
    assert_true(bytes_queued(reader) > 0);
    close(reader);
    file_remove(&file);
}

static void a_pipe_gets_every_line_as_long_as_it_is_read(void **state)
{
    struct file file;
    char byte;
    size_t lines = 0;
    (void)state;
    file_make(&file);
    assert_int_equal(mkfifo(file.name, 0600), 0);
    int reader = open(file.name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0);
    struct log *log = open_log(file.name, CONF_LOG_INFO);
    struct log_ring *ring = log_ring(log);
    for (unsigned i = 0; i < 1000; i++)
        log_say(ring, CONF_LOG_INFO, "into the pipe", NULL, NULL);
    while (lines < 1000) {
        wait_for(reader, POLLIN);
        while (read(reader, &byte, 1) == 1)
            lines += byte == '\n';
    }
    log_close(log);
    close(reader);
    file_remove(&file);
}

/* One ring waits for the target, and meanwhile another that was written before it gets a line. */
static void a_line_that_comes_while_the_target_blocks_is_not_forgotten(void **state)
{
    struct file file;
    char byte;
    size_t lines = 0;
    (void)state;
    file_make(&file);
    assert_int_equal(mkfifo(file.name, 0600), 0);
    int reader = open(file.name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    assert_true(reader >= 0);
    struct log *log = open_log(file.name, CONF_LOG_INFO);
    struct log_ring *first = log_ring(log), *other = log_ring(log);
    for (unsigned i = 0; i < 2000; i++)
        log_say(first, CONF_LOG_INFO, "more than a pipe holds, by far", NULL, NULL);
    wait_queued(reader, 60000);
    log_say(other, CONF_LOG_INFO, "meanwhile", NULL, NULL);
    pause_ms(100); /* until the writer has seen that something came; without it the test can't fail */
    while (lines < 2001) {
        wait_for(reader, POLLIN);
        while (read(reader, &byte, 1) == 1)
            lines += byte == '\n';
    }
    log_close(log);
    close(reader);
    file_remove(&file);
}

/* ---- a target that fails or blocks -------------------------------------------------------------------- */

static void wait_lines(const char *name, const char *word, size_t count)
{
    for (int waited_ms = 0; lines_with(name, word) < count; waited_ms++) {
        assert_true(waited_ms < WAIT_MS);
        pause_ms(1);
    }
}

/* As a disk that is full: a write is cut there, and the next one fails. */
static void set_room(rlim_t bytes)
{
    struct rlimit limit;
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static off_t size_of(const char *name)
{
    struct stat status;
    return stat(name, &status) ? 0 : status.st_size;
}

static void wait_size(const char *name, off_t size)
{
    for (int waited_ms = 0; size_of(name) < size; waited_ms++) {
        assert_true(waited_ms < WAIT_MS);
        pause_ms(1);
    }
}

static void a_full_disk_tears_no_line_and_loses_none_that_there_is_room_for(void **state)
{
    struct file file;
    (void)state;
    file_make(&file);
    set_room(1001); /* within a line */
    struct log *log = open_log(file.name, CONF_LOG_INFO);
    struct log_ring *ring = log_ring(log);
    for (unsigned i = 0; i < 1000; i++)
        log_say(ring, CONF_LOG_INFO, "count", NULL, NULL);
    wait_size(file.name, 1001);
    set_room(RLIM_INFINITY);
    wait_lines(file.name, "msg=count", 1000);
    log_close(log);
    assert_int_equal(lines_with(file.name, ""), 1000);
    file_remove(&file);
}

static void a_full_disk_counts_what_it_loses_and_says_so_at_the_next_success(void **state)
{
    struct file file;
    (void)state;
    file_make(&file);
    set_room(1001);
    struct log *log = open_log(file.name, CONF_LOG_INFO);
    struct log_ring *ring = log_ring(log);
    for (unsigned i = 0; i < LINES; i++)
        log_say(ring, CONF_LOG_INFO, "count", NULL, NULL);
    wait_size(file.name, 1001);
    set_room(RLIM_INFINITY);
    wait_lines(file.name, "msg=log_dropped", 1);
    log_close(log);
    assert_true(lines_with(file.name, "msg=count") > 1000);
    assert_int_equal(lines_with(file.name, "msg=count") + dropped_lines(file.name), LINES);
    assert_int_equal(lines_with(file.name, "error=\"file too large\""), 1);
    file_remove(&file);
}

/* What stderr is told while it is a file. */
static void stderr_hears_once_of_a_disk_that_is_full(void **state)
{
    struct file file;
    char heard[80];
    (void)state;
    file_make(&file);
    snprintf(heard, sizeof heard, "%s.err", file.name);
    int err = open(heard, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int old = dup(STDERR_FILENO);
    assert_int_equal(dup2(err, STDERR_FILENO), STDERR_FILENO);
    struct log *log = open_log(file.name, CONF_LOG_INFO);
    struct log_ring *ring = log_ring(log);
    for (unsigned i = 0; i < 100; i++)
        log_say(ring, CONF_LOG_INFO, "count", NULL, NULL);
    wait_lines(file.name, "count", 100);
    off_t full = size_of(file.name);
    set_room((rlim_t)full); /* more than is written to stderr */
    for (unsigned i = 0; i < 10; i++) {
        log_say(ring, CONF_LOG_INFO, "count", NULL, NULL);
        pause_ms(30);
    }
    wait_lines(heard, "lines are kept", 1);
    log_close(log);
    assert_int_equal(dup2(old, STDERR_FILENO), STDERR_FILENO);
    assert_int_equal(lines_with(heard, "lines are kept"), 1);
    assert_int_equal(lines_with(heard, "the end of the log is lost (file too large; lines: 10)"), 1);
    close(err);
    close(old);
    unlink(heard);
    file_remove(&file);
}

static void a_line_that_was_torn_is_whole_in_the_file_that_is_opened_again(void **state)
{
    struct file file;
    char moved[80];
    (void)state;
    file_make(&file);
    snprintf(moved, sizeof moved, "%s.1", file.name);
    set_room(1001);
    struct log *log = open_log(file.name, CONF_LOG_INFO);
    struct log_ring *ring = log_ring(log);
    for (unsigned i = 0; i < 20; i++)
        log_say(ring, CONF_LOG_INFO, "count", NULL, NULL);
    wait_size(file.name, 1001);
    assert_int_equal(rename(file.name, moved), 0);
    log_reopen(log);
    wait_size(file.name, 1); /* is full like the first, but takes what is left */
    log_close(log);
    size_t whole = 0;
    char line[4096];
    FILE *old = fopen(moved, "re");
    assert_non_null(old);
    while (fgets(line, sizeof line, old))
        whole += line[strlen(line) - 1] == '\n';
    fclose(old);
    assert_int_equal(whole + lines_with(file.name, "msg=count"), 20);
    unlink(moved);
    file_remove(&file);
}

static void a_log_that_blocks_is_opened_again(void **state)
{
    struct file file;
    char moved[80];
    (void)state;
    file_make(&file);
    snprintf(moved, sizeof moved, "%s.1", file.name);
    assert_int_equal(mkfifo(file.name, 0600), 0);
    int reader = open(file.name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct log *log = open_log(file.name, CONF_LOG_INFO);
    struct log_ring *ring = log_ring(log);
    for (unsigned i = 0; i < 2000; i++)
        log_say(ring, CONF_LOG_INFO, "into the void", NULL, NULL);
    struct pollfd full = {.fd = reader, .events = POLLIN};
    assert_int_equal(poll(&full, 1, WAIT_MS), 1);
    assert_int_equal(rename(file.name, moved), 0);
    log_reopen(log);
    wait_lines(file.name, "into the void", 1);
    log_close(log);
    close(reader);
    unlink(moved);
    file_remove(&file);
}

/* Neither opening nor closing waits for one who reads; and who comes late reads what was said. */
static void a_fifo_without_a_reader_holds_up_nobody(void **state)
{
    struct file file;
    (void)state;
    file_make(&file);
    assert_int_equal(mkfifo(file.name, 0600), 0);
    struct log *log = open_log(file.name, CONF_LOG_INFO);
    struct log_ring *ring = log_ring(log);
    log_say(ring, CONF_LOG_INFO, "early", NULL, NULL);
    log_reopen(log);
    int reader = open(file.name, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    wait_for(reader, POLLIN);
    for (unsigned i = 0; i < LINES; i++)
        log_say(ring, CONF_LOG_INFO, "into the void", NULL, NULL);
    log_close(log);
    assert_true(bytes_queued(reader) > 0);
    close(reader);
    file_remove(&file);
}

static atomic_bool hangs;

ssize_t __real_write(int fd, const void *bytes, size_t size);
ssize_t __wrap_write(int fd, const void *bytes, size_t size);

/* As one to a disk that does not answer. */
ssize_t __wrap_write(int fd, const void *bytes, size_t size)
{
    while (atomic_load(&hangs))
        pause_ms(1);
    return __real_write(fd, bytes, size);
}

static void a_disk_that_hangs_keeps_nobody_from_ending(void **state)
{
    struct file file;
    (void)state;
#ifdef __SANITIZE_THREAD__
    skip(); /* it complains of a thread that is left behind, which is just what is wanted */
#endif
    file_make(&file);
    struct log *log = open_log(file.name, CONF_LOG_INFO);
    struct log_ring *ring = log_ring(log);
    atomic_store(&hangs, true);
    log_say(ring, CONF_LOG_INFO, "never", NULL, NULL);
    log_close(log);
    assert_int_equal(lines_with(file.name, ""), 0);
    atomic_store(&hangs, false);
    wait_lines(file.name, "never", 1); /* the writer has its memory still */
    file_remove(&file);
}

static void lines_to_the_journal_begin_with_their_priority(void **state)
{
    struct file file;
    struct stat status;
    char stream[64];
    (void)state;
    file_make(&file);
    close(open(file.name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    assert_int_equal(stat(file.name, &status), 0);
    snprintf(stream, sizeof stream, "%ju:%ju", (uintmax_t)status.st_dev, (uintmax_t)status.st_ino);
    assert_int_equal(setenv("JOURNAL_STREAM", stream, 1), 0);
    struct log *log = open_log(file.name, CONF_LOG_DEBUG);
    struct log_ring *ring = log_ring(log);
    for (enum conf_log_level level = CONF_LOG_ERROR; level <= CONF_LOG_DEBUG; level++)
        log_say(ring, level, "hello", NULL, NULL);
    log_close(log);
    assert_int_equal(lines_with(file.name, "<3>time="), 1);
    assert_int_equal(lines_with(file.name, "<4>time="), 1);
    assert_int_equal(lines_with(file.name, "<6>time="), 1);
    assert_int_equal(lines_with(file.name, "<7>time="), 1);
    assert_int_equal(setenv("JOURNAL_STREAM", "1:1", 1), 0);
    log = open_log(file.name, CONF_LOG_DEBUG);
    ring = log_ring(log);
    log_say(ring, CONF_LOG_INFO, "plain", NULL, NULL);
    log_close(log);
    assert_int_equal(lines_with(file.name, "<6>"), 1);
    file_remove(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_reach_the_file),
        cmocka_unit_test(a_target_that_can_not_be_opened_is_an_error),
        cmocka_unit_test(a_line_is_written_whole_or_counted_as_dropped),
        cmocka_unit_test(a_file_that_was_moved_away_is_made_again),
        cmocka_unit_test(a_target_that_blocks_holds_up_nobody),
        cmocka_unit_test(a_pipe_gets_every_line_as_long_as_it_is_read),
        cmocka_unit_test(a_line_that_comes_while_the_target_blocks_is_not_forgotten),
        cmocka_unit_test(a_full_disk_tears_no_line_and_loses_none_that_there_is_room_for),
        cmocka_unit_test(a_full_disk_counts_what_it_loses_and_says_so_at_the_next_success),
        cmocka_unit_test(stderr_hears_once_of_a_disk_that_is_full),
        cmocka_unit_test(a_line_that_was_torn_is_whole_in_the_file_that_is_opened_again),
        cmocka_unit_test(a_log_that_blocks_is_opened_again),
        cmocka_unit_test(a_fifo_without_a_reader_holds_up_nobody),
        cmocka_unit_test(a_disk_that_hangs_keeps_nobody_from_ending),
        cmocka_unit_test(lines_to_the_journal_begin_with_their_priority),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
