#ifndef PROXY_COMMAND_TABLE_H
#define PROXY_COMMAND_TABLE_H

/* A table for people: cells are added row by row, and printed in columns as wide as their widest cell, with
 * two spaces between them and no trailing ones. What a terminal would obey is printed as '?' (text.h). The
 * caller owns the table; without memory cells are lost, and table_print() says so. */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct table_column {
    const char *title;
    bool right; /* numbers */
};

enum { TABLE_COLUMNS = 16 };

struct table {
    const struct table_column *columns;
    size_t column_count;
    size_t width[TABLE_COLUMNS];
    char *text; /* all cells, each with its '\0' */
    size_t length_bytes, room_bytes;
    size_t cell_count;
    bool incomplete;
};

/* `columns` must stay; at most TABLE_COLUMNS. */
void table_init(struct table *table, const struct table_column *columns, size_t column_count);

void table_clear(struct table *table);

/* The next cell, from left to right and from top to bottom. */
void table_text(struct table *table, const char *text);

__attribute__((format(printf, 2, 3))) void table_format(struct table *table, const char *format, ...);

/* The titles and all rows; nothing when there is no row. Returns 0, or -ENOMEM when cells were lost. */
int table_print(const struct table *table, FILE *out);

#endif
