#ifndef REAPER_WORDS_H
#define REAPER_WORDS_H

/* The words for the values of an enum, as they are written in logs and configurations: one table, indexed by
 * the values and with NULL at its end, gives the word of a value and the value of a word. */

#include <string.h>

/* The value of the word, or -1. */
static inline int words_find(const char *const *words, const char *word)
{
    for (int i = 0; words[i]; i++)
        if (strcmp(words[i], word) == 0)
            return i;
    return -1;
}

#endif
