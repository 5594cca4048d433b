#ifndef CONF_OPTION_H
#define CONF_OPTION_H

/* The option table: one row a thing that can be set, everything else is derived from it.
 *
 * A row says where the option stands in a file, its type, default and bounds, its flag if it has one, its
 * help, and where its value is kept. The loader, the flags, --help, what errors call "allowed", the printed
 * configuration and the test of conf/lastack.yaml read the rows. Rows of deadlines are made from the deadline
 * table (reaper/policy/deadline.h).
 *
 * The table is built at the first call of option_table(), on the main thread, and constant from then on. */

#include "conf/conf.h"

enum option_type {
    OPTION_DURATION,
    OPTION_RATE,
    OPTION_COUNT,
    OPTION_SWITCH,
    OPTION_WORD,
    OPTION_NAME,
    OPTION_TARGET,
    OPTION_REFERENCE, /* a frontend's backend; set by conf/walk.h, which knows the backends */
    OPTION_LISTEN,    /* a list: each option_set() appends one */
    OPTION_SERVERS,   /* likewise */
    OPTION_WATCH, /* struct conf_reaper's ports: a word, or a list of which each option_set() appends one */
    OPTION_NETWORKS,  /* likewise; the word empties the list */
    OPTION_ANSWERS,   /* a mapping of statuses to files; set by conf/walk.h */
    OPTION_CHECK,     /* struct conf_check */
    OPTION_DEADLINES, /* a mapping of deadlines that replaces single ones; set by conf/walk.h */
};

/* Which struct a row's value is kept in. */
enum option_scope {
    SCOPE_TOP,       /* struct conf */
    SCOPE_DEADLINES, /* struct deadlines, of all or of one frontend */
    SCOPE_FRONTEND,  /* struct conf_frontend */
    SCOPE_BACKEND,   /* struct conf_backend */
};

struct option_row {
    const char *path; /* "log.format", "frontends[].listen" */
    enum option_scope scope;
    enum option_type type;
    const char *fallback;      /* the default as one would write it; NULL: has to be given */
    uint64_t min, max;         /* of numbers; of lists, how many elements there may be */
    uint64_t step;             /* the number is a multiple of it; 0: any */
    const char *word;          /* allowed instead of a number: "off", "auto"; NULL: none */
    uint64_t word_value;       /* what that stands for */
    const char *const *words;  /* of OPTION_WORD, NULL at the end; the index is the value */
    const char *later;         /* a word that this version does not support yet; NULL: none */
    size_t offset;             /* in the scope's struct */
    enum deadline_id deadline; /* DEADLINE_COUNT: not a deadline */
    const char *flag;          /* without "--"; NULL: none */
    const char *help;          /* one line, also for a tired reader */
};

enum { OPTION_PATH = 64, OPTION_ALLOWED = 256 };

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
