#ifndef REAPER_POLICY_TRACK_H
#define REAPER_POLICY_TRACK_H

/* What is known of a session, and questions about it. The lowest part of the state machine: deadline.h's rows
 * ask, change.h changes, pair.h takes events. Callers outside of this folder read a few fields and change
 * nothing. Nothing here changes anything. */

#include "reaper/policy/half.h"
#include "reaper/policy/reason.h"
#include "reaper/policy/settings.h"

#include <stdbool.h>
#include <stdint.h>

enum pair_phase {
    PAIR_WAITING,
    PAIR_CONNECTING,
    PAIR_OPEN,
    PAIR_ENDING,
    PAIR_RESETTING,
    PAIR_CLOSING,
    PAIR_ENDED,
    PAIR_PHASE_COUNT
};

/* Where in its messages a session is. */
enum pair_stage {
    PAIR_STAGE_BYTES,    /* none are followed: TCP, or a tunnel after an upgrade */
    PAIR_STAGE_PREFACE,  /* what stands before the first byte is awaited: a PROXY header, or just a byte */
    PAIR_STAGE_BETWEEN,  /* nothing is outstanding */
    PAIR_STAGE_HEAD,     /* the head of a request is awaited or comes in */
    PAIR_STAGE_BODY,     /* a request's body is relayed */
    PAIR_STAGE_RESPONSE, /* the request is whole, the response has not begun */
    PAIR_STAGE_ANSWERED, /* the response has begun, the request may still go on */
    PAIR_STAGE_REFUSED,  /* an answer of our own goes out; nothing else will */
    PAIR_STAGE_COUNT
};

/* How a leg ended. */
enum leg_end {
    LEG_END_NONE,   /* never connected, or still up */
    LEG_END_FIN,    /* closed in order: FIN both ways */
    LEG_END_RST,    /* we sent RST */
    LEG_END_RESET,  /* the peer reset it, or its kernel gave up on it */
    LEG_END_POOLED, /* still up, but not ours any more: kept for requests of any session */
    LEG_END_COUNT
};

/* What a deadline with a rate counts from: a moment that acknowledged bytes push on, as far as they keep the
 * rate. */
struct track_window {
    uint64_t ms;           /* that moment */
    uint64_t bytes;        /* that have pushed it on */
    uint64_t caught_bytes; /* acknowledged when it was last wholly caught up: more since then trickled */
};

struct half_track {
    bool fin_in, fin_out;
    bool held;
    uint64_t written_bytes;   /* taken by the sink's socket */
    uint64_t written_ms;      /* when it last took some */
    uint64_t held_since_ms;   /* when `held` became true */
    uint64_t unacked_bytes;   /* of these, not acknowledged by the sink's kernel at the last sample */
    uint64_t acked_bytes;     /* acknowledged at the last sample */
    uint64_t acked_ms;        /* the last acknowledgement that advanced, as far as samples tell */
    struct track_window sent; /* for the rate at which its source sends, while its sink takes all of it */
};

struct pair {
    const struct deadlines *deadlines; /* borrowed; outlives the pair */
    struct half_track half[HALF_COUNT];
    bool up[LEG_COUNT];
    bool client_awaits_reply; /* perhaps: the last bytes relayed went to the backend */
    bool has_first_fin;       /* a FIN came from a peer before we sent any, */
    bool draining;
    bool tunnel;                /* messages were followed, and are no more: 101, CONNECT */
    bool streams;               /* the answer is one that may be silent: text/event-stream */
    bool fin_to_client;         /* in RESETTING: a FIN tells the client the truth, RST is not needed */
    uint8_t first_fin;          /* enum leg: from this one first */
    uint8_t phase;              /* enum pair_phase */
    uint8_t stage;              /* enum pair_stage */
    uint8_t cause;              /* enum reason; in stage REFUSED why */
    uint8_t reason;             /* enum reason; in ENDING, RESETTING and CLOSING the one it will end with */
    uint8_t leg_end[LEG_COUNT]; /* enum leg_end */
    uint32_t servers_left;      /* not tried yet */

    uint64_t accepted_ms;
    uint64_t attempt_ms;     /* connecting to the present server since */
    uint64_t opened_ms;      /* connected; 0 before */
    uint64_t half_closed_ms; /* the first half ended; 0 before */
    uint64_t ending_ms;      /* in the present phase since */
    uint64_t drain_ms;       /* draining since */
    uint64_t stage_ms;       /* at this stage since */

    struct track_window window; /* of idle while both halves are open; then of half_close and grace */
    struct track_window taken;  /* for the rate at which the client takes what is held for it */
    uint64_t taken_until_ms;    /* it had taken all by then */
    uint64_t window_open_bytes; /* acknowledged of the open half when `window` was last wholly caught up */
    uint64_t probed_ms;         /* both peers are being probed since, no earlier; 0: they are not */
    uint64_t asked_ms;          /* the last probes had been sent by then */
    uint8_t probes;             /* how often they were */
    uint64_t
        heard_ms[LEG_COUNT]; /* the last acknowledgement of any kind, as of the last sample while probing */
    uint64_t spared_ms;      /* a deadline that spares deliveries was first seen due; 0: none is */
};

/* ---- halves and legs ---- */

/* The half's source has ended and so has its sink. */
bool track_half_ended(const struct half_track *half);

/* Exactly one half has ended. */
bool track_half_closed(const struct pair *pair);

/* Of a half-closed session, the half that has not ended. */
enum half track_open_half(const struct pair *pair);

/* The backend leg is up and relayed to. */
bool track_relaying(const struct pair *pair);

/* The caller follows messages, and the session is in one, between two, or before the first. */
bool track_follows(const struct pair *pair);

/* Bytes that are held: when the sink was last seen to take some, or since when they are, ms. */
uint64_t track_taken_ms(const struct half_track *half);

/* The client takes bytes that are held for it, at a rate that is looked at. */
bool track_takes(const struct pair *pair, enum half half);

/* Nothing more is to be done with the leg: its FIN came and ours is out. */
bool track_leg_done(const struct pair *pair, enum leg leg);

/* A FIN of our making would look to this leg's peer like the end of what it was waiting for. A peer that has
 * sent its own FIN waits for nothing else. */
bool track_fooled_by_fin(const struct pair *pair, enum leg leg);

/* ---- progress ---- */

/* The last progress of the half, ms: bytes taken by the sink, unless its kernel owes acknowledgements for
 * them; then the last of those (a write to a dead peer's send queue is no sign of life). */
uint64_t track_half_progress_ms(const struct pair *pair, enum half half);

/* The last progress of either half, ms. */
uint64_t track_progress_ms(const struct pair *pair);

/* Acknowledged of both halves, as of the last samples. */
uint64_t track_acked_bytes(const struct pair *pair);

/* In a half-closed session the open half moved, but at less than half_close_rate. Bytes tell, not times: an
 * acknowledgement that came before the first half ended may be read some ms behind the moment of its turn. */
bool track_trickled(const struct pair *pair);

/* Bytes are on their way to a peer that has not acknowledged them: RST would destroy them. */
bool track_delivering(const struct pair *pair);

/* ---- verify ---- */

/* Whether peers are being probed: samples then have to tell when a peer was last heard of. */
static inline bool track_probing(const struct pair *pair)
{
    return pair->probed_ms != 0;
}

/* Whether the peer of the leg has answered since it was asked. */
bool track_heard(const struct pair *pair, enum leg leg);

/* The client is known to have closed, its request and FIN are delivered: the backend has `message_grace`. */
bool track_gives_time(const struct pair *pair);

/* ---- words ---- */

const char *pair_phase_name(enum pair_phase phase);
const char *pair_stage_name(enum pair_stage stage);
const char *leg_end_name(enum leg_end end); /* "none", "fin", "rst", "reset", "pooled" */

#endif
