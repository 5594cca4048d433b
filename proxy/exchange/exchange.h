#ifndef PROXY_EXCHANGE_EXCHANGE_H
#define PROXY_EXCHANGE_EXCHANGE_H

/* The messages of one HTTP session: which request is being answered, and what to do at their boundaries.
 *
 *   client ---- ahead ---> [ head | body ]  request half  ------> backend
 *          <---------------  response half  [ head | body ] <----
 *
 * One request at a time: what a client sends ahead of its answer waits, so that each response is read with
 * the request that it answers. Heads are collected, checked and written anew; bodies are relayed by relay.h.
 * An exchange reports to the session's state machine where in its messages the session is, and leaves
 * teardown to it. Between two requests it owns no memory beyond its struct.
 *
 * A request may be sent a second time, over a new backend leg, only if it has no body, may be repeated (RFC
 * 9110, 9.2.2), and nothing of an answer had come over a leg that had served an earlier request: the backend
 * then closed while the request was on its way.
 *
 * Its parts: request.h and response.h work on one half each, attachment.h has the backend leg, refusal.h the
 * answers of our own, mode.h what the session is told of them.
 *
 * It belongs to its session; the worker's thread only. */

#include "proxy/http/http.h"
#include "proxy/session/step.h"
#include "reaper/policy/half.h"

#include <stdbool.h>
#include <stdint.h>

struct session;

/* What the present request goes over. */
enum exchange_leg {
    EXCHANGE_LEG_NONE,
    EXCHANGE_LEG_NEW,
    EXCHANGE_LEG_KEPT,   /* from the session's last request */
    EXCHANGE_LEG_POOLED, /* it has served any session */
    EXCHANGE_LEG_COUNT
};

/* Interim answers (1xx) that a request may get: so many, and as many bytes as so many heads may have. */
enum { EXCHANGE_INTERIMS_MAX = 256, EXCHANGE_INTERIM_HEADS = 4 };

struct exchange {
    struct http http[HALF_COUNT];
    struct message_asked asked; /* the present request */
    char *ahead;                /* read from the client, not looked at yet */
    uint32_t ahead_offset, ahead_size;
    char *head; /* of the request as it goes on; kept while it may have to be sent */
    uint32_t head_size;
    bool head_sent;
    bool repeatable;
    bool fresh;             /* the backend leg has not answered a request yet */
    bool pinned_to_client;  /* nobody else's: authenticated as it, or with a body that may yet come */
    bool looked_for_client; /* whether it still holds its socket, since its FIN */
    bool framed;            /* the response says to the client how long it is */
    bool again;             /* the request is sent a second time */
    uint8_t leg;            /* enum exchange_leg */
    bool keep_client;       /* the client's connection goes on after this exchange */
    bool keep_backend;      /* the backend's does */
    uint8_t format;         /* enum answer_format */
    uint16_t status;        /* of the response, or of the answer of our own; 0: none yet */
    uint8_t why;            /* enum rule: which of them the request or its answer broke */
    char *line;             /* for the log: method, path and request id, each with an end; NULL: no request */
    uint16_t interims;      /* answers to the present request so far */
    uint32_t interim_bytes;
    uint64_t requests; /* so far */
    uint64_t began_ms; /* its first byte came */
    uint64_t whole_ms; /* its last byte had gone on; 0: not yet */
};

/* For its parts: */

/* Whether the session's bytes are messages now. */
bool exchange_follows(const struct session *session);

/* Whether a response is awaited, or is being read, by a client that has sent FIN behind its request. It may
 * have closed, or only its half. */
bool exchange_awaits(struct session *session);

/* Whether the backend leg is up and relayed to. */
bool exchange_has_backend(const struct session *session);

/* The last byte of the request has been taken by the backend leg. */
bool exchange_request_is_whole(const struct session *session);

struct message_limits exchange_limits(const struct session *session);

/* The request's head will not have to be sent again. */
void exchange_forget_head(struct exchange *exchange);

/* Flushes what is held, then relays as much of a body as needs no looking at. */
enum step exchange_relay_unseen(struct session *session, enum half half, uint64_t *budget);

/* Counts and logs an exchange that is over: with the response's last byte, with an answer of ours, or with
 * the session. */
void exchange_report(struct session *session);

#endif
