#include "proxy/session/bytes.h"

#include "proxy/server/backend.h"
#include "proxy/session/session.h"

/* Bytes may come from either side: the backend is connected to at once. */
static pair_actions begin(struct session *s)
{
    size_t targets = backend_target_count(&s->shared->backends[s->frontend->conf->backend]);
    for (enum half half = 0; half < HALF_COUNT; half++)
        s->relays[half] = (struct relay){.limit_bytes = RELAY_UNLIMITED, .is_stream = true};
    pair_init(&s->pair, &s->frontend->conf->deadlines, targets > 0 ? (uint32_t)targets - 1 : 0,
              loop_now_ms(&s->shared->loop));
    return PAIR_DO_CONNECT;
}

bool bytes_work(struct session *s, enum half half, uint64_t *budget, bool *again)
{
    struct relay_leg *source = session_leg(s, half_source(half));
    struct relay_leg *sink = session_leg(s, half_sink(half));
    for (;;) {
        uint64_t moved = 0;
        bool source_open = !s->pair.half[half].fin_in;
        enum relay_event event = relay_work(&s->relays[half], &s->shared->tools, source, sink, source_open,
                                            pair_discards(&s->pair, half), budget, &moved);
        if (moved > 0)
            pair_progress(&s->pair, half, moved, loop_now_ms(&s->shared->loop));
        *budget -= moved < *budget ? moved : *budget;
        switch (event) {
        case RELAY_BLOCKED:
            return true;
        case RELAY_MORE:
            loop_put_off(&s->shared->loop, &s->task);
            return true;
        case RELAY_HELD:
            if (!session_step_half(s, PAIR_EVENT_HELD, half))
                return false;
            continue;
        case RELAY_DRAINED:
            if (!session_step_half(s, PAIR_EVENT_DRAINED, half))
                return false;
            continue;
        case RELAY_FIN:
            if (!session_step_half(s, PAIR_EVENT_FIN, half))
                return false;
            session_look_for_client(s);
            return true;
        case RELAY_DISCARDED:
            if (!session_step_half(s, PAIR_EVENT_DISCARDED, half))
                return false;
            continue;
        case RELAY_SOURCE_GONE:
            *again = true; /* what the other half brings goes nowhere now, and has to be read for its FIN */
            return session_step_gone(s, half_source(half));
        case RELAY_SINK_GONE:
            /* Its own last bytes may still wait to be read; its end is found behind them, or is known. */
            *again = true;
            return !s->pair.half[half_other(half)].fin_in || session_step_gone(s, half_sink(half));
        case RELAY_NO_MEMORY:
            return session_step(s,
                                (struct pair_input){.event = PAIR_EVENT_ABORT, .reason = REASON_NO_MEMORY});
        }
    }
}

const struct protocol bytes_protocol = {.begin = begin, .work = bytes_work};
