#include "tests/unit/cmocka.h"

#include "tests/unit/faults.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* A test that fails in every way that it can, and one behind it that looks for what is left. */

static int note[2]; /* a pipe: the number of the process that the first one started */
static bool touched;

static void *wait_for_ever(void *context)
{
    for (;;)
        pause();
    return context;
}

static void one_fails_with_everything_open(void **state)
{
    pthread_t thread;
    (void)state;
    pid_t child = fork();
    if (child == 0)
        (void)wait_for_ever(NULL);
    assert_int_equal(write(note[1], &child, sizeof child), sizeof child);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_ever, NULL), 0);
    (void)signal(SIGTERM, SIG_IGN);
    touched = true;
    assert_int_equal(close(STDIN_FILENO), 0);
    fault_arm(FAULT_MEMORY, FAULT_MINE, ENOMEM, 1, 1000000);
    fail();
}

static void one_dies(void **state)
{
    (void)state;
    (void)signal(SIGABRT, SIG_DFL);
    abort();
}

static void the_next_finds_nothing_of_it(void **state)
{
    struct sigaction action;
    pid_t child;
    (void)state;
    assert_int_equal(read(note[0], &child, sizeof child), sizeof child);
    assert_int_equal(kill(child, 0), -1);
    assert_int_equal(errno, ESRCH);
    assert_int_equal(sigaction(SIGTERM, NULL, &action), 0);
    assert_true(action.sa_handler == SIG_DFL);
    assert_false(touched);
    assert_true(fcntl(STDIN_FILENO, F_GETFD) >= 0);
    void *memory = malloc(1);
    assert_non_null(memory);
    free(memory);
}

/* The outer ring is no test of cmocka's, for there two are meant to fail. */
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_fails_with_everything_open),
        cmocka_unit_test(one_dies),
        cmocka_unit_test(the_next_finds_nothing_of_it),
    };
    if (pipe2(note, O_CLOEXEC))
        return EXIT_FAILURE;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    printf("two of these are meant to fail\n");
    return failed == 2 ? EXIT_SUCCESS : EXIT_FAILURE;
}
