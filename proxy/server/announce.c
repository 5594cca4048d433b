#include "proxy/server/announce.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>

/* #syscalls worker: getsockname getpeername */

size_t announce_write(uint8_t bytes[static ANNOUNCE_MAX], enum conf_send_proxy how,
                      struct proxy_header *header, uint64_t id)
{
    char text[24];
    int length = snprintf(text, sizeof text, "%" PRIu64, id);
    const struct proxy_header_field unique_id = {
        .type = PROXY_HEADER_UNIQUE_ID, .value = (const uint8_t *)text, .size = (uint16_t)length};
    assert(how != CONF_SEND_PROXY_OFF && length > 0);
    header->version = how == CONF_SEND_PROXY_V1 ? 1 : 2;
    size_t size = proxy_header_write(bytes, ANNOUNCE_MAX, header, &unique_id, id > 0 ? 1 : 0,
                                     how == CONF_SEND_PROXY_V2_CRC32C);
    assert(size > 0);
    return size;
}

size_t announce_write_own(uint8_t bytes[static ANNOUNCE_MAX], enum conf_send_proxy how, int fd)
{
    struct proxy_header header = {.local = how != CONF_SEND_PROXY_V1};
    socklen_t source_size = sizeof header.source;
    socklen_t destination_size = sizeof header.destination;
    header.known = how == CONF_SEND_PROXY_V1 &&
                   getsockname(fd, (struct sockaddr *)&header.source, &source_size) == 0 &&
                   getpeername(fd, (struct sockaddr *)&header.destination, &destination_size) == 0;
    return announce_write(bytes, how, &header, 0);
}
