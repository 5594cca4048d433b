#ifndef PROXY_EXCHANGE_ORIGIN_H
#define PROXY_EXCHANGE_ORIGIN_H

/* What a request tells its backend about the client, made from the client's address and the configuration.
 *
 * A random state belongs to a worker, its thread only; the rest is pure. */

#include "conf/conf.h"
#include "proxy/http/head.h"
#include "proxy/socket/socket.h"

enum { ORIGIN_ID_TEXT = 33 };

/* Where request ids come from: bytes of the kernel's own generator, taken for 16 ids at a time. Who has seen
 * ids can tell neither those before nor those behind them. A generator of our own would need a key, and would
 * save no system call that counts. Begins as zeros. */
struct origin_random {
    unsigned char bytes[256];
    uint32_t left; /* not given yet, at the front */
};

struct origin_text {
    char address[SOCKET_TEXT];
    char request_id[ORIGIN_ID_TEXT];
};

/* Fills in *origin, which points into *text. Without random bytes it has no request id. */
void origin_of(struct head_origin *origin, struct origin_text *text, const union socket_address *client,
               const struct conf_frontend *frontend, struct origin_random *random);

#endif
