#include "proxy/http/answer.h"

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
    {405, "Method Not Allowed", "CONNECT is not passed on here."},
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

static void write_date(char *text, size_t size, time_t now)
{
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(text, size, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n",
             &tm); /* the C locale: nothing here calls setlocale() */
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

static const struct conf_answer *find_file(const struct conf_http *http, int status)
{
    for (size_t i = 0; i < http->answer_count; i++)
        if (http->answers[i].status == status)
            return &http->answers[i];
    return NULL;
}

/* What the proxy says of an answer, but for the end of its head. `file`: what it gives is not said again. */
static size_t write_head(char space[static ANSWER_SIZE], const struct answer *answer, size_t body_size,
                         const struct conf_answer *file, time_t now)
{
    char date[64] = "";
    char more[32] = "";
    if (!file || !file->has_date)
        write_date(date, sizeof date, now);
    if (answer->status == 503 && (!file || !file->has_retry_after))
        snprintf(more, sizeof more, "Retry-After: %d\r\n", ANSWER_RETRY_AFTER_S);
    if (answer->status == 405) /* nothing can be done with the target of CONNECT (RFC 9110, 15.5.6) */
        snprintf(more, sizeof more, "Allow:\r\n");
    int size =
        snprintf(space, ANSWER_SIZE, "HTTP/1.1 %d %s\r\n%sContent-Length: %zu\r\n%sConnection: close\r\n",
                 answer->status, answer->reason, date, body_size, more);
    assert(size > 0 && size < ANSWER_SIZE);
    return (size_t)size;
}

/* The proxy's own, in one piece. */
static size_t write_own(const struct answer *answer, const struct answer_choice *choice, time_t now,
                        char space[static ANSWER_SIZE])
{
    char body[ANSWER_SIZE];
    int body_size = write_body(body, sizeof body, answer, choice->format);
    size_t head_size = write_head(space, answer, (size_t)body_size, NULL, now);
    int rest = snprintf(space + head_size, ANSWER_SIZE - head_size, "Content-Type: %s\r\n\r\n%s",
                        formats[choice->format].content_type, choice->head_only ? "" : body);
    assert(rest > 0 && (size_t)rest < ANSWER_SIZE - head_size);
    return head_size + (size_t)rest;
}

int answer_write(const struct answer_choice *choice, time_t now, char space[static ANSWER_SIZE],
                 struct iovec parts[static ANSWER_PARTS])
{
    const struct answer *answer = find(choice->status);
    const struct conf_answer *file = find_file(choice->http, choice->status);
    parts[0].iov_base = space;
    if (!file) {
        parts[0].iov_len = write_own(answer, choice, now, space);
        return 1;
    }
    parts[0].iov_len = write_head(space, answer, file->body_size, file, now);
    parts[1].iov_base = file->bytes;
    parts[1].iov_len = file->head_size + (choice->head_only ? 0 : file->body_size);
    return 2;
}
