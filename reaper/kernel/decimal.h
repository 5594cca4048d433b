#ifndef REAPER_KERNEL_DECIMAL_H
#define REAPER_KERNEL_DECIMAL_H

/* Decimal numbers into text, for what is written ten thousands of times in one run: an address a row, a name
 * a descriptor. */

/* Writes no '\0'; the caller has room for ten digits. Returns where the text ends. */
static inline char *decimal_put(char *at, unsigned number)
{
    char digits[10];
    unsigned count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count > 0)
        *at++ = digits[--count];
    return at;
}

#endif
