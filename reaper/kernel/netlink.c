#include "reaper/kernel/netlink.h"

#include "reaper/error.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* #syscalls rest: socket connect setsockopt sendto recvfrom poll close */

/* The kernel fills at most 32 KiB a receive today (net/netlink/af_netlink.c, netlink_recvmsg); a larger
 * buffer costs untouched address space only and keeps working if it ever fills more. */
enum { BUFFER_BYTES = 256 * 1024, ANSWER_S = 5, ATTEMPTS = 5 };

struct netlink {
    int fd;
    uint32_t sequence;
    const atomic_bool *stop; /* NULL: waits for the whole answer time */
    uint8_t buffer[BUFFER_BYTES];
};

/* Connected to the kernel: nobody else can send to it, and plain send and recv do. */
static int netlink_socket(void)
{
    int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (fd < 0)
        return -errno;
    const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    const struct timeval patience = {.tv_sec = ANSWER_S};
    if (connect(fd, (const struct sockaddr *)&kernel, sizeof kernel) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

int netlink_open(struct netlink **out)
{
    struct netlink *netlink = malloc(sizeof *netlink);
    if (!netlink)
        return -ENOMEM;
    netlink->sequence = 0;
    netlink->stop = NULL;
    netlink->fd = netlink_socket();
    if (netlink->fd < 0) {
        int error = netlink->fd;
        free(netlink);
        return error;
    }
    *out = netlink;
    return 0;
}

void netlink_stop_on(struct netlink *netlink, const atomic_bool *stop)
{
    netlink->stop = stop;
}

void netlink_close(struct netlink *netlink)
{
    if (!netlink)
        return;
    close(netlink->fd);
    free(netlink);
}

static int request_send(struct netlink *netlink, const void *bytes, size_t length_bytes)
{
    ssize_t sent;
    do
        sent = send(netlink->fd, bytes, length_bytes, 0);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* Waits for a datagram by and by, to look whether it is to stop. The kernel's answers are there at once,
 * except when one was lost. */
static int reply_await(const struct netlink *netlink)
{
    enum { SLICE_MS = 50 };
    for (int waited_ms = 0; netlink->stop && waited_ms < ANSWER_S * 1000; waited_ms += SLICE_MS) {
        struct pollfd reply = {.fd = netlink->fd, .events = POLLIN};
        if (atomic_load(netlink->stop))
            return -ECANCELED;
        if (poll(&reply, 1, SLICE_MS) > 0)
            break;
    }
    return 0;
}

/* Receives one datagram and readies the reader for it. */
static int reply_receive(struct netlink *netlink, struct diag_reader *reader)
{
    ssize_t length;
    int error = reply_await(netlink);
    if (error)
        return error;
    do
        length = recv(netlink->fd, netlink->buffer, BUFFER_BYTES, MSG_TRUNC);
    while (length < 0 && errno == EINTR);
    if (length < 0)
        return errno == EAGAIN ? -ETIMEDOUT : -errno;
    if (length > BUFFER_BYTES)
        return ERROR_TRUNCATED;
    diag_reader_init(reader, netlink->buffer, (size_t)length, netlink->sequence);
    return 0;
}

/* A dump that was given up leaves datagrams behind, and the kernel refuses a second one on the socket (EBUSY)
 * while the first is unfinished; a fresh socket forgets both. */
static int netlink_reset(struct netlink *netlink)
{
    int fd = netlink_socket();
    if (fd < 0)
        return fd;
    close(netlink->fd);
    netlink->fd = fd;
    return 0;
}

/* Reads datagrams until the dump is done. `interrupted` tells whether any of them was marked inconsistent. */
static int dump_receive(struct netlink *netlink, const struct netlink_sink *sink, bool *interrupted)
{
    for (;;) {
        struct diag_reader reader;
        struct diag_row row;
        int result = reply_receive(netlink, &reader);
        if (result < 0)
            return result;
        while ((result = diag_next(&reader, &row)) == DIAG_MESSAGE_ROW) {
            int stop = sink->row(sink->context, &row);
            if (stop < 0)
                return stop;
        }
        *interrupted |= reader.interrupted;
        if (result < 0)
            return result;
        if (result == DIAG_MESSAGE_DONE)
            return 0;
    }
}

static int dump_once(struct netlink *netlink, const struct diag_filter *filter,
                     const struct netlink_sink *sink, bool *interrupted)
{
    size_t size = diag_dump_size(filter);
    void *request = malloc(size);
    if (!request)
        return -ENOMEM;
    ssize_t length = diag_build_dump(request, size, filter, ++netlink->sequence);
    int error = length < 0 ? (int)length : request_send(netlink, request, (size_t)length);
    free(request);
    if (error)
        return error;
    error = dump_receive(netlink, sink, interrupted);
    if (error) {
        int reset = netlink_reset(netlink);
        if (reset)
            return reset;
    }
    return error;
}

int netlink_dump(struct netlink *netlink, const struct diag_filter *filter, const struct netlink_sink *sink)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        bool interrupted = false;
        if (attempt > 0 && sink->restart)
            sink->restart(sink->context);
        int error = dump_once(netlink, filter, sink, &interrupted);
        if (error || !interrupted)
            return error;
    }
    return ERROR_INTERRUPTED_DUMP;
}

/* Sends a request that has one answer and gives that back: an enum diag_message or an error. */
static int exchange(struct netlink *netlink, const void *request, ssize_t length_bytes, struct diag_row *row)
{
    if (length_bytes < 0)
        return (int)length_bytes;
    int result = request_send(netlink, request, (size_t)length_bytes);
    while (result == 0) {
        struct diag_reader reader;
        result = reply_receive(netlink, &reader);
        if (result == 0)
            result = diag_next(&reader, row);
    }
    return result;
}

int netlink_lookup(struct netlink *netlink, const struct diag_id *id, struct diag_row *row)
{
    uint8_t request[DIAG_REQUEST_SIZE];
    ssize_t length = diag_build_lookup(request, sizeof request, id, true, ++netlink->sequence);
    int result = exchange(netlink, request, length, row);
    if (result < 0)
        return result;
    if (result != DIAG_MESSAGE_ROW)
        return ERROR_MALFORMED;
    if (!diag_endpoint_equal(&row->id.local, &id->local) ||
        !diag_endpoint_equal(&row->id.remote, &id->remote))
        return -ENOENT;
    return 0;
}

int netlink_destroy(struct netlink *netlink, const struct diag_id *id)
{
    uint8_t request[DIAG_REQUEST_SIZE];
    struct diag_row row;
    ssize_t length = diag_build_destroy(request, sizeof request, id, ++netlink->sequence);
    int result = exchange(netlink, request, length, &row);
    if (result < 0)
        return result;
    return result == DIAG_MESSAGE_ACK ? 0 : ERROR_MALFORMED;
}

static int count_row(void *context, const struct diag_row *row)
{
    struct netlink_counts *counts = context;
    if (row->state < DIAG_STATE_COUNT)
        counts->of[row->state]++;
    if (row->inode == 0 && (row->state == DIAG_ESTABLISHED || row->state == DIAG_CLOSE_WAIT))
        counts->never_accepted++;
    return 0;
}

static void count_restart(void *context)
{
    memset(context, 0, sizeof(struct netlink_counts));
}

int netlink_count(struct netlink *netlink, uint16_t port, struct netlink_counts *counts)
{
    const struct diag_filter filter = {
        .states = DIAG_STATES_ALL, .side = DIAG_LOCAL, .ports = &port, .port_count = port ? 1 : 0};
    const struct netlink_sink sink = {.row = count_row, .restart = count_restart, .context = counts};

    memset(counts, 0, sizeof *counts);
    return netlink_dump(netlink, &filter, &sink);
}
