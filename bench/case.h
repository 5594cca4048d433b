#ifndef BENCH_CASE_H
#define BENCH_CASE_H

/* A case of the conformance suite, and what comes of it: what conform.h runs and play.h is written for. */

#include <stdint.h>

#define CONFORM_VERDICT_MAP(X)                                                                               \
    X(CONFORM_PASS, "pass")                                                                                  \
    X(CONFORM_FAIL, "fail")                                                                                  \
    X(CONFORM_DESTROYS_DATA, "destroys-data")                                                                \
    X(CONFORM_OPINION, "opinion")                                                                            \
    X(CONFORM_SKIP, "skip")

enum conform_verdict {
#define X(constant, name) constant,
    CONFORM_VERDICT_MAP(X)
#undef X
        CONFORM_VERDICT_COUNT
};

enum {
    CONFORM_TCP = 1, /* modes in which it is played */
    CONFORM_HTTP = 2,
    CONFORM_BOTH = 3,
    CONFORM_PROXY = 4,   /* needs a proxy in between */
    CONFORM_QUIET = 8,   /* the connection carries no tag: it begins while no other one does */
    CONFORM_ALONE = 16,  /* takes the backend's listening socket away from the others */
    CONFORM_LEAK = 32,   /* may take as long as a leak may last */
    CONFORM_RESETS = 64, /* needs TCP on both sides: a unix socket knows no reset */
};

struct play;

struct conform_case {
    const char *name;
    unsigned flags;
    unsigned seconds;    /* it takes at least; more than 10: left out of a quick run */
    const char *origin;  /* RFC and section, or the bug report in which it was seen */
    const char *good;    /* a sentence: what a good proxy does */
    const char *opinion; /* the other view; NULL: no matter of opinion */
    void (*run)(struct play *play);
};

enum { CONFORM_WHY = 240 };

struct conform_result {
    const struct conform_case *of;
    enum conform_verdict verdict;
    char why[CONFORM_WHY]; /* "" for a plain pass */
    uint64_t took_ms;
};

#endif
