#ifndef TESTS_SIMULATION_HOST_H
#define TESTS_SIMULATION_HOST_H

/* The process that the sessions of a simulation live in: what a worker is to them, with its turns, its clock,
 * its servers and its misfortunes, and the command line.
 *
 * Sessions run in batches that share a worker, so that one's fault would show in another. A simulation says
 * who takes part in a session and what has to hold (struct simulation); it embeds struct hosted in what it
 * knows of one. One thread. */

#include "proxy/exchange/origin.h"
#include "proxy/server/backend.h"
#include "proxy/session/session.h"
#include "tests/simulation/network.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BATCH = 64, SERVERS_MAX = 3, START_MS = 1000000, START_WITHIN_MS = 60000 };

/* What the host knows of one session of the batch. */
struct hosted {
    struct session *session; /* NULL: not yet, or freed */
    struct frontend *frontend;
    struct connection *legs[LEG_COUNT]; /* the present ones, or the last */
    bool over;
    uint64_t accepted_ms, attempt_ms, opened_ms, phase_ms, held_ms[HALF_COUNT];
    uint64_t drain_ms;       /* 0: not yet */
    uint64_t stopped_ms;     /* of this process, when the session was accepted */
    uint64_t last_ack_ms;    /* of any of its legs */
    uint64_t acked_in_phase; /* bytes */
};

/* What is simulated. */
struct simulation {
    const char *name;
    const struct protocol *protocol;
    void (*make_settings)(void);
    bool shares; /* sessions may share backend legs, in some batches */
    struct hosted *(*hosted)(size_t index);
    /* Plans a session; `whole`: no misfortune befalls the batch that is not the process's being stopped. */
    void (*plan)(size_t index, bool whole);
    /* Its client connects; a descriptor. */
    int (*accept)(size_t index);
    /* It connects to a server; a descriptor or a negative errno. */
    int (*connect)(size_t index);
    void (*before_step)(struct hosted *hosted, const struct pair *pair);
    void (*after_step)(struct hosted *hosted, const struct pair *pair, const struct pair_input *input,
                       enum pair_phase before); /* may be NULL */
    void (*ended)(struct hosted *hosted, const struct session *session);
    void (*print_totals)(void);
};

struct host {
    uint64_t seed; /* of this batch */
    size_t size;
    struct shared shared;
    struct inquiry *answers; /* on their way to the worker */
    struct task answering;
    struct backend backend;
    struct target targets[SERVERS_MAX];
    size_t next_target;
    struct wheel starts;
    struct wheel_entry start[BATCH];
    size_t over;
    uint64_t stop_at_ms, stop_ms, drain_at_ms;
    uint64_t stopped_ms; /* so far */
    size_t opening;      /* whose session is being opened */
    size_t connecting;   /* which one looks for a server */
    struct origin_random random;
    struct limit limit; /* of descriptors of legs that left their sessions */
    bool verbose;
    uint64_t sessions, steps, bytes, ended[REASON_COUNT]; /* of all batches */
    uint64_t taken_over;                                  /* legs taken over from another session */
};

extern struct host host;

int host_main(const struct simulation *simulation, int argc, char **argv);

uint64_t max_of(uint64_t a, uint64_t b);
uint64_t min_of(uint64_t a, uint64_t b);

void must(const struct hosted *hosted, bool holds, const char *what);

/* It is no later than after_ms behind since_ms, as far as the process could help it. */
void must_be_by(const struct hosted *hosted, uint64_t since_ms, uint64_t after_ms, const char *what);

size_t host_index(const struct hosted *hosted);
const struct deadlines *host_deadlines(const struct hosted *hosted);

#endif
