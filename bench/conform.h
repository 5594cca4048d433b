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

#include "bench/case.h"
#include "bench/stage.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

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
