#ifndef PROXY_COMMAND_SHOW_H
#define PROXY_COMMAND_SHOW_H

/* What scan, reap and doctor print of a survey, alike in all three: ages, owners, JSON, and what went wrong.
 *
 * Main thread only. Functions that fail have already told the user on stderr; `command` is "lastack scan". */

#include "proxy/command/argument.h"
#include "proxy/command/table.h"
#include "reaper/kernel/survey.h"

#include <jansson.h>

/* survey_open(), survey_look() and survey_owners(). 0 or a negative error, told. */
int show_open(struct survey *survey, const char *command, const struct argument_survey *arguments,
              unsigned state);
int show_look(struct survey *survey, const char *command);
int show_owners(struct survey *survey, const char *command);

/* Says on stderr what failed and why; returns the error. */
int show_failure(const char *command, const char *what, int error);

/* Says what survey_owners() found wrong with a part of a program's name; returns the error. */
int show_program_failure(const struct survey *survey, const char *command, int error);

/* Whether every port that was asked for exists (survey_port_exists()); says which does not. */
bool show_ports_exist(const struct survey *survey, const char *command);

/* Sleeps all of it, whatever signals are handled meanwhile. */
void show_sleep_ms(uint64_t ms);

/* CLOCK_MONOTONIC. */
uint64_t show_clock_ms(void);

/* Says how many of these leaks have owners that this user may not see, and how to see them; nothing when
 * there are none. */
void show_unseen(const struct survey *survey, uint64_t older_than_ms, FILE *out);

/* Says that sockets of this host go to a port of the number that was asked for; nothing where none do. */
void show_going_there(const struct survey *survey, const char *command, FILE *out);

/* How many rows a table for people has, of so many. */
size_t show_rows(const struct argument_survey *arguments, size_t count);

/* Says how many rows were left out; nothing when none were. */
void show_left_out(size_t shown, size_t count, FILE *out);

/* "9000", or "to 5432" of what this host opened. */
enum { SHOW_SERVICE_TEXT = 16 };
const char *show_service(struct survey_service service, char text[SHOW_SERVICE_TEXT]);

/* That sum's program, or "uid 1000 (not visible)". */
const char *show_sum_name(const struct survey_sum *sum, char text[OWNER_PROGRAM]);

enum { SHOW_AGE_TEXT = 24 };

/* "250ms", "12s", "3m05s", "2h10m", "3d04h". */
const char *show_age(uint64_t ms, char text[SHOW_AGE_TEXT]);

/* The same with ">=" before an age that is a lower bound only. */
const char *show_leak_age(const struct survey *survey, const struct leak *leak, char text[SHOW_AGE_TEXT]);

/* Three cells: pids, program, descriptors; "?" where we may not look. */
void show_owner_cells(const struct survey *survey, const struct leak *leak, struct table *table);

/* One leak as JSON: a new reference, NULL without memory. */
json_t *show_leak_json(const struct survey *survey, const struct leak *leak);

/* Prints an object and a line feed, indented on a terminal; takes the reference. 0 or a negative error, told.
 */
int show_json(const char *command, json_t *object);

#endif
