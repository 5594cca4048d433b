#ifndef PROXY_EXCHANGE_MODE_H
#define PROXY_EXCHANGE_MODE_H

/* Mode http, as a session is told of it. */

#include "proxy/session/protocol.h"

extern const struct protocol mode_http;

#endif
