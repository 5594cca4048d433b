#include "bench/heard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint8_t heard_pattern(uint64_t offset)
{
    return (uint8_t)((offset * UINT64_C(0x9E3779B97F4A7C15)) >> 56);
}

void heard_tag_text(uint32_t tag, char text[static HEARD_TAG_BYTES + 1])
{
    snprintf(text, HEARD_TAG_BYTES + 1, "LASTACK%08x\n", tag);
}

static bool tag_parse(const char *text, uint32_t *tag)
{
    char digits[9] = "";
    if (strncmp(text, "LASTACK", 7) != 0)
        return false;
    memcpy(digits, text + 7, 8);
    if (strspn(digits, "0123456789abcdef") != 8)
        return false;
    *tag = (uint32_t)strtoul(digits, NULL, 16);
    return true;
}

static void wrong(struct heard *heard, uint64_t at)
{
    if (heard->is_wrong)
        return;
    heard->is_wrong = true;
    heard->wrong_at = at;
}

static void compare(struct heard *heard, uint64_t offset, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length && !heard->is_wrong && !heard->is_lenient; i++)
        if (bytes[i] != heard_pattern(offset + i))
            wrong(heard, offset + i);
}

/* ---- HTTP ---- */

static int on_begin(llhttp_t *parser)
{
    struct heard *heard = parser->data;
    heard->target_length = 0;
    heard->body_bytes = 0;
    heard->begun++;
    return 0;
}

static int on_url(llhttp_t *parser, const char *at, size_t length)
{
    struct heard *heard = parser->data;
    size_t room = sizeof heard->target - 1 - heard->target_length;
    if (length > room)
        length = room;
    memcpy(heard->target + heard->target_length, at, length);
    heard->target_length += length;
    heard->target[heard->target_length] = '\0';
    return 0;
}

static int request_head(struct heard *heard)
{
    const char *at = strstr(heard->target, "LASTACK");
    heard->method = heard->parser.method;
    heard->has_tag = at && strlen(at) >= HEARD_TAG_BYTES - 1 && tag_parse(at, &heard->tag);
    heard->heads++;
    return 0;
}

static bool is_interim(const llhttp_t *parser)
{
    return parser->status_code >= 100 && parser->status_code < 200 && parser->status_code != 101;
}

/* 1: no body follows; 2: none, and what follows is not HTTP. */
static int response_head(struct heard *heard)
{
    if (is_interim(&heard->parser))
        return 0;
    unsigned n = heard->heads++;
    if (n >= HEARD_STATUSES)
        return 0;
    heard->status[n] = heard->parser.status_code;
    if (heard->is_connect[n] && heard->parser.status_code / 100 == 2)
        return 2;
    /* RFC 9112, 6.3, rule 1: whatever the fields say. */
    unsigned status = heard->parser.status_code;
    return heard->is_head[n] || status == 204 || status == 304 ? 1 : 0;
}

static int on_head(llhttp_t *parser)
{
    struct heard *heard = parser->data;
    return parser->type == HTTP_REQUEST ? request_head(heard) : response_head(heard);
}

static int on_body(llhttp_t *parser, const char *at, size_t length)
{
    struct heard *heard = parser->data;
    /* An answer of the proxy's own has a body of its own. */
    if (parser->type == HTTP_REQUEST || parser->status_code / 100 == 2)
        compare(heard, heard->body_bytes, (const uint8_t *)at, length);
    heard->body_bytes += length;
    return 0;
}

static int on_complete(llhttp_t *parser)
{
    struct heard *heard = parser->data;
    if (parser->type == HTTP_RESPONSE && is_interim(parser)) {
        heard->interim++;
        heard->begun--;
    } else {
        heard->complete++;
        heard->keeps_alive = llhttp_should_keep_alive(parser) != 0;
    }
    return 0;
}

static const llhttp_settings_t *parser_settings(void)
{
    static llhttp_settings_t settings;
    if (!settings.on_body) {
        llhttp_settings_init(&settings);
        settings.on_message_begin = on_begin;
        settings.on_url = on_url;
        settings.on_headers_complete = on_head;
        settings.on_body = on_body;
        settings.on_message_complete = on_complete;
    }
    return &settings;
}

static void tunnel_take(struct heard *heard, const uint8_t *bytes, size_t length)
{
    compare(heard, heard->tunnel_bytes, bytes, length);
    heard->tunnel_bytes += length;
}

static void http_take(struct heard *heard, const uint8_t *bytes, size_t length)
{
    if (heard->is_tunnel) {
        tunnel_take(heard, bytes, length);
        return;
    }
    if (heard->is_wrong)
        return;
    llhttp_errno_t error = llhttp_execute(&heard->parser, (const char *)bytes, length);
    if (error == HPE_PAUSED_UPGRADE) {
        const uint8_t *rest = (const uint8_t *)llhttp_get_error_pos(&heard->parser);
        heard->is_tunnel = true;
        tunnel_take(heard, rest, length - (size_t)(rest - bytes));
    } else if (error != HPE_OK) {
        wrong(heard, heard->bytes);
    }
}

/* ---- a stream ---- */

static size_t tag_take(struct heard *heard, const uint8_t *bytes, size_t length)
{
    size_t taken = HEARD_TAG_BYTES - heard->tag_length;
    if (taken > length)
        taken = length;
    memcpy(heard->tag_text + heard->tag_length, bytes, taken);
    heard->tag_length += taken;
    if (heard->tag_length < HEARD_TAG_BYTES)
        return taken;
    heard->awaits_tag = false;
    heard->has_tag = tag_parse(heard->tag_text, &heard->tag) && heard->tag_text[HEARD_TAG_BYTES - 1] == '\n';
    if (!heard->has_tag)
        wrong(heard, 0);
    return taken;
}

void heard_take(struct heard *heard, const void *of, size_t length)
{
    const uint8_t *bytes = of;
    heard->raw_bytes += length;
    if (heard->http) {
        http_take(heard, bytes, length);
        heard->bytes += length;
        return;
    }
    size_t tag = heard->awaits_tag ? tag_take(heard, bytes, length) : 0;
    compare(heard, heard->bytes, bytes + tag, length - tag);
    heard->bytes += length - tag;
}

void heard_end(struct heard *heard)
{
    if (heard->http && !heard->is_tunnel && !heard->is_wrong && llhttp_message_needs_eof(&heard->parser))
        (void)llhttp_finish(&heard->parser);
}

bool heard_is_amid(const struct heard *heard)
{
    return heard->begun > heard->complete;
}

unsigned heard_status(const struct heard *heard, unsigned n)
{
    return n < HEARD_STATUSES && n < heard->heads ? heard->status[n] : 0;
}

void heard_init(struct heard *heard, bool http, bool backend)
{
    *heard = (struct heard){.http = http, .awaits_tag = backend && !http};
    if (!http)
        return;
    llhttp_init(&heard->parser, backend ? HTTP_REQUEST : HTTP_RESPONSE, parser_settings());
    heard->parser.data = heard;
}
