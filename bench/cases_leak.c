#include "bench/play.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

/* Leaks, in the modes of `lastack leak`, on a stream of bytes and in HTTP; and what has to be played
 * alone: a backend that does not accept, does not answer SYN, or does not listen. The kernel's own state
 * is what counts: the leaking program does nothing about it, and notices nothing. */

enum { REQUEST = 4096, ANSWER = 2000, TRICKLE_MS = 250 };

static unsigned state_of(int fd)
{
    struct tcp_info info;
    socklen_t length = sizeof info;
    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
        return 0;
    return info.tcpi_state;
}

static bool is_leaked(unsigned state)
{
    return state == DIAG_ESTABLISHED || state == DIAG_CLOSE_WAIT;
}

/* The client has left; the backend's socket must leave CLOSE_WAIT without the backend. */
#define REAPED(play, fd)                                                                                     \
    WITHIN(play, (play)->leak_bound_ms, !is_leaked(state_of(fd)),                                            \
           state_of(fd) == DIAG_CLOSE_WAIT                                                                   \
               ? "the backend's socket to leave close-wait"                                                  \
               : "the backend's connection to be ended: it is still established")

static void never_close(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    end_stream(play->backend, ANSWER);
    BYTES(play, play->client, ANSWER);
    end_close(play->client);
    REAPED(play, play->backend->fd);
    END(play);
}

static void never_read(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    end_stream(play->backend, ANSWER);
    BYTES(play, play->client, ANSWER);
    end_pause(play->backend);
    end_close(play->client);
    REAPED(play, play->backend->fd);
    END(play);
}

static void stopped(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_pause(play->backend);
    end_close(play->client);
    REAPED(play, play->backend->fd);
    END(play);
}

static void queued(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_pause(play->backend);
    end_stream(play->client, 16 * REQUEST);
    WAIT(play, end_is_idle(play->client), "the kernel to take 64 KiB");
    PAUSE(play, 100);
    end_close(play->client);
    REAPED(play, play->backend->fd);
    END(play);
}

/* A child has the descriptor too: the parent's close() ends nothing. */
static void forked(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    play->spare[0] = dup(play->backend->fd);
    end_pause(play->backend);
    end_close(play->backend);
    end_close(play->client);
    REAPED(play, play->spare[0]);
    END(play);
}

static void trickle(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->client, REQUEST);
    BYTES(play, play->backend, REQUEST);
    end_close(play->client);
    for (play->n = 0; play->n * TRICKLE_MS < play->leak_bound_ms; play->n++) {
        end_stream(play->backend, 1);
        PAUSE(play, TRICKLE_MS);
        if (!is_leaked(state_of(play->backend->fd)))
            break;
    }
    NEED(play, !is_leaked(state_of(play->backend->fd)), CONFORM_FAIL,
         "after %llu bytes for nobody the backend is still served", (unsigned long long)play->n);
    END(play);
}

static void zero_byte(struct play *play)
{
    BEGIN(play);
    if (!play_connect(play))
        return;
    WITHIN(play, 2000, play->backend || play_elapsed_ms(play) > 1000, "the time it takes");
    NEED(play, play->client->is_connected, CONFORM_FAIL, "the proxy does not take the connection");
    end_close(play->client);
    if (!play->backend) {
        PAUSE(play, 500);
        NEED(play, play->backend, CONFORM_PASS, "the backend is never troubled");
    }
    REAPED(play, play->backend->fd);
    END(play);
}

/* The other way round: the backend has closed, the client never does. */
static void client_never_closes(struct play *play)
{
    BEGIN(play);
    OPEN(play);
    end_stream(play->backend, ANSWER);
    end_close(play->backend);
    BYTES(play, play->client, ANSWER);
    FIN(play, play->client);
    WITHIN(play, play->leak_bound_ms, !is_leaked(state_of(play->client->fd)),
           "the client's socket to leave close-wait: the proxy holds a socket for it as long as it likes");
    END(play);
}

/* ---- alone ---- */

/* What the proxy keeps open would let the client pass by what is played here. */
#define ALONE_AT_LAST(play)                                                                                  \
    stage_drop_strangers((play)->stage);                                                                     \
    PAUSE(play, 300)

static uint32_t never_accepted(struct play *play)
{
    struct netlink_counts counts;
    if (netlink_count(play->netlink, stage_port(play->stage), &counts) < 0)
        return 0;
    return counts.never_accepted;
}

static bool speak(struct play *play)
{
    if (!play->stage->http)
        return play_open(play);
    if (!play_connect(play))
        return false;
    play_ask(play, "GET", "");
    return true;
}

static void never_accept(struct play *play)
{
    BEGIN(play);
    ALONE_AT_LAST(play);
    stage_accept(play->stage, false);
    if (!speak(play))
        return;
    WAIT(play, never_accepted(play) > 0, "the proxy's connection in the accept queue");
    end_close(play->client);
    WITHIN(play, play->leak_bound_ms, never_accepted(play) == 0,
           "what was never accepted to leave the kernel's table");
    END(play);
}

/* A full accept queue lets no SYN in. */
static void fill_backlog(struct play *play)
{
    const struct stage_address *backend = &play->stage->backend;
    for (int i = 0; i < PLAY_SPARES; i++) {
        play->spare[i] = socket(backend->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connect(play->spare[i], (const struct sockaddr *)&backend->address, backend->length) < 0 &&
            errno != EINPROGRESS)
            return;
    }
}

static bool is_told(const struct play *play)
{
    return play->client->over != END_OPEN || play->client->heard.complete > 0;
}

/* Over a stream only an end can be said; HTTP has words for it. */
static void judge_told(struct play *play)
{
    unsigned status = heard_status(&play->client->heard, 0);
    if (!play->stage->http)
        play_judge(play, play->client->over == END_RESET ? CONFORM_PASS : CONFORM_OPINION, "%s",
                   play->client->over == END_RESET ? "" : "the client saw FIN: an empty answer");
    else
        play_judge(play, status == 502 || status == 503 || status == 504 ? CONFORM_PASS : CONFORM_FAIL,
                   status ? "status %u" : "no status, only an end", status);
}

static void connect_timeout(struct play *play)
{
    BEGIN(play);
    ALONE_AT_LAST(play);
    stage_deafen(play->stage);
    NEED(play, stage_listen(play->stage, 0) == 0, CONFORM_SKIP, "cannot listen again");
    stage_accept(play->stage, false);
    fill_backlog(play);
    PAUSE(play, 200);
    if (!speak(play))
        return;
    WITHIN(play, play->leak_bound_ms, is_told(play),
           "a word for the client whose backend does not answer SYN");
    judge_told(play);
    END(play);
}

static void connect_refused(struct play *play)
{
    BEGIN(play);
    ALONE_AT_LAST(play);
    stage_deafen(play->stage);
    if (!speak(play))
        return;
    WAIT(play, is_told(play), "a word for the client whose backend does not listen");
    judge_told(play);
    END(play);
}

/* ---- HTTP ---- */

/* The backend's answer is complete and says that it will close; it never does. */
static void http_answer_and_leak(struct play *play)
{
    play_answer(play, "200 OK", "Content-Length: 2000\r\nConnection: close\r\n");
    end_body(play->backend, 0, ANSWER);
}

static void http_never_close(struct play *play)
{
    BEGIN(play);
    if (!play_connect(play))
        return;
    play_ask(play, "GET", "");
    ASKED(play, 1);
    http_answer_and_leak(play);
    ANSWERED(play, 1, 200);
    end_close(play->client);
    REAPED(play, play->backend->fd);
    END(play);
}

static void http_never_read(struct play *play)
{
    BEGIN(play);
    if (!play_connect(play))
        return;
    play_ask(play, "GET", "");
    ASKED(play, 1);
    end_pause(play->backend);
    http_answer_and_leak(play);
    ANSWERED(play, 1, 200);
    end_close(play->client);
    REAPED(play, play->backend->fd);
    END(play);
}

/* Keep-alive on both sides: kept for other clients is fine, in CLOSE_WAIT is not. */
static void http_keep_alive(struct play *play)
{
    BEGIN(play);
    if (!play_connect(play))
        return;
    play_ask(play, "GET", "");
    ASKED(play, 1);
    play_answer(play, "200 OK", "Content-Length: 2000\r\nConnection: keep-alive\r\n");
    end_body(play->backend, 0, ANSWER);
    ANSWERED(play, 1, 200);
    end_close(play->client);
    PAUSE(play, 1000);
    NEED(play, state_of(play->backend->fd) != DIAG_ESTABLISHED, CONFORM_PASS, "kept for other clients");
    REAPED(play, play->backend->fd);
    END(play);
}

static void http_unanswered(struct play *play)
{
    BEGIN(play);
    if (!play_connect(play))
        return;
    play_ask(play, "GET", "");
    ASKED(play, 1);
    end_pause(play->backend);
    end_close(play->client);
    REAPED(play, play->backend->fd);
    END(play);
}

static void http_trickle(struct play *play)
{
    BEGIN(play);
    if (!play_connect(play))
        return;
    play_ask(play, "GET", "");
    ASKED(play, 1);
    play_answer(play, "200 OK", "Content-Length: 1000000\r\n");
    end_close(play->client);
    for (play->n = 0; play->n * TRICKLE_MS < play->leak_bound_ms; play->n++) {
        end_body(play->backend, play->n, 1);
        PAUSE(play, TRICKLE_MS);
        if (!is_leaked(state_of(play->backend->fd)))
            break;
    }
    NEED(play, !is_leaked(state_of(play->backend->fd)), CONFORM_FAIL,
         "after %llu bytes for nobody the backend is still served", (unsigned long long)play->n);
    END(play);
}

#define TCP_LEAK (CONFORM_TCP | CONFORM_LEAK | CONFORM_PROXY | CONFORM_RESETS)
#define HTTP_LEAK (CONFORM_HTTP | CONFORM_LEAK | CONFORM_PROXY | CONFORM_RESETS)
#define ALONE (CONFORM_BOTH | CONFORM_ALONE | CONFORM_RESETS)

const struct conform_case cases_leak[] = {
    {"leak-never-close", TCP_LEAK, 0, "ws 540, k8s 67659, gin 596",
     "A backend that read EOF and never closes is out of CLOSE_WAIT in bounded time.", NULL, never_close},
    {"leak-never-read", TCP_LEAK, 0, "node 40691, gunicorn 2707",
     "The same for one that answered and never reads again.", NULL, never_read},
    {"leak-stopped", TCP_LEAK, 0, "node 24537, 3proxy 193, haproxy 958",
     "The same for one that is stopped before it answers.", NULL, stopped},
    {"leak-queued", TCP_LEAK, 0, "xtdb 5850", "The same for one with unread data before the EOF.", NULL,
     queued},
    {"leak-forked", TCP_LEAK, 0, "odpi 152, guacamole 698",
     "The same where a child has the descriptor and the parent has closed.", NULL, forked},
    {"leak-trickle", TCP_LEAK, 0, "a stream that nobody reads",
     "A backend that trickles for a client that has closed is ended in bounded time.", NULL, trickle},
    {"leak-zero-byte", TCP_LEAK | CONFORM_QUIET, 0, "uvicorn 1199",
     "A backend that leaks connections on which nothing was said is out of CLOSE_WAIT.", NULL, zero_byte},
    {"leak-client", TCP_LEAK, 0, "envoy 41086, linkerd2 5180",
     "A client that never closes behind the backend's FIN is bounded as well.", NULL, client_never_closes},
    {"http-leak-never-close", HTTP_LEAK, 0, "ws 540, k8s 67659",
     "A backend that has answered and never closes is out of CLOSE_WAIT in bounded time.", NULL,
     http_never_close},
    {"http-leak-never-read", HTTP_LEAK, 0, "node 40691", "The same for one that never reads again.", NULL,
     http_never_read},
    {"http-leak-keep-alive", HTTP_LEAK, 0, "rate-ukma 610",
     "A keep-alive connection that the backend never closes is pooled or ended, not left in CLOSE_WAIT.",
     NULL, http_keep_alive},
    {"http-leak-unanswered", HTTP_LEAK, 0, "gunicorn 2707",
     "A request whose client has gone and whose backend never answers ends in bounded time.", NULL,
     http_unanswered},
    {"http-leak-trickle", HTTP_LEAK, 0, "a stream that nobody reads",
     "An answer that trickles for a client that has closed is ended in bounded time.", NULL, http_trickle},
    {"leak-never-accept", ALONE | CONFORM_LEAK | CONFORM_PROXY, 0, "logstash 6300, cyrus-imapd 2824",
     "A connection that the backend never accepts is out of CLOSE_WAIT in bounded time.", NULL, never_accept},
    {"connect-timeout", ALONE | CONFORM_LEAK | CONFORM_PROXY, 10, "RFC 9293, 3.8.3",
     "A client whose backend does not answer SYN is told in bounded time, by a reset or a 5xx.",
     "Over TCP, FIN will do.", connect_timeout},
    {"connect-refused", ALONE | CONFORM_PROXY, 0, "RFC 9293, 3.5.2; RFC 9110, 15.6.3",
     "A client whose backend does not listen is told, by a reset or a 5xx.", "Over TCP, FIN will do.",
     connect_refused},
    {0},
};
