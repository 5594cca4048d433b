#ifndef REAPER_POLICY_REASON_H
#define REAPER_POLICY_REASON_H

#include <stdbool.h>

/* Why a session ended: one table gives the constant, the name in logs and metrics, and the text.
 * The names are an interface; see README.md before changing one. */

#define REASON_MAP(X)                                                                                        \
    X(REASON_NONE, none, "the session has not ended")                                                        \
    X(REASON_CLOSED, closed, "both sides sent FIN and both FINs were relayed")                               \
    X(REASON_CLIENT_RESET, client_reset, "the client sent RST; passed on to the backend")                    \
    X(REASON_BACKEND_RESET, backend_reset, "the backend sent RST; passed on to the client")                  \
    X(REASON_CLIENT_LOST, client_lost, "the kernel gave up on the client (timeout or unreachable)")          \
    X(REASON_BACKEND_LOST, backend_lost, "the kernel gave up on the backend (timeout or unreachable)")       \
    X(REASON_CONNECT, connect, "no server of the backend answered within the connect deadline")              \
    X(REASON_CONNECT_FAILED, connect_failed, "no server of the backend could be connected to")               \
    X(REASON_CLIENT_CLOSED, client_closed, "the client had closed its socket: nobody was left to read")      \
    X(REASON_IDLE, idle, "no progress in either half for the idle deadline")                                 \
    X(REASON_IDLE_RATE, idle_rate, "both halves were open and only trickled")                                \
    X(REASON_HALF_CLOSE, half_close, "one half ended and the other made no progress: a leak")                \
    X(REASON_HALF_CLOSE_RATE, half_close_rate, "one half ended and the other only trickled")                 \
    X(REASON_HALF_CLOSE_MAX, half_close_max, "one half ended and the other outlived half_close_max")         \
    X(REASON_HALF_CLOSE_EMPTY, half_close_empty, "the client left without a byte, the backend stayed")       \
    X(REASON_WRITE_STALL, write_stall, "a side took no bytes for the write_stall deadline")                  \
    X(REASON_WRITE_STALL_RATE, write_stall_rate, "the client took what was held for it too slowly")          \
    X(REASON_PREFACE, preface, "what a connection has to begin with did not arrive in time")                 \
    X(REASON_BAD_PREFACE, bad_preface, "a connection did not begin with a valid PROXY header")               \
    X(REASON_REQUEST_HEAD, request_head, "the head of a request did not arrive in time")                     \
    X(REASON_REQUEST_BODY, request_body, "the body of a request made no progress")                           \
    X(REASON_REQUEST_BODY_RATE, request_body_rate, "the body of a request only trickled")                    \
    X(REASON_RESPONSE, response, "the backend did not answer, or its answer made no progress")               \
    X(REASON_RESPONSE_RATE, response_rate, "the backend's answer only trickled")                             \
    X(REASON_EVENT_STREAM, event_stream, "a text/event-stream was silent for the event_stream deadline")     \
    X(REASON_KEEPALIVE, keepalive, "no further request came")                                                \
    X(REASON_TUNNEL, tunnel, "no progress in either half behind 101 or CONNECT for the tunnel deadline")     \
    X(REASON_MESSAGE_GRACE, message_grace, "all was answered and the backend did not close: a leak")         \
    X(REASON_BAD_REQUEST, bad_request, "a request was malformed or too large")                               \
    X(REASON_BAD_RESPONSE, bad_response, "the backend's answer was malformed or too large")                  \
    X(REASON_REQUEST_CUT, request_cut, "the client closed inside a request")                                 \
    X(REASON_RESPONSE_CUT, response_cut, "the backend closed inside a response")                             \
    X(REASON_NO_RESPONSE, no_response, "the backend closed before it answered")                              \
    X(REASON_LIMIT, limit, "the frontend had as many sessions as it may have")                               \
    X(REASON_LIFETIME, lifetime, "the session reached its lifetime")                                         \
    X(REASON_DRAIN, drain, "the proxy is shutting down")                                                     \
    X(REASON_SHUTDOWN, shutdown, "the proxy was told to end at once")                                        \
    X(REASON_NO_DESCRIPTORS, no_descriptors, "out of file descriptors")                                      \
    X(REASON_NO_PORTS, no_ports, "no local port left towards the backend (EADDRNOTAVAIL)")                   \
    X(REASON_NO_MEMORY, no_memory, "out of memory")                                                          \
    X(REASON_FAULT, fault, "an unexpected error of a system call")

enum reason {
#define X(constant, name, text) constant,
    REASON_MAP(X)
#undef X
        REASON_COUNT
};

/* Whether we ended it for what its peers did not do, as opposed to what they did, an operator, or a lack of
 * something. */
bool reason_is_reaped(enum reason reason);

/* Whether the backend held its connection though its client was done: the leak that all this is for. */
bool reason_is_leak(enum reason reason);

/* How an operator takes it: as expected; as nothing that is to be mended, like a client that resets; or as
 * something that leaks or fails. */
enum reason_weight { REASON_WELL, REASON_OTHER, REASON_BAD };
enum reason_weight reason_weight(enum reason reason);

const char *reason_name(enum reason reason); /* as in logs and metrics; static storage */
const char *reason_text(enum reason reason); /* one sentence; static storage */

#endif
