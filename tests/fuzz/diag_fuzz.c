/* Fuzzes the decoder of sock_diag replies. Whatever a datagram is, it is used up after finitely many
 * messages, is never read past its end (the sanitizer sees to that), and each row that comes out can be
 * printed and asked about. */

#include "reaper/error.h"
#include "reaper/kernel/diag.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_row(const struct diag_row *row)
{
    char text[DIAG_ENDPOINT_TEXT];
    uint8_t request[DIAG_REQUEST_SIZE];
    assert(row->id.family == AF_INET || row->id.family == AF_INET6);
    assert(row->id.family == AF_INET6 || diag_host_is_v4(row->id.local.host));
    assert(strlen(diag_endpoint_text(&row->id.local, text)) < sizeof text);
    assert(strlen(diag_endpoint_text(&row->id.remote, text)) < sizeof text);
    assert(diag_state_name(row->state)[0] != '\0');
    assert(diag_build_lookup(request, sizeof request, &row->id, true, 1) == DIAG_REQUEST_SIZE);
    ssize_t length = diag_build_destroy(request, sizeof request, &row->id, 1);
    assert((length > 0) == (row->id.cookie != DIAG_NO_COOKIE));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct diag_reader reader;
    struct diag_row row;
    uint32_t sequence = 0;
    if (size >= 12) /* that of the first message, or nothing would ever be looked at */
        memcpy(&sequence, data + 8, sizeof sequence);
    diag_reader_init(&reader, data, size, sequence);
    for (size_t messages = 0;; messages++) {
        int result = diag_next(&reader, &row);
        assert(messages <= size / 16 + 1);
        if (result == DIAG_MESSAGE_NONE)
            break;
        if (result == DIAG_MESSAGE_ROW)
            check_row(&row);
        assert(result <= DIAG_MESSAGE_ACK);
        assert(reader.left_bytes <= size);
    }
    assert(reader.left_bytes == 0);
    return 0;
}
