#ifndef REAPER_POLICY_PAIR_H
#define REAPER_POLICY_PAIR_H

/* A session's two halves as one state machine: events and time in, actions out.
 *
 *   CONNECTING -connected-> OPEN --lifetime, drain--> ENDING     relays until it comes to rest
 *        |                   |                          |
 *        |                   |--- a leg was reset ------+--> RESETTING   what that leg sent is delivered
 *        |                   |--- a deadline fired -----+--> CLOSING     our FINs are out, `grace` for theirs
 *        +-------------------+--- both FINs relayed ----+--> ENDED
 *
 * Each half has two facts, `fin_in` (its source's FIN was read, or nothing can come any more) and `fin_out`
 * (FIN was sent to its sink, or nothing can go out any more), which make its four states:
 *
 *             !fin_out    fin_out
 *   !fin_in   OPEN        CUT        bytes that still come are discarded
 *    fin_in   FLUSHING    ENDED      FLUSHING: bytes before the FIN are still held
 *
 * Invariants, checked by pair_check():
 *   - No FIN passes a byte: fin_out is never set by a FIN while the half holds bytes.
 *   - A leg that is owed bytes is never sent a FIN of our making: it would take that for the end of what it
 *     waited for. It gets RST.
 *   - ENDED is final, has a reason, and leaves no leg up.
 *
 * Who follows messages (HTTP) says where in them the session is, its stage; then it starts in WAITING, with
 * no backend leg, and nothing has to be waited for that is known:
 *
 *   WAITING --attach--> CONNECTING --connected--> OPEN --left--> WAITING   the backend leg ended there
 *      |                    |                       |
 *      +--------------------+-----------------------+--complete--> CLOSING   nothing is outstanding
 *      +--------------------+-----------------------+--refuse, a deadline--> WAITING, stage REFUSED
 *
 * A leg that left as POOLED is whole, and whoever took it over closes it.
 *
 * Where something has to come before the first byte (a PROXY header; or any byte at all, before a backend is
 * connected to) a session of either kind starts one step earlier, in WAITING and stage PREFACE, and goes on
 * when that has been read:
 *
 *   WAITING, stage PREFACE --begin--> CONNECTING (bytes), or WAITING in stage HEAD (messages)
 *      +--- COMPLETE: the client left without a byte; ABORT: it began with something else; `preface`: RST
 *
 * Refused, the session answers the client itself and then reports that it is complete.
 *
 * In CLOSING behind a boundary the backend has `message_grace` for its FIN, the client `grace`. A FIN between
 * messages is the follower's to interpret: FIN is reported only in stage BYTES, where the machine above
 * holds, and in CLOSING and RESETTING.
 *
 * How an exchange ends that one side broke off:
 *   - CUT, `framed`: what came of the response is delivered, then FIN: its reader sees by the framing that
 *     bytes are missing, and RST could take those that did come out of his hands. The client has `grace`.
 *   - CUT, not `framed`: only the end of the connection ends such a response, so a FIN would pass for its
 *     end: what came is delivered, then RST.
 *   - RESET or LOST of the backend: what came is delivered, then RST.
 *   - CLOSED, in the stages RESPONSE and ANSWERED: nobody reads the response. The request is delivered as far
 *     as it is on its way, then the backend gets RST. An attempt to connect is given up.
 *   - CLOSED, in stage BYTES: the backend has been sent the client's FIN, and sees what it would see of the
 *     client itself. If it sends its own FIN, the end is in order and CLOSED is the reason, for nothing was
 *     wrong; if it sends bytes, it gets RST at once, as the client's kernel would answer; if it does neither
 *     within `message_grace`, it leaks or works for nobody, and gets RST.
 *
 * In RESETTING an acknowledgement may be delayed; bytes that are discarded bring it along, so they are the
 * moment to look (sample, then DISCARDED), and time only is when none come.
 *
 * The owner of a pair is whoever embeds it; nothing here allocates, logs, reads a clock or makes a system
 * call. One thread at a time. Times are milliseconds of one monotonic clock; now_ms never decreases, and may
 * be a turn's beginning. Only clock_ms has to be read on the spot.
 *
 * What the caller reports:
 *   - pair_progress() for every write a sink took. It only stores; it is the only call on the path of a byte.
 *   - pair_sample() for each leg that is up, before the first PAIR_EVENT_FIN and before _DRAINED, _RESET,
 *     _LOST, _CLOSED, _EXPIRED, _DRAIN, _CUT and _COMPLETE, in RESETTING also before _DISCARDED: what its
 *     peer's kernel has not acknowledged.
 *     Bytes in a send queue are not delivered, and RST would destroy them; so a deadline whose row says
 *     `spares_delivery` resets no leg whose peer still takes bytes.
 *   - pair_step() for everything else. */

#include "reaper/policy/action.h"
#include "reaper/policy/track.h"

#include <stdbool.h>
#include <stdint.h>

enum pair_event {
    PAIR_EVENT_CONNECTED, /* the backend leg is up */
    PAIR_EVENT_REFUSED,   /* this attempt to connect failed; `reason` is given when it was the last */
    PAIR_EVENT_FIN,       /* EOF was read from the source of `half` */
    PAIR_EVENT_HELD,      /* `half` holds bytes that its sink did not take */
    PAIR_EVENT_DRAINED,   /* `half` holds none any more */
    PAIR_EVENT_DISCARDED, /* bytes of a CUT half were read and thrown away */
    PAIR_EVENT_RESET,     /* `leg` was reset by its peer */
    PAIR_EVENT_LOST,      /* the kernel gave up on the peer of `leg` */
    PAIR_EVENT_CLOSED,    /* the client, which has sent FIN behind its request, is known to have closed */
    PAIR_EVENT_EXPIRED,   /* the time last given by pair_next_ms() has come; harmless when early */
    PAIR_EVENT_DRAIN,     /* end when at rest, within the `drain` deadline */
    PAIR_EVENT_ABORT,     /* end at once, with `reason` */
    PAIR_EVENT_BEGIN,     /* the preface is over; `stage` BYTES, then with `servers_left`, or HEAD */
    PAIR_EVENT_STAGE,     /* the session came to `stage` */
    PAIR_EVENT_ATTACH,    /* a backend leg is wanted; `servers_left` more may be tried */
    PAIR_EVENT_LEFT,      /* the backend leg is ours no more, between messages or before it answered; `end` */
    PAIR_EVENT_CUT,       /* the backend sent FIN inside a response; `framed` */
    PAIR_EVENT_REFUSE,    /* the client is to be answered by ourselves, because of `reason` */
    PAIR_EVENT_COMPLETE,  /* nothing is outstanding and nothing more will be: end, with `reason` */
    PAIR_EVENT_COUNT
};

struct pair_input {
    enum pair_event event;
    enum half half;        /* FIN, HELD, DRAINED, DISCARDED */
    enum leg leg;          /* RESET, LOST */
    enum reason reason;    /* REFUSED, ABORT, REFUSE, COMPLETE */
    enum pair_stage stage; /* STAGE: any but REFUSED and PREFACE; BEGIN: BYTES or HEAD */
    enum leg_end end;      /* LEFT: FIN or RESET; between messages also POOLED */
    uint32_t servers_left; /* ATTACH, BEGIN */
    bool streams;          /* STAGE ANSWERED: with what may be silent for long, text/event-stream */
    bool framed;           /* CUT: the response says how long it is, by its length or in chunks */
};

/* Starts in CONNECTING with one attempt under way and `servers_left` more to try. */
void pair_init(struct pair *pair, const struct deadlines *deadlines, uint32_t servers_left, uint64_t now_ms);

/* The same for a session that follows messages: starts in WAITING, in stage HEAD. */
void pair_init_messages(struct pair *pair, const struct deadlines *deadlines, uint64_t now_ms);

/* The same for a session of either kind that has to begin with something else: starts in WAITING, in stage
 * PREFACE. */
void pair_init_preface(struct pair *pair, const struct deadlines *deadlines, uint64_t now_ms);

/* Takes an event. Total: every phase has an answer to every event; one that the caller could not have seen
 * there (FIN before CONNECTED, anything after ENDED) is a programmer error and asserts. */
pair_actions pair_step(struct pair *pair, const struct pair_input *input, uint64_t now_ms);

/* The caller itself was late by so many ms, stopped or without a processor; reported before
 * PAIR_EVENT_EXPIRED. That time is not held against a flow that has to keep a rate. */
void pair_excuse(struct pair *pair, uint64_t late_ms);

/* When to report PAIR_EVENT_EXPIRED, or DEADLINE_OFF. Valid until the next step; progress only makes it
 * later, so a timer set to it needs no change per byte. */
uint64_t pair_next_ms(const struct pair *pair, uint64_t now_ms);

/* What the kernel of the peer of `leg` has not acknowledged of the bytes written to it (SIOCOUTQ: a FIN
 * counts as one byte), and how long ago its last acknowledgement came, at least (pair_least_age_ms()). The
 * age is wanted when some advanced since the last sample, and while track_probing(); else it may be 0.
 * clock_ms is the clock itself, read behind the age: a turn may have begun long before, and an answer that
 * came in it would seem to be older than the question. Only for a leg that is up. */
void pair_sample(struct pair *pair, enum leg leg, uint64_t unacked_bytes, uint64_t least_age_ms,
                 uint64_t clock_ms);

/* The kernel counts ages in jiffies: what it says is up to one too much (jiffies_to_msecs() in
 * tcp_get_info(), net/ipv4/tcp.c). One lasts 10 ms at most, for HZ is 100 or more (kernel/Kconfig.hz), and is
 * not told to programs: sysconf(_SC_CLK_TCK) is USER_HZ, always 100. */
#define PAIR_AGE_GRAIN_MS UINT64_C(10)

static inline uint64_t pair_least_age_ms(uint64_t age_ms)
{
    return age_ms > PAIR_AGE_GRAIN_MS ? age_ms - PAIR_AGE_GRAIN_MS : 0;
}

/* The probes that a step asked for were sent. The clock itself, for the time to answer counts from here. */
void pair_probes_sent(struct pair *pair, uint64_t clock_ms);

/* The peer of `leg` sent FIN, and the caller deals with it itself: between messages, or inside one. Only for
 * first_fin; PAIR_EVENT_FIN notes it by itself. */
void pair_note_fin(struct pair *pair, enum leg leg);

/* The sink of `half` took bytes. */
static inline void pair_progress(struct pair *pair, enum half half, uint64_t bytes, uint64_t now_ms)
{
    struct half_track *h = &pair->half[half];
    h->written_bytes += bytes;
    h->written_ms = now_ms;
    pair->client_awaits_reply = half == HALF_REQUEST;
}

/* Whether bytes from the source of `half` go nowhere: they are to be read and discarded. */
static inline bool pair_discards(const struct pair *pair, enum half half)
{
    return pair->half[half].fin_out;
}

/* Asserts the invariants above. For tests. */
void pair_check(const struct pair *pair);

#endif
