#include "tests/unit/cmocka.h"

#include "reaper/kernel/text.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static void what_a_terminal_would_obey_becomes_a_question_mark(void **state)
{
    static const struct {
        const char *text, *clean;
    } rows[] = {
        {"", ""},
        {"nginx: worker (a) [b]", "nginx: worker (a) [b]"},
        {"\033[2Jroot", "?[2Jroot"},
        {"a\tb\nc\r\x7f", "a?b?c??"},
        {"\x9b"
         "31m",
         "?31m"}, /* CSI as one byte */
        {"\xc2\x9b"
         "31m",
         "?31m"},          /* and as UTF-8 */
        {"\xc2\x85", "?"}, /* next line */
        {"gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f"},
        {"\xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x90\x98", "\xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x90\x98"},
        {"a\xe2\x80\xae"
         "b",
         "a?b"}, /* right to left from here */
        {"a\xe2\x80\xa8"
         "b",
         "a?b"}, /* line separator */
        {"a\xe2\x80\x8b"
         "b",
         "a?b"},       /* no width */
        {"\xc3", "?"}, /* cut in its middle, as the kernel cuts names */
        {"\xe6\x97", "??"},
        {"\xc3(", "?("},
        {"\xc0\x9b", "??"}, /* longer than it need be */
        {"\xe0\x82\x9b", "???"},
        {"\xf0\x80\x82\x9b", "????"},
        {"\xed\xa0\x80", "???"},      /* half a surrogate pair */
        {"\xf4\x90\x80\x80", "????"}, /* beyond Unicode */
        {"\xf5\xff\xfe", "???"},
        {"\x80\xbf", "??"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s", rows[i].text);
        text_clean(text);
        assert_string_equal(text, rows[i].clean);
    }
}

/* Whatever four bytes begin with: what is left has nothing below ' ', and cleaning it again changes nothing.
 * */
static void clean_text_stays_as_it_is(void **state)
{
    (void)state;
    for (uint32_t bytes = 0; bytes < UINT32_C(1) << 24; bytes += 257) {
        char text[8] = {(char)bytes, (char)(bytes >> 8), (char)(bytes >> 16), 'x'}, again[8];
        size_t before = strlen(text);
        text_clean(text);
        assert_true(strlen(text) <= before);
        for (const char *c = text; *c; c++)
            assert_true((unsigned char)*c >= ' ' && *c != 0x7f);
        memcpy(again, text, sizeof text);
        text_clean(again);
        assert_string_equal(again, text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_terminal_would_obey_becomes_a_question_mark),
        cmocka_unit_test(clean_text_stays_as_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
