#ifndef CONF_ASSIGN_H
#define CONF_ASSIGN_H

/* One text to one option, or one error that says where, what was found and what is allowed: the step that
 * files and flags have in common. Main thread only. */

#include "conf/conf.h"
#include "conf/finding.h"
#include "conf/option.h"

/* Where a text was found. */
struct place {
    const char *name;      /* the file, or the flag */
    unsigned line, column; /* 0 for a flag */
    const char *key;       /* NULL for a flag */
};

/* Sets the option in `object`, the struct of its scope, which is part of `conf`. Refuses an address to listen
 * on that another frontend has: SO_REUSEPORT would let both bind and deal connections out between them. 0; or
 * ERROR_CONFIG or -ENOMEM, with one error appended. */
int assign(const struct conf *conf, const struct option_row *row, void *object, const char *text,
           const struct place *place, struct findings *findings);

/* Appends "PLACE: KEY: found FOUND; allowed: ALLOWED (WHY)". `why` may be NULL. Returns ERROR_CONFIG. */
int assign_refuse(const struct place *place, const char *found, const char *allowed, const char *why,
                  struct findings *findings);

/* The same with what the row allows. */
int assign_refuse_row(const struct place *place, const char *found, const struct option_row *row,
                      const char *why, struct findings *findings);

/* Appends "out of memory". Returns -ENOMEM. */
int assign_refuse_memory(const struct place *place, struct findings *findings);

/* A text as errors show it: 'text', or nothing. Returns `quoted` or a static string. */
const char *assign_found(const char *text, char quoted[static FINDING_QUOTE]);

#endif
