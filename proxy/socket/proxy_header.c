#include "proxy/socket/proxy_header.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

static const char v1_begin[] = "PROXY ";
enum { V1_BEGIN = sizeof v1_begin - 1, V1_LINE = 107, V1_WORDS = 5 };

static const uint8_t v2_begin[] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};
enum { V2_BEGIN = sizeof v2_begin, V2_FIXED = 16, V2_FIELD = 3, V2_CHECKSUM = 4 };

/* The two halves of the 13th and the 14th byte. */
enum { COMMAND_LOCAL = 0, COMMAND_PROXY = 1 };
enum { FAMILY_NONE = 0, FAMILY_INET = 1, FAMILY_INET6 = 2, FAMILY_UNIX = 3, FAMILY_COUNT };
enum { TRANSPORT_NONE = 0, TRANSPORT_STREAM = 1, TRANSPORT_DGRAM = 2, TRANSPORT_COUNT };

enum { UNIX_PATH = 108 };
_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == UNIX_PATH, "a path of version 2 fits exactly");

/* Bytes of both addresses, with their ports. */
static const uint16_t addresses_size[FAMILY_COUNT] = {
    [FAMILY_NONE] = 0,
    [FAMILY_INET] = 2 * (4 + 2),
    [FAMILY_INET6] = 2 * (16 + 2),
    [FAMILY_UNIX] = 2 * UNIX_PATH,
};

const char *proxy_header_error_text(enum proxy_header_error error)
{
    static const char *const texts[PROXY_HEADER_ERROR_COUNT] = {[PROXY_HEADER_NO_ERROR] = "no error",
#define X(constant, text) [constant] = (text),
                                                                PROXY_HEADER_ERROR_MAP(X)
#undef X
    };
    return texts[error];
}

static int refuse(enum proxy_header_error error)
{
    return -(int)error;
}

static unsigned get16(const uint8_t *bytes)
{
    return (unsigned)bytes[0] << 8 | bytes[1];
}

static void put16(uint8_t *bytes, size_t value)
{
    bytes[0] = (uint8_t)(value >> 8);
    bytes[1] = (uint8_t)value;
}

/* ---- addresses ---- */

static struct sockaddr_storage inet_address(const uint8_t host[4], unsigned port)
{
    struct sockaddr_storage address = {0};
    struct sockaddr_in *in = (struct sockaddr_in *)&address;
    in->sin_family = AF_INET;
    in->sin_port = htons((uint16_t)port);
    memcpy(&in->sin_addr, host, 4);
    return address;
}

static struct sockaddr_storage inet6_address(const uint8_t host[16], unsigned port)
{
    struct sockaddr_storage address = {0};
    struct sockaddr_in6 *in = (struct sockaddr_in6 *)&address;
    in->sin6_family = AF_INET6;
    in->sin6_port = htons((uint16_t)port);
    memcpy(&in->sin6_addr, host, 16);
    return address;
}

static struct sockaddr_storage unix_address(const uint8_t path[UNIX_PATH])
{
    struct sockaddr_storage address = {0};
    struct sockaddr_un *un = (struct sockaddr_un *)&address;
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, UNIX_PATH);
    return address;
}

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}; /* what IPv4 has in front in IPv6's form */

/* An address of IP in IPv6's form. False: it is none. */
static bool as_inet6(const struct sockaddr_storage *address, uint8_t host[16], uint16_t *port)
{
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        memcpy(host, mapped, sizeof mapped);
        memcpy(host + sizeof mapped, &in->sin_addr, 4);
        *port = ntohs(in->sin_port);
        return true;
    }
    if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)address;
        memcpy(host, &in->sin6_addr, 16);
        *port = ntohs(in->sin6_port);
        return true;
    }
    return false;
}

/* ---- version 1 ---- */

/* A port without a sign or a zero in front, or -1. */
static int read_port(const char *text)
{
    int port = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 5 || text[digits] != '\0' || (digits > 1 && text[0] == '0'))
        return -1;
    for (size_t i = 0; i < digits; i++)
        port = 10 * port + (text[i] - '0');
    return port <= UINT16_MAX ? port : -1;
}

static bool read_text_address(int family, const char *host, const char *port,
                              struct sockaddr_storage *address)
{
    uint8_t bytes[16];
    int number = read_port(port);
    if (number < 0 || inet_pton(family, host, bytes) != 1)
        return false;
    *address =
        family == AF_INET ? inet_address(bytes, (unsigned)number) : inet6_address(bytes, (unsigned)number);
    return true;
}

/* Splits at single spaces, in place. False: there are not exactly `count` words. */
static bool split_words(char *line, char *words[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        words[i] = line;
        size_t size = strcspn(line, " ");
        bool last = i + 1 == count;
        if (size == 0 || (line[size] == '\0') != last)
            return false;
        line[size] = '\0';
        line += last ? size : size + 1;
    }
    return true;
}

/* What stands between "PROXY " and the end of the line. */
static int read_line(struct proxy_header *header, char *line)
{
    char *words[V1_WORDS];
    size_t size = strcspn(line, " ");
    if (size == 7 && memcmp(line, "UNKNOWN", size) == 0)
        return 0;
    if (size != 4 || (memcmp(line, "TCP4", size) != 0 && memcmp(line, "TCP6", size) != 0))
        return refuse(PROXY_HEADER_PROTOCOL);
    int family = line[3] == '4' ? AF_INET : AF_INET6;
    if (!split_words(line, words, V1_WORDS) ||
        !read_text_address(family, words[1], words[3], &header->source) ||
        !read_text_address(family, words[2], words[4], &header->destination))
        return refuse(PROXY_HEADER_ADDRESS);
    header->known = true;
    return 0;
}

static int read_v1(struct proxy_header *header, const uint8_t *bytes, size_t size)
{
    char line[V1_LINE];
    size_t seen = size < V1_LINE ? size : V1_LINE;
    size_t end = 0;
    while (end < seen && bytes[end] != '\r') {
        if (bytes[end] < ' ' || bytes[end] > '~') /* no byte of any valid line, and none that ends one */
            return refuse(PROXY_HEADER_LINE);
        end++;
    }
    if (end + 1 >= seen)
        return size < V1_LINE ? 0 : refuse(PROXY_HEADER_LINE);
    if (bytes[end + 1] != '\n')
        return refuse(PROXY_HEADER_LINE);
    memcpy(line, bytes + V1_BEGIN, end - V1_BEGIN);
    line[end - V1_BEGIN] = '\0';
    header->version = 1;
    int error = read_line(header, line);
    return error ? error : (int)end + 2;
}

/* ---- version 2 ---- */

/* CRC-32C (RFC 9260, appendix A), bit by bit: a header is short and comes once a connection. */
static uint32_t crc32c(uint32_t crc, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    return crc;
}

/* The header's checksum, with zeros where the checksum itself stands. */
static uint32_t checksum_of(const uint8_t *bytes, size_t size, size_t at)
{
    static const uint8_t zeros[V2_CHECKSUM];
    uint32_t crc = crc32c(UINT32_MAX, bytes, at);
    crc = crc32c(crc, zeros, V2_CHECKSUM);
    return ~crc32c(crc, bytes + at + V2_CHECKSUM, size - at - V2_CHECKSUM);
}

/* Network byte order, as any number of version 2 (RFC 9260's own order would be the other). */
static uint32_t get32(const uint8_t *bytes)
{
    return (uint32_t)get16(bytes) << 16 | get16(bytes + 2);
}

/* The field at `*at`, and *at behind it. False: nothing is left, or what is left is none (*at stays). */
static bool next_field(const uint8_t *bytes, size_t size, size_t *at, struct proxy_header_field *field)
{
    if (size - *at < V2_FIELD)
        return false;
    *field = (struct proxy_header_field){
        .type = bytes[*at], .size = (uint16_t)get16(bytes + *at + 1), .value = bytes + *at + V2_FIELD};
    if (field->size > size - *at - V2_FIELD)
        return false;
    *at += V2_FIELD + (size_t)field->size;
    return true;
}

static enum proxy_header_error check_fields(const uint8_t *bytes, size_t size, size_t at)
{
    struct proxy_header_field field;
    bool has_checksum = false;
    while (next_field(bytes, size, &at, &field)) {
        if (field.type == PROXY_HEADER_UNIQUE_ID && field.size > PROXY_HEADER_UNIQUE_ID_MAX)
            return PROXY_HEADER_TLV;
        if (field.type != PROXY_HEADER_CRC32C)
            continue;
        if (field.size != V2_CHECKSUM || has_checksum)
            return PROXY_HEADER_TLV;
        has_checksum = true;
        if (checksum_of(bytes, size, (size_t)(field.value - bytes)) != get32(field.value))
            return PROXY_HEADER_CHECKSUM;
    }
    return at == size ? PROXY_HEADER_NO_ERROR : PROXY_HEADER_TLV;
}

static void read_addresses(struct proxy_header *header, unsigned family, const uint8_t *at)
{
    switch (family) {
    case FAMILY_INET:
        header->source = inet_address(at, get16(at + 8));
        header->destination = inet_address(at + 4, get16(at + 10));
        break;
    case FAMILY_INET6:
        header->source = inet6_address(at, get16(at + 32));
        header->destination = inet6_address(at + 16, get16(at + 34));
        break;
    default:
        header->source = unix_address(at);
        header->destination = unix_address(at + UNIX_PATH);
        break;
    }
}

/* What the first 16 bytes say, as far as they are there. */
static enum proxy_header_error check_fixed(const uint8_t *bytes, size_t size)
{
    if (size > 12 && bytes[12] >> 4 != 2)
        return PROXY_HEADER_VERSION;
    if (size > 12 && (bytes[12] & 15) > COMMAND_PROXY)
        return PROXY_HEADER_COMMAND;
    if (size > 13 && (bytes[13] >> 4 >= FAMILY_COUNT || (bytes[13] & 15) >= TRANSPORT_COUNT))
        return PROXY_HEADER_FAMILY;
    if (size >= V2_FIXED && V2_FIXED + get16(bytes + 14) > PROXY_HEADER_MAX)
        return PROXY_HEADER_SIZE;
    return PROXY_HEADER_NO_ERROR;
}

static int read_v2(struct proxy_header *header, const uint8_t *bytes, size_t size)
{
    enum proxy_header_error error = check_fixed(bytes, size);
    if (error)
        return refuse(error);
    if (size < V2_FIXED)
        return 0;
    unsigned family = bytes[13] >> 4;
    size_t whole = V2_FIXED + get16(bytes + 14);
    size_t behind = V2_FIXED + (size_t)addresses_size[family];
    header->version = 2;
    header->local = (bytes[12] & 15) == COMMAND_LOCAL;
    if (!header->local && behind > whole)
        return refuse(PROXY_HEADER_SHORT);
    if (size < whole)
        return 0;
    /* The block of a LOCAL connection is discarded, whatever it is; a checksum that can be found holds. */
    error = behind <= whole ? check_fields(bytes, whole, behind) : PROXY_HEADER_NO_ERROR;
    if (error == PROXY_HEADER_CHECKSUM || (error && !header->local))
        return refuse(error);
    header->known = !header->local && family != FAMILY_NONE && (bytes[13] & 15) == TRANSPORT_STREAM;
    if (header->known)
        read_addresses(header, family, bytes + V2_FIXED);
    return (int)whole;
}

/* ---- both ---- */

int proxy_header_read(struct proxy_header *header, const uint8_t *bytes, size_t size)
{
    memset(header, 0, sizeof *header);
    if (memcmp(bytes, v1_begin, size < V1_BEGIN ? size : V1_BEGIN) == 0)
        return size < V1_BEGIN ? 0 : read_v1(header, bytes, size);
    if (memcmp(bytes, v2_begin, size < V2_BEGIN ? size : V2_BEGIN) == 0)
        return size < V2_BEGIN ? 0 : read_v2(header, bytes, size);
    return refuse(PROXY_HEADER_FOREIGN);
}

bool proxy_header_find(const uint8_t *bytes, size_t size, uint8_t type, struct proxy_header_field *field)
{
    if (size < V2_FIXED || bytes[0] != v2_begin[0])
        return false;
    size_t at = V2_FIXED + (size_t)addresses_size[bytes[13] >> 4];
    while (at < size && next_field(bytes, size, &at, field))
        if (field->type == type)
            return true;
    return false;
}

static bool is_mapped(const uint8_t host[16])
{
    return memcmp(host, mapped, sizeof mapped) == 0;
}

/* Both addresses as IP, if they are. */
struct ip_ends {
    uint8_t hosts[2][16];
    uint16_t ports[2];
    bool inet6; /* at least one is no IPv4 */
};

static bool ip_ends(const struct proxy_header *header, struct ip_ends *ends)
{
    if (!header->known || !as_inet6(&header->source, ends->hosts[0], &ends->ports[0]) ||
        !as_inet6(&header->destination, ends->hosts[1], &ends->ports[1]))
        return false;
    ends->inet6 = !is_mapped(ends->hosts[0]) || !is_mapped(ends->hosts[1]);
    return true;
}

static size_t write_v1(uint8_t *bytes, size_t space, const struct proxy_header *header)
{
    struct ip_ends ends;
    char line[V1_LINE + 1], hosts[2][INET6_ADDRSTRLEN];
    int size;
    if (ip_ends(header, &ends)) {
        int family = ends.inet6 ? AF_INET6 : AF_INET;
        for (int i = 0; i < 2; i++)
            inet_ntop(family, ends.hosts[i] + (ends.inet6 ? 0 : 12), hosts[i], sizeof hosts[i]);
        size = snprintf(line, sizeof line, "PROXY TCP%c %s %s %u %u\r\n", ends.inet6 ? '6' : '4', hosts[0],
                        hosts[1], ends.ports[0], ends.ports[1]);
    } else {
        size = snprintf(line, sizeof line, "PROXY UNKNOWN\r\n");
    }
    assert(size > 0 && (size_t)size < sizeof line);
    if ((size_t)size > space)
        return 0;
    memcpy(bytes, line, (size_t)size);
    return (size_t)size;
}

/* The family to write, and its two addresses in `out`. */
static unsigned write_addresses(const struct proxy_header *header, uint8_t out[2 * UNIX_PATH])
{
    struct ip_ends ends;
    if (ip_ends(header, &ends)) {
        size_t size = ends.inet6 ? 16 : 4, skip = 16 - size;
        for (size_t i = 0; i < 2; i++) {
            memcpy(out + i * size, ends.hosts[i] + skip, size);
            put16(out + 2 * size + 2 * i, ends.ports[i]);
        }
        return ends.inet6 ? FAMILY_INET6 : FAMILY_INET;
    }
    if (!header->known || header->source.ss_family != AF_UNIX || header->destination.ss_family != AF_UNIX)
        return FAMILY_NONE;
    memcpy(out, ((const struct sockaddr_un *)&header->source)->sun_path, UNIX_PATH);
    memcpy(out + UNIX_PATH, ((const struct sockaddr_un *)&header->destination)->sun_path, UNIX_PATH);
    return FAMILY_UNIX;
}

static size_t write_field(uint8_t *bytes, const struct proxy_header_field *field)
{
    bytes[0] = field->type;
    put16(bytes + 1, field->size);
    if (field->size > 0)
        memcpy(bytes + V2_FIELD, field->value, field->size);
    return V2_FIELD + (size_t)field->size;
}

static size_t write_v2(uint8_t *bytes, size_t space, const struct proxy_header *header,
                       const struct proxy_header_field *fields, size_t field_count, bool checksum)
{
    static const uint8_t zeros[V2_CHECKSUM];
    const struct proxy_header_field crc = {.type = PROXY_HEADER_CRC32C, .size = V2_CHECKSUM, .value = zeros};
    uint8_t addresses[2 * UNIX_PATH];
    unsigned family = write_addresses(header, addresses);
    size_t size = V2_FIXED + (size_t)addresses_size[family] + (checksum ? V2_FIELD + V2_CHECKSUM : 0);
    for (size_t i = 0; i < field_count; i++)
        size += V2_FIELD + (size_t)fields[i].size;
    if (size > space || size - V2_FIXED > UINT16_MAX)
        return 0;
    memcpy(bytes, v2_begin, V2_BEGIN);
    bytes[12] = (uint8_t)(2 << 4 | (header->local ? COMMAND_LOCAL : COMMAND_PROXY));
    bytes[13] = (uint8_t)(family << 4 | (family == FAMILY_NONE ? TRANSPORT_NONE : TRANSPORT_STREAM));
    put16(bytes + 14, size - V2_FIXED);
    memcpy(bytes + V2_FIXED, addresses, addresses_size[family]);
    size_t at = V2_FIXED + (size_t)addresses_size[family];
    for (size_t i = 0; i < field_count; i++)
        at += write_field(bytes + at, &fields[i]);
    if (checksum) {
        at += write_field(bytes + at, &crc);
        uint32_t sum = checksum_of(bytes, size, at - V2_CHECKSUM);
        put16(bytes + at - V2_CHECKSUM, sum >> 16);
        put16(bytes + at - V2_CHECKSUM + 2, sum & UINT16_MAX);
    }
    assert(at == size);
    return size;
}

size_t proxy_header_write(uint8_t *bytes, size_t space, const struct proxy_header *header,
                          const struct proxy_header_field *fields, size_t field_count, bool checksum)
{
    assert(header->version == 1 || header->version == 2);
    return header->version == 1 ? write_v1(bytes, space, header)
                                : write_v2(bytes, space, header, fields, field_count, checksum);
}
