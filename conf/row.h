#ifndef CONF_ROW_H
#define CONF_ROW_H

/* A row of the option table: where the option stands in a file, its type, default and bounds, its flag if it
 * has one, its help, and where its value is kept. Constant data; the table itself is conf/option.h's. */

#include "conf/conf.h"

enum option_type {
    OPTION_DURATION,
    OPTION_RATE,
    OPTION_COUNT,
    OPTION_SWITCH,
    OPTION_WORD,
    OPTION_NAME,
    OPTION_TARGET,
    OPTION_USER,
    OPTION_REFERENCE, /* a frontend's backend; conf/walk.h sets the value, for the backends are known there */
    OPTION_LISTEN,    /* a list: each option_set() appends one */
    OPTION_SERVERS,   /* likewise */
    OPTION_WATCH, /* struct conf_reaper's ports: a word, or a list of which each option_set() appends one */
    OPTION_NETWORKS,  /* likewise; the word empties the list */
    OPTION_UPGRADES,  /* likewise, of struct conf_http */
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
    const char *help;          /* one short line, in plain words */
};

enum { OPTION_PATH = 64, OPTION_ALLOWED = 512 };

#endif
