#ifndef PROXY_SESSION_STATE_H
#define PROXY_SESSION_STATE_H

/* What a session is made of (proxy/session/session.h). */

#include "proxy/session/inquiry.h"
#include "proxy/shared/shared.h"
#include "proxy/socket/relay.h"
#include "proxy/socket/socket.h"
#include "reaper/policy/pair.h"

struct exchange;
struct protocol;
struct proxy_header;

/* What is awaited before the first byte (preface.h). */
enum preface {
    PREFACE_NONE,
    PREFACE_BYTE,         /* any */
    PREFACE_HEADER,       /* a PROXY header, or the client is refused */
    PREFACE_HEADER_MAYBE, /* a PROXY header, or the first bytes of its own */
    PREFACE_REFUSED,      /* this client may not send one, and none else is served */
};

struct session_leg {
    struct poller_source source;
    struct relay_leg relay;
};

struct session {
    struct session *prev, *next; /* in shared->sessions */
    struct grave grave;          /* when it is done */
    struct shared *shared;
    struct frontend *frontend;
    struct target *target; /* of the present or last attempt; NULL: none yet */
    struct pair pair;
    struct session_leg legs[LEG_COUNT];
    struct relay relays[HALF_COUNT];
    const struct protocol *protocol;
    struct exchange *exchange; /* the protocol's part; NULL: it has none */
    struct alarm alarm;        /* the next deadline */
    struct task task;          /* more to relay, or to follow up */
    bool runs;                 /* the task: what a step leaves to be done needs no other */
    bool wants_attempt;        /* to connect, as a step said (PAIR_DO_CONNECT) */
    bool wants_answer;         /* so for the client (PAIR_DO_ANSWER) */
    bool expired;              /* the alarm rang while the task was queued */
    uint64_t id;               /* unique in this process */
    enum place place;
    bool detached;          /* has no leg at its target any more */
    enum clearing clearing; /* of the backend's socket after our RST */
    uint32_t looks;         /* how often we looked, for that or for the client */
    struct inquiry reset;   /* what became of that socket, and which it is */
    struct inquiry hold;    /* whether the client still holds its own */
    bool over;              /* has ended, and only waits for the answer to an inquiry */
    enum preface preface;   /* what is still awaited before the first byte */
    bool unnamed;           /* its PROXY header names nobody: what it says of others is not believed */
    const char *why;        /* its header was refused for; static; NULL: for nothing */
    struct proxy_header
        *told; /* the client's header, for the backend's; NULL: it had none, or none goes on */
    union socket_address client; /* whom it speaks for: the one that connected, or named in its header */
};

#endif
