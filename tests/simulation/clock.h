#ifndef TESTS_SIMULATION_CLOCK_H
#define TESTS_SIMULATION_CLOCK_H

/* libuv, as far as proxy/loop/ uses it, on the time of the simulation: what it would call is called, but
 * nothing ever waits and no system call is made. One loop at a time; one thread. uv_run() runs one pass and
 * says whether there is more to do in this millisecond. */

#include <stdint.h>
#include <uv.h>

/* When the loop's timer is due; UINT64_MAX: it is not set. */
uint64_t clock_next_ms(const uv_loop_t *loop);

#endif
