#ifndef TESTS_SIMULATION_STREAM_H
#define TESTS_SIMULATION_STREAM_H

/* Bytes that are known from where they stand, and peers that talk in one stream of them each way.
 *
 * Streams repeat a table of a prime length, so that no buffer size hides a shift; each begins in it where its
 * salt says, and no two of a batch begin at the same place. */

#include "tests/simulation/network.h"

/* A salt for the nth stream of a batch. */
uint64_t stream_salt(size_t nth);

void stream_write(uint64_t salt, uint64_t offset, unsigned char *bytes, size_t size);
bool stream_matches(uint64_t salt, uint64_t offset, const unsigned char *bytes, size_t size);

/* Peers whose behaviour is all in struct behaviour. */
extern const struct application stream_peers;

#endif
