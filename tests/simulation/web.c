#include "tests/simulation/web.h"

#include "tests/simulation/stream.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_MAX = 8192, EXPECT_MS = 500, LATER_MS = 400 };

struct talk talks[BATCH];

enum reading {
    READING_HEAD,
    READING_BODY, /* `left` bytes of it, or all that comes */
    READING_CHUNK_SIZE,
    READING_CHUNK,
    READING_CHUNK_END,
    READING_TRAILER,
    READING_NOTHING, /* the last message was the last one */
};

/* One message of those that the proxy wrote to a peer. */
struct mark {
    uint64_t head_end, end; /* offsets in the stream; NEVER: not yet */
    struct ask *ask;
    bool interim, last; /* an answer with others to follow, or with none */
};

struct web {
    /* What it says. */
    unsigned char *out;
    size_t out_size, out_capacity;
    uint64_t stop_at;
    /* What it is told. */
    uint64_t taken, left, body_bytes, body_salt;
    struct mark *marks;
    size_t mark_count, mark_capacity;
    size_t read_asks;     /* answers begun to be read by a client */
    struct ask *last_ask; /* a server's */
    /* What it has made of that. */
    size_t handled;         /* marks */
    size_t asked, answered; /* a client's */
    enum stop stop;
    enum reading reading;
    enum after after;
    bool checked; /* the body is known */
    bool head_handled;
    bool owes_body;
    bool waits;   /* a client that sends nothing more */
    bool replied; /* the answer to the mark being handled was begun */
    bool orderly;
    size_t head_size;
    char head[HEAD_MAX];
};

static struct web *web_of(const struct connection *c)
{
    return c->state;
}

static void require(const struct connection *c, bool holds, const char *what)
{
    if (!holds)
        broken(c->session, what);
}

/* ---- saying ---- */

static void say(struct web *web, const void *bytes, size_t size)
{
    if (web->out_size + size > web->out_capacity) {
        web->out_capacity = 2 * (web->out_size + size) + 256;
        web->out = network_memory(web->out, web->out_capacity);
    }
    if (bytes)
        memcpy(web->out + web->out_size, bytes, size);
    web->out_size += size;
}

__attribute__((format(printf, 2, 3))) static void say_text(struct web *web, const char *format, ...)
{
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    say(web, text, (size_t)size);
}

static uint64_t salt_of(const struct ask *ask, enum half half)
{
    const struct talk *talk = &talks[0];
    while (ask < talk->asks || ask >= talk->asks + ASKS_MAX)
        talk++;
    size_t nth = (size_t)(talk - talks) * ASKS_MAX + (size_t)(ask - talk->asks);
    return stream_salt(nth * HALF_COUNT + half);
}

static void say_bytes(struct web *web, uint64_t salt, uint64_t offset, uint64_t size)
{
    say(web, NULL, size);
    stream_write(salt, offset, web->out + web->out_size - size, size);
}

/* What stands behind a chunk's size. */
static const char *behind_size(const struct oddity *oddity)
{
    static const char *const extensions[] = {";name=\"value\"", " ; a = \"\\\";\"", ";a;b", "\t;a"};
    if (oddity->padding && one_in(2))
        return "   ";
    return oddity->extensions ? extensions[random_below(4)] : "";
}

static void say_chunks(struct web *web, uint64_t salt, uint64_t size, enum flaw flaw,
                       const struct oddity *oddity)
{
    uint64_t longest = UINT64_C(1) << (4 + random_below(12));
    for (uint64_t offset = 0; offset < size;) {
        uint64_t n = 1 + random_below(min_of(longest, size - offset));
        say_text(web, "%" PRIx64 "%s\r\n", n, behind_size(oddity));
        say_bytes(web, salt, offset, n);
        say_text(web, "\r\n");
        offset += n;
        if (flaw == FLAW_CHUNK)
            say_text(web, "no size\r\n");
    }
    say_text(web, "0\r\n%s\r\n", one_in(4) ? "X-Trailer: last\r\n" : "");
}

static void say_body(struct web *web, uint64_t salt, enum body body, uint64_t size, enum flaw flaw,
                     const struct oddity *oddity)
{
    if (body == BODY_CHUNKED)
        say_chunks(web, salt, size, flaw, oddity);
    else if (body != BODY_NONE)
        say_bytes(web, salt, 0, size);
}

static void say_framing(struct web *web, enum body body, uint64_t size, enum flaw flaw,
                        const struct oddity *oddity)
{
    bool length = body == BODY_LENGTH || flaw == FLAW_LENGTHS || flaw == FLAW_BOTH;
    for (int i = 0; length && i <= oddity->twice; i++)
        say_text(web, "Content-Length: %s%" PRIu64 "\r\n", oddity->zeros ? "00" : "", size);
    if (flaw == FLAW_LENGTHS)
        say_text(web, "Content-Length: %" PRIu64 "\r\n", size + 1);
    if (body == BODY_CHUNKED || flaw == FLAW_BOTH)
        say_text(web, "Transfer-Encoding: chunked\r\n");
    if (flaw == FLAW_BLANK)
        say_text(web, "X-Blank : before the colon\r\n");
}

/* Ends the lines that were said since in LF alone. */
static void take_crs_away(struct web *web, size_t begun)
{
    size_t kept = begun;
    for (size_t i = begun; i < web->out_size; i++)
        if (web->out[i] != '\r')
            web->out[kept++] = web->out[i];
    web->out_size = kept;
}

/* Goes on writing, as far as it will say anything at all. */
static void go_on(struct connection *c, uint64_t delay_ms)
{
    struct web *web = web_of(c);
    c->peer.send_bytes = web->stop == STOP_NOT ? web->out_size : min_of(web->out_size, web->stop_at);
    if (c->writing)
        network_write(c, delay_ms);
}

/* Stops where it was to stop. False: not here. */
static bool stops(struct connection *c)
{
    const struct web *web = web_of(c);
    if (web->stop == STOP_NOT || c->written_bytes < web->stop_at)
        return false;
    if (web->stop == STOP_FIN)
        network_fin(c);
    else if (web->stop == STOP_RESET)
        network_reset(c);
    else if (web->stop == STOP_VANISH)
        network_vanish(c);
    return true;
}

static const unsigned char *wrote(const struct connection *c, uint64_t offset)
{
    return web_of(c)->out + offset;
}

/* ---- being told ---- */

static const char *field(const struct web *web, const char *name)
{
    const char *found = strstr(web->head, name);
    return found ? found + strlen(name) : NULL;
}

static struct mark *add_mark(struct web *web, struct ask *ask)
{
    if (web->mark_count == web->mark_capacity) {
        web->mark_capacity = 2 * web->mark_capacity + 4;
        web->marks = network_memory(web->marks, web->mark_capacity * sizeof *web->marks);
    }
    web->marks[web->mark_count] = (struct mark){.head_end = web->taken, .end = NEVER, .ask = ask};
    return &web->marks[web->mark_count++];
}

static struct mark *last_mark(struct web *web)
{
    return &web->marks[web->mark_count - 1];
}

/* A message is whole. */
static void take_end(struct connection *c)
{
    struct web *web = web_of(c);
    struct mark *mark = last_mark(web);
    struct ask *ask = mark->ask;
    mark->end = web->taken;
    web->reading = mark->last ? READING_NOTHING : READING_HEAD;
    if (mark->interim || ask->own_status)
        return;
    if (c->leg == LEG_BACKEND) {
        require(c, web->body_bytes == ask->body_bytes, "a request arrives whole");
        return;
    }
    bool none = ask->method[0] == 'H' || ask->reply.body == BODY_NONE;
    require(c, web->body_bytes == (none ? 0 : ask->reply.body_bytes), "an answer arrives whole");
    ask->answered = true;
}

static void take_framing(struct connection *c, bool bodyless)
{
    struct web *web = web_of(c);
    const char *length = field(web, "\r\nContent-Length: ");
    bool chunked = field(web, "\r\nTransfer-Encoding: chunked\r\n");
    web->body_bytes = 0;
    web->left = length ? strtoull(length, NULL, 10) : c->leg == LEG_CLIENT ? NEVER : 0;
    require(c, !length || !chunked, "a message has one framing");
    if (bodyless || (web->left == 0 && !chunked))
        take_end(c);
    else
        web->reading = chunked ? READING_CHUNK_SIZE : READING_BODY;
    if (web->left == NEVER && !chunked && !bodyless)
        last_mark(web)->last = true;
}

/* Which request it is, as its first line says. */
static struct ask *ask_named(const struct connection *c, const char *target, size_t *request)
{
    size_t session = 0;
    require(c, target && sscanf(target, "/%zu/%zu ", &session, request) == 2, "a request has its own target");
    require(c, session == c->session, "a request goes over its own session's connection");
    require(c, *request < talks[session].count, "nobody asks what the client did not");
    return &talks[session].asks[*request];
}

/* The connection has served a request before. */
static void require_more(const struct connection *c, const struct ask *last, const struct ask *ask)
{
    bool same = last >= talks[c->session].asks && last < talks[c->session].asks + ASKS_MAX;
    require(c, !same || last < ask, "requests arrive in order");
    require(c, !last->reply.says_close, "a server that would close is asked no more");
    require(c, last->reply.flaw != FLAW_EXCESS || c->read_bytes <= last->end_offset,
            "a server that said too much is asked no more");
}

/* The first line of a request: now a server may act on it. */
static void take_request_line(struct connection *c)
{
    struct web *web = web_of(c);
    size_t request = 0;
    struct ask *ask = ask_named(c, strchr(web->head, '/'), &request);
    ask->arrivals++;
    require(c, ask->flaw == FLAW_NONE || ask->flaw == FLAW_CHUNK, "a malformed request reaches no backend");
    require(c, ask->repeatable || ask->arrivals <= 1,
            "a request that may not be repeated reaches a backend once");
    require(c, ask->arrivals <= 2, "a request reaches a backend twice at most");
    require(c, !ask->server || ask->server->read_bytes <= ask->reply_offset,
            "a request whose answer has begun is not sent again");
    require(c, ask->repeatable || !c->fin_arrived,
            "a server that has closed is not sent what can't be repeated");
    if (web->last_ask)
        require_more(c, web->last_ask, ask);
    web->last_ask = ask;
}

static void take_request_head(struct connection *c)
{
    struct web *web = web_of(c);
    struct ask *ask = web->last_ask;
    char line[64];
    snprintf(line, sizeof line, "%s /%zu/%zu HTTP/1.%u\r\n", ask->method, c->session,
             (size_t)(ask - talks[c->session].asks), ask->minor);
    require(c, strncmp(web->head, line, strlen(line)) == 0, "a request's first line arrives as it was");
    require(c, (field(web, "\r\nTransfer-Encoding: ") != NULL) == (ask->body == BODY_CHUNKED),
            "a request keeps its framing");
    web->body_salt = salt_of(ask, HALF_REQUEST);
    web->checked = true;
    add_mark(web, ask);
    take_framing(c, false);
}

/* An answer without our server's field is the proxy's own. */
static void take_own_answer(struct connection *c, struct ask *ask, unsigned status)
{
    static const unsigned own[] = {400, 405, 408, 414, 431, 501, 502, 503, 504, 505};
    struct web *web = web_of(c);
    bool known = false;
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        known = known || own[i] == status;
    require(c, known && field(web, "\r\nConnection: close\r\n"), "an answer is a server's or our own");
    bool blames = status == 400 || status == 414 || status == 431 || status == 501 || status == 505;
    bool cut = status == 400 && c->fin_read; /* its head may have ended there */
    require(c, !blames || cut || ask->flaw != FLAW_NONE, "a request without a flaw is not called malformed");
    ask->own_status = (uint16_t)status;
    web->checked = false;
    add_mark(web, ask)->last = true;
    take_framing(c, false);
}

static void take_interim(struct connection *c, struct ask *ask)
{
    struct web *web = web_of(c);
    ask->interims++;
    require(c, ask->minor > 0 && ask->interims <= ask->reply.interims,
            "an interim answer is a server's, and comes once");
    struct mark *mark = add_mark(web, ask);
    mark->interim = true;
    take_end(c);
}

static void take_answer_head(struct connection *c)
{
    struct web *web = web_of(c);
    unsigned status = 0;
    size_t session = 0, request = 0;
    require(c, sscanf(web->head, "HTTP/1.1 %3u ", &status) == 1, "an answer begins with a status line");
    require(c, web->read_asks < web->asked, "nobody is answered who did not ask");
    struct ask *ask = &talks[c->session].asks[web->read_asks];
    require(c, c->read_bytes > ask->said_offset, "nobody is answered who did not ask");
    if (status < 200) {
        take_interim(c, ask);
        return;
    }
    web->read_asks++;
    const char *named = field(web, "\r\nX-Answer: ");
    if (!named) {
        take_own_answer(c, ask, status);
        return;
    }
    require(c, sscanf(named, "%zu.%zu", &session, &request) == 2 && session == c->session,
            "an answer is this session's");
    require(c, ask == &talks[session].asks[request], "an answer is the one to its request");
    require(c, status == ask->reply.status, "an answer's status arrives as it was");
    web->body_salt = salt_of(ask, HALF_RESPONSE);
    web->checked = true;
    bool last = field(web, "\r\nConnection: close\r\n");
    require(c, last || (ask->minor > 0 ? !ask->says_close : ask->says_keep),
            "a client that wants no more is promised no more");
    add_mark(web, ask)->last = last;
    take_framing(c, ask->method[0] == 'H' || status == 204 || status == 304);
}

/* Bytes of a head up to the end of it. */
static size_t take_head(struct connection *c, const unsigned char *bytes, size_t size)
{
    struct web *web = web_of(c);
    for (size_t i = 0; i < size; i++) {
        require(c, web->head_size < HEAD_MAX - 1, "a head is no longer than those that were said");
        web->head[web->head_size++] = (char)bytes[i];
        if (bytes[i] != '\n')
            continue;
        web->head[web->head_size] = '\0';
        bool first = strchr(web->head, '\n') == &web->head[web->head_size - 1];
        if (first && c->leg == LEG_BACKEND)
            take_request_line(c);
        if (web->head_size < 4 || memcmp(&web->head[web->head_size - 4], "\r\n\r\n", 4) != 0)
            continue;
        web->taken += i + 1;
        if (c->leg == LEG_BACKEND)
            take_request_head(c);
        else
            take_answer_head(c);
        web->head_size = 0;
        return i + 1;
    }
    web->taken += size;
    return size;
}

static size_t take_body(struct connection *c, const unsigned char *bytes, size_t size)
{
    struct web *web = web_of(c);
    size_t n = (size_t)min_of(size, web->left);
    require(c, !web->checked || stream_matches(web->body_salt, web->body_bytes, bytes, n),
            "every byte of a body arrives once, in its place and in its session");
    web->body_bytes += n;
    web->taken += n;
    web->left -= web->left == NEVER ? 0 : n;
    if (web->left > 0)
        return n;
    if (web->reading == READING_BODY)
        take_end(c);
    else
        web->reading = READING_CHUNK_END;
    return n;
}

/* A line of a chunked body. Returns where it ends, or the size if it goes on. */
static size_t take_line(struct connection *c, const unsigned char *bytes, size_t size)
{
    struct web *web = web_of(c);
    const unsigned char *end = memchr(bytes, '\n', size);
    size_t n = end ? (size_t)(end - bytes) + 1 : size;
    require(c, web->head_size + n < HEAD_MAX, "a line of a body is no longer than those that were said");
    memcpy(web->head + web->head_size, bytes, n);
    web->head_size += n;
    web->taken += n;
    if (!end)
        return n;
    web->head[web->head_size] = '\0';
    bool empty = web->head_size == 2;
    web->head_size = 0;
    switch (web->reading) {
    case READING_CHUNK_SIZE:
        require(c, strspn(web->head, "0123456789abcdef") + 2 == strlen(web->head) && web->head[0] != '\r',
                "nothing stands behind a chunk's size");
        web->left = strtoull(web->head, NULL, 16);
        web->reading = web->left > 0 ? READING_CHUNK : READING_TRAILER;
        break;
    case READING_CHUNK_END:
        require(c, empty, "chunks arrive as they were");
        web->reading = READING_CHUNK_SIZE;
        break;
    default:
        if (empty)
            take_end(c);
        break;
    }
    return n;
}

static void takes(struct connection *c, const unsigned char *bytes, size_t size)
{
    struct web *web = web_of(c);
    while (size > 0) {
        size_t n = 0;
        switch (web->reading) {
        case READING_HEAD:
            n = take_head(c, bytes, size);
            break;
        case READING_BODY:
        case READING_CHUNK:
            n = take_body(c, bytes, size);
            break;
        case READING_CHUNK_SIZE:
        case READING_CHUNK_END:
        case READING_TRAILER:
            n = take_line(c, bytes, size);
            break;
        case READING_NOTHING:
            broken(c->session, "nothing follows the last message of a connection");
        }
        bytes += n;
        size -= n;
    }
}

/* Without a length only the server's FIN says that it was all. */
static bool until_close_is_whole(const struct web *web, struct ask *ask)
{
    const struct connection *server = ask->server;
    if (ask->reply.body == BODY_CHUNKED) /* for HTTP/1.0, to which they are not told */
        return ask->answered = server && web->body_bytes == ask->reply.body_bytes &&
                               server->read_bytes >= ask->end_offset;
    bool whole = server && server->fin_read && server->written_bytes >= ask->body_offset &&
                 web->body_bytes == server->written_bytes - ask->body_offset;
    ask->answered = whole;
    return whole;
}

bool web_ends_well(const struct connection *c)
{
    struct web *web = web_of(c);
    if (web->mark_count == 0)
        return web->reading == READING_HEAD && web->head_size == 0;
    struct ask *ask = last_mark(web)->ask;
    if (web->reading == READING_BODY && web->left == NEVER)
        return until_close_is_whole(web, ask);
    /* Our own answer to HEAD has no body, unless its request could not be read. */
    if (web->reading == READING_BODY && ask->own_status && ask->method[0] == 'H' && web->body_bytes == 0)
        return true;
    return web->reading == READING_NOTHING || (web->reading == READING_HEAD && web->head_size == 0);
}

bool web_shows_cut(const struct connection *c)
{
    struct web *web = web_of(c);
    const struct ask *ask = web->mark_count > 0 ? last_mark(web)->ask : NULL;
    const struct connection *server = ask ? ask->server : NULL;
    if (!server || !server->fin_read || ask->own_status)
        return false;
    if (web->reading == READING_BODY) /* by its length, and none of what came is missing */
        return web->left != NEVER && web->body_bytes == server->written_bytes - ask->body_offset;
    return web->reading == READING_CHUNK_SIZE || web->reading == READING_CHUNK ||
           web->reading == READING_CHUNK_END || web->reading == READING_TRAILER;
}

/* ---- clients ---- */

static void say_ask(struct connection *c, const struct ask *ask)
{
    struct web *web = web_of(c);
    size_t request = (size_t)(ask - talks[c->session].asks);
    size_t begun = web->out_size;
    if (ask->flaw == FLAW_LINE)
        say_text(web, "%s  /%zu/%zu\r\n", ask->method, c->session, request);
    else
        say_text(web, "%s /%zu/%zu HTTP/1.%u\r\n", ask->method, c->session, request, ask->minor);
    say_text(web, "Host: simulated\r\n");
    if (ask->says_close || ask->says_keep)
        say_text(web, "Connection: %s\r\n", ask->says_close ? "close" : "keep-alive");
    if (ask->expects)
        say_text(web, "Expect: 100-continue\r\n");
    if (ask->filler_bytes > 0)
        say_text(web, "X-Filler: %0*d\r\n", (int)ask->filler_bytes, 0);
    say_framing(web, ask->body, ask->body_bytes, ask->flaw, &ask->oddity);
    say_text(web, "\r\n");
    if (ask->oddity.bare_lf)
        take_crs_away(web, begun);
}

static void say_asked_body(struct connection *c)
{
    struct web *web = web_of(c);
    const struct ask *ask = &talks[c->session].asks[web->asked - 1];
    web->owes_body = false;
    say_body(web, salt_of(ask, HALF_REQUEST), ask->body, ask->body_bytes, ask->flaw, &ask->oddity);
}

/* Says what may be said before the next answer. */
static void ask_more(struct connection *c, uint64_t delay_ms)
{
    struct web *web = web_of(c);
    struct talk *talk = &talks[c->session];
    while (!web->waits && !web->owes_body && web->asked < talk->count &&
           (web->answered == web->asked || talk->asks[web->asked].pipelined)) {
        struct ask *ask = &talk->asks[web->asked++];
        ask->said_offset = web->out_size;
        say_ask(c, ask);
        web->owes_body = ask->expects;
        if (ask->expects)
            network_ring(c, EXPECT_MS);
        else
            say_asked_body(c);
    }
    bool all = web->asked == talk->count && !web->owes_body;
    c->peer.fin_when_sent = all && talk->farewell == FAREWELL_HALF_CLOSE && web->stop == STOP_NOT;
    go_on(c, delay_ms);
}

static void client_rings(struct connection *c)
{
    struct web *web = web_of(c);
    if (!web->owes_body || web->waits)
        return;
    say_asked_body(c);
    ask_more(c, 0);
}

static void client_reads(struct connection *c)
{
    struct web *web = web_of(c);
    const struct talk *talk = &talks[c->session];
    for (; web->handled < web->mark_count && web->marks[web->handled].end <= c->consumed_bytes;
         web->handled++) {
        const struct mark *mark = &web->marks[web->handled];
        web->answered += !mark->interim;
        web->waits = web->waits || mark->last;
        if (web->owes_body)
            say_asked_body(c);
        if (web->answered == talk->count && !mark->interim && talk->farewell == FAREWELL_CLOSE) {
            network_close(c);
            return;
        }
        ask_more(c, web->asked < talk->count ? talk->asks[web->asked].think_ms : 0);
    }
}

static void client_sent(struct connection *c)
{
    (void)stops(c);
}

/* ---- servers ---- */

static void say_interims(struct connection *c, const struct ask *ask)
{
    struct web *web = web_of(c);
    if (ask->reply.flaw == FLAW_INTERIMS)
        web->orderly = false;
    for (unsigned i = 0; i < ask->reply.interims; i++)
        say_text(web, "HTTP/1.1 %s\r\n\r\n", ask->expects && i == 0 ? "100 Continue" : "103 Early Hints");
}

static void say_reply(struct connection *c, struct ask *ask)
{
    struct web *web = web_of(c);
    const struct reply *reply = &ask->reply;
    size_t begun = web->out_size;
    if (reply->flaw == FLAW_LINE)
        say_text(web, "HTTP/1.x fine\r\n");
    else
        say_text(web, "HTTP/1.%u %u Fine\r\n", reply->minor, reply->status);
    say_text(web, "X-Answer: %zu.%zu\r\n", c->session, (size_t)(ask - talks[c->session].asks));
    if (reply->says_close)
        say_text(web, "Connection: close\r\n");
    say_framing(web, reply->body, reply->body_bytes, reply->flaw, &reply->oddity);
    say_text(web, "\r\n");
    if (reply->oddity.bare_lf)
        take_crs_away(web, begun);
    ask->body_offset = web->out_size;
    if (ask->method[0] != 'H')
        say_body(web, salt_of(ask, HALF_RESPONSE), reply->body, reply->body_bytes, reply->flaw,
                 &reply->oddity);
    ask->end_offset = web->out_size;
    if (reply->flaw == FLAW_EXCESS)
        say_text(web, "more than was asked for\r\n");
    web->after = reply->after;
    web->replied = true;
    if (reply->flaw != FLAW_NONE || reply->stop != STOP_NOT || reply->early)
        web->orderly = false;
}

static void server_reads(struct connection *c)
{
    struct web *web = web_of(c);
    while (web->handled < web->mark_count && web->marks[web->handled].head_end <= c->consumed_bytes) {
        const struct mark *mark = &web->marks[web->handled];
        const struct reply *reply = &mark->ask->reply;
        if (!web->head_handled) {
            web->head_handled = true;
            web->replied = false;
            mark->ask->server = c;
            mark->ask->reply_offset = web->out_size;
            web->stop = reply->stop;
            web->stop_at = web->out_size + reply->stop_at;
            say_interims(c, mark->ask);
            if (reply->early)
                say_reply(c, mark->ask);
            if (reply->early || reply->interims > 0 || reply->stop != STOP_NOT)
                go_on(c, reply->think_ms);
        }
        if (mark->end > c->consumed_bytes)
            return;
        if (!web->replied)
            say_reply(c, mark->ask);
        go_on(c, reply->think_ms);
        web->handled++;
        web->head_handled = false;
    }
}

/* When it closes: often just as the next request comes. */
static uint64_t later_ms(const struct connection *c)
{
    const struct talk *talk = &talks[c->session];
    size_t next = (size_t)(web_of(c)->last_ask - talk->asks) + 1;
    if (next >= talk->count || one_in(2))
        return 1 + random_below(LATER_MS);
    return talk->reaction_ms + talk->asks[next].think_ms + random_below(3);
}

static void server_sent(struct connection *c)
{
    struct web *web = web_of(c);
    if (stops(c) || web->after == AFTER_GOES_ON || !web->replied)
        return;
    if (web->after == AFTER_CLOSES)
        network_close(c);
    else
        network_ring(c, later_ms(c));
}

/* Closes if nothing came in the meantime, as far as it knows. */
static void server_rings(struct connection *c)
{
    struct web *web = web_of(c);
    if (web->handled == web->mark_count && c->written_bytes == web->out_size)
        network_close(c);
}

bool web_server_at_rest(const struct connection *c)
{
    const struct web *web = web_of(c);
    return web->orderly && !c->vanished && web->handled > 0 && web->handled == web->mark_count &&
           web->reading == READING_HEAD && web->head_size == 0 && c->read_bytes == web->out_size;
}

/* ---- both ---- */

static void forget(struct connection *c)
{
    struct web *web = web_of(c);
    if (!web)
        return;
    network_free(web->out);
    network_free(web->marks);
    network_free(web);
}

void web_open(struct connection *c, bool orderly)
{
    struct web *web = network_memory(NULL, sizeof *web);
    memset(web, 0, offsetof(struct web, head));
    web->orderly = orderly;
    c->state = web;
    if (c->leg == LEG_BACKEND)
        return;
    web->stop = talks[c->session].stop;
    web->stop_at = talks[c->session].stop_at;
    ask_more(c, 0);
}

const struct application web_clients = {
    .wrote = wrote,
    .takes = takes,
    .reads = client_reads,
    .sent = client_sent,
    .rings = client_rings,
    .forget = forget,
};

const struct application web_servers = {
    .wrote = wrote,
    .takes = takes,
    .reads = server_reads,
    .sent = server_sent,
    .rings = server_rings,
    .forget = forget,
};
