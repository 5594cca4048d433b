#ifndef PROXY_COMMAND_ARGUMENT_H
#define PROXY_COMMAND_ARGUMENT_H

/* Values on a subcommand's command line. Each parser takes the whole text or ends the process by
 * argp_error(), which names the option, what was found and what is allowed. Main thread only. */

#include "reaper/kernel/diag.h"

#include <argp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { ARGUMENT_PORTS = 256, ARGUMENT_PIDS = 256 };

struct argument_ports {
    uint16_t port[ARGUMENT_PORTS];
    size_t count;
};

struct argument_pids {
    pid_t pid[ARGUMENT_PIDS];
    size_t count;
};

enum { ARGUMENT_PEERS = 16 };

/* What scan, reap and doctor all take. A word that is no option is a local port, or a part of a program's
 * name. */
struct argument_survey {
    struct argument_ports ports, to;
    struct diag_endpoint peers[ARGUMENT_PEERS];
    size_t peer_count;
    const char *program;  /* NULL: any */
    bool program_is_part; /* it was a word */
    bool json, all;
};

/* The one child of their parsers, which give it a struct argument_survey at ARGP_KEY_INIT. */
extern const struct argp_child argument_survey_children[];

/* argp_parse() with our exit status for wrong usage. Options are taken by their whole names only. */
error_t argument_parse(const struct argp *argp, int argc, char **argv, void *input);

/* Appends "80" or "80,443". */
void argument_ports(struct argp_state *state, const char *option, const char *text,
                    struct argument_ports *ports);

/* Appends "1234" or "1234,1235". */
void argument_pids(struct argp_state *state, const char *option, const char *text,
                   struct argument_pids *pids);

/* "30s", "2m": milliseconds. */
uint64_t argument_duration(struct argp_state *state, const char *option, const char *text);

/* For ARGP_KEY_ARG of a subcommand that takes options only. */
void argument_none(struct argp_state *state, const char *text);

/* Digits, within the bounds. */
uint64_t argument_number(struct argp_state *state, const char *option, const char *text, uint64_t min,
                         uint64_t max);

#endif
