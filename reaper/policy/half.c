#include "reaper/policy/half.h"

const char *leg_name(enum leg leg)
{
    static const char *const names[LEG_COUNT] = {[LEG_CLIENT] = "client", [LEG_BACKEND] = "backend"};
    return names[leg];
}

const char *half_name(enum half half)
{
    static const char *const names[HALF_COUNT] = {[HALF_REQUEST] = "request", [HALF_RESPONSE] = "response"};
    return names[half];
}
