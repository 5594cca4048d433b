#ifndef PROXY_SESSION_REGISTER_H
#define PROXY_SESSION_REGISTER_H

/* The sessions of a worker: all that are not done, in the order in which they were accepted. The worker's
 * thread. */

struct session;

/* Gives the session its id, counts it, and keeps it. Its pair has begun. */
void register_opened(struct session *session);

/* Gives the place of the session back: it has ended, and its descriptors are closed. */
void register_ended(struct session *session);

/* Lets go of the session, which is about to be freed. */
void register_done(struct session *session);

#endif
