#include "proxy/plane/answer.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

struct answer {
    int status;
    const char *reason;
    const char *text;
};

static const struct answer answers[] = {
    {400, "Bad Request", "The request is malformed or can be read in more than one way."},
    {408, "Request Timeout", "The request did not arrive in time."},
    {414, "URI Too Long", "The request line is too long."},
    {431, "Request Header Fields Too Large", "The head of the request is too large."},
    {501, "Not Implemented", "The method or the transfer coding is not known here."},
    {502, "Bad Gateway", "The service could not be reached, or its answer made no sense."},
    {503, "Service Unavailable", "The service can't take this request now."},
    {504, "Gateway Timeout", "The service did not answer in time."},
    {505, "HTTP Version Not Supported", "Only HTTP/1.0 and HTTP/1.1 are spoken here."},
};

static const struct answer *find(int status)
{
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
        if (answers[i].status == status)
            return &answers[i];
    assert(false && "a status of the table");
    return NULL;
}

/* ---- Accept ---- */

struct format_row {
    const char *type, *content_type;
};

static const struct format_row formats[] = {
    [ANSWER_TEXT] = {"text/plain", "text/plain; charset=utf-8"},
    [ANSWER_HTML] = {"text/html", "text/html; charset=utf-8"},
    [ANSWER_JSON] = {"application/json", "application/json"},
};

/* The weight of a media range in thousandths: what follows "q=", by default 1. */
static int weight(struct message_text range)
{
    static const char mark[] = ";q=";
    char parameters[64];
    size_t size = 0;
    for (size_t i = 0; i < range.size && size < sizeof parameters - 1; i++)
        if (range.at[i] != ' ' && range.at[i] != '\t')
            parameters[size++] = (char)(range.at[i] == 'Q' ? 'q' : range.at[i]);
    parameters[size] = '\0';
    const char *q = strstr(parameters, mark);
    if (!q || q[3] != '0')
        return 1000;
    int value = 0, unit = 100;
    for (q = q[4] == '.' ? q + 5 : ""; *q >= '0' && *q <= '9'; q++, unit /= 10)
        value += (*q - '0') * unit;
    return value;
}

static struct message_text media_type(struct message_text range)
{
    const char *end = memchr(range.at, ';', range.size);
    size_t size = end ? (size_t)(end - range.at) : range.size;
    while (size > 0 && (range.at[size - 1] == ' ' || range.at[size - 1] == '\t'))
        size--;
    return (struct message_text){range.at, size};
}

enum answer_format answer_format(const struct message *request)
{
    enum answer_format best = ANSWER_TEXT;
    int best_weight = 0;
    for (size_t i = 0; i < request->field_count; i++) {
        struct message_text range, rest = request->fields[i].value;
        if (request->fields[i].id != MESSAGE_ACCEPT)
            continue;
        while (message_next_element(&rest, &range))
            for (enum answer_format format = ANSWER_TEXT; format <= ANSWER_JSON; format++)
                if (message_text_is(media_type(range), formats[format].type) && weight(range) > best_weight) {
                    best = format;
                    best_weight = weight(range);
                }
    }
    return best;
}

/* ---- the answer ---- */

static void write_date(char text[static 32], time_t now)
{
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(text, 32, "%a, %d %b %Y %H:%M:%S GMT", &tm); /* the C locale: nothing here calls setlocale() */
}

static int write_body(char *space, size_t size, const struct answer *answer, enum answer_format format)
{
    int status = answer->status;
    const char *reason = answer->reason;
    switch (format) {
    case ANSWER_HTML:
        return snprintf(space, size, "<!DOCTYPE html>\n<title>%d %s</title>\n<h1>%d %s</h1>\n<p>%s</p>\n",
                        status, reason, status, reason, answer->text);
    case ANSWER_JSON:
        return snprintf(space, size, "{\"status\": %d, \"reason\": \"%s\", \"text\": \"%s\"}\n", status,
                        reason, answer->text);
    case ANSWER_TEXT:
        break;
    }
    return snprintf(space, size, "%d %s: %s\n", status, reason, answer->text);
}

size_t answer_write(char space[static ANSWER_SIZE], int status, enum answer_format format, bool head_only,
                    time_t now)
{
    const struct answer *answer = find(status);
    char body[ANSWER_SIZE], date[32], retry[32] = "";
    int body_size = write_body(body, sizeof body, answer, format);
    write_date(date, now);
    if (status == 503)
        snprintf(retry, sizeof retry, "Retry-After: %d\r\n", ANSWER_RETRY_AFTER_S);
    int size = snprintf(space, ANSWER_SIZE,
                        "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n%s"
                        "Connection: close\r\n\r\n%s",
                        status, answer->reason, date, formats[format].content_type, body_size, retry,
                        head_only ? "" : body);
    assert(size > 0 && size < ANSWER_SIZE);
    return (size_t)size;
}
