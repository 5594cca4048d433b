#include "proxy/shared/line.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* #syscalls worker: clock_gettime */

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

/* Bytes of the character at `text`; 0 if it is not well-formed UTF-8 (RFC 3629, 4) or a control character. */
static size_t printable(const unsigned char *text)
{
    static const struct {
        unsigned char mask, lead;
        uint32_t least; /* what is less has a shorter form */
    } forms[] = {{0x80, 0x00, 0x20}, {0xe0, 0xc0, 0xa0}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (size_t extra = 0; extra < sizeof forms / sizeof forms[0]; extra++) {
        if ((text[0] & forms[extra].mask) != forms[extra].lead)
            continue;
        uint32_t code = text[0] & (unsigned char)~forms[extra].mask;
        for (size_t i = 1; i <= extra; i++) {
            if ((text[i] & 0xc0) != 0x80) /* also where the value ends */
                return 0;
            code = code << 6 | (text[i] & 0x3fU);
        }
        bool is_bad = code < forms[extra].least || code == 0x7f || code > 0x10ffff ||
                      (code >= 0xd800 && code <= 0xdfff);
        return is_bad ? 0 : extra + 1;
    }
    return 0;
}

/* The character at *value as it is written, and steps over it. Escapes as JSON does (RFC 8259, 7); logfmt
 * readers take the same. Returns how many bytes. */
static size_t escape(const char **value, char out[8])
{
    const unsigned char *text = (const unsigned char *)*value;
    size_t size = printable(text);
    if (size == 0) {
        *value += 1;
        return (size_t)snprintf(out, 8, "\\u%04x", (unsigned)*text);
    }
    *value += size;
    bool quoted = *text == '"' || *text == '\\';
    out[0] = '\\';
    memcpy(out + quoted, text, size);
    return size + quoted;
}

static const char cut[] = "...";

/* As much of the value as there is room for, marked where that is not all. False: room for nothing. */
static bool put_value(struct line *line, const char *value, size_t room)
{
    size_t start = line->size, mark = start; /* the last place where the mark still fits */
    if (room < sizeof cut)
        return false;
    room = room < LINE_VALUE ? room : LINE_VALUE;
    while (*value) {
        char escaped[8];
        size_t size = escape(&value, escaped);
        if (line->size - start + size > room) {
            line->size = mark;
            return put(line, cut, sizeof cut - 1);
        }
        put(line, escaped, size);
        if (line->size - start + sizeof cut - 1 <= room)
            mark = line->size;
    }
    return true;
}

static bool is_bare(const char *value)
{
    if (!*value)
        return false;
    for (const char *c = value; *c; c++)
        if ((unsigned char)*c <= ' ' || *c == '"' || *c == '=' || *c == '\\' || (unsigned char)*c >= 0x7f)
            return false;
    return true;
}

void line_text(struct line *line, const char *key, const char *value)
{
    size_t start = line->size;
    bool quoted = line->format == CONF_LOG_JSON || !is_bare(value);
    bool fits = put_key(line, key) && (!quoted || put(line, "\"", 1));
    size_t room = LINE_SIZE - TAIL - line->size;
    fits = fits && room > quoted && put_value(line, value, room - quoted);
    if (!fits || (quoted && !put(line, "\"", 1)))
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
    line->level = level;
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
