#include "conf/finding.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* What a terminal could take for a command: C0 and C1 control characters (the latter in UTF-8). */
static void disarm(char *text)
{
    for (unsigned char *at = (unsigned char *)text; *at; at++) {
        if (*at < ' ' || *at == 0x7f)
            *at = '?';
        else if (at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0)
            at[0] = at[1] = '?';
    }
}

static void append(struct findings *findings, const struct finding *finding)
{
    if (!finding->warning)
        findings->errors++;
    struct finding *rows = NULL;
    if (finding->text)
        disarm(finding->text);
    if (finding->text && findings->count < FINDINGS_MAX)
        rows = realloc(findings->rows, (findings->count + 1) * sizeof *rows);
    if (!rows) {
        free(finding->text);
        findings->omitted++;
        return;
    }
    rows[findings->count++] = *finding;
    findings->rows = rows;
}

__attribute__((format(printf, 1, 0))) static char *print_text(const char *format, va_list arguments)
{
    char *text = NULL;
    return vasprintf(&text, format, arguments) < 0 ? NULL : text;
}

/* "PLACE: message" or "PLACE:LINE:COLUMN: message"; NULL when out of memory. */
static char *add_place(const char *place, unsigned line, unsigned column, const char *message)
{
    char *text = NULL;
    int length = line ? asprintf(&text, "%s:%u:%u: %s", place, line, column, message)
                      : asprintf(&text, "%s: %s", place, message);
    return length < 0 ? NULL : text;
}

/* Whether that finding is at a place in the file of that name. */
static bool is_in(const struct finding *finding, const char *name)
{
    size_t length = strlen(name);
    return finding->line > 0 && strncmp(finding->text, name, length) == 0 && finding->text[length] == ':';
}

static unsigned file_number(const struct findings *findings, const char *name)
{
    unsigned number = 0;
    for (size_t i = 0; i < findings->count; i++) {
        if (is_in(&findings->rows[i], name))
            return findings->rows[i].file;
        if (findings->rows[i].file >= number)
            number = findings->rows[i].file + 1;
    }
    return number;
}

void finding_error(struct findings *findings, const char *place, unsigned line, unsigned column,
                   const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *message = print_text(format, arguments);
    va_end(arguments);
    struct finding finding = {.line = line, .column = column};
    if (line > 0)
        finding.file = file_number(findings, place);
    if (message)
        finding.text = add_place(place, line, column, message);
    free(message);
    append(findings, &finding);
}

void finding_warning(struct findings *findings, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    struct finding finding = {.warning = true, .text = print_text(format, arguments)};
    va_end(arguments);
    append(findings, &finding);
}

const char *finding_quote(const char *text, char quoted[static FINDING_QUOTE])
{
    static const char more[] = "...";
    size_t room = FINDING_QUOTE - sizeof more - 1; /* for the rest, the closing quote and the end */
    size_t used = 0;
    quoted[used++] = '\'';
    const char *at = text;
    for (; *at && used + 4 <= room; at++) {
        if (*at >= ' ' && *at <= '~')
            quoted[used++] = *at;
        else
            used += (size_t)snprintf(quoted + used, 5, "\\x%02x", (unsigned char)*at);
    }
    snprintf(quoted + used, FINDING_QUOTE - used, "%s'", *at ? more : "");
    return quoted;
}

bool findings_full(const struct findings *findings)
{
    return findings->count + findings->omitted >= FINDINGS_MAX;
}

static bool is_before(const struct finding *a, const struct finding *b)
{
    if (a->file != b->file)
        return a->file < b->file;
    return a->line != b->line ? a->line < b->line : a->column < b->column;
}

/* By insertion: stable, and the list is short. */
void findings_sort(struct findings *findings)
{
    for (size_t i = 1; i < findings->count; i++) {
        struct finding moved = findings->rows[i];
        size_t to = i;
        for (; to > 0 && is_before(&moved, &findings->rows[to - 1]); to--)
            findings->rows[to] = findings->rows[to - 1];
        findings->rows[to] = moved;
    }
}

void findings_print(const struct findings *findings, FILE *out)
{
    for (size_t i = 0; i < findings->count; i++)
        fprintf(out, "%s%s\n", findings->rows[i].warning ? "warning: " : "", findings->rows[i].text);
    if (findings->omitted > 0)
        fprintf(out, "... and more, not shown (%zu)\n", findings->omitted);
}

void findings_free(struct findings *findings)
{
    for (size_t i = 0; i < findings->count; i++)
        free(findings->rows[i].text);
    free(findings->rows);
    *findings = (struct findings){0};
}
