#include "proxy/command/argument.h"

#include "conf/value.h"
#include "proxy/command/command.h"

#include <stdio.h>
#include <string.h>

error_t argument_parse(const struct argp *argp, int argc, char **argv, void *input)
{
    argp_err_exit_status = EXIT_USAGE;
    return argp_parse(argp, argc, argv, 0, NULL, input);
}

/* Cuts the next item off a list, "80" of "80,443", and reads it. Returns where the rest begins, or NULL at
 * the end. */
static const char *item_take(struct argp_state *state, const char *option, const char *list, uint64_t max,
                             uint64_t *number)
{
    char item[32];
    size_t length = strcspn(list, ",");
    snprintf(item, sizeof item, "%.*s", (int)length, list);
    if (length >= sizeof item || value_integer(item, number) || *number < 1 || *number > max)
        argp_error(state, "%s: found '%.*s'; allowed: a number from 1 to %ju", option, (int)length, list,
                   (uintmax_t)max);
    return list[length] == ',' ? list + length + 1 : NULL;
}

void argument_ports(struct argp_state *state, const char *option, const char *text,
                    struct argument_ports *ports)
{
    for (uint64_t number = 0; text;) {
        text = item_take(state, option, text, UINT16_MAX, &number);
        if (ports->count == ARGUMENT_PORTS)
            argp_error(state, "%s: at most %d ports", option, ARGUMENT_PORTS);
        ports->port[ports->count++] = (uint16_t)number;
    }
}

void argument_pids(struct argp_state *state, const char *option, const char *text, struct argument_pids *pids)
{
    for (uint64_t number = 0; text;) {
        text = item_take(state, option, text, INT32_MAX, &number);
        if (pids->count == ARGUMENT_PIDS)
            argp_error(state, "%s: at most %d processes", option, ARGUMENT_PIDS);
        pids->pid[pids->count++] = (pid_t)number;
    }
}

uint64_t argument_duration(struct argp_state *state, const char *option, const char *text)
{
    uint64_t ms = 0;
    const char *wrong = value_duration(text, &ms);
    if (wrong)
        argp_error(state, "%s: found '%s'; allowed: a duration such as 30s (%s)", option, text, wrong);
    if (ms > DEADLINE_MAX_MS)
        argp_error(state, "%s: found '%s'; allowed: at most 365d", option, text);
    return ms;
}

uint64_t argument_number(struct argp_state *state, const char *option, const char *text, uint64_t min,
                         uint64_t max)
{
    uint64_t number = 0;
    if (value_integer(text, &number) || number < min || number > max)
        argp_error(state, "%s: found '%s'; allowed: a number from %ju to %ju", option, text, (uintmax_t)min,
                   (uintmax_t)max);
    return number;
}

void argument_none(struct argp_state *state, const char *text)
{
    argp_error(state, "found '%s'; allowed: options only", text);
}

enum { KEY_PORT = 'p', KEY_JSON = 'j' };

static error_t survey_option(int key, char *text, struct argp_state *state)
{
    struct argument_survey *arguments = state->input;
    switch (key) {
    case KEY_PORT:
        argument_ports(state, "--port", text, &arguments->ports);
        return 0;
    case KEY_JSON:
        arguments->json = true;
        return 0;
    case ARGP_KEY_ARG:
        argument_none(state, text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option survey_options[] = {
    {"port", KEY_PORT, "P[,P...]", 0,
     "Only sockets with this local port; may be repeated (default: all; reap wants one)", 0},
    {"json", KEY_JSON, NULL, 0, "Print JSON", 0},
    {0},
};

static const struct argp survey_parser = {.options = survey_options, .parser = survey_option};

const struct argp_child argument_survey_children[] = {{.argp = &survey_parser}, {0}};
