#ifndef PROXY_PLANE_EXCHANGE_H
#define PROXY_PLANE_EXCHANGE_H

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
 * It belongs to its session; the worker's thread only. */

#include "proxy/plane/http.h"
#include "reaper/policy/half.h"

#include <stdbool.h>
#include <stdint.h>

struct session;

struct exchange {
    struct http http[HALF_COUNT];
    struct message_asked asked; /* the present request */
    char *ahead;                /* read from the client, not looked at yet */
    uint32_t ahead_offset, ahead_size;
    char *head; /* of the request as it goes on; kept while it may have to be sent */
    uint32_t head_size;
    bool head_sent;
    bool repeatable;
    bool fresh;        /* the backend leg has not answered a request yet */
    bool keep_client;  /* the client's connection goes on after this exchange */
    bool keep_backend; /* the backend's does */
    uint8_t format;    /* enum answer_format */
    uint16_t status;   /* of the response, or of the answer of our own; 0: none yet */
    char *line;        /* for the log: the method and, behind its end, the path; NULL: no request */
    uint64_t requests; /* so far */
    uint64_t began_ms; /* its first byte came */
    uint64_t whole_ms; /* its last byte had gone on; 0: not yet */
};

/* Whether the session's bytes are messages now: then exchange_work() works on its halves. */
bool exchange_follows(const struct session *session);

/* With `verify`: whether a response is awaited by a client that has sent FIN. It may have closed, or only its
 * half. */
bool exchange_awaits(struct session *session);

void exchange_init(struct exchange *exchange);

/* Works on one half until it is blocked. False once the session has ended; *again when the other half has to
 * be looked at again. */
bool exchange_work(struct session *session, enum half half, uint64_t *budget, bool *again);

/* Answers the client, as the state machine said (PAIR_DO_ANSWER). The session may end. */
void exchange_answer(struct session *session);

/* Logs what was under way and gives the memory back. */
void exchange_end(struct session *session);

#endif
