#ifndef BENCH_PLAY_H
#define BENCH_PLAY_H

/* What a case of the conformance suite is written in.
 *
 * A case is one function. It reads as if it waited, but it does not: it is called again and again, after
 * every turn of the stage, and goes on where it returned. That is what BEGIN, END and the words in
 * capitals do, with a switch over the line (so: one such word a line, no local variables across them,
 * `play->i` and `play->n` are the case's own). A word that is disappointed gives the verdict and returns
 * for good.
 *
 *     static void fin_client_first(struct play *play)
 *     {
 *         BEGIN(play);
 *         OPEN(play);                              client connects; its backend's end has arrived
 *         end_stream(play->client, 100);
 *         BYTES(play, play->backend, 100);         all of them and the right ones
 *         end_fin(play->client);
 *         FIN(play, play->backend);                and not a reset
 *         ...
 *         END(play);                               pass
 *     } */

#include "bench/case.h"
#include "bench/end.h"
#include "bench/stage.h"
#include "reaper/kernel/netlink.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    PLAY_WATCH_MS = 700, /* how long it is watched that something does not happen */
    PLAY_STUCK_MS = 400, /* a sender that has sent nothing for so long is stuck */
    PLAY_SPARES = 4,
};

struct play {
    struct stage *stage;
    const struct conform_case *of;
    uint64_t leak_bound_ms; /* how long a leak may last */
    uint64_t bound_ms;      /* for what a good proxy does at once */
    uint32_t tag;
    struct end *client;
    struct end *backend; /* NULL until it has arrived */
    unsigned arrivals;   /* backend's ends so far: a proxy may try again */
    struct end pooled;   /* stands for a backend's end that the proxy has given to another client */
    unsigned i;          /* the case's own */
    uint64_t n;
    int spare[PLAY_SPARES]; /* descriptors to be closed at the end, -1: none */
    unsigned asked;         /* HTTP requests of the client */
    unsigned served_on;     /* the arrival that was served last */
    struct netlink *netlink;

    int line; /* where to go on */
    bool is_begun, is_over;
    uint64_t began_ns, step_ns;
    uint64_t moved_ns, moved_bytes; /* of STUCK */
    struct conform_result *result;
};

#define PLAY_STEP(play)                                                                                      \
    play_step(play, __LINE__);                                                                               \
    __attribute__((fallthrough));                                                                            \
    case __LINE__

#define BEGIN(play)                                                                                          \
    switch ((play)->line) {                                                                                  \
    case 0:

#define END(play)                                                                                            \
    }                                                                                                        \
    play_judge(play, CONFORM_PASS, "%s", "")

/* Waits for the condition, as long as `ms`; `what` is said if it is in vain, with that verdict. */
#define WITHIN_OR(play, ms, condition, verdict, what)                                                        \
    do {                                                                                                     \
        PLAY_STEP(play) : if (!(condition))                                                                  \
        {                                                                                                    \
            play_wait(play, ms, verdict, what);                                                              \
            return;                                                                                          \
        }                                                                                                    \
    } while (0)

#define WITHIN(play, ms, condition, what) WITHIN_OR(play, ms, condition, CONFORM_FAIL, what)

#define WAIT(play, condition, what) WITHIN(play, (play)->bound_ms, condition, what)

/* The condition holds now, or that is the verdict. */
#define NEED(play, condition, verdict, ...)                                                                  \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            play_judge(play, verdict, __VA_ARGS__);                                                          \
            return;                                                                                          \
        }                                                                                                    \
    } while (0)

/* The condition holds for so long, or that is the verdict. */
#define HOLD(play, ms, condition, verdict, ...)                                                              \
    do {                                                                                                     \
        PLAY_STEP(play) : NEED(play, condition, verdict, __VA_ARGS__);                                       \
        if (play_elapsed_ms(play) < (ms))                                                                    \
            return;                                                                                          \
    } while (0)

/* What the peer does is paced by time. */
#define PAUSE(play, ms) HOLD(play, ms, true, CONFORM_FAIL, "%s", "")

/* The client connects and says whose it is, and the backend's end has arrived. */
#define OPEN(play)                                                                                           \
    do {                                                                                                     \
        if (!play_open(play))                                                                                \
            return;                                                                                          \
        WAIT(play, (play)->backend || play_is_refused(play), "the connection at the backend");               \
        NEED(play, (play)->backend, CONFORM_FAIL, "the proxy does not take the connection");                 \
    } while (0)

/* This end has received so many bytes, in all, and all are right. */
#define BYTES(play, end, count)                                                                              \
    do {                                                                                                     \
        WITHIN(play, (play)->bound_ms, play_bytes_settled(end, count), play_bytes_what(play, end, count));   \
        if (!play_bytes(play, end, count))                                                                   \
            return;                                                                                          \
    } while (0)

/* The bytes that this end sends have filled all that is on their way, or are all taken. */
#define STUCK(play, end) WAIT(play, play_is_stuck(play, end), "backpressure to reach the sender")

/* This end sees the other one's FIN, or its reset. */
#define FIN(play, end)                                                                                       \
    do {                                                                                                     \
        WAIT(play, (end)->over != END_OPEN, play_end_what(end, END_FIN));                                    \
        if (!play_saw(play, end, END_FIN))                                                                   \
            return;                                                                                          \
    } while (0)
#define RESET(play, end)                                                                                     \
    do {                                                                                                     \
        WAIT(play, (end)->over != END_OPEN, play_end_what(end, END_RESET));                                  \
        if (!play_saw(play, end, END_RESET))                                                                 \
            return;                                                                                          \
    } while (0)

/* HTTP: the n-th request has arrived whole, or only its head; the client has the n-th answer, with this
 * status. */
#define ASKED(play, count)                                                                                   \
    WAIT(play, (play)->backend && (play)->backend->heard.complete >= (count), "the request at the backend")
#define ASKED_HEAD(play, count)                                                                              \
    WAIT(play, (play)->backend && (play)->backend->heard.heads >= (count), "the request at the backend")
#define ANSWERED(play, count, code)                                                                          \
    do {                                                                                                     \
        WAIT(play, (play)->client->heard.complete >= (count) || (play)->client->over != END_OPEN,            \
             "the answer at the client");                                                                    \
        if (!play_answered(play, count, code))                                                               \
            return;                                                                                          \
    } while (0)

void play_step(struct play *play, int line);
uint64_t play_elapsed_ms(const struct play *play);

/* Disappointed, if so long has passed in vain. */
void play_wait(struct play *play, uint64_t ms, enum conform_verdict verdict, const char *what);

__attribute__((format(printf, 3, 4))) void play_judge(struct play *play, enum conform_verdict verdict,
                                                      const char *format, ...);

/* Connects; in TCP the tag is said. False: judged, because there is no socket to be had. */
bool play_open(struct play *play);
bool play_connect(struct play *play); /* the same without the tag */
bool play_is_refused(const struct play *play);

bool play_is_stuck(struct play *play, const struct end *end);
bool play_bytes_settled(const struct end *end, uint64_t count);
bool play_bytes(struct play *play, const struct end *end, uint64_t count);
const char *play_bytes_what(struct play *play, const struct end *end, uint64_t count);
bool play_saw(struct play *play, const struct end *end, enum end_over how);
const char *play_end_what(const struct end *end, enum end_over how);
bool play_answered(struct play *play, unsigned count, unsigned status);

/* "the client" or "the backend"; "FIN", "a reset", "nothing". */
const char *play_side(const struct end *end);
const char *play_over_name(const struct end *end);

/* A request of this client, `fields` each with its "\r\n"; a body is sent behind it by end_body(). HEAD
 * and CONNECT are noted, since their answers are read otherwise. */
void play_ask(struct play *play, const char *method, const char *fields);
void play_ask_as(struct play *play, const char *method, const char *version, const char *fields);

/* Of the requests that proxies upgrade without being told more, and of its answer. */
#define PLAY_ASK_UPGRADE                                                                                     \
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"                             \
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define PLAY_UPGRADED                                                                                        \
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

/* An answer's head from the backend: "200 OK" and fields. */
void play_answer(struct play *play, const char *status, const char *fields);

/* A whole one with a body of so many bytes. The backend closes behind it if the request wanted that. */
void play_serve(struct play *play, uint64_t bytes);

#endif
