#include "bench/conform.h"

#include "bench/play.h"
#include "reaper/kernel/netlink.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    TURN_MS = 10,       /* conditions of the kernel's state have no event */
    QUIET_MS = 1200,    /* for a connection without a tag to arrive */
    STRANGERS_MS = 100, /* between the freeings of ends that nobody claimed */
    DEFAULT_BOUND_MS = 15000,
    DEFAULT_LEAK_MS = 40000, /* above what proxies wait by default: 30 s */
};

static const struct conform_case *const tables[] = {cases_close, cases_reset,    cases_leak,
                                                    cases_http,  cases_http_cut, NULL};

struct suite {
    const struct conform_options *options;
    struct stage stage;
    struct netlink *netlink;
    struct play *plays;
    size_t count;
    struct play *quiet; /* whose connection is on its way without a tag */
};

void conform_options_default(struct conform_options *options)
{
    *options = (struct conform_options){.bound_ms = DEFAULT_BOUND_MS, .leak_bound_ms = DEFAULT_LEAK_MS};
}

const struct conform_case *conform_case(size_t index)
{
    for (const struct conform_case *const *table = tables; *table; table++)
        for (const struct conform_case *row = *table; row->name; row++)
            if (index-- == 0)
                return row;
    return NULL;
}

const struct conform_case *conform_find(const char *name)
{
    const struct conform_case *row;
    for (size_t i = 0; (row = conform_case(i)); i++)
        if (strcmp(row->name, name) == 0)
            return row;
    return NULL;
}

const char *conform_verdict_name(enum conform_verdict verdict)
{
    static const char *const names[] = {
#define X(constant, name) [constant] = (name),
        CONFORM_VERDICT_MAP(X)
#undef X
    };
    return names[verdict];
}

/* ---- whose end is it ---- */

/* A number in the tag tells this run's plays from those of a run before that a proxy still has. */
static uint32_t tag_of(size_t index)
{
    return ((uint32_t)getpid() << 8) + (uint32_t)index;
}

static void arrive(struct play *play, struct end *end)
{
    struct play *before = end->owner;
    if (before && before != play && before->backend == end) {
        /* To whom it belonged, it ended in order: the proxy keeps connections for others. */
        before->pooled = (struct end){
            .epoll = end->epoll, .fd = -1, .side = END_BACKEND, .over = END_FIN, .is_read_out = true};
        before->backend = &before->pooled;
    }
    if (before != play)
        play->arrivals++;
    end->owner = play;
    play->backend = end;
}

static void claim(void *context, struct end *end)
{
    struct suite *suite = context;
    for (size_t i = 0; i < suite->count; i++)
        if (suite->plays[i].tag == end->heard.tag && suite->plays[i].is_begun && !suite->plays[i].is_over)
            arrive(&suite->plays[i], end);
}

static void accepted(void *context, struct end *end)
{
    struct suite *suite = context;
    if (suite->quiet && !suite->quiet->backend)
        arrive(suite->quiet, end);
}

/* A stranger that nobody will claim is closed in order: a health check, a request of a run before. */
static void changed(void *context, struct end *end)
{
    (void)context;
    if (!end->owner && end->over != END_OPEN)
        end_close(end);
}

/* ---- playing ---- */

static void restore_backend(struct suite *suite, const struct play *play)
{
    if (!(play->of->flags & CONFORM_ALONE))
        return;
    stage_deafen(&suite->stage);
    suite->stage.is_accepting = true;
    (void)stage_listen(&suite->stage, SOMAXCONN);
}

/* A proxy may keep a connection for other clients: it is left open, so that their requests do not meet a
 * FIN. */
static void release_healthy(struct suite *suite, const struct play *play)
{
    struct end *end;
    LIST_FOREACH(end, &suite->stage.ends, link)
    if (end->owner == play && suite->stage.http && end->side == END_BACKEND && end->over == END_OPEN &&
        !end->is_paused && !end->wants_fin && !heard_is_amid(&end->heard) && end_is_idle(end))
        end->owner = NULL;
}

static void play_end(struct suite *suite, struct play *play)
{
    const struct conform_result *result = play->result;
    for (int i = 0; i < PLAY_SPARES; i++)
        if (play->spare[i] >= 0)
            close(play->spare[i]);
    release_healthy(suite, play);
    stage_reap(&suite->stage, play);
    restore_backend(suite, play);
    if (suite->quiet == play)
        suite->quiet = NULL;
    if (suite->options->progress)
        fprintf(suite->options->progress, "%-14s %-24s %s\n", conform_verdict_name(result->verdict),
                play->of->name, result->why);
}

static void play_begin(struct play *play)
{
    play->is_begun = true;
    play->began_ns = play->step_ns = end_clock_ns();
}

static bool is_running(const struct play *play)
{
    return play->is_begun && !play->is_over;
}

/* The quiet ones first and one by one, until their connections have arrived; then all others; at last,
 * one by one, those that are to be alone. */
static void begin_what_may(struct suite *suite)
{
    const struct play *quiet = suite->quiet;
    if (quiet && !quiet->is_over && !quiet->backend &&
        (end_clock_ns() - quiet->began_ns) / 1000000 < QUIET_MS)
        return;
    suite->quiet = NULL;
    size_t running = 0;
    for (size_t i = 0; i < suite->count; i++)
        running += is_running(&suite->plays[i]);
    for (unsigned stage = 0; stage < 3; stage++)
        for (size_t i = 0; i < suite->count; i++) {
            struct play *play = &suite->plays[i];
            assert(play->of);
            unsigned flags = play->of->flags;
            unsigned when = flags & CONFORM_QUIET ? 0 : flags & CONFORM_ALONE ? 2 : 1;
            if (play->is_begun || when != stage || (when == 2 && running > 0))
                continue;
            play_begin(play);
            running++;
            if (when == 0) {
                suite->quiet = play;
                return;
            }
        }
}

/* False: all are over. */
static bool run_plays(struct suite *suite)
{
    bool left = false;
    for (size_t i = 0; i < suite->count; i++) {
        struct play *play = &suite->plays[i];
        if (play->is_over)
            continue;
        left = true;
        if (!play->is_begun)
            continue;
        play->of->run(play);
        if (play->is_over)
            play_end(suite, play);
    }
    return left;
}

static void play_all(struct suite *suite)
{
    uint64_t freed_ns = 0;
    for (;;) {
        begin_what_may(suite);
        if (!run_plays(suite))
            return;
        stage_turn(&suite->stage, TURN_MS);
        if (end_clock_ns() - freed_ns < UINT64_C(1000000) * STRANGERS_MS)
            continue;
        freed_ns = end_clock_ns();
        stage_reap(&suite->stage, NULL);
    }
}

/* ---- which ones ---- */

static bool is_named(const struct conform_options *options, const char *name)
{
    for (size_t i = 0; i < options->name_count; i++)
        if (strcmp(options->names[i], name) == 0)
            return true;
    return options->name_count == 0;
}

static bool is_wanted(const struct conform_options *options, const struct conform_case *row)
{
    if (!(row->flags & (options->http ? CONFORM_HTTP : CONFORM_TCP)))
        return false;
    return is_named(options, row->name) && !(options->quick && row->seconds > 10);
}

static const char *reason_to_skip(const struct suite *suite, const struct conform_case *row)
{
    const struct stage *stage = &suite->stage;
    if ((row->flags & CONFORM_PROXY) && stage->is_direct)
        return "there is no proxy whose work it would be";
    if ((row->flags & CONFORM_RESETS) &&
        !(stage_is_tcp(stage, END_CLIENT) && stage_is_tcp(stage, END_BACKEND)))
        return "a unix socket knows neither CLOSE_WAIT nor RST";
    return NULL;
}

static int plays_make(struct suite *suite, struct conform_report *report)
{
    const struct conform_case *row;
    size_t room = 0;
    while (conform_case(room))
        room++;
    assert(room > 0);
    suite->plays = calloc(room, sizeof *suite->plays);
    report->results = calloc(room, sizeof *report->results);
    if (!suite->plays || !report->results)
        return -ENOMEM;
    for (size_t i = 0; (row = conform_case(i)); i++) {
        if (!is_wanted(suite->options, row))
            continue;
        struct play *play = &suite->plays[suite->count];
        *play = (struct play){.stage = &suite->stage,
                              .of = row,
                              .bound_ms = suite->options->bound_ms,
                              .leak_bound_ms = suite->options->leak_bound_ms,
                              .tag = tag_of(suite->count),
                              .spare = {-1, -1, -1, -1},
                              .netlink = suite->netlink,
                              .result = &report->results[suite->count]};
        play->result->of = row;
        play->began_ns = end_clock_ns();
        const char *skip = reason_to_skip(suite, row);
        if (skip)
            play_judge(play, CONFORM_SKIP, "%s", skip);
        suite->count++;
    }
    report->count = suite->count;
    return 0;
}

int conform_run(const struct conform_options *options, struct conform_report *report)
{
    struct suite suite = {.options = options};
    const struct stage_events events = {
        .claim = claim, .accepted = accepted, .changed = changed, .context = &suite};
    *report = (struct conform_report){.http = options->http};
    int error = stage_open(&suite.stage, &options->target, &options->backend, options->http, &events);
    if (error)
        return error;
    report->is_direct = suite.stage.is_direct;
    error = netlink_open(&suite.netlink);
    if (!error)
        error = plays_make(&suite, report);
    if (!error)
        play_all(&suite);
    for (size_t i = 0; i < report->count; i++)
        report->of[report->results[i].verdict]++;
    stage_close(&suite.stage);
    netlink_close(suite.netlink);
    free(suite.plays);
    if (error)
        conform_free(report);
    return error;
}

void conform_free(struct conform_report *report)
{
    free(report->results);
    *report = (struct conform_report){0};
}
