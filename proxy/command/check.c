#include "proxy/command/argument.h"
#include "proxy/command/command.h"
#include "proxy/command/privilege.h"

#include "conf/load.h"
#include "conf/print.h"
#include "conf/value.h"
#include "conf/warn.h"
#include "reaper/policy/deadline.h"

#include <argp.h>
#include <stdbool.h>
#include <stdio.h>

struct arguments {
    struct conf_source source;
    bool print;
};

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct arguments *arguments = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &arguments->source;
        return 0;
    case 'p':
        arguments->print = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "found '%s'; a file is given as -c %s", text, text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* "fine: api: 0.0.0.0:8080 -> service: 127.0.0.1:9000; idle 5m; half_close 30s" */
static void print_summary(const struct conf *conf, const struct conf_frontend *frontend)
{
    const struct conf_backend *backend = &conf->backends[frontend->backend];
    static const enum deadline_id shown[] = {DEADLINE_IDLE, DEADLINE_HALF_CLOSE};
    printf("fine: %s:", frontend->name);
    for (size_t i = 0; i < frontend->listen_count; i++)
        printf(" %s", frontend->listen[i].text);
    printf(" -> %s:", backend->name);
    for (size_t i = 0; i < backend->server_count; i++)
        printf(" %s", backend->servers[i].text);
    for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++) {
        char text[VALUE_NUMBER_TEXT] = "off";
        if (frontend->deadlines.after_ms[shown[i]] != DEADLINE_OFF)
            value_duration_text(frontend->deadlines.after_ms[shown[i]], text);
        printf("; %s %s", deadline_row(shown[i])->name, text);
    }
    putchar('\n');
}

static void report(const struct conf *conf, const struct arguments *arguments, struct findings *findings)
{
    struct conf_host host;
    conf_host_read(&host);
    conf_warn(conf, &host, findings);
    privilege_warn(conf, findings);
    if (arguments->print)
        conf_print(conf, stdout);
    else
        for (size_t i = 0; i < conf->frontend_count; i++)
            print_summary(conf, &conf->frontends[i]);
}

int command_check(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {.name = "print", .key = 'p', .doc = "Print the configuration that is in force, as a file for -c"},
        {0},
    };
    const struct argp_child children[] = {{.argp = conf_argp()}, {0}};
    const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .doc = "Reads a configuration as `lastack run` does and says what is wrong with it, everything at "
               "once.\v"
               "Exit status: 0 when it is fine, with warnings or without; 2 when it was refused.",
        .children = children,
    };
    struct arguments arguments = {.print = false};
    struct findings findings = {0};
    struct conf *conf = NULL;
    argument_parse(&argp, argc, argv, &arguments);
    int error = conf_load(&arguments.source, &conf, &findings);
    if (!error)
        report(conf, &arguments, &findings);
    fflush(stdout);
    findings_print(&findings, stderr);
    findings_free(&findings);
    conf_source_free(&arguments.source);
    conf_free(conf);
    return error ? EXIT_USAGE : EXIT_FINE;
}
