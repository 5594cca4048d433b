#include "proxy/server/resolve.h"

#include "conf/loop.h"
#include "proxy/socket/socket.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

/* Of libuv, unless the environment says otherwise (UV_THREADPOOL_SIZE). */
enum { THREADS_DEFAULT = 4 };

struct resolve_name {
    struct resolver *resolver;
    const struct conf_backend *backend;
    const struct conf_server *server;
    uint64_t version;          /* under the mutex, as is the list: changes so far; 0: not answered */
    struct resolve_list *list; /* NULL: none yet */
    uv_getaddrinfo_t request;  /* this, and all below: the loop's thread */
    uv_timer_t timer;
    bool asking;
    unsigned failures; /* in a row */
    bool leads_back;   /* an address of the last answer did, which was said */
};

struct resolver {
    const struct conf *conf;
    pthread_mutex_t mutex;
    struct resolve_subscriber *subscribers;
    struct resolve_name *names; /* in the order of the configuration */
    size_t name_count;
    uv_loop_t *loop; /* NULL: not started */
    size_t timers;   /* of the first names, that there are handles of */
    bool closing;
    struct log_ring *log;
};

/* ---- lists ---- */

void resolve_give_back(struct resolve_list *list)
{
    if (list && atomic_fetch_sub_explicit(&list->holders, 1, memory_order_acq_rel) == 1)
        free(list);
}

static bool is_same(const struct conf_address *one, const struct conf_address *other)
{
    return one->length == other->length && memcmp(&one->address, &other->address, one->length) == 0;
}

static bool holds(const struct resolve_list *list, const struct conf_address *address)
{
    for (size_t i = 0; i < list->count; i++)
        if (is_same(&list->addresses[i], address))
            return true;
    return false;
}

static struct conf_address address_of(const struct addrinfo *info)
{
    struct conf_address address = {.length = (socklen_t)info->ai_addrlen};
    memcpy(&address.address, info->ai_addr, info->ai_addrlen);
    return address;
}

static bool was_found(const struct addrinfo *found, const struct conf_address *address)
{
    for (const struct addrinfo *info = found; info; info = info->ai_next) {
        struct conf_address each = address_of(info);
        if (is_same(&each, address))
            return true;
    }
    return false;
}

static void append(struct resolve_list *list, const struct conf_address *address)
{
    if (list->count < RESOLVE_ADDRESSES_MAX && !holds(list, address))
        list->addresses[list->count++] = *address;
}

/* What was found: first, in their order, the addresses that were known before. NULL: out of memory. */
static struct resolve_list *list_of(const struct addrinfo *found, const struct resolve_list *before)
{
    struct resolve_list *list = calloc(1, sizeof *list + RESOLVE_ADDRESSES_MAX * sizeof list->addresses[0]);
    if (!list)
        return NULL;
    atomic_init(&list->holders, 1);
    for (size_t i = 0; before && i < before->count; i++)
        if (was_found(found, &before->addresses[i]))
            append(list, &before->addresses[i]);
    for (const struct addrinfo *info = found; info && list->count < RESOLVE_ADDRESSES_MAX;
         info = info->ai_next) {
        struct conf_address address = address_of(info);
        append(list, &address);
    }
    return list;
}

static bool is_as_before(const struct resolve_list *list, const struct resolve_list *before)
{
    if (!before || list->count != before->count)
        return false;
    for (size_t i = 0; i < list->count; i++)
        if (!is_same(&list->addresses[i], &before->addresses[i]))
            return false;
    return true;
}

/* ---- publishing ---- */

/* A list of NULL leaves the one that there is. Workers are woken under the mutex, so that none of them is
 * told of anything after it has unsubscribed. */
static void publish(struct resolve_name *name, struct resolve_list *list)
{
    struct resolver *resolver = name->resolver;
    struct resolve_subscriber *subscriber;
    struct resolve_list *before = NULL;
    pthread_mutex_lock(&resolver->mutex);
    if (list) {
        before = name->list;
        name->list = list;
    }
    name->version++;
    DL_FOREACH(resolver->subscribers, subscriber)
    {
        uv_async_send(subscriber->wake);
    }
    pthread_mutex_unlock(&resolver->mutex);
    resolve_give_back(before);
}

bool resolve_look(struct resolver *resolver, const struct resolve_name *name, uint64_t *seen,
                  struct resolve_list **list)
{
    pthread_mutex_lock(&resolver->mutex);
    bool is_new = name->version != *seen;
    if (is_new) {
        *seen = name->version;
        *list = name->list;
        if (*list)
            atomic_fetch_add_explicit(&(*list)->holders, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&resolver->mutex);
    return is_new;
}

void resolve_subscribe(struct resolver *resolver, struct resolve_subscriber *subscriber, uv_async_t *wake)
{
    subscriber->wake = wake;
    pthread_mutex_lock(&resolver->mutex);
    DL_APPEND(resolver->subscribers, subscriber);
    pthread_mutex_unlock(&resolver->mutex);
}

void resolve_unsubscribe(struct resolver *resolver, struct resolve_subscriber *subscriber)
{
    pthread_mutex_lock(&resolver->mutex);
    DL_DELETE(resolver->subscribers, subscriber);
    pthread_mutex_unlock(&resolver->mutex);
}

/* ---- addresses that lead back ---- */

static bool known_address(void *context, const struct conf_server *server, size_t index,
                          struct conf_address *out)
{
    const struct resolve_name *name = resolve_find(context, server);
    if (!name->list || index >= name->list->count)
        return false;
    *out = name->list->addresses[index];
    return true;
}

/* Whether a frontend of ours listens there from which sessions would come back to the same backend: 0, 1 or
 * -ENOMEM. One connection would become as many as there are descriptors. */
static int leads_back(struct resolver *resolver, const struct conf_backend *backend,
                      const struct conf_address *address, bool is_here)
{
    const struct loop_names names = {.address = known_address, .context = resolver};
    const struct conf_frontend *frontend = loop_frontend_at(resolver->conf, address, is_here);
    return frontend
               ? loop_leads_to(resolver->conf, frontend, (size_t)(backend - resolver->conf->backends), &names)
               : 0;
}

static void say_leads_back(const struct resolve_name *name, const struct conf_address *address)
{
    struct log_ring *log = name->resolver->log;
    union socket_address its;
    char text[SOCKET_TEXT];
    struct line line;
    memcpy(its.bytes, &address->address, sizeof its.bytes);
    line_begin(&line, log_format(log), CONF_LOG_WARNING, "leads_back");
    line_text(&line, "backend", name->backend->name);
    line_text(&line, "server", name->server->text);
    line_text(&line, "address", socket_text(&its, text));
    line_text(&line, "error",
              "not used: a frontend of this proxy listens there and leads back to this backend");
    log_line(log, line_end(&line));
    log_flush(log);
}

/* Takes such addresses out of the list; that there are some is said once, until there are none. 0 or
 * -ENOMEM. */
static int take_out_own(struct resolve_name *name, struct resolve_list *list)
{
    bool said = name->leads_back;
    size_t kept = 0;
    name->leads_back = false;
    for (size_t i = 0; i < list->count; i++) {
        int leads = leads_back(name->resolver, name->backend, &list->addresses[i], false);
        if (leads < 0)
            return leads;
        if (!leads) {
            list->addresses[kept++] = list->addresses[i];
            continue;
        }
        if (!said)
            say_leads_back(name, &list->addresses[i]);
        name->leads_back = said = true;
    }
    list->count = kept;
    return 0;
}

bool resolve_may_lead_back(const struct resolver *resolver, const struct conf_address *address)
{
    return loop_frontend_at(resolver->conf, address, true) != NULL;
}

bool resolve_leads_back(struct resolver *resolver, const struct conf_backend *backend,
                        const struct conf_address *address)
{
    pthread_mutex_lock(&resolver->mutex);
    bool leads = leads_back(resolver, backend, address, true) != 0; /* without memory: better not */
    pthread_mutex_unlock(&resolver->mutex);
    return leads;
}

/* ---- asking ---- */

static void say_unresolved(const struct resolve_name *name, const char *why)
{
    struct log_ring *log = name->resolver->log;
    struct line line;
    line_begin(&line, log_format(log), CONF_LOG_WARNING, "not_resolved");
    line_text(&line, "backend", name->backend->name);
    line_text(&line, "server", name->server->text);
    line_text(&line, "error", why);
    line_number(&line, "addresses_kept", name->list ? name->list->count : 0);
    log_line(log, line_end(&line));
    log_flush(log);
}

static void say_resolved(const struct resolve_name *name, size_t addresses)
{
    struct log_ring *log = name->resolver->log;
    struct line line;
    if (!log_wants(log, CONF_LOG_INFO))
        return;
    line_begin(&line, log_format(log), CONF_LOG_INFO, "resolved");
    line_text(&line, "backend", name->backend->name);
    line_text(&line, "server", name->server->text);
    line_number(&line, "addresses", addresses);
    log_line(log, line_end(&line));
    log_flush(log);
}

static uint64_t min_of(uint64_t one, uint64_t other)
{
    return one < other ? one : other;
}

/* DEADLINE_OFF: not again. */
static uint64_t again_ms(const struct resolve_name *name)
{
    uint64_t again = RESOLVE_AGAIN_MS;
    if (name->failures == 0)
        return name->backend->resolve_interval_ms;
    for (unsigned i = 1; i < name->failures && again < RESOLVE_AGAIN_MAX_MS; i++)
        again *= 2;
    return min_of(min_of(again, RESOLVE_AGAIN_MAX_MS), name->backend->resolve_interval_ms);
}

static void on_timer(uv_timer_t *timer);

static void set_timer(struct resolve_name *name, uint64_t after_ms)
{
    if (after_ms != DEADLINE_OFF && !name->resolver->closing)
        (void)uv_timer_start(&name->timer, on_timer, after_ms, 0);
}

/* An answer, or a question that could not be asked. */
static void failed(struct resolve_name *name, int error)
{
    name->failures++;
    say_unresolved(name, uv_strerror(error));
    if (name->version == 0)
        publish(name, NULL);
    set_timer(name, again_ms(name));
}

static void answered(struct resolve_name *name, struct resolve_list *list)
{
    bool was_unresolved = name->failures > 0;
    size_t count = list->count;
    name->failures = 0;
    if (is_as_before(list, name->list))
        resolve_give_back(list);
    else
        publish(name, list);
    if (was_unresolved)
        say_resolved(name, count);
    set_timer(name, again_ms(name));
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct resolve_name *name = request->data;
    struct resolve_list *list = NULL;
    name->asking = false;
    if (name->resolver->closing) {
        uv_freeaddrinfo(found);
        return;
    }
    if (!status) {
        list = list_of(found, name->list);
        status = list ? take_out_own(name, list) : UV_ENOMEM;
        if (status) {
            resolve_give_back(list);
            list = NULL;
        }
    }
    uv_freeaddrinfo(found);
    if (list)
        answered(name, list);
    else
        failed(name, status);
}

static int ask(struct resolve_name *name)
{
    char port[8];
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    snprintf(port, sizeof port, "%u", name->server->port);
    name->request.data = name;
    int error =
        uv_getaddrinfo(name->resolver->loop, &name->request, on_resolved, name->server->host, port, &hints);
    name->asking = error == 0;
    return error;
}

static void on_timer(uv_timer_t *timer)
{
    struct resolve_name *name = timer->data;
    if (name->asking) { /* for the first time, and for so long */
        name->failures++;
        say_unresolved(name, "no answer of the name service yet");
        publish(name, NULL);
        return;
    }
    int error = ask(name);
    if (error)
        failed(name, error);
}

/* ---- life ---- */

struct resolve_name *resolve_find(struct resolver *resolver, const struct conf_server *server)
{
    for (size_t i = 0; i < resolver->name_count; i++)
        if (resolver->names[i].server == server)
            return &resolver->names[i];
    return NULL;
}

static size_t count_names(const struct conf *conf)
{
    size_t count = 0;
    for (size_t b = 0; b < conf->backend_count; b++)
        for (size_t s = 0; s < conf->backends[b].server_count; s++)
            count += conf->backends[b].servers[s].host != NULL;
    return count;
}

/* libuv asks the name service with half of its threads at most, two by default, and those of a silent one are
 * busy for as long as its client waits: other names would wait behind them. It reads the number when it is
 * first asked for anything. Whoever set it already knows better. */
static void provide_threads(size_t names)
{
    char size[8];
    if (2 * names <= THREADS_DEFAULT)
        return;
    snprintf(size, sizeof size, "%zu", names < RESOLVE_AT_A_TIME ? 2 * names : 2 * (size_t)RESOLVE_AT_A_TIME);
    (void)setenv("UV_THREADPOOL_SIZE", size, 0);
}

int resolve_new(const struct conf *conf, struct resolver **out)
{
    size_t count = count_names(conf);
    struct resolver *resolver = calloc(1, sizeof *resolver);
    struct resolve_name *names = resolver ? calloc(count + 1, sizeof *names) : NULL;
    if (!names) {
        free(resolver);
        return -ENOMEM;
    }
    *resolver = (struct resolver){.conf = conf, .mutex = PTHREAD_MUTEX_INITIALIZER, .names = names};
    for (size_t b = 0; b < conf->backend_count; b++)
        for (size_t s = 0; s < conf->backends[b].server_count; s++)
            if (conf->backends[b].servers[s].host)
                names[resolver->name_count++] =
                    (struct resolve_name){.resolver = resolver,
                                          .backend = &conf->backends[b],
                                          .server = &conf->backends[b].servers[s]};
    provide_threads(count);
    *out = resolver;
    return 0;
}

void resolve_free(struct resolver *resolver)
{
    if (!resolver)
        return;
    assert(!resolver->subscribers);
    for (size_t i = 0; i < resolver->name_count; i++)
        resolve_give_back(resolver->names[i].list);
    pthread_mutex_destroy(&resolver->mutex);
    free(resolver->names);
    free(resolver);
}

int resolve_start(struct resolver *resolver, uv_loop_t *loop, struct log_ring *log)
{
    int error = 0;
    resolver->loop = loop;
    resolver->log = log;
    for (size_t i = 0; i < resolver->name_count && !error; i++) {
        struct resolve_name *name = &resolver->names[i];
        uv_timer_init(loop, &name->timer);
        name->timer.data = name;
        resolver->timers++;
        error = ask(name);
        if (!error)
            set_timer(name, RESOLVE_WAIT_MS);
    }
    return error;
}

void resolve_close(struct resolver *resolver, const uv_loop_t *loop)
{
    if (resolver->loop != loop || resolver->closing)
        return;
    resolver->closing = true;
    for (size_t i = 0; i < resolver->timers; i++) {
        uv_close((uv_handle_t *)&resolver->names[i].timer, NULL);
        if (resolver->names[i].asking)
            (void)uv_cancel((uv_req_t *)&resolver->names[i].request);
    }
}

bool resolve_is_busy(const struct resolver *resolver, const uv_loop_t *loop)
{
    for (size_t i = 0; resolver->loop == loop && i < resolver->name_count; i++)
        if (resolver->names[i].asking)
            return true;
    return false;
}
