#include "proxy/plane/http.h"

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

static const llhttp_settings_t *settings(void)
{
    static const llhttp_settings_t callbacks = {
        .on_headers_complete = on_headers_complete,
        .on_message_complete = on_message_complete,
    };
    return &callbacks;
}

/* Shows llhttp the bytes of a message as we see it. 0, or -400 when it sees another one. */
static int agree(struct http *http, const char *bytes, size_t size)
{
    if (size == 0)
        return 0;
    enum llhttp_errno error = llhttp_execute(&http->parser, bytes, size);
    if (error == HPE_INVALID_METHOD)
        return -501;
    if (error == HPE_PAUSED)
        return llhttp_get_error_pos(&http->parser) == bytes + size ? 0 : -400;
    return error == HPE_OK ? 0 : -400;
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

/* Whether the byte may follow those before it in the head: lines end in CR LF and neither comes alone, no
 * control characters, nothing before the first line. A backend that speaks something else and waits is found
 * out by its first byte. */
static bool may_follow(const struct http *http, unsigned char byte)
{
    static const char version[] = "HTTP/1.";
    if (http->parser.type == HTTP_RESPONSE && http->head_size < sizeof version - 1)
        return byte == (unsigned char)version[http->head_size];
    bool after_cr = http->head_size > 0 && http->head[http->head_size - 1] == '\r';
    if (after_cr || byte == '\n')
        return after_cr && byte == '\n';
    if (http->head_size == 0)
        return byte == '\r' || message_is_token(byte);
    return byte == '\r' || message_is_field_byte(byte);
}

/* A line of the head ended with the byte just taken. HTTP_DONE when it was the empty one. */
static int end_line(struct http *http, const struct message_limits *limits)
{
    uint32_t length = http->head_size - http->line_start - 2;
    bool first = http->line_start == 0;
    http->line_start = http->head_size;
    if (length > 0)
        return first && http->parser.type == HTTP_REQUEST && length > limits->line_bytes ? -414 : HTTP_MORE;
    if (!first)
        return HTTP_DONE;
    /* An empty line before a request; a second one is taken for what it is. */
    if (http->parser.type != HTTP_REQUEST || http->empty_line)
        return -400;
    http->empty_line = true;
    http->head_size = http->line_start = 0;
    return HTTP_MORE;
}

static int overlong(const struct http *http, const struct message_limits *limits)
{
    if (http->line_start == 0 && http->parser.type == HTTP_REQUEST &&
        http->head_size > limits->line_bytes + 1)
        return -414;
    return http->head_size >= limits->head_bytes ? -431 : 0;
}

static int collect_byte(struct http *http, const struct message_limits *limits, char byte)
{
    int status = overlong(http, limits);
    if (status)
        return status;
    if (!may_follow(http, (unsigned char)byte))
        return -400;
    if (http->head_size == http->head_capacity && !reserve(http, 1))
        return -503;
    http->head[http->head_size++] = byte;
    return byte == '\n' ? end_line(http, limits) : HTTP_MORE;
}

int http_collect(struct http *http, const struct message_limits *limits, const char *bytes, size_t size,
                 size_t *used)
{
    assert(http->state == HTTP_IN_HEAD);
    for (*used = 0; *used < size;) {
        int status = collect_byte(http, limits, bytes[(*used)++]);
        if (status != HTTP_MORE)
            return status;
    }
    return HTTP_MORE;
}

/* The framing is known: llhttp has to find the same. */
static int enter_body(struct http *http, const struct message *message)
{
    http->framing = message->framing;
    http->body_left = message->framing == MESSAGE_LENGTH ? message->length : 0;
    http->bodyless = message->framing == MESSAGE_NO_BODY;
    http->state = http->bodyless ? HTTP_COMPLETE : HTTP_IN_BODY;
    int status = agree(http, http->head, http->head_size);
    if (status)
        return status;
    if (http->agreed != http->bodyless)
        return -400;
    return message->framing == MESSAGE_LENGTH && http->parser.content_length != message->length ? -400 : 0;
}

int http_parse_request(struct http *http, struct message *message, const struct message_limits *limits)
{
    int status = message_parse_request(message, http->head, http->head_size, limits);
    return status ? -status : enter_body(http, message);
}

int http_parse_response(struct http *http, struct message *message, const struct message_limits *limits,
                        const struct message_asked *asked)
{
    int status = message_parse_response(message, http->head, http->head_size, limits, asked);
    return status ? -status : enter_body(http, message);
}

/* ---- chunked framing (RFC 9112, 7.1) ---- */

enum chunk_state {
    CHUNK_SIZE, /* the first: it is 0 */
    CHUNK_BLANK,
    CHUNK_EXTENSION,
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

static enum chunk_state in_extension(char c)
{
    if (c == '\r')
        return CHUNK_SIZE_LF;
    return message_is_field_byte((unsigned char)c) ? CHUNK_EXTENSION : CHUNK_BAD;
}

/* Only white space stood between the size and this. */
static enum chunk_state in_blank(char c)
{
    if (c == ' ' || c == '\t')
        return CHUNK_BLANK;
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
        return in_blank(c);
    case CHUNK_EXTENSION:
        return in_extension(c);
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

static bool is_trailer(enum chunk_state state)
{
    return state >= CHUNK_TRAILER && state <= CHUNK_END_LF;
}

static enum chunk_state chunk_byte(struct http *http, char c)
{
    enum chunk_state state = chunk_step(http, c);
    if (state == CHUNK_TRAILER_NAME)
        keep_trailer_name(http, c);
    if (is_trailer(state) ? ++http->trailer_bytes > TRAILERS_MAX : ++http->line_bytes > CHUNK_LINE_MAX)
        return CHUNK_BAD;
    return state;
}

static size_t skip_data(struct http *http, size_t size)
{
    size_t skipped = size < http->body_left ? size : (size_t)http->body_left;
    http->body_left -= skipped;
    if (http->body_left == 0)
        http->chunk_state = CHUNK_DATA_CR;
    return skipped;
}

/* How many of the bytes belong to the message; the state tells what came of it. */
static size_t scan_chunks(struct http *http, const char *bytes, size_t size)
{
    size_t at = 0;
    while (at < size && http->chunk_state != CHUNK_END && http->chunk_state != CHUNK_BAD) {
        if (http->chunk_state == CHUNK_DATA)
            at += skip_data(http, size - at);
        else
            http->chunk_state = (uint8_t)chunk_byte(http, bytes[at++]);
    }
    return at;
}

static int follow_chunks(struct http *http, const char *bytes, size_t size, size_t *used)
{
    *used = scan_chunks(http, bytes, size);
    if (http->chunk_state == CHUNK_BAD || agree(http, bytes, *used))
        return -400;
    bool done = http->chunk_state == CHUNK_END;
    if (http->agreed != done)
        return -400;
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

int http_follow(struct http *http, const char *bytes, size_t size, size_t *used)
{
    *used = 0;
    if (http->state == HTTP_COMPLETE)
        return HTTP_DONE;
    assert(http->state == HTTP_IN_BODY);
    if (http->framing == MESSAGE_CHUNKED)
        return follow_chunks(http, bytes, size, used);
    uint64_t unseen = http_unseen(http);
    *used = size < unseen ? size : (size_t)unseen;
    http_skip(http, *used);
    return http->state == HTTP_COMPLETE ? HTTP_DONE : HTTP_MORE;
}
