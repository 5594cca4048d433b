#include "bench/play.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void play_step(struct play *play, int line)
{
    play->line = line;
    play->step_ns = end_clock_ns();
}

uint64_t play_elapsed_ms(const struct play *play)
{
    return (end_clock_ns() - play->step_ns) / 1000000;
}

void play_judge(struct play *play, enum conform_verdict verdict, const char *format, ...)
{
    struct conform_result *result = play->result;
    va_list arguments;
    if (play->is_over)
        return;
    play->is_over = true;
    va_start(arguments, format);
    vsnprintf(result->why, sizeof result->why, format, arguments);
    va_end(arguments);
    result->verdict = verdict;
    result->took_ms = (end_clock_ns() - play->began_ns) / 1000000;
}

void play_wait(struct play *play, uint64_t ms, enum conform_verdict verdict, const char *what)
{
    if (play_elapsed_ms(play) >= ms)
        play_judge(play, verdict, "waited %llu s in vain for %s", (unsigned long long)(ms + 500) / 1000,
                   what);
}

/* ---- connecting ---- */

bool play_connect(struct play *play)
{
    play->client = stage_connect(play->stage, play);
    if (!play->client)
        play_judge(play, CONFORM_SKIP, "no descriptor left for a client");
    return play->client;
}

bool play_open(struct play *play)
{
    char tag[HEARD_TAG_BYTES + 1];
    if (!play_connect(play))
        return false;
    heard_tag_text(play->tag, tag);
    end_say(play->client, tag, HEARD_TAG_BYTES);
    return true;
}

bool play_is_refused(const struct play *play)
{
    return play->client->over != END_OPEN;
}

/* ---- what the ends saw ---- */

const char *play_side(const struct end *end)
{
    return end->side == END_CLIENT ? "the client" : "the backend";
}

static const char *over_name(enum end_over over)
{
    static const char *const names[] = {[END_OPEN] = "nothing", [END_FIN] = "FIN", [END_RESET] = "a reset"};
    return names[over];
}

const char *play_over_name(const struct end *end)
{
    return over_name(end->over);
}

bool play_is_stuck(struct play *play, const struct end *end)
{
    uint64_t now_ns = end_clock_ns();
    if (play->moved_ns == 0 || play->moved_bytes != end->sent_bytes) {
        play->moved_bytes = end->sent_bytes;
        play->moved_ns = now_ns;
    }
    return now_ns - play->moved_ns >= PLAY_STUCK_MS * UINT64_C(1000000);
}

bool play_bytes_settled(const struct end *end, uint64_t count)
{
    return end->heard.bytes >= count || end->heard.is_wrong || (end->over != END_OPEN && end->is_read_out);
}

const char *play_bytes_what(struct play *play, const struct end *end, uint64_t count)
{
    /* In the place for the verdict's text, which this may become. */
    (void)play;
    static char text[100];
    snprintf(text, sizeof text, "%llu bytes at %s: it has %llu", (unsigned long long)count, play_side(end),
             (unsigned long long)end->heard.bytes);
    return text;
}

bool play_bytes(struct play *play, const struct end *end, uint64_t count)
{
    if (end->heard.is_wrong)
        play_judge(play, CONFORM_DESTROYS_DATA, "%s got a wrong byte at offset %llu", play_side(end),
                   (unsigned long long)end->heard.wrong_at);
    else if (end->heard.bytes > count)
        play_judge(play, CONFORM_DESTROYS_DATA, "%s got %llu bytes instead of %llu", play_side(end),
                   (unsigned long long)end->heard.bytes, (unsigned long long)count);
    else if (end->heard.bytes < count)
        play_judge(play, CONFORM_DESTROYS_DATA, "%s got %llu of %llu bytes and then %s", play_side(end),
                   (unsigned long long)end->heard.bytes, (unsigned long long)count, play_over_name(end));
    return !play->is_over;
}

bool play_saw(struct play *play, const struct end *end, enum end_over how)
{
    if (end->over != how)
        play_judge(play, CONFORM_FAIL, "%s saw %s instead of %s", play_side(end), play_over_name(end),
                   over_name(how));
    return !play->is_over;
}

const char *play_end_what(const struct end *end, enum end_over how)
{
    static const char *const what[2][3] = {
        [END_CLIENT] = {"", "FIN at the client", "the reset at the client"},
        [END_BACKEND] = {"", "FIN at the backend", "the reset at the backend"},
    };
    return what[end->side][how];
}

/* ---- HTTP ---- */

bool play_answered(struct play *play, unsigned count, unsigned status)
{
    const struct heard *heard = &play->client->heard;
    unsigned found = heard_status(heard, count - 1);
    if (heard->is_wrong)
        play_judge(play, CONFORM_DESTROYS_DATA, "the client got a wrong byte at offset %llu of the answer",
                   (unsigned long long)heard->wrong_at);
    else if (heard->complete < count && heard->heads >= count)
        play_judge(play, CONFORM_DESTROYS_DATA, "the client got %llu bytes of answer %u and then %s",
                   (unsigned long long)heard->body_bytes, count, play_over_name(play->client));
    else if (heard->complete < count)
        play_judge(play, CONFORM_DESTROYS_DATA, "the client got %u of %u answers and then %s",
                   heard->complete, count, play_over_name(play->client));
    else if (found != status)
        play_judge(play, CONFORM_FAIL, "the client got status %u instead of %u", found, status);
    return !play->is_over;
}

void play_ask_as(struct play *play, const char *method, const char *version, const char *fields)
{
    char tag[HEARD_TAG_BYTES + 1], text[512];
    struct heard *heard = &play->client->heard;
    heard_tag_text(play->tag, tag);
    tag[HEARD_TAG_BYTES - 1] = '\0';
    bool is_connect = strcmp(method, "CONNECT") == 0;
    if (play->asked < HEARD_STATUSES) {
        heard->is_head[play->asked] = strcmp(method, "HEAD") == 0;
        heard->is_connect[play->asked] = is_connect;
    }
    play->asked++;
    int length = snprintf(text, sizeof text, "%s %s%s%s HTTP/%s\r\nHost: lastack.test\r\n%s\r\n", method,
                          is_connect ? "" : "/", tag, is_connect ? ".test:80" : "/", version, fields);
    end_say(play->client, text, (size_t)length);
}

void play_ask(struct play *play, const char *method, const char *fields)
{
    play_ask_as(play, method, "1.1", fields);
}

void play_answer(struct play *play, const char *status, const char *fields)
{
    char text[512];
    int length = snprintf(text, sizeof text, "HTTP/1.1 %s\r\n%s\r\n", status, fields);
    end_say(play->backend, text, (size_t)length);
}

void play_serve(struct play *play, uint64_t bytes)
{
    char fields[96];
    bool last = !play->backend->heard.keeps_alive;
    snprintf(fields, sizeof fields, "Content-Type: text/plain\r\nContent-Length: %llu\r\n%s",
             (unsigned long long)bytes, last ? "Connection: close\r\n" : "");
    play_answer(play, "200 OK", fields);
    end_body(play->backend, 0, bytes);
    if (last)
        end_fin(play->backend);
}
