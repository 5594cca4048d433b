#ifndef PROXY_COMMAND_DIAGNOSIS_H
#define PROXY_COMMAND_DIAGNOSIS_H

/* From evidence to a diagnosis: why sockets pile up in CLOSE_WAIT, and what would help.
 *
 * Pure: evidence in, words out. It never says more than the evidence does: each verdict comes with the lines
 * that speak for it. The texts that are written go to the caller's buffers. */

#include "reaper/kernel/owner.h"
#include "reaper/kernel/triage.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIAGNOSIS_MAP(X)                                                                                     \
    X(DIAGNOSIS_NOTHING, "nothing", "Nothing leaks: no socket is in CLOSE_WAIT for longer than a moment.")   \
    X(DIAGNOSIS_PROGRAM, "program-error", "A program error: it reads EOF and never closes.")                 \
    X(DIAGNOSIS_STUCK, "stuck", "A stuck program: it doesn't get to accepting, or to reading EOF.")          \
    X(DIAGNOSIS_LOAD, "load", "Load: connections arrive faster than the program accepts them.")              \
    X(DIAGNOSIS_CLIENT, "client", "An attack or a misbehaving client: one address holds most of the sockets.")

enum diagnosis {
#define X(constant, name, text) constant,
    DIAGNOSIS_MAP(X)
#undef X
        DIAGNOSIS_COUNT
};

/* What was seen of one service over some seconds. Counts are of sockets at the end of them. */
struct evidence {
    double seconds;
    uint16_t port;    /* 0: all */
    bool client_side; /* this host opened them: the port is the peers' */
    size_t close_wait, close_wait_before;
    size_t established, established_before;
    size_t by_cause[TRIAGE_CAUSE_COUNT];
    uint64_t oldest_ms;
    size_t zero_bytes;                   /* of those in CLOSE_WAIT, whose client never sent a byte */
    size_t with_keepalive;               /* whose keepalive timer runs */
    size_t peers_closed_here;            /* whose peer on this host has closed */
    double accepted_per_s;               /* connections completed by the kernel, on all ports of this host */
    uint64_t overflows;                  /* on this host, that found a full queue over those seconds */
    uint32_t backlog_used, backlog_size; /* of its fullest accept queue; size 0: none listens */
    uint32_t backlog_used_before;
    size_t queue_left; /* of those in CLOSE_WAIT in the queue at first: accepted or gone by now */

    const struct owner_process *owner; /* who holds most; NULL: not visible or nobody */
    size_t owner_count;
    size_t owner_by_cause[TRIAGE_CAUSE_COUNT];
    uint64_t owner_files, owner_files_limit; /* 0: unknown */

    char network[64]; /* "10.1.2.0/24": that most of them come from */
    size_t network_count;
    bool network_is_loopback;
};

enum { DIAGNOSIS_LINES = 9, DIAGNOSIS_LINE = 256 };

/* One verdict and the lines that speak for it. */
struct verdict {
    enum diagnosis diagnosis;
    size_t weight; /* about how many sockets it explains */
    char line[DIAGNOSIS_LINES][DIAGNOSIS_LINE];
    size_t line_count;
};

/* Whether an accept queue is about to refuse connections. */
bool diagnosis_queue_full(uint32_t used, uint32_t size);

/* Fills in the verdicts that the evidence supports, heaviest first; at least one. Returns how many. */
size_t diagnose(const struct evidence *evidence, struct verdict verdicts[DIAGNOSIS_COUNT]);

const char *diagnosis_name(enum diagnosis diagnosis);
const char *diagnosis_text(enum diagnosis diagnosis);

/* A kernel setting that people change against CLOSE_WAIT. */
struct remedy {
    const char *name;
    const char *path; /* below /proc/sys; NULL: not a sysctl */
    const char *does;
    /* Whether it helps here: a sentence that begins with "No", "Yes" or "Partly". */
    void (*helps)(const struct evidence *evidence, enum diagnosis diagnosis, char text[DIAGNOSIS_LINE]);
};

/* Static storage. */
const struct remedy *remedies(size_t *count);

#endif
