#include "bench/play.h"

/* Orderly ends on a stream of bytes: FIN, half-close, backpressure. */

enum { REQUEST = 4096, ANSWER = 20000, MIB = 1 << 20, LARGE = 8 * MIB };

static void fin_client_first(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    end_stream(play->backend, ANSWER);
    BYTES(play, play->client, ANSWER);
    end_fin(play->client);
    FIN(play, play->backend);
    end_fin(play->backend);
    FIN(play, play->client);
    HOLD(play, PLAY_WATCH_MS, !play->backend->is_reset && !play->client->is_reset, CONFORM_FAIL,
         "a reset came behind both FINs");
    END(play);
}

static void fin_backend_first(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    end_stream(play->backend, ANSWER);
    end_fin(play->backend);
    BYTES(play, play->client, ANSWER);
    FIN(play, play->client);
    end_fin(play->client);
    FIN(play, play->backend);
    HOLD(play, PLAY_WATCH_MS, !play->backend->is_reset && !play->client->is_reset, CONFORM_FAIL,
         "a reset came behind both FINs");
    END(play);
}

/* A healthy backend reads EOF and closes: what it reads must be EOF. */
static void no_reset_to_healthy(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    end_stream(play->backend, ANSWER);
    BYTES(play, play->client, ANSWER);
    end_close(play->client);
    FIN(play, play->backend);
    HOLD(play, 50, !play->backend->is_reset, CONFORM_FAIL,
         "the backend was reset 50 ms before it could close");
    end_fin(play->backend);
    HOLD(play, PLAY_WATCH_MS, !play->backend->is_reset, CONFORM_FAIL, "a healthy backend was reset");
    END(play);
}

static void fin_crossing(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    end_fin(play->client);
    end_stream(play->backend, ANSWER);
    end_fin(play->backend);
    BYTES(play, play->client, ANSWER);
    BYTES(play, play->backend, REQUEST);
    FIN(play, play->client);
    FIN(play, play->backend);
    END(play);
}

static void fin_crossing_bulk(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, LARGE);
    end_fin(play->client);
    end_stream(play->backend, LARGE);
    end_fin(play->backend);
    BYTES(play, play->client, LARGE);
    BYTES(play, play->backend, LARGE);
    FIN(play, play->client);
    FIN(play, play->backend);
    END(play);
}

static void fin_behind_request(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, MIB);
    end_fin(play->client);
    BYTES(play, play->backend, MIB);
    FIN(play, play->backend);
    end_stream(play->backend, 1);
    end_fin(play->backend);
    BYTES(play, play->client, 1);
    FIN(play, play->client);
    END(play);
}

static void fin_behind_answer(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->backend, MIB);
    end_fin(play->backend);
    BYTES(play, play->client, MIB);
    FIN(play, play->client);
    END(play);
}

/* A server that sends its answer and calls close() at once. */
static void close_behind_answer(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    end_stream(play->backend, MIB);
    WAIT(play, end_is_idle(play->backend), "the kernel to take the answer");
    end_close(play->backend);
    BYTES(play, play->client, MIB);
    FIN(play, play->client);
    END(play);
}

static void backpressure_request(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_pause(play->backend);
    end_stream(play->client, LARGE);
    end_fin(play->client);
    STUCK(play, play->client);
    end_resume(play->backend);
    BYTES(play, play->backend, LARGE);
    FIN(play, play->backend);
    end_fin(play->backend);
    FIN(play, play->client);
    END(play);
}

static void backpressure_answer(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_pause(play->client);
    end_stream(play->backend, LARGE);
    end_fin(play->backend);
    STUCK(play, play->backend);
    end_resume(play->client);
    BYTES(play, play->client, LARGE);
    FIN(play, play->client);
    END(play);
}

/* The answer is stuck behind a client that does not read; its FIN is not. */
static void zero_window_fin(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_pause(play->client);
    end_stream(play->backend, 4 * (uint64_t)LARGE);
    STUCK(play, play->backend);
    end_fin(play->client);
    FIN(play, play->backend);
    end_fin(play->backend);
    PAUSE(play, 300);
    end_resume(play->client);
    BYTES(play, play->client, 4 * (uint64_t)LARGE);
    FIN(play, play->client);
    END(play);
}

/* ---- half-close ---- */

static void fin_is_prompt(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_fin(play->client);
    WITHIN(play, 3000, play->backend->over != END_OPEN, "the FIN of a client that has said all");
    FIN(play, play->backend);
    end_fin(play->backend);
    WITHIN(play, 3000, play->client->over != END_OPEN, "the FIN of a backend that has said all");
    FIN(play, play->client);
    END(play);
}

static void one_half_only(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    end_fin(play->client);
    BYTES(play, play->backend, REQUEST);
    FIN(play, play->backend);
    HOLD(play, PLAY_WATCH_MS, play->client->over == END_OPEN && !play->backend->is_reset,
         CONFORM_DESTROYS_DATA, "the client's FIN ended the answer's half too: %s",
         play->backend->is_reset ? "the backend was reset" : "the client saw an end");
    end_stream(play->backend, ANSWER);
    end_fin(play->backend);
    BYTES(play, play->client, ANSWER);
    FIN(play, play->client);
    END(play);
}

static void other_half_only(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->backend, ANSWER);
    end_fin(play->backend);
    BYTES(play, play->client, ANSWER);
    FIN(play, play->client);
    HOLD(play, PLAY_WATCH_MS, play->backend->over == END_OPEN && !play->client->is_reset,
         CONFORM_DESTROYS_DATA, "the backend's FIN ended the request's half too: %s",
         play->client->is_reset ? "the client was reset" : "the backend saw an end");
    end_stream(play->client, REQUEST);
    end_fin(play->client);
    BYTES(play, play->backend, REQUEST);
    FIN(play, play->backend);
    END(play);
}

static struct end *end_of(const struct play *play, enum end_side side)
{
    return side == END_CLIENT ? play->client : play->backend;
}

static bool is_cut(const struct play *play, enum end_side first)
{
    return end_of(play, first)->over != END_OPEN || end_of(play, !first)->is_reset;
}

/* One side has sent FIN; the other one goes on, four KiB every quarter of a second, for so long. */
static void half_close(struct play *play, enum end_side first, unsigned seconds)
{
    BEGIN(play);
    OPEN(play);
    end_stream(end_of(play, first), REQUEST);
    end_fin(end_of(play, first));
    BYTES(play, end_of(play, !first), REQUEST);
    FIN(play, end_of(play, !first));
    for (play->i = 1; play->i <= 4 * seconds; play->i++) {
        end_stream(end_of(play, !first), 4096);
        HOLD(play, 250, !is_cut(play, first), CONFORM_DESTROYS_DATA, "cut %u ms after the FIN",
             play->i * 250);
    }
    end_fin(end_of(play, !first));
    BYTES(play, end_of(play, first), (uint64_t)seconds * 4 * 4096);
    FIN(play, end_of(play, first));
    END(play);
}

static void half_close_1s(struct play *play)
{
    half_close(play, END_CLIENT, 1);
}

static void half_close_10s(struct play *play)
{
    half_close(play, END_CLIENT, 10);
}

static void half_close_61s(struct play *play)
{
    half_close(play, END_CLIENT, 61);
}

static void half_close_backend_1s(struct play *play)
{
    half_close(play, END_BACKEND, 1);
}

static void half_close_backend_10s(struct play *play)
{
    half_close(play, END_BACKEND, 10);
}

static void half_close_silent(struct play *play, unsigned ms, enum conform_verdict verdict)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    end_fin(play->client);
    BYTES(play, play->backend, REQUEST);
    FIN(play, play->backend);
    HOLD(play, ms, !is_cut(play, END_CLIENT), verdict, "given up after %llu ms, before the answer began",
         (unsigned long long)play_elapsed_ms(play));
    end_stream(play->backend, ANSWER);
    end_fin(play->backend);
    BYTES(play, play->client, ANSWER);
    FIN(play, play->client);
    END(play);
}

static void half_close_thinks_1s(struct play *play)
{
    half_close_silent(play, 1000, CONFORM_FAIL);
}

static void half_close_thinks_10s(struct play *play)
{
    half_close_silent(play, 10000, CONFORM_OPINION);
}

static void half_close_bulk(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    end_fin(play->client);
    BYTES(play, play->backend, REQUEST);
    FIN(play, play->backend);
    end_stream(play->backend, 4 * (uint64_t)LARGE);
    end_fin(play->backend);
    BYTES(play, play->client, 4 * (uint64_t)LARGE);
    FIN(play, play->client);
    END(play);
}

/* ---- trickles and silence ---- */

static void trickle(struct play *play, enum end_side from)
{
    BEGIN(play);
    OPEN(play);
    for (play->i = 1; play->i <= 15; play->i++) {
        end_stream(end_of(play, from), 1);
        WITHIN(play, 2000, end_of(play, !from)->heard.bytes >= play->i, "a single byte to be passed on");
        HOLD(play, 100, end_of(play, from)->over == END_OPEN, CONFORM_DESTROYS_DATA, "cut behind byte %u",
             play->i);
    }
    end_fin(end_of(play, from));
    BYTES(play, end_of(play, !from), 15);
    FIN(play, end_of(play, !from));
    end_fin(end_of(play, !from));
    FIN(play, end_of(play, from));
    END(play);
}

static void trickle_request(struct play *play)
{
    trickle(play, END_CLIENT);
}

static void trickle_answer(struct play *play)
{
    trickle(play, END_BACKEND);
}

/* Slower than any minimum rate that one might set. */
static void trickle_half_closed(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_fin(play->client);
    FIN(play, play->backend);
    for (play->i = 1; play->i <= 15; play->i++) {
        end_stream(play->backend, 1);
        HOLD(play, 1000, !is_cut(play, END_CLIENT), CONFORM_OPINION,
             "ended after %u bytes in as many seconds", play->i);
    }
    end_fin(play->backend);
    BYTES(play, play->client, 15);
    FIN(play, play->client);
    END(play);
}

static void idle(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    HOLD(play, 5000, !is_cut(play, END_CLIENT) && !is_cut(play, END_BACKEND), CONFORM_FAIL,
         "ended while both were open");
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, 2 * REQUEST);
    end_fin(play->client);
    FIN(play, play->backend);
    end_fin(play->backend);
    FIN(play, play->client);
    END(play);
}

/* ---- urgent data ---- */

/* The byte itself may come in line or be lost, as sockets that don't ask for it lose it: only the end
 * counts. */
static void urgent_fin(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    play->backend->heard.is_lenient = true;
    end_urgent(play->client, '!');
    end_fin(play->client);
    FIN(play, play->backend);
    end_fin(play->backend);
    FIN(play, play->client);
    END(play);
}

static void urgent_amid(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    play->backend->heard.is_lenient = true;
    end_urgent(play->client, '!');
    end_stream(play->client, REQUEST);
    WAIT(play, play_bytes_settled(play->backend, 2 * REQUEST), "the bytes behind an urgent one");
    end_fin(play->client);
    FIN(play, play->backend);
    NEED(play, play->backend->heard.bytes - 2 * REQUEST <= 1, CONFORM_DESTROYS_DATA,
         "the backend got %llu bytes instead of %u around an urgent one",
         (unsigned long long)play->backend->heard.bytes, 2 * REQUEST);
    end_fin(play->backend);
    FIN(play, play->client);
    END(play);
}

/* ---- without a byte ---- */

static void nothing_said(struct play *play)
{
    BEGIN(play);
    if (!play_connect(play))
        return;
    WITHIN(play, 2000, play->backend || play_elapsed_ms(play) > 1000, "the time it takes");
    NEED(play, play->client->is_connected, CONFORM_FAIL, "the proxy does not take the connection");
    end_fin(play->client);
    WAIT(play, play->client->over != END_OPEN || (play->backend && play->backend->over != END_OPEN),
         "any end of a connection without a byte");
    if (play->backend) {
        FIN(play, play->backend);
        end_fin(play->backend);
    }
    FIN(play, play->client);
    END(play);
}

#define TCP CONFORM_TCP

const struct conform_case cases_close[] = {
    {"fin-client-first", TCP, 0, "RFC 9293, 3.6",
     "A client's FIN reaches the backend, the backend's the client.", NULL, fin_client_first},
    {"fin-backend-first", TCP, 0, "RFC 9293, 3.6", "The same when the backend closes first.", NULL,
     fin_backend_first},
    {"no-reset-to-healthy", TCP, 0, "RFC 9293, 3.6; istio 43297",
     "A client that has its answer and closes makes the backend read EOF, not ECONNRESET.", NULL,
     no_reset_to_healthy},
    {"fin-crossing", TCP, 0, "RFC 9293, 3.6 (simultaneous close)", "Both FINs cross, and every byte arrives.",
     NULL, fin_crossing},
    {"fin-crossing-bulk", TCP, 0, "RFC 9293, 3.6", "The same behind 8 MiB in each direction.", NULL,
     fin_crossing_bulk},
    {"fin-behind-request", TCP, 0, "RFC 9293, 3.10.4", "A FIN never passes the bytes before it.", NULL,
     fin_behind_request},
    {"fin-behind-answer", TCP, 0, "RFC 9293, 3.10.4", "The same towards the client.", NULL,
     fin_behind_answer},
    {"close-behind-answer", TCP, 0, "envoy 6392, 45267",
     "A backend that answers and calls close() at once has its answer delivered whole.", NULL,
     close_behind_answer},
    {"backpressure-request", TCP, 0, "RFC 9293, 3.8.6",
     "A FIN behind 8 MiB for a backend that reads late comes behind all of them.", NULL,
     backpressure_request},
    {"backpressure-answer", TCP, 0, "RFC 9293, 3.8.6; envoy 6392",
     "A FIN behind 8 MiB for a client that reads late comes behind all of them.", NULL, backpressure_answer},
    {"zero-window-fin", TCP, 0, "RFC 9293, 3.8.6.1",
     "A client's FIN is passed on while the answer waits for its window.", NULL, zero_window_fin},
    {"fin-prompt", TCP, 0, "RFC 9293, 3.6", "A FIN without a byte behind it is passed on at once.", NULL,
     fin_is_prompt},
    {"one-half-only", TCP, 0, "RFC 9293, 3.6; RFC 1122, 4.2.2.13",
     "A client's FIN ends the request's half; the answer still comes.", NULL, one_half_only},
    {"other-half-only", TCP, 0, "RFC 9293, 3.6; RFC 1122, 4.2.2.13",
     "A backend's FIN ends the answer's half; the request still arrives.", NULL, other_half_only},
    {"half-close-1s", TCP, 0, "nc -N, docker attach, git; traefik 5366",
     "An answer that goes on for a second behind the client's FIN is delivered.", NULL, half_close_1s},
    {"half-close-10s", TCP, 10, "traefik 5366 (an absolute bound of 100 ms)", "The same for 10 seconds.",
     NULL, half_close_10s},
    {"half-close-61s", TCP, 61, "net.ipv4.tcp_fin_timeout is 60 s; haproxy 541", "The same for 61 seconds.",
     NULL, half_close_61s},
    {"half-close-backend-1s", TCP, 0, "RFC 1122, 4.2.2.13",
     "An upload that goes on for a second behind the backend's FIN is delivered.", NULL,
     half_close_backend_1s},
    {"half-close-backend-10s", TCP, 10, "RFC 1122, 4.2.2.13", "The same for 10 seconds.", NULL,
     half_close_backend_10s},
    {"half-close-thinks-1s", TCP, 0, "nc -N before a slow service",
     "A backend may think for a second before it answers a half-closed client.", NULL, half_close_thinks_1s},
    {"half-close-thinks-10s", TCP, 10, "haproxy 1195, 2520",
     "A backend may think for 10 seconds before it answers a half-closed client.",
     "Ten seconds without a byte behind a FIN are a leak: end it.", half_close_thinks_10s},
    {"half-close-bulk", TCP, 0, "RFC 9293, 3.6", "32 MiB behind the client's FIN are delivered.", NULL,
     half_close_bulk},
    {"trickle-request", TCP, 0, "slow clients", "Single bytes are passed on as they come.", NULL,
     trickle_request},
    {"trickle-answer", TCP, 0, "server-sent events over TCP", "The same towards the client.", NULL,
     trickle_answer},
    {"trickle-half-closed", TCP, 15, "haproxy client-fin is of inactivity only",
     "A byte a second behind a FIN is progress.",
     "A byte a second is a trickle that must not keep a half-closed connection: bound it by a rate.",
     trickle_half_closed},
    {"idle-5s", TCP, 0, "RFC 1122, 4.2.3.6", "Five silent seconds end nothing.", NULL, idle},
    {"urgent-fin", TCP | CONFORM_RESETS, 0, "RFC 6093, 3.1", "A FIN right behind urgent data is passed on.",
     NULL, urgent_fin},
    {"urgent-amid", TCP | CONFORM_RESETS, 0, "RFC 6093, 3.1", "Bytes behind urgent data are passed on.", NULL,
     urgent_amid},
    {"nothing-said", TCP | CONFORM_QUIET, 0, "uvicorn 1199",
     "Connect and FIN, without a byte: both sides see the end of it.", NULL, nothing_said},
    {0},
};
