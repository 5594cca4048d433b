#include "proxy/session/register.h"

#include "proxy/server/backend.h"
#include "proxy/session/state.h"

#include <malloc.h>
#include <utlist.h>

/* The first in the list, for it is in the order of acceptance. */
static void note_oldest(struct shared *shared)
{
    uint64_t oldest_ms = shared->sessions ? shared->sessions->pair.accepted_ms : 0;
    atomic_store_explicit(&shared->counters.oldest_ms, oldest_ms, memory_order_relaxed);
}

void register_opened(struct session *session)
{
    struct shared *shared = session->shared;
    /* Unique among workers: they count in steps of their number. */
    session->id = shared->next_id;
    shared->next_id += shared->workers;
    counter_add(&shared->counters.accepted, 1);
    counter_add(&shared->backends[session->frontend->conf->backend].counters.opened, 1);
    DL_APPEND(shared->sessions, session);
    if (++shared->session_count > shared->session_peak)
        shared->session_peak = shared->session_count;
    if (shared->sessions == session)
        note_oldest(shared);
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
    bool was_oldest = shared->sessions == session;
    DL_DELETE(shared->sessions, session);
    shared->session_count--;
    if (was_oldest)
        note_oldest(shared);
}

/* What thousands of sessions held lies in pieces between what others still hold, and malloc() keeps it. */
bool register_give_memory_back(struct shared *shared)
{
    enum { WORTH_IT = 1024 };
    if (shared->session_peak < WORTH_IT || shared->session_count > shared->session_peak / 2)
        return false;
    shared->session_peak = shared->session_count;
    (void)malloc_trim(0);
    return true;
}
