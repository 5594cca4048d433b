#include "tests/unit/cmocka.h"

#include "proxy/shared/line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The finished line as a string without its time and newline. */
static const char *finish(struct line *line)
{
    static char text[LINE_SIZE + 1];
    const struct line *ended = line_end(line);
    assert_ptr_equal(ended, line);
    assert_true(line->size <= LINE_SIZE);
    assert_int_equal(line->text[line->size - 1], '\n');
    memcpy(text, line->text, line->size - 1);
    text[line->size - 1] = '\0';
    const char *level = strstr(text, line->format == CONF_LOG_JSON ? "\"level\"" : "level=");
    assert_non_null(level);
    return level;
}

static void begin(struct line *line, enum conf_log_format format)
{
    line_begin(line, format, CONF_LOG_INFO, "session");
}

static void a_logfmt_line_has_bare_and_quoted_values(void **state)
{
    struct line line;
    (void)state;
    begin(&line, CONF_LOG_LOGFMT);
    line_number(&line, "id", 7);
    line_text(&line, "reason", "half_close");
    line_text(&line, "why", "no route to host");
    line_text(&line, "empty", "");
    line_text(&line, "equals", "a=b");
    assert_string_equal(finish(&line),
                        "level=info msg=session id=7 reason=half_close why=\"no route to host\" "
                        "empty=\"\" equals=\"a=b\"");
}

static void a_json_line_is_one_object(void **state)
{
    struct line line;
    (void)state;
    begin(&line, CONF_LOG_JSON);
    line_number(&line, "id", UINT64_MAX);
    line_text(&line, "reason", "idle");
    assert_string_equal(
        finish(&line),
        "\"level\":\"info\",\"msg\":\"session\",\"id\":18446744073709551615,\"reason\":\"idle\"}");
    assert_int_equal(line.text[0], '{');
}

static void what_would_break_the_syntax_is_escaped(void **state)
{
    static const enum conf_log_format formats[] = {CONF_LOG_LOGFMT, CONF_LOG_JSON};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct line line;
        begin(&line, formats[i]);
        line_text(&line, "key", "a\"b\\c\nd\x01\x7f");
        assert_non_null(strstr(finish(&line), "\"a\\\"b\\\\c\\u000ad\\u0001\\u007f\""));
        assert_null(memchr(line.text, '\n', line.size - 1));
    }
}

static void every_byte_alone_keeps_a_line_one_line(void **state)
{
    (void)state;
    for (int byte = 1; byte < 256; byte++) {
        struct line line;
        char value[2] = {(char)byte, '\0'};
        begin(&line, CONF_LOG_JSON);
        line_text(&line, "key", value);
        finish(&line);
        for (size_t i = 0; i + 1 < line.size; i++)
            assert_true((unsigned char)line.text[i] >= 0x20 && line.text[i] != 0x7f);
    }
}

static void the_time_is_utc_with_milliseconds(void **state)
{
    struct line line;
    int year, month, day, hour, minute, second, ms, used = 0;
    (void)state;
    begin(&line, CONF_LOG_LOGFMT);
    finish(&line);
    line.text[line.size - 1] = '\0';
    assert_int_equal(sscanf(line.text, "time=%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &year, &month, &day, &hour,
                            &minute, &second, &ms, &used),
                     7);
    assert_int_equal(used, (int)strlen("time=2026-01-01T00:00:00.000Z"));
    assert_true(year >= 2020 && month >= 1 && month <= 12 && day >= 1 && day <= 31);
}

static void levels_have_names(void **state)
{
    static const char *const names[] = {"level=error", "level=warning", "level=info", "level=debug"};
    (void)state;
    for (enum conf_log_level level = CONF_LOG_ERROR; level <= CONF_LOG_DEBUG; level++) {
        struct line line;
        line_begin(&line, CONF_LOG_LOGFMT, level, "x");
        assert_non_null(strstr(finish(&line), names[level]));
    }
}

/* Whatever the lengths, a field is there whole or not at all. */
static void a_line_that_gets_too_long_loses_whole_fields(void **state)
{
    static char value[LINE_SIZE + 10];
    static const enum conf_log_format formats[] = {CONF_LOG_LOGFMT, CONF_LOG_JSON};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        for (size_t length = 0; length < sizeof value; length++) {
            struct line line;
            memset(value, length % 2 ? 'x' : '\n', sizeof value);
            value[length] = '\0';
            begin(&line, formats[i]);
            line_text(&line, "long", value);
            line_number(&line, "number", 12345);
            line_text(&line, "last", "word");
            const char *text = finish(&line);
            size_t end = strlen(text);
            assert_true(formats[i] == CONF_LOG_LOGFMT || text[end - 1] == '}');
            size_t quotes = 0;
            for (size_t at = 0; at < end; at++)
                quotes += text[at] == '"';
            assert_int_equal(quotes % 2, 0);
            assert_true(!strstr(text, "number") || strstr(text, "12345"));
        }
    }
}

/* The value of a field that was written in quotes; its end is cut off `text`. */
static char *quoted_value(const char *text, const char *before)
{
    static char value[LINE_SIZE];
    const char *at = strstr(text, before);
    assert_non_null(at);
    snprintf(value, sizeof value, "%s", at + strlen(before));
    *strchr(value, '"') = '\0';
    return value;
}

static void a_long_value_is_cut_and_marked_and_what_follows_stays(void **state)
{
    static char value[LINE_SIZE * 2];
    static const enum conf_log_format formats[] = {CONF_LOG_LOGFMT, CONF_LOG_JSON};
    (void)state;
    memset(value, 'x', sizeof value - 1);
    value[1] = '='; /* or logfmt has no quotes */
    for (size_t i = 0; i < 2; i++) {
        struct line line;
        begin(&line, formats[i]);
        line_text(&line, "path", value);
        line_number(&line, "status", 200);
        const char *text = finish(&line);
        assert_non_null(strstr(text, i ? "\"status\":200" : " status=200"));
        char *cut = quoted_value(text, i ? "\"path\":\"" : "path=\"");
        assert_int_equal(strlen(cut), LINE_VALUE);
        assert_string_equal(cut + LINE_VALUE - 4, "x...");
    }
    value[1] = 'x';
    struct line line;
    begin(&line, CONF_LOG_LOGFMT);
    line_text(&line, "path", value);
    line_number(&line, "status", 200);
    assert_non_null(strstr(finish(&line), "x... status=200"));
}

/* Neither an escape nor a character is cut in two, wherever the end falls. */
static void a_value_is_cut_between_characters(void **state)
{
    static const char *const units[] = {"\xe2\x82\xac", "\n", "\"", "\xf0\x9f\x92\xa7", "\xff"};
    static const char *const written[] = {"\xe2\x82\xac", "\\u000a", "\\\"", "\xf0\x9f\x92\xa7", "\\u00ff"};
    (void)state;
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        for (size_t pad = 0; pad < 8; pad++) {
            char value[3 * LINE_VALUE] = "";
            struct line line;
            memset(value, 'x', pad);
            for (size_t at = pad; at + 8 < sizeof value; at += strlen(units[u]))
                memcpy(value + at, units[u], strlen(units[u]));
            begin(&line, CONF_LOG_JSON);
            line_text(&line, "k", value);
            const char *at = strstr(finish(&line), "\"k\":\"");
            assert_non_null(at);
            at += strlen("\"k\":\"") + pad;
            size_t size = 0;
            for (; strncmp(at, written[u], strlen(written[u])) == 0; at += strlen(written[u]))
                size += strlen(written[u]);
            assert_string_equal(at, "...\"}");
            assert_in_range(pad + size, LINE_VALUE - 3 - strlen(written[u]), LINE_VALUE - 3);
        }
    }
}

static void what_is_no_text_is_escaped_and_text_is_not(void **state)
{
    static const char *const rows[][2] = {
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},         /* two bytes */
        {"\xff\xfe", "\\u00ff\\u00fe"},                       /* in no character */
        {"a\xc3", "a\\u00c3"},                                /* begun only */
        {"\xc0\xaf", "\\u00c0\\u00af"},                       /* longer than need be */
        {"\xed\xa0\x80", "\\u00ed\\u00a0\\u0080"},            /* half of a UTF-16 pair */
        {"\xf4\x90\x80\x80", "\\u00f4\\u0090\\u0080\\u0080"}, /* beyond the last */
        {"\xc2\x9b"
         "31m",
         "\\u00c2\\u009b31m"}, /* CSI in one character */
        {"\x1b[31m", "\\u001b[31m"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct line line;
        char expected[128];
        begin(&line, CONF_LOG_LOGFMT);
        line_text(&line, "k", rows[i][0]);
        snprintf(expected, sizeof expected, "k=\"%s\"", rows[i][1]);
        assert_non_null(strstr(finish(&line), expected));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_logfmt_line_has_bare_and_quoted_values),
        cmocka_unit_test(a_json_line_is_one_object),
        cmocka_unit_test(what_would_break_the_syntax_is_escaped),
        cmocka_unit_test(every_byte_alone_keeps_a_line_one_line),
        cmocka_unit_test(the_time_is_utc_with_milliseconds),
        cmocka_unit_test(levels_have_names),
        cmocka_unit_test(a_line_that_gets_too_long_loses_whole_fields),
        cmocka_unit_test(a_long_value_is_cut_and_marked_and_what_follows_stays),
        cmocka_unit_test(a_value_is_cut_between_characters),
        cmocka_unit_test(what_is_no_text_is_escaped_and_text_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
