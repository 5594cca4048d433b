#ifndef REAPER_POLICY_CHANGE_H
#define REAPER_POLICY_CHANGE_H

/* The changes that a session can undergo: the only places that set a phase, a leg's end or a half's FIN. Each
 * says what the caller of the pair has to do about it.
 *
 * For the rows of deadline.h and for pair.h, which take them; nobody else changes a pair. */

#include "reaper/policy/action.h"
#include "reaper/policy/track.h"

/* What half_close and grace count from begins anew, and nobody is being probed. */
void change_begin_window(struct pair *pair, uint64_t now_ms);

/* Its source has all the time again that a deadline with a rate gives it. */
void change_begin_sent(struct pair *pair, enum half half, uint64_t now_ms);

void change_phase(struct pair *pair, enum pair_phase phase, uint64_t now_ms);

/* The leg is up no more; `action` closes or aborts it, 0: it is somebody else's now. */
pair_actions change_leg_down(struct pair *pair, enum leg leg, enum leg_end end, unsigned action);

/* Nothing if our FIN is out already. Not while the half holds bytes. */
pair_actions change_send_fin(struct pair *pair, enum leg leg);

/* The half's source has ended and nothing is held: its FIN goes out. */
pair_actions change_relay_fin(struct pair *pair, enum half half, uint64_t now_ms);

/* Tries the next server, or ends or refuses when there is none. */
pair_actions change_next_server(struct pair *pair, enum reason reason, uint64_t now_ms);

/* To WAITING: the session has no backend leg and may get another one. */
void change_begin_waiting(struct pair *pair, uint64_t now_ms);

/* To ENDING: relays until it comes to rest. */
void change_begin_ending(struct pair *pair, enum reason reason, uint64_t now_ms);

/* To RESETTING: a leg is down. What it sent before is delivered, then the other one is reset, or, with
 * fin_to_client, sent FIN. */
pair_actions change_begin_resetting(struct pair *pair, enum reason reason, bool fin_to_client,
                                    uint64_t now_ms);

/* In RESETTING: ends once everything that the lost leg sent has been delivered. */
pair_actions change_end_if_delivered(struct pair *pair, uint64_t now_ms);

/* To CLOSING: each leg that is up gets FIN or RST. */
pair_actions change_begin_closing(struct pair *pair, enum reason reason, const enum close_action action[],
                                  uint64_t now_ms);

/* The same where there may be no backend leg, and none is wanted any more. */
pair_actions change_close_with(struct pair *pair, enum reason reason, const enum close_action action[],
                               uint64_t now_ms);

/* The same with nothing outstanding: FIN to whoever is there. */
pair_actions change_close_at_boundary(struct pair *pair, enum reason reason, uint64_t now_ms);

/* To WAITING in stage REFUSED: the client gets an answer of our own. */
pair_actions change_refuse(struct pair *pair, enum reason reason, uint64_t now_ms);

/* To ENDED: takes down what is still up, in order where both FINs were exchanged, else by RST. */
pair_actions change_end(struct pair *pair, enum reason reason, uint64_t now_ms);

/* The same if both FINs were exchanged on every leg that is up; for the reason that it has. */
pair_actions change_end_if_done(struct pair *pair, uint64_t now_ms);

#endif
