#ifndef BENCH_STAGE_H
#define BENCH_STAGE_H

/* The stage on which the yardstick plays client and backend at once: one thread, one epoll set, one
 * listening socket for the backend, and every end of every connection.
 *
 *     client end ==> target (the proxy under test) ==> listening socket ==> backend end
 *
 * Because both ends of a connection are here, what was sent and what arrived are compared, and times of
 * both are of one clock. Which backend's end belongs to which client is told by the tag (heard.h): as
 * soon as it has come, `claim` is called. Until then the end is a stranger. A proxy that keeps
 * connections may send the requests of several clients over one: then `claim` is called again for each
 * that has another tag.
 *
 * The caller owns the stage and calls from one thread; the callbacks run within stage_turn(). They may
 * open, use and close ends, but not free them: ends are freed by stage_reap() and by stage_close(). When
 * the target is the address listened on there is no proxy in between: `is_direct`. */

#include "bench/end.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct stage_address {
    struct sockaddr_storage address;
    socklen_t length;
};

struct stage_events {
    /* Whose is this backend's end: sets end->owner, and what it likes. */
    void (*claim)(void *context, struct end *end);
    /* A connection was accepted, nothing is known of it yet. May be NULL. */
    void (*accepted)(void *context, struct end *end);
    /* Something happened to this end. May be NULL. */
    void (*changed)(void *context, struct end *end);
    void *context;
};

struct stage {
    struct stage_address target, backend;
    bool http;
    bool is_direct;
    int epoll;
    int listener; /* -1: closed */
    bool is_accepting;
    LIST_HEAD(, end) ends;
    LIST_HEAD(, end) dropped;
    struct stage_events events;
    uint64_t accepted;
};

/* Listens on `backend`; a port 0 is replaced by the one that the kernel chose, and when `target` has the
 * same address, or length 0, the stage is direct. 0 or -errno, and nothing is left behind. */
int stage_open(struct stage *stage, const struct stage_address *target, const struct stage_address *backend,
               bool http, const struct stage_events *events);

void stage_close(struct stage *stage);

/* Waits for what happens, at most so long, and has it dealt with. */
void stage_turn(struct stage *stage, int timeout_ms);

/* The same, in nanoseconds. */
void stage_turn_ns(struct stage *stage, uint64_t timeout_ns);

/* A client's end that connects to the target, or NULL when there is no descriptor or memory. */
struct end *stage_connect(struct stage *stage, void *owner);

/* Closes the end; it is freed when the turn is over. */
void stage_drop(struct stage *stage, struct end *end);

/* Not within a callback: frees the ends of this owner; NULL: the strangers that are over. */
void stage_reap(struct stage *stage, const void *owner);

/* Closes what nobody has claimed, such as connections that the proxy keeps. */
void stage_drop_strangers(struct stage *stage);

/* Stops taking connections out of the accept queue, and goes on. */
void stage_accept(struct stage *stage, bool accept);

/* Closes the listening socket, and opens it again. 0 or -errno. */
void stage_deafen(struct stage *stage);
int stage_listen(struct stage *stage, int backlog);

/* Whether the ends on that side are TCP sockets. */
bool stage_is_tcp(const struct stage *stage, enum end_side side);

/* The backend's port, 0 for a unix socket. */
uint16_t stage_port(const struct stage *stage);

#endif
