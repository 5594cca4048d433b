#include "proxy/command/argument.h"

#include "conf/value.h"
#include "proxy/command/command.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The long option of exactly that name, of this parser or its children; NULL: none. As deep as parsers are
 * nested, which is two levels. */
static const struct argp_option *option_find(const struct argp *argp, const char *name, size_t length)
{
    static const struct argp_option always[] = {{.name = "help"}, {.name = "usage"}, {0}};
    const struct argp_option *const lists[] = {argp->options, always};
    for (size_t i = 0; i < 2; i++)
        for (const struct argp_option *o = lists[i]; o && (o->name || o->key || o->doc || o->group); o++)
            if (o->name && strlen(o->name) == length && memcmp(o->name, name, length) == 0)
                return o;
    for (const struct argp_child *child = argp->children; child && child->argp; child++) {
        const struct argp_option *found = option_find(child->argp, name, length);
        if (found)
            return found;
    }
    return NULL;
}

/* getopt_long() takes any unique beginning of an option's name, and argp has hidden options of its own:
 * `--program java` was taken for --program-name. Who ends other programs' sockets must not guess. */
static void refuse_abbreviations(const struct argp *argp, int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], "--", 2) != 0)
            continue;
        const char *name = argv[i] + 2;
        size_t length = strcspn(name, "=");
        const struct argp_option *option = option_find(argp, name, length);
        if (!option) {
            fprintf(stderr,
                    "%s: unrecognized option '--%.*s'; `%s --help` lists them, and none may be cut short\n",
                    argv[0], (int)length, name, argv[0]);
            exit(EXIT_USAGE);
        }
        if (option->arg && !(option->flags & OPTION_ARG_OPTIONAL) && name[length] == '\0')
            i++; /* its value, whatever that looks like */
    }
}

error_t argument_parse(const struct argp *argp, int argc, char **argv, void *input)
{
    argp_err_exit_status = EXIT_USAGE;
    refuse_abbreviations(argp, argc, argv);
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

enum { KEY_PORT = 'p', KEY_JSON = 'j', KEY_PROGRAM = 512, KEY_TO, KEY_PEER, KEY_ALL };

static void peer_add(struct argp_state *state, struct argument_survey *arguments, const char *text)
{
    struct sockaddr_storage address = {0};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1)
        address.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1)
        address.ss_family = AF_INET6;
    else
        argp_error(state, "--peer: found '%s'; allowed: an address without port, such as 10.0.0.7", text);
    if (arguments->peer_count == ARGUMENT_PEERS)
        argp_error(state, "--peer: at most %d addresses", ARGUMENT_PEERS);
    diag_endpoint_of(&address, &arguments->peers[arguments->peer_count++]);
}

/* What somebody types who has read no help: `scan 9000`, `scan python`. */
static void word_take(struct argp_state *state, struct argument_survey *arguments, const char *text)
{
    if (text[0] != '\0' && strspn(text, "0123456789,") == strlen(text)) {
        argument_ports(state, "a word", text, &arguments->ports);
        return;
    }
    if (arguments->program)
        argp_error(state, "found '%s' besides '%s'; allowed: one program", text, arguments->program);
    arguments->program = text;
    arguments->program_is_part = true;
}

static error_t survey_option(int key, char *text, struct argp_state *state)
{
    struct argument_survey *arguments = state->input;
    switch (key) {
    case KEY_PORT:
        argument_ports(state, "--port", text, &arguments->ports);
        return 0;
    case KEY_TO:
        argument_ports(state, "--to", text, &arguments->to);
        return 0;
    case KEY_PEER:
        peer_add(state, arguments, text);
        return 0;
    case KEY_PROGRAM:
        arguments->program = text;
        arguments->program_is_part = false;
        return 0;
    case KEY_JSON:
        arguments->json = true;
        return 0;
    case KEY_ALL:
        arguments->all = true;
        return 0;
    case ARGP_KEY_ARG:
        word_take(state, arguments, text);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option survey_options[] = {
    {"port", KEY_PORT, "P[,P...]", 0,
     "Only sockets with this local port; may be repeated (default: all; reap wants one)", 0},
    {"to", KEY_TO, "P[,P...]", 0, "Only sockets whose peer has this port: connections of this host to it", 0},
    {"peer", KEY_PEER, "ADDRESS", 0, "Only sockets whose peer has this address; may be repeated", 0},
    {"program", KEY_PROGRAM, "NAME", 0,
     "Only sockets that a process of this name holds, as ps -o comm shows it", 0},
    {"all", KEY_ALL, NULL, 0, "All rows, not the first 20 only", 0},
    {"json", KEY_JSON, NULL, 0, "Print JSON, all rows", 0},
    {0},
};

static const struct argp survey_parser = {
    .options = survey_options, .parser = survey_option, .args_doc = "[PORT | PROGRAM]"};

const struct argp_child argument_survey_children[] = {{.argp = &survey_parser}, {0}};
