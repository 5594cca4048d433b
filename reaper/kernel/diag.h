#ifndef REAPER_KERNEL_DIAG_H
#define REAPER_KERNEL_DIAG_H

/* The sock_diag codec for TCP: filters in, request bytes out; reply bytes in, rows out.
 *
 * It is pure: no system call, no allocation, no clock; the caller owns every buffer, and any thread may call
 * it. Reply bytes may be anything: a length that lies, a message cut anywhere, a type never heard of. What
 * can't be read is an error or is skipped, never read past its end. Requests go to one network namespace and
 * say nothing about how long a socket has been idle: the kernel has no such filter.
 *
 * What it refuses: to build a SOCK_DESTROY without a cookie. With INET_DIAG_NOCOOKIE the kernel looks the
 * addresses up like an arriving segment, so when the connection has vanished it finds, and aborts, the
 * *listening* socket (net/ipv4/inet_diag.c, inet_diag_find_one_icsk).
 *
 * Sources: sock_diag(7), netlink(7), include/uapi/linux/inet_diag.h, net/ipv4/inet_diag.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* TCP's states as the kernel numbers them (include/net/tcp_states.h), and their names on a command line. */
#define DIAG_STATE_MAP(X)                                                                                    \
    X(DIAG_ESTABLISHED, 1, "established")                                                                    \
    X(DIAG_SYN_SENT, 2, "syn-sent")                                                                          \
    X(DIAG_SYN_RECV, 3, "syn-recv")                                                                          \
    X(DIAG_FIN_WAIT_1, 4, "fin-wait-1")                                                                      \
    X(DIAG_FIN_WAIT_2, 5, "fin-wait-2")                                                                      \
    X(DIAG_TIME_WAIT, 6, "time-wait")                                                                        \
    X(DIAG_CLOSE, 7, "close")                                                                                \
    X(DIAG_CLOSE_WAIT, 8, "close-wait")                                                                      \
    X(DIAG_LAST_ACK, 9, "last-ack")                                                                          \
    X(DIAG_LISTEN, 10, "listen")                                                                             \
    X(DIAG_CLOSING, 11, "closing")                                                                           \
    X(DIAG_NEW_SYN_RECV, 12, "new-syn-recv")                                                                 \
    X(DIAG_BOUND_INACTIVE, 13, "bound-inactive")

enum diag_state {
#define X(constant, number, name) constant = (number),
    DIAG_STATE_MAP(X)
#undef X
        DIAG_STATE_COUNT = 14 /* number 0 is no state */
};

#define DIAG_STATE_BIT(state) (UINT32_C(1) << (state))
#define DIAG_STATES_ALL UINT32_MAX

/* An address and a port. The host is in IPv6's form, with IPv4 as ::ffff:a.b.c.d (RFC 4291, 2.5.5.2), so that
 * an IPv4 socket, and an IPv6 socket that carries IPv4, compare equal byte by byte. */
struct diag_endpoint {
    uint8_t host[16];
    uint16_t port; /* host order */
};

/* What names one socket for the kernel. */
struct diag_id {
    uint8_t family; /* of the socket: AF_INET, or AF_INET6 also when the addresses are IPv4 */
    struct diag_endpoint local, remote;
    uint32_t interface; /* index, 0: none */
    uint64_t cookie;    /* as getsockopt(SO_COOKIE) gives it; DIAG_NO_COOKIE: unknown */
};

#define DIAG_NO_COOKIE UINT64_MAX

/* The part of struct tcp_info that says what a connection has been doing. A kernel too old for a field leaves
 * 0. */
struct diag_info {
    uint32_t last_data_sent_ms; /* since; likewise the other two */
    uint32_t last_data_recv_ms;
    uint32_t last_ack_recv_ms; /* a FIN stamps it, too */
    uint32_t rtt_us;
    uint32_t retransmits; /* unanswered ones in a row */
    uint32_t unacked;     /* segments */
    uint32_t notsent_bytes;
    uint64_t acked_bytes;
    uint64_t received_bytes; /* a FIN counts one */
    uint64_t sent_bytes;
};

struct diag_row {
    struct diag_id id;
    struct diag_info info; /* zeroes unless has_info */
    uint32_t timer_ms;     /* until the timer fires */
    uint32_t rqueue_bytes; /* unread, the FIN counting one; of a listening socket: backlog in use */
    uint32_t wqueue_bytes; /* unacknowledged; of a listening socket: the backlog's size */
    uint32_t uid;
    uint32_t inode; /* 0: no process has it as an fd (not accepted yet, or orphaned) */
    uint8_t state;  /* enum diag_state, or a number that this list doesn't have */
    uint8_t timer;  /* 0 none, 1 retransmission, 2 keepalive or other, 3 TIME_WAIT, 4 zero window */
    uint8_t timer_tries;
    bool has_info;
    bool v6_only; /* of a listening IPv6 socket: IPV6_V6ONLY is set */
};

/* Which of a socket's two ports a filter looks at. */
enum diag_side { DIAG_LOCAL, DIAG_REMOTE, DIAG_EITHER };

/* The leading bits of a host in the form above: 127.0.0.0/8 has 96 + 8. */
struct diag_prefix {
    uint8_t host[16];
    uint8_t bits;
};

/* Which sockets to dump. All parts that are given must hold; of the ports one must. */
struct diag_filter {
    uint32_t states; /* a mask of DIAG_STATE_BIT */
    enum diag_side side;
    const uint16_t *ports;                              /* host order */
    size_t port_count;                                  /* 0: any port */
    const struct diag_prefix *local_host, *remote_host; /* NULL: any */
    bool want_info;                                     /* costs the kernel some time for each row */
};

/* A dump request for IPv4 and IPv6 sockets into `buffer`. Returns its length in bytes, -ENOBUFS when `size`
 * is below diag_dump_size(), or -E2BIG when the ports don't fit in the bytecode's 16-bit jumps (5,461
 * comparisons; DIAG_EITHER takes two a port). */
ssize_t diag_build_dump(void *buffer, size_t size, const struct diag_filter *filter, uint32_t sequence);

/* Bytes that diag_build_dump needs for this filter. */
size_t diag_dump_size(const struct diag_filter *filter);

/* Bytes that the two requests below need. */
enum { DIAG_REQUEST_SIZE = 72 };

/* A request for the row of one socket; the kernel answers with it or -ENOENT. Without a cookie the answer may
 * be the listening socket of that port: compare the addresses. Returns the length, or -ENOBUFS. */
ssize_t diag_build_lookup(void *buffer, size_t size, const struct diag_id *id, bool want_info,
                          uint32_t sequence);

/* A request to destroy that socket (SOCK_DESTROY). The kernel answers with an acknowledgement, or -ENOENT
 * (gone, or another cookie), -EPERM (no CAP_NET_ADMIN) or -EOPNOTSUPP (no CONFIG_INET_DIAG_DESTROY). Returns
 * the length, -ENOBUFS, or -EINVAL for an id without a cookie. */
ssize_t diag_build_destroy(void *buffer, size_t size, const struct diag_id *id, uint32_t sequence);

/* Reads the messages of one received datagram. */
struct diag_reader {
    const uint8_t *at;
    size_t left_bytes;
    uint32_t sequence;
    bool interrupted; /* the kernel marked the dump as inconsistent: do it again */
};

enum diag_message {
    DIAG_MESSAGE_NONE, /* the datagram is used up */
    DIAG_MESSAGE_ROW,
    DIAG_MESSAGE_DONE, /* the dump is complete */
    DIAG_MESSAGE_ACK,  /* the request was carried out */
};

/* `bytes` must stay until the reader is used up. Messages with another sequence number are skipped. */
void diag_reader_init(struct diag_reader *reader, const void *bytes, size_t length_bytes, uint32_t sequence);

/* The next message, an enum diag_message; `row` is filled in for DIAG_MESSAGE_ROW only. Negative: the
 * kernel's error for the request, -ENOBUFS (NLMSG_OVERRUN), ERROR_TRUNCATED or ERROR_MALFORMED. After
 * ERROR_TRUNCATED or ERROR_MALFORMED nothing more comes from this datagram. */
int diag_next(struct diag_reader *reader, struct diag_row *row);

/* "close-wait"; "unknown" for a number without a name. Static storage. */
const char *diag_state_name(unsigned state);

/* The state with this name, or -EINVAL. */
int diag_state_parse(const char *name);

/* Whether the host is an IPv4 address. */
bool diag_host_is_v4(const uint8_t host[16]);

/* Whether it is 0.0.0.0 or ::. */
bool diag_host_is_any(const uint8_t host[16]);

/* The endpoint of a socket address; false for one that is not IPv4 or IPv6. */
bool diag_endpoint_of(const struct sockaddr_storage *address, struct diag_endpoint *endpoint);

bool diag_endpoint_equal(const struct diag_endpoint *a, const struct diag_endpoint *b);

/* Room for any endpoint as text, with its end. */
enum { DIAG_HOST_TEXT = 46, DIAG_ENDPOINT_TEXT = 56 };

/* "127.0.0.1", "::1"; IPv4 always dotted. Returns `text`. */
const char *diag_host_text(const uint8_t host[16], char text[DIAG_HOST_TEXT]);

/* "127.0.0.1:80", "[::1]:80". Returns `text`. */
const char *diag_endpoint_text(const struct diag_endpoint *endpoint, char text[DIAG_ENDPOINT_TEXT]);

#endif
