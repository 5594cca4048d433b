#include "proxy/command/table.h"

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
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)cell[i] < ' ' || cell[i] == 0x7f)
            cell[i] = '?';
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

static void spaces(FILE *out, size_t count)
{
    static const char blank[] = "                                ";
    for (; count >= sizeof blank; count -= sizeof blank - 1)
        fwrite(blank, 1, sizeof blank - 1, out);
    fwrite(blank, 1, count, out);
}

static void cell_print(const struct table *table, size_t column, const char *text, size_t length, FILE *out)
{
    size_t padding = table->width[column] > length ? table->width[column] - length : 0;
    bool last = column + 1 == table->column_count;
    if (table->columns[column].right)
        spaces(out, padding);
    fwrite(text, 1, length, out);
    if (last)
        putc('\n', out);
    else
        spaces(out, GAP + (table->columns[column].right ? 0 : padding));
}

int table_print(const struct table *table, FILE *out)
{
    const char *cell = table->text;
    for (size_t i = 0; table->cell_count > 0 && i < table->column_count; i++)
        cell_print(table, i, table->columns[i].title, strlen(table->columns[i].title), out);
    for (size_t i = 0; i < table->cell_count; i++) {
        size_t length = strlen(cell);
        cell_print(table, i % table->column_count, cell, length, out);
        cell += length + 1;
    }
    return table->incomplete ? -ENOMEM : 0;
}
