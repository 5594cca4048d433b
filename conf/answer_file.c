#include "conf/answer_file.h"

#include "conf/file.h"
#include "conf/value.h"
#include "reaper/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

/* ---- fields ---- */

/* Fields that are the proxy's business, and those of which two would contradict each other. */
enum field_id {
    FIELD_CONTENT_TYPE,
    FIELD_DATE,
    FIELD_RETRY_AFTER,
    FIELD_SINGLE_COUNT,
    FIELD_OURS = FIELD_SINGLE_COUNT,
    FIELD_OTHER,
};

static const struct {
    const char *name;
    enum field_id id;
} fields[] = {
    {"Content-Type", FIELD_CONTENT_TYPE},
    {"Date", FIELD_DATE},
    {"Retry-After", FIELD_RETRY_AFTER},
    {"Connection", FIELD_OURS},
    {"Content-Length", FIELD_OURS},
    {"Keep-Alive", FIELD_OURS},
    {"Proxy-Connection", FIELD_OURS},
    {"TE", FIELD_OURS},
    {"Trailer", FIELD_OURS},
    {"Transfer-Encoding", FIELD_OURS},
    {"Upgrade", FIELD_OURS},
};

static enum field_id find_field(const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (strlen(fields[i].name) == size && strncasecmp(fields[i].name, name, size) == 0)
            return fields[i].id;
    return FIELD_OTHER;
}

/* RFC 9110, 5.6.2. */
static bool is_token(unsigned char byte)
{
    bool letter = (byte | 0x20) >= 'a' && (byte | 0x20) <= 'z';
    return letter || (byte >= '0' && byte <= '9') || (byte && strchr("!#$%&'*+-.^_`|~", byte));
}

static bool is_blank(unsigned char byte)
{
    return byte == ' ' || byte == '\t';
}

/* Of a value, RFC 9110, 5.5. */
static bool is_field_byte(unsigned char byte)
{
    return is_blank(byte) || (byte > ' ' && byte != 0x7f);
}

/* ---- reading ---- */

struct reading {
    const char *path;
    const char *at, *end;                     /* what is left */
    unsigned line;                            /* the one read last, from 1 */
    unsigned single_line[FIELD_SINGLE_COUNT]; /* where those were; 0: not yet */
    struct conf_answer *answer;
    struct findings *findings;
};

/* One line of the head, without its end. */
struct span {
    const char *at;
    size_t size;
};

static void refuse(const struct reading *reading, size_t column, const char *found, const char *allowed)
{
    finding_error(reading->findings, reading->path, reading->line, (unsigned)column + 1,
                  "found %s; allowed: %s", found, allowed);
}

static void refuse_byte(const struct reading *reading, const struct span *line, size_t column,
                        const char *allowed)
{
    char found[FINDING_QUOTE];
    unsigned char byte = (unsigned char)line->at[column];
    if (byte > ' ' && byte < 0x7f)
        snprintf(found, sizeof found, "'%c'", byte);
    else
        snprintf(found, sizeof found, "the byte 0x%02x", byte);
    refuse(reading, column, found, allowed);
}

/* False behind the last line. What the file's end cuts off is a line too. */
static bool next_line(struct reading *reading, struct span *line)
{
    if (reading->at == reading->end)
        return false;
    size_t left = (size_t)(reading->end - reading->at);
    const char *newline = memchr(reading->at, '\n', left);
    line->at = reading->at;
    line->size = newline ? (size_t)(newline - reading->at) : left;
    reading->at += newline ? line->size + 1 : left;
    reading->line++;
    if (newline && line->size > 0 && line->at[line->size - 1] == '\r')
        line->size--;
    return true;
}

/* Whether the value has no byte that a field can't have. */
static bool check_value(const struct reading *reading, const struct span *line, size_t from)
{
    for (size_t i = from; i < line->size; i++)
        if (!is_field_byte((unsigned char)line->at[i])) {
            refuse_byte(reading, line, i, "visible characters, spaces and tabs");
            return false;
        }
    return true;
}

static bool check_field(struct reading *reading, const char *name, size_t size, bool is_empty)
{
    enum field_id id = find_field(name, size);
    if (id == FIELD_OTHER)
        return true;
    if (id == FIELD_OURS) {
        char found[64];
        snprintf(found, sizeof found, "%.*s, which is the proxy's to write", (int)size, name);
        refuse(reading, 0, found, "fields that are not about the length or the connection");
        return false;
    }
    if (reading->single_line[id]) {
        char allowed[64];
        snprintf(allowed, sizeof allowed, "once (first on line %u)", reading->single_line[id]);
        refuse(reading, 0, "the field again", allowed);
        return false;
    }
    reading->single_line[id] = reading->line;
    if (is_empty)
        refuse(reading, size + 1, "nothing", "a value");
    return !is_empty;
}

/* Adds "name: value" as it is sent. */
static void add_field(struct conf_answer *answer, const struct span *name, const struct span *value)
{
    char *to = answer->bytes + answer->head_size;
    char *at = mempcpy(to, name->at, name->size);
    at = mempcpy(at, ": ", 2);
    at = mempcpy(at, value->at, value->size);
    at = mempcpy(at, "\r\n", 2);
    answer->head_size += (size_t)(at - to);
}

static void read_field(struct reading *reading, const struct span *line)
{
    static const char allowed[] = "a field such as 'Retry-After: 30', or the empty line before the body";
    static const char status_line[] = "HTTP/";
    struct span name = {.at = line->at};
    while (name.size < line->size && is_token((unsigned char)line->at[name.size]))
        name.size++;
    if (line->size >= strlen(status_line) && memcmp(line->at, status_line, strlen(status_line)) == 0) {
        refuse(reading, 0, "a status line", "fields alone, the proxy writes the status line");
        return;
    }
    if (name.size == line->size) {
        refuse(reading, name.size, "the end of the line", allowed);
        return;
    }
    if (name.size == 0 || line->at[name.size] != ':') {
        refuse_byte(reading, line, name.size, allowed);
        return;
    }
    struct span value = {.at = line->at + name.size + 1, .size = line->size - name.size - 1};
    while (value.size > 0 && is_blank((unsigned char)*value.at)) {
        value.at++;
        value.size--;
    }
    while (value.size > 0 && is_blank((unsigned char)value.at[value.size - 1]))
        value.size--;
    if (check_value(reading, line, name.size + 1) &&
        check_field(reading, name.at, name.size, value.size == 0))
        add_field(reading->answer, &name, &value);
}

static void read_head(struct reading *reading)
{
    struct span line = {.size = 1};
    while (next_line(reading, &line) && line.size > 0)
        read_field(reading, &line);
    reading->line++;
    if (line.size > 0)
        refuse(reading, 0, "the end of the file", "an empty line behind the fields");
    memcpy(reading->answer->bytes + reading->answer->head_size, "\r\n", 2);
    reading->answer->head_size += 2;
}

static void read_body(struct reading *reading)
{
    struct conf_answer *answer = reading->answer;
    answer->body_size = (size_t)(reading->end - reading->at);
    memcpy(answer->bytes + answer->head_size, reading->at, answer->body_size);
    if (answer->body_size > 0 && !reading->single_line[FIELD_CONTENT_TYPE])
        refuse(reading, 0, "a body, and no Content-Type before it", "a body with one, or no body");
}

int answer_file_parse(const char *path, const char *bytes, size_t size, struct conf_answer *answer,
                      struct findings *findings)
{
    struct reading reading = {
        .path = path, .at = bytes, .end = bytes + size, .answer = answer, .findings = findings};
    size_t errors = findings->errors;
    if (size > ANSWER_FILE_MAX) {
        finding_error(findings, path, 1, 1, "found more than 64KiB; allowed: a file of up to 64KiB");
        return ERROR_CONFIG;
    }
    /* A field of three bytes, its end included, becomes one of five; the last may lack its end. */
    answer->bytes = malloc(2 * size + 8);
    if (!answer->bytes)
        return assign_refuse_memory(&(struct place){.name = path}, findings);
    read_head(&reading);
    read_body(&reading);
    answer->has_date = reading.single_line[FIELD_DATE];
    answer->has_retry_after = reading.single_line[FIELD_RETRY_AFTER];
    if (findings->errors > errors)
        return ERROR_CONFIG;
    char *fitted = realloc(answer->bytes, answer->head_size + answer->body_size);
    answer->bytes = fitted ? fitted : answer->bytes;
    return 0;
}

/* What speaks against reading it, static; NULL: nothing. A pipe would be waited for. */
static const char *look(const char *path)
{
    struct stat file;
    const char *why = value_path(path);
    if (why)
        return why;
    if (stat(path, &file))
        return error_text(-errno);
    return S_ISREG(file.st_mode) ? NULL : "it is no regular file";
}

int answer_file_read(const char *path, const struct place *place, struct conf_answer *answer,
                     struct findings *findings)
{
    static const char allowed[] = "the absolute path of a file of up to 64KiB";
    char quoted[FINDING_QUOTE];
    const char *why = look(path);
    if (why)
        return assign_refuse(place, assign_found(path, quoted), allowed, *path ? why : NULL, findings);
    answer->path = strdup(path);
    char *bytes = malloc(ANSWER_FILE_MAX + 1);
    ssize_t size = bytes && answer->path ? file_read(path, bytes, ANSWER_FILE_MAX + 1) : -ENOMEM;
    int error = (int)size;
    if (size >= 0)
        error = answer_file_parse(path, bytes, (size_t)size, answer, findings);
    else if (size == -ENOMEM)
        error = assign_refuse_memory(place, findings);
    else
        error = assign_refuse(place, assign_found(path, quoted), allowed, error_text(error), findings);
    free(bytes);
    return error;
}
