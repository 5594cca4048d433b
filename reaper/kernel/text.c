#include "reaper/kernel/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* How many bytes the character takes that begins here, by its first byte; 0: none begins with that. */
static size_t length_of(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if ((first & 0xf0) == 0xe0)
        return 3;
    return first >= 0xf0 && first <= 0xf4 ? 4 : 0;
}

/* The character that `bytes` begin with, and its length; UINT32_MAX and 1 when they are no UTF-8. Stops at
 * the '\0' that ends the text, since that is no continuation byte. */
static uint32_t character(const unsigned char *bytes, size_t *length)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t count = length_of(bytes[0]);
    *length = 1;
    if (count == 0)
        return UINT32_MAX;
    uint32_t code = count == 1 ? bytes[0] : bytes[0] & (0x7fU >> count);
    for (size_t i = 1; i < count; i++) {
        if ((bytes[i] & 0xc0) != 0x80)
            return UINT32_MAX;
        code = code << 6 | (bytes[i] & 0x3f);
    }
    if (code < least[count] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return UINT32_MAX;
    *length = count;
    return code;
}

static bool is_shown(uint32_t code)
{
    static const struct {
        uint32_t first, last;
    } unsafe[] = {
        {0x00, 0x1f},
        {0x7f, 0x9f},
        {0xad, 0xad},
        {0x61c, 0x61c},
        {0x200b, 0x200f},
        {0x2028, 0x202e},
        {0x2060, 0x206f},
        {0xfeff, 0xfeff},
        {0xfff9, 0xfffb},
        {0xe0000, 0xe007f},
        {UINT32_MAX, UINT32_MAX},
    };
    for (size_t i = 0; i < sizeof unsafe / sizeof unsafe[0]; i++)
        if (code >= unsafe[i].first && code <= unsafe[i].last)
            return false;
    return true;
}

void text_clean(char *text)
{
    char *to = text;
    for (const char *from = text; *from;) {
        size_t length;
        bool shown = is_shown(character((const unsigned char *)from, &length));
        if (shown)
            memmove(to, from, length);
        else
            *to = '?';
        to += shown ? length : 1;
        from += length;
    }
    *to = '\0';
}
