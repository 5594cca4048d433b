#ifndef CONF_FINDING_H
#define CONF_FINDING_H

/* What is wrong with a configuration: a list of errors and warnings, each one line for a person.
 *
 *     FILE:LINE:COLUMN: KEY: found X; allowed: Y
 *
 * The caller owns the list and starts with an empty one ({0}); whoever finds something appends. The list is
 * bounded by FINDINGS_MAX, the rest is only counted: a broken file yields a readable answer, not a flood. One
 * thread at a time. An allocation that fails loses the text, never the fact that there was an error. */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { FINDINGS_MAX = 100 };

struct finding {
    bool warning;    /* worth saying, but the configuration is accepted */
    unsigned file;   /* which one, in the order in which something was found in them */
    unsigned line;   /* from 1; 0: not about a place in a file */
    unsigned column; /* from 1, in bytes */
    char *text;      /* the whole line without a newline, place included; no control characters */
};

struct findings {
    struct finding *rows;
    size_t count;
    size_t omitted; /* found beyond FINDINGS_MAX, or lost to a failed allocation */
    size_t errors;  /* of all found, how many are not warnings */
};

/* Appends one. `place` is the file or the flag; line 0 leaves the numbers out. */
__attribute__((format(printf, 5, 6))) void finding_error(struct findings *findings, const char *place,
                                                         unsigned line, unsigned column, const char *format,
                                                         ...);
__attribute__((format(printf, 2, 3))) void finding_warning(struct findings *findings, const char *format,
                                                           ...);

enum { FINDING_QUOTE = 80 };

/* A text from outside, safe and short enough to be shown: 'text', with what is not printable ASCII as \xNN,
 * cut off with "..." when long. Returns `quoted`. */
const char *finding_quote(const char *text, char quoted[static FINDING_QUOTE]);

/* True once more errors are not worth looking for. */
bool findings_full(const struct findings *findings);

/* Sorts by file, line and column, keeping the order of those at one place. */
void findings_sort(struct findings *findings);

/* One line each, "error: " or "warning: " not added to errors: they already say where. Warnings are prefixed.
 */
void findings_print(const struct findings *findings, FILE *out);

/* Frees the rows and leaves an empty list. */
void findings_free(struct findings *findings);

#endif
