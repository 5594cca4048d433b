#include "proxy/plane/backend.h"

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

static void target_drop(struct target *target)
{
    target->retired = true;
    if (target->sessions == 0)
        free(target);
}

static struct target *target_new(const struct conf_address *address, const char *text)
{
    struct target *target = calloc(1, sizeof *target);
    if (!target)
        return NULL;
    target->address = *address;
    if (text) {
        snprintf(target->text, sizeof target->text, "%s", text);
    } else {
        union socket_address peer;
        memcpy(peer.bytes, &address->address, sizeof peer.bytes);
        socket_text(&peer, target->text);
    }
    return target;
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
    return target_new(address, NULL);
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
    int error = uv_getaddrinfo(&server->backend->worker->loop, &server->request, on_resolved,
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
    server->targets[0] = target_new(&conf->address, conf->text);
    if (!server->targets[0])
        return -ENOMEM;
    server->target_count = 1;
    return 0;
}

int backend_init(struct backend *backend, const struct conf_backend *conf, struct worker *worker)
{
    memset(backend, 0, sizeof *backend);
    backend->conf = conf;
    backend->worker = worker;
    backend->next = worker->index; /* workers do not all begin with the same server */
    backend->servers = calloc(conf->server_count, sizeof *backend->servers);
    if (!backend->servers)
        return -ENOMEM;
    uv_timer_init(&worker->loop, &backend->timer);
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

/* Round robin among those with the fewest sessions, so that a fresh server is not the only one tried. */
static size_t least_used(const struct backend *backend, size_t count)
{
    size_t best = backend->next % count;
    for (size_t i = 1; i < count; i++) {
        size_t at = (backend->next + i) % count;
        if (target_at(backend, at)->sessions < target_at(backend, best)->sessions)
            best = at;
    }
    return best;
}

static size_t behind(const struct backend *backend, const struct target *previous, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (target_at(backend, i) == previous)
            return (i + 1) % count;
    return 0; /* it was retired meanwhile */
}

static size_t choose(struct backend *backend, const union socket_address *client, size_t count)
{
    size_t index = 0;
    switch (backend->conf->balance) {
    case CONF_BALANCE_ROUNDROBIN:
        return backend->next++ % count;
    case CONF_BALANCE_LEASTCONN:
        index = least_used(backend, count);
        backend->next++;
        return index;
    case CONF_BALANCE_SOURCE:
        return source_hash(client) % count;
    }
    assert(false && "a balance of the table");
    return index;
}

struct target *backend_pick(struct backend *backend, const union socket_address *client,
                            const struct target *previous)
{
    size_t count = backend_targets(backend);
    if (count == 0)
        return NULL;
    size_t index = previous ? behind(backend, previous, count) : choose(backend, client, count);
    struct target *target = target_at(backend, index);
    target->sessions++;
    return target;
}

void backend_release(struct target *target)
{
    assert(target->sessions > 0);
    target->sessions--;
    if (target->retired && target->sessions == 0)
        free(target);
}

/* ---- the end ---- */

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
