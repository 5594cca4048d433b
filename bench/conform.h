#ifndef BENCH_CONFORM_H
#define BENCH_CONFORM_H

/* The conformance suite of teardown, for any proxy: `lastack conform`.
 *
 * The suite is client and backend of the proxy at once (stage.h). A case is a row of a table: a name,
 * where the expectation comes from, a sentence of what a good proxy does, and a small function that
 * plays it (play.h). All cases are played side by side in one thread, so that the whole takes little
 * longer than its longest case; those that take the backend away from the others are played alone, at
 * the end. Nothing sleeps: a case waits for a condition, at both ends' sockets or in the kernel's table,
 * with a bound that is generous; what must *not* happen is watched for as long as it says.
 *
 * A verdict is about what the two ends saw and not about how the proxy works. `fail`: a wrong end, a
 * late one, none. `destroys-data`: an end lost bytes that it was owed, got wrong ones, or took a cut for
 * the end. `opinion`: good proxies differ here, and this one does the other thing. `skip`: nothing to be
 * said, because there is no proxy, no TCP, or the proxy refused the request as it may. Without a proxy
 * (target and backend are the same address) everything passes or is skipped: that tests the suite. */

#include "bench/stage.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

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

struct conform_options {
    struct stage_address target, backend; /* target of length 0: direct */
    bool http;
    bool quick;
    const char *const *names; /* only these */
    size_t name_count;        /* 0: all */
    uint64_t bound_ms;        /* for what a good proxy does at once */
    uint64_t leak_bound_ms;   /* how long the proxy may let a leak last */
    FILE *progress;           /* a line whenever a case ends, or NULL */
};

struct conform_report {
    struct conform_result *results; /* in the table's order */
    size_t count;
    unsigned of[CONFORM_VERDICT_COUNT];
    bool http, is_direct;
};

void conform_options_default(struct conform_options *options);

/* Every case, mode by mode. */
const struct conform_case *conform_case(size_t index); /* NULL behind the last one */
const struct conform_case *conform_find(const char *name);

const char *conform_verdict_name(enum conform_verdict verdict);

/* Plays. 0 and a report that the caller frees by conform_free(), or -errno: cannot listen on the backend's
 * address. */
int conform_run(const struct conform_options *options, struct conform_report *report);

void conform_free(struct conform_report *report);

/* The cases themselves, in files by what they are about; ended by a row without a name. */
extern const struct conform_case cases_close[], cases_reset[], cases_leak[], cases_http[], cases_http_cut[];

#endif
