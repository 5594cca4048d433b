#ifndef CONF_LOOP_H
#define CONF_LOOP_H

/* A proxy that connects to itself: a server's address is one that a frontend listens on, and that frontend
 * leads back to the server's own backend, at once or over others. One connection would become as many as
 * there are descriptors.
 *
 * Only what a configuration alone can tell is found: the same address and port, a wildcard and a loopback
 * address, `localhost`, the same path. A host's other addresses are not asked for. Names are looked at by
 * the same judgement once they are resolved (proxy/server/resolve.h). Any thread. */

#include "conf/assign.h"

struct loop {
    size_t backend, server;               /* connects to */
    const struct conf_frontend *frontend; /* that listens there, */
    const struct conf_listen *listen;
};

/* The frontend that listens there, or NULL: what connects to that address comes in again. As far as the
 * configuration alone can tell, as above; `is_here`: the caller knows that the address is one of this
 * host's, so that who listens on all of them is met, too. */
const struct conf_frontend *loop_frontend_at(const struct conf *conf, const struct conf_address *address,
                                             bool is_here);

/* The addresses that a server which is a name has now, as somebody else knows them. */
struct loop_names {
    /* The address of that index; false behind the last. */
    bool (*address)(void *context, const struct conf_server *server, size_t index, struct conf_address *out);
    void *context;
};

/* Whether what the frontend gets leads to the backend, at once or over other frontends. 0, 1 or -ENOMEM. */
int loop_leads_to(const struct conf *conf, const struct conf_frontend *frontend, size_t backend,
                  const struct loop_names *names);

/* Calls `found` for one server of each loop, at least. 0 or -ENOMEM. */
int loop_find(const struct conf *conf, void (*found)(void *context, const struct loop *loop), void *context);

/* Appends the error, at the place of the server. */
void loop_refuse(const struct conf *conf, const struct loop *loop, const struct place *place,
                 struct findings *findings);

#endif
