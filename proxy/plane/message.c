#include "proxy/plane/message.h"

#include <assert.h>
#include <string.h>

/* More digits than this do not fit, and nobody sends them. */
enum { LENGTH_DIGITS_MAX = 18 };

static const char *const names[MESSAGE_NAME_COUNT] = {
#define X(constant, name) [constant] = (name),
    MESSAGE_NAME_MAP(X)
#undef X
        [MESSAGE_OTHER] = "",
};

const char *message_name_text(enum message_name id)
{
    assert(id < MESSAGE_NAME_COUNT);
    return names[id];
}

/* ---- bytes and texts ---- */

static bool is_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(unsigned char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

bool message_is_token(unsigned char byte)
{
    return is_digit(byte) || is_letter(byte) || (byte != 0 && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

bool message_is_field_byte(unsigned char byte)
{
    return byte == '\t' || (byte >= ' ' && byte != 0x7f);
}

static char lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool same(struct message_text a, struct message_text b)
{
    if (a.size != b.size)
        return false;
    for (size_t i = 0; i < a.size; i++)
        if (lower(a.at[i]) != lower(b.at[i]))
            return false;
    return true;
}

bool message_text_is(struct message_text text, const char *lower_case)
{
    return same(text, (struct message_text){lower_case, strlen(lower_case)});
}

static struct message_text trimmed(const char *from, const char *to)
{
    while (from < to && is_blank(*from))
        from++;
    while (from < to && is_blank(to[-1]))
        to--;
    return (struct message_text){from, (size_t)(to - from)};
}

bool message_next_element(struct message_text *rest, struct message_text *element)
{
    while (rest->size > 0) {
        const char *end = rest->at + rest->size;
        const char *comma = memchr(rest->at, ',', rest->size);
        const char *stop = comma ? comma : end;
        *element = trimmed(rest->at, stop);
        rest->at = comma ? comma + 1 : end;
        rest->size = (size_t)(end - rest->at);
        if (element->size > 0)
            return true;
    }
    return false;
}

/* The word that an element begins with: of a challenge or credentials, the scheme (RFC 9110, 11.4). */
static struct message_text first_word(struct message_text element)
{
    size_t size = 0;
    while (size < element.size && !is_blank(element.at[size]))
        size++;
    return (struct message_text){element.at, size};
}

static bool all(struct message_text text, bool (*is)(unsigned char))
{
    for (size_t i = 0; i < text.size; i++)
        if (!is((unsigned char)text.at[i]))
            return false;
    return true;
}

/* ---- fields ---- */

const struct message_field *message_find(const struct message *message, enum message_name id)
{
    for (size_t i = 0; i < message->field_count; i++)
        if (message->fields[i].id == id && !message->fields[i].disguised)
            return &message->fields[i];
    return NULL;
}

static size_t count(const struct message *message, enum message_name id)
{
    size_t found = 0;
    for (size_t i = 0; i < message->field_count; i++)
        found += message->fields[i].id == id;
    return found;
}

/* A list of challenges has its parameters among its elements; one that is called like a scheme costs no more
 * than a connection that is not shared. */
static bool has_bound_scheme(struct message_text value)
{
    static const char *const schemes[] = {"ntlm", "negotiate", "kerberos"};
    struct message_text element;
    while (message_next_element(&value, &element))
        for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
            if (message_text_is(first_word(element), schemes[i]))
                return true;
    return false;
}

bool message_binds(const struct message *message)
{
    for (size_t i = 0; i < message->field_count; i++)
        switch (message->fields[i].id) {
        case MESSAGE_PERSISTENT_AUTH:
            return true;
        case MESSAGE_AUTHORIZATION:
        case MESSAGE_PROXY_AUTHORIZATION:
        case MESSAGE_WWW_AUTHENTICATE:
        case MESSAGE_PROXY_AUTHENTICATE:
            if (has_bound_scheme(message->fields[i].value))
                return true;
            break;
        default:
            break;
        }
    return false;
}

static bool named(struct message_text name, const char *known, bool *disguised)
{
    *disguised = false;
    if (name.size != strlen(known))
        return false;
    for (size_t i = 0; i < name.size; i++) {
        char c = lower(name.at[i]);
        if (c == known[i])
            continue;
        if (c != '_' || known[i] != '-')
            return false;
        *disguised = true;
    }
    return true;
}

static void identify(struct message_field *field)
{
    for (enum message_name id = 0; id < MESSAGE_OTHER; id++)
        if (named(field->name, names[id], &field->disguised)) {
            field->id = (uint8_t)id;
            return;
        }
    field->id = MESSAGE_OTHER;
    field->disguised = false;
}

/* One line without its CRLF. */
static int parse_field(struct message_field *field, const char *line, const char *end)
{
    const char *colon = memchr(line, ':', (size_t)(end - line));
    if (!colon)
        return 400;
    /* No white space before the colon, and none at the front, where it would be a folded line. */
    field->name = (struct message_text){line, (size_t)(colon - line)};
    if (field->name.size == 0 || !all(field->name, message_is_token))
        return 400;
    field->value = trimmed(colon + 1, end);
    identify(field);
    /* A framing that only some read is no framing. */
    if (field->disguised && (field->id == MESSAGE_CONTENT_LENGTH || field->id == MESSAGE_TRANSFER_ENCODING))
        return 400;
    return 0;
}

static const char *line_end(const char *line, const char *end)
{
    const char *lf = memchr(line, '\n', (size_t)(end - line));
    assert(lf && lf > line && lf[-1] == '\r');
    return lf - 1;
}

static int parse_fields(struct message *message, const char *at, const char *end,
                        const struct message_limits *limits)
{
    assert(limits->fields <= MESSAGE_FIELDS_MAX);
    message->field_count = 0;
    for (;;) {
        const char *stop = line_end(at, end);
        if (stop == at)
            return 0;
        if (message->field_count == limits->fields)
            return 431;
        int status = parse_field(&message->fields[message->field_count], at, stop);
        if (status)
            return status;
        message->field_count++;
        at = stop + 2;
    }
}

bool message_nominated(const struct message *message, const struct message_field *field)
{
    struct message_text element;
    if (!message->nominates)
        return false;
    for (size_t i = 0; i < message->field_count; i++) {
        struct message_text rest = message->fields[i].value;
        if (message->fields[i].id != MESSAGE_CONNECTION)
            continue;
        while (message_next_element(&rest, &element))
            if (same(element, field->name))
                return true;
    }
    return false;
}

/* ---- what the fields mean ---- */

/* Fields without which the message would be another one can't be declared hop-by-hop. */
static bool may_be_nominated(struct message_text name)
{
    static const enum message_name never[] = {MESSAGE_HOST, MESSAGE_CONTENT_LENGTH, MESSAGE_TRANSFER_ENCODING,
                                              MESSAGE_EXPECT};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (message_text_is(name, names[never[i]]))
            return false;
    return true;
}

static int read_connection(struct message *message)
{
    bool close = false, keep = false, upgrade = false;
    for (size_t i = 0; i < message->field_count; i++) {
        struct message_text element, rest = message->fields[i].value;
        if (message->fields[i].id != MESSAGE_CONNECTION)
            continue;
        while (message_next_element(&rest, &element)) {
            if (message_text_is(element, "close"))
                close = true;
            else if (message_text_is(element, "keep-alive"))
                keep = true;
            else if (message_text_is(element, "upgrade"))
                upgrade = true;
            else if (!may_be_nominated(element))
                return 400;
            else
                message->nominates = true;
        }
    }
    message->keep_alive = !close && (message->minor > 0 || keep);
    message->upgrade = upgrade && message->minor > 0 && message_find(message, MESSAGE_UPGRADE);
    return 0;
}

/* HTTP/2 in clear text would be a second protocol behind our back. */
static void forgo_http2(struct message *message)
{
    for (size_t i = 0; i < message->field_count; i++) {
        struct message_text element, rest = message->fields[i].value;
        if (message->fields[i].id != MESSAGE_UPGRADE)
            continue;
        while (message_next_element(&rest, &element))
            if (element.size >= 2 && lower(element.at[0]) == 'h' && element.at[1] == '2')
                message->upgrade = false;
    }
}

static int read_length(struct message *message)
{
    const struct message_field *field = message_find(message, MESSAGE_CONTENT_LENGTH);
    if (!field)
        return 0;
    if (count(message, MESSAGE_CONTENT_LENGTH) > 1 || field->value.size == 0 ||
        field->value.size > LENGTH_DIGITS_MAX || !all(field->value, is_digit))
        return 400;
    message->length = 0;
    for (size_t i = 0; i < field->value.size; i++)
        message->length = message->length * 10 + (uint64_t)(field->value.at[i] - '0');
    message->framing = message->length > 0 ? MESSAGE_LENGTH : MESSAGE_NO_BODY;
    return 0;
}

static int read_coding(struct message *message)
{
    const struct message_field *field = message_find(message, MESSAGE_TRANSFER_ENCODING);
    if (!field)
        return 0;
    if (count(message, MESSAGE_TRANSFER_ENCODING) > 1 || message->minor == 0 ||
        message_find(message, MESSAGE_CONTENT_LENGTH))
        return 400;
    if (!message_text_is(field->value, "chunked"))
        return 501;
    message->framing = MESSAGE_CHUNKED;
    return 0;
}

static int read_framing(struct message *message, enum message_framing without)
{
    message->framing = (uint8_t)without;
    int status = read_length(message);
    return status ? status : read_coding(message);
}

/* ---- requests ---- */

/* reg-name, an address and a port (RFC 3986, 3.2.2); no user information. */
static bool is_host_byte(unsigned char c)
{
    return is_digit(c) || is_letter(c) || (c != 0 && strchr("-._~%!$&'()*+;=:[]", c) != NULL);
}

static bool is_target_byte(unsigned char c)
{
    return c > ' ' && c < 0x7f && c != '#';
}

static bool begins(struct message_text text, const char *prefix)
{
    size_t size = strlen(prefix);
    return text.size >= size &&
           same((struct message_text){text.at, size}, (struct message_text){prefix, size});
}

/* The authority of an absolute target, or an empty text. */
static struct message_text authority(struct message_text target)
{
    size_t skip = begins(target, "http://") ? 7 : begins(target, "https://") ? 8 : 0;
    size_t size = 0;
    if (skip == 0)
        return (struct message_text){target.at, 0};
    while (skip + size < target.size && !strchr("/?", target.at[skip + size]))
        size++;
    return (struct message_text){target.at + skip, size};
}

static int check_target(const struct message *message)
{
    struct message_text target = message->target;
    if (target.size == 0 || !all(target, is_target_byte))
        return 400;
    if (message->is_connect)
        return all(target, is_host_byte) && memchr(target.at, ':', target.size) ? 0 : 400;
    if (target.at[0] == '/')
        return 0;
    if (message_text_is(target, "*"))
        return message_text_is(message->method, "options") ? 0 : 400;
    return authority(target).size > 0 && all(authority(target), is_host_byte) ? 0 : 400;
}

/* Exactly one since HTTP/1.1, and the same as the target's (RFC 9112, 3.2). */
static int check_host(const struct message *message)
{
    const struct message_field *host = message_find(message, MESSAGE_HOST);
    size_t hosts = count(message, MESSAGE_HOST);
    struct message_text absolute = authority(message->target);
    if (hosts > 1 || (hosts == 0 && message->minor > 0))
        return 400;
    if (!host)
        return hosts == 0 ? 0 : 400;
    if (!all(host->value, is_host_byte))
        return 400;
    return absolute.size == 0 || same(absolute, host->value) ? 0 : 400;
}

static void classify_method(struct message *message)
{
    static const char *const idempotent[] = {"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"};
    message->is_head = message->method.size == 4 && memcmp(message->method.at, "HEAD", 4) == 0;
    message->is_connect = message->method.size == 7 && memcmp(message->method.at, "CONNECT", 7) == 0;
    message->idempotent = false;
    for (size_t i = 0; i < sizeof idempotent / sizeof idempotent[0]; i++)
        if (strlen(idempotent[i]) == message->method.size &&
            memcmp(idempotent[i], message->method.at, message->method.size) == 0)
            message->idempotent = true;
}

/* "HTTP/1.1" */
static int parse_version(struct message *message, const char *at, size_t size)
{
    if (size != 8 || memcmp(at, "HTTP/", 5) != 0 || !is_digit((unsigned char)at[5]) || at[6] != '.' ||
        !is_digit((unsigned char)at[7]))
        return 400;
    if (at[5] != '1' || at[7] > '1')
        return 505;
    message->minor = (uint8_t)(at[7] - '0');
    return 0;
}

/* METHOD SP TARGET SP VERSION, single spaces. */
static int parse_request_line(struct message *message, const char *line, const char *end)
{
    const char *first = memchr(line, ' ', (size_t)(end - line));
    if (!first)
        return 400;
    const char *second = memchr(first + 1, ' ', (size_t)(end - first - 1));
    if (!second)
        return 400;
    message->method = (struct message_text){line, (size_t)(first - line)};
    message->target = (struct message_text){first + 1, (size_t)(second - first - 1)};
    if (message->method.size == 0 || !all(message->method, message_is_token))
        return 400;
    int status = parse_version(message, second + 1, (size_t)(end - second - 1));
    if (status)
        return status;
    classify_method(message);
    return check_target(message);
}

/* Everything but the fields. */
static void begin(struct message *message)
{
    memset(message, 0, offsetof(struct message, fields));
}

int message_parse_request(struct message *message, const char *head, size_t size,
                          const struct message_limits *limits)
{
    const char *end = head + size;
    const char *stop = line_end(head, end);
    begin(message);
    if ((size_t)(stop - head) > limits->line_bytes)
        return 414;
    int status = parse_request_line(message, head, stop);
    if (!status)
        status = parse_fields(message, stop + 2, end, limits);
    if (!status)
        status = read_connection(message);
    if (!status)
        status = read_framing(message, MESSAGE_NO_BODY);
    if (!status)
        status = check_host(message);
    if (status)
        return status;
    forgo_http2(message);
    /* A tunnel has no body, and a body before a tunnel has no meaning (RFC 9110, 9.3.6). */
    return message->is_connect && message->framing != MESSAGE_NO_BODY ? 400 : 0;
}

/* ---- responses ---- */

/* VERSION SP 3DIGIT [SP reason]; many leave out the last space. */
static int parse_status_line(struct message *message, const char *line, const char *end)
{
    if (end - line < 12 || line[8] != ' ')
        return 400;
    int status = parse_version(message, line, 8);
    if (status)
        return status;
    for (int i = 9; i < 12; i++) {
        if (!is_digit((unsigned char)line[i]))
            return 400;
        message->status = (uint16_t)(message->status * 10 + (line[i] - '0'));
    }
    if (message->status < 100 || (end - line > 12 && line[12] != ' '))
        return 400;
    message->reason = end - line > 13 ? (struct message_text){line + 13, (size_t)(end - line - 13)}
                                      : (struct message_text){end, 0};
    return 0;
}

/* RFC 9112, 6.3, 1 and 2. */
static bool never_has_body(const struct message *message, const struct message_asked *asked)
{
    return asked->head || message->status < 200 || message->status == 204 || message->status == 304 ||
           (asked->connect && message->status < 300);
}

int message_parse_response(struct message *message, const char *head, size_t size,
                           const struct message_limits *limits, const struct message_asked *asked)
{
    const char *end = head + size;
    const char *stop = line_end(head, end);
    begin(message);
    int status = parse_status_line(message, head, stop);
    if (!status)
        status = parse_fields(message, stop + 2, end, limits);
    if (!status)
        status = read_connection(message);
    if (!status)
        status = read_framing(message, MESSAGE_UNTIL_CLOSE);
    if (status)
        return status;
    if (message->status == 101 && (!asked->upgrade || !message->upgrade))
        return 400;
    /* Whoever asked by HTTP/1.0 can't read chunks. */
    if (message->framing == MESSAGE_CHUNKED && asked->minor == 0)
        return 400;
    if (never_has_body(message, asked))
        message->framing = MESSAGE_NO_BODY;
    if (message->framing == MESSAGE_UNTIL_CLOSE)
        message->keep_alive = false;
    return 0;
}
