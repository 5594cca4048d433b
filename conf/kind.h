#ifndef CONF_KIND_H
#define CONF_KIND_H

/* The kinds of values an option can have: how each is read, kept and written.
 *
 * The option table's inner part: conf/option.c is the only caller. `slot` is where the value is kept, for
 * lists the struct that has the list. Keeps no state. */

#include "conf/row.h"

struct option_kind {
    /* As option_set(). NULL: conf/walk.c sets it. */
    int (*set)(const struct option_row *row, void *slot, const char *text, const char **why);
    /* As option_text(). NULL: not one value. */
    void (*text)(const struct option_row *row, const void *slot, char *text, size_t size);
    /* As option_allowed(). NULL: what is allowed is a mapping, whose keys conf/option.c knows. */
    void (*allowed)(const struct option_row *row, char *allowed, size_t size);
    void (*clear)(void *slot); /* as option_clear(); NULL: nothing to do */
    const char *argument;      /* in --help; NULL: no flag can have it */
    bool list;
};

/* Never NULL. Static storage. */
const struct option_kind *option_kind(const struct option_row *row);

#endif
