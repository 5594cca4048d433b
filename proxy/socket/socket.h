#ifndef PROXY_SOCKET_SOCKET_H
#define PROXY_SOCKET_SOCKET_H

/* System calls on the sockets that the proxy owns, and nothing that decides.
 *
 * Every descriptor is non-blocking and close-on-exec and belongs to the caller. Any thread. Errors are
 * negative errno values. */

#include "conf/conf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* A peer's address in the space that one takes; a unix peer has none. */
union socket_address {
    struct sockaddr any;
    sa_family_t family;
    unsigned char bytes[28]; /* sizeof(struct sockaddr_in6) */
};

/* Longest text: "[" IPv6 "]:" port, or "unix:" and a path. */
enum { SOCKET_TEXT = 128 };

/* "1.2.3.4:80", "[::1]:80", or "unix" for an address without one. Returns `text`. */
const char *socket_text(const union socket_address *address, char text[SOCKET_TEXT]);

/* Whether other sockets may listen on the address too: nobody's, those that follow, or beside others. */
enum socket_share { SOCKET_ALONE, SOCKET_FIRST, SOCKET_BESIDE };

/* A bound, listening socket with the options that accepted ones inherit (tcp(7)). A unix path that nobody
 * listens on any more is removed first. */
int socket_listen(const struct conf_address *address, const struct conf_tcp *tcp, enum socket_share share);

/* Writes the port that the kernel chose into `address` (AF_INET and AF_INET6). */
int socket_bound(int fd, struct conf_address *address);

/* The next connection, or -EAGAIN when there is none. *peer is filled in. */
int socket_accept(int fd, union socket_address *peer);

/* A socket with a connection under way; writable when it is decided, and then socket_error() tells how. A
 * socket that would connect to itself is -ECONNREFUSED: nobody else listens there. */
int socket_connect(const struct conf_address *address, const struct conf_tcp *tcp);

/* Whether the socket, once socket_connect() has begun, ends on this host: then its own address is the one
 * that it connects to. */
bool socket_is_to_this_host(int fd, const struct conf_address *address);

/* Takes the pending error off the socket: 0 or negative. */
int socket_error(int fd);

/* Sends FIN behind what is queued. A peer that has reset already is no error: its event says so. */
void socket_fin(int fd);

/* SO_LINGER{1,0} and close: RST, also from FIN_WAIT_2 (socket(7); net/ipv4/tcp.c, __tcp_close). On a unix
 * socket, a close. */
void socket_abort(int fd);

/* Makes the peer's kernel acknowledge something soon: a keepalive probe is due after a second without
 * traffic, at once where that has passed already (tcp(7), TCP_KEEPIDLE). */
void socket_probe(int fd);

/* Back to the keepalive that the configuration asks for. */
void socket_probe_end(int fd, const struct conf_tcp *tcp);

/* What the peer's kernel has not acknowledged of what was written, a FIN counting one (SIOCOUTQ); on a unix
 * socket what its owner has not read, roughly (unix(7)). 0 when the kernel does not tell. */
uint64_t socket_unacked(int fd);

/* Milliseconds since the last acknowledgement (tcpi_last_ack_recv); 0 when the kernel does not tell. */
uint64_t socket_last_ack_ms(int fd);

#endif
