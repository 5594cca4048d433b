#include "reaper/policy/track.h"

static uint64_t max_of(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

bool track_half_ended(const struct half_track *h)
{
    return h->fin_in && h->fin_out;
}

bool track_delivering(const struct pair *pair)
{
    return pair->half[HALF_REQUEST].unacked_bytes > 0 || pair->half[HALF_RESPONSE].unacked_bytes > 0;
}

bool track_gives_time(const struct pair *pair)
{
    return pair->phase == PAIR_RESETTING && pair->reason == REASON_CLIENT_CLOSED &&
           pair->stage == PAIR_STAGE_BYTES && !track_delivering(pair);
}

bool track_half_closed(const struct pair *pair)
{
    return track_half_ended(&pair->half[HALF_REQUEST]) != track_half_ended(&pair->half[HALF_RESPONSE]);
}

enum half track_open_half(const struct pair *pair)
{
    return track_half_ended(&pair->half[HALF_REQUEST]) ? HALF_RESPONSE : HALF_REQUEST;
}

uint64_t track_half_progress_ms(const struct pair *pair, enum half half)
{
    const struct half_track *h = &pair->half[half];
    uint64_t moved_ms = h->unacked_bytes > 0 ? h->acked_ms : max_of(h->written_ms, h->acked_ms);
    return max_of(moved_ms, pair->opened_ms);
}

uint64_t track_progress_ms(const struct pair *pair)
{
    return max_of(track_half_progress_ms(pair, HALF_REQUEST), track_half_progress_ms(pair, HALF_RESPONSE));
}

uint64_t track_acked_bytes(const struct pair *pair)
{
    return pair->half[HALF_REQUEST].acked_bytes + pair->half[HALF_RESPONSE].acked_bytes;
}

bool track_trickled(const struct pair *pair)
{
    return pair->half[track_open_half(pair)].acked_bytes > pair->window_open_bytes;
}

bool track_leg_done(const struct pair *pair, enum leg leg)
{
    return pair->half[half_from(leg)].fin_in && pair->half[half_to(leg)].fin_out;
}

bool track_fooled_by_fin(const struct pair *pair, enum leg leg)
{
    const struct half_track *to = &pair->half[half_to(leg)];
    bool waits_for_end = pair->half[half_from(leg)].fin_in && !to->fin_out;
    return waits_for_end || to->held || (leg == LEG_CLIENT && pair->client_awaits_reply);
}

bool track_heard(const struct pair *pair, enum leg leg)
{
    return pair->heard_ms[leg] >= pair->probed_ms;
}

bool track_follows(const struct pair *pair)
{
    return pair->stage != PAIR_STAGE_BYTES;
}

bool track_relaying(const struct pair *pair)
{
    return pair->phase == PAIR_OPEN || pair->phase == PAIR_ENDING;
}

uint64_t track_taken_ms(const struct half_track *h)
{
    return max_of(h->held_since_ms, max_of(h->written_ms, h->acked_ms));
}

/* A backend that takes its time is its operator's to judge, a tunnel that of who talks through it. */
bool track_takes(const struct pair *pair, enum half half)
{
    return half == HALF_RESPONSE && pair->half[half].held && !pair->tunnel &&
           pair->deadlines->rate[DEADLINE_WRITE_STALL] > 0 &&
           (track_relaying(pair) || pair->phase == PAIR_WAITING);
}

const char *pair_phase_name(enum pair_phase phase)
{
    static const char *const names[PAIR_PHASE_COUNT] = {
        [PAIR_WAITING] = "waiting", [PAIR_CONNECTING] = "connecting", [PAIR_OPEN] = "open",
        [PAIR_ENDING] = "ending",   [PAIR_RESETTING] = "resetting",   [PAIR_CLOSING] = "closing",
        [PAIR_ENDED] = "ended",
    };
    return names[phase];
}

const char *pair_stage_name(enum pair_stage stage)
{
    static const char *const names[PAIR_STAGE_COUNT] = {
        [PAIR_STAGE_BYTES] = "bytes",       [PAIR_STAGE_PREFACE] = "preface",
        [PAIR_STAGE_BETWEEN] = "between",   [PAIR_STAGE_HEAD] = "head",
        [PAIR_STAGE_BODY] = "body",         [PAIR_STAGE_RESPONSE] = "response",
        [PAIR_STAGE_ANSWERED] = "answered", [PAIR_STAGE_REFUSED] = "refused",
    };
    return names[stage];
}

const char *leg_end_name(enum leg_end leg_end)
{
    static const char *const names[LEG_END_COUNT] = {
        [LEG_END_NONE] = "none",   [LEG_END_FIN] = "fin",       [LEG_END_RST] = "rst",
        [LEG_END_RESET] = "reset", [LEG_END_POOLED] = "pooled",
    };
    return names[leg_end];
}
