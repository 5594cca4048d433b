#include "proxy/http/message.h"

#include <assert.h>
#include <string.h>

/* More digits than this do not fit, and nobody sends them. */
enum { LENGTH_DIGITS_MAX = 18 };

/* How many fields Connection may name: each is looked for among all of them, and that is all the work that
 * grows with both. */
enum { NOMINATED_MAX = 32 };

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

bool message_streams(const struct message *message)
{
    const struct message_field *field = message_find(message, MESSAGE_CONTENT_TYPE);
    if (!field)
        return false;
    const char *semicolon = memchr(field->value.at, ';', field->value.size);
    const char *end = semicolon ? semicolon : field->value.at + field->value.size;
    return message_text_is(trimmed(field->value.at, end), "text/event-stream");
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
static enum rule parse_field(struct message_field *field, const char *line, const char *end)
{
    if (is_blank(*line))
        return RULE_FOLDED;
    const char *colon = memchr(line, ':', (size_t)(end - line));
    if (!colon)
        return RULE_NO_COLON;
    /* No white space before the colon. */
    field->name = (struct message_text){line, (size_t)(colon - line)};
    if (field->name.size == 0 || !all(field->name, message_is_token))
        return RULE_FIELD_NAME;
    field->value = trimmed(colon + 1, end);
    field->nominated = field->repeated = false;
    identify(field);
    /* A framing that only some read is no framing. */
    if (field->disguised && (field->id == MESSAGE_CONTENT_LENGTH || field->id == MESSAGE_TRANSFER_ENCODING))
        return RULE_DISGUISED;
    return RULE_NONE;
}

static const char *line_end(const char *line, const char *end)
{
    const char *lf = memchr(line, '\n', (size_t)(end - line));
    assert(lf && lf > line && lf[-1] == '\r');
    return lf - 1;
}

static enum rule parse_fields(struct message *message, const char *at, const char *end,
                              const struct message_limits *limits)
{
    assert(limits->fields <= MESSAGE_FIELDS_MAX);
    message->field_count = 0;
    for (;;) {
        const char *stop = line_end(at, end);
        if (stop == at)
            return RULE_NONE;
        if (message->field_count == limits->fields)
            return RULE_FIELDS;
        enum rule rule = parse_field(&message->fields[message->field_count], at, stop);
        if (rule)
            return rule;
        message->field_count++;
        at = stop + 2;
    }
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

static void nominate(struct message *message, struct message_text name)
{
    for (size_t i = 0; i < message->field_count; i++)
        if (same(message->fields[i].name, name))
            message->fields[i].nominated = true;
}

static enum rule read_connection(struct message *message)
{
    bool close = false, keep = false, upgrade = false;
    unsigned nominated = 0;
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
                return RULE_NOMINATED;
            else if (++nominated > NOMINATED_MAX)
                return RULE_OPTIONS;
            else
                nominate(message, element);
        }
    }
    message->keep_alive = !close && (message->minor > 0 || keep);
    message->upgrade = upgrade && message->minor > 0 && message_find(message, MESSAGE_UPGRADE);
    return RULE_NONE;
}

void message_forgo_upgrades(struct message *message,
                            bool (*may)(struct message_text token, const void *context), const void *context)
{
    for (size_t i = 0; message->upgrade && i < message->field_count; i++) {
        struct message_text element, rest = message->fields[i].value;
        if (message->fields[i].id != MESSAGE_UPGRADE)
            continue;
        while (message_next_element(&rest, &element)) {
            const char *slash = memchr(element.at, '/', element.size);
            size_t size = slash ? (size_t)(slash - element.at) : element.size;
            if (!may((struct message_text){element.at, size}, context))
                message->upgrade = false;
        }
    }
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

/* Whether further fields of the same name say the same; they do not go on. */
static bool repeats(struct message *message, const struct message_field *first)
{
    for (size_t i = 0; i < message->field_count; i++) {
        struct message_field *field = &message->fields[i];
        if (field->id != first->id || field == first)
            continue;
        if (!same(field->value, first->value))
            return false;
        field->repeated = true;
    }
    return true;
}

/* A request with two lengths is refused, whatever they say; in a response nothing is smuggled by saying the
 * same twice (RFC 9112, 6.3, 5). */
static enum rule read_length(struct message *message, bool response)
{
    const struct message_field *field = message_find(message, MESSAGE_CONTENT_LENGTH);
    if (!field)
        return RULE_NONE;
    if (count(message, MESSAGE_CONTENT_LENGTH) > 1 && !(response && repeats(message, field)))
        return RULE_LENGTHS;
    if (field->value.size == 0 || field->value.size > LENGTH_DIGITS_MAX || !all(field->value, is_digit))
        return RULE_LENGTH;
    message->length = 0;
    for (size_t i = 0; i < field->value.size; i++)
        message->length = message->length * 10 + (uint64_t)(field->value.at[i] - '0');
    message->framing = message->length > 0 ? MESSAGE_LENGTH : MESSAGE_NO_BODY;
    return RULE_NONE;
}

static enum rule read_coding(struct message *message, bool response)
{
    const struct message_field *field = message_find(message, MESSAGE_TRANSFER_ENCODING);
    if (!field)
        return RULE_NONE;
    if (count(message, MESSAGE_TRANSFER_ENCODING) > 1)
        return RULE_CODINGS;
    if (message_find(message, MESSAGE_CONTENT_LENGTH))
        return RULE_BOTH;
    if (message->minor == 0 && !response)
        return RULE_CODING_OLD;
    if (!message_text_is(field->value, "chunked"))
        return RULE_CODING;
    message->framing = MESSAGE_CHUNKED;
    return RULE_NONE;
}

static enum rule read_framing(struct message *message, bool response)
{
    message->framing = response ? MESSAGE_UNTIL_CLOSE : MESSAGE_NO_BODY;
    enum rule rule = read_length(message, response);
    return rule ? rule : read_coding(message, response);
}

/* ---- requests ---- */

/* reg-name, an address and a port (RFC 3986, 3.2.2); no user information. */
static bool is_host_byte(unsigned char c)
{
    return is_digit(c) || is_letter(c) || (c != 0 && strchr("-._~%!$&'()*+,;=:[]", c) != NULL);
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

static bool is_good_target(struct message *message)
{
    struct message_text target = message->target;
    if (target.size == 0 || !all(target, is_target_byte))
        return false;
    if (message->is_connect)
        return all(target, is_host_byte) && memchr(target.at, ':', target.size);
    if (target.at[0] == '/')
        return true;
    if (message_text_is(target, "*"))
        return message_text_is(message->method, "options");
    message->authority = authority(target);
    return message->authority.size > 0 && message->authority.size <= MESSAGE_AUTHORITY_MAX &&
           all(message->authority, is_host_byte);
}

/* Exactly one since HTTP/1.1. The target's own, if it has one, goes on in its place (RFC 9112, 3.2.2). */
static enum rule check_host(const struct message *message)
{
    const struct message_field *host = message_find(message, MESSAGE_HOST);
    size_t hosts = count(message, MESSAGE_HOST);
    if (hosts > 1)
        return RULE_HOSTS;
    if (hosts == 0)
        return message->minor > 0 ? RULE_NO_HOST : RULE_NONE;
    return host && all(host->value, is_host_byte) ? RULE_NONE : RULE_HOST;
}

/* Those with a meaning to us or to llhttp. A server that takes no notice of case would read one in another
 * case as one with another framing: HEAD, CONNECT. */
static const char *const methods[] = {"GET",    "HEAD",    "OPTIONS", "TRACE", "PUT",
                                      "DELETE", "CONNECT", "POST",    "PATCH"};
enum { IDEMPOTENT = 6, METHODS = sizeof methods / sizeof methods[0] };

bool message_knows_method(struct message_text method)
{
    for (size_t i = 0; i < METHODS; i++)
        if (strlen(methods[i]) == method.size && memcmp(methods[i], method.at, method.size) == 0)
            return true;
    return false;
}

static enum rule classify_method(struct message *message)
{
    struct message_text method = message->method;
    if (method.size == 0 || !all(method, message_is_token))
        return RULE_METHOD;
    for (size_t i = 0; i < METHODS; i++) {
        if (!same(method, (struct message_text){methods[i], strlen(methods[i])}))
            continue;
        if (memcmp(methods[i], method.at, method.size) != 0)
            return RULE_METHOD_CASE;
        message->is_head = i == 1;
        message->is_connect = i == IDEMPOTENT;
        message->idempotent = i < IDEMPOTENT;
    }
    return RULE_NONE;
}

/* "HTTP/1.1". A minor version beyond is read as the highest that is known (RFC 9110, 2.5). */
static enum rule parse_version(struct message *message, const char *at, size_t size)
{
    if (size != 8 || memcmp(at, "HTTP/", 5) != 0 || !is_digit((unsigned char)at[5]) || at[6] != '.' ||
        !is_digit((unsigned char)at[7]))
        return RULE_VERSION_FORM;
    if (at[5] != '1')
        return RULE_VERSION;
    message->minor = at[7] > '0';
    return RULE_NONE;
}

/* METHOD SP TARGET SP VERSION, single spaces. */
static enum rule parse_request_line(struct message *message, const char *line, const char *end)
{
    const char *first = memchr(line, ' ', (size_t)(end - line));
    if (!first)
        return RULE_REQUEST_LINE;
    const char *second = memchr(first + 1, ' ', (size_t)(end - first - 1));
    if (!second)
        return RULE_REQUEST_LINE;
    message->method = (struct message_text){line, (size_t)(first - line)};
    message->target = (struct message_text){first + 1, (size_t)(second - first - 1)};
    enum rule rule = classify_method(message);
    if (!rule || rule == RULE_METHOD_CASE) {
        enum rule version = parse_version(message, second + 1, (size_t)(end - second - 1));
        rule = version ? version : rule;
    }
    if (rule)
        return rule;
    return is_good_target(message) ? RULE_NONE : RULE_TARGET;
}

/* Everything but the fields. */
static void begin(struct message *message)
{
    memset(message, 0, offsetof(struct message, fields));
}

enum rule message_parse_request(struct message *message, const char *head, size_t size,
                                const struct message_limits *limits)
{
    const char *end = head + size;
    const char *stop = line_end(head, end);
    begin(message);
    if ((size_t)(stop - head) > limits->line_bytes)
        return RULE_LINE_LONG;
    enum rule rule = parse_request_line(message, head, stop);
    if (!rule)
        rule = parse_fields(message, stop + 2, end, limits);
    if (!rule)
        rule = read_connection(message);
    if (!rule)
        rule = read_framing(message, false);
    if (!rule)
        rule = check_host(message);
    if (rule)
        return rule;
    forgo_http2(message);
    /* A tunnel has no body, and a body before a tunnel has no meaning (RFC 9110, 9.3.6). */
    if (message->is_connect && message->framing != MESSAGE_NO_BODY)
        return RULE_CONNECT_BODY;
    return message->is_connect && !limits->connect ? RULE_CONNECT : RULE_NONE;
}

/* ---- responses ---- */

/* VERSION SP 3DIGIT [SP reason]; many leave out the last space. */
static enum rule parse_status_line(struct message *message, const char *line, const char *end)
{
    if (end - line < 12 || line[8] != ' ')
        return RULE_STATUS_LINE;
    enum rule rule = parse_version(message, line, 8);
    if (rule)
        return rule;
    for (int i = 9; i < 12; i++) {
        if (!is_digit((unsigned char)line[i]))
            return RULE_STATUS_LINE;
        message->status = (uint16_t)(message->status * 10 + (line[i] - '0'));
    }
    if (message->status < 100 || (end - line > 12 && line[12] != ' '))
        return RULE_STATUS_LINE;
    message->reason = end - line > 13 ? (struct message_text){line + 13, (size_t)(end - line - 13)}
                                      : (struct message_text){end, 0};
    return RULE_NONE;
}

/* RFC 9112, 6.3, 1 and 2. */
static bool never_has_body(const struct message *message, const struct message_asked *asked)
{
    return asked->head || message->status < 200 || message->status == 204 || message->status == 304 ||
           (asked->connect && message->status < 300);
}

enum rule message_parse_response(struct message *message, const char *head, size_t size,
                                 const struct message_limits *limits, const struct message_asked *asked)
{
    const char *end = head + size;
    const char *stop = line_end(head, end);
    begin(message);
    enum rule rule = parse_status_line(message, head, stop);
    if (!rule)
        rule = parse_fields(message, stop + 2, end, limits);
    if (!rule)
        rule = read_connection(message);
    if (!rule)
        rule = read_framing(message, true);
    if (rule)
        return rule;
    if (message->status == 101 && (!asked->upgrade || !message->upgrade))
        return RULE_UNASKED;
    /* Whether that server's connection goes on is anybody's guess (RFC 9112, 6.1). */
    if (message->framing == MESSAGE_CHUNKED && message->minor == 0)
        message->keep_alive = false;
    message->bodyless = never_has_body(message, asked);
    if (message->bodyless)
        message->framing = MESSAGE_NO_BODY;
    if (message->framing == MESSAGE_UNTIL_CLOSE)
        message->keep_alive = false;
    /* Whoever asked by HTTP/1.0 can't read chunks: what is in them goes on, until close. */
    message->unwrap = message->framing == MESSAGE_CHUNKED && asked->minor == 0;
    return RULE_NONE;
}

/* ---- lines that have just come ---- */

enum rule message_check_line(const char *line, size_t size, bool first, bool response)
{
    struct message message;
    struct message_field field;
    if (!first)
        return parse_field(&field, line, line + size);
    begin(&message);
    return response ? parse_status_line(&message, line, line + size)
                    : parse_request_line(&message, line, line + size);
}
