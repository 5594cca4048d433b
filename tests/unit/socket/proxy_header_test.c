#include "proxy/socket/proxy_header.h"

#include "tests/unit/cmocka.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

/* A literal with its length, which may hold zeros. */
struct text {
    const char *at;
    size_t size;
};
#define TEXT(literal)                                                                                        \
    {                                                                                                        \
        (literal), sizeof(literal) - 1                                                                       \
    }

static const char *address_text(const struct sockaddr_storage *address, char text[128])
{
    char host[INET6_ADDRSTRLEN];
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        snprintf(text, 128, "%s %u", inet_ntop(AF_INET, &in->sin_addr, host, sizeof host),
                 ntohs(in->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)address;
        snprintf(text, 128, "%s %u", inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host),
                 ntohs(in->sin6_port));
    } else if (address->ss_family == AF_UNIX) {
        snprintf(text, 128, "%.108s", ((const struct sockaddr_un *)address)->sun_path);
    } else {
        snprintf(text, 128, "none");
    }
    return text;
}

/* Reads from memory that ends where the bytes do, so that a sanitizer or valgrind sees a read beyond. */
static int read_exactly(struct proxy_header *header, const char *bytes, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    int result = proxy_header_read(header, copy, size);
    free(copy);
    return result;
}

/* Whatever comes of the whole comes of every way to cut it: more is needed until the last byte of a good
 * header, and what refuses a bad one is found at some byte and stays the same behind it. */
static int read_in_every_split(struct proxy_header *header, const struct text *text)
{
    int whole = read_exactly(header, text->at, text->size);
    bool decided = false;
    for (size_t size = 0; size <= text->size; size++) {
        struct proxy_header part;
        int result = read_exactly(&part, text->at, size);
        assert_true(result == 0 || result == whole);
        assert_true(result != 0 || !decided);
        decided = result != 0;
        if (whole > 0)
            assert_int_equal(decided, size >= (size_t)whole);
    }
    return whole;
}

/* ---- reading ---- */

/* The four lines of the specification's section 2.1, its example, and what stands behind a header. */
static void version_1_is_read(void **state)
{
    static const struct {
        struct text text;
        int size;
        const char *source, *destination; /* NULL: the connection's own */
    } rows[] = {
        {TEXT("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), 56, "255.255.255.255 65535",
         "255.255.255.255 65535"},
        {TEXT("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
              "65535 "
              "65535\r\n"),
         104, "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535",
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535"},
        {TEXT("PROXY UNKNOWN\r\n"), 15, NULL, NULL},
        {TEXT("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
              "65535 "
              "65535\r\n"),
         107, NULL, NULL},
        {TEXT("PROXY UNKNOWN anything at all\r\nGET"), 31, NULL, NULL},
        {TEXT(
             "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\nGET / HTTP/1.1\r\nHost: 192.168.0.11\r\n\r\n"),
         47, "192.168.0.1 56324", "192.168.0.11 443"},
        {TEXT("PROXY TCP6 2001:DB8::7 ::1 0 1\r\n\r\n"), 32, "2001:db8::7 0", "::1 1"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct proxy_header header;
        char text[128];
        assert_int_equal(read_in_every_split(&header, &rows[i].text), rows[i].size);
        assert_int_equal(header.version, 1);
        assert_false(header.local);
        assert_int_equal(header.known, rows[i].source != NULL);
        if (!rows[i].source)
            continue;
        assert_string_equal(address_text(&header.source, text), rows[i].source);
        assert_string_equal(address_text(&header.destination, text), rows[i].destination);
    }
}

static void version_2_is_read(void **state)
{
    static const struct {
        struct text text;
        int size;
        bool local;
        const char *source, *destination;
    } rows[] = {
        {TEXT(SIGNATURE "\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbbGET"), 28, false,
         "192.0.2.7 56324", "198.51.100.1 443"},
        {TEXT(SIGNATURE "\x21\x21\x00\x24"
                        "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"
                        "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01"
                        "\x00\x00\xff\xff"),
         52, false, "2001:db8::7 0", "::1 65535"},
        {TEXT(SIGNATURE "\x20\x00\x00\x00"), 16, true, NULL, NULL},
        {TEXT(SIGNATURE "\x20\x11\x00\x05"
                        "trash"),
         21, true, NULL, NULL}, /* discarded, whatever it is */
        {TEXT(SIGNATURE "\x21\x00\x00\x00"), 16, false, NULL, NULL},
        {TEXT(SIGNATURE "\x21\x12\x00\x0c"
                        "\x01\x02\x03\x04\x05\x06\x07\x08\x00\x09\x00\x0a"),
         28, false, NULL, NULL}, /* UDP, which this is not */
        {TEXT(SIGNATURE "\x21\x00\x00\x06"
                        "\xe0\x00\x03"
                        "abc"),
         22, false, NULL, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct proxy_header header;
        char text[128];
        assert_int_equal(read_in_every_split(&header, &rows[i].text), rows[i].size);
        assert_int_equal(header.version, 2);
        assert_int_equal(header.local, rows[i].local);
        assert_int_equal(header.known, rows[i].source != NULL);
        if (!rows[i].source)
            continue;
        assert_string_equal(address_text(&header.source, text), rows[i].source);
        assert_string_equal(address_text(&header.destination, text), rows[i].destination);
    }
}

/* As HAProxy 2.6.12 wrote it, with `send-proxy-v2 proxy-v2-options crc32c,unique-id`. */
static void what_haproxy_sends_is_read(void **state)
{
    static const struct text text =
        TEXT(SIGNATURE "\x21\x11\x00\x22\x7f\x00\x00\x01\x7f\x00\x00\x01\x89\xa8\x1b\x59"
                       "\x03\x00\x04\xc9\x3a\x50\xe2\x05\x00\x0cid-127.0.0.1x");
    struct proxy_header header;
    struct proxy_header_field field;
    char bytes[64];
    (void)state;
    assert_int_equal(read_in_every_split(&header, &text), 50);
    assert_true(header.known);
    assert_true(proxy_header_find((const uint8_t *)text.at, 50, PROXY_HEADER_UNIQUE_ID, &field));
    assert_int_equal(field.size, 12);
    assert_memory_equal(field.value, "id-127.0.0.1", 12);
    assert_false(proxy_header_find((const uint8_t *)text.at, 50, PROXY_HEADER_AUTHORITY, &field));
    for (size_t i = 16; i < 50; i++) { /* a byte that is another is noticed */
        memcpy(bytes, text.at, 50);
        bytes[i] ^= 0x10;
        assert_true(read_exactly(&header, bytes, 50) < 0 || i == 28 || i == 29 || i == 30);
    }
}

static void what_is_no_header_is_refused(void **state)
{
    static const struct {
        struct text text;
        enum proxy_header_error error;
    } rows[] = {
        {TEXT("GET / HTTP/1.1\r\n\r\n"), PROXY_HEADER_FOREIGN},
        {TEXT("P"
              "ROXX TCP4"),
         PROXY_HEADER_FOREIGN},
        {TEXT("proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n"), PROXY_HEADER_FOREIGN},
        {TEXT("\r\n\r\n\r\n"), PROXY_HEADER_FOREIGN},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"), PROXY_HEADER_LINE},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx"), PROXY_HEADER_LINE},
        {TEXT("PROXY UNKNOWN \0\r\n"), PROXY_HEADER_LINE},
        {TEXT("PROXY UNKNOWN "
              "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
              "xxxxxxxxx\r\n"),
         PROXY_HEADER_LINE},
        {TEXT("PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n"), PROXY_HEADER_PROTOCOL},
        {TEXT("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n"), PROXY_HEADER_PROTOCOL},
        {TEXT("PROXY \r\n"), PROXY_HEADER_PROTOCOL},
        {TEXT("PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n"), PROXY_HEADER_PROTOCOL},
        {TEXT("PROXY TCP4\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 -2\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP4 1.2.3.4 1.2.3.4 1 +2\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP4 ::1 ::1 1 2\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP6 ::1%lo ::1 1 2\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT("PROXY TCP6 :::1 ::1 1 2\r\n"), PROXY_HEADER_ADDRESS},
        {TEXT(SIGNATURE "\x11\x11\x00\x0c"), PROXY_HEADER_VERSION},
        {TEXT(SIGNATURE "\x22\x11\x00\x0c"), PROXY_HEADER_COMMAND},
        {TEXT(SIGNATURE "\x21\x41\x00\x0c"), PROXY_HEADER_FAMILY},
        {TEXT(SIGNATURE "\x21\x13\x00\x0c"), PROXY_HEADER_FAMILY},
        {TEXT(SIGNATURE "\x21\x11\x0f\xf1"), PROXY_HEADER_SIZE},
        {TEXT(SIGNATURE "\x21\x11\xff\xff"), PROXY_HEADER_SIZE},
        {TEXT(SIGNATURE "\x21\x11\x00\x0b"), PROXY_HEADER_SHORT},
        {TEXT(SIGNATURE "\x21\x21\x00\x23"), PROXY_HEADER_SHORT},
        {TEXT(SIGNATURE "\x21\x31\x00\xd7"), PROXY_HEADER_SHORT},
        {TEXT(SIGNATURE "\x21\x00\x00\x02\xe0\x00"), PROXY_HEADER_TLV},
        {TEXT(SIGNATURE "\x21\x00\x00\x04\xe0\x00\x02x"), PROXY_HEADER_TLV},
        {TEXT(SIGNATURE "\x21\x00\x00\x06\x03\x00\x03"
                        "abc"),
         PROXY_HEADER_TLV},
        {TEXT(SIGNATURE "\x21\x00\x00\x07\x03\x00\x04\0\0\0\0"), PROXY_HEADER_CHECKSUM},
        {TEXT(SIGNATURE "\x20\x00\x00\x07\x03\x00\x04\0\0\0\0"), PROXY_HEADER_CHECKSUM},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct proxy_header header;
        assert_int_equal(-read_in_every_split(&header, &rows[i].text), rows[i].error);
    }
    for (enum proxy_header_error error = 0; error < PROXY_HEADER_ERROR_COUNT; error++)
        assert_true(strlen(proxy_header_error_text(error)) > 0);
}

/* ---- writing ---- */

static struct sockaddr_storage inet(int family, const char *host, uint16_t port)
{
    struct sockaddr_storage address = {0};
    address.ss_family = (sa_family_t)family;
    if (family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)&address;
        in->sin_port = htons(port);
        assert_int_equal(inet_pton(family, host, &in->sin_addr), 1);
    } else {
        struct sockaddr_in6 *in = (struct sockaddr_in6 *)&address;
        in->sin6_port = htons(port);
        assert_int_equal(inet_pton(family, host, &in->sin6_addr), 1);
    }
    return address;
}

static struct sockaddr_storage path(const char *text)
{
    struct sockaddr_storage address = {0};
    struct sockaddr_un *un = (struct sockaddr_un *)&address;
    un->sun_family = AF_UNIX;
    strncpy(un->sun_path, text, sizeof un->sun_path - 1);
    return address;
}

static void version_1_is_written(void **state)
{
    const struct {
        struct proxy_header header;
        const char *text;
    } rows[] = {
        {{1, false, true, inet(AF_INET, "192.168.0.1", 56324), inet(AF_INET, "192.168.0.11", 443)},
         "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"},
        {{1, false, true, inet(AF_INET6, "2001:db8::7", 1), inet(AF_INET6, "::1", 2)},
         "PROXY TCP6 2001:db8::7 ::1 1 2\r\n"},
        {{1, false, true, inet(AF_INET6, "::ffff:192.0.2.7", 1), inet(AF_INET6, "::ffff:192.0.2.8", 2)},
         "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n"},
        {{1, false, true, inet(AF_INET, "192.0.2.7", 1), inet(AF_INET6, "2001:db8::8", 2)},
         "PROXY TCP6 ::ffff:192.0.2.7 2001:db8::8 1 2\r\n"},
        {{1, false, true, path("/run/a"), path("/run/b")}, "PROXY UNKNOWN\r\n"},
        {{.version = 1}, "PROXY UNKNOWN\r\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint8_t bytes[PROXY_HEADER_MAX];
        size_t size = strlen(rows[i].text);
        assert_int_equal(proxy_header_write(bytes, sizeof bytes, &rows[i].header, NULL, 0, false), size);
        assert_memory_equal(bytes, rows[i].text, size);
        assert_int_equal(proxy_header_write(bytes, size - 1, &rows[i].header, NULL, 0, false), 0);
    }
}

static void version_2_is_written_as_it_is_read(void **state)
{
    const struct proxy_header rows[] = {
        {2, false, true, inet(AF_INET, "192.0.2.7", 56324), inet(AF_INET, "198.51.100.1", 443)},
        {2, false, true, inet(AF_INET6, "2001:db8::7", 0), inet(AF_INET6, "::1", 65535)},
        {2, false, true, path("/run/a"), path("")},
        {.version = 2, .local = true},
        {.version = 2},
    };
    static const uint8_t value[300] = "x";
    const struct proxy_header_field fields[] = {
        {.type = PROXY_HEADER_UNIQUE_ID, .value = value, .size = PROXY_HEADER_UNIQUE_ID_MAX},
        {.type = PROXY_HEADER_CUSTOM, .value = NULL, .size = 0},
        {.type = PROXY_HEADER_AUTHORITY, .value = value, .size = sizeof value},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        for (size_t count = 0; count <= 3; count++)
            for (int checksum = 0; checksum < 2; checksum++) {
                uint8_t bytes[PROXY_HEADER_MAX];
                struct proxy_header header;
                struct proxy_header_field field;
                size_t size = proxy_header_write(bytes, sizeof bytes, &rows[i], fields, count, checksum);
                const struct text text = {(const char *)bytes, size};
                assert_true(size >= 16);
                assert_int_equal(read_in_every_split(&header, &text), size);
                assert_memory_equal(&header.source, &rows[i].source, sizeof header.source);
                assert_memory_equal(&header.destination, &rows[i].destination, sizeof header.destination);
                assert_int_equal(header.local, rows[i].local);
                assert_int_equal(proxy_header_find(bytes, size, PROXY_HEADER_CUSTOM, &field), count > 1);
                assert_int_equal(proxy_header_find(bytes, size, PROXY_HEADER_CRC32C, &field), checksum);
                assert_int_equal(proxy_header_write(bytes, size - 1, &rows[i], fields, count, checksum), 0);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_1_is_read),          cmocka_unit_test(version_2_is_read),
        cmocka_unit_test(what_haproxy_sends_is_read), cmocka_unit_test(what_is_no_header_is_refused),
        cmocka_unit_test(version_1_is_written),       cmocka_unit_test(version_2_is_written_as_it_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
