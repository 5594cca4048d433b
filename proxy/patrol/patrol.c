#include "proxy/patrol/patrol.h"

#include "proxy/patrol/leaks.h"

#include <netdb.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <uv.h>

/* How often names of servers are resolved anew. */
enum { RESOLVE_MS = 60 * 1000 };

struct patrol {
    uv_loop_t loop;
    uv_thread_t thread;
    uv_async_t wake; /* to be stopped */
    uv_timer_t look, resolve;
    atomic_bool stopping;
    struct leaks *leaks;
    uint64_t interval_ms;
    uv_getaddrinfo_t lookup; /* one name after the other */
    size_t name;             /* the one that is looked up */
    bool looking_up;
};

/* ---- names ---- */

static void resolve_next(struct patrol *patrol);

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *addresses)
{
    struct patrol *patrol = request->data;
    patrol->looking_up = false;
    if (status == 0) /* what was known of a name that can't be resolved now stays known */
        leaks_set_addresses(patrol->leaks, patrol->name, addresses);
    uv_freeaddrinfo(addresses);
    patrol->name++;
    if (!atomic_load(&patrol->stopping))
        resolve_next(patrol);
}

static void resolve_next(struct patrol *patrol)
{
    static const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    for (const char *name; (name = leaks_name(patrol->leaks, patrol->name)); patrol->name++) {
        patrol->lookup.data = patrol;
        patrol->looking_up =
            uv_getaddrinfo(&patrol->loop, &patrol->lookup, on_resolved, name, NULL, &hints) == 0;
        if (patrol->looking_up)
            return;
    }
}

static void on_resolve(uv_timer_t *timer)
{
    struct patrol *patrol = timer->data;
    if (patrol->looking_up)
        return;
    patrol->name = 0;
    resolve_next(patrol);
}

/* ---- the thread ---- */

static void on_look(uv_timer_t *timer)
{
    struct patrol *patrol = timer->data;
    uv_update_time(&patrol->loop);
    leaks_look(patrol->leaks, uv_now(&patrol->loop));
}

static void on_wake(uv_async_t *wake)
{
    struct patrol *patrol = wake->data;
    if (!atomic_load(&patrol->stopping))
        return;
    if (patrol->looking_up)
        uv_cancel((uv_req_t *)&patrol->lookup);
    uv_close((uv_handle_t *)&patrol->wake, NULL);
    uv_close((uv_handle_t *)&patrol->look, NULL);
    uv_close((uv_handle_t *)&patrol->resolve, NULL);
    uv_stop(&patrol->loop);
}

static void work(void *context)
{
    struct patrol *patrol = context;
    uv_timer_start(&patrol->look, on_look, 0, patrol->interval_ms);
    if (leaks_name(patrol->leaks, 0))
        uv_timer_start(&patrol->resolve, on_resolve, 0, RESOLVE_MS);
    uv_run(&patrol->loop, UV_RUN_DEFAULT);
    /* Handles that close, and a cancelled look-up, are called back at once; one that runs is not waited for.
     * */
    for (int i = 0; i < 4 && uv_loop_alive(&patrol->loop); i++)
        uv_run(&patrol->loop, UV_RUN_NOWAIT);
}

static void handles_init(struct patrol *patrol)
{
    uv_timer_init(&patrol->loop, &patrol->look);
    uv_timer_init(&patrol->loop, &patrol->resolve);
    patrol->look.data = patrol->resolve.data = patrol->wake.data = patrol;
}

/* Without its thread. */
static void patrol_free(struct patrol *patrol)
{
    leaks_close(patrol->leaks);
    free(patrol);
}

static int loop_start(struct patrol *patrol)
{
    int error = uv_loop_init(&patrol->loop);
    if (error)
        return error;
    error = uv_async_init(&patrol->loop, &patrol->wake, on_wake);
    if (error) {
        uv_loop_close(&patrol->loop);
        return error;
    }
    handles_init(patrol);
    error = uv_thread_create(&patrol->thread, work, patrol);
    if (error) {
        atomic_store(&patrol->stopping, true);
        on_wake(&patrol->wake);
        uv_run(&patrol->loop, UV_RUN_DEFAULT);
        uv_run(&patrol->loop, UV_RUN_DEFAULT); /* the first one only took note of uv_stop() */
        uv_loop_close(&patrol->loop);
    }
    return error;
}

int patrol_start(const struct conf *conf, struct log_ring *ring, struct patrol **out)
{
    *out = NULL;
    struct patrol *patrol = calloc(1, sizeof *patrol);
    if (!patrol)
        return UV_ENOMEM;
    patrol->interval_ms = conf->reaper.interval_ms;
    int error = leaks_open(conf, ring, &patrol->stopping, &patrol->leaks);
    bool nothing = !error && !patrol->leaks;
    if (!error && !nothing)
        error = loop_start(patrol);
    if (error || nothing) {
        patrol_free(patrol);
        return error;
    }
    *out = patrol;
    return 0;
}

bool patrol_stop(struct patrol *patrol)
{
    if (!patrol)
        return true;
    atomic_store(&patrol->stopping, true);
    uv_async_send(&patrol->wake);
    uv_thread_join(&patrol->thread);
    if (uv_loop_close(&patrol->loop) == UV_EBUSY)
        return false;
    patrol_free(patrol);
    return true;
}
