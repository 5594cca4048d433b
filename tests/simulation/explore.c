/* Every state that a pair can reach, and every event in each of them, breadth first.
 *
 * The real pair_step() is driven, nothing is a model of it. What is modelled is the caller and the two peers,
 * as little as the contract in pair.h asks: which events are legal, which bytes a kernel has acknowledged. A
 * state is told from another by what later behaviour depends on; moments enter it as distances from now, on a
 * grid, and expiries come as late as the grid makes them, which the contract allows.
 *
 * In each state the invariants are checked, and that time alone leads to the end. A violation is printed with
 * the events that led to it. */

#include "reaper/policy/deadline.h"
#include "reaper/policy/pair.h"

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { START_MS = 1000000, SMALL_BYTES = 1024, BIG_BYTES = 1 << 20, LATE_MS = 700, KEY_BYTES = 56 };

/* ---- what is explored ---- */

struct settings {
    const char *name;
    uint64_t grid_ms;
    uint64_t rate; /* of half_close */
    uint64_t after_ms[DEADLINE_COUNT];
    enum close_action action[DEADLINE_COUNT];
    enum deadline_id rated; /* another one that has this rate, besides; 0: none */
    enum verify verify;
    bool must_end; /* time alone leads to the end */
    bool messages; /* the caller follows messages */
    bool preface;  /* something has to come before; searched until it has come */
};

#define OFF DEADLINE_OFF

static const struct settings all_settings[] = {
    {.name = "short",
     .grid_ms = 1000,
     .must_end = true,
     .rate = 1024,
     .after_ms = {1000, 2000, 1000, OFF, 2000, OFF, 3000, 1000, [DEADLINE_HALF_CLOSE_EMPTY] = OFF},
     .action = {CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST, CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST}},
    {.name = "bounded",
     .grid_ms = 1000,
     .must_end = true,
     .rate = 1024,
     .after_ms = {1000, 3000, 1000, 2000, 2000, 3000, OFF, 1000, [DEADLINE_HALF_CLOSE_EMPTY] = 0},
     .action = {CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST, CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST}},
    {.name = "at once",
     .grid_ms = 1000,
     .must_end = true,
     .rate = 0,
     .after_ms = {1000, 1000, 0, OFF, 1000, OFF, 2000, 0, [DEADLINE_HALF_CLOSE_EMPTY] = OFF},
     .action = {CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST, CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST}},
    {.name = "always FIN",
     .grid_ms = 1000,
     .must_end = true,
     .rate = 1024,
     .after_ms = {1000, 2000, 2000, 3000, 2000, OFF, 2000, 1000, [DEADLINE_HALF_CLOSE_EMPTY] = 1000},
     .action = {CLOSE_RST, CLOSE_FIN, CLOSE_FIN, CLOSE_FIN, CLOSE_FIN, CLOSE_FIN, CLOSE_RST, CLOSE_RST}},
    {.name = "verify",
     .grid_ms = 1000,
     .must_end = true,
     .rate = 1024,
     .verify = VERIFY_EXTEND,
     .after_ms = {1000, 2000, 1000, 3000, 2000, OFF, 3000,
                  1000, [DEADLINE_MESSAGE_GRACE] = 2000, [DEADLINE_HALF_CLOSE_EMPTY] = OFF},
     .action = {CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST, CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST}},
    {.name = "messages",
     .grid_ms = 1000,
     .must_end = true,
     .messages = true,
     .verify = VERIFY_ON,
     .rate = 1024,
     .after_ms = {1000, 2000, 1000, OFF, 2000, OFF, 3000, 2000, 1000, 1000,
                  2000, [DEADLINE_EVENT_STREAM] = 2000, [DEADLINE_KEEPALIVE] = 2000, [DEADLINE_TUNNEL] = 2000,
                  [DEADLINE_MESSAGE_GRACE] = 1000},
     .action = {CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST, CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST}},
    {.name = "short lives",
     .grid_ms = 1000,
     .must_end = true,
     .messages = true,
     .rate = 0,
     .after_ms = {1000, 1000, 1000, OFF, 1000, 3000, 1000, 0, 1000, 1000,
                  1000, [DEADLINE_EVENT_STREAM] = 1000, [DEADLINE_KEEPALIVE] = 1000, [DEADLINE_TUNNEL] = 1000,
                  [DEADLINE_MESSAGE_GRACE] = 0},
     .action = {CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST, CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST}},
    {.name = "slow bytes",
     .grid_ms = 1000,
     .must_end = true,
     .rate = 1024,
     .rated = DEADLINE_IDLE,
     .after_ms = {1000, 2000, 1000, OFF, 1000, OFF, OFF, 0, [DEADLINE_HALF_CLOSE_EMPTY] = OFF},
     .action = {CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST, CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST}},
    {.name = "slow body",
     .grid_ms = 1000,
     .messages = true,
     .rate = 1024,
     .rated = DEADLINE_REQUEST_BODY,
     .after_ms = {OFF, OFF, OFF, OFF, OFF, OFF, OFF, 0, OFF, 2000,
                  OFF, [DEADLINE_EVENT_STREAM] = OFF, [DEADLINE_KEEPALIVE] = OFF, [DEADLINE_TUNNEL] = OFF,
                  [DEADLINE_MESSAGE_GRACE] = 0, [DEADLINE_HALF_CLOSE_EMPTY] = OFF},
     .action = {CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST, CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST}},
    {.name = "slow answer",
     .grid_ms = 1000,
     .messages = true,
     .rate = 1024,
     .rated = DEADLINE_RESPONSE,
     .after_ms = {OFF, OFF, OFF, OFF, OFF, OFF, OFF, 0, OFF, OFF,
                  2000, [DEADLINE_EVENT_STREAM] = OFF, [DEADLINE_KEEPALIVE] = OFF, [DEADLINE_TUNNEL] = OFF,
                  [DEADLINE_MESSAGE_GRACE] = 0, [DEADLINE_HALF_CLOSE_EMPTY] = OFF},
     .action = {CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST, CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST}},
    {.name = "preface",
     .grid_ms = 1000,
     .must_end = true,
     .preface = true,
     .rate = 1024,
     .after_ms =
         {1000, 2000, 1000, OFF, 2000, 4000, 3000, 1000, 1000, 1000,
          2000, [DEADLINE_EVENT_STREAM] = 2000, [DEADLINE_KEEPALIVE] = 2000, [DEADLINE_TUNNEL] = 2000,
          [DEADLINE_MESSAGE_GRACE] = 1000, [DEADLINE_HALF_CLOSE_EMPTY] = OFF, [DEADLINE_PREFACE] = 2000},
     .action = {CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST, CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST}},
    {.name = "off",
     .grid_ms = 1000,
     .rate = 1024,
     .after_ms = {OFF, OFF, OFF, OFF, OFF, OFF, OFF, 1000, [DEADLINE_HALF_CLOSE_EMPTY] = OFF},
     .action = {CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST, CLOSE_RST, CLOSE_FIN, CLOSE_RST, CLOSE_RST}},
};

/* The pair, and what its caller and its peers know. */
struct world {
    struct pair pair;
    uint64_t now_ms;
    uint64_t acked_ms[LEG_COUNT];          /* the peer's kernel last acknowledged */
    uint64_t oldest_unacked_ms[LEG_COUNT]; /* when the byte was written that is not */
    bool unacked[LEG_COUNT];               /* SMALL_BYTES are */
    bool fin_unacked[LEG_COUNT];
    bool fin_sent[LEG_COUNT];
    bool down[LEG_COUNT]; /* closed or aborted by us */
    bool gone[LEG_COUNT]; /* reset by its peer */
    bool closed;          /* the client, as a look at its socket told */
    bool held[HALF_COUNT];
    bool fin_seen[HALF_COUNT];
};

enum move_kind {
    MOVE_EVENT,
    MOVE_RELAY,
    MOVE_RELAY_MUCH,
    MOVE_RELAY_UNACKED,
    MOVE_TURN,
    MOVE_ACK,
    MOVE_ANSWER,
    MOVE_WAIT
};

struct move {
    enum move_kind kind;
    struct pair_input input; /* half for the RELAYs, leg for TURN and ACK */
    bool early;              /* an expiry that was not asked for */
    const char *text;
};

static const struct move moves[] = {
    {MOVE_EVENT, {.event = PAIR_EVENT_CONNECTED}, false, "connected"},
    {MOVE_EVENT, {.event = PAIR_EVENT_REFUSED, .reason = REASON_CONNECT_FAILED}, false, "refused"},
    {MOVE_EVENT, {.event = PAIR_EVENT_FIN, .half = HALF_REQUEST}, false, "FIN of the client"},
    {MOVE_EVENT, {.event = PAIR_EVENT_FIN, .half = HALF_RESPONSE}, false, "FIN of the backend"},
    {MOVE_EVENT, {.event = PAIR_EVENT_HELD, .half = HALF_REQUEST}, false, "request held"},
    {MOVE_EVENT, {.event = PAIR_EVENT_HELD, .half = HALF_RESPONSE}, false, "response held"},
    {MOVE_EVENT, {.event = PAIR_EVENT_DRAINED, .half = HALF_REQUEST}, false, "request drained"},
    {MOVE_EVENT, {.event = PAIR_EVENT_DRAINED, .half = HALF_RESPONSE}, false, "response drained"},
    {MOVE_EVENT, {.event = PAIR_EVENT_DISCARDED, .half = HALF_REQUEST}, false, "request discarded"},
    {MOVE_EVENT, {.event = PAIR_EVENT_DISCARDED, .half = HALF_RESPONSE}, false, "response discarded"},
    {MOVE_EVENT, {.event = PAIR_EVENT_RESET, .leg = LEG_CLIENT}, false, "client reset"},
    {MOVE_EVENT, {.event = PAIR_EVENT_RESET, .leg = LEG_BACKEND}, false, "backend reset"},
    {MOVE_EVENT, {.event = PAIR_EVENT_LOST, .leg = LEG_CLIENT}, false, "client lost"},
    {MOVE_EVENT, {.event = PAIR_EVENT_LOST, .leg = LEG_BACKEND}, false, "backend lost"},
    {MOVE_EVENT, {.event = PAIR_EVENT_EXPIRED}, false, "expired"},
    {MOVE_EVENT, {.event = PAIR_EVENT_EXPIRED}, true, "expired early"},
    {MOVE_EVENT, {.event = PAIR_EVENT_DRAIN}, false, "drain"},
    {MOVE_EVENT, {.event = PAIR_EVENT_ABORT, .reason = REASON_SHUTDOWN}, false, "abort"},
    {MOVE_RELAY, {.half = HALF_REQUEST}, false, "request relayed"},
    {MOVE_RELAY, {.half = HALF_RESPONSE}, false, "response relayed"},
    {MOVE_RELAY_MUCH, {.half = HALF_REQUEST}, false, "much request relayed"},
    {MOVE_RELAY_MUCH, {.half = HALF_RESPONSE}, false, "much response relayed"},
    {MOVE_RELAY_UNACKED, {.half = HALF_REQUEST}, false, "request relayed, not acknowledged"},
    {MOVE_RELAY_UNACKED, {.half = HALF_RESPONSE}, false, "response relayed, not acknowledged"},
    {MOVE_TURN, {.leg = LEG_CLIENT}, false, "client acknowledged what was before the bytes relayed now"},
    {MOVE_TURN, {.leg = LEG_BACKEND}, false, "backend acknowledged what was before the bytes relayed now"},
    {MOVE_ACK, {.leg = LEG_CLIENT}, false, "client acknowledged all"},
    {MOVE_ACK, {.leg = LEG_BACKEND}, false, "backend acknowledged all"},
    {MOVE_EVENT, {.event = PAIR_EVENT_CLOSED}, false, "client known to have closed"},
    {MOVE_ANSWER, {.leg = LEG_CLIENT}, false, "client answered a probe"},
    {MOVE_ANSWER, {.leg = LEG_BACKEND}, false, "backend answered a probe"},
    {MOVE_EVENT, {.event = PAIR_EVENT_STAGE, .stage = PAIR_STAGE_HEAD}, false, "a request begins"},
    {MOVE_EVENT, {.event = PAIR_EVENT_STAGE, .stage = PAIR_STAGE_BODY}, false, "its body begins"},
    {MOVE_EVENT, {.event = PAIR_EVENT_STAGE, .stage = PAIR_STAGE_RESPONSE}, false, "the request is whole"},
    {MOVE_EVENT, {.event = PAIR_EVENT_STAGE, .stage = PAIR_STAGE_ANSWERED}, false, "the response begins"},
    {MOVE_EVENT,
     {.event = PAIR_EVENT_STAGE, .stage = PAIR_STAGE_ANSWERED, .streams = true},
     false,
     "an event stream begins"},
    {MOVE_EVENT, {.event = PAIR_EVENT_STAGE, .stage = PAIR_STAGE_BETWEEN}, false, "the response is whole"},
    {MOVE_EVENT, {.event = PAIR_EVENT_STAGE, .stage = PAIR_STAGE_BYTES}, false, "a tunnel begins"},
    {MOVE_EVENT,
     {.event = PAIR_EVENT_BEGIN, .stage = PAIR_STAGE_BYTES, .servers_left = 1},
     false,
     "bytes begin"},
    {MOVE_EVENT, {.event = PAIR_EVENT_BEGIN, .stage = PAIR_STAGE_HEAD}, false, "messages begin"},
    {MOVE_EVENT, {.event = PAIR_EVENT_ATTACH, .servers_left = 1}, false, "a backend is wanted"},
    {MOVE_EVENT,
     {.event = PAIR_EVENT_LEFT, .end = LEG_END_FIN},
     false,
     "the backend closed between messages"},
    {MOVE_EVENT,
     {.event = PAIR_EVENT_LEFT, .end = LEG_END_RESET},
     false,
     "the backend reset between messages"},
    {MOVE_EVENT,
     {.event = PAIR_EVENT_LEFT, .end = LEG_END_POOLED},
     false,
     "the backend leg goes to the pool"},
    {MOVE_EVENT, {.event = PAIR_EVENT_CUT}, false, "the backend closed inside a response"},
    {MOVE_EVENT, {.event = PAIR_EVENT_CUT, .framed = true}, false, "the backend closed inside a framed one"},
    {MOVE_EVENT, {.event = PAIR_EVENT_REFUSE, .reason = REASON_BAD_REQUEST}, false, "refused by ourselves"},
    {MOVE_EVENT, {.event = PAIR_EVENT_COMPLETE, .reason = REASON_CLOSED}, false, "complete"},
    {MOVE_WAIT, {0}, false, "time passed"},
};

enum { MOVE_COUNT = sizeof moves / sizeof moves[0] };

static bool connecting(const struct world *world)
{
    return world->pair.phase == PAIR_CONNECTING;
}

static bool relaying(const struct world *world)
{
    return world->pair.phase == PAIR_OPEN || world->pair.phase == PAIR_ENDING;
}

static bool waiting(const struct world *world)
{
    return world->pair.phase == PAIR_WAITING;
}

static enum pair_stage stage_of(const struct world *world)
{
    return (enum pair_stage)world->pair.stage;
}

static bool follows(const struct world *world)
{
    return stage_of(world) != PAIR_STAGE_BYTES;
}

/* A request is with the backend, or on its way to it. */
static bool exchanging(const struct world *world)
{
    enum pair_stage stage = stage_of(world);
    return stage == PAIR_STAGE_BODY || stage == PAIR_STAGE_RESPONSE || stage == PAIR_STAGE_ANSWERED;
}

/* The caller acts before anything else can happen: it attaches or refuses, or has its answer taken or held.
 * */
static bool must_act(const struct world *world)
{
    return waiting(world) &&
           (exchanging(world) || (stage_of(world) == PAIR_STAGE_REFUSED && !world->held[HALF_RESPONSE]));
}

/* Bytes of the half may go to its sink, or be held for it. */
static bool flows(const struct world *world, enum half half)
{
    if (follows(world) && waiting(world))
        return half == HALF_RESPONSE && stage_of(world) == PAIR_STAGE_REFUSED;
    return relaying(world) && !world->fin_seen[half] && (!follows(world) || exchanging(world));
}

static bool may_relay(const struct world *world, enum half half)
{
    return world->held[half] || flows(world, half);
}

static bool stage_legal(const struct world *world, enum pair_stage next)
{
    const struct pair *pair = &world->pair;
    bool holds = world->held[HALF_REQUEST] || world->held[HALF_RESPONSE];
    switch (next) {
    case PAIR_STAGE_HEAD:
        return stage_of(world) == PAIR_STAGE_BETWEEN;
    case PAIR_STAGE_BODY:
        return stage_of(world) == PAIR_STAGE_HEAD;
    case PAIR_STAGE_RESPONSE:
        return stage_of(world) == PAIR_STAGE_HEAD || (stage_of(world) == PAIR_STAGE_BODY && relaying(world));
    case PAIR_STAGE_ANSWERED:
        return relaying(world) && exchanging(world) && stage_of(world) != PAIR_STAGE_ANSWERED;
    case PAIR_STAGE_BETWEEN:
        return stage_of(world) == PAIR_STAGE_ANSWERED && pair->phase == PAIR_OPEN && !pair->draining &&
               !holds;
    case PAIR_STAGE_BYTES:
        return relaying(world) && stage_of(world) == PAIR_STAGE_ANSWERED;
    default:
        return false;
    }
}

/* What only a caller that follows messages reports. */
static bool message_legal(const struct world *world, const struct pair_input *input)
{
    bool early = exchanging(world) && stage_of(world) != PAIR_STAGE_ANSWERED;
    bool quiet = stage_of(world) == PAIR_STAGE_BETWEEN || stage_of(world) == PAIR_STAGE_HEAD;
    if (!follows(world) || !(waiting(world) || relaying(world)))
        return false;
    switch (input->event) {
    case PAIR_EVENT_STAGE:
        return stage_legal(world, input->stage);
    case PAIR_EVENT_BEGIN:
        return stage_of(world) == PAIR_STAGE_PREFACE && waiting(world);
    case PAIR_EVENT_ATTACH:
        return waiting(world) && early;
    case PAIR_EVENT_LEFT:
        if (input->end == LEG_END_POOLED)
            return world->pair.phase == PAIR_OPEN && quiet;
        return relaying(world) && (quiet || early) && !world->held[HALF_RESPONSE];
    case PAIR_EVENT_CUT:
        return relaying(world) && stage_of(world) == PAIR_STAGE_ANSWERED;
    case PAIR_EVENT_REFUSE:
        return stage_of(world) == PAIR_STAGE_HEAD || early;
    case PAIR_EVENT_COMPLETE:
        return !early && !world->held[HALF_RESPONSE];
    default:
        return false;
    }
}

static uint64_t expiry_ms(const struct world *world, const struct settings *settings)
{
    uint64_t next_ms = pair_next_ms(&world->pair, world->now_ms);
    if (next_ms == DEADLINE_OFF)
        return DEADLINE_OFF;
    next_ms += (settings->grid_ms - next_ms % settings->grid_ms) % settings->grid_ms;
    return next_ms > world->now_ms ? next_ms : world->now_ms;
}

/* The client has sent FIN behind its request and waits for what the backend says. */
static bool nobody_reads(const struct world *world)
{
    if (!world->pair.up[LEG_CLIENT])
        return false;
    if (follows(world) && world->pair.phase <= PAIR_ENDING)
        return stage_of(world) == PAIR_STAGE_RESPONSE || stage_of(world) == PAIR_STAGE_ANSWERED;
    return !connecting(world) && world->fin_seen[HALF_REQUEST] && world->fin_sent[LEG_BACKEND];
}

static bool event_legal(const struct world *world, const struct settings *settings, const struct move *move)
{
    enum half half = move->input.half;
    bool up = world->pair.up[half_source(half)];
    switch (move->input.event) {
    case PAIR_EVENT_CONNECTED:
    case PAIR_EVENT_REFUSED:
        return connecting(world);
    case PAIR_EVENT_FIN:
        return !connecting(world) && up && !world->fin_seen[half] &&
               (!follows(world) || world->pair.phase >= PAIR_RESETTING);
    case PAIR_EVENT_HELD:
        return flows(world, half) && !world->held[half];
    case PAIR_EVENT_DRAINED:
        return world->held[half];
    case PAIR_EVENT_DISCARDED:
        return up && pair_discards(&world->pair, half) && !world->fin_seen[half];
    case PAIR_EVENT_RESET:
    case PAIR_EVENT_LOST:
        return world->pair.up[move->input.leg] &&
               (move->input.leg == LEG_CLIENT || !follows(world) || stage_of(world) == PAIR_STAGE_ANSWERED ||
                world->pair.phase >= PAIR_RESETTING);
    case PAIR_EVENT_CLOSED:
        return settings->verify != VERIFY_OFF && nobody_reads(world);
    case PAIR_EVENT_EXPIRED:
        return move->early || expiry_ms(world, settings) != DEADLINE_OFF;
    case PAIR_EVENT_DRAIN:
    case PAIR_EVENT_ABORT:
        return true;
    default:
        return message_legal(world, &move->input);
    }
}

static bool legal(const struct world *world, const struct settings *settings, const struct move *move)
{
    enum leg leg = move->input.leg;
    if (must_act(world) && !message_legal(world, &move->input) &&
        !(stage_of(world) == PAIR_STAGE_REFUSED && move->input.half == HALF_RESPONSE))
        return false;
    switch (move->kind) {
    case MOVE_EVENT:
        return event_legal(world, settings, move);
    case MOVE_RELAY:
    case MOVE_RELAY_MUCH:
    case MOVE_RELAY_UNACKED:
        return may_relay(world, move->input.half) && !world->unacked[half_sink(move->input.half)];
    case MOVE_TURN:
        return world->pair.up[leg] && world->unacked[leg] && may_relay(world, half_to(leg));
    case MOVE_ACK:
        return world->pair.up[leg] && (world->unacked[leg] || world->fin_unacked[leg]);
    case MOVE_ANSWER:
        return world->pair.up[leg] && track_probing(&world->pair) &&
               world->acked_ms[leg] < world->pair.probed_ms;
    case MOVE_WAIT:
        return world->now_ms + settings->grid_ms <= expiry_ms(world, settings);
    }
    return false;
}

/* ---- what must hold ---- */

static const char *broken; /* the first invariant that did not hold */

static void must(bool holds, const char *what)
{
    if (!holds && !broken)
        broken = what;
}

/* A FIN of the other peer goes out, rather than one that a deadline makes. */
static bool relays_fin(const struct world *after, enum leg leg)
{
    return after->fin_seen[half_to(leg)];
}

static void check_fin(const struct world *before, const struct world *after, enum leg leg)
{
    enum half half = half_to(leg);
    must(!before->down[leg] && !before->gone[leg], "a FIN goes only to a leg that is up");
    must(!before->fin_sent[leg], "a FIN goes out once");
    must(!after->held[half], "no FIN passes a byte");
    if (relays_fin(after, leg))
        return;
    must(!before->gone[leg_other(leg)] || before->pair.phase == PAIR_CLOSING || follows(before),
         "a reset never becomes a FIN");
    must(leg != LEG_CLIENT || !before->pair.client_awaits_reply || follows(before),
         "a client that is owed an answer never gets a FIN of ours");
    must(!before->fin_seen[half_from(leg)] || follows(before), /* there only where it can tell the end */
         "a half-closed peer never gets a FIN of ours");
}

/* The deadline behind an expiry that is to spare deliveries; DEADLINE_COUNT: it was another. With a rate,
 * grace may end a delivery that is only too slow. */
static enum deadline_id sparing_deadline(const struct world *before, const struct world *after,
                                         const struct settings *settings)
{
    if (before->pair.phase == PAIR_CLOSING)
        return settings->rate == 0 && !before->pair.draining ? DEADLINE_GRACE : DEADLINE_COUNT;
    if (!relaying(before))
        return DEADLINE_COUNT;
    if (after->pair.reason == REASON_IDLE)
        return DEADLINE_IDLE;
    if (after->pair.reason == REASON_HALF_CLOSE_EMPTY)
        return DEADLINE_HALF_CLOSE_EMPTY;
    return after->pair.reason == REASON_HALF_CLOSE ? DEADLINE_HALF_CLOSE : DEADLINE_COUNT;
}

/* Bytes that a peer has not acknowledged were given DELIVERY_MS, from when they were written or from when the
 * deadline came due. */
static bool was_spared(const struct world *before, const struct world *after, enum deadline_id id,
                       enum leg leg)
{
    uint64_t due_ms = deadline_row(id)->since(&before->pair) + before->pair.deadlines->after_ms[id];
    return after->now_ms - before->oldest_unacked_ms[leg] >= DELIVERY_MS ||
           after->now_ms >= due_ms + DELIVERY_MS;
}

static void check_rst(const struct world *before, const struct world *after, const struct settings *settings,
                      const struct move *move, enum leg leg)
{
    must(!before->down[leg] && !before->gone[leg], "RST goes only to a leg that is up");
    if (move->input.event != PAIR_EVENT_EXPIRED || !before->unacked[leg] || follows(before))
        return;
    enum deadline_id id = sparing_deadline(before, after, settings);
    must(id == DEADLINE_COUNT || was_spared(before, after, id, leg),
         "no RST to a leg whose peer still takes bytes");
}

static void check_close(const struct world *before, const struct world *after, enum leg leg)
{
    must(!before->down[leg], "a leg is closed once");
    bool closed = leg == LEG_CLIENT && after->closed;
    bool left = leg == LEG_BACKEND && follows(before) && relaying(before);
    must(connecting(before) || closed || left || after->gone[leg] ||
             (after->fin_seen[half_from(leg)] && after->fin_sent[leg]),
         "a leg is closed only after both FINs, or when its peer is gone");
}

static void check_leg(const struct world *before, const struct world *after, const struct settings *settings,
                      const struct move *move, pair_actions actions, enum leg leg)
{
    bool fins = actions & (pair_actions)PAIR_DO_FIN << leg;
    bool aborts = actions & (pair_actions)PAIR_DO_RST << leg;
    bool closes = actions & (pair_actions)PAIR_DO_CLOSE << leg;
    static const enum leg_end none = LEG_END_NONE;
    enum leg_end leg_end = (enum leg_end)after->pair.leg_end[leg];
    if (fins)
        check_fin(before, after, leg);
    if (aborts)
        check_rst(before, after, settings, move, leg);
    if (closes)
        check_close(before, after, leg);
    must(!(aborts && closes) && !(aborts && fins), "RST stands alone");
    must(!aborts || leg_end == LEG_END_RST, "the end of a leg is recorded: rst");
    must(!closes || connecting(before) || leg_end == (after->gone[leg] ? LEG_END_RESET : LEG_END_FIN),
         "the end of a leg is recorded: fin or reset");
    must(!after->pair.up[leg] || leg_end == none, "a leg that is up has not ended");
    must(connecting(after) || after->pair.up[leg] == !after->down[leg], "a leg is up until it is taken down");
}

static void check_lost(const struct world *before, const struct world *after, const struct move *move)
{
    static const enum reason lost[LEG_COUNT] = {
        [LEG_CLIENT] = REASON_CLIENT_LOST, [LEG_BACKEND] = REASON_BACKEND_LOST};
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        must(move->input.event != PAIR_EVENT_EXPIRED || after->pair.reason != lost[leg] ||
                 before->pair.reason == lost[leg] ||
                 (track_probing(&before->pair) && before->acked_ms[leg] < before->pair.probed_ms),
             "a peer that answered a probe is never called lost");
}

static void check_step(const struct world *before, const struct world *after, const struct settings *settings,
                       const struct move *move, pair_actions actions)
{
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        check_leg(before, after, settings, move, actions, leg);
    check_lost(before, after, move);
    bool ended = after->pair.phase == PAIR_ENDED;
    must(ended == !!(actions & PAIR_DO_END), "an end is told");
    must(!ended || after->pair.reason != REASON_NONE, "an end has a reason");
    bool answers = actions & PAIR_DO_ANSWER;
    must(!(actions & PAIR_DO_RETIRE) || (before->pair.up[LEG_BACKEND] && !after->pair.up[LEG_BACKEND] &&
                                         stage_of(before) == PAIR_STAGE_HEAD && answers),
         "a backend parts with nothing outstanding");
    must(!answers || (waiting(after) && stage_of(after) == PAIR_STAGE_REFUSED && before->pair.up[LEG_CLIENT]),
         "an answer of our own goes to a client that is there");
    must(!answers || stage_of(before) != PAIR_STAGE_ANSWERED, "no answer of ours follows a backend's");
    must(!ended || (after->down[LEG_CLIENT] && after->down[LEG_BACKEND]), "an end leaves no leg up");
    must(!ended || pair_next_ms(&after->pair, after->now_ms) == DEADLINE_OFF, "nothing is due after the end");
    must(!(actions & PAIR_DO_CONNECT) ||
             (connecting(after) && (before->pair.servers_left > 0 || waiting(before))),
         "there is a server to be tried next");
    for (enum half half = 0; half < HALF_COUNT; half++)
        must(after->pair.half[half].held == after->held[half], "pair and caller agree on what is held");
    pair_check(&after->pair);
}

/* ---- moves ---- */

/* Ages are read long after the turn has begun. */
static void sample(struct world *world)
{
    uint64_t clock_ms = world->now_ms + LATE_MS;
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        if (world->pair.up[leg])
            pair_sample(&world->pair, leg,
                        (world->unacked[leg] ? (uint64_t)SMALL_BYTES : 0) + (world->fin_unacked[leg] ? 1 : 0),
                        clock_ms - world->acked_ms[leg], clock_ms);
}

static void obey(struct world *world, pair_actions actions)
{
    for (enum leg leg = 0; leg < LEG_COUNT; leg++) {
        if (actions & (pair_actions)PAIR_DO_FIN << leg)
            world->fin_sent[leg] = world->fin_unacked[leg] = true;
        if (actions & (((pair_actions)PAIR_DO_RST | PAIR_DO_CLOSE) << leg)) {
            world->down[leg] = true;
            world->unacked[leg] = world->fin_unacked[leg] = false;
            world->held[half_to(leg)] = false;
        }
    }
    if (actions & PAIR_DO_RETIRE) {
        world->down[LEG_BACKEND] = true;
        world->unacked[LEG_BACKEND] = world->fin_unacked[LEG_BACKEND] = false;
    }
}

static void play_event(struct world *world, const struct settings *settings, const struct move *move)
{
    struct world before = *world;
    const struct pair_input *input = &move->input;
    if (input->event == PAIR_EVENT_EXPIRED && !move->early)
        world->now_ms = expiry_ms(world, settings);
    if (input->event == PAIR_EVENT_FIN)
        world->fin_seen[input->half] = true;
    if (input->event == PAIR_EVENT_HELD || input->event == PAIR_EVENT_DRAINED)
        world->held[input->half] = input->event == PAIR_EVENT_HELD;
    if (input->event == PAIR_EVENT_RESET || input->event == PAIR_EVENT_LOST)
        world->gone[input->leg] = true;
    if (input->event == PAIR_EVENT_CLOSED)
        world->closed = true;
    if (input->event == PAIR_EVENT_LEFT && input->end == LEG_END_RESET)
        world->gone[LEG_BACKEND] = true;
    if (input->event == PAIR_EVENT_ATTACH ||
        (input->event == PAIR_EVENT_BEGIN && input->stage == PAIR_STAGE_BYTES)) {
        world->down[LEG_BACKEND] = world->gone[LEG_BACKEND] = false;
        world->fin_sent[LEG_BACKEND] = world->fin_seen[HALF_RESPONSE] = false;
    }
    sample(world);
    pair_actions actions = pair_step(&world->pair, input, world->now_ms);
    obey(world, actions);
    if (input->event == PAIR_EVENT_LEFT && input->end == LEG_END_POOLED) {
        must(actions == 0, "a leg that goes to the pool is left as it is");
        obey(world, (pair_actions)PAIR_DO_CLOSE << LEG_BACKEND); /* by whoever has it now */
    }
    check_step(&before, world, settings, move, actions);
}

static void relay(struct world *world, enum half half, uint64_t bytes)
{
    pair_progress(&world->pair, half, bytes, world->now_ms);
    world->acked_ms[half_sink(half)] = world->now_ms;
}

static void play(struct world *world, const struct settings *settings, const struct move *move)
{
    enum leg leg = move->input.leg;
    enum leg sink = half_sink(move->input.half);
    switch (move->kind) {
    case MOVE_EVENT:
        play_event(world, settings, move);
        break;
    case MOVE_RELAY:
        relay(world, move->input.half, SMALL_BYTES);
        break;
    case MOVE_RELAY_MUCH:
        relay(world, move->input.half, BIG_BYTES);
        break;
    case MOVE_RELAY_UNACKED:
        pair_progress(&world->pair, move->input.half, SMALL_BYTES, world->now_ms);
        world->unacked[sink] = true;
        world->oldest_unacked_ms[sink] = world->now_ms;
        break;
    case MOVE_TURN:
        relay(world, half_to(leg), SMALL_BYTES);
        world->oldest_unacked_ms[leg] = world->now_ms;
        break;
    case MOVE_ACK:
        world->acked_ms[leg] = world->now_ms;
        world->unacked[leg] = world->fin_unacked[leg] = false;
        break;
    case MOVE_ANSWER:
        world->acked_ms[leg] = world->now_ms;
        break;
    case MOVE_WAIT:
        world->now_ms += settings->grid_ms;
        break;
    }
    if (world->pair.phase != PAIR_ENDED)
        sample(world);
}

/* Time alone, with peers that do nothing at all. */
static void check_that_time_ends(struct world world, const struct settings *settings,
                                 const struct deadlines *deadlines)
{
    static const struct move expired = {MOVE_EVENT, {.event = PAIR_EVENT_EXPIRED}, false, "expired"};
    uint64_t bound_ms = world.now_ms + 10 * settings->grid_ms + 4 * DELIVERY_MS;
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++)
        if (deadlines->after_ms[id] != OFF)
            bound_ms += deadlines->after_ms[id];
    world.pair.deadlines = deadlines;
    while (world.pair.phase != PAIR_ENDED && !must_act(&world) && !broken) {
        must(legal(&world, settings, &expired), "every state but the end has something due");
        must(world.now_ms <= bound_ms, "time alone leads to the end");
        if (!broken)
            play(&world, settings, &expired);
    }
}

/* ---- states ---- */

struct state {
    struct world world;
    uint32_t from;
    uint8_t by; /* move */
    uint8_t key[KEY_BYTES];
};

struct search {
    const struct settings *settings;
    struct state *states;
    uint32_t *slots; /* index + 1 into states, by hash of the key */
    uint32_t count, capacity, slot_count;
    uint64_t transitions;
    struct deadlines defaults;
};

static void *must_allocate(void *old, size_t bytes)
{
    void *memory = realloc(old, bytes);
    if (!memory) {
        fputs("explore: out of memory\n", stderr);
        exit(1);
    }
    return memory;
}

/* How long ago, on the grid; anything beyond what a deadline could ask for is the same. 0: does not matter.
 */
static uint8_t distance(const struct search *search, const struct world *world, bool matters, uint64_t ms,
                        uint64_t most_ms)
{
    if (!matters || most_ms == OFF)
        return 0;
    uint64_t past_ms = world->now_ms - ms;
    return (uint8_t)(1 + (past_ms < most_ms ? past_ms : most_ms) / search->settings->grid_ms);
}

static uint64_t max_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t progress_ms(const struct pair *pair)
{
    return max_of(track_half_progress_ms(pair, HALF_REQUEST), track_half_progress_ms(pair, HALF_RESPONSE));
}

static uint64_t stalled_ms(const struct half_track *h)
{
    return max_of(h->held_since_ms, max_of(h->written_ms, h->acked_ms));
}

/* What acknowledged bytes would buy at the next expiry, in steps of the grid. */
static uint8_t credit(const struct search *search, const struct world *world,
                      const struct track_window *window, uint64_t acked_bytes)
{
    uint64_t bytes = acked_bytes - window->bytes;
    uint64_t most = (world->now_ms - window->ms) / search->settings->grid_ms;
    uint64_t steps = (bytes + 1) / SMALL_BYTES;
    return (uint8_t)(bytes == 0 ? 0 : 1 + (steps < most ? steps : most));
}

/* The longest time for which the start of the window matters. */
static uint64_t window_most_ms(const struct pair *pair, const uint64_t after_ms[])
{
    if (pair->phase == PAIR_RESETTING)
        return after_ms[DEADLINE_WRITE_STALL];
    enum deadline_id open = track_half_closed(pair) ? DEADLINE_HALF_CLOSE : DEADLINE_IDLE;
    uint64_t after = after_ms[pair->phase == PAIR_CLOSING ? DEADLINE_GRACE : open];
    return after == OFF ? OFF : after + DELIVERY_MS;
}

static bool is_empty(const struct pair *pair)
{
    return pair->half[HALF_REQUEST].written_bytes == 0 && pair->half[HALF_RESPONSE].written_bytes == 0;
}

/* The longest time for which the first end of a half matters. */
static uint64_t half_closed_most_ms(bool empty, const uint64_t after_ms[])
{
    uint64_t max_ms = after_ms[DEADLINE_HALF_CLOSE_MAX];
    if (!empty)
        return max_ms;
    return max_of(after_ms[DEADLINE_HALF_CLOSE_EMPTY] + DELIVERY_MS, max_ms == OFF ? 0 : max_ms);
}

/* The window of the deadline that has a rate, besides half_close's and idle's. */
static void make_rate_key(const struct search *search, const struct world *world, uint8_t *key)
{
    const struct pair *pair = &world->pair;
    const uint64_t *after_ms = search->settings->after_ms;
    enum deadline_id rated = search->settings->rated;
    enum half half = rated == DEADLINE_REQUEST_BODY ? HALF_REQUEST : HALF_RESPONSE;
    const struct half_track *h = &pair->half[half];
    const struct track_window *window = rated == DEADLINE_WRITE_STALL ? &pair->taken : &h->sent;
    uint64_t most_ms = after_ms[rated];
    bool matters = rated == DEADLINE_WRITE_STALL ? h->held && (relaying(world) || waiting(world))
                                                 : follows(world) && relaying(world);
    if (rated == DEADLINE_WRITE_STALL && !h->held && world->now_ms <= pair->taken_until_ms + 1000) {
        key[0] = distance(search, world, true, pair->taken_until_ms, 1000);
        matters = true; /* it goes on if the half is held again */
    }
    if (rated == DEADLINE_IDLE || !matters)
        return;
    key[1] = distance(search, world, true, window->ms, most_ms);
    key[2] = (uint8_t)(credit(search, world, window, h->acked_bytes) | (h->acked_bytes > window->caught_bytes)
                                                                           << 7);
}

/* Bytes of the window were acknowledged that were not enough. */
static bool trickled(const struct search *search, const struct world *world)
{
    const struct pair *pair = &world->pair;
    if (!relaying(world))
        return false;
    if (track_half_closed(pair))
        return track_trickled(pair);
    return search->settings->rated == DEADLINE_IDLE && track_acked_bytes(pair) > pair->window.caught_bytes;
}

/* Everything that later behaviour depends on. */
static void make_key(const struct search *search, const struct world *world, uint8_t key[KEY_BYTES])
{
    const struct pair *pair = &world->pair;
    const uint64_t *after_ms = search->settings->after_ms;
    bool idle_rated = search->settings->rated == DEADLINE_IDLE;
    bool windowed = track_half_closed(pair) || pair->phase >= PAIR_RESETTING ||
                    (idle_rated && relaying(world) && !follows(world));
    size_t n = 0;
    memset(key, 0, KEY_BYTES);
    key[n++] = pair->phase;
    key[n++] = pair->reason;
    if (pair->phase == PAIR_ENDED)
        return;
    key[n++] = (uint8_t)(pair->client_awaits_reply | pair->draining << 1 | pair->fin_to_client << 2 |
                         world->closed << 3 | (uint8_t)pair->servers_left << 4);
    for (enum leg leg = 0; leg < LEG_COUNT; leg++) {
        key[n++] = (uint8_t)(pair->up[leg] | world->unacked[leg] << 1 | world->fin_unacked[leg] << 2 |
                             world->fin_sent[leg] << 3 | world->gone[leg] << 4 | world->down[leg] << 5);
        key[n++] = distance(search, world, world->unacked[leg], world->oldest_unacked_ms[leg], DELIVERY_MS);
    }
    bool probing = track_probing(pair);
    key[n++] = probing ? (uint8_t)(1 | (world->acked_ms[LEG_CLIENT] >= pair->probed_ms) << 1 |
                                   (world->acked_ms[LEG_BACKEND] >= pair->probed_ms) << 2)
                       : 0;
    key[n++] = distance(search, world, probing, pair->asked_ms, 1000);
    key[n++] = probing ? pair->probes : 0;
    for (enum half half = 0; half < HALF_COUNT; half++) {
        const struct half_track *h = &pair->half[half];
        key[n++] = (uint8_t)(h->fin_in | h->fin_out << 1 | h->held << 2 | world->fin_seen[half] << 3);
        key[n++] = distance(search, world, h->held && (relaying(world) || waiting(world)), stalled_ms(h),
                            after_ms[DEADLINE_WRITE_STALL]);
    }
    bool ending = pair->phase == PAIR_ENDING;
    key[n++] =
        distance(search, world, track_gives_time(pair), pair->ending_ms, after_ms[DEADLINE_MESSAGE_GRACE]);
    if (follows(world)) {
        uint64_t most_ms = max_of(max_of(after_ms[DEADLINE_REQUEST_HEAD], after_ms[DEADLINE_REQUEST_BODY]),
                                  max_of(after_ms[DEADLINE_RESPONSE], after_ms[DEADLINE_KEEPALIVE]));
        most_ms = max_of(most_ms, after_ms[DEADLINE_PREFACE]);
        key[n++] = (uint8_t)(pair->stage | pair->streams << 7);
        key[n++] = distance(search, world, pair->phase <= PAIR_ENDING, pair->stage_ms, most_ms);
        key[n++] =
            distance(search, world, relaying(world), track_half_progress_ms(pair, HALF_REQUEST), most_ms);
        key[n++] = distance(search, world, pair->phase == PAIR_CLOSING, pair->ending_ms,
                            after_ms[DEADLINE_MESSAGE_GRACE]);
    }
    key[n++] = distance(search, world, connecting(world), pair->attempt_ms, after_ms[DEADLINE_CONNECT]);
    key[n++] =
        distance(search, world, relaying(world), progress_ms(pair), max_of(after_ms[DEADLINE_IDLE], 2000));
    key[n++] = distance(search, world, windowed, pair->window.ms, window_most_ms(pair, after_ms));
    key[n++] = (uint8_t)((windowed ? credit(search, world, &pair->window, track_acked_bytes(pair)) : 0) |
                         trickled(search, world) << 7);
    key[n++] = distance(search, world, pair->spared_ms != 0, pair->spared_ms, DELIVERY_MS);
    bool empty = is_empty(pair) && after_ms[DEADLINE_HALF_CLOSE_EMPTY] != OFF;
    key[n++] = empty && pair->phase <= PAIR_ENDING;
    key[n++] = distance(search, world, track_half_closed(pair) && relaying(world), pair->half_closed_ms,
                        half_closed_most_ms(empty, after_ms));
    key[n++] = distance(search, world, ending && pair->reason == REASON_LIFETIME, pair->ending_ms,
                        after_ms[DEADLINE_GRACE] + DELIVERY_MS);
    key[n++] =
        distance(search, world, pair->phase <= PAIR_ENDING, pair->accepted_ms, after_ms[DEADLINE_LIFETIME]);
    key[n++] = distance(search, world, pair->draining, pair->drain_ms, after_ms[DEADLINE_DRAIN]);
    if (search->settings->rated)
        make_rate_key(search, world, key + n);
}

static uint32_t hash(const uint8_t key[KEY_BYTES])
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < KEY_BYTES; i++)
        h = (h ^ key[i]) * 16777619u;
    return h;
}

static uint32_t *find_slot(const struct search *search, const uint8_t key[KEY_BYTES])
{
    uint32_t slot = hash(key) & (search->slot_count - 1);
    while (search->slots[slot] && memcmp(search->states[search->slots[slot] - 1].key, key, KEY_BYTES) != 0)
        slot = (slot + 1) & (search->slot_count - 1);
    return &search->slots[slot];
}

static void grow(struct search *search)
{
    search->capacity = search->capacity ? 2 * search->capacity : 4096;
    search->slot_count = 4 * search->capacity;
    search->states = must_allocate(search->states, search->capacity * sizeof *search->states);
    search->slots = must_allocate(search->slots, search->slot_count * sizeof *search->slots);
    memset(search->slots, 0, search->slot_count * sizeof *search->slots);
    for (uint32_t i = 0; i < search->count; i++)
        *find_slot(search, search->states[i].key) = i + 1;
}

static void add_state(struct search *search, const struct world *world, uint32_t from, uint8_t by)
{
    uint8_t key[KEY_BYTES];
    make_key(search, world, key);
    if (search->count == search->capacity)
        grow(search);
    uint32_t *slot = find_slot(search, key);
    if (*slot)
        return;
    struct state *state = &search->states[search->count];
    state->world = *world;
    state->from = from;
    state->by = by;
    memcpy(state->key, key, KEY_BYTES);
    *slot = ++search->count;
}

/* ---- the search ---- */

static uint32_t exploring; /* for a path when an assertion of pair.c fails */
static const struct search *present_search;
static const struct move *present_move;

static void print_path(const struct search *search, uint32_t index)
{
    const struct state *state = &search->states[index];
    if (index != 0)
        print_path(search, state->from);
    printf("  %-60s %s at %llu ms\n", index ? moves[state->by].text : "accepted",
           pair_phase_name((enum pair_phase)state->world.pair.phase),
           (unsigned long long)(state->world.now_ms - START_MS));
}

static void print_violation(const char *what)
{
    printf("settings \"%s\": broken: %s\n", present_search->settings->name, what);
    print_path(present_search, exploring);
    printf("  %s\n", present_move ? present_move->text : "time alone");
    fflush(stdout);
}

/* A failed assertion of pair.c comes back to the search, for the path that led to it. */
static sigjmp_buf asserted;

static void on_abort(int signal_number)
{
    siglongjmp(asserted, signal_number);
}

/* From here on it is as in another search: behind a preface, or in a tunnel. */
static bool is_elsewhere(const struct search *search, const struct world *world)
{
    if (search->settings->preface)
        return stage_of(world) != PAIR_STAGE_PREFACE;
    return search->settings->messages && !follows(world);
}

static bool expand(struct search *search, uint32_t index)
{
    exploring = index;
    for (uint8_t i = 0; i < MOVE_COUNT && !broken; i++) {
        struct world world = search->states[index].world;
        present_move = &moves[i];
        if (world.pair.phase == PAIR_ENDED || is_elsewhere(search, &world) ||
            !legal(&world, search->settings, &moves[i]))
            continue;
        play(&world, search->settings, &moves[i]);
        search->transitions++;
        if (!broken)
            add_state(search, &world, index, i);
    }
    present_move = NULL;
    if (!broken && search->settings->must_end)
        check_that_time_ends(search->states[index].world, search->settings,
                             search->states[index].world.pair.deadlines);
    if (!broken)
        check_that_time_ends(search->states[index].world, search->settings, &search->defaults);
    if (broken)
        print_violation(broken);
    return !broken;
}

static bool explore(const struct settings *settings)
{
    struct deadlines deadlines = {.verify = settings->verify};
    struct search search = {.settings = settings};
    struct world start = {.now_ms = START_MS};
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++) {
        deadlines.after_ms[id] = settings->after_ms[id];
        deadlines.rate[id] = id == DEADLINE_HALF_CLOSE || (id == settings->rated && id) ? settings->rate : 0;
        deadlines.action[id][LEG_CLIENT] = deadlines.action[id][LEG_BACKEND] = settings->action[id];
    }
    deadlines_default(&search.defaults);
    present_search = &search;
    if (settings->preface)
        pair_init_preface(&start.pair, &deadlines, START_MS);
    else if (settings->messages)
        pair_init_messages(&start.pair, &deadlines, START_MS);
    else
        pair_init(&start.pair, &deadlines, 1, START_MS);
    start.down[LEG_BACKEND] = settings->messages || settings->preface;
    add_state(&search, &start, 0, 0);
    bool fine = true;
    for (uint32_t index = 0; index < search.count && fine; index++)
        fine = expand(&search, index);
    if (fine)
        printf("%-12s %9u states %10llu transitions\n", settings->name, search.count,
               (unsigned long long)search.transitions);
    free(search.states);
    free(search.slots);
    return fine;
}

/* explore [NAME...]: these settings, or all. */
int main(int argc, char **argv)
{
    signal(SIGABRT, on_abort);
    if (sigsetjmp(asserted, 1) != 0) {
        print_violation("an assertion");
        return 1;
    }
    for (size_t i = 0; i < sizeof all_settings / sizeof all_settings[0]; i++) {
        bool wanted = argc < 2;
        for (int arg = 1; arg < argc; arg++)
            wanted = wanted || strcmp(argv[arg], all_settings[i].name) == 0;
        if (wanted && !explore(&all_settings[i]))
            return 1;
    }
    return 0;
}
