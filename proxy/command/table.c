#include "proxy/command/table.h"

#include "reaper/kernel/text.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { CELL_MAX = 512, GAP = 2 };

void table_init(struct table *table, const struct table_column *columns, size_t column_count)
{
    assert(column_count > 0 && column_count <= TABLE_COLUMNS);
    *table = (struct table){.columns = columns, .column_count = column_count};
    for (size_t i = 0; i < column_count; i++)
        table->width[i] = strlen(columns[i].title);
}

void table_clear(struct table *table)
{
    free(table->text);
    table->text = NULL;
    table->length_bytes = table->room_bytes = table->cell_count = 0;
}

static bool room_make(struct table *table, size_t bytes)
{
    if (table->room_bytes - table->length_bytes >= bytes)
        return true;
    size_t room = table->room_bytes ? table->room_bytes * 2 : 4096;
    while (room - table->length_bytes < bytes)
        room *= 2;
    char *text = realloc(table->text, room);
    if (!text)
        return false;
    table->text = text;
    table->room_bytes = room;
    return true;
}

void table_text(struct table *table, const char *text)
{
    size_t length = strlen(text), column = table->cell_count % table->column_count;
    if (table->incomplete || !room_make(table, length + 1)) {
        table->incomplete = true;
        return;
    }
    char *cell = table->text + table->length_bytes;
    memcpy(cell, text, length + 1);
    text_clean(cell);
    length = strlen(cell);
    table->length_bytes += length + 1;
    table->cell_count++;
    if (length > table->width[column])
        table->width[column] = length;
}

void table_format(struct table *table, const char *format, ...)
{
    char text[CELL_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    table_text(table, text);
}

/* Puts a row into `line`, which has room for it, and returns its length. */
static size_t row_put(const struct table *table, const char *const *cells, char *line)
{
    char *at = line;
    for (size_t i = 0; i < table->column_count; i++) {
        size_t length = strlen(cells[i]), padding = table->width[i] - length;
        bool right = table->columns[i].right;
        memset(at, ' ', table->width[i] + GAP);
        memcpy(at + (right ? padding : 0), cells[i], length);
        at += i + 1 < table->column_count ? table->width[i] + GAP : length + (right ? padding : 0);
    }
    *at++ = '\n';
    return (size_t)(at - line);
}

int table_print(const struct table *table, FILE *out)
{
    const char *cells[TABLE_COLUMNS], *cell = table->text;
    size_t room = 1;
    assert(table->column_count > 0);
    if (table->cell_count == 0)
        return table->incomplete ? -ENOMEM : 0;
    for (size_t i = 0; i < table->column_count; i++) {
        cells[i] = table->columns[i].title;
        room += table->width[i] + GAP;
    }
    char *line = malloc(room);
    if (!line)
        return -ENOMEM;
    fwrite(line, 1, row_put(table, cells, line), out);
    for (size_t row = 0; row < table->cell_count / table->column_count; row++) {
        for (size_t i = 0; i < table->column_count; i++) {
            cells[i] = cell;
            cell += strlen(cell) + 1;
        }
        fwrite(line, 1, row_put(table, cells, line), out);
    }
    free(line);
    return table->incomplete ? -ENOMEM : 0;
}
