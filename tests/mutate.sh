#!/bin/sh
# Breaks the state machine, its deadlines, the wheel, what the data plane makes of HTTP, the legs it shares and the health
# of servers in small ways, one at a time, and shows which test catches each:
#
#   sh tests/mutate.sh                 all of them; exits 1 if one survives that is not said to be harmless
#   sh tests/mutate.sh pair.c          those of one file
#   sh tests/mutate.sh 'attempt_ms'    those whose line has this in it (a basic regular expression)
#   sh tests/mutate.sh --check         breaks nothing: whether each can be made, and each test is there (seconds)
#
# Works on a copy in .build/mutate and takes about half an hour. For each break the tests are built and run until
# one fails: unit tests, then short simulations, then the exploration. One that does not end counts as failed.
set -u
cd "$(dirname "$0")/.." || exit 1
only=${1:-}
work=$PWD/.build/mutate
source=$work/source
build=$work/build
policy='deadline_test messages_test pair_test pair_idle_test pair_half_close_test pair_rate_test pair_ending_test pair_resetting_test wheel_test simulate simulate_http explore'
plane='http_test head_test exchange_test attachment_test session_test simulate_http simulate'
pool='pool_test attachment_test faults_test'
server='lowest_test rendezvous_test health_test balance_test resolve_test backend_test'
checks='faults_test test_health.py'

# FILE: OLD ==> NEW, where OLD occurs once in that file of reaper/policy or of a folder of proxy; FILE#N: for
# the Nth time it occurs. A line that begins with "harmless" says why the one below it may survive.
mutations()
{
    cat <<'END'
track.c: h->fin_in && h->fin_out; ==> h->fin_in || h->fin_out;
harmless: a pair whose halves have both ended is ENDED, where nobody asks
track.c: track_half_ended(&pair->half[HALF_REQUEST]) != track_half_ended(&pair->half[HALF_RESPONSE]) ==> track_half_ended(&pair->half[HALF_REQUEST]) || track_half_ended(&pair->half[HALF_RESPONSE])
track.c: h->unacked_bytes > 0 ? h->acked_ms : ==> h->unacked_bytes > 1 ? h->acked_ms :
track.c: return max_of(moved_ms, pair->opened_ms); ==> return moved_ms;
track.c: pair->half[half_from(leg)].fin_in && pair->half[half_to(leg)].fin_out; ==> pair->half[half_to(leg)].fin_in && pair->half[half_to(leg)].fin_out;
track.c: waits_for_end || to->held || (leg ==> waits_for_end || (leg
track.c: (leg == LEG_CLIENT && pair->client_awaits_reply) ==> (leg == LEG_BACKEND && pair->client_awaits_reply)
track.c: bool waits_for_end = pair->half[half_from(leg)].fin_in && !to->fin_out; ==> bool waits_for_end = false;
pair.c: if (track_half_closed(pair) || pair->client_awaits_reply || track_delivering(pair)) ==> if (pair->client_awaits_reply || track_delivering(pair))
pair.c: if (track_half_closed(pair) || pair->client_awaits_reply || track_delivering(pair)) ==> if (track_half_closed(pair) || track_delivering(pair))
pair.c: if (track_half_closed(pair) || pair->client_awaits_reply || track_delivering(pair)) ==> if (track_half_closed(pair) || pair->client_awaits_reply)
pair.c: return now_ms >= track_progress_ms(pair) + REST_MS; ==> return true;
change.c: if (phase == PAIR_RESETTING || phase == PAIR_CLOSING) { ==> if (phase != PAIR_OPEN) {
change.c: if (phase == PAIR_RESETTING || phase == PAIR_CLOSING) { ==> if (phase == PAIR_CLOSING) {
change.c: (struct track_window){now_ms, acked_bytes, acked_bytes}; ==> (struct track_window){now_ms, 0, acked_bytes};
change.c: to->held = false; ==> ;
change.c: to->unacked_bytes = 0; ==> ;
change.c: pair->leg_end[leg] = (uint8_t)end; ==> ;
change.c: if (pair->phase == PAIR_CONNECTING) /* the ==> if (false) /* the
harmless: a leg that was taken down counts as done
change.c: if (pair->up[leg] && !track_leg_done(pair, leg)) ==> if (!track_leg_done(pair, leg))
change.c: if (h->fin_out) ==> if (false)
change.c: action[leg] == CLOSE_RST || track_fooled_by_fin ==> track_fooled_by_fin
change.c: return actions | change_end(pair, REASON_CLOSED, now_ms); ==> return actions;
change.c: pair->half_closed_ms = now_ms; ==> ;
pair.c: if (pair->draining) ==> if (false)
pair.c: if (pair->draining && pair->stage == PAIR_STAGE_BYTES) ==> if (false)
pair.c#1: pair->attempt_ms = now_ms; ==> ;
change.c: pair->servers_left--; ==> ;
pair.c: if (pair->has_first_fin) ==> if (false)
pair.c: return h->held ? 0 : change_relay_fin(pair, half, now_ms); ==> return change_relay_fin(pair, half, now_ms);
pair.c: h->held_since_ms = now_ms; ==> ;
change.c: if (pair->fin_to_client) { ==> if (false) {
change.c: return track_delivering(pair) || track_gives_time(pair) ? 0 ==> return false ? 0
change.c: return track_delivering(pair) || track_gives_time(pair) ? 0 ==> return track_delivering(pair) ? 0
pair.c: bool waits = track_delivering(pair) || ==> bool waits =
pair.c: return h->fin_in ? change_relay_fin(pair, half, now_ms) : 0; ==> return 0;
pair.c: !pair->up[sink] || track_leg_done(pair, sink)) ==> !pair->up[sink])
pair.c: bool whole_answer = leg == LEG_BACKEND && pair->half[HALF_RESPONSE].fin_in; ==> bool whole_answer = pair->half[half_from(leg)].fin_in;
change.c: change_phase(pair, PAIR_RESETTING, now_ms); ==> change_phase(pair, PAIR_CLOSING, now_ms);
pair.c: if (pair->phase == PAIR_OPEN && pair->stage == PAIR_STAGE_BYTES) ==> if (pair->stage == PAIR_STAGE_BYTES)
pair.c: if (due > now_ms || !row->spares_delivery || !track_delivering(pair)) ==> if (due > now_ms || !track_delivering(pair))
pair.c: if (due > now_ms || !row->spares_delivery || !track_delivering(pair)) ==> if (due != 0)
pair.c: return max_of(seen_ms, due) + DELIVERY_MS; ==> return now_ms + DELIVERY_MS;
pair.c: return max_of(seen_ms, due) + DELIVERY_MS; ==> return due + DELIVERY_MS;
pair.c: if (at < *fires) { ==> if (at <= *fires) {
pair.c: if (spares(pair, now_ms)) ==> if (false)
pair.c: if (pair->phase == PAIR_RESETTING && !track_gives_time(pair)) ==> if (false)
pair.c: next = min_of(next, max_of(track_progress_ms(pair) + REST_MS, now_ms + REST_MS / 4)); ==> ;
pair.c: if (due_ms(pair, DEADLINE_WRITE_STALL) != DEADLINE_OFF) { ==> if (false) {
pair.c: bought_ms / rate >= until_ms - window->ms) { ==> bought_ms / rate >= 1) {
pair.c: window->bytes += spent_bytes; ==> window->bytes += moved;
pair.c: if (spent_bytes > 0) { ==> if (true) {
pair.c: now_ms > pair->taken_until_ms + REST_MS) ==> true)
pair.c: pair->taken_until_ms = now_ms; ==> ;
pair.c: change_begin_sent(pair, half, now_ms); /* ==> ; /*
pair.c: pair->tunnel = true; ==> ;
pair.c: stage == PAIR_STAGE_ANSWERED && input->streams; ==> false;
pair.c: rate[open ? DEADLINE_IDLE : DEADLINE_HALF_CLOSE])) ==> rate[DEADLINE_HALF_CLOSE]))
track.c: half == HALF_RESPONSE && pair->half[half].held && ==> pair->half[half].held &&
track.c: pair->half[half].held && !pair->tunnel && ==> pair->half[half].held &&
deadline.c: return both_open(pair) && !pair->tunnel; ==> return both_open(pair);
deadline.c: return awaits_backend(pair) && !pair->streams; ==> return awaits_backend(pair);
deadline.c: return trickled ? row->rate_reason : row->reason; ==> return row->reason;
pair.c: if (rate == 0 || __builtin ==> if (__builtin
harmless: bytes acknowledged since the window began were so after it began; the guard is for a clock that errs
pair.c: if (until_ms <= window->ms) { ==> if (false) {
track.c: .acked_bytes > pair->window_open_bytes; ==> .acked_bytes >= pair->window_open_bytes;
track.c: return track_half_ended(&pair->half[HALF_REQUEST]) ? HALF_RESPONSE : HALF_REQUEST; ==> return HALF_RESPONSE;
change.c: pair->window_open_bytes = pair->half[track_open_half(pair)].acked_bytes; ==> ;
track.c: return pair->heard_ms[leg] >= pair->probed_ms; ==> return true;
deadline.c: if (both && verify == VERIFY_EXTEND) { ==> if (both) {
deadline.c: heard(pair, LEG_CLIENT) ? REASON_BACKEND_LOST : REASON_CLIENT_LOST; ==> heard(pair, LEG_CLIENT) ? REASON_CLIENT_LOST : REASON_BACKEND_LOST;
deadline.c: pair->reason != REASON_NONE ? (enum reason)pair->reason : rows[id].reason, ==> rows[id].reason,
pair.c: pair->reason == REASON_LIFETIME ? DEADLINE_LIFETIME : DEADLINE_IDLE; ==> DEADLINE_IDLE;
pair.c: if (acked <= h->acked_bytes) ==> if (acked < h->acked_bytes)
pair.c: h->acked_ms = max_of(h->acked_ms, heard_ms); ==> h->acked_ms = clock_ms;
pair.c: credit_windows(pair); ==> ;
track.c: return pair->phase == PAIR_OPEN || pair->phase == PAIR_ENDING; ==> return pair->phase == PAIR_OPEN;
deadline.c: pair->stage == PAIR_STAGE_BYTES && !track_half_closed(pair); ==> pair->stage == PAIR_STAGE_BYTES;
deadline.c: return track_relaying(pair) && track_half_closed(pair); ==> return track_half_closed(pair);
deadline.c: return h->held || (pair->phase == PAIR_RESETTING && h->unacked_bytes > 0); ==> return h->held;
deadline.c: (track_relaying(pair) || pair->phase == PAIR_RESETTING || ==> (track_relaying(pair) ||
deadline.c: return response ? HALF_RESPONSE : HALF_REQUEST; ==> return HALF_REQUEST;
track.c: return max_of(h->held_since_ms, max_of(h->written_ms, h->acked_ms)); ==> return h->held_since_ms;
deadline.c: (track_relaying(pair) && pair->reason != REASON_LIFETIME); ==> track_relaying(pair);
deadline.c: return pair->draining && pair->phase != PAIR_ENDED; ==> return pair->draining;
deadline.c: (pair->phase == PAIR_ENDING && pair->reason == REASON_LIFETIME); ==> pair->phase == PAIR_ENDING;
deadline.c: pair->phase == PAIR_CLOSING ? pair->window.ms : pair->ending_ms; ==> pair->ending_ms;
deadline.c#1: .min_ms = 0, ==> .min_ms = 1,
deadline.c#1: .default_ms = 30000, ==> .default_ms = 60000,
deadline.c#1: .spares_delivery = true, ==> .spares_delivery = false,
deadline.c#2: .spares_delivery = true, ==> .spares_delivery = false,
deadline.c#3: .spares_delivery = true, ==> .spares_delivery = false,
deadline.c: .armed = any_held, ==> .armed = both_open,
harmless: a time and never add up to never, or overflow
settings.h: if (after_ms == DEADLINE_OFF || __builtin ==> if (__builtin
wheel.c: (63 - (unsigned)__builtin_clzll(differing)) / DIGIT_BITS : 0; ==> (62 - (unsigned)__builtin_clzll(differing)) / DIGIT_BITS : 0;
wheel.c: due_ms > wheel->floor_ms ? due_ms : wheel->floor_ms; ==> due_ms;
wheel.c: wheel->floor_ms = now_ms + 1; ==> wheel->floor_ms = now_ms;
wheel.c: if (now_ms < wheel->at_ms) ==> if (false)
wheel.c: wheel->at_ms = wheel->floor_ms - 1; ==> wheel->at_ms = wheel->floor_ms;
wheel.c: if (!wheel->slots[place.level][place.slot]) ==> if (false)
wheel.c: wheel->count--; ==> ;
wheel.c: place_ms(wheel, place) < wheel->floor_ms) { ==> place_ms(wheel, place) <= wheel->floor_ms) {
wheel.c: & ~(uint64_t)DIGIT_MASK; ==> ;
harmless: nobody asks what came from a leg that is not up
change.c: pair->half[HALF_RESPONSE].fin_in = !expected; ==> pair->half[HALF_RESPONSE].fin_in = false;
change.c: pair->half[HALF_REQUEST].fin_out = !expected; ==> pair->half[HALF_REQUEST].fin_out = false;
change.c: pair->reason = REASON_NONE; ==> ;
change.c: if (!pair->up[LEG_BACKEND]) ==> if (false)
change.c: pair->client_awaits_reply = false; ==> ;
change.c: = {CLOSE_FIN, CLOSE_FIN}; ==> = {CLOSE_RST, CLOSE_FIN};
change.c: = {CLOSE_FIN, CLOSE_FIN}; ==> = {CLOSE_FIN, CLOSE_RST};
change.c: if (pair->up[LEG_BACKEND] && pair->stage == PAIR_STAGE_HEAD) ==> if (false)
change.c: if (pair->up[LEG_BACKEND] && pair->stage == PAIR_STAGE_HEAD) ==> if (pair->up[LEG_BACKEND])
change.c: else if (pair->phase == PAIR_CONNECTING) ==> else if (false)
change.c: pair->cause = (uint8_t)reason; ==> ;
pair.c: if (pair->draining && pair->stage == PAIR_STAGE_BYTES) ==> if (pair->draining)
change.c: return pair->stage == PAIR_STAGE_BYTES ? change_end(pair, reason, now_ms) ==> return true ? change_end(pair, reason, now_ms)
pair.c: if (pair->stage != PAIR_STAGE_BYTES) /* nobody ==> if (false) /* nobody
pair.c: if (pair->stage == PAIR_STAGE_BETWEEN && (pair->phase == PAIR_WAITING || pair->phase == PAIR_OPEN)) ==> if (false)
pair.c: if (pair->draining && pair->phase == PAIR_OPEN) ==> if (false)
pair.c#2: pair->servers_left = servers_left; ==> ;
pair.c#2: pair->attempt_ms = now_ms; ==> ;
pair.c: pair->leg_end[LEG_BACKEND] = LEG_END_NONE; ==> ;
pair.c: leg_down(pair, LEG_BACKEND, how, pooled ==> leg_down(pair, LEG_BACKEND, LEG_END_FIN, pooled
pair.c: pooled ? 0 : PAIR_DO_CLOSE ==> PAIR_DO_CLOSE
pair.c: change_begin_resetting(pair, REASON_RESPONSE_CUT, framed, now_ms) ==> change_begin_resetting(pair, REASON_RESPONSE_CUT, true, now_ms)
pair.c: change_begin_resetting(pair, REASON_RESPONSE_CUT, framed, now_ms) ==> change_begin_resetting(pair, REASON_RESPONSE_CUT, false, now_ms)
pair.c: reason = (enum reason)pair->cause; ==> ;
pair.c: reason = (enum reason)pair->reason; ==> ;
deadline.c: return pair->stage == PAIR_STAGE_ANSWERED ? close_legs(pair, id, now_ms) ==> return true ? close_legs(pair, id, now_ms)
deadline.c: return change_leg_down(pair, LEG_BACKEND, LEG_END_RST, PAIR_DO_RST) | change_end_if_done(pair, now_ms); ==> return change_end(pair, pair->reason, now_ms);
deadline.c: if (pair->stage == PAIR_STAGE_BETWEEN) ==> if (false)
deadline.c: if (pair->phase == PAIR_WAITING) ==> if (false)
deadline.c: return (pair->phase == PAIR_WAITING || track_relaying(pair)) && pair->stage == PAIR_STAGE_HEAD; ==> return track_relaying(pair) && pair->stage == PAIR_STAGE_HEAD;
deadline.c: pair->stage == PAIR_STAGE_BODY && !pair->half[HALF_REQUEST].held; ==> pair->stage == PAIR_STAGE_BODY;
deadline.c: return max_of(pair->stage_ms, since_request_sent(pair)); ==> return pair->stage_ms;
deadline.c: return max_of(pair->stage_ms, since_request_sent(pair)); ==> return since_request_sent(pair);
deadline.c: !pair->half[HALF_REQUEST].held && !pair->half[HALF_RESPONSE].held; ==> !pair->half[HALF_RESPONSE].held;
deadline.c: !pair->half[HALF_REQUEST].held && !pair->half[HALF_RESPONSE].held; ==> !pair->half[HALF_REQUEST].held;
deadline.c#1: return max_of(pair->stage_ms, max_of(since_request_sent(pair), sent_ms)); ==> return pair->stage_ms;
deadline.c#1: return max_of(pair->stage_ms, max_of(since_request_sent(pair), sent_ms)); ==> return max_of(since_request_sent(pair), sent_ms);
deadline.c: return (pair->phase == PAIR_WAITING || track_relaying(pair)) && pair->stage == PAIR_STAGE_BETWEEN; ==> return track_relaying(pair) && pair->stage == PAIR_STAGE_BETWEEN;
deadline.c: (pair->phase == PAIR_CLOSING && pair->stage != PAIR_STAGE_BYTES && ==> (pair->phase == PAIR_CLOSING &&
deadline.c: return track_gives_time(pair) || ( ==> return (
deadline.c: pair->asked_ms + PROBE_MS : 0; ==> pair->probed_ms + PROBE_MS : 0;
deadline.c: pair->probes < PROBES ==> pair->probes < 1
pair.c: pair->asked_ms = max_of(pair->asked_ms, clock_ms); ==> ;
pair.c: pair->reason = REASON_CLOSED; /* a backend ==> ; /* a backend
deadline.c: connecting(pair) || pair->phase == PAIR_WAITING || ==> connecting(pair) ||
attachment.c: if (exchange_has_backend(s) && !x->repeatable) { ==> if (false) {
request.c: request->idempotent && request->framing == MESSAGE_NO_BODY && ==> request->idempotent &&
request.c: request->idempotent && request->framing == MESSAGE_NO_BODY && ==> request->framing == MESSAGE_NO_BODY &&
request.c: x->keep_client = request->keep_alive; ==> x->keep_client = true;
request.c: if (!x->repeatable || x->fresh) ==> if (true)
request.c: if (!s->exchange->head_sent && ==> if (false &&
request.c: s->exchange->whole_ms = 0; ==> ;
request.c: s->exchange->asked = (struct message_asked){0}; ==> ;
request.c: if (session_leg(s, LEG_CLIENT)->broken) ==> if (false)
response.c: || s->pair.stage == PAIR_STAGE_REFUSED || ==> ||
response.c: s->exchange->repeatable = false; ==> ;
response.c: s->exchange->asked.minor > 0 ? ==> true ?
response.c: response->framing != MESSAGE_UNTIL_CLOSE && ==> 
response.c: exchange_request_is_whole(s) && !s->pair ==> !s->pair
response.c: response.keep_alive && exchange_request_is_whole(s) && *used ==> response.keep_alive && *used
response.c: exchange_request_is_whole(s) && *used == size; ==> exchange_request_is_whole(s);
response.c: s->exchange->keep_backend = false; ==> ;
response.c: bool last = !x->keep_client || ==> bool last = 
response.c: x->fresh = false; ==> ;
response.c: if (step != STEP_ENDED && !x->keep_backend) ==> if (false)
attachment.c: x->repeatable && !x->fresh && untouched; ==> !x->fresh && untouched;
attachment.c: x->repeatable && !x->fresh && untouched; ==> x->repeatable && untouched;
attachment.c: x->repeatable && !x->fresh && untouched; ==> x->repeatable && !x->fresh;
attachment.c: s->exchange->fresh = true; ==> ;
attachment.c: s->exchange->head_sent = false; ==> ;
attachment.c: if (end == LEG_END_FIN && http_may_end(http)) { ==> if (http_may_end(http)) {
attachment.c: if (end == LEG_END_FIN && http_may_end(http)) { ==> if (end == LEG_END_FIN) {
attachment.c: after_ms[DEADLINE_MESSAGE_GRACE] ==> after_ms[DEADLINE_GRACE]
harmless: the request half is worked on first, and writes its head or holds it before an answer is read
exchange.c: s->exchange->head_sent && ==> 
mode.c: if (*budget == 0) { ==> if (false) {
refusal.c: if (!x->line && http_untouched(&x->http[HALF_REQUEST])) ==> if (false)
request.c: if (!http_untouched(&x->http[HALF_REQUEST])) ==> if (false)
harmless: an edge that was not read up to its end is remembered anyway
step.c: session_leg(s, leg)->readable = true; ==> ;
harmless: of one who says so much something is left unread, and then close(2) sends RST, too
retire.c: end(leg, n > 0); ==> end(leg, false);
retire.c: end(leg, n > 0); ==> end(leg, true);
retire.c: socket_fin(leg->fd); ==> ;
retire.c: loop_clear_alarm(&shared->loop, &leg->alarm); ==> ;
retire.c: poller_remove(&shared->loop.poller, fd); ==> ;
retire.c: if (n < 0 && errno == EINTR) ==> if (false)
http.c: http->framing == MESSAGE_LENGTH ? http->body_left : UINT64_MAX; ==> UINT64_MAX;
http.c: return may_trail(http) ? CHUNK_TRAILER_VALUE : CHUNK_BAD; ==> return CHUNK_TRAILER_VALUE;
http.c: if (++http->digits > CHUNK_DIGITS_MAX) ==> if (false)
session.c: s->pair.leg_end[leg] == LEG_END_NONE ==> false
pool.c: return pool->legs->prev; ==> return pool->legs;
pool.c: while ((leg = newest_usable(pool))) { ==> while ((leg = pool->legs ? oldest(pool) : NULL)) {
pool.c: if (pooled_of(leg)->usable_ms <= now_ms) ==> if (true)
pool.c: put(pool, fd, grace_ms, POOL_SETTLE_MS); ==> put(pool, fd, grace_ms, 0);
pool.c: (pool->conf->reuse_max + workers - 1) / workers; ==> pool->conf->reuse_max / workers;
pool.c: (pool->conf->reuse_max + workers - 1) / workers; ==> pool->conf->reuse_max;
pool.c: if (pool->count > share(pool)) ==> if (pool->count >= share(pool))
pool.c: .since_ms = loop_now_ms(&shared->loop), ==> .since_ms = 0,
pool.c: loop_set_alarm(&shared->loop, &pool->alarm, expires_ms(pool)); ==> ;
pool.c: loop_set_alarm(&pool->shared->loop, &pool->alarm, expires_ms(pool)); ==> ;
pool.c: expires_ms(pool) <= loop_now_ms(&pool->shared->loop)) ==> true)
pool.c: MSG_DONTWAIT) < 0 && ==> MSG_DONTWAIT) <= 0 &&
pool.c: (errno == EAGAIN || errno == EINTR); ==> true;
harmless: what is not silent retires, and of a retiring leg nobody reads
pool.c: MSG_PEEK | MSG_DONTWAIT ==> MSG_DONTWAIT
pool.c: if (leg->fd >= 0 && !is_silent(leg->fd)) ==> if (leg->fd >= 0)
pool.c: if (leg->fd >= 0 && !is_silent(leg->fd)) ==> if (!is_silent(leg->fd))
pool.c: if (!is_silent(fd) || ==> if (
retire.c: leg->fd = -1; ==> ;
pool.c: !pool->closed && !shared->ends; ==> !shared->ends;
pool.c: !pool->closed && !shared->ends; ==> !pool->closed;
pool.c: pool->closed = true; ==> ;
pool.c: loop_clear_alarm(&pool->shared->loop, &pool->alarm); ==> ;
pool.c: if (!limit_take(shared->limit, LIMIT_LEG)) ==> if (false)
pool.c#1: limit_give_back(shared->limit, LIMIT_LEG); ==> ;
pool.c#2: limit_give_back(shared->limit, LIMIT_LEG); ==> ;
pool.c: since_ms < pooled_of(oldest(first))->since_ms) ==> since_ms > pooled_of(oldest(first))->since_ms)
pool.c: for (; descriptors > 0 && shared->pools; ==> for (; shared->pools;
attachment.c: return reuse_of(s) != CONF_REUSE_OFF; ==> return true;
harmless: the pools of a backend that shares nothing are empty
attachment.c: return attachment_reuses(s) && !x->pinned_to_client && !x->again && ==> return !x->pinned_to_client && !x->again &&
attachment.c: return attachment_reuses(s) && !x->pinned_to_client && !x->again && ==> return attachment_reuses(s) && !x->again &&
attachment.c: return attachment_reuses(s) && !x->pinned_to_client && !x->again && ==> return attachment_reuses(s) && !x->pinned_to_client &&
attachment.c: (x->repeatable || reuse_of(s) == CONF_REUSE_ALWAYS); ==> reuse_of(s) == CONF_REUSE_ALWAYS;
attachment.c: (x->repeatable || reuse_of(s) == CONF_REUSE_ALWAYS); ==> x->repeatable;
attachment.c: (x->repeatable || reuse_of(s) == CONF_REUSE_ALWAYS); ==> true;
attachment.c: !attachment_reuses(s) || x->pinned_to_client || may_take_used(s); ==> x->pinned_to_client || may_take_used(s);
attachment.c: !attachment_reuses(s) || x->pinned_to_client || may_take_used(s); ==> !attachment_reuses(s) || may_take_used(s);
attachment.c: !attachment_reuses(s) || x->pinned_to_client || may_take_used(s); ==> !attachment_reuses(s) || x->pinned_to_client;
attachment.c: return s->pair.draining ? attachment_retire(s) : ==> return
attachment.c: session_leave_target(s); ==> ;
attachment.c: s->exchange->fresh = false; ==> ;
attachment.c: return attachment_reuses(s) && x->keep_backend && ==> return x->keep_backend &&
harmless: a leg that is not kept is then retired before its session ends, and not with it
attachment.c: return attachment_reuses(s) && x->keep_backend && ==> return attachment_reuses(s) &&
attachment.c: && !x->pinned_to_client && s->pair.phase == PAIR_OPEN && ==> && s->pair.phase == PAIR_OPEN &&
attachment.c: && !x->pinned_to_client && s->pair.phase == PAIR_OPEN && ==> && !x->pinned_to_client &&
attachment.c: !s->pair.draining; ==> true;
attachment.c: session_detach(s); ==> ;
attachment.c: x->again = again; ==> ;
request.c: x->again = false; ==> ;
request.c: x->pinned_to_client = (x->pinned_to_client && exchange_has_backend(s)) || ==> x->pinned_to_client =
request.c: (x->pinned_to_client && exchange_has_backend(s)) || message_binds(request); ==> x->pinned_to_client && exchange_has_backend(s);
request.c: x->pinned_to_client = (x->pinned_to_client && exchange_has_backend(s)) || ==> x->pinned_to_client = x->pinned_to_client ||
response.c: x->pinned_to_client = x->pinned_to_client || message_binds(&response) || response.bodyless; ==> ;
response.c: x->pinned_to_client = x->pinned_to_client || message_binds(&response) || response.bodyless; ==> x->pinned_to_client = message_binds(&response) || response.bodyless;
response.c: || message_binds(&response) || response.bodyless; ==> || response.bodyless;
response.c: message_binds(&response) || response.bodyless; ==> message_binds(&response);
message.c: case MESSAGE_PERSISTENT_AUTH: ==> 
message.c: case MESSAGE_PROXY_AUTHENTICATE: ==> 
health.c: while (count-- > 1 && ==> while (count-- > 0 &&
health.c: step *= 2; ==> step *= 3;
health.c: return step < conf->set_aside_max_ms ? step : conf->set_aside_max_ms; ==> return step;
health.c: (failures < FAILURES_MAX ? failures : FAILURES_MAX); ==> failures;
health.c: return until > now_ms ? until : 0; ==> return until >= now_ms ? until : 0;
health.c: if (record == 0 || until_ms(record) > now_ms) ==> if (until_ms(record) > now_ms)
health.c: if (record == 0 || until_ms(record) > now_ms) ==> if (record == 0)
health.c: step_ms(conf, count), true, count), ==> step_ms(conf, count), false, count),
health.c: now_ms + step, false, failures(record) + 1), ==> now_ms + step, true, failures(record) + 1),
health.c: if (until_ms(record) > now_ms && !(record & TRIED)) ==> if (until_ms(record) > now_ms)
health.c: if (until_ms(record) > now_ms && !(record & TRIED)) ==> if (false)
health.c: return had_failed; ==> return true;
health.c: if (conf->set_aside_ms == DEADLINE_OFF) ==> if (false)
health.c: case -EADDRNOTAVAIL: ==> 
health.c#1: health->against = 0; ==> ;
health.c#2: health->against = 0; ==> ;
health.c: (good ? conf->rise : conf->fall) ==> (good ? conf->fall : conf->rise)
health.c: return health->address.length == address->length && ==> return
health.c: if (--health->holders == 0) { ==> if (--health->holders < 2) {
health.c: if (had_failed) ==> if (false)
health.c#3: count_change(health); ==> ;
health.c#4: count_change(health); ==> ;
health.c#1: count_change(health); ==> ;
balance.c: if (changes == balance->changes && now_ms < balance->again_ms) ==> if (changes == balance->changes)
balance.c: if (changes == balance->changes && now_ms < balance->again_ms) ==> if (now_ms < balance->again_ms)
balance.c: if (!usable && due_ms < balance->again_ms) ==> if (!usable)
balance.c: usable ? target_use(balance->targets[i]) : LOWEST_NONE); ==> target_use(balance->targets[i]));
balance.c: balance->next = target->index + 1; ==> balance->next++;
balance.c: first_from(balance, balance->next++, least); ==> first_from(balance, balance->next, least);
balance.c: failed->removed ? 0 : failed->index + 1, ==> failed->index,
balance.c: return target == failed ? NULL : target; ==> return target;
balance.c: if (target == failed || !is_usable(balance, i)) ==> if (target == failed)
balance.c: if (failed && comes_before(failed, failed_score, target, its) && ==> if (failed &&
balance.c: return next ? next : first; ==> return first;
balance.c: (first && due_ms >= first_ms)) ==> (first && due_ms > first_ms))
balance.c: if (target_is_avoided(balance->targets[i], now_ms) || ( ==> if ((
balance.c: if (!target_is_avoided(balance->targets[i], now_ms) && ==> if (
balance.c: ->tried < first->tried) ==> ->tried > first->tried)
balance.c: previous ? tried_longest_ago(balance, now_ms) : due_first( ==> due_first(
balance.c: health_try(target->health, balance->conf, now_ms); ==> ;
balance.c: target->tried = ++balance->tries; ==> ;
balance.c: target_take(target); ==> ;
balance.c#1: balance->changes = UINT64_MAX; ==> ;
balance.c#2: balance->changes = UINT64_MAX; ==> ;
rendezvous.c: uint64_t mixed = client ^ server; ==> uint64_t mixed = server;
rendezvous.c: &in->sin_port, sizeof in->sin_port); ==> &in->sin_port, 0);
lowest.c: nodes[2 * at] < nodes[2 * at + 1] ? ==> nodes[2 * at] <= nodes[2 * at + 1] + 1 ?
lowest.c: lowest->nodes[2 * at] <= max ? ==> lowest->nodes[2 * at] < max ?
lowest.c: if (at % 2 == 0 && lowest->nodes[at + 1] <= max) ==> if (lowest->nodes[at + 1] <= max)
lowest.c: if (found == lowest->count && ==> if (false &&
resolve.c: if (was_found(found, &before->addresses[i])) ==> if (true)
resolve.c: list->count < RESOLVE_ADDRESSES_MAX && !holds(list, address)) ==> list->count < RESOLVE_ADDRESSES_MAX)
resolve.c: if (is_as_before(list, name->list)) ==> if (false)
resolve.c: if (name->version == 0) ==> if (false)
resolve.c: again *= 2; ==> ;
resolve.c: return min_of(min_of(again, RESOLVE_AGAIN_MAX_MS), name->backend->resolve_interval_ms); ==> return name->backend->resolve_interval_ms;
resolve.c: if (name->asking) { ==> if (false) {
resolve.c: if (name->resolver->closing) { ==> if (false) {
target.c#1: target->sessions--; ==> ;
target.c#2: target->sessions--; ==> ;
target.c: target->detached--; ==> ;
target.c: || target->sessions > 0 || ==> ||
target.c: || target->detached > 0) ==> )
target.c#1: note_use(target); ==> ;
target.c#2: note_use(target); ==> ;
target.c#3: note_use(target); ==> ;
target.c: lowest_key(target->use, target->index) != LOWEST_NONE) ==> true)
target.c: if (error == 0 && health_succeeded(target->health)) ==> if (false)
target.c: if (error == 0 || !health_is_servers(error)) ==> if (error == 0)
backend.c: waits = backend->balance.count == 0; ==> waits = true;
backend.c: backend->servers[i].name && backend->servers[i].seen == 0) ==> backend->servers[i].name)
check.c: if (check->step != STEP_TAIL && health_is_servers(error)) ==> if (check->step != STEP_TAIL)
check.c: target_tell(check->target, 0); ==> ;
inquiry.c: return true; ==> return false;
inquiry.c: answers->fetched = inquiry->next; ==> answers->fetched = NULL;
inquiry.c: uv_async_send(to->wake); ==> ;
relay.c: source->urgent = false; ==> ;
relay.c: relay->holds_urgent = urgent; ==> ;
relay.c: relay->holds_urgent = false; ==> ;
check.c: if (status < 400) ==> if (status < 300)
check.c: if (status < 200) { ==> if (false) {
check.c: if (check->step == STEP_CONNECTING || check->step == STEP_ANSWER) ==> if (check->step == STEP_CONNECTING)
END
}

# FILE N OLD NEW: prints the file with the Nth OLD replaced; fails unless it occurs, and for N = 0 only once.
replaced()
{
    NTH=$2 OLD=$3 NEW=$4 awk '
        { text = text $0 "\n" }
        END {
            old = ENVIRON["OLD"]
            nth = ENVIRON["NTH"]
            for (rest = text; (at = index(rest, old)) > 0; rest = substr(rest, at + length(old))) {
                count++
                if (count == (nth ? nth : 1))
                    before = length(text) - length(rest) + at - 1
            }
            if (count < (nth ? nth : 1) || (!nth && count > 1))
                exit 1
            printf "%s%s%s", substr(text, 1, before), ENVIRON["NEW"], substr(text, before + length(old) + 1)
        }' "$1"
}

# TESTS: what has to be built for them.
targets_of()
{
    for test in $1; do
        case $test in
        *.py) echo lastack ;;
        *) echo "$test" ;;
        esac
    done
}

build()
{
    # shellcheck disable=SC2046 # a list of words
    cmake --build "$build" --target $(targets_of "$1") >"$work/build.log" 2>&1
}

run_test()
{
    case $1 in
    simulate) set -- 60 "$build/$1" --seed 1 --sessions 20000 ;;
    simulate_http) set -- 60 "$build/$1" --seed 1 --sessions 100000 ;;
    explore) set -- 600 "$build/$1" bounded 'always FIN' verify messages ;;
    *.py) set -- 120 env LASTACK="$build/lastack" python3 "$source/tests/end_to_end/$1" --failfast ;;
    *) set -- 20 "$build/$1" ;;
    esac
    timeout "$@" >"$work/test.log" 2>&1
}

# TESTS: the name of the first that fails, or nothing.
caught_by()
{
    for test in $1; do
        run_test "$test" || {
            echo "$test"
            return
        }
    done
}

# FILE: the folder that it is in; fails unless there is one of that name. The subcommands are not broken.
folder_of()
{
    found=$(find reaper/policy proxy -path proxy/command -prune -o -name "$1" -type f -print)
    [ -f "$found" ] && dirname "$found"
}

# FILE: what is run for it.
tests_for()
{
    case $(folder_of "$1")/$1 in
    reaper/policy/*) echo "$policy" ;;
    */pool.c) echo "$pool" ;;
    */lowest.c | */rendezvous.c | */health.c | */target.c | */balance.c | */resolve.c | */backend.c) echo "$server" ;;
    */check.c) echo "$checks" ;;
    */inquiry.c) echo inquiry_test ;;
    */relay.c) echo relay_test ;;
    *) echo "$plane" ;;
    esac
}

# LINE: whether it was asked for.
is_chosen()
{
    [ -z "$only" ] || [ "$only" = "$(file_of "$1")" ] || printf '%s\n' "$1" | grep -q -e "$only"
}

# LINE: the file that it breaks.
file_of()
{
    printf '%s\n' "${1%%[#:]*}"
}

# What is run for all breaks that were asked for, once each.
all_tests()
{
    mutations | grep -v '^harmless' | while IFS= read -r line; do
        is_chosen "$line" && tests_for "$(file_of "$line")"
    done | tr ' ' '\n' | awk '!seen[$0]++'
}

# Names each break that can't be made as its line says, and each test that is not there.
check()
{
    unlike=0
    for test in $policy $plane $pool $server $checks; do
        [ -n "$(find tests -name "${test%.py}.[cp]*" -type f)" ] || {
            echo "no such test: $test"
            unlike=$((unlike + 1))
        }
    done
    mutations >"$work/mutations"
    while IFS= read -r line; do
        [ "${line#harmless}" = "$line" ] || continue
        file=$(file_of "$line")
        place=${line%%: *}
        nth=${place#"$file"}
        rest=${line#*: }
        if ! folder=$(folder_of "$file"); then
            echo "not one file of that name: $line"
        elif [ "${rest%% ==> *}" = "${rest#* ==> }" ]; then
            echo "breaks nothing: $line"
        elif ! replaced "$folder/$file" "${nth#\#}" "${rest%% ==> *}" "${rest#* ==> }" >/dev/null; then
            echo "not in $folder/$file, or not only once: $line"
        else
            continue
        fi
        unlike=$((unlike + 1))
    done <"$work/mutations"
    [ "$unlike" -eq 0 ]
}

if [ "$only" = --check ]; then
    work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT && check
    exit
fi
rm -rf "$work" # what is left of another run may have been built from a break
mkdir -p "$source" || exit 1
sh tests/static/files.sh . | tar cf - -T - | tar xf - -C "$source"
tests=$(all_tests)
[ -n "$tests" ] || {
    echo "there is no break of '$only'; the argument is a file as in 'pair.c', or words of a line"
    exit 1
}
cmake -G Ninja -S "$source" -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo >"$work/build.log" 2>&1 && build "$tests" || {
    tail -n 30 "$work/build.log"
    exit 1
}
verdict=$(caught_by "$tests")
[ -z "$verdict" ] || {
    echo "without a break already, $verdict fails"
    exit 1
}

count=0
survived=0
reason=
: >"$work/verdicts"
mutations >"$work/mutations"
while IFS= read -r line; do
    case $line in
    harmless*)
        reason=${line#harmless: }
        continue
        ;;
    esac
    why=$reason
    reason=
    place=${line%%: *}
    rest=${line#*: }
    file=$(file_of "$line")
    nth=${place#"$file"}
    is_chosen "$line" || continue
    folder=$(folder_of "$file")
    count=$((count + 1))
    replaced "$folder/$file" "${nth#\#}" "${rest%% ==> *}" "${rest#* ==> }" >"$work/broken.c" || {
        echo "cannot be made, or not only once: $line"
        exit 1
    }
    cp "$work/broken.c" "$source/$folder/$file"
    if ! build "$(tests_for "$file")"; then
        verdict='does not build'
    else
        verdict=$(caught_by "$(tests_for "$file")")
    fi
    cp "$folder/$file" "$source/$folder/$file"
    if [ -z "$verdict" ] && [ -n "$why" ]; then
        verdict="harmless: $why"
        echo harmless >>"$work/verdicts"
    elif [ -z "$verdict" ]; then
        verdict='SURVIVED'
        survived=$((survived + 1))
        echo SURVIVED >>"$work/verdicts"
    else
        echo "caught by $verdict" >>"$work/verdicts"
    fi
    printf '%-18s %s\n' "$verdict" "$line"
done <"$work/mutations"
echo
sort "$work/verdicts" | uniq -c | sort -rn
echo "$count breaks, $survived survived"
[ "$survived" -eq 0 ]
