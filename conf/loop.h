#ifndef CONF_LOOP_H
#define CONF_LOOP_H

/* A proxy that connects to itself: a server's address is one that a frontend listens on, and that frontend
 * leads back to the server's own backend, at once or over others. One connection would become as many as
 * there are descriptors.
 *
 * Only what a configuration alone can tell is found: the same address and port, a wildcard and a loopback
 * address, `localhost`, the same path. A host's other addresses are not asked for. Any thread. */

#include "conf/assign.h"

struct loop {
    size_t backend, server;               /* connects to */
    const struct conf_frontend *frontend; /* that listens there, */
    const struct conf_listen *listen;
};

/* Calls `found` for one server of each loop, at least. 0 or -ENOMEM. */
int loop_find(const struct conf *conf, void (*found)(void *context, const struct loop *loop), void *context);

/* Appends the error, at the place of the server. */
void loop_refuse(const struct conf *conf, const struct loop *loop, const struct place *place,
                 struct findings *findings);

#endif
