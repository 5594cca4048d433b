#ifndef PROXY_SHARED_LINE_H
#define PROXY_SHARED_LINE_H

/* One log line, logfmt or JSON, built field by field in a fixed space.
 *
 *     line_begin(&line, format, CONF_LOG_INFO, "session");
 *     line_number(&line, "id", 7);
 *     line_text(&line, "reason", "half_close");
 *     log_line(ring, line_end(&line));
 *
 * Keys are literals of ours and are not escaped, values are: a byte that is not part of well-formed UTF-8
 * becomes \u00XX, and so does each byte of a control character, so that a terminal and a JSON reader may be
 * shown any value. A long value is cut, which three dots at its end show. A line that gets too long
 * nevertheless loses fields at its end, never its syntax. Nothing allocates; any thread, one line each. */

#include "conf/conf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of a line, and of one value in it as it is written. */
enum { LINE_SIZE = 4096, LINE_VALUE = 1024 };

struct line {
    enum conf_log_format format;
    enum conf_log_level level;
    size_t size; /* after line_end() with the newline; `text` is not terminated */
    char text[LINE_SIZE];
};

/* Starts with time (UTC, RFC 3339, ms), level and msg. */
void line_begin(struct line *line, enum conf_log_format format, enum conf_log_level level,
                const char *message);

void line_text(struct line *line, const char *key, const char *value);
void line_number(struct line *line, const char *key, uint64_t value);

/* Adds what closes it and returns it. */
const struct line *line_end(struct line *line);

#endif
