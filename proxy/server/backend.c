#include "proxy/server/backend.h"

#include "proxy/server/check.h"
#include "proxy/server/resolve.h"
#include "reaper/container.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* For how long nothing is sent to an address that was found to lead back: it may have come to this host only
 * for a time. */
enum { AVOID_MS = 10000 };

/* How soon addresses that there was no memory for are looked at again. */
enum { AGAIN_MS = 100 };

/* The addresses of one configured server. */
struct server {
    const struct conf_server *conf;
    const struct resolve_name *name; /* NULL: it is none */
    uint64_t seen;                   /* of the resolver's answers; 0: none yet */
    struct target **targets;
    size_t target_count;
};

static void drop(struct target *target)
{
    check_stop(target->check);
    target->check = NULL;
    target_remove(target);
}

/* Starts the checks that are to be and are not. */
static int start_checks(const struct backend *backend, struct server *server)
{
    for (size_t i = 0; backend->checks && i < server->target_count; i++) {
        struct target *target = server->targets[i];
        if (!target->check)
            target->check = check_start(target);
        if (!target->check)
            return -ENOMEM;
    }
    return 0;
}

/* ---- which targets there are ---- */

static struct target *target_of(const struct server *server, const struct conf_address *address)
{
    for (size_t i = 0; i < server->target_count; i++) {
        const struct conf_address *its = &server->targets[i]->address;
        if (its->length == address->length && memcmp(&its->address, &address->address, its->length) == 0)
            return server->targets[i];
    }
    return NULL;
}

/* All targets, with these for those of the server. */
static int rebalance(struct backend *backend, const struct server *server, struct target *const *targets,
                     size_t count)
{
    size_t total = backend->balance.count - server->target_count + count, at = 0;
    struct target **all = calloc(total + 1, sizeof(struct target *));
    if (!all)
        return -ENOMEM;
    for (size_t s = 0; s < backend->conf->server_count; s++) {
        const struct server *each = &backend->servers[s];
        bool is_it = each == server;
        for (size_t i = 0; i < (is_it ? count : each->target_count); i++)
            all[at++] = is_it ? targets[i] : each->targets[i];
    }
    int error = balance_replace(&backend->balance, all, total);
    if (error)
        free(all);
    return error;
}

static void remove_others(struct target *const *targets, size_t count, struct target *const *stay,
                          size_t stay_count)
{
    for (size_t i = 0; i < count; i++) {
        bool stays = false;
        for (size_t j = 0; j < stay_count && !stays; j++)
            stays = stay[j] == targets[i];
        if (!stays)
            drop(targets[i]);
    }
}

/* Replaces the server's targets by these addresses; sessions of those that stay keep their counts. Nothing
 * has changed when there is no memory for it. */
static int replace(struct backend *backend, struct server *server, const struct conf_address *addresses,
                   size_t count, const char *text)
{
    struct target **targets = calloc(count + 1, sizeof(struct target *));
    size_t made = 0;
    int error = targets ? 0 : -ENOMEM;
    for (; made < count && !error; made += !error) {
        targets[made] = target_of(server, &addresses[made]);
        if (!targets[made])
            targets[made] = target_new(backend->shared, backend->conf, server->conf, &addresses[made], text,
                                       backend->health);
        error = targets[made] ? 0 : -ENOMEM;
        if (!error)
            targets[made]->may_lead_back = resolve_may_lead_back(backend->resolver, &addresses[made]);
    }
    if (!error)
        error = rebalance(backend, server, targets, count);
    if (error) {
        remove_others(targets, made, server->targets, server->target_count);
        free(targets);
        return error;
    }
    struct target **before = server->targets;
    size_t before_count = server->target_count;
    server->targets = targets;
    server->target_count = count;
    remove_others(before, before_count, targets, count);
    free(before);
    return start_checks(backend, server);
}

/* ---- names ---- */

static void become_ready(struct backend *backend)
{
    bool waits = backend->balance.count == 0;
    if (backend->ready)
        return;
    for (size_t i = 0; i < backend->conf->server_count && waits; i++)
        if (backend->servers[i].name && backend->servers[i].seen == 0)
            return;
    backend->ready = true;
    backend->shared->backend_ready(backend->shared, backend);
}

/* The list stays the resolver's. */
static int server_update(struct backend *backend, struct server *server)
{
    uint64_t seen = server->seen;
    struct resolve_list *list;
    if (!server->name || !resolve_look(backend->resolver, server->name, &seen, &list))
        return start_checks(backend, server);
    int error = list ? replace(backend, server, list->addresses, list->count, NULL) : 0;
    resolve_give_back(list);
    if (!error)
        server->seen = seen;
    return error;
}

void backend_update(struct backend *backend)
{
    int error = 0;
    for (size_t i = 0; i < backend->conf->server_count; i++) {
        int its = server_update(backend, &backend->servers[i]);
        error = error ? error : its;
    }
    if (error)
        loop_set_alarm(&backend->shared->loop, &backend->again,
                       loop_now_ms(&backend->shared->loop) + AGAIN_MS);
    become_ready(backend);
}

static void on_again(struct alarm *alarm)
{
    backend_update(CONTAINER(struct backend, again, alarm));
}

/* ---- life ---- */

static int server_init(struct server *server, struct backend *backend, const struct conf_server *conf)
{
    server->conf = conf;
    if (!conf->host)
        return replace(backend, server, &conf->address, 1, conf->text);
    server->name = resolve_find(backend->resolver, conf);
    return 0;
}

int backend_init(struct backend *backend, const struct conf_backend *conf, struct health_pool *health,
                 struct resolver *resolver, struct shared *shared)
{
    *backend = (struct backend){.conf = conf,
                                .shared = shared,
                                .health = health,
                                .resolver = resolver,
                                .again.ring = on_again,
                                .checks = shared->index == 0 && conf->check.kind != CONF_CHECK_OFF};
    balance_init(&backend->balance, conf, health, shared->index); /* not all begin with the same server */
    backend->servers = calloc(conf->server_count, sizeof *backend->servers);
    if (!backend->servers)
        return -ENOMEM;
    int error = 0;
    for (size_t i = 0; i < conf->server_count && !error; i++)
        error = server_init(&backend->servers[i], backend, &conf->servers[i]);
    if (!error)
        backend_update(backend);
    return error;
}

size_t backend_target_count(const struct backend *backend)
{
    return backend->balance.count;
}

struct target *backend_pick(struct backend *backend, const union socket_address *client,
                            const struct target *previous)
{
    return balance_pick(&backend->balance, client, previous, loop_now_ms(&backend->shared->loop));
}

static void say_leads_back(const struct target *target)
{
    struct log_ring *log = target->shared->log;
    struct line line;
    line_begin(&line, log_format(log), CONF_LOG_WARNING, "leads_back");
    line_text(&line, "backend", target->conf->name);
    line_text(&line, "server", target->text);
    line_text(&line, "error",
              "avoided: a frontend of this proxy listens there and leads back to this backend");
    line_number(&line, "for_ms", AVOID_MS);
    log_line(log, line_end(&line));
}

bool backend_leads_back(struct backend *backend, struct target *target, int fd)
{
    if (!target->may_lead_back || !socket_is_to_this_host(fd, &target->address) ||
        !resolve_leads_back(backend->resolver, backend->conf, &target->address))
        return false;
    say_leads_back(target);
    balance_avoid(&backend->balance, target, loop_now_ms(&backend->shared->loop) + AVOID_MS);
    return true;
}

void backend_stop_checks(struct backend *backend)
{
    backend->checks = false;
    for (size_t i = 0; i < backend->balance.count; i++) {
        check_stop(backend->balance.targets[i]->check);
        backend->balance.targets[i]->check = NULL;
    }
}

void backend_free(struct backend *backend)
{
    if (!backend->servers)
        return;
    loop_clear_alarm(&backend->shared->loop, &backend->again);
    for (size_t i = 0; i < backend->conf->server_count; i++) {
        struct server *server = &backend->servers[i];
        for (size_t t = 0; t < server->target_count; t++)
            drop(server->targets[t]);
        free(server->targets);
    }
    balance_free(&backend->balance);
    free(backend->servers);
    backend->servers = NULL;
}
