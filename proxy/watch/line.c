#include "proxy/watch/line.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Kept free for the closing brace and the newline. */
enum { TAIL = 2 };

static bool put(struct line *line, const char *bytes, size_t size)
{
    if (size > LINE_SIZE - TAIL - line->size)
        return false;
    memcpy(line->text + line->size, bytes, size);
    line->size += size;
    return true;
}

static bool put_string(struct line *line, const char *string)
{
    return put(line, string, strlen(string));
}

static bool put_key(struct line *line, const char *key)
{
    bool first = line->size <= 1;
    if (line->format == CONF_LOG_LOGFMT)
        return (first || put(line, " ", 1)) && put_string(line, key) && put(line, "=", 1);
    return (first || put(line, ",", 1)) && put(line, "\"", 1) && put_string(line, key) && put(line, "\":", 2);
}

/* Escapes as JSON does (RFC 8259, 7); logfmt readers take the same. */
static bool put_quoted(struct line *line, const char *value)
{
    bool fits = put(line, "\"", 1);
    for (const char *c = value; *c && fits; c++) {
        char escaped[8];
        if (*c == '"' || *c == '\\')
            snprintf(escaped, sizeof escaped, "\\%c", *c);
        else if ((unsigned char)*c < 0x20 || *c == 0x7f)
            snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)(unsigned char)*c);
        else
            snprintf(escaped, sizeof escaped, "%c", *c);
        fits = put_string(line, escaped);
    }
    return fits && put(line, "\"", 1);
}

static bool is_bare(const char *value)
{
    if (!*value)
        return false;
    for (const char *c = value; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == '"' || *c == '=' || *c == '\\' || *c == 0x7f)
            return false;
    return true;
}

void line_text(struct line *line, const char *key, const char *value)
{
    size_t start = line->size;
    bool fits = put_key(line, key);
    if (line->format == CONF_LOG_LOGFMT && is_bare(value))
        fits = fits && put_string(line, value);
    else
        fits = fits && put_quoted(line, value);
    if (!fits)
        line->size = start;
}

/* A line holds six numbers and is written for every session: printf would take half of its time. */
static bool put_digits(struct line *line, uint64_t value)
{
    char digits[20]; /* of UINT64_MAX */
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    return put(line, digits + at, sizeof digits - at);
}

void line_number(struct line *line, const char *key, uint64_t value)
{
    size_t start = line->size;
    if (!put_key(line, key) || !put_digits(line, value))
        line->size = start;
}

static const char *level_name(enum conf_log_level level)
{
    static const char *const names[] = {
        [CONF_LOG_ERROR] = "error",
        [CONF_LOG_WARNING] = "warning",
        [CONF_LOG_INFO] = "info",
        [CONF_LOG_DEBUG] = "debug",
    };
    return names[level];
}

/* The calendar part is computed once a second; a worker logs thousands of lines in one. */
static void put_time(struct line *line)
{
    static _Thread_local time_t second = -1;
    static _Thread_local char calendar[32];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != second) {
        struct tm tm;
        second = now.tv_sec;
        gmtime_r(&second, &tm);
        strftime(calendar, sizeof calendar, "%Y-%m-%dT%H:%M:%S", &tm);
    }
    char text[48];
    snprintf(text, sizeof text, "%s.%03dZ", calendar, (int)(now.tv_nsec / 1000000));
    line_text(line, "time", text);
}

void line_begin(struct line *line, enum conf_log_format format, enum conf_log_level level,
                const char *message)
{
    line->format = format;
    line->size = 0;
    if (format == CONF_LOG_JSON)
        put(line, "{", 1);
    put_time(line);
    line_text(line, "level", level_name(level));
    line_text(line, "msg", message);
}

const struct line *line_end(struct line *line)
{
    assert(line->size <= LINE_SIZE - TAIL);
    if (line->format == CONF_LOG_JSON)
        line->text[line->size++] = '}';
    line->text[line->size++] = '\n';
    return line;
}
