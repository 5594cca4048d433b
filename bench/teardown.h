#ifndef BENCH_TEARDOWN_H
#define BENCH_TEARDOWN_H

/* The benchmark of teardown, for any proxy: `lastack bench teardown`.
 *
 * Clients come at a given rate, whatever has become of those before (an open loop: a proxy that is slow
 * does not slow its own load), ask, get their answer, and then one side closes. Client and backend are
 * both played here (stage.h), so both ends of each connection are seen by one clock:
 *
 * FIN relay       from the call that sends FIN at one end to the read that returns it at the other
 * teardown        from that call until both ends have seen the other one's end leak residency  from the
 * client's FIN until the kernel's table has the leaking backend's socket no more in
 *                   CLOSE_WAIT; its reset gives the moment, the table, asked by cookie, the proof
 * harm            healthy exchanges in which an end saw a reset, an answer was cut, or a byte was wrong
 *
 * A client that closes by close() sees nothing of its own leg any more; one that half-closes reads on.
 * What the figures hold of the yardstick itself is measured by the same run without a proxy. The caller
 * owns options and report; everything runs in teardown_run(), in one thread. Times are nanoseconds. */

#include "bench/histogram.h"
#include "bench/stage.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TEARDOWN_CLOSER_MAP(X)                                                                               \
    X(TEARDOWN_CLIENT, "client")                                                                             \
    X(TEARDOWN_BACKEND, "backend")                                                                           \
    X(TEARDOWN_BOTH, "both")

enum teardown_closer {
#define X(constant, name) constant,
    TEARDOWN_CLOSER_MAP(X)
#undef X
        TEARDOWN_CLOSER_COUNT
};

/* What the backend does wrong: the modes of `lastack leak` that one process can play. */
#define TEARDOWN_LEAK_MAP(X)                                                                                 \
    X(TEARDOWN_HEALTHY, "healthy", "reads EOF and closes")                                                   \
    X(TEARDOWN_NEVER_CLOSE, "never-close", "answers, reads EOF and never closes")                            \
    X(TEARDOWN_NEVER_READ, "never-read", "answers and never reads again: EOF stays unread")                  \
    X(TEARDOWN_QUEUED, "queued", "answers, and leaves further data and EOF unread")                          \
    X(TEARDOWN_TRICKLE, "trickle", "answers, never closes, and sends a byte every 100 ms")

enum teardown_leak {
#define X(constant, name, text) constant,
    TEARDOWN_LEAK_MAP(X)
#undef X
        TEARDOWN_LEAK_COUNT
};

struct teardown_options {
    struct stage_address target, backend; /* target of length 0: direct */
    bool http;
    uint32_t connections;
    uint32_t rate; /* connections a second */
    enum teardown_closer closer;
    enum teardown_leak leak;
    bool half_close;   /* the client reads on behind its FIN */
    uint64_t watch_ms; /* for what has not ended, after the last client has closed */
    uint32_t request_bytes, response_bytes;
};

/* How one leg ended, as its end saw it. */
struct teardown_ended {
    uint64_t fin, reset, never;
    uint64_t kept;   /* open in order: the proxy keeps it for other clients */
    uint64_t unseen; /* the client had called close() */
};

struct teardown_sample {
    uint64_t at_ns; /* since the first client */
    uint32_t close_wait;
};

struct teardown_report {
    struct histogram fin_relay, teardown, residency;
    struct histogram lag; /* how late clients came, by the yardstick's own fault */
    struct teardown_ended client, backend;
    uint64_t exchanged;            /* whole answers */
    uint64_t resets, cuts, wrongs; /* harm; an exchange counts once, as the worst of them */
    uint64_t refused;              /* clients that the proxy did not take */
    uint64_t leaked;               /* backend's sockets that were in CLOSE_WAIT */
    uint64_t still;                /* and are at the end */
    uint64_t verified;             /* and of which the table confirmed that they left it */
    struct teardown_sample *samples;
    size_t sample_count;
    uint64_t took_ns;
};

const char *teardown_closer_name(enum teardown_closer closer);
int teardown_closer_find(const char *name);
const char *teardown_leak_name(enum teardown_leak leak);
const char *teardown_leak_help(enum teardown_leak leak);
int teardown_leak_find(const char *name);

/* 1000 clients at 200 a second, who close first; a healthy backend; 64 bytes and 1 KiB; 10 s. */
void teardown_options_default(struct teardown_options *options);

/* Runs. 0 and a report that the caller frees by teardown_free(), or -errno. */
int teardown_run(const struct teardown_options *options, struct teardown_report *report);

void teardown_free(struct teardown_report *report);

/* All harm, per 10,000 exchanges that were begun. */
double teardown_harm(const struct teardown_report *report);

#endif
