#ifndef CONF_OPTION_H
#define CONF_OPTION_H

/* The option table: one row (conf/row.h) a thing that can be set, everything else is derived from it.
 *
 * The loader, the flags, --help, what errors call "allowed", the printed configuration and the test of
 * conf/lastack.yaml read the rows. Rows of deadlines are made from the deadline table
 * (reaper/policy/deadline.h).
 *
 * The table is built at the first call of option_table(), on the main thread, and constant from then on. */

#include "conf/row.h"

/* All rows, in the order in which they are documented. */
const struct option_row *option_table(size_t *count);

/* The row of that path, or NULL. */
const struct option_row *option_find(const char *path);

/* True when options lie below that path: "log", "frontends[].tcp". */
bool option_is_section(const char *path);

/* True for a path that is documented but that this version does not support yet. */
bool option_is_later(const char *path);

/* The keys that may stand below `prefix` ("" or "frontends[]."), separated by ", ". */
void option_keys(const char *prefix, char *keys, size_t size);

/* Writes the one of them that `key` was probably meant to be; false when none is near. */
bool option_nearest(const char *prefix, const char *key, char nearest[static OPTION_PATH]);

/* Gives every row of the scope that has one its default. `object` is the scope's struct. 0 or -ENOMEM. */
int option_defaults(enum option_scope scope, void *object);

/* Parses the text and stores the value. 0; or ERROR_CONFIG with nothing stored and *why, static, saying what
 * is wrong beyond what option_allowed() says, or NULL; or -ENOMEM. */
int option_set(const struct option_row *row, void *object, const char *text, const char **why);

/* What a deadline does with one leg: "fin" or "rst". 0 or ERROR_CONFIG. */
int option_set_action(const struct option_row *row, struct deadlines *deadlines, enum leg leg,
                      const char *text);

/* "fin" or "rst". */
const char *option_action(enum close_action action);

/* What may be set, as in "allowed: ...". */
void option_allowed(const struct option_row *row, char allowed[static OPTION_ALLOWED]);

/* The value as option_set() reads it, for types that have one value. */
void option_text(const struct option_row *row, const void *object, char *text, size_t size);

/* What stands for the value in --help: "DURATION". */
const char *option_argument(const struct option_row *row);

/* True for types of which option_set() appends. */
bool option_is_list(const struct option_row *row);

/* Takes the default away from a list that has one, before what was given is appended. */
void option_clear(const struct option_row *row, void *object);

#endif
