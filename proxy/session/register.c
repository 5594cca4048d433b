#include "proxy/session/register.h"

#include "proxy/server/backend.h"
#include "proxy/session/session.h"

#include <utlist.h>

void register_opened(struct session *session)
{
    struct shared *shared = session->shared;
    /* Unique among workers: they count in steps of their number. */
    session->id = shared->next_id;
    shared->next_id += shared->workers;
    counter_add(&shared->counters.accepted, 1);
    counter_add(&shared->backends[session->frontend->conf->backend].counters.opened, 1);
    DL_APPEND(shared->sessions, session);
}

void register_ended(struct session *session)
{
    limit_give_back_place(session->shared->limit, session->frontend, session->place);
    session->shared->freed_descriptors = true;
}

void register_done(struct session *session)
{
    struct shared *shared = session->shared;
    if (shared->drain_next == session)
        shared->drain_next = session->next;
    DL_DELETE(shared->sessions, session);
    loop_bury(&shared->loop, &session->grave, session_free);
}
