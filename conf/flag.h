#ifndef CONF_FLAG_H
#define CONF_FLAG_H

/* Flags that set options: an argp parser made from the option table, to be a child of a command's own.
 *
 * The parser only notes which flags were given; conf_load() (conf/load.h) reads their values, so that all
 * errors come out together and in one form. Main thread only. */

#include <argp.h>
#include <stddef.h>

struct option_row;

struct conf_flag {
    const struct option_row *option;
    const char *text; /* points into argv */
};

/* Where a configuration comes from. Start with {0}; conf_source_free() at the end. */
struct conf_source {
    const char *file; /* NULL: flags only */
    struct conf_flag *flags;
    size_t flag_count;
};

/* The child parser. Its input is a struct conf_source, its keys are -c/--config and 0x1000 and up.
 * Static storage, built at the first call. */
const struct argp *conf_argp(void);

/* Frees the flags, not the texts. */
void conf_source_free(struct conf_source *source);

#endif
