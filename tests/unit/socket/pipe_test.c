#include "tests/unit/cmocka.h"

#include "proxy/socket/pipe.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

static void a_borrowed_pipe_holds_what_it_says(void **state)
{
    struct pipe_pool pool = {0};
    (void)state;
    struct pipe *pipe = pipe_borrow(&pool);
    assert_non_null(pipe);
    assert_int_equal(pipe->bytes, 0);
    assert_true(pipe->size >= 1 << 16);
    assert_int_equal(fcntl(pipe->write_fd, F_GETPIPE_SZ), pipe->size);
    assert_true(fcntl(pipe->read_fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(pipe->write_fd, F_GETFD) & FD_CLOEXEC);
    pipe_return(&pool, pipe);
    pipe_pool_free(&pool);
}

static void an_empty_pipe_is_lent_again(void **state)
{
    struct pipe_pool pool = {0};
    (void)state;
    struct pipe *first = pipe_borrow(&pool);
    pipe_return(&pool, first);
    assert_ptr_equal(pipe_borrow(&pool), first);
    assert_int_equal(pool.count, 1);
    pipe_return(&pool, first);
    pipe_pool_free(&pool);
}

static void a_pipe_with_bytes_in_it_is_closed(void **state)
{
    struct pipe_pool pool = {0};
    (void)state;
    struct pipe *pipe = pipe_borrow(&pool);
    int fd = pipe->read_fd;
    assert_int_equal(write(pipe->write_fd, "x", 1), 1);
    pipe->bytes = 1;
    pipe_return(&pool, pipe);
    assert_int_equal(pool.count, 0);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    pipe_pool_free(&pool);
}

static void a_pool_lends_so_many_and_no_more(void **state)
{
    struct pipe_pool pool = {0};
    struct pipe *pipes[PIPES_MAX];
    size_t count = 0;
    (void)state;
    /* Fewer where fs.pipe-user-pages-soft is lower. */
    while (count < PIPES_MAX && (pipes[count] = pipe_borrow(&pool)))
        count++;
    assert_true(count > 0);
    assert_null(pipe_borrow(&pool));
    assert_int_equal(pool.count, count);
    while (count > 0)
        pipe_return(&pool, pipes[--count]);
    assert_non_null(pool.idle);
    pipe_pool_free(&pool);
    assert_null(pool.idle);
}

static void without_descriptors_there_is_no_pipe(void **state)
{
    struct pipe_pool pool = {0};
    struct rlimit before, none;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    assert_null(pipe_borrow(&pool));
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(pool.count, 0);
    struct pipe *pipe = pipe_borrow(&pool);
    assert_non_null(pipe);
    pipe_return(&pool, pipe);
    pipe_pool_free(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_borrowed_pipe_holds_what_it_says),
        cmocka_unit_test(an_empty_pipe_is_lent_again),
        cmocka_unit_test(a_pipe_with_bytes_in_it_is_closed),
        cmocka_unit_test(a_pool_lends_so_many_and_no_more),
        cmocka_unit_test(without_descriptors_there_is_no_pipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
