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

bool reason_is_reaped(enum reason reason)
{
    switch (reason) {
    case REASON_CONNECT:
    case REASON_CLIENT_CLOSED:
    case REASON_IDLE:
    case REASON_IDLE_RATE:
    case REASON_HALF_CLOSE:
    case REASON_HALF_CLOSE_RATE:
    case REASON_HALF_CLOSE_MAX:
    case REASON_HALF_CLOSE_EMPTY:
    case REASON_WRITE_STALL:
    case REASON_WRITE_STALL_RATE:
    case REASON_PREFACE:
    case REASON_REQUEST_HEAD:
    case REASON_REQUEST_BODY:
    case REASON_REQUEST_BODY_RATE:
    case REASON_RESPONSE:
    case REASON_RESPONSE_RATE:
    case REASON_EVENT_STREAM:
    case REASON_KEEPALIVE:
    case REASON_TUNNEL:
    case REASON_MESSAGE_GRACE:
    case REASON_LIFETIME:
        return true;
    default:
        return false;
    }
}

enum reason_weight reason_weight(enum reason reason)
{
    switch (reason) {
    case REASON_CLOSED:
    case REASON_KEEPALIVE:
    case REASON_DRAIN:
        return REASON_WELL;
    case REASON_CLIENT_RESET:
    case REASON_BACKEND_RESET:
    case REASON_CLIENT_LOST:
    case REASON_CLIENT_CLOSED:
    case REASON_PREFACE:
    case REASON_REQUEST_HEAD: /* a browser connects in advance */
    case REASON_BAD_REQUEST:
    case REASON_REQUEST_CUT:
    case REASON_SHUTDOWN:
        return REASON_OTHER;
    default:
        return REASON_BAD;
    }
}

bool reason_is_leak(enum reason reason)
{
    return reason == REASON_HALF_CLOSE || reason == REASON_HALF_CLOSE_RATE ||
           reason == REASON_HALF_CLOSE_MAX || reason == REASON_HALF_CLOSE_EMPTY ||
           reason == REASON_MESSAGE_GRACE;
}
