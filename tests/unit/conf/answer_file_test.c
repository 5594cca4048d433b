#include "tests/unit/cmocka.h"

#include "conf/answer_file.h"
#include "reaper/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void free_answer(struct conf_answer *answer)
{
    free(answer->path);
    free(answer->bytes);
}

static void expect_answer(const char *file, size_t size, const char *head, const char *body,
                          struct conf_answer *answer)
{
    struct findings findings = {0};
    *answer = (struct conf_answer){.status = 503};
    assert_int_equal(answer_file_parse("f", file, size, answer, &findings), 0);
    assert_int_equal(findings.errors, 0);
    assert_int_equal(answer->head_size, strlen(head));
    assert_memory_equal(answer->bytes, head, strlen(head));
    assert_int_equal(answer->body_size, strlen(body));
    assert_memory_equal(answer->bytes + answer->head_size, body, strlen(body));
    free_answer(answer);
}

#define EXPECT(file, head, body) expect_answer((file), strlen(file), (head), (body), &answer)

static void lines_end_with_lf_or_crlf_and_are_sent_with_crlf(void **state)
{
    (void)state;
    struct conf_answer answer;
    EXPECT("\n", "\r\n", "");
    EXPECT("\r\n", "\r\n", "");
    EXPECT("X:\n\n", "X: \r\n\r\n", "");
    EXPECT("X-A:1\nContent-Type: \t text/html \r\nX-B: a b\tc \xe4\r\n\r\n\nbody\r\n",
           "X-A: 1\r\nContent-Type: text/html\r\nX-B: a b\tc \xe4\r\n\r\n", "\nbody\r\n");
}

static void it_is_known_which_fields_are_given(void **state)
{
    (void)state;
    struct conf_answer answer;
    EXPECT("retry-after: 9\n\n", "retry-after: 9\r\n\r\n", "");
    assert_true(answer.has_retry_after);
    assert_false(answer.has_date);
    EXPECT("DATE: x\n\n", "DATE: x\r\n\r\n", "");
    assert_true(answer.has_date);
    assert_false(answer.has_retry_after);
}

static void a_body_is_any_bytes(void **state)
{
    (void)state;
    static const char file[] = "Content-Type: x/y\n\n\0\r\xff\n\nHTTP/1.1 200 OK\r\n\r\n";
    struct findings findings = {0};
    struct conf_answer answer = {.status = 502};
    assert_int_equal(answer_file_parse("f", file, sizeof file - 1, &answer, &findings), 0);
    assert_int_equal(answer.body_size, sizeof file - 1 - 19);
    assert_memory_equal(answer.bytes + answer.head_size, file + 19, answer.body_size);
    free_answer(&answer);
}

struct bad {
    const char *file;
    size_t size; /* 0: up to its end */
    const char *error;
};

#define FIELD "a field such as 'Retry-After: 30', or the empty line before the body"
#define OURS                                                                                                 \
    ", which is the proxy's to write; allowed: fields that are not about the length or the connection"
#define TEXT "visible characters, spaces and tabs"

static void what_is_no_answer_is_refused_where_it_is(void **state)
{
    (void)state;
    static const struct bad cases[] = {
        {"", 0, "f:1:1: found the end of the file; allowed: an empty line behind the fields"},
        {"A: b", 0, "f:2:1: found the end of the file; allowed: an empty line behind the fields"},
        {"A: b\n", 0, "f:2:1: found the end of the file; allowed: an empty line behind the fields"},
        {"HTTP/1.0 503 No\n\n", 0,
         "f:1:1: found a status line; allowed: fields alone, the proxy writes the status line"},
        {"A: b\nwords\n\n", 0, "f:2:6: found the end of the line; allowed: " FIELD},
        {"A: b\ntwo words\n\n", 0, "f:2:4: found the byte 0x20; allowed: " FIELD},
        {"A : b\n\n", 0, "f:1:2: found the byte 0x20; allowed: " FIELD},
        {": b\n\n", 0, "f:1:1: found ':'; allowed: " FIELD},
        {"A/B: b\n\n", 0, "f:1:2: found '/'; allowed: " FIELD},
        {"A: b\n folded\n\n", 0, "f:2:1: found the byte 0x20; allowed: " FIELD},
        {"A: b\n\tfolded\n\n", 0, "f:2:1: found the byte 0x09; allowed: " FIELD},
        {"\xef\xbb\xbf"
         "A: b\n\n",
         0, "f:1:1: found the byte 0xef; allowed: " FIELD},
        {"A\0: b\n\n", 8, "f:1:2: found the byte 0x00; allowed: " FIELD},
        {"A: b\0c\n\n", 8, "f:1:5: found the byte 0x00; allowed: " TEXT},
        {"A: b\rc\n\n", 0, "f:1:5: found the byte 0x0d; allowed: " TEXT},
        {"A: b\r\r\n\n", 0, "f:1:5: found the byte 0x0d; allowed: " TEXT},
        {"A: \x7f\n\n", 0, "f:1:4: found the byte 0x7f; allowed: " TEXT},
        {"A: \x1b[2J\n\n", 0, "f:1:4: found the byte 0x1b; allowed: " TEXT},
        {"Content-Length: 5\n\n", 0, "f:1:1: found Content-Length" OURS},
        {"transfer-encoding: chunked\n\n", 0, "f:1:1: found transfer-encoding" OURS},
        {"Connection: keep-alive\n\n", 0, "f:1:1: found Connection" OURS},
        {"Keep-Alive: timeout=5\n\n", 0, "f:1:1: found Keep-Alive" OURS},
        {"Proxy-Connection: x\n\n", 0, "f:1:1: found Proxy-Connection" OURS},
        {"TE: x\n\n", 0, "f:1:1: found TE" OURS},
        {"Trailer: x\n\n", 0, "f:1:1: found Trailer" OURS},
        {"Upgrade: x\n\n", 0, "f:1:1: found Upgrade" OURS},
        {"Date: 1\nX: y\nDate: 2\n\n", 0, "f:3:1: found the field again; allowed: once (first on line 1)"},
        {"Retry-After:\n\n", 0, "f:1:13: found nothing; allowed: a value"},
        {"Content-Type: \n\nx", 0, "f:1:14: found nothing; allowed: a value"},
        {"X: y\n\nx", 0,
         "f:3:1: found a body, and no Content-Type before it; allowed: a body with one, or no body"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct findings findings = {0};
        struct conf_answer answer = {.status = 503};
        size_t size = cases[i].size ? cases[i].size : strlen(cases[i].file);
        assert_int_equal(answer_file_parse("f", cases[i].file, size, &answer, &findings), ERROR_CONFIG);
        assert_true(findings.count > 0);
        assert_string_equal(findings.rows[0].text, cases[i].error);
        findings_free(&findings);
        free_answer(&answer);
    }
}

static void all_that_is_wrong_is_said(void **state)
{
    (void)state;
    static const char file[] = "TE: x\nwords\nX: y\n\nbody";
    struct findings findings = {0};
    struct conf_answer answer = {.status = 503};
    assert_int_equal(answer_file_parse("f", file, strlen(file), &answer, &findings), ERROR_CONFIG);
    assert_int_equal(findings.count, 3);
    findings_free(&findings);
    free_answer(&answer);
}

static void the_bound_is_of_the_whole_file(void **state)
{
    (void)state;
    static const char head[] = "Content-Type: x/y\n\n";
    char *file = malloc(ANSWER_FILE_MAX + 1);
    assert_non_null(file);
    memset(file, 'x', ANSWER_FILE_MAX + 1);
    for (size_t i = 0; i < strlen(head); i++)
        file[i] = head[i];
    struct findings findings = {0};
    struct conf_answer answer = {.status = 503};
    assert_int_equal(answer_file_parse("f", file, ANSWER_FILE_MAX, &answer, &findings), 0);
    assert_int_equal(answer.body_size, ANSWER_FILE_MAX - strlen(head));
    free_answer(&answer);
    answer = (struct conf_answer){.status = 503};
    assert_int_equal(answer_file_parse("f", file, ANSWER_FILE_MAX + 1, &answer, &findings), ERROR_CONFIG);
    assert_string_equal(findings.rows[0].text,
                        "f:1:1: found more than 64KiB; allowed: a file of up to 64KiB");
    findings_free(&findings);
    free_answer(&answer);
    free(file);
}

/* A line's end becomes one byte longer, and the blank behind the colon is added. */
static void a_head_of_the_shortest_lines_has_room(void **state)
{
    (void)state;
    char *file = malloc(ANSWER_FILE_MAX);
    assert_non_null(file);
    size_t lines = (ANSWER_FILE_MAX - 1) / 3;
    for (size_t i = 0; i < 3 * lines; i++)
        file[i] = "a:\n"[i % 3];
    file[3 * lines] = '\n';
    struct findings findings = {0};
    struct conf_answer answer = {.status = 503};
    assert_int_equal(answer_file_parse("f", file, 3 * lines + 1, &answer, &findings), 0);
    assert_int_equal(answer.head_size, 5 * lines + 2);
    free_answer(&answer);
    free(file);
}

static void expect_unreadable(const char *path, const char *error)
{
    static const struct place place = {.name = "f", .line = 2, .column = 3, .key = "k"};
    struct findings findings = {0};
    struct conf_answer answer = {.status = 503};
    assert_int_equal(answer_file_read(path, &place, &answer, &findings), ERROR_CONFIG);
    assert_int_equal(findings.count, 1);
    assert_string_equal(findings.rows[0].text, error);
    findings_free(&findings);
    free_answer(&answer);
}

static void a_file_that_cannot_be_read_is_refused_where_it_is_named(void **state)
{
    (void)state;
#define A_FILE "; allowed: the absolute path of a file of up to 64KiB"
    expect_unreadable("/nonexistent/503.http",
                      "f:2:3: k: found '/nonexistent/503.http'" A_FILE " (No such file or directory)");
    expect_unreadable("/", "f:2:3: k: found '/'" A_FILE " (it is no regular file)");
    expect_unreadable("/dev/zero", "f:2:3: k: found '/dev/zero'" A_FILE " (it is no regular file)");
    expect_unreadable("503.http", "f:2:3: k: found '503.http'" A_FILE " (a path starts with '/')");
    expect_unreadable("", "f:2:3: k: found nothing" A_FILE);
}

static void the_statuses_are_those_that_the_proxy_answers_with(void **state)
{
    (void)state;
    char list[64];
    conf_answer_statuses(list, sizeof list);
    assert_string_equal(list, "400, 405, 408, 414, 431, 501, 502, 503, 504, 505");
    assert_int_equal(conf_answer_status("503"), 503);
    assert_int_equal(conf_answer_status("0503"), 0);
    assert_int_equal(conf_answer_status("503 "), 0);
    assert_int_equal(conf_answer_status("200"), 0);
    assert_int_equal(conf_answer_status(""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_with_lf_or_crlf_and_are_sent_with_crlf),
        cmocka_unit_test(it_is_known_which_fields_are_given),
        cmocka_unit_test(a_body_is_any_bytes),
        cmocka_unit_test(what_is_no_answer_is_refused_where_it_is),
        cmocka_unit_test(all_that_is_wrong_is_said),
        cmocka_unit_test(the_bound_is_of_the_whole_file),
        cmocka_unit_test(a_head_of_the_shortest_lines_has_room),
        cmocka_unit_test(a_file_that_cannot_be_read_is_refused_where_it_is_named),
        cmocka_unit_test(the_statuses_are_those_that_the_proxy_answers_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
