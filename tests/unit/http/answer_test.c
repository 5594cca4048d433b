#include "tests/unit/cmocka.h"

#include "conf/answer_file.h"
#include "proxy/http/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOW = 784111777 };
#define DATE "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"

static const int statuses[] = {400, 405, 408, 414, 431, 501, 502, 503, 504, 505};
static const struct message_limits limits = {.head_bytes = 65536, .line_bytes = 8192, .fields = 100};
static const struct message_asked asked = {.minor = 1};

/* The answer in one piece, terminated. Its size. */
static size_t write_answer(char *text, size_t size, const struct answer_choice *choice)
{
    char space[ANSWER_SIZE];
    struct iovec parts[ANSWER_PARTS];
    size_t used = 0;
    int count = answer_write(choice, NOW, space, parts);
    assert_true(count >= 1 && count <= ANSWER_PARTS);
    for (int i = 0; i < count; i++) {
        assert_true(used + parts[i].iov_len < size);
        memcpy(text + used, parts[i].iov_base, parts[i].iov_len);
        used += parts[i].iov_len;
    }
    text[used] = '\0';
    return used;
}

static enum answer_format format_for(const char *accept)
{
    char text[512];
    struct message request;
    snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", accept);
    assert_int_equal(message_parse_request(&request, text, strlen(text), &limits), 0);
    return answer_format(&request);
}

static void an_answer_has_the_form_that_is_liked_best(void **state)
{
    (void)state;
    assert_int_equal(format_for(""), ANSWER_TEXT);
    assert_int_equal(format_for("Accept: */*\r\n"), ANSWER_TEXT);
    assert_int_equal(format_for("Accept: application/json\r\n"), ANSWER_JSON);
    assert_int_equal(format_for("Accept: text/html,application/xml;q=0.9,*/*;q=0.8\r\n"), ANSWER_HTML);
    assert_int_equal(format_for("Accept: text/html;q=0.2, application/json; q=0.25\r\n"), ANSWER_JSON);
    assert_int_equal(format_for("Accept: application/json;q=0\r\n"), ANSWER_TEXT);
    assert_int_equal(format_for("Accept: image/png\r\nAccept: TEXT/HTML\r\n"), ANSWER_HTML);
}

/* Where its body begins. */
static size_t check_response(const char *text, size_t size, int status)
{
    struct message response;
    const char *end = memmem(text, size, "\r\n\r\n", 4);
    assert_non_null(end);
    size_t head = (size_t)(end - text) + 4;
    assert_int_equal(message_parse_response(&response, text, head, &limits, &asked), 0);
    assert_int_equal(response.status, status);
    assert_int_equal(response.length, size - head);
    assert_false(response.keep_alive);
    return head;
}

static void an_answer_is_a_whole_response(void **state)
{
    (void)state;
    static const struct conf_http http = {.answer_count = 0};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        for (enum answer_format format = ANSWER_TEXT; format <= ANSWER_JSON; format++) {
            char text[ANSWER_SIZE + 1];
            struct answer_choice choice = {.status = statuses[i], .format = format, .http = &http};
            size_t size = write_answer(text, sizeof text, &choice);
            size_t head = check_response(text, size, statuses[i]);
            assert_non_null(strstr(text, DATE));
            assert_int_equal(strstr(text, "Retry-After: 5\r\n") != NULL, statuses[i] == 503);
            choice.head_only = true;
            assert_int_equal(write_answer(text, sizeof text, &choice), head);
        }
}

static void every_answer_can_be_replaced_and_no_other(void **state)
{
    (void)state;
    char list[128] = "";
    char replaceable[128];
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%d", i > 0 ? ", " : "", statuses[i]);
    conf_answer_statuses(replaceable, sizeof replaceable);
    assert_string_equal(list, replaceable);
}

/* Writes the answer that a file with that text replaces. */
static void expect_replaced(int status, const char *file, bool head_only, const char *expected)
{
    struct findings findings = {0};
    struct conf_answer answer = {.status = (uint16_t)status};
    assert_int_equal(answer_file_parse("f", file, strlen(file), &answer, &findings), 0);
    const struct conf_http http = {.answers = &answer, .answer_count = 1};
    const struct answer_choice choice = {.status = status, .head_only = head_only, .http = &http};
    char text[2 * ANSWER_SIZE];
    size_t size = write_answer(text, sizeof text, &choice);
    assert_string_equal(text, expected);
    if (!head_only)
        check_response(text, size, status);
    free(answer.bytes);
}

static void a_file_gives_its_fields_and_its_body(void **state)
{
    (void)state;
    static const char file[] = "Content-Type: text/html\nX-A: b\n\n<h1>later</h1>\n";
    expect_replaced(502, file, false,
                    "HTTP/1.1 502 Bad Gateway\r\n" DATE "Content-Length: 15\r\nConnection: close\r\n"
                    "Content-Type: text/html\r\nX-A: b\r\n\r\n<h1>later</h1>\n");
    expect_replaced(502, file, true,
                    "HTTP/1.1 502 Bad Gateway\r\n" DATE "Content-Length: 15\r\nConnection: close\r\n"
                    "Content-Type: text/html\r\nX-A: b\r\n\r\n");
    expect_replaced(504, "\n", false,
                    "HTTP/1.1 504 Gateway Timeout\r\n" DATE "Content-Length: 0\r\nConnection: close\r\n\r\n");
}

static void what_a_file_gives_is_not_said_twice(void **state)
{
    (void)state;
    expect_replaced(503, "X: y\n\n", false,
                    "HTTP/1.1 503 Service Unavailable\r\n" DATE
                    "Content-Length: 0\r\nRetry-After: 5\r\nConnection: close\r\nX: y\r\n\r\n");
    expect_replaced(503, "date: D\nretry-after: 9\n\n", false,
                    "HTTP/1.1 503 Service Unavailable\r\n"
                    "Content-Length: 0\r\nConnection: close\r\ndate: D\r\nretry-after: 9\r\n\r\n");
}

static void an_answer_without_a_file_stays_the_proxys_own(void **state)
{
    (void)state;
    struct conf_answer answer = {.status = 503};
    const struct conf_http http = {.answers = &answer, .answer_count = 1};
    const struct answer_choice choice = {.status = 502, .format = ANSWER_JSON, .http = &http};
    char text[ANSWER_SIZE + 1];
    write_answer(text, sizeof text, &choice);
    assert_non_null(strstr(text, "Content-Type: application/json\r\n\r\n{\"status\": 502,"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_has_the_form_that_is_liked_best),
        cmocka_unit_test(an_answer_is_a_whole_response),
        cmocka_unit_test(every_answer_can_be_replaced_and_no_other),
        cmocka_unit_test(a_file_gives_its_fields_and_its_body),
        cmocka_unit_test(what_a_file_gives_is_not_said_twice),
        cmocka_unit_test(an_answer_without_a_file_stays_the_proxys_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
