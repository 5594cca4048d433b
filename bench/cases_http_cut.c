#include "bench/play.h"

/* Cuts in HTTP/1: a message that its sender never ended must not arrive as a whole one. */

enum { BODY = 20000, HALF = 10000, LARGE = 8 << 20 };

#define ASK(play, method, fields)                                                                            \
    do {                                                                                                     \
        if (!play_connect(play))                                                                             \
            return;                                                                                          \
        play_ask(play, method, fields);                                                                      \
    } while (0)

/* The client has half of an answer. It must learn of the cut, and must not take it for an answer. */
#define CUT(play)                                                                                            \
    do {                                                                                                     \
        WAIT(play, (play)->client->over != END_OPEN || (play)->client->heard.complete > 0,                   \
             "the cut at the client");                                                                       \
        NEED(play, (play)->client->heard.complete == 0 || heard_status(&(play)->client->heard, 0) >= 500,    \
             CONFORM_DESTROYS_DATA, "the client took %llu of %d bytes for the whole answer",                 \
             (unsigned long long)(play)->client->heard.body_bytes, BODY);                                    \
    } while (0)

static void half_an_answer(struct play *play, const char *fields)
{
    play_answer(play, "200 OK", fields);
    end_body(play->backend, 0, HALF);
}

static void cut_length(struct play *play, bool reset)
{
    BEGIN(play);
    ASK(play, "GET", "");
    ASKED(play, 1);
    half_an_answer(play, "Content-Length: 20000\r\n");
    WAIT(play, end_is_idle(play->backend), "the kernel to take the bytes");
    PAUSE(play, 200);
    if (reset)
        end_reset(play->backend);
    else
        end_fin(play->backend);
    CUT(play);
    END(play);
}

static void cut_length_fin(struct play *play)
{
    cut_length(play, false);
}

static void cut_length_reset(struct play *play)
{
    cut_length(play, true);
}

static void cut_chunked(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "");
    ASKED(play, 1);
    play_answer(play, "200 OK", "Transfer-Encoding: chunked\r\n");
    end_say(play->backend, "4e20\r\n", 6); /* 20000 */
    end_body(play->backend, 0, HALF);
    PAUSE(play, 200);
    end_fin(play->backend);
    CUT(play);
    END(play);
}

/* The chunks so far are whole; only the last one is missing. */
static void cut_between_chunks(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "");
    ASKED(play, 1);
    play_answer(play, "200 OK", "Transfer-Encoding: chunked\r\n");
    end_say(play->backend, "2710\r\n", 6); /* 10000 */
    end_body(play->backend, 0, HALF);
    end_say(play->backend, "\r\n", 2);
    PAUSE(play, 200);
    end_fin(play->backend);
    CUT(play);
    END(play);
}

/* Without a length only the way in which the connection ends tells a whole answer from a cut one. */
static void cut_close_delimited(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "");
    ASKED(play, 1);
    half_an_answer(play, "Connection: close\r\n");
    WAIT(play, play->client->heard.body_bytes >= HALF || play->client->over != END_OPEN,
         "half of the answer");
    end_reset(play->backend);
    CUT(play);
    END(play);
}

static void nothing_answered(struct play *play)
{
    BEGIN(play);
    ASK(play, "POST", "Content-Length: 0\r\n");
    ASKED(play, 1);
    end_fin(play->backend);
    WAIT(play, play->client->over != END_OPEN || play->client->heard.complete > 0, "502, or an end");
    NEED(play, play->client->heard.complete == 0 || heard_status(&play->client->heard, 0) >= 500,
         CONFORM_DESTROYS_DATA, "status %u where nothing was answered",
         heard_status(&play->client->heard, 0));
    END(play);
}

static void interim_then_fin(struct play *play)
{
    static const char early[] = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    BEGIN(play);
    ASK(play, "POST", "Content-Length: 0\r\n");
    ASKED(play, 1);
    end_say(play->backend, early, sizeof early - 1);
    end_fin(play->backend);
    WAIT(play, play->client->over != END_OPEN || play->client->heard.complete > 0, "502, or an end");
    NEED(play, play->client->heard.complete == 0 || heard_status(&play->client->heard, 0) >= 500,
         CONFORM_DESTROYS_DATA, "status %u where nothing was answered",
         heard_status(&play->client->heard, 0));
    END(play);
}

static void garbage(struct play *play)
{
    BEGIN(play);
    ASK(play, "POST", "Content-Length: 0\r\n");
    ASKED(play, 1);
    end_say(play->backend, "\x16\x03\x01 this is not HTTP\r\n\r\n", 24);
    end_fin(play->backend);
    WAIT(play,
         play->client->over != END_OPEN || play->client->heard.complete > 0 || play->client->heard.is_wrong,
         "502, or an end");
    NEED(play, play->stage->is_direct || !play->client->heard.is_wrong, CONFORM_FAIL,
         "it is passed on as it is");
    END(play);
}

/* ---- requests ---- */

static void request_cut(struct play *play, bool reset)
{
    BEGIN(play);
    ASK(play, "POST", "Content-Length: 20000\r\n");
    end_body(play->client, 0, HALF);
    PAUSE(play, 300);
    if (reset)
        end_reset(play->client);
    else
        end_fin(play->client);
    if (!play->backend) {
        PAUSE(play, 1000);
        NEED(play, play->backend, CONFORM_PASS, "the backend is not troubled with a cut request");
    }
    WAIT(play, play->backend->over != END_OPEN || play->backend->heard.complete > 0,
         "the cut at the backend");
    NEED(play, play->backend->heard.complete == 0, CONFORM_DESTROYS_DATA,
         "the backend took %llu of %d bytes for the whole request",
         (unsigned long long)play->backend->heard.body_bytes, BODY);
    END(play);
}

static void request_cut_fin(struct play *play)
{
    request_cut(play, false);
}

static void request_cut_reset(struct play *play)
{
    request_cut(play, true);
}

static void request_chunked_cut(struct play *play)
{
    BEGIN(play);
    ASK(play, "POST", "Transfer-Encoding: chunked\r\n");
    end_say(play->client, "2710\r\n", 6);
    end_body(play->client, 0, HALF);
    end_say(play->client, "\r\n", 2);
    PAUSE(play, 300);
    end_fin(play->client);
    if (!play->backend) {
        PAUSE(play, 1000);
        NEED(play, play->backend, CONFORM_PASS, "the backend is not troubled with a cut request");
    }
    WAIT(play, play->backend->over != END_OPEN || play->backend->heard.complete > 0,
         "the cut at the backend");
    NEED(play, play->backend->heard.complete == 0, CONFORM_DESTROYS_DATA,
         "the backend took %llu of %d bytes for the whole request",
         (unsigned long long)play->backend->heard.body_bytes, BODY);
    END(play);
}

static void head_cut(struct play *play)
{
    static const char some[] = "GET / HTTP/1.1\r\nHost: last";
    BEGIN(play);
    if (!play_connect(play))
        return;
    end_say(play->client, some, sizeof some - 1);
    PAUSE(play, 200);
    end_fin(play->client);
    if (play->stage->is_direct) {
        NEED(play, !play->stage->is_direct, CONFORM_SKIP, "there is no proxy whose work it would be");
    }
    WAIT(play, play->client->over != END_OPEN || play->client->heard.complete > 0, "400, or an end");
    NEED(play, play->client->heard.complete == 0 || heard_status(&play->client->heard, 0) >= 400,
         CONFORM_FAIL, "status %u for half a head", heard_status(&play->client->heard, 0));
    END(play);
}

/* ---- clients that leave ---- */

static void leave_amid_answer(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "");
    ASKED(play, 1);
    play_answer(play, "200 OK", "Content-Length: 268435456\r\n");
    end_body(play->backend, 0, 32 * (uint64_t)LARGE);
    WAIT(play, play->client->heard.body_bytes > LARGE / 8, "the beginning of the answer");
    end_close(play->client);
    WAIT(play, play->backend->over != END_OPEN || play->backend->is_reset,
         "the backend to be told that nobody reads");
    END(play);
}

static void leave_before_answer(struct play *play, bool reset)
{
    BEGIN(play);
    ASK(play, "GET", "");
    ASKED(play, 1);
    if (reset)
        end_reset(play->client);
    else
        end_close(play->client);
    WITHIN_OR(play, 5000, play->backend->over != END_OPEN || play->backend->is_reset,
              reset ? CONFORM_FAIL : CONFORM_OPINION, "the backend to be told that nobody waits");
    END(play);
}

static void reset_before_answer(struct play *play)
{
    leave_before_answer(play, true);
}

static void close_before_answer(struct play *play)
{
    leave_before_answer(play, false);
}

/* Three requests, one answer, FIN: the client must not wait for the other two. */
static void pipeline_cut(struct play *play)
{
    BEGIN(play);
    if (!play_connect(play))
        return;
    for (play->i = 0; play->i < 3; play->i++)
        play_ask(play, "POST", "Content-Length: 0\r\n");
    ASKED(play, 1);
    play_answer(play, "200 OK", "Content-Length: 20000\r\nConnection: close\r\n");
    end_body(play->backend, 0, BODY);
    end_fin(play->backend);
    ANSWERED(play, 1, 200);
    WAIT(play, play->client->over != END_OPEN || play->client->heard.complete > 1 || play->arrivals > 1,
         "an end, another try, or a word about the other two");
    END(play);
}

static void tunnel_reset(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", PLAY_ASK_UPGRADE);
    ASKED_HEAD(play, 1);
    NEED(play, play->backend->heard.is_tunnel, CONFORM_SKIP, "the proxy takes Upgrade away");
    play_answer(play, "101 Switching Protocols", PLAY_UPGRADED);
    WAIT(play, play->client->heard.is_tunnel || play->client->over != END_OPEN,
         "the answer that opens the tunnel");
    end_reset(play->backend);
    WAIT(play, play->client->over != END_OPEN, "the reset at the client");
    NEED(play, play->client->over == END_RESET, CONFORM_DESTROYS_DATA,
         "the client saw FIN: a cut passed off as an end");
    END(play);
}

#define HTTP CONFORM_HTTP

const struct conform_case cases_http_cut[] = {
    {"http-cut-length-fin", HTTP, 0, "RFC 9112, 8",
     "FIN before Content-Length is reached: the client sees the cut.", NULL, cut_length_fin},
    {"http-cut-length-reset", HTTP, 0, "RFC 9112, 8", "The same with a reset.", NULL, cut_length_reset},
    {"http-cut-chunked", HTTP, 0, "RFC 9112, 8", "FIN amid a chunk: the client gets no last chunk.", NULL,
     cut_chunked},
    {"http-cut-between-chunks", HTTP, 0, "RFC 9112, 8", "FIN between chunks: the client gets no last chunk.",
     NULL, cut_between_chunks},
    {"http-cut-close-delimited", HTTP, 0, "RFC 9112, 8",
     "A reset amid a body without a length is not passed off as its end.", NULL, cut_close_delimited},
    {"http-nothing-answered", HTTP, 0, "RFC 9110, 15.6.3",
     "A backend that closes without an answer: 502, or an end.", NULL, nothing_answered},
    {"http-interim-fin", HTTP, 0, "RFC 9110, 15.2", "FIN behind an interim answer only: 502, or an end.",
     NULL, interim_then_fin},
    {"http-garbage", HTTP, 0, "RFC 9112, 2.2", "What is no HTTP is not passed on, and the client is told.",
     NULL, garbage},
    {"http-pipeline-cut", HTTP, 0, "RFC 9112, 9.3.2",
     "FIN behind one answer to three requests leaves nobody waiting.", NULL, pipeline_cut},
    {"http-request-cut-fin", HTTP, 0, "RFC 9112, 8", "A request that FIN cuts is not passed off as whole.",
     NULL, request_cut_fin},
    {"http-request-cut-reset", HTTP | CONFORM_RESETS, 0, "RFC 9112, 8",
     "A request that a reset cuts is not passed off as whole.", NULL, request_cut_reset},
    {"http-request-cut-chunked", HTTP, 0, "RFC 9112, 8", "FIN between chunks of a request: no last chunk.",
     NULL, request_chunked_cut},
    {"http-head-cut", HTTP, 0, "RFC 9112, 8", "FIN amid a request's head: 400, or an end.", NULL, head_cut},
    {"http-leave-amid-answer", HTTP | CONFORM_RESETS, 0, "RFC 1122, 4.2.2.13",
     "A client that closes amid a large answer: the backend is told.", NULL, leave_amid_answer},
    {"http-leave-before-answer", HTTP | CONFORM_RESETS, 0, "nginx 499, HAProxy abortonclose",
     "A client that closes before the answer: the backend is told.",
     "The backend may be told when it answers; a FIN alone says nothing.", close_before_answer},
    {"http-reset-before-answer", HTTP | CONFORM_RESETS, 0, "nginx 499, HAProxy abortonclose",
     "A client that resets before the answer: the backend is told.", NULL, reset_before_answer},
    {"http-upgrade-reset", HTTP | CONFORM_RESETS, 0, "RFC 9293, 3.5.2",
     "After 101 the backend's reset reaches the client as a reset.", NULL, tunnel_reset},
    {0},
};
