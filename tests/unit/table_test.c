#include "tests/unit/cmocka.h"

#include "proxy/command/table.h"

#include <stdlib.h>
#include <string.h>

static const struct table_column columns[] = {{"NAME", false}, {"COUNT", true}, {"NOTE", false}};

static void prints(const struct table *table, const char *expected)
{
    char *text = NULL;
    size_t length = 0;
    FILE *file = open_memstream(&text, &length);
    assert_non_null(file);
    assert_int_equal(table_print(table, file), 0);
    fclose(file);
    assert_string_equal(text, expected);
    free(text);
}

static void a_table_without_rows_is_nothing(void **state)
{
    (void)state;
    struct table table;
    table_init(&table, columns, 3);
    prints(&table, "");
    table_clear(&table);
}

static void columns_are_as_wide_as_their_widest_cell(void **state)
{
    (void)state;
    struct table table;
    table_init(&table, columns, 3);
    table_text(&table, "a long name");
    table_format(&table, "%d", 7);
    table_text(&table, "x");
    table_text(&table, "b");
    table_format(&table, "%d", 1234567);
    table_text(&table, "a longer note");
    prints(&table, "NAME           COUNT  NOTE\n"
                   "a long name        7  x\n"
                   "b            1234567  a longer note\n");
    table_clear(&table);
}

static void a_number_may_come_last(void **state)
{
    (void)state;
    struct table table;
    table_init(&table, columns, 2);
    table_text(&table, "");
    table_text(&table, "1");
    prints(&table, "NAME  COUNT\n          1\n");
    table_clear(&table);
}

static void control_characters_do_not_reach_the_terminal(void **state)
{
    (void)state;
    struct table table;
    table_init(&table, columns, 1);
    table_text(&table, "\033[31m\tred\177\n");
    prints(&table, "NAME\n?[31m?red??\n");
    table_clear(&table);
}

static void many_rows_are_all_there(void **state)
{
    (void)state;
    struct table table;
    char *text = NULL;
    size_t length = 0, lines = 0;
    table_init(&table, columns, 3);
    for (unsigned i = 0; i < 20000; i++) {
        table_format(&table, "row %u", i);
        table_format(&table, "%u", i);
        table_text(&table, "note");
    }
    FILE *file = open_memstream(&text, &length);
    assert_int_equal(table_print(&table, file), 0);
    fclose(file);
    for (size_t i = 0; i < length; i++)
        lines += text[i] == '\n';
    assert_int_equal(lines, 20001);
    assert_non_null(strstr(text, "\nrow 19999  19999  note\n"));
    free(text);
    table_clear(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_without_rows_is_nothing),
        cmocka_unit_test(columns_are_as_wide_as_their_widest_cell),
        cmocka_unit_test(a_number_may_come_last),
        cmocka_unit_test(control_characters_do_not_reach_the_terminal),
        cmocka_unit_test(many_rows_are_all_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
