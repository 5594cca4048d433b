#include "proxy/worker/plane.h"

#include "proxy/server/backend.h"
#include "proxy/server/health.h"
#include "proxy/server/resolve.h"
#include "proxy/socket/socket.h"
#include "proxy/worker/worker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <unistd.h>

/* #syscalls rest: unlink unlinkat */

/* Descriptors kept for what is not a session: the process's, and each worker's loop and pipes. */
enum { DESCRIPTORS_PROCESS = 64, DESCRIPTORS_WORKER = 8 + 2 * PIPES_MAX };

/* An address of the configuration as it was bound. */
struct bound {
    struct conf_address address;
    bool owns_path; /* of a unix socket: we made its file and nobody has taken it over */
};

struct plane {
    const struct conf *conf;
    struct log *log;
    uv_async_t *stopped;
    struct frontend *frontends;
    struct health_pool *health; /* as many as there are backends */
    struct resolver *resolver;
    struct inquiry_desk *desk;
    struct bound *bound; /* in the order of the configuration */
    size_t address_count;
    int *listen_fds; /* [worker][address]; -1: not open, or a worker's own */
    struct worker *workers;
    unsigned worker_count;
    unsigned started;
    _Atomic unsigned running;
    struct limit limit;
};

/* ---- limits ---- */

/* Raises the soft limit to the hard one first. */
static uint64_t descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return UINT64_MAX;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return limit.rlim_cur;
}

static uint64_t surplus_wanted(const struct conf *conf)
{
    uint64_t surplus = 0;
    for (size_t f = 0; f < conf->frontend_count; f++)
        surplus += conf_surplus(&conf->frontends[f]);
    return surplus;
}

/* One for a check, and one for the last one, which parts. */
static uint64_t checks_wanted(const struct conf *conf)
{
    uint64_t servers = 0;
    for (size_t b = 0; b < conf->backend_count; b++)
        if (conf->backends[b].check.kind != CONF_CHECK_OFF)
            servers += conf->backends[b].server_count;
    return 2 * servers;
}

/* Half of a tight limit is for sessions to be served, and nothing is for those to be refused; without
 * descriptors a half is only copied. */
static void share_descriptors(struct plane *plane)
{
    const struct conf *conf = plane->conf;
    uint64_t limit = descriptor_limit();
    uint64_t others = DESCRIPTORS_PROCESS +
                      plane->worker_count * (plane->address_count + DESCRIPTORS_WORKER) + checks_wanted(conf);
    uint64_t surplus = surplus_wanted(conf);
    bool tight = others + surplus > limit / 2;
    uint64_t reserved = others + surplus;
    if (tight)
        reserved = others < limit / 2 ? others : limit / 2;
    plane->limit.max = limit - reserved;
    for (size_t f = 0; f < conf->frontend_count; f++)
        plane->frontends[f].surplus_max = tight ? 0 : conf_surplus(&conf->frontends[f]);
}

uint64_t plane_sessions_max(const struct plane *plane)
{
    return limit_sessions_max(&plane->limit);
}

/* ---- listening ---- */

static int *listen_fd(struct plane *plane, unsigned worker, size_t address)
{
    return &plane->listen_fds[worker * plane->address_count + address];
}

/* One socket a worker for an internet address, one for all for a unix path. */
static int open_listeners(struct plane *plane, const struct conf_frontend *frontend, size_t listen, size_t at)
{
    struct conf_address *address = &plane->bound[at].address;
    *address = frontend->listen[listen].address;
    bool is_path = address->address.ss_family == AF_UNIX;
    for (unsigned w = 0; w < plane->worker_count; w++) {
        bool copy = w > 0 && is_path;
        enum socket_share share = w > 0 ? SOCKET_BESIDE : SOCKET_FIRST;
        int fd = copy
                     ? fcntl(*listen_fd(plane, 0, at), F_DUPFD_CLOEXEC, 0)
                     : socket_listen(address, &frontend->tcp, plane->worker_count > 1 ? share : SOCKET_ALONE);
        if (fd < 0)
            return copy ? -errno : fd;
        *listen_fd(plane, w, at) = fd;
        plane->bound[at].owns_path = is_path;
        int error = is_path ? 0 : socket_bound(fd, address);
        if (error)
            return error;
    }
    return 0;
}

static int open_all(struct plane *plane, const char **where)
{
    size_t at = 0;
    for (size_t f = 0; f < plane->conf->frontend_count; f++) {
        const struct conf_frontend *frontend = &plane->conf->frontends[f];
        for (size_t l = 0; l < frontend->listen_count; l++, at++) {
            *where = frontend->listen[l].text;
            int error = open_listeners(plane, frontend, l, at);
            if (error)
                return error;
        }
    }
    return 0;
}

/* ---- life ---- */

static unsigned workers_wanted(const struct conf *conf)
{
    return conf->workers > 0 ? (unsigned)conf->workers : uv_available_parallelism();
}

static int allocate(struct plane *plane)
{
    const struct conf *conf = plane->conf;
    assert(conf->frontend_count > 0 && conf->backend_count > 0);
    for (size_t f = 0; f < conf->frontend_count; f++)
        plane->address_count += conf->frontends[f].listen_count;
    plane->frontends = calloc(conf->frontend_count, sizeof *plane->frontends);
    plane->health = calloc(conf->backend_count, sizeof *plane->health);
    for (size_t b = 0; plane->health && b < conf->backend_count; b++)
        health_pool_init(&plane->health[b]);
    plane->bound = calloc(plane->address_count, sizeof *plane->bound);
    plane->listen_fds = calloc(plane->worker_count * plane->address_count, sizeof *plane->listen_fds);
    plane->workers = calloc(plane->worker_count, sizeof *plane->workers);
    for (size_t i = 0; plane->listen_fds && i < plane->worker_count * plane->address_count; i++)
        plane->listen_fds[i] = -1; /* before anything fails: 0 is a descriptor */
    if (!plane->frontends || !plane->health || !plane->bound || !plane->listen_fds || !plane->workers)
        return -ENOMEM;
    for (size_t f = 0; f < conf->frontend_count; f++)
        plane->frontends[f].conf = &conf->frontends[f];
    return resolve_new(conf, &plane->resolver);
}

/* A worker's last word on its own thread. */
static void on_worker_stopped(void *context)
{
    struct plane *plane = context;
    atomic_fetch_sub(&plane->running, 1);
    if (plane->stopped)
        uv_async_send(plane->stopped);
}

static int start_workers(struct plane *plane, void (*confine)(void))
{
    struct worker_settings settings = {.conf = plane->conf,
                                       .workers = plane->worker_count,
                                       .frontends = plane->frontends,
                                       .health = plane->health,
                                       .resolver = plane->resolver,
                                       .limit = &plane->limit,
                                       .desk = plane->desk,
                                       .log = plane->log,
                                       .confine = confine,
                                       .stopped = on_worker_stopped,
                                       .context = plane};
    for (unsigned w = 0; w < plane->worker_count; w++) {
        struct worker *worker = &plane->workers[w];
        settings.index = w;
        int error = worker_init(worker, &settings, listen_fd(plane, w, 0));
        if (error)
            return error;
        for (size_t a = 0; a < plane->address_count; a++)
            *listen_fd(plane, w, a) = -1;
        atomic_fetch_add(&plane->running, 1);
        error = worker_start(worker);
        if (error) {
            atomic_fetch_sub(&plane->running, 1);
            (void)worker_free(worker);
            return error;
        }
        plane->started++;
    }
    return 0;
}

int plane_start(const struct conf *conf, struct log *log, uv_async_t *stopped, struct plane **out,
                const char **where)
{
    return plane_start_with(conf, log, &(struct plane_hooks){0}, stopped, out, where);
}

int plane_start_with(const struct conf *conf, struct log *log, const struct plane_hooks *hooks,
                     uv_async_t *stopped, struct plane **out, const char **where)
{
    struct plane *plane = calloc(1, sizeof *plane);
    *where = "memory";
    if (!plane)
        return -ENOMEM;
    plane->conf = conf;
    plane->log = log;
    plane->stopped = stopped;
    plane->worker_count = workers_wanted(conf);
    int error = allocate(plane);
    if (!error) {
        share_descriptors(plane);
        error = open_all(plane, where);
    }
    if (!error && hooks->bound) {
        *where = NULL;
        error = hooks->bound(hooks->context);
    }
    if (!error) {
        *where = "worker";
        (void)inquiry_desk_start(&plane->desk); /* without it nothing is confirmed, and the log says so */
        error = start_workers(plane, hooks->confine);
    }
    if (error) {
        plane_abort(plane);
        (void)plane_free(plane);
        return error;
    }
    *out = plane;
    return 0;
}

static void set_mode(struct plane *plane, enum worker_mode mode)
{
    for (unsigned w = 0; w < plane->started; w++)
        if (atomic_load(&plane->running) > 0)
            worker_set_mode(&plane->workers[w], mode);
}

/* While the sockets still listen: once they don't, a successor may take the paths over. */
static void remove_paths(struct plane *plane)
{
    for (size_t a = 0; plane->bound && a < plane->address_count; a++) {
        struct bound *bound = &plane->bound[a];
        if (bound->owns_path)
            unlink(((const struct sockaddr_un *)&bound->address.address)->sun_path);
        bound->owns_path = false;
    }
}

void plane_drain(struct plane *plane)
{
    remove_paths(plane);
    set_mode(plane, WORKER_DRAINING);
}

void plane_abort(struct plane *plane)
{
    remove_paths(plane);
    set_mode(plane, WORKER_ABORTING);
}

bool plane_running(const struct plane *plane)
{
    return atomic_load(&plane->running) > 0;
}

bool plane_free(struct plane *plane)
{
    bool all = true;
    for (unsigned w = 0; w < plane->started; w++) {
        uv_thread_join(&plane->workers[w].thread);
        all = worker_free(&plane->workers[w]) && all;
    }
    inquiry_desk_stop(plane->desk); /* nobody asks any more */
    if (!all)
        return false;
    for (size_t i = 0; plane->listen_fds && i < plane->worker_count * plane->address_count; i++)
        if (plane->listen_fds[i] >= 0)
            close(plane->listen_fds[i]);
    for (size_t b = 0; plane->health && b < plane->conf->backend_count; b++)
        health_pool_free(&plane->health[b]);
    resolve_free(plane->resolver);
    free(plane->listen_fds);
    free(plane->health);
    free(plane->bound);
    free(plane->frontends);
    free(plane->workers);
    free(plane);
    return true;
}

/* ---- what it knows ---- */

const struct conf_address *plane_address(const struct plane *plane, size_t frontend, size_t listen)
{
    size_t at = listen;
    for (size_t f = 0; f < frontend; f++)
        at += plane->conf->frontends[f].listen_count;
    assert(at < plane->address_count);
    return &plane->bound[at].address;
}

const struct counters *plane_counters(const struct plane *plane, unsigned worker)
{
    return worker < plane->started ? &plane->workers[worker].shared.counters : NULL;
}

const struct counters_backend *plane_backend_counters(const struct plane *plane, unsigned worker,
                                                      size_t backend)
{
    assert(backend < plane->conf->backend_count);
    return worker < plane->started ? &plane->workers[worker].shared.backends[backend].counters : NULL;
}

unsigned plane_worker_count(const struct plane *plane)
{
    return plane->worker_count;
}

const struct health_pool *plane_health(const struct plane *plane, size_t backend)
{
    return &plane->health[backend];
}
