#include "proxy/http/http.h"

#include "reaper/container.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The first buffer of a head; most fit. */
enum { HEAD_FIRST = 1024 };

/* A line of chunked framing, its extensions included, and all trailers of a message. */
enum { CHUNK_LINE_MAX = 256, TRAILERS_MAX = 8192 };

/* Hexadecimal digits of a chunk's size: more would not fit a signed 64-bit number. */
enum { CHUNK_DIGITS_MAX = 15 };

/* ---- llhttp ---- */

static struct http *http_of(llhttp_t *parser)
{
    return CONTAINER(struct http, parser, parser);
}

static int on_headers_complete(llhttp_t *parser)
{
    /* 1: there is no body. A tunnel after the message is the caller's business, not llhttp's. */
    parser->upgrade = 0;
    return http_of(parser)->bodyless;
}

static int on_message_complete(llhttp_t *parser)
{
    http_of(parser)->agreed = true;
    return HPE_PAUSED;
}

/* Data of a chunk that goes on without it: moved to the front, over what llhttp has read already. */
static int on_body(llhttp_t *parser, const char *at, size_t size)
{
    struct http *http = http_of(parser);
    if (http->unwrapped) {
        memmove(http->unwrapped, at, size);
        http->unwrapped += size;
    }
    return 0;
}

static const llhttp_settings_t *settings(void)
{
    static const llhttp_settings_t callbacks = {
        .on_body = on_body,
        .on_headers_complete = on_headers_complete,
        .on_message_complete = on_message_complete,
    };
    return &callbacks;
}

/* Shows llhttp the bytes of a message as we see it. 0, or RULE_READERS when it sees another one. */
static enum rule agree(struct http *http, const char *bytes, size_t size)
{
    if (size == 0)
        return RULE_NONE;
    enum llhttp_errno error = llhttp_execute(&http->parser, bytes, size);
    if (error == HPE_PAUSED)
        return llhttp_get_error_pos(&http->parser) == bytes + size ? RULE_NONE : RULE_READERS;
    return error == HPE_OK ? RULE_NONE : RULE_READERS;
}

/* ---- heads ---- */

void http_release_head(struct http *http)
{
    free(http->head);
    http->head = NULL;
    http->head_size = http->head_capacity = 0;
}

void http_begin(struct http *http, llhttp_type_t type)
{
    free(http->head);
    memset(http, 0, sizeof *http);
    llhttp_init(&http->parser, type, settings());
}

static bool reserve(struct http *http, size_t size)
{
    size_t wanted = http->head_capacity ? http->head_capacity : HEAD_FIRST;
    while (wanted < http->head_size + size)
        wanted *= 2;
    if (wanted == http->head_capacity)
        return true;
    char *grown = realloc(http->head, wanted);
    if (!grown)
        return false;
    http->head = grown;
    http->head_capacity = (uint32_t)wanted;
    return true;
}

/* Whether the byte may follow those before it in the head: no CR comes alone, no control characters, nothing
 * before the first line. A backend that speaks something else and waits is found out by its first byte. */
static enum rule check_byte(const struct http *http, unsigned char byte)
{
    static const char version[] = "HTTP/1.";
    if (http->parser.type == HTTP_RESPONSE && http->head_size < sizeof version - 1)
        return byte == (unsigned char)version[http->head_size] ? RULE_NONE : RULE_NOT_HTTP;
    if (http->head_size > 0 && http->head[http->head_size - 1] == '\r')
        return byte == '\n' ? RULE_NONE : RULE_BARE_CR;
    if (byte == '\r' || byte == '\n')
        return RULE_NONE;
    if (http->head_size == 0)
        return message_is_token(byte) ? RULE_NONE : RULE_FIRST_BYTE;
    return message_is_field_byte(byte) ? RULE_NONE : RULE_CONTROL;
}

/* A line ends in LF alone (RFC 9112, 2.2). It goes on as CR LF. A request in which some lines do and some
 * don't is refused: who stands before us may have taken such an LF for part of a value. */
static enum rule check_line_end(struct http *http, const struct message_limits *limits, bool bare)
{
    if (bare && !limits->bare_lf)
        return RULE_BARE_LF;
    if (http->parser.type == HTTP_REQUEST && (bare ? http->crlf : http->bare_lf))
        return RULE_LINE_ENDS;
    http->bare_lf |= bare;
    http->crlf |= !bare;
    return RULE_NONE;
}

/* A line of the head ended with the byte just taken. HTTP_DONE when it was the empty one. */
static int end_line(struct http *http, const struct message_limits *limits)
{
    bool request = http->parser.type == HTTP_REQUEST;
    const char *line = http->head + http->line_start;
    uint32_t length = http->head_size - http->line_start - 2;
    bool first = http->line_start == 0;
    http->line_start = http->head_size;
    if (length > 0 && first && request && length > limits->line_bytes)
        return -RULE_LINE_LONG;
    if (length > 0)
        return -(int)message_check_line(line, length, first, !request);
    if (!first)
        return HTTP_DONE;
    /* Empty lines before a request; more are taken for what they are. */
    if (!request || http->empty_lines == HTTP_EMPTY_LINES)
        return -RULE_EMPTY_LINES;
    http->empty_lines++;
    http->head_size = http->line_start = 0;
    return HTTP_MORE;
}

static enum rule overlong(const struct http *http, const struct message_limits *limits)
{
    if (http->line_start == 0 && http->parser.type == HTTP_REQUEST &&
        http->head_size > limits->line_bytes + 1)
        return RULE_LINE_LONG;
    return http->head_size >= limits->head_bytes ? RULE_HEAD_LONG : RULE_NONE;
}

static int collect_byte(struct http *http, const struct message_limits *limits, char byte)
{
    bool bare = byte == '\n' && (http->head_size == 0 || http->head[http->head_size - 1] != '\r');
    enum rule rule = overlong(http, limits);
    if (!rule)
        rule = check_byte(http, (unsigned char)byte);
    if (!rule && byte == '\n')
        rule = check_line_end(http, limits, bare);
    if (rule)
        return -(int)rule;
    if (http->head_size + 2 > http->head_capacity && !reserve(http, 2))
        return -RULE_NO_MEMORY;
    if (bare)
        http->head[http->head_size++] = '\r';
    http->head[http->head_size++] = byte;
    return byte == '\n' ? end_line(http, limits) : HTTP_MORE;
}

/* How many bytes follow within a line that only have to be no control characters: most of a head. */
static size_t count_plain(const struct http *http, const struct message_limits *limits, const char *bytes,
                          size_t size)
{
    size_t have = http->head_size, most = limits->head_bytes, count = 0;
    if (have < sizeof "HTTP/1." || http->head[have - 1] == '\r')
        return 0;
    if (http->line_start == 0 && http->parser.type == HTTP_REQUEST && limits->line_bytes + 2 < most)
        most = limits->line_bytes + 2;
    while (count < size && have + count < most && (unsigned char)bytes[count] >= ' ' && bytes[count] != 0x7f)
        count++;
    return count;
}

int http_collect(struct http *http, const struct message_limits *limits, const char *bytes, size_t size,
                 size_t *used)
{
    assert(http->state == HTTP_IN_HEAD);
    for (*used = 0; *used < size;) {
        size_t plain = count_plain(http, limits, bytes + *used, size - *used);
        if (http->head_size + plain > http->head_capacity && !reserve(http, plain))
            return -RULE_NO_MEMORY;
        for (; plain > 0; plain--)
            http->head[http->head_size++] = bytes[(*used)++];
        int status = *used < size ? collect_byte(http, limits, bytes[(*used)++]) : HTTP_MORE;
        if (status != HTTP_MORE)
            return status;
    }
    return HTTP_MORE;
}

/* The first line as llhttp knows it: a method that it does not know as one that it does, and a version that
 * goes on as HTTP/1.1 as that. Returns where it ends in the head. */
static const char *show_first_line(struct http *http, const struct message *message, enum rule *rule)
{
    static const char *const versions[] = {"HTTP/1.0", "HTTP/1.1"};
    static const char stand_in[] = "POST";
    const char *version = versions[message->minor];
    const size_t version_size = strlen(version);
    if (http->parser.type == HTTP_RESPONSE) {
        *rule = agree(http, version, version_size);
        return http->head + version_size;
    }
    struct message_text method = message->method;
    const char *target_end = message->target.at + message->target.size;
    const char *rest = method.at + method.size;
    *rule = message_knows_method(method) ? agree(http, method.at, method.size)
                                         : agree(http, stand_in, strlen(stand_in));
    if (!*rule)
        *rule = agree(http, rest, (size_t)(target_end + 1 - rest));
    if (!*rule)
        *rule = agree(http, version, version_size);
    return target_end + 1 + version_size;
}

/* Shows llhttp the head as it goes on: without a length that is said again. */
static enum rule show_head(struct http *http, const struct message *message)
{
    const char *end = http->head + http->head_size;
    enum rule rule;
    const char *from = show_first_line(http, message, &rule);
    for (size_t i = 0; !rule && i < message->field_count; i++) {
        const struct message_field *field = &message->fields[i];
        if (!field->repeated)
            continue;
        rule = agree(http, from, (size_t)(field->name.at - from));
        from = memchr(field->name.at, '\n', (size_t)(end - field->name.at));
        from++;
    }
    return rule ? rule : agree(http, from, (size_t)(end - from));
}

/* The framing is known: llhttp has to find the same. */
static int enter_body(struct http *http, const struct message *message)
{
    http->framing = message->framing;
    http->body_left = message->framing == MESSAGE_LENGTH ? message->length : 0;
    http->bodyless = message->framing == MESSAGE_NO_BODY;
    http->unwraps = message->unwrap;
    http->state = http->bodyless ? HTTP_COMPLETE : HTTP_IN_BODY;
    enum rule rule = show_head(http, message);
    if (!rule && http->agreed != http->bodyless)
        rule = RULE_READERS;
    if (!rule && message->framing == MESSAGE_LENGTH && http->parser.content_length != message->length)
        rule = RULE_READERS;
    return -(int)rule;
}

int http_parse_request(struct http *http, struct message *message, const struct message_limits *limits)
{
    enum rule rule = message_parse_request(message, http->head, http->head_size, limits);
    return rule ? -(int)rule : enter_body(http, message);
}

int http_parse_response(struct http *http, struct message *message, const struct message_limits *limits,
                        const struct message_asked *asked)
{
    enum rule rule = message_parse_response(message, http->head, http->head_size, limits, asked);
    return rule ? -(int)rule : enter_body(http, message);
}

/* ---- chunked framing (RFC 9112, 7.1) ---- */

enum chunk_state {
    CHUNK_SIZE, /* the first: it is 0 */
    CHUNK_BLANK,
    CHUNK_EXTENSION,
    CHUNK_QUOTED,  /* in quotes, */
    CHUNK_ESCAPED, /* behind a backslash there */
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER,
    CHUNK_TRAILER_NAME,
    CHUNK_TRAILER_VALUE,
    CHUNK_TRAILER_LF,
    CHUNK_END_LF,
    CHUNK_END,
    CHUNK_BAD
};

static int hexadecimal(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum chunk_state in_size(struct http *http, char c)
{
    int digit = hexadecimal(c);
    if (digit >= 0) {
        if (++http->digits > CHUNK_DIGITS_MAX)
            return CHUNK_BAD;
        http->body_left = http->body_left * 16 + (uint64_t)digit;
        return CHUNK_SIZE;
    }
    if (http->digits == 0)
        return CHUNK_BAD;
    switch (c) {
    case '\r':
        return CHUNK_SIZE_LF;
    case ';':
        return CHUNK_EXTENSION;
    case ' ':
    case '\t':
        return CHUNK_BLANK;
    default:
        return CHUNK_BAD;
    }
}

/* RFC 9112, 7.1.1. */
static enum chunk_state in_extension(char c)
{
    if (c == '\r')
        return CHUNK_SIZE_LF;
    if (c == '"')
        return CHUNK_QUOTED;
    return message_is_field_byte((unsigned char)c) ? CHUNK_EXTENSION : CHUNK_BAD;
}

/* A line that ends within quotes would go on for those who look for the second one. */
static enum chunk_state in_quotes(char c)
{
    if (c == '"')
        return CHUNK_EXTENSION;
    if (c == '\\')
        return CHUNK_ESCAPED;
    return message_is_field_byte((unsigned char)c) ? CHUNK_QUOTED : CHUNK_BAD;
}

static enum chunk_state after_backslash(char c)
{
    return message_is_field_byte((unsigned char)c) ? CHUNK_QUOTED : CHUNK_BAD;
}

/* Only white space stood between the size and this. Servers that write sizes of one width fill them up. */
static enum chunk_state in_blank(const struct http *http, char c)
{
    if (c == ' ' || c == '\t')
        return CHUNK_BLANK;
    if (c == '\r' && http->parser.type == HTTP_RESPONSE)
        return CHUNK_SIZE_LF;
    return c == ';' ? CHUNK_EXTENSION : CHUNK_BAD;
}

static enum chunk_state next_chunk(struct http *http)
{
    http->digits = 0;
    http->body_left = 0;
    http->line_bytes = 0;
    return CHUNK_SIZE;
}

static enum chunk_state begin_trailer(struct http *http, char c)
{
    if (c == '\r')
        return CHUNK_END_LF;
    memset(http->trailer_name, 0, sizeof http->trailer_name);
    http->digits = 0;
    return message_is_token((unsigned char)c) ? CHUNK_TRAILER_NAME : CHUNK_BAD;
}

/* A trailer that says how a message is framed or whom it is for would be heeded by those who merge trailers
 * into the head (RFC 9110, 6.5.1). */
static bool may_trail(const struct http *http)
{
    static const enum message_name never[] = {MESSAGE_CONTENT_LENGTH, MESSAGE_TRANSFER_ENCODING,
                                              MESSAGE_HOST};
    struct message_text name = {http->trailer_name, http->digits};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (message_text_is(name, message_name_text(never[i])))
            return false;
    return true;
}

static enum chunk_state in_trailer_name(struct http *http, char c)
{
    if (c == ':')
        return may_trail(http) ? CHUNK_TRAILER_VALUE : CHUNK_BAD;
    return message_is_token((unsigned char)c) ? CHUNK_TRAILER_NAME : CHUNK_BAD;
}

static void keep_trailer_name(struct http *http, char c)
{
    if (http->digits < sizeof http->trailer_name)
        http->trailer_name[http->digits++] = (char)(c == '_' ? '-' : c);
}

static enum chunk_state in_trailer_value(char c)
{
    if (c == '\r')
        return CHUNK_TRAILER_LF;
    return message_is_field_byte((unsigned char)c) ? CHUNK_TRAILER_VALUE : CHUNK_BAD;
}

static enum chunk_state after_size(struct http *http, char c)
{
    if (c != '\n')
        return CHUNK_BAD;
    http->line_bytes = 0;
    return http->body_left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
}

static enum chunk_state expect(char c, char wanted, enum chunk_state next)
{
    return c == wanted ? next : CHUNK_BAD;
}

/* One byte that is not chunk data. */
static enum chunk_state chunk_step(struct http *http, char c)
{
    switch ((enum chunk_state)http->chunk_state) {
    case CHUNK_SIZE:
        return in_size(http, c);
    case CHUNK_BLANK:
        return in_blank(http, c);
    case CHUNK_EXTENSION:
        return in_extension(c);
    case CHUNK_QUOTED:
        return in_quotes(c);
    case CHUNK_ESCAPED:
        return after_backslash(c);
    case CHUNK_SIZE_LF:
        return after_size(http, c);
    case CHUNK_DATA_CR:
        return expect(c, '\r', CHUNK_DATA_LF);
    case CHUNK_DATA_LF:
        return c == '\n' ? next_chunk(http) : CHUNK_BAD;
    case CHUNK_TRAILER:
        return begin_trailer(http, c);
    case CHUNK_TRAILER_NAME:
        return in_trailer_name(http, c);
    case CHUNK_TRAILER_VALUE:
        return in_trailer_value(c);
    case CHUNK_TRAILER_LF:
        return expect(c, '\n', CHUNK_TRAILER);
    case CHUNK_END_LF:
        return expect(c, '\n', CHUNK_END);
    case CHUNK_DATA:
    case CHUNK_END:
    case CHUNK_BAD:
        break;
    }
    return CHUNK_BAD;
}

/* Which rule a byte breaks that does not follow in this state. */
static enum rule chunk_rule(const struct http *http)
{
    switch ((enum chunk_state)http->chunk_state) {
    case CHUNK_SIZE:
    case CHUNK_BLANK:
        return RULE_CHUNK_SIZE;
    case CHUNK_EXTENSION:
    case CHUNK_QUOTED:
    case CHUNK_ESCAPED:
        return RULE_CHUNK_EXTENSION;
    case CHUNK_DATA_CR:
    case CHUNK_DATA_LF:
        return RULE_CHUNK_END;
    case CHUNK_TRAILER_NAME:
        return may_trail(http) ? RULE_TRAILER : RULE_TRAILER_NAME;
    case CHUNK_TRAILER:
    case CHUNK_TRAILER_VALUE:
        return RULE_TRAILER;
    default:
        return RULE_CHUNK_LINE;
    }
}

static bool is_trailer(enum chunk_state state)
{
    return state >= CHUNK_TRAILER && state <= CHUNK_END_LF;
}

static enum rule chunk_byte(struct http *http, char c)
{
    enum chunk_state state = chunk_step(http, c);
    if (state == CHUNK_BAD)
        return chunk_rule(http);
    if (state == CHUNK_TRAILER_NAME)
        keep_trailer_name(http, c);
    if (is_trailer(state) && ++http->trailer_bytes > TRAILERS_MAX)
        return RULE_TRAILERS_LONG;
    if (!is_trailer(state) && ++http->line_bytes > CHUNK_LINE_MAX)
        return RULE_CHUNK_LONG;
    http->chunk_state = (uint8_t)state;
    return RULE_NONE;
}

static size_t skip_data(struct http *http, size_t size)
{
    size_t skipped = size < http->body_left ? size : (size_t)http->body_left;
    http->body_left -= skipped;
    if (http->body_left == 0)
        http->chunk_state = CHUNK_DATA_CR;
    return skipped;
}

/* White space and extensions behind a size are of one connection, and nobody has to understand them (RFC
 * 9112, 7.1.1): they do not go on, so that nobody can understand them in another way. */
static bool goes_on(enum chunk_state state)
{
    return state < CHUNK_BLANK || state > CHUNK_ESCAPED;
}

/* *used of the bytes belong to the message, of which *kept, moved to the front, go on. */
static enum rule scan_chunks(struct http *http, char *bytes, size_t size, size_t *used, size_t *kept)
{
    enum rule rule = RULE_NONE;
    *used = *kept = 0;
    while (!rule && *used < size && http->chunk_state != CHUNK_END) {
        char *from = bytes + *used;
        bool data = http->chunk_state == CHUNK_DATA;
        size_t step = data ? skip_data(http, size - *used) : 1;
        if (!data)
            rule = chunk_byte(http, *from);
        *used += step;
        if (!data && !goes_on((enum chunk_state)http->chunk_state))
            continue;
        if (bytes + *kept != from)
            memmove(bytes + *kept, from, step);
        *kept += step;
    }
    return rule;
}

static int follow_chunks(struct http *http, char *bytes, size_t size, size_t *used, size_t *kept)
{
    enum rule rule = scan_chunks(http, bytes, size, used, kept);
    http->unwrapped = http->unwraps ? bytes : NULL;
    if (!rule)
        rule = agree(http, bytes, *kept);
    if (http->unwraps)
        *kept = (size_t)(http->unwrapped - bytes);
    http->unwrapped = NULL;
    bool done = http->chunk_state == CHUNK_END;
    if (!rule && http->agreed != done)
        rule = RULE_READERS;
    if (rule)
        return -(int)rule;
    if (done)
        http->state = HTTP_COMPLETE;
    return done ? HTTP_DONE : HTTP_MORE;
}

/* ---- bodies ---- */

uint64_t http_unseen(const struct http *http)
{
    if (http->state != HTTP_IN_BODY || http->framing == MESSAGE_CHUNKED)
        return 0;
    return http->framing == MESSAGE_LENGTH ? http->body_left : UINT64_MAX;
}

void http_skip(struct http *http, uint64_t bytes)
{
    assert(http->state == HTTP_IN_BODY && http->framing != MESSAGE_CHUNKED);
    if (http->framing == MESSAGE_UNTIL_CLOSE)
        return;
    assert(bytes <= http->body_left);
    http->body_left -= bytes;
    if (http->body_left == 0)
        http->state = HTTP_COMPLETE;
}

int http_follow(struct http *http, char *bytes, size_t size, size_t *used, size_t *kept)
{
    *used = *kept = 0;
    if (http->state == HTTP_COMPLETE)
        return HTTP_DONE;
    assert(http->state == HTTP_IN_BODY);
    if (http->framing == MESSAGE_CHUNKED)
        return follow_chunks(http, bytes, size, used, kept);
    uint64_t unseen = http_unseen(http);
    *used = *kept = size < unseen ? size : (size_t)unseen;
    http_skip(http, *used);
    return http->state == HTTP_COMPLETE ? HTTP_DONE : HTTP_MORE;
}
