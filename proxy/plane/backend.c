#include "proxy/plane/backend.h"

#include "proxy/plane/check.h"
#include "proxy/plane/worker.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* More addresses than this of one name are not used. */
enum { TARGETS_MAX = 256 };

static void free_if_unused(struct target *target)
{
    if (!target->retired || target->sessions > 0 || target->resting > 0)
        return;
    health_leave(target->server->backend->health, target->health);
    free(target);
}

static void target_drop(struct target *target)
{
    target->retired = true;
    check_stop(target->check);
    target->check = NULL;
    pool_close(&target->pool);
    free_if_unused(target);
}

static struct target *target_new(struct server *server, const struct conf_address *address, const char *text)
{
    struct target *target = calloc(1, sizeof *target);
    if (!target)
        return NULL;
    target->health = health_join(server->backend->health, address);
    if (!target->health) {
        free(target);
        return NULL;
    }
    target->server = server;
    target->address = *address;
    pool_init(&target->pool, server->backend->worker, server->backend->conf);
    if (text) {
        snprintf(target->text, sizeof target->text, "%s", text);
    } else {
        union socket_address peer;
        memcpy(peer.bytes, &address->address, sizeof peer.bytes);
        socket_text(&peer, target->text);
    }
    return target;
}

/* Starts the checks that are to be and are not. */
static int start_checks(struct server *server)
{
    for (size_t i = 0; server->backend->checks && i < server->target_count; i++) {
        struct target *target = server->targets[i];
        if (!target->check)
            target->check = check_start(server->backend, target);
        if (!target->check)
            return -ENOMEM;
    }
    return 0;
}

/* ---- names ---- */

static bool same_address(const struct target *target, const struct conf_address *address)
{
    return target->address.length == address->length &&
           memcmp(&target->address.address, &address->address, address->length) == 0;
}

/* The server's present target with this address, taken out of its list, or a new one. */
static struct target *take_target(struct server *server, const struct conf_address *address)
{
    for (size_t i = 0; i < server->target_count; i++) {
        struct target *target = server->targets[i];
        if (target && same_address(target, address)) {
            server->targets[i] = NULL;
            return target;
        }
    }
    return target_new(server, address, NULL);
}

static bool is_among(struct target *const *targets, size_t count, const struct conf_address *address)
{
    for (size_t i = 0; i < count; i++)
        if (same_address(targets[i], address))
            return true;
    return false;
}

/* Replaces the server's targets by the addresses found; sessions of those that stay keep their counts. */
static int server_update(struct server *server, const struct addrinfo *found)
{
    struct target **targets = calloc(TARGETS_MAX, sizeof(struct target *));
    size_t count = 0;
    if (!targets)
        return -ENOMEM;
    for (const struct addrinfo *a = found; a && count < TARGETS_MAX; a = a->ai_next) {
        struct conf_address address = {.length = (socklen_t)a->ai_addrlen};
        memcpy(&address.address, a->ai_addr, a->ai_addrlen);
        if (is_among(targets, count, &address))
            continue;
        targets[count] = take_target(server, &address);
        if (targets[count])
            count++;
    }
    for (size_t i = 0; i < server->target_count; i++)
        if (server->targets[i])
            target_drop(server->targets[i]);
    free(server->targets);
    server->targets = targets;
    server->target_count = count;
    (void)start_checks(server); /* out of memory now: after the next answer */
    return 0;
}

static void became_ready(struct backend *backend)
{
    if (backend->ready || backend->waiting > 0)
        return;
    backend->ready = true;
    worker_backend_ready(backend->worker);
}

static void say_unresolved(const struct server *server, const char *why)
{
    struct log_ring *log = server->backend->worker->log;
    struct line line;
    line_begin(&line, log_format(log), CONF_LOG_WARNING, "not_resolved");
    line_text(&line, "backend", server->backend->conf->name);
    line_text(&line, "server", server->conf->text);
    line_text(&line, "error", why);
    line_number(&line, "addresses_kept", server->target_count);
    log_line(log, line_end(&line));
    log_flush(log);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct server *server = request->data;
    struct backend *backend = server->backend;
    server->resolving = false;
    if (!status)
        status = server_update(server, found);
    uv_freeaddrinfo(found);
    if (status && status != UV_ECANCELED)
        say_unresolved(server, uv_strerror(status));
    if (!server->answered) {
        server->answered = true;
        backend->waiting--;
    }
    became_ready(backend);
}

static int server_resolve(struct server *server)
{
    char port[8];
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    if (server->resolving)
        return 0;
    snprintf(port, sizeof port, "%u", server->conf->port);
    server->request.data = server;
    int error = uv_getaddrinfo(&server->backend->worker->loop.uv, &server->request, on_resolved,
                               server->conf->host, port, &hints);
    server->resolving = error == 0;
    return error;
}

static void on_interval(uv_timer_t *timer)
{
    struct backend *backend = timer->data;
    for (size_t i = 0; i < backend->conf->server_count; i++)
        if (backend->servers[i].conf->host)
            (void)server_resolve(&backend->servers[i]); /* out of memory now: the next interval comes */
}

static int server_init(struct server *server, struct backend *backend, const struct conf_server *conf)
{
    server->backend = backend;
    server->conf = conf;
    if (conf->host) {
        backend->waiting++;
        return server_resolve(server);
    }
    server->targets = calloc(1, sizeof(struct target *));
    if (!server->targets)
        return -ENOMEM;
    server->targets[0] = target_new(server, &conf->address, conf->text);
    if (!server->targets[0])
        return -ENOMEM;
    server->target_count = 1;
    return start_checks(server);
}

int backend_init(struct backend *backend, const struct conf_backend *conf, struct health_pool *health,
                 struct worker *worker)
{
    memset(backend, 0, sizeof *backend);
    backend->conf = conf;
    backend->worker = worker;
    backend->health = health;
    backend->checks = worker->index == 0 && conf->check.kind != CONF_CHECK_OFF;
    backend->next = worker->index; /* workers do not all begin with the same server */
    backend->servers = calloc(conf->server_count, sizeof *backend->servers);
    if (!backend->servers)
        return -ENOMEM;
    uv_timer_init(&worker->loop.uv, &backend->timer);
    backend->timer.data = backend;
    int error = 0;
    for (size_t i = 0; i < conf->server_count && !error; i++)
        error = server_init(&backend->servers[i], backend, &conf->servers[i]);
    if (error)
        return error;
    if (backend->waiting > 0 && conf->resolve_interval_ms != DEADLINE_OFF)
        uv_timer_start(&backend->timer, on_interval, conf->resolve_interval_ms, conf->resolve_interval_ms);
    became_ready(backend);
    return 0;
}

/* ---- choosing ---- */

size_t backend_targets(const struct backend *backend)
{
    size_t count = 0;
    for (size_t i = 0; i < backend->conf->server_count; i++)
        count += backend->servers[i].target_count;
    return count;
}

static struct target *target_at(const struct backend *backend, size_t index)
{
    for (size_t i = 0; i < backend->conf->server_count; i++) {
        const struct server *server = &backend->servers[i];
        if (index < server->target_count)
            return server->targets[index];
        index -= server->target_count;
    }
    return NULL;
}

/* FNV-1a over the client's address without its port, so that a client stays with its server. */
static size_t source_hash(const union socket_address *client)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    size_t first = 0, size = 0;
    if (client->family == AF_INET) {
        first = offsetof(struct sockaddr_in, sin_addr);
        size = sizeof(struct in_addr);
    } else if (client->family == AF_INET6) {
        first = offsetof(struct sockaddr_in6, sin6_addr);
        size = sizeof(struct in6_addr);
    }
    for (size_t i = first; i < first + size; i++)
        hash = (hash ^ client->bytes[i]) * UINT64_C(1099511628211);
    return (size_t)(hash ^ (hash >> 32));
}

static bool may_serve(const struct target *target, uint64_t now_ms)
{
    return health_due_ms(target->health, now_ms) == 0;
}

/* Of those that may serve the first from `index` on, round to the one before it; not `failed`. */
static struct target *first_from(const struct backend *backend, size_t index, size_t count,
                                 const struct target *failed, uint64_t now_ms)
{
    for (size_t i = 0; i < count; i++) {
        struct target *target = target_at(backend, (index + i) % count);
        if (target != failed && may_serve(target, now_ms))
            return target;
    }
    return NULL;
}

/* Those left out must not give all their turns to the one behind them. */
static struct target *in_turn(struct backend *backend, size_t count, uint64_t now_ms)
{
    for (size_t i = 0; i < count; i++) {
        struct target *target = target_at(backend, backend->next++ % count);
        if (may_serve(target, now_ms))
            return target;
    }
    return NULL;
}

/* Round robin among those with the fewest sessions, so that a fresh server is not the only one tried. */
static struct target *least_used(struct backend *backend, size_t count, uint64_t now_ms)
{
    struct target *best = NULL;
    for (size_t i = 0; i < count; i++) {
        struct target *target = target_at(backend, (backend->next + i) % count);
        if (may_serve(target, now_ms) && (!best || target->sessions < best->sessions))
            best = target;
    }
    backend->next++;
    return best;
}

static struct target *choose(struct backend *backend, const union socket_address *client, size_t count,
                             uint64_t now_ms)
{
    switch (backend->conf->balance) {
    case CONF_BALANCE_ROUNDROBIN:
        return in_turn(backend, count, now_ms);
    case CONF_BALANCE_LEASTCONN:
        return least_used(backend, count, now_ms);
    case CONF_BALANCE_SOURCE:
        return first_from(backend, source_hash(client) % count, count, NULL, now_ms);
    }
    assert(false && "a balance of the table");
    return NULL;
}

static size_t behind(const struct backend *backend, const struct target *previous, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (target_at(backend, i) == previous)
            return (i + 1) % count;
    return 0; /* it was retired meanwhile */
}

/* Nobody may serve: who is due back first, those that are down behind all others. */
static struct target *due_first(const struct backend *backend, size_t count, uint64_t now_ms)
{
    struct target *first = target_at(backend, 0);
    for (size_t i = 1; i < count; i++) {
        struct target *target = target_at(backend, i);
        if (health_due_ms(target->health, now_ms) < health_due_ms(first->health, now_ms))
            first = target;
    }
    return first;
}

/* Nobody may serve, and one has just failed: a session whose attempts all fail is to try each of them. */
static struct target *tried_longest_ago(const struct backend *backend, size_t count)
{
    struct target *first = target_at(backend, 0);
    for (size_t i = 1; i < count; i++)
        if (target_at(backend, i)->tried < first->tried)
            first = target_at(backend, i);
    return first;
}

struct target *backend_pick(struct backend *backend, const union socket_address *client,
                            const struct target *previous)
{
    uint64_t now_ms = loop_now_ms(&backend->worker->loop);
    size_t count = backend_targets(backend);
    if (count == 0)
        return NULL;
    struct target *target =
        previous ? first_from(backend, behind(backend, previous, count), count, previous, now_ms)
                 : choose(backend, client, count, now_ms);
    if (!target)
        target = previous ? tried_longest_ago(backend, count) : due_first(backend, count, now_ms);
    health_try(target->health, backend->conf, now_ms);
    target->tried = ++backend->tries;
    target->sessions++;
    return target;
}

void backend_release(struct target *target)
{
    assert(target->sessions > 0);
    target->sessions--;
    free_if_unused(target);
}

void backend_rest(struct target *target)
{
    assert(target->sessions > 0);
    target->sessions--;
    target->resting++;
}

void backend_forget(struct target *target)
{
    assert(target->resting > 0);
    target->resting--;
    free_if_unused(target);
}

static void say_set_aside(const struct target *target, int error, uint64_t for_ms)
{
    const struct backend *backend = target->server->backend;
    struct log_ring *log = backend->worker->log;
    struct line line;
    if (!log_wants(log, CONF_LOG_WARNING))
        return;
    line_begin(&line, log_format(log), CONF_LOG_WARNING, "server_set_aside");
    line_text(&line, "backend", backend->conf->name);
    line_text(&line, "server", target->text);
    line_text(&line, "error", uv_strerror(error));
    line_number(&line, "for_ms", for_ms);
    log_line(log, line_end(&line));
}

static void say_back(const struct target *target)
{
    const struct backend *backend = target->server->backend;
    struct log_ring *log = backend->worker->log;
    struct line line;
    if (!log_wants(log, CONF_LOG_INFO))
        return;
    line_begin(&line, log_format(log), CONF_LOG_INFO, "server_back");
    line_text(&line, "backend", backend->conf->name);
    line_text(&line, "server", target->text);
    log_line(log, line_end(&line));
}

void backend_tell(struct target *target, int error)
{
    const struct backend *backend = target->server->backend;
    if (error == 0 && health_succeeded(target->health))
        say_back(target);
    if (error == 0 || !health_is_servers(error))
        return;
    uint64_t for_ms = health_failed(target->health, backend->conf, loop_now_ms(&backend->worker->loop));
    if (for_ms > 0)
        say_set_aside(target, error, for_ms);
}

/* ---- the end ---- */

void backend_stop_checks(struct backend *backend)
{
    backend->checks = false;
    for (size_t i = 0; i < backend->conf->server_count; i++)
        for (size_t t = 0; t < backend->servers[i].target_count; t++) {
            struct target *target = backend->servers[i].targets[t];
            check_stop(target->check);
            target->check = NULL;
        }
}

void backend_close(struct backend *backend)
{
    if (!backend->servers)
        return;
    uv_close((uv_handle_t *)&backend->timer, NULL);
    for (size_t i = 0; i < backend->conf->server_count; i++)
        if (backend->servers[i].resolving)
            (void)uv_cancel((uv_req_t *)&backend->servers[i].request);
}

bool backend_is_resolving(const struct backend *backend)
{
    for (size_t i = 0; backend->servers && i < backend->conf->server_count; i++)
        if (backend->servers[i].resolving)
            return true;
    return false;
}

void backend_free(struct backend *backend)
{
    if (!backend->servers)
        return;
    for (size_t i = 0; i < backend->conf->server_count; i++) {
        struct server *server = &backend->servers[i];
        for (size_t t = 0; t < server->target_count; t++)
            target_drop(server->targets[t]);
        free(server->targets);
    }
    free(backend->servers);
    backend->servers = NULL;
}
