#ifndef REAPER_KERNEL_DIAGNOSIS_H
#define REAPER_KERNEL_DIAGNOSIS_H

/* From evidence to a diagnosis: why sockets pile up in CLOSE_WAIT, and what would help.
 *
 * Pure: evidence in, words out. It never says more than the evidence does: each verdict comes with the lines
 * that speak for it. The texts that are written go to the caller's buffers. */

#include "reaper/kernel/evidence.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the order in which equals are told. */
#define DIAGNOSIS_MAP(X)                                                                                     \
    X(DIAGNOSIS_NOTHING, "nothing", "Nothing leaks: no socket is in CLOSE_WAIT for longer than a moment.")   \
    X(DIAGNOSIS_DESCRIPTORS, "descriptors", "Descriptors run out: the program does not close what is over.") \
    X(DIAGNOSIS_UPSTREAM, "upstream", "It waits for another service, and its own clients give up.")          \
    X(DIAGNOSIS_QUERY, "abandoned-query",                                                                    \
      "An abandoned query: its client has gone, and PostgreSQL goes on.")                                    \
    X(DIAGNOSIS_STUCK, "stuck", "A stuck program: it doesn't get to accepting, or to reading EOF.")          \
    X(DIAGNOSIS_FORGOTTEN, "forgotten",                                                                      \
      "Forgotten sockets: the program serves others and never looks at these.")                              \
    X(DIAGNOSIS_PROGRAM, "program-error", "A program error: it has read everything and never closes.")       \
    X(DIAGNOSIS_WAITING, "client-waits",                                                                     \
      "Not a leak: its client has said all, and still waits for the answer.")                                \
    X(DIAGNOSIS_LOAD, "load", "Load: connections arrive faster than the program accepts them.")              \
    X(DIAGNOSIS_CLIENT, "client",                                                                            \
      "Most come from one address: a gateway, a proxy, or a client that misbehaves.")

enum diagnosis {
#define X(constant, name, text) constant,
    DIAGNOSIS_MAP(X)
#undef X
        DIAGNOSIS_COUNT
};

enum { DIAGNOSIS_LINES = 12, DIAGNOSIS_LINE = 320 };

/* One verdict and the lines that speak for it. */
struct verdict {
    enum diagnosis diagnosis;
    size_t weight; /* about how many sockets it explains */
    char line[DIAGNOSIS_LINES][DIAGNOSIS_LINE];
    size_t line_count;
};

/* Fills in the verdicts that the evidence supports, heaviest first; at least one. Returns how many. */
size_t diagnose(const struct evidence *evidence, struct verdict verdicts[DIAGNOSIS_COUNT]);

/* The command to run next for the first verdict, one line, into `text`. `service` is what the evidence is
 * of. */
void diagnosis_next(const struct evidence *evidence, enum diagnosis diagnosis, char *text, size_t size);

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
