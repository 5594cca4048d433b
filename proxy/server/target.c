#include "proxy/server/target.h"

#include "proxy/server/rendezvous.h"
#include "proxy/shared/shared.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void free_if_unused(struct target *target)
{
    if (!target->removed || target->sessions > 0 || target->detached > 0)
        return;
    health_leave(target->health);
    free(target);
}

struct target *target_new(struct shared *shared, const struct conf_backend *conf,
                          const struct conf_server *server, const struct conf_address *address,
                          const char *text, struct health_pool *health)
{
    struct target *target = calloc(1, sizeof *target);
    if (!target)
        return NULL;
    target->health = health_join(health, address);
    if (!target->health) {
        free(target);
        return NULL;
    }
    target->shared = shared;
    target->conf = conf;
    target->server = server;
    target->address = *address;
    target->hash = rendezvous_server(address);
    pool_init(&target->pool, shared, conf);
    if (text) {
        snprintf(target->text, sizeof target->text, "%s", text);
    } else {
        union socket_address peer;
        memcpy(peer.bytes, &address->address, sizeof peer.bytes);
        socket_text(&peer, target->text);
    }
    return target;
}

void target_remove(struct target *target)
{
    assert(!target->check);
    target->removed = true;
    target->use = NULL;
    pool_close(&target->pool);
    free_if_unused(target);
}

/* ---- its sessions ---- */

bool target_is_usable(const struct target *target, uint64_t now_ms, uint64_t *due_ms)
{
    *due_ms = target_is_avoided(target, now_ms) ? target->avoid_ms : health_due_ms(target->health, now_ms);
    return *due_ms == 0;
}

bool target_is_avoided(const struct target *target, uint64_t now_ms)
{
    return now_ms < target->avoid_ms;
}

uint32_t target_use(const struct target *target)
{
    return target->conf->balance == CONF_BALANCE_LEASTCONN ? target->sessions : 0;
}

static void note_use(const struct target *target)
{
    if (target->use && lowest_key(target->use, target->index) != LOWEST_NONE)
        lowest_set(target->use, target->index, target_use(target));
}

void target_take(struct target *target)
{
    target->sessions++;
    note_use(target);
}

void target_release(struct target *target)
{
    assert(target->sessions > 0);
    target->sessions--;
    note_use(target);
    free_if_unused(target);
}

void target_detach(struct target *target)
{
    assert(target->sessions > 0);
    target->sessions--;
    target->detached++;
    note_use(target);
}

void target_release_detached(struct target *target)
{
    assert(target->detached > 0);
    target->detached--;
    free_if_unused(target);
}

/* ---- its health ---- */

static void say_set_aside(const struct target *target, int error, uint64_t for_ms)
{
    struct log_ring *log = target->shared->log;
    struct line line;
    if (!log_wants(log, CONF_LOG_WARNING))
        return;
    line_begin(&line, log_format(log), CONF_LOG_WARNING, "server_set_aside");
    line_text(&line, "backend", target->conf->name);
    line_text(&line, "server", target->text);
    line_text(&line, "error", uv_strerror(error));
    line_number(&line, "for_ms", for_ms);
    log_line(log, line_end(&line));
}

static void say_back(const struct target *target)
{
    struct log_ring *log = target->shared->log;
    struct line line;
    if (!log_wants(log, CONF_LOG_INFO))
        return;
    line_begin(&line, log_format(log), CONF_LOG_INFO, "server_back");
    line_text(&line, "backend", target->conf->name);
    line_text(&line, "server", target->text);
    log_line(log, line_end(&line));
}

void target_tell(struct target *target, int error)
{
    if (error == 0 && health_succeeded(target->health))
        say_back(target);
    if (error == 0 || !health_is_servers(error))
        return;
    uint64_t for_ms = health_failed(target->health, target->conf, loop_now_ms(&target->shared->loop));
    if (for_ms > 0)
        say_set_aside(target, error, for_ms);
}
