#include "proxy/http/head.h"

#include <string.h>

struct output {
    char *at;
    size_t size, capacity;
    bool full;
};

static void put(struct output *out, const char *bytes, size_t size)
{
    if (out->full || size > out->capacity - out->size) {
        out->full = true;
        return;
    }
    memcpy(out->at + out->size, bytes, size);
    out->size += size;
}

static void put_string(struct output *out, const char *string)
{
    put(out, string, strlen(string));
}

static void put_text(struct output *out, struct message_text text)
{
    put(out, text.at, text.size);
}

/* A length goes on as the number that was read: others read "010" as eight. */
static void put_length(struct output *out, uint64_t length)
{
    char digits[20];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + length % 10);
    while ((length /= 10) > 0);
    put(out, digits + at, sizeof digits - at);
}

/* Host goes on as the absolute target's, if there is one. */
static void put_field(struct output *out, const struct message *message, const struct message_field *field)
{
    put_text(out, field->name);
    put_string(out, ": ");
    if (field->id == MESSAGE_CONTENT_LENGTH)
        put_length(out, message->length);
    else if (field->id == MESSAGE_HOST && message->authority.size > 0)
        put_text(out, message->authority);
    else
        put_text(out, field->value);
    put_string(out, "\r\n");
}

static void put_pair(struct output *out, const char *name, const char *value)
{
    put_string(out, name);
    put_string(out, ": ");
    put_string(out, value);
    put_string(out, "\r\n");
}

/* "Name: " and the values of all fields of that id, a comma behind each. */
static void put_joined(struct output *out, const struct message *message, enum message_name id,
                       const char *name)
{
    put_string(out, name);
    put_string(out, ": ");
    for (size_t i = 0; i < message->field_count; i++) {
        const struct message_field *field = &message->fields[i];
        if (field->id != id || field->disguised || field->value.size == 0)
            continue;
        put_text(out, field->value);
        put_string(out, ", ");
    }
}

static void put_via(struct output *out, const struct message *message)
{
    put_joined(out, message, MESSAGE_VIA, "Via");
    put_string(out, message->minor > 0 ? "1.1 lastack\r\n" : "1.0 lastack\r\n");
}

/* Of one connection only. Upgrade goes on with an upgrade, Transfer-Encoding with the body, which is not
 * changed. */
static bool is_hop_by_hop(const struct message *message, const struct message_field *field)
{
    if (field->repeated)
        return true;
    switch (field->id) {
    case MESSAGE_CONNECTION:
    case MESSAGE_KEEP_ALIVE:
    case MESSAGE_PROXY_CONNECTION:
    case MESSAGE_TE:
    case MESSAGE_HTTP2_SETTINGS:
        return true;
    case MESSAGE_UPGRADE:
        return !message->upgrade;
    default:
        return field->nominated;
    }
}

static void put_connection(struct output *out, bool upgrade, uint8_t minor, enum head_connection connection)
{
    if (upgrade)
        put_pair(out, "Connection", "upgrade");
    else if (connection == HEAD_CLOSE)
        put_pair(out, "Connection", "close");
    else if (minor == 0)
        put_pair(out, "Connection", "keep-alive");
}

/* ---- requests ---- */

static bool is_good_id(struct message_text id)
{
    for (size_t i = 0; i < id.size; i++)
        if (id.at[i] <= ' ' || id.at[i] > '~')
            return false;
    return id.size > 0 && id.size <= HEAD_REQUEST_ID_MAX;
}

static const struct message_field *kept_id(const struct message *request)
{
    const struct message_field *field = message_find(request, MESSAGE_X_REQUEST_ID);
    return field && is_good_id(field->value) ? field : NULL;
}

/* Fields that are written anew below, or that an untrusted client may not set. */
static bool is_ours(const struct message_field *field, const struct head_origin *origin)
{
    bool forwarding = origin->forwarded != CONF_FORWARDED_OFF;
    bool replaced = field->disguised || !origin->trusted;
    switch (field->id) {
    case MESSAGE_X_FORWARDED_FOR:
        return forwarding && (replaced || origin->forwarded == CONF_FORWARDED_X);
    case MESSAGE_FORWARDED:
        return forwarding && (replaced || origin->forwarded == CONF_FORWARDED);
    case MESSAGE_X_FORWARDED_PROTO:
        return forwarding && replaced;
    case MESSAGE_X_REQUEST_ID:
        return origin->request_id != NULL;
    case MESSAGE_VIA:
        return origin->via && !field->disguised;
    default:
        return false;
    }
}

/* What a trusted client says about those before it can't be declared hop-by-hop: it is written for the
 * backend. */
static bool is_vouched(const struct message_field *field, const struct head_origin *origin)
{
    return field->id == MESSAGE_X_FORWARDED_PROTO && origin->forwarded != CONF_FORWARDED_OFF &&
           origin->trusted && !field->disguised;
}

static void put_address(struct output *out, const struct head_origin *origin)
{
    put_string(out, "for=");
    put_string(out, origin->ipv6 ? "\"[" : "");
    put_string(out, origin->address);
    put_string(out, origin->ipv6 ? "]\";proto=http\r\n" : ";proto=http\r\n");
}

static void put_forwarding(struct output *out, const struct message *request,
                           const struct head_origin *origin)
{
    static const struct message nobody = {.field_count = 0};
    const struct message *before = origin->trusted ? request : &nobody;
    if (origin->forwarded == CONF_FORWARDED) {
        put_joined(out, before, MESSAGE_FORWARDED, "Forwarded");
        put_address(out, origin);
    } else {
        put_joined(out, before, MESSAGE_X_FORWARDED_FOR, "X-Forwarded-For");
        put_string(out, origin->address);
        put_string(out, "\r\n");
    }
    if (!message_find(before, MESSAGE_X_FORWARDED_PROTO))
        put_pair(out, "X-Forwarded-Proto", "http");
}

struct message_text head_request_id(const struct message *request, const struct head_origin *origin)
{
    if (!origin->request_id)
        return (struct message_text){.size = 0};
    const struct message_field *kept = kept_id(request);
    return kept ? kept->value
                : (struct message_text){.at = origin->request_id, .size = strlen(origin->request_id)};
}

static void put_request_id(struct output *out, const struct message *request,
                           const struct head_origin *origin)
{
    const struct message_field *kept = kept_id(request);
    if (kept)
        put_field(out, request, kept);
    else
        put_pair(out, "X-Request-Id", origin->request_id);
}

size_t head_write_request(char *space, size_t size, const struct message *request,
                          const struct head_origin *origin, enum head_connection connection)
{
    struct output out = {.at = space, .capacity = size};
    put_text(&out, request->method);
    put_string(&out, " ");
    put_text(&out, request->target);
    put_string(&out, request->minor > 0 ? " HTTP/1.1\r\n" : " HTTP/1.0\r\n");
    for (size_t i = 0; i < request->field_count; i++)
        if ((!is_hop_by_hop(request, &request->fields[i]) || is_vouched(&request->fields[i], origin)) &&
            !is_ours(&request->fields[i], origin))
            put_field(&out, request, &request->fields[i]);
    if (request->authority.size > 0 && !message_find(request, MESSAGE_HOST)) {
        put_string(&out, "Host: ");
        put_text(&out, request->authority);
        put_string(&out, "\r\n");
    }
    if (origin->forwarded != CONF_FORWARDED_OFF)
        put_forwarding(&out, request, origin);
    if (origin->request_id)
        put_request_id(&out, request, origin);
    if (origin->via)
        put_via(&out, request);
    put_connection(&out, request->upgrade, request->minor, connection);
    put_string(&out, "\r\n");
    return out.full ? 0 : out.size;
}

/* ---- responses ---- */

/* A length or a coding where there is no body misleads those who look no further (RFC 9110, 8.6); a coding
 * says nothing to HTTP/1.0. */
static bool is_false_framing(const struct message *response, const struct message_field *field,
                             uint8_t asked_minor)
{
    bool none = response->status < 200 || response->status == 204;
    return (none && field->id == MESSAGE_CONTENT_LENGTH) ||
           ((none || asked_minor == 0) && field->id == MESSAGE_TRANSFER_ENCODING);
}

static void put_status_line(struct output *out, const struct message *response)
{
    char status[] = {(char)('0' + response->status / 100), (char)('0' + response->status / 10 % 10),
                     (char)('0' + response->status % 10), ' '};
    put_string(out, "HTTP/1.1 ");
    put(out, status, sizeof status);
    put_text(out, response->reason);
    put_string(out, "\r\n");
}

size_t head_write_response(char *space, size_t size, const struct message *response, uint8_t asked_minor,
                           bool via, enum head_connection connection)
{
    struct output out = {.at = space, .capacity = size};
    put_status_line(&out, response);
    for (size_t i = 0; i < response->field_count; i++) {
        const struct message_field *field = &response->fields[i];
        if (is_hop_by_hop(response, field) || is_false_framing(response, field, asked_minor) ||
            (via && field->id == MESSAGE_VIA))
            continue;
        put_field(&out, response, field);
    }
    if (via)
        put_via(&out, response);
    if (response->status == 101 || response->status >= 200)
        put_connection(&out, response->status == 101, asked_minor, connection);
    put_string(&out, "\r\n");
    return out.full ? 0 : out.size;
}
