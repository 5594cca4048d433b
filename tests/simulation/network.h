#ifndef TESTS_SIMULATION_NETWORK_H
#define TESTS_SIMULATION_NETWORK_H

/* A kernel and a network that exist only in this process: what proxy/plane calls for sockets, pipes, epoll
 * and memory ends here, and behind each socket is a peer that behaves as it was told.
 *
 * Bytes are not stored: byte n of a stream is known from the stream and n alone. recv() makes them, send()
 * compares them, so a byte that is lost, repeated, swapped or taken from another session does not get past
 * the next write. Time passes only from event to event and is the same for all; nothing here is random but
 * what random_below() says, so a seed replays exactly. One thread. */

#include "proxy/plane/poller.h"
#include "reaper/policy/half.h"
#include "reaper/policy/wheel.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NEVER UINT64_MAX

/* What the application at the other end does, and what befalls it. Milliseconds and bytes. */
struct behaviour {
    uint64_t send_bytes;    /* sends so many, */
    uint64_t await_bytes;   /* after it has read so many, */
    uint32_t think_ms;      /* and thought, */
    uint32_t send_chunk;    /* so many at a time, */
    uint32_t send_gap_ms;   /* with a pause in between; */
    uint32_t trickle_bytes; /* then so many more, */
    uint32_t trickle_ms;    /* one at a time, and none after that; */
    bool fin_when_sent;     /* half-closes after its last byte */
    uint64_t close_after;   /* closes when it has read so many (NEVER) */
    bool fin_on_eof;        /* closes when it has read EOF, after its own last byte */
    uint32_t read_chunk;    /* reads so many at a time, */
    uint32_t read_gap_ms;   /* with a pause in between, */
    uint64_t read_limit;    /* and stops for ever after so many (NEVER) */
    uint64_t reset_at_ms;   /* sends RST (NEVER) */
    uint64_t vanish_at_ms;  /* is heard of no more, nor its kernel (NEVER) */
    uint32_t delay_ms;      /* one way */
    uint32_t window_bytes;  /* of its kernel */
};

struct connection;

struct event {
    struct wheel_entry entry; /* first: the wheel returns it */
    void (*fire)(struct connection *connection);
    struct connection *connection;
};

/* One connection of the proxy: its own socket, and the peer. */
struct connection {
    size_t session; /* whose */
    enum leg leg;
    bool open, connected; /* as the proxy has it */
    struct behaviour peer;
    uint64_t salt_in, salt_out; /* the streams it carries */

    /* From the peer to the proxy: application, kernel, proxy. */
    uint64_t written_bytes, arrived_bytes, read_bytes;
    bool fin_written, fin_arrived, fin_read;
    /* From the proxy to the peer: proxy, the peer's kernel, its application. */
    uint64_t sent_bytes, acked_bytes, consumed_bytes;
    bool fin_sent, fin_acked;
    bool writing, closed, vanished; /* of the peer's application and host */

    bool dead;  /* the peer sent RST, or the kernel gave up on it */
    bool reset; /* the proxy sent RST */
    int error;  /* pending, negative */
    uint64_t last_ack_ms, last_take_ms, heard_ms;
    uint32_t send_buffer, receive_buffer;
    bool starved; /* a write did not fit */

    struct poller_source *source;
    struct connection *next_edge;
    bool has_edge;
    struct event decide, pump, arrive, write, read, fault, probe;
};

enum outcome { OUTCOME_CONNECTED, OUTCOME_REFUSED, OUTCOME_SILENT, OUTCOME_FAILS, OUTCOME_COUNT };

struct network {
    uint64_t now_ms;
    struct wheel wheel;
    struct connection **connections; /* by descriptor */
    size_t connection_count, connection_capacity;
    struct connection *edges, **last_edge;
    uint64_t no_descriptors_from_ms, no_descriptors_to_ms;
    uint32_t allocations_per_failure; /* 0: none fails */
    int64_t allocations;              /* not freed by the proxy */
    size_t pipes;                     /* open */
    uint64_t random;
};

extern struct network network;

/* Called when the proxy breaks a promise; prints and ends the process. In simulate.c. */
_Noreturn void broken(size_t session, const char *what);

/* Told of what the promises are about. In simulate.c. */
void saw_progress(struct connection *sink, uint64_t acked_bytes);
void saw_fin(struct connection *sink);

void network_begin(uint64_t seed, uint64_t now_ms);
void network_end(void); /* frees everything; nothing may be open */

uint64_t random_below(uint64_t bound);
bool one_in(uint64_t n);

/* A connection whose client has just been accepted; its descriptor. */
int network_accept(size_t session, const struct behaviour *peer);

/* A connection that the proxy asks for, and what will come of it; its descriptor or a negative errno. */
int network_connect(size_t session, const struct behaviour *peer, enum outcome outcome);

struct connection *network_connection(int fd);

/* The next time at which something happens; NEVER. */
uint64_t network_next_ms(void);

/* Lets everything happen that is due. */
void network_run(uint64_t now_ms);

/* Delivers edges to the proxy as epoll would; false if there were none. */
bool network_deliver(void);

#endif
