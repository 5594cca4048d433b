#ifndef BENCH_LEAK_H
#define BENCH_LEAK_H

/* A backend that leaks on purpose: each mode reproduces one of the scenarios of real leaks, so that tests,
 * demos and benchmarks meet the same socket states in the kernel that a broken service leaves.
 *
 * leak_start() binds in the caller and serves in a child process, because a leak is a matter of processes:
 * one mode stops its process, one hands descriptors to another, and all of them keep descriptors that only an
 * exit gives back. The caller owns a struct leak_backend and ends its processes with leak_stop(); they also
 * end with the thread that started them (PR_SET_PDEATHSIG, prctl(2)). Call leak_start() before other threads
 * exist: the children do not call exec. The other functions may be called from any thread.
 *
 * It refuses to do anything about a leak: an abandoned descriptor is never looked at again, also not when the
 * peer resets the connection. That is what leaking programs do. */

#include "bench/leak_mode.h"

#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Snapshot; the three are read one after the other, not at one moment. */
struct leak_counts {
    uint64_t accepted; /* connections */
    uint64_t requests; /* requests taken; in echo, reads that gave bytes */
    uint64_t held;     /* descriptors of connections that are open now, in whichever process */
};

struct leak_backend;

/* Fills in everything but the address: never-close, echo, backlog 4096, 6 bytes an answer, 1000 ms a byte. */
void leak_options_default(struct leak_options *options);

/* Binds, listens and starts the processes. On success *backend is the caller's, to be ended with leak_stop(),
 * and clients may connect already. On failure nothing is left behind; -errno of the call that failed. */
int leak_start(struct leak_backend **backend, const struct leak_options *options);

/* Ends the processes, however stopped they are, waits for them and frees. The kernel closes what they held.
 */
void leak_stop(struct leak_backend *backend);

/* The address listened on, with the port that the kernel chose. */
const struct sockaddr *leak_address(const struct leak_backend *backend);

/* The process that listens and serves. */
pid_t leak_server(const struct leak_backend *backend);

struct leak_counts leak_counts(const struct leak_backend *backend);

#endif
