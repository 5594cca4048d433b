#include "reaper/policy/settings.h"

#include <stddef.h>

const char *const close_action_words[] = {[CLOSE_FIN] = "fin", [CLOSE_RST] = "rst", NULL};

const char *const verify_words[] = {
    [VERIFY_OFF] = "off",
    [VERIFY_ON] = "on",
    [VERIFY_EXTEND] = "extend",
    NULL,
};
