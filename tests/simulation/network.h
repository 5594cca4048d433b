#ifndef TESTS_SIMULATION_NETWORK_H
#define TESTS_SIMULATION_NETWORK_H

/* A kernel and a network that exist only in this process: what the proxy calls for sockets, pipes, epoll
 * and memory ends here, and behind each socket is a peer that behaves as it was told.
 *
 * What a peer says and what it makes of what it is told is its application's: one that talks in streams
 * (stream.h), or in messages (web.h). Both know what has to come, byte by byte, and are shown each byte when
 * the proxy writes it, so that one that is lost, repeated, swapped or taken from another session does not get
 * past that write. Time passes only from event to event and is the same for all; nothing here is random but
 * what random_below() says, so a seed replays exactly. One thread. */

#include "proxy/loop/poller.h"
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
    uint32_t buffer_bytes;  /* of the proxy's kernel, for what it sends; 0: any of the usual sizes */
};

struct connection;

/* What the peers of one kind do. All but the first two may be NULL. */
struct application {
    /* Where the bytes are that it wrote from `offset` on: at least NETWORK_PIECE of them, or the last. */
    const unsigned char *(*wrote)(const struct connection *c, uint64_t offset);
    /* The proxy wrote these to it: they are checked, nothing is done about them yet. */
    void (*takes)(struct connection *c, const unsigned char *bytes, size_t size);
    void (*reads)(struct connection *c);  /* consumed_bytes has grown */
    void (*sent)(struct connection *c);   /* peer.send_bytes have been written */
    void (*rings)(struct connection *c);  /* network_ring()'s time has come */
    void (*forget)(struct connection *c); /* gives back its state */
};

/* Longest piece of a stream that is looked at at once. */
enum { NETWORK_PIECE = 1 << 16 };

/* What a session may move in a pass: so little that many come to that bound. */
enum { NETWORK_BUDGET_BYTES = 1 << 12 };

struct event {
    struct wheel_entry entry; /* first: the wheel returns it */
    void (*fire)(struct connection *connection);
    struct connection *connection;
};

/* One connection of the proxy: its own socket, and the peer. */
struct connection {
    size_t session; /* whose */
    const struct application *application;
    void *state; /* its application's */
    struct behaviour peer;

    /* From the peer to the proxy: application, kernel, proxy. */
    uint64_t written_bytes, arrived_bytes, read_bytes;
    /* From the proxy to the peer: proxy, the peer's kernel, its application. */
    uint64_t sent_bytes, acked_bytes, consumed_bytes;
    uint64_t fin_sent_ms, last_ack_ms, last_take_ms, heard_ms;

    struct poller_source *source;
    struct connection *next_edge;
    struct event decide, pump, arrive, write, read, fault, probe, ring, cork;

    enum leg leg;
    int error; /* pending, negative */
    uint32_t send_buffer, receive_buffer;
    uint64_t run, run_read_bytes; /* in the present run of its session */
    bool open, connected;         /* as the proxy has it */
    bool fin_written, fin_arrived, fin_read;
    bool fin_sent, fin_acked;
    bool writing, closed, vanished; /* of the peer's application and host */
    bool dead;                      /* the peer sent RST, or the kernel gave up on it */
    bool reset;                     /* the proxy sent RST */
    bool starved;                   /* a write did not fit */
    bool corked;                    /* the last bytes wait for more, or for a FIN */
    bool has_edge;
};

enum outcome { OUTCOME_CONNECTED, OUTCOME_REFUSED, OUTCOME_SILENT, OUTCOME_FAILS, OUTCOME_COUNT };

struct network {
    uint64_t now_ms;   /* at which the process's turn began */
    uint64_t lag_ms;   /* since then: a turn takes time, and the kernel's clock goes on in it */
    uint32_t jiffy_ms; /* in which the kernel counts ages */
    uint64_t delays;   /* chance for these alone */
    struct wheel wheel;
    struct connection **connections; /* by descriptor */
    size_t connection_count, connection_capacity;
    struct connection *edges, **last_edge;
    uint64_t no_descriptors_from_ms, no_descriptors_to_ms;
    uint32_t allocations_per_failure; /* 0: none fails */
    int64_t allocations;              /* not freed by the proxy */
    size_t pipes;                     /* open */
    uint64_t runs;                    /* of sessions, so far */
    uint64_t random;
};

extern struct network network;

/* Called when the proxy breaks a promise; prints and ends the process. In host.c. */
_Noreturn void broken(size_t session, const char *what);

/* Told of what the promises are about. In simulate.c and simulate_http.c. */
void saw_progress(struct connection *sink, uint64_t acked_bytes);
void saw_fin(struct connection *sink);
void saw_reset(struct connection *c); /* of our making */

void network_begin(uint64_t seed, uint64_t now_ms);
void network_end(void); /* frees everything; nothing may be open */

uint64_t random_below(uint64_t bound);
bool one_in(uint64_t n);

/* A connection whose client has just been accepted; its descriptor. */
int network_accept(size_t session, const struct behaviour *peer, const struct application *application);

/* A connection that the proxy asks for, and what will come of it; its descriptor or a negative errno. */
int network_connect(size_t session, const struct behaviour *peer, const struct application *application,
                    enum outcome outcome);

struct connection *network_connection(int fd);

/* What an application may do: go on writing, half-close, close, send RST, be heard of no more, be rung. */
void network_write(struct connection *c, uint64_t delay_ms);
void network_fin(struct connection *c);
void network_close(struct connection *c);
void network_reset(struct connection *c);
void network_vanish(struct connection *c);
void network_ring(struct connection *c, uint64_t delay_ms);

/* Memory that the proxy's is not counted with; ends the process when there is none. */
void *network_memory(void *memory, size_t size);
void network_free(void *memory);

/* What the kernel's clock says, which is later than the beginning of the process's turn. */
uint64_t network_clock_ms(void);

/* The process has been at work. */
void network_take_time(void);

/* The next time at which something happens; NEVER. */
uint64_t network_next_ms(void);

/* Lets everything happen that is due. */
void network_run(uint64_t now_ms);

/* Delivers edges to the proxy as epoll would; false if there were none. */
bool network_deliver(void);

#endif
