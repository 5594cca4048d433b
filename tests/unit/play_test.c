#include "tests/unit/cmocka.h"

#include "bench/conform_print.h"
#include "bench/play.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* ---- the words in which cases are written ---- */

static int entered;

static void waits_twice(struct play *play)
{
    entered++;
    BEGIN(play);
    WAIT(play, play->n >= 1, "the first");
    play->i++;
    for (; play->i < 4; play->i++)
        WAIT(play, play->n > play->i, "the next");
    NEED(play, play->n != 7, CONFORM_DESTROYS_DATA, "it is %d", 7);
    END(play);
}

static const struct conform_case row = {.name = "row", .run = waits_twice, .good = "g", .origin = "o"};

static struct play begin(struct conform_result *result)
{
    *result = (struct conform_result){.of = &row};
    return (struct play){.of = &row, .bound_ms = 60000, .result = result, .began_ns = end_clock_ns()};
}

static void goes_on_where_it_waited(void **state)
{
    (void)state;
    struct conform_result result;
    struct play play = begin(&result);
    entered = 0;
    for (unsigned turn = 0; turn < 3; turn++)
        row.run(&play);
    assert_int_equal(play.i, 0);
    for (play.n = 1; play.n <= 4; play.n++) {
        assert_false(play.is_over);
        row.run(&play);
    }
    assert_true(play.is_over);
    assert_int_equal(entered, 7);
    assert_int_equal(play.i, 4);
    assert_int_equal(result.verdict, CONFORM_PASS);
    assert_string_equal(result.why, "");
}

static void judges_once(void **state)
{
    (void)state;
    struct conform_result result;
    struct play play = begin(&result);
    play.n = 7;
    row.run(&play);
    assert_int_equal(result.verdict, CONFORM_DESTROYS_DATA);
    assert_string_equal(result.why, "it is 7");
    play_judge(&play, CONFORM_PASS, "%s", "no");
    assert_int_equal(result.verdict, CONFORM_DESTROYS_DATA);
}

static void gives_up_at_its_bound(void **state)
{
    (void)state;
    struct conform_result result;
    struct play play = begin(&result);
    play.bound_ms = 0;
    row.run(&play);
    assert_true(play.is_over);
    assert_int_equal(result.verdict, CONFORM_FAIL);
    assert_string_equal(result.why, "waited 0 s in vain for the first");
}

static void loss_is_told_from_a_wrong_end(void **state)
{
    (void)state;
    struct conform_result result;
    struct play play = begin(&result);
    struct end end = {.side = END_CLIENT, .over = END_FIN, .is_read_out = true};
    end.heard.bytes = 5;
    assert_true(play_bytes_settled(&end, 9));
    assert_false(play_bytes(&play, &end, 9));
    assert_int_equal(result.verdict, CONFORM_DESTROYS_DATA);
    assert_string_equal(result.why, "the client got 5 of 9 bytes and then FIN");

    play = begin(&result);
    assert_false(play_saw(&play, &end, END_RESET));
    assert_int_equal(result.verdict, CONFORM_FAIL);
    assert_string_equal(result.why, "the client saw FIN instead of a reset");

    play = begin(&result);
    assert_true(play_bytes(&play, &end, 5));
    assert_false(play_bytes(&play, &end, 4)); /* more than was sent is no better */
}

/* ---- the table ---- */

static void every_case_says_what_it_is(void **state)
{
    (void)state;
    const struct conform_case *found;
    size_t count = 0;
    for (; (found = conform_case(count)); count++) {
        assert_ptr_equal(conform_find(found->name), found); /* so names differ */
        assert_true(found->flags & CONFORM_BOTH);
        assert_true(strlen(found->name) <= 25);
        assert_true(strlen(found->origin) > 3);
        assert_int_equal(found->good[strlen(found->good) - 1], '.');
        assert_true(!found->opinion || found->opinion[strlen(found->opinion) - 1] == '.');
        assert_non_null(found->run);
    }
    assert_true(count >= 60);
    assert_null(conform_find("no-such"));
}

/* ---- how a report is printed ---- */

static char *printed(const struct conform_report *report,
                     void (*print)(const struct conform_report *, FILE *))
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    print(report, out);
    fclose(out);
    return text;
}

static void print_page(const struct conform_report *report, FILE *out)
{
    conform_print_html(report, "a<b>&\"c\"", out);
}

static void print_json(const struct conform_report *report, FILE *out)
{
    assert_int_equal(conform_print_json(report, out), 0);
}

static void prints_every_form(void **state)
{
    (void)state;
    struct conform_result results[2] = {{.of = &row, .verdict = CONFORM_FAIL, .why = "1 < 2"},
                                        {.of = &row, .verdict = CONFORM_SKIP, .why = "no"}};
    const struct conform_report report = {
        .results = results, .count = 2, .of = {[CONFORM_FAIL] = 1, [CONFORM_SKIP] = 1}};
    char *text = printed(&report, conform_print_tap);
    assert_string_equal(text, "TAP version 13\n1..2\nnot ok 1 - row\n# fail: 1 < 2\nok 2 - row # SKIP no\n");
    free(text);
    text = printed(&report, print_page);
    assert_non_null(strstr(text, "<title>Teardown: a&lt;b>&amp;&quot;c&quot;</title>"));
    assert_non_null(strstr(text, "1 &lt; 2"));
    free(text);
    text = printed(&report, conform_print_text);
    assert_non_null(strstr(text, "2 cases, 0 pass, 1 fail, 0 destroys-data, 0 opinion, 1 skip"));
    free(text);
    text = printed(&report, print_json);
    json_t *root = json_loads(text, 0, NULL);
    const json_t *first = json_array_get(json_object_get(root, "cases"), 0);
    assert_string_equal(json_string_value(json_object_get(first, "name")), "row");
    assert_string_equal(json_string_value(json_object_get(first, "verdict")), "fail");
    assert_string_equal(json_string_value(json_object_get(first, "why")), "1 < 2");
    json_decref(root);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_on_where_it_waited),    cmocka_unit_test(judges_once),
        cmocka_unit_test(gives_up_at_its_bound),      cmocka_unit_test(loss_is_told_from_a_wrong_end),
        cmocka_unit_test(every_case_says_what_it_is), cmocka_unit_test(prints_every_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
