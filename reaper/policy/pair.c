#include "reaper/policy/pair.h"

#include "reaper/policy/change.h"
#include "reaper/policy/deadline.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

/* A session that was told to end is at rest when nothing has moved for this long and nobody is owed bytes. */
#define REST_MS UINT64_C(1000)

/* How often a pair that only waits for acknowledgements is looked at again; soon at first, for most come at
 * once, and those that are delayed within 40 ms (TCP_DELACK_MIN, include/net/tcp.h). */
#define RECHECK_MS UINT64_C(50)

/* How often in a write_stall deadline a half that holds bytes is looked at. When the last of them was taken
 * is known from the kernel's last acknowledgement, but a peer that takes none acknowledges window probes:
 * only two looks tell whether bytes were acknowledged in between. */
#define STALL_LOOKS 8

static uint64_t max_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t min_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- at rest ---- */

/* Half-closed is no rest: the peer that ended its half waits for the end of the other, and a FIN of our
 * making would look like it. */
static bool at_rest(const struct pair *pair, uint64_t now_ms)
{
    if (pair->stage != PAIR_STAGE_BYTES) /* the caller knows when, and reports it */
        return false;
    if (track_half_closed(pair) || pair->client_awaits_reply || track_delivering(pair))
        return false;
    for (enum half half = 0; half < HALF_COUNT; half++)
        if (pair->half[half].held)
            return false;
    return now_ms >= track_progress_ms(pair) + REST_MS;
}

/* ---- events ---- */

static pair_actions on_connected(struct pair *pair, uint64_t now_ms)
{
    assert(pair->phase == PAIR_CONNECTING);
    pair->up[LEG_BACKEND] = true;
    pair->opened_ms = now_ms;
    change_phase(pair, PAIR_OPEN, now_ms);
    change_begin_window(pair, now_ms);
    change_begin_sent(pair, HALF_REQUEST, now_ms);
    change_begin_sent(pair, HALF_RESPONSE, now_ms);
    if (pair->draining && pair->stage == PAIR_STAGE_BYTES)
        change_begin_ending(pair, REASON_DRAIN, now_ms);
    return 0;
}

static pair_actions on_fin(struct pair *pair, enum half half, uint64_t now_ms)
{
    struct half_track *h = &pair->half[half];
    assert(pair->phase != PAIR_CONNECTING && pair->phase != PAIR_WAITING);
    assert(pair->up[half_source(half)] && !h->fin_in);
    h->fin_in = true;
    if (pair->phase != PAIR_CLOSING) /* there it answers ours */
        pair_note_fin(pair, half_source(half));
    switch ((enum pair_phase)pair->phase) {
    case PAIR_CLOSING:
        return change_end_if_done(pair, now_ms);
    case PAIR_RESETTING: /* done, or what the surviving leg waits for is still being delivered */
        if (track_leg_done(pair, half_source(half)) && pair->reason == REASON_CLIENT_CLOSED)
            pair->reason = REASON_CLOSED; /* a backend that closes when its client does: nothing was reaped */
        return change_end_if_done(pair, now_ms);
    default:
        assert(pair->stage == PAIR_STAGE_BYTES);
        return h->held ? 0 : change_relay_fin(pair, half, now_ms);
    }
}

static pair_actions on_held(struct pair *pair, enum half half, uint64_t now_ms)
{
    struct half_track *h = &pair->half[half];
    assert(pair->phase != PAIR_CONNECTING && !h->held && !h->fin_out && !h->fin_in);
    h->held = true;
    h->held_since_ms = now_ms;
    /* A buffer that runs empty and full again in one go gives a client that takes little no time anew. */
    if (half == HALF_RESPONSE && now_ms > pair->taken_until_ms + REST_MS)
        pair->taken = (struct track_window){now_ms, h->acked_bytes, h->acked_bytes};
    return 0;
}

static pair_actions on_drained(struct pair *pair, enum half half, uint64_t now_ms)
{
    struct half_track *h = &pair->half[half];
    assert(h->held);
    h->held = false;
    if (half == HALF_RESPONSE)
        pair->taken_until_ms = now_ms;
    change_begin_sent(pair, half, now_ms); /* what held it up was not its source */
    if (pair->phase == PAIR_RESETTING)
        return change_end_if_delivered(pair, now_ms);
    return h->fin_in ? change_relay_fin(pair, half, now_ms) : 0;
}

/* A peer that was sent our FIN went on sending: the one that would have read those bytes has to learn that
 * they are lost. Their sender learns it unless he closes within `grace`: a last word in answer to our FIN is
 * no fault of his. */
static pair_actions on_discarded(struct pair *pair, enum half half, uint64_t now_ms)
{
    enum leg sink = half_sink(half);
    assert(pair->half[half].fin_out && !pair->half[half].fin_in);
    if (pair->phase == PAIR_RESETTING) { /* its sender acknowledged what was delivered, and gets the RST */
        bool waits = track_delivering(pair) || pair->half[half_other(half)].held;
        return waits ? 0 : change_end(pair, pair->reason, now_ms);
    }
    if (pair->stage != PAIR_STAGE_BYTES) /* nobody waits for what comes behind the last message */
        return 0;
    if (pair->phase != PAIR_CLOSING || !pair->up[sink] || track_leg_done(pair, sink))
        return 0;
    return change_leg_down(pair, sink, LEG_END_RST, PAIR_DO_RST) | change_end_if_done(pair, now_ms);
}

static pair_actions on_gone(struct pair *pair, enum leg leg, enum reason reason, uint64_t now_ms)
{
    /* Only of an answer: a backend gets nothing from working on the request of a client that is gone. */
    bool whole_answer = leg == LEG_BACKEND && pair->half[HALF_RESPONSE].fin_in;
    enum leg_end leg_end = reason == REASON_CLIENT_CLOSED ? LEG_END_FIN : LEG_END_RESET;
    pair_actions actions = change_leg_down(pair, leg, leg_end, PAIR_DO_CLOSE);

    switch ((enum pair_phase)pair->phase) {
    case PAIR_WAITING:
    case PAIR_CONNECTING:
        return actions | change_end(pair, reason, now_ms);
    case PAIR_CLOSING:
        return actions | change_end_if_done(pair, now_ms);
    case PAIR_RESETTING:
        return actions | change_end(pair, pair->reason, now_ms);
    default:
        return actions | change_begin_resetting(pair, reason, whole_answer, now_ms);
    }
}

/* The client is gone and its request is out in full. As with a reset, what is still on its way is delivered,
 * and the backend learns that there is nobody to answer. */
static pair_actions on_closed(struct pair *pair, uint64_t now_ms)
{
    if (pair->phase == PAIR_RESETTING || pair->phase == PAIR_CLOSING)
        return 0;
    assert(pair->stage == PAIR_STAGE_BYTES
               ? track_half_ended(&pair->half[HALF_REQUEST])
               : pair->stage == PAIR_STAGE_RESPONSE || pair->stage == PAIR_STAGE_ANSWERED);
    return on_gone(pair, LEG_CLIENT, REASON_CLIENT_CLOSED, now_ms);
}

static pair_actions on_drain(struct pair *pair, uint64_t now_ms)
{
    if (pair->draining)
        return 0;
    pair->draining = true;
    pair->drain_ms = now_ms;
    if (pair->stage == PAIR_STAGE_BETWEEN && (pair->phase == PAIR_WAITING || pair->phase == PAIR_OPEN))
        return change_close_at_boundary(pair, REASON_DRAIN, now_ms);
    if (pair->phase == PAIR_OPEN && pair->stage == PAIR_STAGE_BYTES)
        change_begin_ending(pair, REASON_DRAIN, now_ms);
    return 0;
}

/* ---- messages ---- */

static pair_actions on_stage(struct pair *pair, const struct pair_input *input, uint64_t now_ms)
{
    enum pair_stage stage = input->stage;
    assert(track_follows(pair) && pair->stage != PAIR_STAGE_REFUSED);
    assert(pair->phase == PAIR_WAITING || pair->phase == PAIR_CONNECTING || track_relaying(pair));
    assert(stage < PAIR_STAGE_COUNT && stage != PAIR_STAGE_REFUSED);
    assert(stage != PAIR_STAGE_PREFACE && pair->stage != PAIR_STAGE_PREFACE);
    /* Behind the last response comes COMPLETE. */
    assert(stage != PAIR_STAGE_BETWEEN || (pair->phase != PAIR_ENDING && !pair->draining));
    pair->stage = (uint8_t)stage;
    pair->stage_ms = now_ms;
    pair->streams = stage == PAIR_STAGE_ANSWERED && input->streams;
    change_begin_sent(pair, HALF_REQUEST, now_ms);
    change_begin_sent(pair, HALF_RESPONSE, now_ms);
    if (stage != PAIR_STAGE_BYTES)
        return 0;
    assert(track_relaying(pair));
    pair->tunnel = true;
    change_begin_window(pair, now_ms);
    if (pair->draining && pair->phase == PAIR_OPEN)
        change_begin_ending(pair, REASON_DRAIN, now_ms);
    return 0;
}

static pair_actions on_begin(struct pair *pair, enum pair_stage stage, uint32_t servers_left, uint64_t now_ms)
{
    assert(pair->phase == PAIR_WAITING && pair->stage == PAIR_STAGE_PREFACE);
    assert(stage == PAIR_STAGE_BYTES || stage == PAIR_STAGE_HEAD);
    pair->stage = (uint8_t)stage;
    pair->stage_ms = now_ms;
    if (stage == PAIR_STAGE_HEAD)
        return 0;
    pair->servers_left = servers_left;
    pair->attempt_ms = now_ms;
    change_phase(pair, PAIR_CONNECTING, now_ms);
    return PAIR_DO_CONNECT;
}

static pair_actions on_attach(struct pair *pair, uint32_t servers_left, uint64_t now_ms)
{
    assert(pair->phase == PAIR_WAITING);
    assert(pair->stage == PAIR_STAGE_BODY || pair->stage == PAIR_STAGE_RESPONSE);
    pair->servers_left = servers_left;
    pair->attempt_ms = now_ms;
    pair->leg_end[LEG_BACKEND] = LEG_END_NONE;
    change_phase(pair, PAIR_CONNECTING, now_ms);
    return PAIR_DO_CONNECT;
}

static pair_actions on_left(struct pair *pair, enum leg_end how, uint64_t now_ms)
{
    assert(track_follows(pair) && track_relaying(pair) && !pair->half[HALF_RESPONSE].held);
    bool quiet = pair->stage == PAIR_STAGE_BETWEEN || pair->stage == PAIR_STAGE_HEAD;
    bool pooled = how == LEG_END_POOLED;
    assert(how == LEG_END_FIN || how == LEG_END_RESET || pooled);
    assert(!pooled || (quiet && pair->phase == PAIR_OPEN && !pair->half[HALF_REQUEST].held));
    pair_actions actions = change_leg_down(pair, LEG_BACKEND, how, pooled ? 0 : PAIR_DO_CLOSE);
    change_begin_waiting(pair, now_ms);
    return actions;
}

static pair_actions on_cut(struct pair *pair, bool framed, uint64_t now_ms)
{
    assert(pair->stage == PAIR_STAGE_ANSWERED && track_relaying(pair));
    return change_leg_down(pair, LEG_BACKEND, LEG_END_FIN, PAIR_DO_CLOSE) |
           change_begin_resetting(pair, REASON_RESPONSE_CUT, framed, now_ms);
}

static pair_actions on_refuse(struct pair *pair, enum reason reason, uint64_t now_ms)
{
    assert(pair->phase == PAIR_WAITING || pair->phase == PAIR_CONNECTING || track_relaying(pair));
    return change_refuse(pair, reason, now_ms);
}

static pair_actions on_complete(struct pair *pair, enum reason reason, uint64_t now_ms)
{
    assert(track_follows(pair) && (pair->phase == PAIR_WAITING || track_relaying(pair)));
    assert(!pair->half[HALF_RESPONSE].held);
    if (pair->stage == PAIR_STAGE_REFUSED)
        reason = (enum reason)pair->cause;
    if (pair->reason != REASON_NONE)
        reason = (enum reason)pair->reason;
    return change_close_at_boundary(pair, reason, now_ms);
}

/* ---- time ---- */

/* When a deadline comes due, deliveries aside. */
static uint64_t due_ms(const struct pair *pair, enum deadline_id id)
{
    const struct deadline *row = deadline_row(id);
    return row->armed(pair) ? deadline_add(row->since(pair), pair->deadlines->after_ms[id]) : DEADLINE_OFF;
}

/* When it fires: one that came due and spares deliveries waits for acknowledgements. Not for ever: the wait
 * is counted from the moment it was first seen due, and goes on beyond DELIVERY_MS only as far as the
 * deadline itself moves on, so that a trickle of acknowledgements defeats no deadline. */
static uint64_t fires_ms(const struct pair *pair, enum deadline_id id, uint64_t now_ms)
{
    const struct deadline *row = deadline_row(id);
    uint64_t due = due_ms(pair, id);
    uint64_t until_ms = row->waits_until && due != DEADLINE_OFF ? row->waits_until(pair) : 0;
    if (until_ms > 0)
        return max_of(due, until_ms);
    if (due > now_ms || !row->spares_delivery || !track_delivering(pair))
        return due;
    uint64_t seen_ms = pair->spared_ms != 0 ? pair->spared_ms : now_ms;
    return max_of(seen_ms, due) + DELIVERY_MS;
}

static enum deadline_id earliest(const struct pair *pair, uint64_t now_ms, uint64_t *fires)
{
    enum deadline_id first = DEADLINE_COUNT;
    *fires = DEADLINE_OFF;
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++) {
        uint64_t at = fires_ms(pair, id, now_ms);
        if (at < *fires) {
            *fires = at;
            first = id;
        }
    }
    return first;
}

/* Some deadline came due and waits for acknowledgements. */
static bool spares(const struct pair *pair, uint64_t now_ms)
{
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++)
        if (deadline_row(id)->spares_delivery && due_ms(pair, id) <= now_ms)
            return track_delivering(pair);
    return false;
}

static void track_sparing(struct pair *pair, uint64_t now_ms)
{
    if (!spares(pair, now_ms))
        pair->spared_ms = 0;
    else if (pair->spared_ms == 0)
        pair->spared_ms = now_ms;
}

uint64_t pair_next_ms(const struct pair *pair, uint64_t now_ms)
{
    uint64_t next;
    earliest(pair, now_ms, &next);
    if (pair->phase == PAIR_ENDING)
        next = min_of(next, max_of(track_progress_ms(pair) + REST_MS, now_ms + REST_MS / 4));
    if (pair->phase == PAIR_RESETTING && !track_gives_time(pair))
        next = min_of(next, now_ms + min_of(max_of(now_ms - pair->ending_ms, 1), RECHECK_MS));
    if (spares(pair, now_ms))
        next = min_of(next, now_ms + RECHECK_MS);
    if (due_ms(pair, DEADLINE_WRITE_STALL) != DEADLINE_OFF) {
        uint64_t look_ms = pair->deadlines->after_ms[DEADLINE_WRITE_STALL] / STALL_LOOKS;
        next = min_of(next, now_ms + max_of(look_ms, RECHECK_MS));
    }
    return next;
}

/* A deadline with a rate counts from its window's ms. Acknowledged bytes push that moment on: each byte by
 * its share of a second at the rate, and none beyond the last progress. So a flow that keeps the rate is
 * counted from its last byte, and for a slower flow time runs out. What a burst is worth beyond that is not
 * kept. Whether bytes were acknowledged and all of them were worth their time. */
static bool credit(struct track_window *window, uint64_t acked_bytes, uint64_t until_ms, uint64_t rate)
{
    uint64_t moved = acked_bytes - window->bytes;
    uint64_t bought_ms;
    if (moved == 0)
        return false;
    if (until_ms <= window->ms) {
        window->caught_bytes = acked_bytes;
        return true;
    }
    if (rate == 0 || __builtin_mul_overflow(moved, 1000, &bought_ms) ||
        bought_ms / rate >= until_ms - window->ms) {
        *window = (struct track_window){until_ms, acked_bytes, acked_bytes};
        return true;
    }
    bought_ms /= rate;
    uint64_t spent_bytes = bought_ms * rate / 1000;
    if (spent_bytes > 0) { /* else a byte that is worth some ms would buy them at every look */
        window->ms += bought_ms;
        window->bytes += spent_bytes;
    }
    return false;
}

static void credit_sent(struct pair *pair, enum half half, uint64_t rate)
{
    struct half_track *h = &pair->half[half];
    (void)credit(&h->sent, h->acked_bytes, track_half_progress_ms(pair, half), rate);
}

static void credit_windows(struct pair *pair)
{
    const uint64_t *rate = pair->deadlines->rate;
    const struct half_track *response = &pair->half[HALF_RESPONSE];
    bool open = track_relaying(pair) && !track_half_closed(pair);
    if (credit(&pair->window, track_acked_bytes(pair), track_progress_ms(pair),
               rate[open ? DEADLINE_IDLE : DEADLINE_HALF_CLOSE]))
        pair->window_open_bytes = pair->half[track_open_half(pair)].acked_bytes;
    credit_sent(pair, HALF_REQUEST, rate[DEADLINE_REQUEST_BODY]);
    credit_sent(pair, HALF_RESPONSE, rate[DEADLINE_RESPONSE]);
    (void)credit(&pair->taken, response->acked_bytes, track_taken_ms(response), rate[DEADLINE_WRITE_STALL]);
}

void pair_excuse(struct pair *pair, uint64_t late_ms)
{
    pair->window.ms += late_ms;
    pair->taken.ms += late_ms;
    for (enum half half = 0; half < HALF_COUNT; half++)
        pair->half[half].sent.ms += late_ms;
}

static pair_actions on_expired(struct pair *pair, uint64_t now_ms)
{
    uint64_t fires;
    credit_windows(pair);
    if (track_probing(pair) && due_ms(pair, DEADLINE_HALF_CLOSE) > now_ms)
        pair->probed_ms = 0; /* bytes have moved it on: what was heard until now proves nothing later */
    track_sparing(pair, now_ms);
    enum deadline_id id = earliest(pair, now_ms, &fires);
    if (fires <= now_ms)
        return deadline_row(id)->fire(pair, id, now_ms);
    if (pair->phase == PAIR_RESETTING)
        return change_end_if_delivered(pair, now_ms);
    if (pair->phase == PAIR_ENDING && at_rest(pair, now_ms)) {
        enum deadline_id cause = pair->reason == REASON_LIFETIME ? DEADLINE_LIFETIME : DEADLINE_IDLE;
        return change_begin_closing(pair, pair->reason, pair->deadlines->action[cause], now_ms);
    }
    return 0;
}

/* ---- the interface ---- */

void pair_init(struct pair *pair, const struct deadlines *deadlines, uint32_t servers_left, uint64_t now_ms)
{
    memset(pair, 0, sizeof *pair);
    pair->deadlines = deadlines;
    pair->phase = PAIR_CONNECTING;
    pair->up[LEG_CLIENT] = true;
    pair->servers_left = servers_left;
    pair->accepted_ms = now_ms;
    pair->attempt_ms = now_ms;
}

void pair_init_messages(struct pair *pair, const struct deadlines *deadlines, uint64_t now_ms)
{
    pair_init(pair, deadlines, 0, now_ms);
    pair->phase = PAIR_WAITING;
    pair->stage = PAIR_STAGE_HEAD;
    pair->stage_ms = now_ms;
}

void pair_init_preface(struct pair *pair, const struct deadlines *deadlines, uint64_t now_ms)
{
    pair_init_messages(pair, deadlines, now_ms);
    pair->stage = PAIR_STAGE_PREFACE;
}

pair_actions pair_step(struct pair *pair, const struct pair_input *input, uint64_t now_ms)
{
    assert(pair->phase != PAIR_ENDED);
    switch (input->event) {
    case PAIR_EVENT_CONNECTED:
        return on_connected(pair, now_ms);
    case PAIR_EVENT_REFUSED:
        return change_next_server(pair, input->reason, now_ms);
    case PAIR_EVENT_FIN:
        return on_fin(pair, input->half, now_ms);
    case PAIR_EVENT_HELD:
        return on_held(pair, input->half, now_ms);
    case PAIR_EVENT_DRAINED:
        return on_drained(pair, input->half, now_ms);
    case PAIR_EVENT_DISCARDED:
        return on_discarded(pair, input->half, now_ms);
    case PAIR_EVENT_RESET:
        return on_gone(pair, input->leg,
                       input->leg == LEG_CLIENT ? REASON_CLIENT_RESET : REASON_BACKEND_RESET, now_ms);
    case PAIR_EVENT_LOST:
        return on_gone(pair, input->leg, input->leg == LEG_CLIENT ? REASON_CLIENT_LOST : REASON_BACKEND_LOST,
                       now_ms);
    case PAIR_EVENT_CLOSED:
        return on_closed(pair, now_ms);
    case PAIR_EVENT_EXPIRED:
        return on_expired(pair, now_ms);
    case PAIR_EVENT_DRAIN:
        return on_drain(pair, now_ms);
    case PAIR_EVENT_ABORT:
        return change_end(pair, input->reason, now_ms);
    case PAIR_EVENT_BEGIN:
        return on_begin(pair, input->stage, input->servers_left, now_ms);
    case PAIR_EVENT_STAGE:
        return on_stage(pair, input, now_ms);
    case PAIR_EVENT_ATTACH:
        return on_attach(pair, input->servers_left, now_ms);
    case PAIR_EVENT_LEFT:
        return on_left(pair, input->end, now_ms);
    case PAIR_EVENT_CUT:
        return on_cut(pair, input->framed, now_ms);
    case PAIR_EVENT_REFUSE:
        return on_refuse(pair, input->reason, now_ms);
    case PAIR_EVENT_COMPLETE:
        return on_complete(pair, input->reason, now_ms);
    case PAIR_EVENT_COUNT:
        break;
    }
    assert(false && "an event of the table");
    return 0;
}

void pair_note_fin(struct pair *pair, enum leg leg)
{
    if (pair->has_first_fin)
        return;
    pair->has_first_fin = true;
    pair->first_fin = (uint8_t)leg;
}

void pair_sample(struct pair *pair, enum leg leg, uint64_t unacked_bytes, uint64_t least_age_ms,
                 uint64_t clock_ms)
{
    struct half_track *h = &pair->half[half_to(leg)];
    assert(pair->up[leg]);
    uint64_t acked = h->written_bytes > unacked_bytes ? h->written_bytes - unacked_bytes : 0;
    uint64_t heard_ms = clock_ms > least_age_ms ? clock_ms - least_age_ms : 0;
    if (track_probing(pair))
        pair->heard_ms[leg] = heard_ms;
    h->unacked_bytes = unacked_bytes;
    if (acked <= h->acked_bytes)
        return;
    h->acked_bytes = acked;
    h->acked_ms = max_of(h->acked_ms, heard_ms);
}

void pair_probes_sent(struct pair *pair, uint64_t clock_ms)
{
    if (track_probing(pair))
        pair->asked_ms = max_of(pair->asked_ms, clock_ms);
}

static void check_halves(const struct pair *pair)
{
    for (enum half half = 0; half < HALF_COUNT; half++) {
        const struct half_track *h = &pair->half[half];
        assert(!(h->held && h->fin_out));
        assert(h->acked_bytes <= h->written_bytes);
    }
}

/* Which legs are up in which phase, and whether there is a reason. */
static void check_phase(const struct pair *pair)
{
    const bool *up = pair->up;
    assert((pair->phase <= PAIR_OPEN) == (pair->reason == REASON_NONE));
    switch ((enum pair_phase)pair->phase) {
    case PAIR_WAITING:
        assert(pair->stage != PAIR_STAGE_BYTES && !pair->half[HALF_REQUEST].held);
        assert(!pair->half[HALF_REQUEST].fin_out && !pair->half[HALF_RESPONSE].fin_in);
        assert(pair->up[LEG_CLIENT] && !pair->up[LEG_BACKEND] && pair->reason == REASON_NONE);
        break;
    case PAIR_CONNECTING:
        assert(up[LEG_CLIENT] && !up[LEG_BACKEND]);
        break;
    case PAIR_OPEN:
    case PAIR_ENDING:
        assert(up[LEG_CLIENT] && up[LEG_BACKEND]);
        break;
    case PAIR_RESETTING:
        assert(up[LEG_CLIENT] != up[LEG_BACKEND]);
        break;
    case PAIR_CLOSING:
        assert(up[LEG_CLIENT] || up[LEG_BACKEND]);
        assert(pair->half[HALF_REQUEST].fin_out && pair->half[HALF_RESPONSE].fin_out);
        break;
    case PAIR_ENDED:
    case PAIR_PHASE_COUNT:
        assert(!up[LEG_CLIENT] && !up[LEG_BACKEND]);
        break;
    }
}

void pair_check(const struct pair *pair)
{
    assert(pair->phase < PAIR_PHASE_COUNT && pair->reason < REASON_COUNT);
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        assert(!pair->up[leg] || pair->leg_end[leg] == LEG_END_NONE);
    check_halves(pair);
    check_phase(pair);
}
