#include "conf/flag.h"

#include "conf/option.h"
#include "reaper/array.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    FLAG_KEY = 0x1000, /* plus the index of the row */
    FLAG_MAX = 64,
    FLAG_HELP = 320,
    GROUP_OTHER = 1,
    GROUP_DEADLINES = 2,
};

static struct argp_option flags[FLAG_MAX];
static char helps[FLAG_MAX][FLAG_HELP];

static error_t parse_flag(int key, char *text, struct argp_state *state)
{
    struct conf_source *source = state->input;
    if (key == 'c') {
        if (source->file)
            argp_error(state, "-c was given twice; one file holds a configuration");
        source->file = text;
        return 0;
    }
    size_t count = 0;
    const struct option_row *rows = option_table(&count);
    if (key < FLAG_KEY || (size_t)(key - FLAG_KEY) >= count)
        return ARGP_ERR_UNKNOWN;
    struct conf_flag *grown = array_extend(source->flags, source->flag_count, sizeof *grown);
    if (!grown)
        return ENOMEM;
    grown[source->flag_count++] = (struct conf_flag){.option = &rows[key - FLAG_KEY], .text = text};
    source->flags = grown;
    return 0;
}

static void add_flag(const struct option_row *row, int key, size_t i)
{
    const char *fallback = row->fallback ? row->fallback : "";
    bool is_deadline = row->scope == SCOPE_DEADLINES || row->deadline != DEADLINE_COUNT;
    snprintf(helps[i], FLAG_HELP, "%s%s%s%s", row->help, *fallback ? " (" : "", fallback,
             *fallback ? ")" : "");
    flags[i] = (struct argp_option){
        .name = row->flag,
        .key = key,
        .arg = option_argument(row),
        .doc = helps[i],
        .group = is_deadline ? GROUP_DEADLINES : GROUP_OTHER,
    };
}

static void build_flags(void)
{
    size_t count = 0;
    size_t used = 0;
    const struct option_row *rows = option_table(&count);
    flags[used++] = (struct argp_option){.name = "config",
                                         .key = 'c',
                                         .arg = "FILE",
                                         .doc = "Read the configuration from FILE; other flags win over it",
                                         .group = GROUP_OTHER};
    flags[used++] =
        (struct argp_option){.doc = "Deadlines. A DURATION is written as 250ms, 30s, 2m, 1h, 1d or off; a "
                                    "RATE as 1KiB/s, 10MB/s or off:",
                             .group = GROUP_DEADLINES};
    for (size_t i = 0; i < count; i++) {
        if (!rows[i].flag)
            continue;
        assert(used < FLAG_MAX - 1);
        add_flag(&rows[i], FLAG_KEY + (int)i, used++);
    }
}

const struct argp *conf_argp(void)
{
    static const struct argp argp = {.options = flags, .parser = parse_flag};
    if (!flags[0].name)
        build_flags();
    return &argp;
}

void conf_source_free(struct conf_source *source)
{
    free(source->flags);
    *source = (struct conf_source){0};
}
