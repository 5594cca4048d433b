#ifndef BENCH_END_H
#define BENCH_END_H

/* One end of a connection that the yardstick holds: a client's or the backend's, without a will of its
 * own.
 *
 * A struct end is a non-blocking socket in the stage's epoll set, a queue of what it is to send, and a
 * record of what it heard and of how its connection ended, with the times. The stage owns it; a play or
 * the benchmark tells it what to do. What is queued is sent as the socket takes it; a FIN leaves behind
 * all that was queued. A paused end does not read: its window closes, and a FIN or a reset that arrives
 * meanwhile stays unread. Only the stage's thread may call. Times are CLOCK_MONOTONIC in nanoseconds, 0
 * meaning not yet. */

#include "bench/heard.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

enum end_side { END_CLIENT, END_BACKEND };

/* How the peer ended its half, as this end's system calls tell it. */
enum end_over { END_OPEN, END_FIN, END_RESET };

struct end_segment;

struct end {
    LIST_ENTRY(end) link; /* all ends of the stage */
    int epoll;            /* the set that it is in, the stage's */
    void *owner;          /* the caller's, NULL: nobody has claimed it */
    int fd;               /* -1: closed */
    enum end_side side;
    uint32_t watched; /* the epoll mask */
    bool is_in_set;
    bool is_connected;
    int connect_error; /* errno, or 0 */
    bool is_paused;
    bool wants_fin;   /* once all is sent */
    bool is_read_out; /* recv() has told of the end */

    STAILQ_HEAD(, end_segment) queue;
    uint64_t queued_bytes; /* not yet taken by the socket */
    uint64_t stream_bytes; /* of the pattern's stream, queued so far */
    uint64_t sent_bytes;   /* taken by the socket */

    struct heard heard;
    enum end_over over; /* what came first */
    bool is_reset;      /* a reset came, first or later */
    int error;          /* errno of the reset; ETIMEDOUT too comes under it */
    uint64_t opened_ns, connected_ns;
    uint64_t fin_sent_ns; /* shutdown(), close() or a reset by this end */
    uint64_t over_ns, reset_ns;
};

/* Made by the stage, in its epoll set; `fd` is taken over, `http`: messages are to be heard. NULL without
 * memory. */
struct end *end_new(int epoll, int fd, enum end_side side, bool connected, bool http);

/* CLOCK_MONOTONIC, now. */
uint64_t end_clock_ns(void);

/* Closes and frees. */
void end_free(struct end *end);

/* Queues these bytes (without memory the end is over, by a reset with ENOMEM); n bytes of the stream's
 * pattern; n bytes of the pattern from an offset (a body). */
void end_say(struct end *end, const void *bytes, size_t length);
void end_stream(struct end *end, uint64_t bytes);
void end_body(struct end *end, uint64_t from, uint64_t bytes);

/* FIN behind what is queued; the end goes on reading. */
void end_fin(struct end *end);

/* close(): what is queued here is dropped, what the kernel has is sent. RST if bytes are unread. */
void end_close(struct end *end);

/* RST at once. */
void end_reset(struct end *end);

/* One urgent byte (MSG_OOB), at once. Whether the kernel took it. */
bool end_urgent(struct end *end, char byte);

void end_pause(struct end *end);
void end_resume(struct end *end);

/* For the stage: epoll says so. */
void end_ready(struct end *end, uint32_t events);

/* The kernel's state, as in enum diag_state; 0: closed, or not TCP. */
unsigned end_state(const struct end *end);

/* Whether everything queued has left. */
bool end_is_idle(const struct end *end);

#endif
