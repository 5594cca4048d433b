#ifndef BENCH_LEAK_SERVER_H
#define BENCH_LEAK_SERVER_H

/* The leaky backend's serving side: one thread, one epoll set, one row of behaviour a mode.
 *
 * Private to bench/leak: leak.c runs these functions in child processes that they own entirely, so they
 * return only on a failure of the process itself, and memory and descriptors that are lost here stay lost
 * until the process ends. A connection that a mode leaks is taken out of the epoll set and forgotten with its
 * descriptor open; all others are served and closed in order. */

#include "bench/leak_mode.h"

#include <stdatomic.h>

/* Shared between the serving process (writes) and the one that started it (reads). */
struct leak_tally {
    _Atomic uint64_t accepted;
    _Atomic uint64_t requests;
    _Atomic uint64_t held;
};

/* Serves the listening socket for ever. `holder` is the socket to the holder process, or -1 when the mode
 * needs none. Returns -errno. */
int leak_server_run(int listener, int holder, const struct leak_options *options, struct leak_tally *tally);

/* Takes every descriptor sent to it and never closes one: the forked child that inherited them. Returns 0
 * when the server's end is closed, else -errno. */
int leak_holder_run(int channel);

#endif
