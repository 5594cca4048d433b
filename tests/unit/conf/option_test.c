#include "tests/unit/cmocka.h"

#include "conf/finding.h"
#include "conf/flag.h"
#include "conf/load.h"
#include "conf/option.h"
#include "conf/yaml.h"
#include "reaper/error.h"
#include "reaper/policy/deadline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Each row. */

static void every_row_is_complete(void **state)
{
    (void)state;
    static const char *const prefixes[] = {
        [SCOPE_TOP] = "",
        [SCOPE_DEADLINES] = "deadlines.",
        [SCOPE_FRONTEND] = "frontends[].",
        [SCOPE_BACKEND] = "backends[].",
    };
    size_t count = 0;
    const struct option_row *rows = option_table(&count);
    for (size_t i = 0; i < count; i++) {
        const struct option_row *row = &rows[i];
        char allowed[OPTION_ALLOWED] = "";
        assert_ptr_equal(option_find(row->path), row);
        assert_int_equal(strncmp(row->path, prefixes[row->scope], strlen(prefixes[row->scope])), 0);
        assert_true(strlen(row->path) < OPTION_PATH);
        assert_true(strlen(row->help) > 10);
        assert_true(row->help[strlen(row->help) - 1] != '.');
        option_allowed(row, allowed);
        assert_true(strlen(allowed) > 0);
        assert_true(strlen(allowed) < sizeof allowed - 1);
        assert_true(row->min <= row->max);
        if (row->flag)
            assert_non_null(option_argument(row));
        assert_false(option_is_later(row->path));
    }
}

static void no_two_rows_share_a_path_or_a_flag(void **state)
{
    (void)state;
    size_t count = 0;
    const struct option_row *rows = option_table(&count);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(rows[i].path, rows[j].path);
            if (rows[i].flag && rows[j].flag)
                assert_string_not_equal(rows[i].flag, rows[j].flag);
        }
}

static void every_deadline_has_its_row_and_its_flag(void **state)
{
    (void)state;
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++) {
        char path[OPTION_PATH];
        const struct deadline *deadline = deadline_row(id);
        snprintf(path, sizeof path, "%s%s", id == DEADLINE_DRAIN ? "" : "deadlines.", deadline->name);
        const struct option_row *row = option_find(path);
        assert_non_null(row);
        assert_int_equal(row->deadline, id);
        assert_int_equal(row->min, deadline->min_ms);
        assert_int_equal(row->max, deadline->max_ms);
        assert_int_equal(row->word != NULL, deadline->may_be_off);
        assert_int_equal(strlen(row->flag), strlen(deadline->name));
        assert_null(strchr(row->flag, '_'));
    }
}

static void the_flags_are_the_ones_that_were_promised(void **state)
{
    (void)state;
    static const char *const promised[] = {
        "listen",         "backend",         "mode",       "idle",      "half-close",
        "half-close-max", "connect",         "grace",      "lifetime",  "max-connections",
        "workers",        "half-close-rate", "drain",      "log-level", "log-format",
        "log-target",     "write-stall",     "log-normal",
    };
    const struct argp_option *options = conf_argp()->options;
    for (size_t i = 0; i < sizeof promised / sizeof promised[0]; i++) {
        const struct argp_option *option = options;
        while (option->name == NULL || strcmp(option->name, promised[i]) != 0) {
            assert_true(option->name || option->doc);
            option++;
        }
        assert_non_null(option->arg);
        assert_non_null(option->doc);
    }
}

static void defaults_are_those_of_the_deadline_table(void **state)
{
    (void)state;
    struct deadlines expected;
    struct deadlines deadlines;
    deadlines_default(&expected);
    deadlines_default(&deadlines);
    memset(deadlines.after_ms, 0, sizeof deadlines.after_ms);
    deadlines.rate[DEADLINE_HALF_CLOSE] = 0;
    assert_int_equal(option_defaults(SCOPE_DEADLINES, &deadlines), 0);
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++)
        if (id != DEADLINE_DRAIN)
            assert_int_equal(deadlines.after_ms[id], expected.after_ms[id]);
    assert_int_equal(deadlines.rate[DEADLINE_HALF_CLOSE], expected.rate[DEADLINE_HALF_CLOSE]);
}

static void bounds_are_inclusive_and_a_refusal_stores_nothing(void **state)
{
    (void)state;
    struct conf conf = {.workers = 7};
    const char *why = NULL;
    const struct option_row *row = option_find("workers");
    assert_int_equal(option_set(row, &conf, "1", &why), 0);
    assert_int_equal(option_set(row, &conf, "1024", &why), 0);
    assert_int_equal(conf.workers, 1024);
    assert_int_equal(option_set(row, &conf, "0", &why), ERROR_CONFIG);
    assert_int_equal(option_set(row, &conf, "1025", &why), ERROR_CONFIG);
    assert_null(why);
    assert_int_equal(option_set(row, &conf, "off", &why), ERROR_CONFIG);
    assert_int_equal(conf.workers, 1024);
    assert_int_equal(option_set(row, &conf, "auto", &why), 0);
    assert_int_equal(conf.workers, 0);
}

static void a_value_is_written_as_it_is_read(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"workers", "auto"},          {"workers", "3"},       {"drain", "off"},
        {"drain", "1500ms"},          {"log.level", "debug"}, {"log.format", "json"},
        {"log.target", "/var/log/x"},
    };
    struct conf conf = {.workers = 0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *why = NULL;
        char text[64];
        const struct option_row *row = option_find(cases[i][0]);
        assert_int_equal(option_set(row, &conf, cases[i][1], &why), 0);
        option_text(row, &conf, text, sizeof text);
        assert_string_equal(text, cases[i][1]);
    }
    free(conf.log.target);
}

static void a_misspelt_key_is_recognised(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"", "worker", "workers"},
        {"", "frontend", "frontends"},
        {"", "deadlins", "deadlines"},
        {"", "darin", "drain"},
        {"deadlines.", "half-close", "half_close"},
        {"deadlines.", "halfclose_rate", "half_close_rate"},
        {"deadlines.", "idel", "idle"},
        {"frontends[].", "max_connection", "max_connections"},
        {"frontends[].", "lisen", "listen"},
        {"backends[].", "server", "servers"},
        {"", "timeout", NULL},
        {"", "x", NULL},
        {"", "", NULL},
        {"frontends[].", "servers", NULL},
        {"",
         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
         "aaa",
         NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char nearest[OPTION_PATH] = "";
        assert_int_equal(option_nearest(cases[i][0], cases[i][1], nearest), cases[i][2] != NULL);
        if (cases[i][2])
            assert_string_equal(nearest, cases[i][2]);
    }
}

/* conf/lastack.yaml. */

static char annotated[YAML_SIZE_MAX];
static size_t annotated_size;

static int read_annotated(void **state)
{
    (void)state;
    FILE *file = fopen(LASTACK_SOURCE_DIR "/conf/lastack.yaml", "re");
    if (!file)
        return -1;
    annotated_size = fread(annotated, 1, sizeof annotated, file);
    return fclose(file);
}

/* The node of a path; of a list of mappings the first one. */
static const struct yaml_node *find_node(const struct yaml_node *node, const char *path)
{
    while (*path) {
        char key[OPTION_PATH];
        size_t length = strcspn(path, ".[");
        snprintf(key, sizeof key, "%.*s", (int)length, path);
        node = yaml_get(node, key);
        if (!node)
            return NULL;
        path += length;
        if (strncmp(path, "[]", 2) == 0) {
            assert_int_equal(node->kind, YAML_SEQUENCE);
            node = node->first;
            path += 2;
        }
        path += *path == '.';
    }
    return node;
}

static void check_default(const struct option_row *row, const struct yaml_node *node)
{
    if (!node) {
        fail_msg("conf/lastack.yaml lacks %s", row->path);
        return;
    }
    if (row->type == OPTION_DEADLINES || row->type == OPTION_ANSWERS) {
        assert_int_equal(node->kind, YAML_MAPPING);
        assert_null(node->first);
    } else if (row->fallback) {
        assert_int_equal(node->kind, YAML_SCALAR);
        if (strcmp(node->text, row->fallback) != 0)
            fail_msg("conf/lastack.yaml has %s: %s, the default is %s", row->path, node->text, row->fallback);
    }
}

static void the_annotated_default_has_every_option_with_its_default(void **state)
{
    (void)state;
    struct findings findings = {0};
    struct yaml yaml;
    size_t count = 0;
    const struct option_row *rows = option_table(&count);
    assert_int_equal(yaml_parse("lastack.yaml", annotated, annotated_size, &yaml, &findings), 0);
    for (size_t i = 0; i < count; i++)
        check_default(&rows[i], find_node(yaml.root, rows[i].path));
    yaml_free(&yaml);
}

/* Walks to every leaf; each has to be a row. Returns how many there are. */
static size_t count_options(const struct yaml_node *node, const char *path)
{
    size_t count = 0;
    if (option_find(path))
        return 1;
    assert_int_not_equal(node->kind, YAML_SCALAR);
    for (const struct yaml_node *child = node->first; child; child = child->next) {
        char below[OPTION_PATH * 2];
        snprintf(below, sizeof below, "%.60s%s%.60s", path, child->key ? (*path ? "." : "") : "[]",
                 child->key ? child->key : "");
        if (!option_find(below) && !option_is_section(below))
            fail_msg("conf/lastack.yaml has %s, which is no option", below);
        count += count_options(child, below);
    }
    return count;
}

static void the_annotated_default_has_nothing_else(void **state)
{
    (void)state;
    struct findings findings = {0};
    struct yaml yaml;
    size_t count = 0;
    option_table(&count);
    assert_int_equal(yaml_parse("lastack.yaml", annotated, annotated_size, &yaml, &findings), 0);
    assert_int_equal(count_options(yaml.root, ""), count);
    yaml_free(&yaml);
}

static void the_annotated_default_loads_cleanly(void **state)
{
    (void)state;
    struct findings findings = {0};
    const struct conf_source none = {.file = NULL};
    struct conf *conf = NULL;
    assert_int_equal(conf_load_bytes("lastack.yaml", annotated, annotated_size, &none, &conf, &findings), 0);
    assert_int_equal(findings.count, 0);
    struct deadlines expected;
    deadlines_default(&expected);
    assert_memory_equal(&conf->frontends[0].deadlines, &expected, sizeof expected);
    conf_free(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_complete),
        cmocka_unit_test(no_two_rows_share_a_path_or_a_flag),
        cmocka_unit_test(every_deadline_has_its_row_and_its_flag),
        cmocka_unit_test(the_flags_are_the_ones_that_were_promised),
        cmocka_unit_test(defaults_are_those_of_the_deadline_table),
        cmocka_unit_test(bounds_are_inclusive_and_a_refusal_stores_nothing),
        cmocka_unit_test(a_value_is_written_as_it_is_read),
        cmocka_unit_test(a_misspelt_key_is_recognised),
        cmocka_unit_test_setup(the_annotated_default_has_every_option_with_its_default, read_annotated),
        cmocka_unit_test_setup(the_annotated_default_has_nothing_else, read_annotated),
        cmocka_unit_test_setup(the_annotated_default_loads_cleanly, read_annotated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
