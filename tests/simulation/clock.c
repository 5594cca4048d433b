#include "tests/simulation/clock.h"

#include "tests/simulation/network.h"

#include <string.h>

/* The handles of the loop. */
static uv_timer_t *timer;
static uv_idle_t *idle;

int uv_loop_init(uv_loop_t *loop)
{
    (void)loop;
    return 0;
}

int uv_loop_close(uv_loop_t *loop)
{
    (void)loop;
    return 0;
}

uint64_t uv_now(const uv_loop_t *loop)
{
    (void)loop;
    return network.now_ms;
}

void uv_update_time(uv_loop_t *loop)
{
    (void)loop; /* a pass is one moment of the network's: what is due is judged by its beginning */
}

uint64_t uv_hrtime(void)
{
    network_take_time();
    return network_clock_ms() * 1000000;
}

int uv_timer_init(uv_loop_t *loop, uv_timer_t *handle)
{
    (void)loop;
    handle->timer_cb = NULL;
    timer = handle;
    return 0;
}

int uv_timer_start(uv_timer_t *handle, uv_timer_cb callback, uint64_t timeout_ms, uint64_t repeat_ms)
{
    (void)repeat_ms;
    handle->timer_cb = callback;
    handle->timeout = network.now_ms + timeout_ms;
    return 0;
}

int uv_idle_init(uv_loop_t *loop, uv_idle_t *handle)
{
    (void)loop;
    handle->idle_cb = NULL;
    idle = handle;
    return 0;
}

int uv_idle_start(uv_idle_t *handle, uv_idle_cb callback)
{
    handle->idle_cb = callback;
    return 0;
}

int uv_idle_stop(uv_idle_t *handle)
{
    handle->idle_cb = NULL;
    return 0;
}

void uv_close(uv_handle_t *handle, uv_close_cb callback)
{
    (void)handle;
    (void)callback;
}

int uv_is_closing(const uv_handle_t *handle)
{
    (void)handle;
    return 0;
}

uint64_t clock_next_ms(const uv_loop_t *loop)
{
    (void)loop;
    return timer->timer_cb ? timer->timeout : UINT64_MAX;
}

int uv_run(uv_loop_t *loop, uv_run_mode mode)
{
    (void)mode;
    if (idle->idle_cb)
        idle->idle_cb(idle);
    if (clock_next_ms(loop) <= network.now_ms) {
        uv_timer_cb callback = timer->timer_cb;
        timer->timer_cb = NULL;
        callback(timer);
    }
    return idle->idle_cb != NULL;
}

const char *uv_strerror(int error)
{
    return strerror(-error);
}
