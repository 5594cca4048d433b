#include "bench/play.h"

#include <stdio.h>
#include <string.h>

/* Orderly ends in HTTP/1: where a message ends, which connection ends with it, and who is still owed an
 * answer. Only teardown is judged: how heads are rewritten is not. */

enum { BODY = 20000, PIECE = 65536, MIB = 1 << 20, LARGE = 8 * MIB };

#define ASK(play, method, fields)                                                                            \
    do {                                                                                                     \
        if (!play_connect(play))                                                                             \
            return;                                                                                          \
        play_ask(play, method, fields);                                                                      \
    } while (0)

/* The backend's end is over in order, or goes on for others; a healthy one closes as soon as it reads
 * EOF. */
static bool is_at_peace(struct play *play)
{
    if (play->backend->over != END_OPEN)
        end_fin(play->backend);
    return !play->backend->is_reset;
}

#define AT_PEACE(play) HOLD(play, 1500, is_at_peace(play), CONFORM_FAIL, "a healthy backend was reset")

/* A backend that has answered and reads EOF closes, as a good one does. */
static bool close_if_left(struct play *play)
{
    if (play->backend->over != END_OPEN)
        end_fin(play->backend);
    return play->client->over != END_OPEN;
}

static void client_first(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "");
    ASKED(play, 1);
    play_serve(play, BODY);
    ANSWERED(play, 1, 200);
    end_fin(play->client);
    WAIT(play, close_if_left(play), "FIN at the client");
    FIN(play, play->client);
    AT_PEACE(play);
    END(play);
}

/* The same with close(), and a backend that closes as soon as it reads EOF. */
static void no_reset(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "");
    ASKED(play, 1);
    play_serve(play, BODY);
    ANSWERED(play, 1, 200);
    end_close(play->client);
    AT_PEACE(play);
    END(play);
}

static void connection_close(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "Connection: close\r\n");
    ASKED(play, 1);
    play_serve(play, BODY);
    ANSWERED(play, 1, 200);
    FIN(play, play->client);
    end_fin(play->client);
    AT_PEACE(play);
    END(play);
}

static void old_client(struct play *play)
{
    BEGIN(play);
    if (!play_connect(play))
        return;
    play_ask_as(play, "GET", "1.0", "");
    ASKED(play, 1);
    play_serve(play, BODY);
    ANSWERED(play, 1, 200);
    FIN(play, play->client);
    END(play);
}

static void backend_closes(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "");
    ASKED(play, 1);
    play_answer(play, "200 OK", "Content-Length: 20000\r\nConnection: close\r\n");
    end_body(play->backend, 0, BODY);
    end_fin(play->backend);
    ANSWERED(play, 1, 200);
    if (play->client->over != END_OPEN)
        end_fin(play->client);
    WITHIN(play, 3000, play->backend->over != END_OPEN || play->client->over != END_OPEN,
           "FIN at the backend");
    end_fin(play->client);
    WAIT(play, play->backend->over != END_OPEN, "FIN at the backend that has closed");
    NEED(play, play->backend->over == END_FIN, CONFORM_FAIL, "a backend that closed in order was reset");
    END(play);
}

/* Answer and FIN come together; neither may wait for the other. */
static void answer_with_fin(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "Connection: close\r\n");
    ASKED(play, 1);
    play_answer(play, "200 OK", "Content-Length: 100\r\nConnection: close\r\n");
    end_body(play->backend, 0, 100);
    end_fin(play->backend);
    WITHIN(play, 3000, play->client->heard.complete > 0, "the answer");
    FIN(play, play->client);
    END(play);
}

static void slow_reader(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "Connection: close\r\n");
    ASKED(play, 1);
    end_pause(play->client);
    play_serve(play, LARGE);
    end_fin(play->backend);
    STUCK(play, play->backend);
    end_resume(play->client);
    ANSWERED(play, 1, 200);
    FIN(play, play->client);
    END(play);
}

/* ---- where a message ends ---- */

static void head(struct play *play)
{
    BEGIN(play);
    ASK(play, "HEAD", "");
    ASKED(play, 1);
    play_answer(play, "200 OK", "Content-Length: 20000\r\n");
    ANSWERED(play, 1, 200);
    play_ask(play, "GET", "");
    ASKED(play, 1);
    WAIT(play, play->backend->heard.complete + play->arrivals >= 3 || play->client->over != END_OPEN,
         "the request behind HEAD");
    NEED(play, play->client->over == END_OPEN, CONFORM_PASS, "the proxy closes behind HEAD");
    play_serve(play, BODY);
    ANSWERED(play, 2, 200);
    END(play);
}

static void bodyless(struct play *play, const char *status, const char *fields, unsigned code)
{
    BEGIN(play);
    ASK(play, "GET", "If-None-Match: \"a\"\r\n");
    ASKED(play, 1);
    play_answer(play, status, fields);
    WITHIN(play, 5000, play->client->heard.complete > 0 || play->client->over != END_OPEN,
           "an answer that has no body");
    ANSWERED(play, 1, code);
    END(play);
}

static void no_content(struct play *play)
{
    bodyless(play, "204 No Content", "", 204);
}

static void not_modified(struct play *play)
{
    bodyless(play, "304 Not Modified", "ETag: \"a\"\r\nContent-Length: 20000\r\n", 304);
}

static void close_delimited(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "");
    ASKED(play, 1);
    play_answer(play, "200 OK", "Content-Type: text/plain\r\nConnection: close\r\n");
    end_body(play->backend, 0, MIB);
    end_fin(play->backend);
    ANSWERED(play, 1, 200);
    NEED(play, play->client->heard.body_bytes == MIB, CONFORM_DESTROYS_DATA,
         "the client got %llu bytes of %d", (unsigned long long)play->client->heard.body_bytes, MIB);
    END(play);
}

static void say_chunk(struct end *end, uint64_t from, unsigned length)
{
    char size[16];
    int digits = snprintf(size, sizeof size, "%x\r\n", length);
    end_say(end, size, (size_t)digits);
    end_body(end, from, length);
    end_say(end, "\r\n", 2);
}

static void chunked(struct play *play, const char *fields, const char *last)
{
    BEGIN(play);
    ASK(play, "GET", "TE: trailers\r\n");
    ASKED(play, 1);
    play_answer(play, "200 OK", fields);
    for (play->i = 0; play->i < 10; play->i++) {
        say_chunk(play->backend, play->i * UINT64_C(1000), 1000);
        PAUSE(play, 20);
    }
    end_say(play->backend, last, strlen(last));
    ANSWERED(play, 1, 200);
    NEED(play, play->client->heard.body_bytes == 10000, CONFORM_DESTROYS_DATA,
         "the client got %llu bytes of 10000", (unsigned long long)play->client->heard.body_bytes);
    END(play);
}

static void chunked_answer(struct play *play)
{
    chunked(play, "Transfer-Encoding: chunked\r\n", "0\r\n\r\n");
}

static void trailer(struct play *play)
{
    chunked(play, "Transfer-Encoding: chunked\r\nTrailer: X-End\r\n", "0\r\nX-End: yes\r\n\r\n");
}

static void chunked_request(struct play *play)
{
    BEGIN(play);
    ASK(play, "POST", "Transfer-Encoding: chunked\r\n");
    for (play->i = 0; play->i < 10; play->i++)
        say_chunk(play->client, play->i * UINT64_C(1000), 1000);
    end_say(play->client, "0\r\n\r\n", 5);
    ASKED(play, 1);
    NEED(play, play->backend->heard.body_bytes == 10000 && !play->backend->heard.is_wrong,
         CONFORM_DESTROYS_DATA, "the backend got %llu bytes of 10000",
         (unsigned long long)play->backend->heard.body_bytes);
    play_serve(play, BODY);
    ANSWERED(play, 1, 200);
    END(play);
}

/* ---- several messages ---- */

static bool is_answered_all(const struct play *play, unsigned count)
{
    return play->client->heard.complete >= count || play->client->over != END_OPEN;
}

/* Answers whatever requests have come and were not answered yet, on whichever connection. */
static void serve_new(struct play *play)
{
    if (play->arrivals > play->served_on) { /* on a new connection it begins anew */
        play->served_on = play->arrivals;
        play->n = 0;
    }
    for (; play->backend && play->n < play->backend->heard.complete; play->n++)
        play_serve(play, BODY);
}

static void pipeline_fin(struct play *play)
{
    BEGIN(play);
    if (!play_connect(play))
        return;
    for (play->i = 0; play->i < 5; play->i++)
        play_ask(play, "GET", "");
    end_fin(play->client);
    for (play->i = 0; play->i < 1500 && !is_answered_all(play, 5); play->i++) {
        serve_new(play);
        PAUSE(play, 10);
    }
    ANSWERED(play, 5, 200);
    WAIT(play, close_if_left(play), "FIN at the client");
    FIN(play, play->client);
    END(play);
}

static void request_fin(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "");
    end_fin(play->client);
    ASKED(play, 1);
    PAUSE(play, 1000);
    NEED(play, play->client->over == END_OPEN, CONFORM_OPINION,
         "given up at the client's FIN, before the answer");
    play_serve(play, BODY);
    ANSWERED(play, 1, 200);
    WAIT(play, close_if_left(play), "FIN at the client");
    FIN(play, play->client);
    END(play);
}

/* The answer has begun, so somebody is there to read it. */
static void answer_goes_on(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "");
    ASKED(play, 1);
    play_answer(play, "200 OK", "Content-Length: 1310720\r\n");
    end_body(play->backend, 0, PIECE);
    WAIT(play, play->client->heard.body_bytes > 0, "the beginning of the answer");
    end_fin(play->client);
    for (play->i = 1; play->i < 20; play->i++) {
        PAUSE(play, 150);
        end_body(play->backend, play->i * UINT64_C(65536), PIECE);
    }
    ANSWERED(play, 1, 200);
    NEED(play, play->client->heard.body_bytes == 20 * PIECE, CONFORM_DESTROYS_DATA,
         "the client got %llu bytes of 1310720", (unsigned long long)play->client->heard.body_bytes);
    END(play);
}

/* The backend closes its idle connection as the next request is on its way. */
static void keep_alive_race(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "");
    ASKED(play, 1);
    play_serve(play, BODY);
    ANSWERED(play, 1, 200);
    play->n = play->arrivals;
    end_close(play->backend);
    play_ask(play, "GET", "");
    WAIT(play, play->arrivals > play->n || play->client->over != END_OPEN || play->client->heard.complete > 1,
         "another try, or a word for the client");
    NEED(play, play->arrivals > play->n || play->client->heard.complete > 1, CONFORM_PASS,
         "the connection is closed: the client tries again");
    NEED(play, play->arrivals > play->n, CONFORM_OPINION,
         "status %u for a request that could have been repeated", heard_status(&play->client->heard, 1));
    ASKED(play, 1);
    play_serve(play, BODY);
    ANSWERED(play, 2, 200);
    END(play);
}

/* ---- interim answers ---- */

static void say_interim(struct play *play)
{
    static const char early[] = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    end_say(play->backend, early, sizeof early - 1);
}

static void interim(struct play *play)
{
    BEGIN(play);
    ASK(play, "GET", "");
    ASKED(play, 1);
    say_interim(play);
    say_interim(play);
    PAUSE(play, 200);
    play_serve(play, BODY);
    ANSWERED(play, 1, 200);
    END(play);
}

static void expect_continue(struct play *play)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    BEGIN(play);
    ASK(play, "POST", "Content-Length: 20000\r\nExpect: 100-continue\r\n");
    /* Some read the body first and send both: then the backend sees the head only behind the body. */
    WITHIN(play, play->bound_ms,
           (play->backend && play->backend->heard.heads > 0) || play->client->heard.interim > 0,
           "the head at the backend, or 100 at the client");
    if (play->backend && play->backend->heard.heads > 0)
        end_say(play->backend, go_on, sizeof go_on - 1);
    WAIT(play, play->client->heard.interim > 0, "100 at the client");
    end_body(play->client, 0, BODY);
    ASKED(play, 1);
    play_serve(play, BODY);
    ANSWERED(play, 1, 200);
    END(play);
}

/* ---- an answer before the request is over ---- */

static void early_answer_close(struct play *play)
{
    BEGIN(play);
    ASK(play, "POST", "Content-Length: 8388608\r\n");
    end_body(play->client, 0, LARGE);
    ASKED_HEAD(play, 1);
    play_answer(play, "413 Content Too Large", "Content-Length: 20000\r\nConnection: close\r\n");
    end_body(play->backend, 0, BODY);
    end_fin(play->backend);
    ANSWERED(play, 1, 413);
    NEED(play, play->client->heard.body_bytes == BODY, CONFORM_DESTROYS_DATA,
         "the client got %llu bytes of the answer", (unsigned long long)play->client->heard.body_bytes);
    END(play);
}

static void early_answer(struct play *play)
{
    BEGIN(play);
    ASK(play, "POST", "Content-Length: 8388608\r\n");
    end_body(play->client, 0, LARGE / 2);
    PAUSE(play, 300);
    NEED(play, play->backend, CONFORM_SKIP, "the proxy takes the request in whole before it passes it on");
    ASKED_HEAD(play, 1);
    play_answer(play, "200 OK", "Content-Length: 20000\r\n");
    end_body(play->backend, 0, BODY);
    WAIT(play, play->client->heard.complete > 0 || play->client->over != END_OPEN, "the early answer");
    end_body(play->client, LARGE / 2, LARGE / 2);
    ANSWERED(play, 1, 200);
    END(play);
}

/* ---- tunnels ---- */

static void tunnel_end(struct play *play, enum end_side first)
{
    struct end *from = first == END_CLIENT ? play->client : play->backend;
    struct end *to = first == END_CLIENT ? play->backend : play->client;
    BEGIN(play);
    end_body(play->client, 0, 1000);
    end_body(play->backend, 0, 1000);
    WAIT(play, play->client->heard.tunnel_bytes == 1000 && play->backend->heard.tunnel_bytes == 1000,
         "bytes through the tunnel");
    end_fin(from);
    FIN(play, to);
    HOLD(play, PLAY_WATCH_MS, from->over == END_OPEN && !to->is_reset,
         play->of->opinion ? CONFORM_OPINION : CONFORM_DESTROYS_DATA,
         "FIN in one direction ended the other one too");
    end_body(to, 1000, BODY);
    end_fin(to);
    WAIT(play, from->heard.tunnel_bytes == 1000 + BODY || from->is_read_out, "the other direction's bytes");
    NEED(play, from->heard.tunnel_bytes == 1000 + BODY && !from->heard.is_wrong, CONFORM_DESTROYS_DATA,
         "%s got %llu of %d bytes", play_side(from), (unsigned long long)from->heard.tunnel_bytes,
         1000 + BODY);
    FIN(play, from);
    END(play);
}

static bool is_refused(const struct play *play)
{
    return heard_status(&play->client->heard, 0) >= 400 || play->client->over != END_OPEN;
}

/* False until the tunnel stands; then the rest of the case takes over, from its own beginning. */
static void open_tunnel(struct play *play, const char *method, const char *fields, const char *status,
                        const char *answer)
{
    BEGIN(play);
    ASK(play, method, fields);
    WAIT(play, (play->backend && play->backend->heard.heads > 0) || is_refused(play), "the request");
    NEED(play, play->backend && play->backend->heard.heads > 0, CONFORM_SKIP, "refused with status %u",
         heard_status(&play->client->heard, 0));
    NEED(play, play->backend->heard.is_tunnel, CONFORM_SKIP, "the proxy takes Upgrade away");
    play_answer(play, status, answer);
    WAIT(play, play->client->heard.heads > 0 || play->client->over != END_OPEN,
         "the answer that opens the tunnel");
    NEED(play, play->client->heard.is_tunnel, CONFORM_FAIL, "status %u instead of a tunnel",
         heard_status(&play->client->heard, 0));
    play->n = 1;
    play->line = 0;
    return;
    END(play);
}

static void tunnel(struct play *play, const char *method, const char *fields, const char *status,
                   const char *answer, enum end_side first)
{
    if (play->n == 0)
        open_tunnel(play, method, fields, status, answer);
    if (play->n == 1 && !play->is_over)
        tunnel_end(play, first);
}

static void upgrade_client_first(struct play *play)
{
    tunnel(play, "GET", PLAY_ASK_UPGRADE, "101 Switching Protocols", PLAY_UPGRADED, END_CLIENT);
}

static void upgrade_backend_first(struct play *play)
{
    tunnel(play, "GET", PLAY_ASK_UPGRADE, "101 Switching Protocols", PLAY_UPGRADED, END_BACKEND);
}

static void connect_client_first(struct play *play)
{
    tunnel(play, "CONNECT", "", "200 Connected", "", END_CLIENT);
}

#define HTTP CONFORM_HTTP

const struct conform_case cases_http[] = {
    {"http-client-first", HTTP, 0, "RFC 9112, 9.6", "A client that has its answer sends FIN: FIN comes back.",
     NULL, client_first},
    {"http-no-reset", HTTP, 0, "RFC 9112, 9.6; HAProxy resets idle servers",
     "A client that has its answer and closes leaves the backend in peace: FIN or nothing, no reset.", NULL,
     no_reset},
    {"http-connection-close", HTTP, 0, "RFC 9112, 9.6",
     "Connection: close from the client: answer, then FIN.", NULL, connection_close},
    {"http-1.0", HTTP, 0, "RFC 9112, 9.3", "An HTTP/1.0 client gets its answer, then FIN.", NULL, old_client},
    {"http-backend-closes", HTTP, 0, "RFC 9112, 9.6",
     "A backend that answers and closes sees FIN, not a reset.", NULL, backend_closes},
    {"http-answer-with-fin", HTTP, 0, "RFC 9112, 9.6", "Answer and FIN in one: neither waits.", NULL,
     answer_with_fin},
    {"http-slow-reader", HTTP, 0, "RFC 9293, 3.8.6",
     "8 MiB and FIN for a client that reads late arrive whole.", NULL, slow_reader},
    {"http-head", HTTP, 0, "RFC 9110, 9.3.2", "The answer to HEAD has no body, whatever its length says.",
     NULL, head},
    {"http-204", HTTP, 0, "RFC 9112, 6.3", "204 ends with its head.", NULL, no_content},
    {"http-304", HTTP, 0, "RFC 9112, 6.3", "304 ends with its head, whatever its length says.", NULL,
     not_modified},
    {"http-close-delimited", HTTP, 0, "RFC 9112, 6.3, rule 8", "A body that ends with FIN arrives whole.",
     NULL, close_delimited},
    {"http-chunked-answer", HTTP, 0, "RFC 9112, 7.1", "A chunked answer arrives whole.", NULL,
     chunked_answer},
    {"http-trailer", HTTP, 0, "RFC 9112, 7.1.2", "The same with a trailer, which may be dropped.", NULL,
     trailer},
    {"http-chunked-request", HTTP, 0, "RFC 9112, 7.1", "A chunked request arrives whole.", NULL,
     chunked_request},
    {"http-pipeline-fin", HTTP, 0, "RFC 9112, 9.3.2", "FIN behind five requests: five answers, then FIN.",
     NULL, pipeline_fin},
    {"http-request-fin", HTTP, 0, "RFC 9112, 9.5; nginx proxy_ignore_client_abort, HAProxy abortonclose",
     "A client that sends FIN behind its request still reads: it gets its answer.",
     "A FIN before the answer means that nobody waits: give up early, and spare the backend.", request_fin},
    {"http-answer-goes-on", HTTP, 0, "RFC 9293, 3.6", "A client's FIN amid the answer does not cut it.", NULL,
     answer_goes_on},
    {"http-keepalive-race", HTTP, 0, "RFC 9112, 9.3.1; node 47130, fleet 51461, ingress-nginx 8760",
     "A GET that meets the backend's idle close is tried again on a new connection.",
     "502: the proxy cannot know whether the backend has seen the request.", keep_alive_race},
    {"http-interim", HTTP, 0, "RFC 9110, 15.2", "Interim answers do not end the exchange.", NULL, interim},
    {"http-continue", HTTP, 0, "RFC 9110, 10.1.1", "100, then the body: the final answer comes.", NULL,
     expect_continue},
    {"http-early-close", HTTP, 0, "RFC 9112, 9.6",
     "A backend that answers an upload early and sends FIN: the "
     "client gets the answer.",
     NULL, early_answer_close},
    {"http-early-answer", HTTP, 0, "RFC 9110, 10.1.1", "A backend that answers early and reads on: the same.",
     NULL, early_answer},
    {"http-upgrade-fin-client", HTTP, 0, "RFC 9110, 7.8; nginx 718",
     "After 101 the client's FIN ends one half only.", NULL, upgrade_client_first},
    {"http-upgrade-fin-backend", HTTP, 0, "RFC 9110, 7.8", "After 101 the backend's FIN ends one half only.",
     NULL, upgrade_backend_first},
    {"http-connect-fin", HTTP, 0, "RFC 9110, 9.3.6 says the other",
     "After CONNECT the client's FIN ends one half only.",
     "FIN from either side ends the tunnel, once what has arrived is delivered.", connect_client_first},
    {0},
};
