#include "tests/unit/cmocka.h"

#include "proxy/watch/log.h"
#include "tests/unit/sockets.h"

#include <stdio.h>
#include <stdlib.h>
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
    while (fgets(line, sizeof line, file)) {
        assert_int_equal(line[strlen(line) - 1], '\n');
        count += strstr(line, word) != NULL;
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_reach_the_file),
        cmocka_unit_test(a_target_that_can_not_be_opened_is_an_error),
        cmocka_unit_test(a_line_is_written_whole_or_counted_as_dropped),
        cmocka_unit_test(a_file_that_was_moved_away_is_made_again),
        cmocka_unit_test(a_target_that_blocks_holds_up_nobody),
        cmocka_unit_test(a_pipe_gets_every_line_as_long_as_it_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
