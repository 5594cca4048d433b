#include "proxy/socket/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* #syscalls worker: socket connect accept4 setsockopt getsockopt getsockname shutdown ioctl close */

_Static_assert(sizeof(struct sockaddr_in6) == 28, "a socket_address holds any TCP peer");

const char *socket_text(const union socket_address *address, char text[SOCKET_TEXT])
{
    char host[INET6_ADDRSTRLEN];
    if (address->family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, address->bytes, sizeof in);
        inet_ntop(AF_INET, &in.sin_addr, host, sizeof host);
        snprintf(text, SOCKET_TEXT, "%s:%u", host, ntohs(in.sin_port));
    } else if (address->family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, address->bytes, sizeof in6);
        inet_ntop(AF_INET6, &in6.sin6_addr, host, sizeof host);
        snprintf(text, SOCKET_TEXT, "[%s]:%u", host, ntohs(in6.sin6_port));
    } else {
        snprintf(text, SOCKET_TEXT, "unix");
    }
    return text;
}

/* An option that a kernel or a family may not know is no reason to refuse the connection. */
static void set_int(int fd, int level, int option, int value)
{
    (void)setsockopt(fd, level, option, &value, sizeof value);
}

/* Numbers of this host, read once. */
static pthread_once_t host_once = PTHREAD_ONCE_INIT;
static struct {
    unsigned ports[2];        /* ip_local_port_range; all, where the kernel does not tell */
    unsigned receive[3];      /* tcp_rmem: the third is what a receive buffer grows to by itself */
    unsigned receive_most[1]; /* rmem_max: what setsockopt() grants half a receive buffer */
} host = {.ports = {1, UINT16_MAX}};

/* Leaves the numbers as they are where there are fewer than `count` in the file. */
static void read_numbers(const char *path, unsigned *numbers, int count)
{
    unsigned read[3] = {0};
    char line[64] = "";
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    if (fgets(line, sizeof line, file) && sscanf(line, "%u %u %u", &read[0], &read[1], &read[2]) >= count)
        memcpy(numbers, read, (size_t)count * sizeof *numbers);
    fclose(file);
}

static void read_host(void)
{
    read_numbers("/proc/sys/net/ipv4/ip_local_port_range", host.ports, 2);
    read_numbers("/proc/sys/net/ipv4/tcp_rmem", host.receive, 3);
    read_numbers("/proc/sys/net/core/rmem_max", host.receive_most, 1);
}

/* SO_RCVBUF is half of what it grants (socket(7)), and ends the kernel's own fitting of the buffer to the
 * path (tcp(7)): so it is left alone where that stays below the bound by itself, and where the kernel would
 * grant less than was asked for. TCP_WINDOW_CLAMP is no bound: it follows the buffer when that grows
 * (net/ipv4/tcp_input.c, tcp_rcv_space_adjust). */
static void bound_buffers(int fd, const struct conf_tcp *tcp)
{
    (void)pthread_once(&host_once, read_host);
    if (tcp->receive_buffer > 0 && tcp->receive_buffer < host.receive[2] &&
        tcp->receive_buffer / 2 <= host.receive_most[0])
        set_int(fd, SOL_SOCKET, SO_RCVBUF, (int)(tcp->receive_buffer / 2));
    if (tcp->send_buffer > 0)
        set_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, (int)tcp->send_buffer);
}

static void set_tcp(int fd, const struct conf_tcp *tcp)
{
    /* An urgent byte keeps its place in the stream (RFC 6093, 5 advises it); relay.c passes the mark on. */
    set_int(fd, SOL_SOCKET, SO_OOBINLINE, 1);
    if (tcp->nodelay)
        set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (tcp->keepalive_ms != DEADLINE_OFF) {
        set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)(tcp->keepalive_ms / 1000));
        set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    }
    if (tcp->user_timeout_ms != DEADLINE_OFF)
        set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)tcp->user_timeout_ms);
    bound_buffers(fd, tcp);
}

static int new_socket(const struct conf_address *address, const struct conf_tcp *tcp)
{
    int family = address->address.ss_family;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (family != AF_UNIX)
        set_tcp(fd, tcp);
    return fd;
}

static int close_with(int fd, int error)
{
    close(fd);
    return error;
}

static const char *path_of(const struct conf_address *address)
{
    return ((const struct sockaddr_un *)&address->address)->sun_path;
}

/* The file of a listener that died is in the way of the next one; that of a living one is not ours to
 * remove. A datagram socket can't connect to a stream, but learns whether anybody holds it: ECONNREFUSED
 * or EPROTOTYPE (net/unix/af_unix.c, unix_find_bsd). The living one gets no connection that nobody uses. */
static void remove_stale(const struct conf_address *address)
{
    struct stat status;
    if (stat(path_of(address), &status) || !S_ISSOCK(status.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    if (connect(fd, (const struct sockaddr *)&address->address, address->length) && errno == ECONNREFUSED)
        unlink(path_of(address));
    close(fd);
}

int socket_listen(const struct conf_address *address, const struct conf_tcp *tcp, enum socket_share share)
{
    int fd = new_socket(address, tcp);
    if (fd < 0)
        return fd;
    int family = address->address.ss_family;
    (void)pthread_once(&host_once, read_host); /* before any worker, which may not open files */
    if (family == AF_UNIX)
        remove_stale(address);
    else
        set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (family == AF_INET6)
        set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (share == SOCKET_BESIDE)
        set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (bind(fd, (const struct sockaddr *)&address->address, address->length))
        return close_with(fd, -errno);
    /* Only now: bound with it, the first would take a place beside the sockets of any other process of this
     * user, and a proxy started twice by mistake would share its clients with itself. */
    if (share == SOCKET_FIRST)
        set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    /* The kernel cuts this down to net.core.somaxconn. */
    if (listen(fd, 65535) == 0)
        return fd;
    int error = -errno;
    if (family == AF_UNIX)
        unlink(path_of(address));
    return close_with(fd, error);
}

int socket_bound(int fd, struct conf_address *address)
{
    address->length = sizeof address->address;
    return getsockname(fd, (struct sockaddr *)&address->address, &address->length) ? -errno : 0;
}

/* What accept() passes on of the connection it took off the backlog (accept(2), "Error handling"): the next
 * one may be sound. */
static bool was_of_connection(int error)
{
    switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
        return true;
    default:
        return false;
    }
}

int socket_accept(int fd, union socket_address *peer)
{
    socklen_t length = sizeof peer->bytes;
    memset(peer, 0, sizeof *peer);
    int accepted;
    do {
        accepted = accept4(fd, &peer->any, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    } while (accepted < 0 && was_of_connection(errno));
    return accepted < 0 ? -errno : accepted;
}

/* ---- sockets that connect to themselves ----
 *
 * For a socket without an address connect() chooses a port in ip_local_port_range (ip(7)). Where the
 * server's port lies in that range, the server is this host and nobody listens, it may be the very port that
 * is connected to. Then the socket's SYN meets the socket itself, as in a simultaneous open (RFC 9293, 3.5):
 * it is established, a peer gets its own bytes back, and whoever wants to listen there finds the port taken.
 * */

struct endpoint {
    unsigned char host[sizeof(struct in6_addr)]; /* an IPv4 one has zeros behind it */
    unsigned port;                               /* 0: no endpoint of TCP */
};

static struct endpoint endpoint_of(const struct sockaddr_storage *address)
{
    struct endpoint endpoint = {.port = 0};
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        memcpy(endpoint.host, &in->sin_addr, sizeof in->sin_addr);
        endpoint.port = ntohs(in->sin_port);
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        memcpy(endpoint.host, &in6->sin6_addr, sizeof in6->sin6_addr);
        endpoint.port = ntohs(in6->sin6_port);
    }
    return endpoint;
}

/* Asks the kernel only where the port is one that it may choose. Whether the address is this host's is not
 * asked before: it may come to this host at any time, and the socket's own address tells as cheaply. */
static bool is_connected_to_itself(int fd, const struct conf_address *address)
{
    static const unsigned char any[sizeof(struct in6_addr)];
    struct endpoint theirs = endpoint_of(&address->address), ours;
    struct sockaddr_storage name = {0};
    socklen_t length = sizeof name;
    (void)pthread_once(&host_once, read_host);
    if (theirs.port < host.ports[0] || theirs.port > host.ports[1])
        return false;
    if (getsockname(fd, (struct sockaddr *)&name, &length))
        return false;
    ours = endpoint_of(&name);
    bool same_host = memcmp(theirs.host, ours.host, sizeof ours.host) == 0;
    bool any_host = memcmp(theirs.host, any, sizeof any) == 0; /* connect() takes it for loopback */
    return ours.port == theirs.port && (same_host || any_host);
}

int socket_connect(const struct conf_address *address, const struct conf_tcp *tcp)
{
    int fd = new_socket(address, tcp);
    if (fd < 0)
        return fd;
    if (connect(fd, (const struct sockaddr *)&address->address, address->length) && errno != EINPROGRESS)
        return close_with(fd, -errno);
    if (!is_connected_to_itself(fd, address))
        return fd;
    socket_abort(fd);
    return -ECONNREFUSED;
}

bool socket_is_to_this_host(int fd, const struct conf_address *address)
{
    struct sockaddr_storage name = {0};
    socklen_t length = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &length))
        return false;
    struct endpoint theirs = endpoint_of(&address->address), ours = endpoint_of(&name);
    return theirs.port != 0 && memcmp(theirs.host, ours.host, sizeof ours.host) == 0;
}

int socket_error(int fd)
{
    int error = 0;
    socklen_t length = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) ? -errno : -error;
}

void socket_fin(int fd)
{
    (void)shutdown(fd, SHUT_WR);
}

void socket_abort(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    close(fd);
}

void socket_probe(int fd)
{
    set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, 1);
}

void socket_probe_end(int fd, const struct conf_tcp *tcp)
{
    if (tcp->keepalive_ms == DEADLINE_OFF)
        set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 0);
    else
        set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, (int)(tcp->keepalive_ms / 1000));
}

uint64_t socket_unacked(int fd)
{
    int bytes = 0;
    return ioctl(fd, SIOCOUTQ, &bytes) || bytes < 0 ? 0 : (uint64_t)bytes;
}

uint64_t socket_last_ack_ms(int fd)
{
    struct tcp_info info;
    socklen_t length = sizeof info;
    memset(&info, 0, sizeof info);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) ? 0 : info.tcpi_last_ack_recv;
}
