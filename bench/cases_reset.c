#include "bench/play.h"

/* Aborts on a stream of bytes: a reset stays a reset, and nobody takes a cut for the end. */

enum { REQUEST = 4096, ANSWER = 20000, LARGE = 8 << 20 };

static struct end *end_of(const struct play *play, enum end_side side)
{
    return side == END_CLIENT ? play->client : play->backend;
}

static void reset_idle(struct play *play, enum end_side by)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    end_stream(play->backend, ANSWER);
    BYTES(play, play->client, ANSWER);
    end_reset(end_of(play, by));
    RESET(play, end_of(play, !by));
    END(play);
}

static void reset_client_idle(struct play *play)
{
    reset_idle(play, END_CLIENT);
}

static void reset_backend_idle(struct play *play)
{
    reset_idle(play, END_BACKEND);
}

/* The reset comes behind bytes that have arrived, in the middle of what the other side waits for. */
static void reset_backend_amid(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->backend, ANSWER);
    BYTES(play, play->client, ANSWER);
    end_reset(play->backend);
    WAIT(play, play->client->over != END_OPEN, "the reset at the client");
    NEED(play, play->client->over == END_RESET, CONFORM_DESTROYS_DATA,
         "the client saw FIN: a cut answer passed off as a whole one");
    END(play);
}

static void reset_client_amid(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, ANSWER);
    BYTES(play, play->backend, ANSWER);
    end_reset(play->client);
    WAIT(play, play->backend->over != END_OPEN, "the reset at the backend");
    NEED(play, play->backend->over == END_RESET, CONFORM_DESTROYS_DATA,
         "the backend saw FIN: a cut upload passed off as a whole one");
    END(play);
}

/* What the reset destroys on its way is lost in any case; what arrives must be right, and not end with
 * FIN. */
static void reset_queued(struct play *play, enum end_side by)
{
    BEGIN(play);
    OPEN(play);
    end_pause(end_of(play, !by));
    end_stream(end_of(play, by), 4 * (uint64_t)LARGE);
    STUCK(play, end_of(play, by));
    end_reset(end_of(play, by));
    PAUSE(play, 500);
    end_resume(end_of(play, !by));
    WAIT(play, end_of(play, !by)->over != END_OPEN, play_end_what(end_of(play, !by), END_RESET));
    NEED(play, end_of(play, !by)->over == END_RESET, CONFORM_DESTROYS_DATA,
         "%s got %llu bytes of a cut stream and then FIN", play_side(end_of(play, !by)),
         (unsigned long long)end_of(play, !by)->heard.bytes);
    NEED(play, !end_of(play, !by)->heard.is_wrong, CONFORM_DESTROYS_DATA, "%s got a wrong byte",
         play_side(end_of(play, !by)));
    END(play);
}

static void reset_client_queued(struct play *play)
{
    reset_queued(play, END_CLIENT);
}

static void reset_backend_queued(struct play *play)
{
    reset_queued(play, END_BACKEND);
}

/* The proxy cannot write and so does not read; yet it must learn that nobody wants the rest. */
static void zero_window_reset(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_pause(play->client);
    end_stream(play->backend, 8 * (uint64_t)LARGE);
    STUCK(play, play->backend);
    end_reset(play->client);
    WAIT(play, play->backend->is_reset, "the reset at the backend, whose answer was stuck");
    END(play);
}

/* FIN first, so that one half is over, and then the abort. */
static void fin_then_reset(struct play *play, enum end_side by)
{
    BEGIN(play);
    OPEN(play);
    end_stream(end_of(play, by), REQUEST);
    end_fin(end_of(play, by));
    BYTES(play, end_of(play, !by), REQUEST);
    FIN(play, end_of(play, !by));
    end_stream(end_of(play, !by), ANSWER);
    BYTES(play, end_of(play, by), ANSWER);
    end_reset(end_of(play, by));
    WAIT(play, end_of(play, !by)->is_reset, play_end_what(end_of(play, !by), END_RESET));
    END(play);
}

static void fin_then_reset_client(struct play *play)
{
    fin_then_reset(play, END_CLIENT);
}

static void fin_then_reset_backend(struct play *play)
{
    fin_then_reset(play, END_BACKEND);
}

/* A client that closes while it is still being answered: its kernel answers the next byte by RST. */
static void close_amid_answer(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    end_stream(play->backend, 32 * (uint64_t)LARGE);
    WAIT(play, play->client->heard.bytes > LARGE / 8, "the beginning of the answer");
    end_close(play->client);
    WAIT(play, play->backend->is_reset, "the backend to be told that nobody reads");
    END(play);
}

/* The same with an answer that comes a little at a time. */
static void close_amid_stream(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    end_stream(play->backend, 100);
    BYTES(play, play->client, 100);
    end_close(play->client);
    for (play->i = 0; play->i < 40 && !play->backend->is_reset; play->i++) {
        end_stream(play->backend, 100);
        PAUSE(play, 100);
    }
    NEED(play, play->backend->is_reset, CONFORM_FAIL, "four seconds of answers into nothing, and no reset");
    END(play);
}

/* Both legs of the proxy are gone at once. */
static void reset_crossing(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    end_stream(play->backend, 1);
    end_reset(play->client);
    end_reset(play->backend);
    END(play);
}

static void nothing_said_reset(struct play *play)
{
    BEGIN(play);
    if (!play_connect(play))
        return;
    WITHIN(play, 2000, play->backend || play_elapsed_ms(play) > 1000, "the time it takes");
    NEED(play, play->client->is_connected, CONFORM_FAIL, "the proxy does not take the connection");
    end_reset(play->client);
    if (play->backend)
        RESET(play, play->backend);
    END(play);
}

/* A backend that accepts and aborts: a crash behind systemd, an SELinux rule, a full table. */
static void reset_at_accept(struct play *play)
{
    BEGIN(play);
    if (!play_connect(play))
        return;
    WITHIN(play, 2000, play->backend || play_elapsed_ms(play) > 1000, "the time it takes");
    NEED(play, play->client->is_connected, CONFORM_FAIL, "the proxy does not take the connection");
    NEED(play, play->backend, CONFORM_SKIP, "the proxy does not connect before the client's first byte");
    end_reset(play->backend);
    RESET(play, play->client);
    END(play);
}

#define TCP (CONFORM_TCP | CONFORM_RESETS)

const struct conform_case cases_reset[] = {
    {"reset-client-idle", TCP, 0, "RFC 9293, 3.5.2 and 3.10.7.4; nginx makes it FIN",
     "A client's reset reaches the backend as a reset.", NULL, reset_client_idle},
    {"reset-backend-idle", TCP, 0, "RFC 9293, 3.5.2", "A backend's reset reaches the client as a reset.",
     NULL, reset_backend_idle},
    {"reset-client-amid", TCP, 0, "RFC 9293, 3.5.2",
     "An upload that is cut by a reset is not passed off as a whole one.", NULL, reset_client_amid},
    {"reset-backend-amid", TCP, 0, "RFC 9293, 3.5.2",
     "An answer that is cut by a reset is not passed off as a whole one.", NULL, reset_backend_amid},
    {"reset-client-queued", TCP, 0, "RFC 9293, 3.10.5",
     "The same with bytes still queued for a backend that does not read.", NULL, reset_client_queued},
    {"reset-backend-queued", TCP, 0, "RFC 9293, 3.10.5; envoy 45267",
     "The same with bytes still queued for a client that does not read.", NULL, reset_backend_queued},
    {"zero-window-reset", TCP, 0, "RFC 9293, 3.8.6.1",
     "A client that resets while the proxy cannot write to it: the backend is told.", NULL,
     zero_window_reset},
    {"fin-then-reset-client", TCP, 0, "libuv 3449",
     "A reset behind the client's FIN still reaches the backend.", NULL, fin_then_reset_client},
    {"fin-then-reset-backend", TCP, 0, "libuv 3449",
     "A reset behind the backend's FIN still reaches the client.", NULL, fin_then_reset_backend},
    {"close-amid-answer", TCP, 0, "RFC 1122, 4.2.2.13",
     "A client that closes in the middle of a large answer: the backend is told, though FIN alone said "
     "nothing.",
     NULL, close_amid_answer},
    {"close-amid-stream", TCP, 0, "RFC 1122, 4.2.2.13", "The same with an answer of small pieces.", NULL,
     close_amid_stream},
    {"reset-crossing", TCP, 0, "RFC 9293, 3.5.2", "Both sides reset at once, and the proxy lives.", NULL,
     reset_crossing},
    {"nothing-said-reset", TCP | CONFORM_QUIET, 0, "uvicorn 1199", "Connect and reset, without a byte.", NULL,
     nothing_said_reset},
    {"reset-at-accept", TCP | CONFORM_QUIET, 0, "RFC 9293, 3.5.2",
     "A backend that accepts and resets: the client is told by a reset.", NULL, reset_at_accept},
    {0},
};
