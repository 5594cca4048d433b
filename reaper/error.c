#include "reaper/error.h"

#include <string.h>

struct error_row {
    int code;
    const char *name;
    const char *text;
};

static const struct error_row rows[] = {
#define X(name, code, text) {name, #name, text},
    ERROR_MAP(X)
#undef X
};

static const struct error_row *error_row(int code)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].code == code)
            return &rows[i];
    return NULL;
}

const char *error_name(int code)
{
    const struct error_row *row = error_row(code);
    if (row)
        return row->name;
    const char *name = code < 0 && code > -4095 ? strerrorname_np(-code) : NULL;
    return name ? name : "UNKNOWN";
}

const char *error_text(int code)
{
    const struct error_row *row = error_row(code);
    if (row)
        return row->text;
    const char *text = code < 0 && code > -4095 ? strerrordesc_np(-code) : NULL;
    return text ? text : "unknown error";
}
