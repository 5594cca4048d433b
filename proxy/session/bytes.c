#include "proxy/session/bytes.h"

#include "proxy/server/backend.h"
#include "proxy/session/session.h"
#include "proxy/session/step.h"

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

enum step bytes_ended(struct session *s, enum half half, enum relay_event event)
{
    bool alive = true;
    switch (event) {
    case RELAY_FIN:
        if (!session_step_half(s, PAIR_EVENT_FIN, half))
            return STEP_ENDED;
        session_look_for_client(s);
        return STEP_BLOCKED;
    case RELAY_SOURCE_GONE: /* what the other half brings goes nowhere now, and has to be read for its FIN */
        alive = session_step_gone(s, half_source(half));
        break;
    default: /* the sink's last bytes may still wait to be read; its end is found behind them, or is known */
        alive = !s->pair.half[half_other(half)].fin_in || session_step_gone(s, half_sink(half));
        break;
    }
    return alive ? STEP_OTHER : STEP_ENDED;
}

bool bytes_work(struct session *s, enum half half, uint64_t *budget, bool *again)
{
    enum step step;
    do {
        uint64_t moved = 0;
        bool source_open = !s->pair.half[half].fin_in;
        enum relay_event event = relay_work(
            &s->relays[half], &s->shared->tools, session_leg(s, half_source(half)),
            session_leg(s, half_sink(half)), source_open, pair_discards(&s->pair, half), budget, &moved);
        step_progress(s, half, moved);
        step_charge(budget, moved);
        step = step_relay(s, half, event);
    } while (step == STEP_AGAIN);
    *again = *again || step == STEP_OTHER;
    return step != STEP_ENDED;
}

const struct protocol bytes_protocol = {.begin = begin, .work = bytes_work, .ended = bytes_ended};
