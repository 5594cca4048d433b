#include "tests/unit/cmocka.h"

#include "bench/heard.h"

#include <stdio.h>
#include <string.h>

static void pattern(char *bytes, uint64_t from, size_t length)
{
    for (size_t i = 0; i < length; i++)
        bytes[i] = (char)heard_pattern(from + i);
}

/* In pieces of every size, with the tag before it. */
static void takes_a_stream(void **state)
{
    (void)state;
    char bytes[HEARD_TAG_BYTES + 1 + 500];
    heard_tag_text(0x1234abcd, bytes);
    pattern(bytes + HEARD_TAG_BYTES, 0, 500);
    for (size_t piece = 1; piece < 40; piece++) {
        struct heard heard;
        heard_init(&heard, false, true);
        for (size_t at = 0; at < HEARD_TAG_BYTES + 500; at += piece) {
            size_t left = HEARD_TAG_BYTES + 500 - at;
            heard_take(&heard, bytes + at, left < piece ? left : piece);
        }
        assert_true(heard.has_tag);
        assert_int_equal(heard.tag, 0x1234abcd);
        assert_int_equal(heard.bytes, 500);
        assert_int_equal(heard.raw_bytes, 500 + HEARD_TAG_BYTES);
        assert_false(heard.is_wrong);
    }
}

/* A byte that is changed, lost or doubled anywhere is found where it is. */
static void finds_a_wrong_byte(void **state)
{
    (void)state;
    char bytes[300];
    for (size_t at = 0; at < 250; at++) {
        struct heard changed, lost, doubled;
        heard_init(&changed, false, false);
        heard_init(&lost, false, false);
        heard_init(&doubled, false, false);
        pattern(bytes, 0, sizeof bytes);
        heard_take(&lost, bytes, at);
        heard_take(&lost, bytes + at + 1, sizeof bytes - at - 1);
        heard_take(&doubled, bytes, at + 1);
        heard_take(&doubled, bytes + at, sizeof bytes - at);
        bytes[at] = (char)(bytes[at] ^ 1);
        heard_take(&changed, bytes, sizeof bytes);
        assert_true(changed.is_wrong && lost.is_wrong && doubled.is_wrong);
        assert_int_equal(changed.wrong_at, at);
        assert_true(lost.wrong_at >= at && doubled.wrong_at > at);
    }
}

static void refuses_another_tag(void **state)
{
    (void)state;
    static const char *const tags[] = {"LASTACK0000000g\n", "LASTACK00000000x", "lastack00000000\n",
                                       "GET / HTTP/1.1\r\n"};
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        struct heard heard;
        heard_init(&heard, false, true);
        heard_take(&heard, tags[i], HEARD_TAG_BYTES);
        assert_false(heard.has_tag);
        assert_true(heard.is_wrong);
    }
}

static void say(struct heard *heard, const char *text)
{
    heard_take(heard, text, strlen(text));
}

static void say_body(struct heard *heard, size_t length)
{
    char bytes[1000];
    pattern(bytes, 0, length);
    heard_take(heard, bytes, length);
}

static void knows_whose_request_it_is(void **state)
{
    (void)state;
    struct heard heard;
    heard_init(&heard, true, true);
    say(&heard, "POST /LASTACK0000002a/ HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n");
    assert_true(heard.has_tag);
    assert_int_equal(heard.tag, 0x2a);
    assert_int_equal(heard.complete, 0);
    assert_true(heard_is_amid(&heard));
    say_body(&heard, 100);
    assert_int_equal(heard.complete, 1);
    assert_true(heard.keeps_alive);
    say(&heard, "GET http://lastack.test/LASTACK0000002b/ HTTP/1.0\r\n\r\n");
    assert_int_equal(heard.tag, 0x2b);
    assert_int_equal(heard.complete, 2);
    assert_false(heard.keeps_alive);
    assert_false(heard.is_wrong);
}

static void tells_answers_apart(void **state)
{
    (void)state;
    struct heard heard;
    heard_init(&heard, true, false);
    heard.is_head[0] = true;
    say(&heard,
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n");
    assert_int_equal(heard.interim, 1);
    assert_int_equal(heard.complete, 1);
    say(&heard, "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n");
    say(&heard, "HTTP/1.1 204 No Content\r\n\r\n");
    say(&heard, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n32\r\n");
    say_body(&heard, 50);
    assert_int_equal(heard.complete, 3);
    say(&heard, "\r\n0\r\n\r\n");
    assert_int_equal(heard.complete, 4);
    assert_int_equal(heard_status(&heard, 0), 200);
    assert_int_equal(heard_status(&heard, 1), 304);
    assert_int_equal(heard_status(&heard, 2), 204);
    assert_int_equal(heard_status(&heard, 4), 0);
    assert_int_equal(heard_status(&heard, HEARD_STATUSES), 0);
}

/* FIN completes a body without a length, and no other one. */
static void knows_what_fin_completes(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        unsigned complete;
    } rows[] = {{"", 1}, {"Content-Length: 200\r\n", 0}, {"Transfer-Encoding: chunked\r\n", 0}};
    for (size_t i = 0; i < 3; i++) {
        struct heard heard;
        char head[100];
        heard_init(&heard, true, false);
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\n%s\r\n%s", rows[i].fields, i == 2 ? "c8\r\n" : "");
        say(&heard, head);
        say_body(&heard, 100);
        heard_end(&heard);
        assert_int_equal(heard.complete, rows[i].complete);
        assert_int_equal(heard_is_amid(&heard), !rows[i].complete);
        assert_int_equal(heard.body_bytes, 100);
    }
}

static void reads_a_tunnel(void **state)
{
    (void)state;
    struct heard upgraded, connected;
    heard_init(&upgraded, true, false);
    say(&upgraded, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
    assert_true(upgraded.is_tunnel);
    say_body(&upgraded, 700);
    assert_int_equal(upgraded.tunnel_bytes, 700);
    assert_false(upgraded.is_wrong);
    say(&upgraded, "HTTP");
    assert_true(upgraded.is_wrong);

    heard_init(&connected, true, false);
    connected.is_connect[0] = true;
    say(&connected, "HTTP/1.1 200 Connected\r\n\r\n");
    assert_true(connected.is_tunnel);
}

/* A proxy's own answer has a body that is nobody's pattern. */
static void does_not_judge_error_pages(void **state)
{
    (void)state;
    struct heard heard;
    heard_init(&heard, true, false);
    say(&heard, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\nsorry");
    assert_false(heard.is_wrong);
    say(&heard, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nsorry");
    assert_true(heard.is_wrong);
}

static void says_what_is_no_http(void **state)
{
    (void)state;
    struct heard heard;
    heard_init(&heard, true, false);
    say(&heard, "\x16\x03\x01 not HTTP");
    assert_true(heard.is_wrong);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_a_stream),       cmocka_unit_test(finds_a_wrong_byte),
        cmocka_unit_test(refuses_another_tag),  cmocka_unit_test(knows_whose_request_it_is),
        cmocka_unit_test(tells_answers_apart),  cmocka_unit_test(knows_what_fin_completes),
        cmocka_unit_test(reads_a_tunnel),       cmocka_unit_test(does_not_judge_error_pages),
        cmocka_unit_test(says_what_is_no_http),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
