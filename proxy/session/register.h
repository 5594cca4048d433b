#ifndef PROXY_SESSION_REGISTER_H
#define PROXY_SESSION_REGISTER_H

/* The sessions of a worker: all that are not done, in the order in which they were accepted. The worker's
 * thread. */

#include <stdbool.h>

struct session;
struct shared;

/* Gives the session its id, counts it, and keeps it. Its pair has begun. */
void register_opened(struct session *session);

/* Gives the place of the session back: it has ended, and its descriptors are closed. */
void register_ended(struct session *session);

/* Lets go of the session, which is about to be freed. */
void register_done(struct session *session);

/* At the end of a pass: gives memory back to the kernel once half of a thousand sessions and more have gone,
 * and again with each half of what is left. Whether it did. */
bool register_give_memory_back(struct shared *shared);

#endif
