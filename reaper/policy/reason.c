#include "reaper/policy/reason.h"

const char *reason_name(enum reason reason)
{
    static const char *const names[REASON_COUNT] = {
#define X(constant, name, text) [constant] = #name,
        REASON_MAP(X)
#undef X
    };
    return names[reason];
}

const char *reason_text(enum reason reason)
{
    static const char *const texts[REASON_COUNT] = {
#define X(constant, name, text) [constant] = (text),
        REASON_MAP(X)
#undef X
    };
    return texts[reason];
}
