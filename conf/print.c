#include "conf/print.h"

#include "conf/option.h"
#include "conf/value.h"
#include "reaper/policy/deadline.h"

#include <limits.h>
#include <string.h>

/* In single quotes, where only the quote itself is special (YAML 1.2 section 7.3.2). */
static void print_quoted(const char *text, FILE *out)
{
    fputs("'", out);
    for (const char *at = text; *at; at++) {
        if (*at == '\'')
            fputc('\'', out);
        fputc(*at, out);
    }
    fputc('\'', out);
}

static void print_scalar(const struct option_row *row, const void *object, FILE *out)
{
    char text[PATH_MAX];
    option_text(row, object, text, sizeof text);
    if (row->type == OPTION_NAME || row->type == OPTION_TARGET || row->type == OPTION_USER ||
        row->type == OPTION_CHECK)
        print_quoted(text, out);
    else
        fputs(text, out);
}

static void print_deadline(const struct option_row *row, const struct deadlines *deadlines, FILE *out)
{
    if (row->deadline == DEADLINE_COUNT || !deadline_row(row->deadline)->settable_action) {
        print_scalar(row, deadlines, out);
        return;
    }
    fputs("{after: ", out);
    print_scalar(row, deadlines, out);
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        fprintf(out, ", %s: %s", leg_name(leg), option_action(deadlines->action[row->deadline][leg]));
    fputc('}', out);
}

static void print_deadlines(const struct deadlines *deadlines, int indent, FILE *out)
{
    size_t count = 0;
    const struct option_row *rows = option_table(&count);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].scope != SCOPE_DEADLINES)
            continue;
        fprintf(out, "%*s%s: ", indent, "", rows[i].path + strlen("deadlines."));
        print_deadline(&rows[i], deadlines, out);
        fputc('\n', out);
    }
}

/* One element a line: a line has a bound, a list has none. */
static void print_element(const char *text, FILE *out)
{
    fputs("\n      - ", out);
    print_quoted(text, out);
}

static void print_networks(const struct option_row *row, const struct conf_frontend *frontend, FILE *out)
{
    char text[VALUE_NETWORK_TEXT];
    if (frontend->trusted_count == 0)
        fprintf(out, " %s", row->word);
    for (size_t i = 0; i < frontend->trusted_count; i++) {
        value_network_text(&frontend->trusted[i], text);
        print_element(text, out);
    }
}

static void print_answers(const struct conf_http *http, FILE *out)
{
    if (http->answer_count == 0)
        fputs(" {}", out);
    for (size_t i = 0; i < http->answer_count; i++) {
        fprintf(out, "\n        %u: ", http->answers[i].status);
        print_quoted(http->answers[i].path, out);
    }
}

static void print_value(const struct conf *conf, const struct option_row *row, const void *object, FILE *out)
{
    const struct conf_frontend *frontend = object;
    const struct conf_backend *backend = object;
    switch (row->type) {
    case OPTION_REFERENCE:
        fputc(' ', out);
        print_quoted(conf->backends[frontend->backend].name, out);
        break;
    case OPTION_LISTEN:
        for (size_t i = 0; i < frontend->listen_count; i++)
            print_element(frontend->listen[i].text, out);
        break;
    case OPTION_SERVERS:
        for (size_t i = 0; i < backend->server_count; i++)
            print_element(backend->servers[i].text, out);
        break;
    case OPTION_NETWORKS:
        print_networks(row, frontend, out);
        break;
    case OPTION_ANSWERS:
        print_answers(&frontend->http, out);
        break;
    case OPTION_DEADLINES:
        fputc('\n', out);
        print_deadlines(&frontend->deadlines, 6, out);
        return;
    default:
        fputc(' ', out);
        print_scalar(row, object, out);
    }
    fputc('\n', out);
}

/* The rows of one scope below `prefix`. A key with a dot is in a mapping of its own, whose name is printed
 * when it changes. */
static void print_scope(const struct conf *conf, enum option_scope scope, const char *prefix,
                        const void *object, FILE *out)
{
    size_t count = 0;
    const char *section = "";
    size_t section_length = 0;
    bool first = *prefix;
    int indent = *prefix ? 4 : 0;
    const struct option_row *rows = option_table(&count);
    for (size_t i = 0; i < count; i++) {
        if (rows[i].scope != scope)
            continue;
        const char *key = rows[i].path + strlen(prefix);
        size_t length = strcspn(key, ".");
        bool nested = key[length] == '.';
        if (nested && (length != section_length || strncmp(section, key, length) != 0)) {
            fprintf(out, "%*s%.*s:\n", indent, "", (int)length, key);
            section = key;
            section_length = length;
        }
        if (first)
            fprintf(out, "  - %s:", key);
        else
            fprintf(out, "%*s%s:", indent + (nested ? 2 : 0), "", nested ? key + length + 1 : key);
        first = false;
        print_value(conf, &rows[i], object, out);
    }
}

void conf_print(const struct conf *conf, FILE *out)
{
    print_scope(conf, SCOPE_TOP, "", conf, out);
    fputs("deadlines:\n", out);
    print_deadlines(&conf->deadlines, 2, out);
    fputs("frontends:\n", out);
    for (size_t i = 0; i < conf->frontend_count; i++)
        print_scope(conf, SCOPE_FRONTEND, "frontends[].", &conf->frontends[i], out);
    fputs("backends:\n", out);
    for (size_t i = 0; i < conf->backend_count; i++)
        print_scope(conf, SCOPE_BACKEND, "backends[].", &conf->backends[i], out);
}
