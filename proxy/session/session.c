#include "proxy/session/session.h"

#include "proxy/server/backend.h"
#include "proxy/server/pool.h"
#include "proxy/session/preface.h"
#include "proxy/session/protocol.h"
#include "proxy/session/register.h"
#include "reaper/container.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* #syscalls worker: close */

/* Asked for once; EPOLLHUP and EPOLLERR come unasked. */
enum { LEG_EVENTS = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP };

/* An alarm that rings so late says that the process was stopped, or had no processor. */
enum { STOPPED_MS = 1000 };

/* When to look again for a socket that was still there after our RST: after 4, 16, 64, 256 and 1024 ms. */
enum { LOOKS = 5, LOOK_MS = 4 };

/* When to look again whether a client that sent FIN has closed: after 50, 100 ms ..., then every 1.6 s. */
enum { CLIENT_LOOKS = 5 };
#define CLIENT_LOOK_MS UINT64_C(50)

/* ---- the log line ---- */

static void log_end(struct session *s)
{
    struct log_ring *log = s->shared->log;
    const struct pair *pair = &s->pair;
    char client[SOCKET_TEXT];
    struct line line;
    enum reason_weight weight = reason_weight((enum reason)pair->reason);
    enum conf_log_level level = weight == REASON_BAD ? CONF_LOG_WARNING : CONF_LOG_INFO;
    if (!log_wants(log, level) || (weight == REASON_WELL && !log_wants_normal(log)))
        return;
    uint64_t now_ms = pair->ending_ms;
    line_begin(&line, log_format(log), level, "session");
    line_number(&line, "id", s->id);
    line_text(&line, "frontend", s->frontend->conf->name);
    line_text(&line, "client", socket_text(&s->client, client));
    line_text(&line, "backend", s->target ? s->target->text : "none");
    line_text(&line, "reason", reason_name(pair->reason));
    if (s->why)
        line_text(&line, "why", s->why);
    line_text(&line, "first_fin", pair->has_first_fin ? leg_name(pair->first_fin) : "none");
    line_number(&line, "age_ms", now_ms - pair->accepted_ms);
    line_number(&line, "half_closed_ms", pair->half_closed_ms ? now_ms - pair->half_closed_ms : 0);
    line_number(&line, "request_bytes", pair->half[HALF_REQUEST].written_bytes);
    line_number(&line, "response_bytes", pair->half[HALF_RESPONSE].written_bytes);
    if (s->protocol->log)
        s->protocol->log(s, &line);
    line_text(&line, "client_close", leg_end_name(pair->leg_end[LEG_CLIENT]));
    line_text(&line, "backend_close", leg_end_name(pair->leg_end[LEG_BACKEND]));
    if (s->clearing != CLEARING_NONE)
        line_text(&line, "verified", clearing_name(s->clearing));
    log_line(log, line_end(&line));
}

static void count_end(struct session *s)
{
    struct counters *counters = &s->shared->counters;
    struct counters_backend *backend = &s->shared->backends[s->frontend->conf->backend].counters;
    enum reason reason = (enum reason)s->pair.reason;
    counter_add(&backend->ended, 1);
    counter_add(&backend->bad, reason_weight(reason) == REASON_BAD);
    counter_add(&backend->leaked, reason_is_leak(reason));
    counter_add(&counters->ended[s->pair.reason], 1);
    for (enum half half = 0; half < HALF_COUNT; half++)
        counter_add(&counters->bytes[half], s->pair.half[half].written_bytes);
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        if (s->pair.leg_end[leg] == LEG_END_RST)
            counter_add(&counters->resets[leg], 1);
    if (s->clearing == CLEARING_GONE)
        counter_add(&counters->cleared, 1);
    if (s->clearing == CLEARING_STILL)
        counter_add(&counters->uncleared, 1);
}

/* ---- events to the pair, its actions to the sockets ---- */

static bool has_ended(const struct session *s)
{
    return s->pair.phase == PAIR_ENDED;
}

struct relay_leg *session_leg(struct session *s, enum leg leg)
{
    return &s->legs[leg].relay;
}

void session_detach(struct session *s)
{
    if (s->target && !s->detached)
        target_detach(s->target);
    s->detached = true;
}

void session_leave_target(struct session *s)
{
    if (s->target && s->detached)
        target_release_detached(s->target);
    else if (s->target)
        target_release(s->target);
    s->target = NULL;
    s->detached = false;
}

static void free_session(struct grave *grave)
{
    free(CONTAINER(struct session, grave, grave));
}

/* Not as long as an answer is on its way, which would find nobody. */
static void done(struct session *s)
{
    s->over = true;
    if (s->hold.pending || s->reset.pending)
        return;
    log_end(s);
    count_end(s);
    session_leave_target(s);
    loop_clear_alarm(&s->shared->loop, &s->alarm);
    register_done(s);
    loop_bury(&s->shared->loop, &s->grave, free_session);
}

/* On this host a RST arrives before close() returns, unless the kernel is so busy that it is delivered a
 * little later. */
static void look_later(struct session *s)
{
    if (s->clearing == CLEARING_STILL && s->looks < LOOKS)
        loop_set_alarm(&s->shared->loop, &s->alarm,
                       loop_now_ms(&s->shared->loop) + ((uint64_t)LOOK_MS << (2 * s->looks++)));
    else
        done(s);
}

static void on_looked(struct inquiry *inquiry)
{
    struct session *s = CONTAINER(struct session, reset, inquiry);
    s->clearing = inquiry->clearing;
    look_later(s);
}

static void look_again(struct session *s)
{
    s->reset.kind = INQUIRY_LOOK;
    s->reset.answered = on_looked;
    if (inquiry_ask(s->shared->desk, &s->reset))
        return;
    s->clearing = CLEARING_UNKNOWN;
    done(s);
}

/* Its descriptors are closed. */
static void closed(struct session *s)
{
    register_ended(s);
    s->looks = 0;
    look_later(s);
}

/* The only place where a session ends. */
static void finish(struct session *s)
{
    for (enum half half = 0; half < HALF_COUNT; half++)
        relay_free(&s->relays[half], &s->shared->tools);
    if (s->protocol->end)
        s->protocol->end(s);
    preface_end(s);
    loop_clear_alarm(&s->shared->loop, &s->alarm);
    loop_forget(&s->shared->loop, &s->task);
    if (!s->reset.pending)
        closed(s);
}

static void on_reset(struct inquiry *inquiry)
{
    struct session *s = CONTAINER(struct session, reset, inquiry);
    s->clearing = inquiry->clearing;
    if (has_ended(s))
        closed(s);
}

/* Whether it is worth knowing what becomes of the backend's socket: when it did not close by itself. Behind a
 * response that is `message_grace`, which keeps the reason for which the session began to close. */
static bool wants_clearing(const struct session *s)
{
    return reason_is_reaped(s->pair.reason) || s->pair.stage != PAIR_STAGE_BYTES;
}

/* Resets the leg; for the backend's that is left to who looks what becomes of its peer. */
static void leg_reset(struct session *s, enum leg leg, int fd)
{
    if (leg != LEG_BACKEND || !wants_clearing(s)) {
        socket_abort(fd);
        return;
    }
    s->clearing = CLEARING_UNKNOWN;
    bool asked = s->reset.pending; /* about an earlier leg */
    if (!asked)
        s->reset =
            (struct inquiry){.kind = INQUIRY_RESET, .fd = fd, .to = s->shared->answers, .answered = on_reset};
    if (asked || !inquiry_ask(s->shared->desk, &s->reset))
        socket_abort(fd);
}

/* By FIN, by RST, or by a RST of which it is worth knowing what it did. */
enum close_leg { CLOSE_LEG_FIN, CLOSE_LEG_RST, CLOSE_LEG_VERIFIED };

static void leg_close(struct session *s, enum leg leg, enum close_leg how)
{
    struct relay_leg *l = session_leg(s, leg);
    if (l->fd < 0)
        return;
    poller_remove(&s->shared->loop.poller, l->fd);
    if (how == CLOSE_LEG_VERIFIED)
        leg_reset(s, leg, l->fd);
    else if (how == CLOSE_LEG_RST)
        socket_abort(l->fd);
    else
        close(l->fd);
    *l = (struct relay_leg){.fd = -1};
    /* What was held for this leg has nowhere to go. */
    relay_free(&s->relays[half_to(leg)], &s->shared->tools);
}

static void perform(struct session *s, pair_actions actions)
{
    for (enum leg leg = 0; leg < LEG_COUNT; leg++) {
        bool closes = actions & ((pair_actions)PAIR_DO_CLOSE << leg); /* which sends FIN too */
        if ((actions & ((pair_actions)PAIR_DO_FIN << leg)) && !closes)
            socket_fin(session_leg(s, leg)->fd);
        if (actions & ((pair_actions)PAIR_DO_RST << leg)) {
            leg_close(s, leg, CLOSE_LEG_VERIFIED);
        }
        /* An attempt that is given up may just have succeeded: a FIN would look like a client with nothing to
         * say. */
        if (closes)
            leg_close(s, leg,
                      leg == LEG_BACKEND && s->pair.leg_end[leg] == LEG_END_NONE ? CLOSE_LEG_RST
                                                                                 : CLOSE_LEG_FIN);
        if (actions & ((pair_actions)PAIR_DO_PROBE << leg))
            socket_probe(session_leg(s, leg)->fd);
    }
    if (actions & PAIR_DO_RETIRE)
        s->protocol->retire_leg(s);
    s->wants_attempt = s->wants_attempt || (actions & PAIR_DO_CONNECT);
    s->wants_answer = s->wants_answer || (actions & PAIR_DO_ANSWER);
    if (actions & PAIR_DO_END)
        finish(s);
    else if ((actions & (PAIR_DO_CONNECT | PAIR_DO_ANSWER)) && !s->runs)
        loop_do_soon(&s->shared->loop, &s->task);
}

/* The clock of loop_now_ms() as it is now: a pass may have begun long before. */
static uint64_t clock_ms(void)
{
    return uv_hrtime() / 1000000;
}

/* When the last acknowledgement came matters only where there is a new one since the last sample, and then
 * only to a deadline, or while bytes are under way: for a FIN, or a half just drained, it is now. */
static void sample(struct session *s, enum pair_event event)
{
    for (enum leg leg = 0; leg < LEG_COUNT; leg++) {
        /* What a broken leg has in its queue is gone, not delivered. */
        if (!s->pair.up[leg] || session_leg(s, leg)->broken)
            continue;
        const struct half_track *to = &s->pair.half[half_to(leg)];
        int fd = session_leg(s, leg)->fd;
        uint64_t unacked = socket_unacked(fd);
        bool advanced = to->written_bytes > to->acked_bytes + unacked;
        bool exact = track_probing(&s->pair) || (advanced && (event == PAIR_EVENT_EXPIRED || unacked > 0));
        uint64_t age_ms = exact ? pair_least_age_ms(socket_last_ack_ms(fd)) : 0;
        pair_sample(&s->pair, leg, unacked, age_ms, clock_ms());
    }
}

/* Before these the pair has to know what the peers' kernels have acknowledged; not before a FIN that only
 * ends what is ending, whatever they have. */
static bool wants_sample(const struct session *s, const struct pair_input *input)
{
    const struct half_track *other = &s->pair.half[half_other(input->half)];
    switch (input->event) {
    case PAIR_EVENT_FIN:
        return s->pair.phase < PAIR_RESETTING && !(other->fin_in && other->fin_out);
    case PAIR_EVENT_DISCARDED:
        return s->pair.phase == PAIR_RESETTING;
    case PAIR_EVENT_DRAINED:
    case PAIR_EVENT_RESET:
    case PAIR_EVENT_LOST:
    case PAIR_EVENT_CLOSED:
    case PAIR_EVENT_EXPIRED:
    case PAIR_EVENT_DRAIN:
    case PAIR_EVENT_CUT:
    case PAIR_EVENT_COMPLETE:
        return true;
    default:
        return false;
    }
}

static const struct conf_tcp *tcp_of(const struct session *s, enum leg leg)
{
    const struct conf_frontend *frontend = s->frontend->conf;
    return leg == LEG_CLIENT ? &frontend->tcp : &s->shared->backends[frontend->backend].conf->tcp;
}

static void end_probes(struct session *s)
{
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        if (s->pair.up[leg])
            socket_probe_end(session_leg(s, leg)->fd, tcp_of(s, leg));
}

/* Whether this step gave the attempt to connect up, for the `connect` deadline: that is the server's failure,
 * of which no socket tells. */
static bool gave_up(const struct session *s, pair_actions actions)
{
    return (actions & PAIR_DO_CONNECT) || s->pair.reason == REASON_CONNECT ||
           (s->pair.stage == PAIR_STAGE_REFUSED && s->pair.cause == REASON_CONNECT);
}

bool session_step(struct session *s, struct pair_input input)
{
    uint64_t now_ms = loop_now_ms(&s->shared->loop);
    if (wants_sample(s, &input))
        sample(s, input.event);
    bool probing = track_probing(&s->pair);
    bool connecting = s->pair.phase == PAIR_CONNECTING;
    pair_actions actions = pair_step(&s->pair, &input, now_ms);
    if (connecting && input.event == PAIR_EVENT_EXPIRED && gave_up(s, actions))
        target_tell(s->target, -ETIMEDOUT);
    perform(s, actions);
    if (has_ended(s))
        return false;
    if (actions & (PAIR_DO_PROBE | PAIR_DO_PROBE << LEG_BACKEND))
        pair_probes_sent(&s->pair, clock_ms());
    if (probing && !track_probing(&s->pair))
        end_probes(s);
    loop_set_alarm(&s->shared->loop, &s->alarm, pair_next_ms(&s->pair, now_ms));
    return true;
}

bool session_step_half(struct session *s, enum pair_event event, enum half half)
{
    return session_step(s, (struct pair_input){.event = event, .half = half});
}

bool session_step_gone(struct session *s, enum leg leg)
{
    int error = session_leg(s, leg)->error;
    if (error == -ENOMEM || error == -ENOBUFS)
        return session_step(s, (struct pair_input){.event = PAIR_EVENT_ABORT, .reason = REASON_NO_MEMORY});
    /* EPIPE: reset after its FIN. ECONNABORTED: somebody destroyed our socket (SOCK_DESTROY). */
    bool reset = error == -ECONNRESET || error == -EPIPE || error == -ECONNABORTED;
    return session_step(s,
                        (struct pair_input){.event = reset ? PAIR_EVENT_RESET : PAIR_EVENT_LOST, .leg = leg});
}

/* ---- connecting ---- */

static enum reason reason_of_connect(int error)
{
    switch (error) {
    case -EADDRNOTAVAIL:
        return REASON_NO_PORTS;
    case -EMFILE:
    case -ENFILE:
        return REASON_NO_DESCRIPTORS;
    case -ENOMEM:
    case -ENOBUFS:
    case -ENOSPC: /* epoll_ctl(2): max_user_watches */
        return REASON_NO_MEMORY;
    default:
        return REASON_CONNECT_FAILED;
    }
}

static void say_refused(struct session *s, int error)
{
    struct log_ring *log = s->shared->log;
    if (!log_wants(log, CONF_LOG_DEBUG))
        return;
    struct line line;
    line_begin(&line, log_format(log), CONF_LOG_DEBUG, "connect_failed");
    line_number(&line, "id", s->id);
    line_text(&line, "backend", s->target ? s->target->text : "none");
    line_text(&line, "error", uv_strerror(error));
    log_line(log, line_end(&line));
}

/* What a failed attempt means for the session. */
static struct pair_input refused(struct session *s, int error)
{
    enum reason reason = reason_of_connect(error);
    say_refused(s, error);
    if (s->target)
        target_tell(s->target, error);
    /* Another server helps against what this one did, not against what we lack. */
    bool ours = reason == REASON_NO_DESCRIPTORS || reason == REASON_NO_MEMORY;
    if (ours)
        s->shared->local_error = error;
    if (reason == REASON_NO_DESCRIPTORS)
        pool_give_way(s->shared, LIMIT_SESSION);
    enum pair_event event = PAIR_EVENT_REFUSED;
    if (ours)
        event = s->protocol->answer ? PAIR_EVENT_REFUSE : PAIR_EVENT_ABORT;
    return (struct pair_input){.event = event, .reason = reason};
}

static int connect_to(struct session *s, struct target *target, const struct conf_tcp *tcp)
{
    struct session_leg *leg = &s->legs[LEG_BACKEND];
    int fd = socket_connect(&target->address, tcp);
    if (fd < 0)
        return fd;
    if (backend_leads_back(&s->shared->backends[s->frontend->conf->backend], target, fd)) {
        socket_abort(fd);
        return -EHOSTUNREACH;
    }
    int error = poller_add(&s->shared->loop.poller, fd, LEG_EVENTS, &leg->source);
    if (error) {
        close(fd);
        return error;
    }
    leg->relay = (struct relay_leg){.fd = fd,
                                    .read_until_eagain = target->address.address.ss_family == AF_UNIX,
                                    .is_unix = target->address.address.ss_family == AF_UNIX};
    return 0;
}

/* A leg of the target's pool becomes the session's. False: there is none. */
static bool take_pooled(struct session *s)
{
    int fd = s->protocol->take_leg ? s->protocol->take_leg(s, LEG_EVENTS) : -1;
    if (fd < 0)
        return false;
    *session_leg(s, LEG_BACKEND) =
        (struct relay_leg){.fd = fd,
                           .writable = true,
                           .read_until_eagain = s->target->address.address.ss_family == AF_UNIX,
                           .is_unix = s->target->address.address.ss_family == AF_UNIX};
    return true;
}

/* Turns to the next server. True when the attempt was decided at once: *outcome says how. */
static bool connect_next(struct session *s, struct pair_input *outcome)
{
    struct backend *backend = &s->shared->backends[s->frontend->conf->backend];
    struct target *previous = s->target;
    leg_close(s, LEG_BACKEND, CLOSE_LEG_RST); /* an attempt that is given up, too */
    s->target = backend_pick(backend, &s->client, previous);
    if (previous)
        target_release(previous);
    if (s->target && take_pooled(s)) {
        *outcome = (struct pair_input){.event = PAIR_EVENT_CONNECTED};
        return true;
    }
    int error = s->target ? connect_to(s, s->target, tcp_of(s, LEG_BACKEND)) : -EHOSTUNREACH;
    if (error)
        *outcome = refused(s, error);
    return error != 0;
}

/* The attempt was decided, or the client went away meanwhile. True when relaying can begin. */
static bool connected(struct session *s)
{
    struct relay_leg *client = session_leg(s, LEG_CLIENT);
    struct relay_leg *backend = session_leg(s, LEG_BACKEND);
    if (client->broken) {
        (void)session_step_gone(s, LEG_CLIENT);
        return false;
    }
    if (backend->broken) {
        (void)session_step(s, refused(s, backend->error));
        return false;
    }
    if (!backend->writable)
        return false;
    target_tell(s->target, 0);
    struct pair_input input;
    return session_step(s, (struct pair_input){.event = PAIR_EVENT_CONNECTED}) &&
           (!preface_send(s, &input) || session_step(s, input));
}

/* ---- a client that has gone ---- */

static bool awaits_client_that_ended(struct session *s)
{
    const struct half_track *request = &s->pair.half[HALF_REQUEST];
    if (s->protocol->awaits && s->protocol->awaits(s))
        return true;
    return s->frontend->conf->deadlines.verify != VERIFY_OFF && request->fin_in && request->fin_out &&
           s->pair.up[LEG_CLIENT];
}

static void on_client_seen(struct inquiry *inquiry)
{
    struct session *s = CONTAINER(struct session, hold, inquiry);
    if (s->over) {
        done(s);
        return;
    }
    if (has_ended(s) || !awaits_client_that_ended(s))
        return;
    if (inquiry->hold == PEER_CLOSED) {
        (void)session_step(s, (struct pair_input){.event = PAIR_EVENT_CLOSED});
        return;
    }
    if (inquiry->hold == PEER_HOLDS)
        loop_set_alarm(&s->shared->loop, &s->alarm,
                       loop_now_ms(&s->shared->loop) + (CLIENT_LOOK_MS << s->looks));
    if (s->looks < CLIENT_LOOKS)
        s->looks++;
}

/* With `verify`, and behind a request always, a client on this host that has closed is not waited for. It
 * may close any time after its FIN, so it is looked for again and again, at growing intervals. */
void session_look_for_client(struct session *s)
{
    if (!awaits_client_that_ended(s) || s->hold.pending)
        return;
    s->hold = (struct inquiry){.kind = INQUIRY_HOLD, .to = s->shared->answers, .answered = on_client_seen};
    if (peer_id(session_leg(s, LEG_CLIENT)->fd, &s->hold.peer))
        (void)inquiry_ask(s->shared->desk, &s->hold);
}

/* ---- relaying ---- */

/* A leg that was reset behind its FIN: nothing is left to read that would tell. False once the session has
 * ended. */
static bool see_resets(struct session *s)
{
    for (enum leg leg = 0; leg < LEG_COUNT; leg++)
        if (session_leg(s, leg)->broken && s->pair.up[leg] && s->pair.half[half_from(leg)].fin_in &&
            !session_step_gone(s, leg))
            return false;
    return true;
}

static bool run_halves(struct session *s, uint64_t budgets[HALF_COUNT])
{
    bool again;
    do { /* at most once more for each leg, for it breaks only once, and for each message */
        again = false;
        for (enum half half = 0; half < HALF_COUNT; half++)
            if (!s->protocol->work(s, half, &budgets[half], &again))
                return false;
    } while (again);
    return true;
}

/* Does what a step said and what takes a step of its own: one attempt to connect, or the answer. False once
 * the session has ended. */
static bool follow_up(struct session *s)
{
    struct pair_input outcome;
    bool attempts = s->wants_attempt && s->pair.phase == PAIR_CONNECTING;
    bool answers = s->wants_answer;
    s->wants_attempt = s->wants_answer = false;
    if (attempts && connect_next(s, &outcome) && !session_step(s, outcome))
        return false;
    return !answers || s->protocol->answer(s);
}

static bool awaits_preface(const struct session *s)
{
    return s->pair.stage == PAIR_STAGE_PREFACE && s->pair.phase == PAIR_WAITING;
}

/* False once the session has ended. */
static bool read_preface(struct session *s)
{
    struct pair_input input;
    switch (preface_work(s, &input)) {
    case PREFACE_WAITS:
        return true;
    case PREFACE_TELLS:
        return session_step(s, input);
    case PREFACE_CLIENT_GONE:
        break;
    }
    return session_step_gone(s, LEG_CLIENT);
}

static void run(struct session *s)
{
    uint64_t share = s->shared->budget_bytes / HALF_COUNT;
    uint64_t budgets[HALF_COUNT] = {share, share};
    if (!follow_up(s) || !see_resets(s))
        return;
    if (awaits_preface(s) && (!read_preface(s) || awaits_preface(s) || !follow_up(s)))
        return;
    if (s->pair.phase == PAIR_CONNECTING && !connected(s))
        return;
    if (!run_halves(s, budgets) || !(s->wants_attempt || s->wants_answer))
        return;
    /* Without another pass of the loop, for nearly always this does: a leg from the pool, an answer. */
    if (follow_up(s) && s->pair.phase != PAIR_CONNECTING)
        (void)run_halves(s, budgets);
}

/* Whether a leg that hung up did so by no FIN: a TCP socket does when both FINs are through, and ours is
 * not out. A splice(2) whose first part went well takes the error off the socket and does not tell. */
static bool is_dead(const struct session *s, enum leg leg)
{
    return !s->legs[leg].relay.is_unix && !s->pair.half[half_to(leg)].fin_out;
}

static void leg_ready(struct session *s, enum leg leg, uint32_t events)
{
    struct relay_leg *l = session_leg(s, leg);
    if (l->fd < 0) /* an event of this pass for a socket that was closed in it */
        return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        l->readable = true;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        l->writable = true;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI))
        l->read_until_eagain = true;
    if (events & EPOLLPRI)
        l->urgent = true;
    if (events & EPOLLRDHUP)
        l->fin = true;
    if ((events & EPOLLERR) && !l->broken) {
        l->error = socket_error(l->fd);
        l->broken = l->error != 0;
    }
    if ((events & EPOLLHUP) && !l->broken && is_dead(s, leg)) {
        l->error = -ECONNRESET;
        l->broken = true;
    }
    loop_do_soon(&s->shared->loop, &s->task);
}

static void client_ready(struct poller_source *source, uint32_t events)
{
    leg_ready(CONTAINER(struct session, legs[LEG_CLIENT].source, source), LEG_CLIENT, events);
}

static void backend_ready(struct poller_source *source, uint32_t events)
{
    leg_ready(CONTAINER(struct session, legs[LEG_BACKEND].source, source), LEG_BACKEND, events);
}

static void expire(struct session *s)
{
    s->expired = false;
    /* A half that was blocked may have become one to discard, and its source has sent all that it can. */
    session_look_for_client(s);
    if (session_step(s, (struct pair_input){.event = PAIR_EVENT_EXPIRED}) && !loop_is_queued(&s->task))
        run(s);
}

static void on_task(struct task *task)
{
    struct session *s = CONTAINER(struct session, task, task);
    s->runs = true;
    run(s);
    if (!has_ended(s) && s->expired)
        expire(s);
    s->runs = false;
    if (!has_ended(s) && (s->wants_attempt || s->wants_answer))
        loop_do_soon(&s->shared->loop, task);
}

static void on_alarm(struct alarm *alarm)
{
    struct session *s = CONTAINER(struct session, alarm, alarm);
    uint64_t late_ms = loop_now_ms(&s->shared->loop) - alarm->entry.due_ms;
    if (!has_ended(s) && late_ms >= STOPPED_MS)
        pair_excuse(&s->pair, late_ms);
    if (has_ended(s)) {
        look_again(s);
    } else if (loop_is_queued(&s->task)) {
        /* No time is held against a session that waits for us: its work comes first, and without delay. */
        s->expired = true;
        loop_forget(&s->shared->loop, &s->task);
        loop_do_soon(&s->shared->loop, &s->task);
    } else {
        expire(s);
    }
}

/* ---- the interface ---- */

/* The first attempt is made at once: who accepts wants to know whether it failed on our side. */
static void begin(struct session *s)
{
    uint64_t now_ms = loop_now_ms(&s->shared->loop);
    pair_actions actions = s->protocol->begin(s);
    if (s->preface != PREFACE_NONE) { /* what the protocol wants has to wait */
        pair_init_preface(&s->pair, &s->frontend->conf->deadlines, now_ms);
        actions = 0;
    }
    register_opened(s);
    loop_set_alarm(&s->shared->loop, &s->alarm, pair_next_ms(&s->pair, now_ms));
    s->runs = true;
    perform(s, actions);
    (void)follow_up(s);
    s->runs = false;
    if (!has_ended(s) && (s->wants_attempt || s->wants_answer))
        loop_do_soon(&s->shared->loop, &s->task);
}

/* With the protocol's part in the same piece of memory. */
static struct session *allocate(const struct protocol *protocol)
{
    struct session *s = calloc(1, sizeof *s + protocol->size);
    if (!s)
        return NULL;
    s->protocol = protocol;
    if (protocol->size > 0)
        s->exchange = (struct exchange *)(void *)(s + 1);
    return s;
}

int session_open(struct shared *shared, struct frontend *frontend, const struct protocol *protocol,
                 enum place place, int fd, const union socket_address *client)
{
    struct session *s = allocate(protocol);
    if (!s)
        return -ENOMEM;
    s->shared = shared;
    s->frontend = frontend;
    s->place = place;
    s->client = *client;
    s->preface = preface_of(frontend->conf, client);
    s->legs[LEG_CLIENT].source.ready = client_ready;
    s->legs[LEG_CLIENT].relay = (struct relay_leg){
        .fd = fd, .read_until_eagain = client->family == AF_UNIX, .is_unix = client->family == AF_UNIX};
    s->legs[LEG_BACKEND].source.ready = backend_ready;
    s->legs[LEG_BACKEND].relay = (struct relay_leg){.fd = -1};
    s->alarm.ring = on_alarm;
    s->task.run = on_task;
    int error = poller_add(&shared->loop.poller, fd, LEG_EVENTS, &s->legs[LEG_CLIENT].source);
    if (error) {
        free(s);
        return error;
    }
    begin(s);
    return 0;
}

void session_drain(struct session *session)
{
    if (!has_ended(session))
        (void)session_step(session, (struct pair_input){.event = PAIR_EVENT_DRAIN});
}

bool session_abort(struct session *session, enum reason reason)
{
    if (has_ended(session))
        return false;
    (void)session_step(session, (struct pair_input){.event = PAIR_EVENT_ABORT, .reason = reason});
    return true;
}
