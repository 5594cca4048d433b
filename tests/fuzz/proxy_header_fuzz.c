/* Fuzzes the reader of PROXY protocol headers. However the bytes are cut, the same header is found, or the
 * same flaw; and a header that was read is written so that it reads as the same. */

#include "proxy/socket/proxy_header.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* From memory that ends where the bytes do. */
static int read_exactly(struct proxy_header *header, const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    assert(copy);
    memcpy(copy, data, size);
    int result = proxy_header_read(header, copy, size);
    free(copy);
    return result;
}

static void check_written(const struct proxy_header *header, const uint8_t *data, size_t size)
{
    uint8_t bytes[PROXY_HEADER_MAX];
    struct proxy_header again;
    struct proxy_header_field field;
    struct proxy_header_field *fields =
        proxy_header_find(data, size, PROXY_HEADER_UNIQUE_ID, &field) ? &field : NULL;
    size_t length =
        proxy_header_write(bytes, sizeof bytes, header, fields, fields != NULL, header->version == 2);
    assert(length > 0 && proxy_header_read(&again, bytes, length) == (int)length);
    if (header->version == 2 && (!header->known || header->source.ss_family != AF_INET6))
        assert(memcmp(header, &again, sizeof again) == 0);
    assert(again.known == header->known && again.local == (header->local && header->version == 2));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header header, part;
    int whole = read_exactly(&header, data, size);
    for (size_t cut = 0; cut <= size && cut <= PROXY_HEADER_MAX + 1; cut += cut < 300 ? 1 : 97) {
        int result = read_exactly(&part, data, cut);
        assert(result == 0 || result == whole);
        if (whole > 0)
            assert((result > 0) == (cut >= (size_t)whole));
        else if (result < 0)
            break;
    }
    assert(whole <= PROXY_HEADER_MAX && (whole <= 0 || (size_t)whole <= size));
    assert(whole != 0 || size < PROXY_HEADER_MAX);
    if (whole > 0)
        check_written(&header, data, (size_t)whole);
    return 0;
}
