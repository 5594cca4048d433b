#ifndef TESTS_UNIT_CMOCKA_H
#define TESTS_UNIT_CMOCKA_H

/* cmocka's header needs these four before it; every unit test includes this file instead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Runs each test in a process of its own, with the fixtures of the group around it, and returns how many
 * failed. A test that fails leaves by a jump: its threads, descriptors, children, signals, armed faults and
 * what the threads read of its stack would be the next one's. Its process, and those that it started, end
 * with it. */
int run_apart(const char *group, const struct CMUnitTest *tests, size_t count, CMFixtureFunction setup,
              CMFixtureFunction teardown);

#undef cmocka_run_group_tests
#define cmocka_run_group_tests(tests, setup, teardown)                                                       \
    run_apart(#tests, tests, sizeof(tests) / sizeof(tests)[0], setup, teardown)

#endif
