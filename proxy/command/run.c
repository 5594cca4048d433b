#include "conf/load.h"
#include "conf/option.h"
#include "conf/warn.h"
#include "proxy/command/argument.h"
#include "proxy/command/command.h"
#include "proxy/command/listening.h"
#include "proxy/command/privilege.h"
#include "proxy/command/process.h"
#include "proxy/command/sandbox.h"
#include "proxy/command/summary.h"
#include "proxy/patrol/patrol.h"
#include "proxy/shared/log.h"
#include "proxy/socket/socket.h"
#include "proxy/worker/plane.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

/* The main thread's own: signals, and the end of the workers. */
struct program {
    uv_loop_t loop;
    uv_signal_t signals[3];
    uv_async_t stopped;
    struct log *log;
    struct log_ring *ring;
    struct plane *plane;
    struct patrol *patrol; /* NULL: nothing is watched */
    struct summary *summary;
    uv_timer_t sum_up;
    uv_async_t refused; /* a system call */
    uv_work_t pool;     /* nothing; it makes libuv's threads */
    const struct conf *conf;
    struct privilege privilege;
    const char *failed; /* what could not be given up */
    int unconfined;     /* why there is no filter of system calls; 0: there is one */
    bool draining;
    bool looking_up; /* a name, for which exit(3) would wait */
};

static void close_handles(struct program *program)
{
    for (size_t i = 0; i < sizeof program->signals / sizeof program->signals[0]; i++)
        if (program->signals[i].loop) /* else it was never made */
            uv_close((uv_handle_t *)&program->signals[i], NULL);
    uv_close((uv_handle_t *)&program->stopped, NULL);
    uv_close((uv_handle_t *)&program->sum_up, NULL);
    uv_close((uv_handle_t *)&program->refused, NULL);
}

static void on_stopped(uv_async_t *handle)
{
    struct program *program = handle->data;
    if (!plane_running(program->plane))
        uv_stop(&program->loop);
}

static void on_terminate(uv_signal_t *handle, int number)
{
    struct program *program = handle->data;
    log_say(program->ring, CONF_LOG_INFO, program->draining ? "aborting" : "draining", "signal",
            number == SIGINT ? "SIGINT" : "SIGTERM");
    if (program->draining)
        plane_abort(program->plane);
    else
        plane_drain(program->plane);
    program->draining = true;
}

static void on_hangup(uv_signal_t *handle, int number)
{
    struct program *program = handle->data;
    (void)number;
    log_reopen(program->log);
}

static void on_refused(uv_async_t *handle)
{
    const struct program *program = handle->data;
    sandbox_say(program->ring);
}

/* ---- giving up ---- */

static void do_nothing(uv_work_t *work)
{
    (void)work;
}

/* From the thread of a worker the pool's threads would have that worker's filter. */
static void start_pool(struct program *program)
{
    if (conf_has_names(program->conf))
        (void)uv_queue_work(&program->loop, &program->pool, do_nothing, NULL);
}

static void enter_sandbox(struct program *program)
{
    program->unconfined = 0;
    if (program->conf->seccomp == CONF_SECCOMP_OFF)
        return;
    program->unconfined = sandbox_prepare(program->conf);
    if (!program->unconfined)
        program->unconfined = sandbox_enter(&program->refused, program->log);
}

/* All is open that takes rights to open, and this is the only thread. */
static int on_bound(void *context)
{
    struct program *program = context;
    struct privilege *privilege = &program->privilege;
    int error = 0;
    program->failed = program->conf->log.target;
    if (privilege->becomes)
        error = log_give_to(program->log, privilege->uid, privilege->gid);
    if (!error) {
        error = privilege_drop(privilege);
        program->failed = privilege->where;
    }
    if (error)
        return error;
    enter_sandbox(program);
    start_pool(program);
    program->failed = "log";
    return log_begin(program->log);
}

static void confine_worker(void)
{
    privilege_drop_all();
    sandbox_confine();
}

static void say_given_up(struct program *program)
{
    privilege_say(&program->privilege, program->ring);
    int error = program->privilege.becomes ? log_reopens(program->log) : 0;
    if (error)
        log_say(program->ring, CONF_LOG_WARNING, "log_not_reopenable", "error", uv_strerror(error));
    if (program->unconfined == -ENOTSUP)
        log_say(program->ring, CONF_LOG_INFO, "seccomp_off", "error",
                "this build has a sanitizer, which needs more");
    else if (program->unconfined)
        log_say(program->ring, CONF_LOG_WARNING, "seccomp_off", "error", uv_strerror(program->unconfined));
}

/* ---- starting ---- */

/* The proxy does its work without; what is missing is the view of leaks beside it. */
static void start_patrol(struct program *program, const struct conf *conf)
{
    struct log_ring *ring = log_ring(program->log);
    int error = ring ? patrol_start(conf, ring, &program->patrol) : UV_ENOMEM;
    if (error)
        log_say(program->ring, CONF_LOG_WARNING, "reaper_off", "error", uv_strerror(error));
}

static void on_sum_up(uv_timer_t *handle)
{
    struct program *program = handle->data;
    summary_say(program->summary, program->plane, program->ring, uv_now(&program->loop));
}

static void start_summing_up(struct program *program, const struct conf *conf)
{
    if (conf->log.summary_ms == DEADLINE_OFF)
        return;
    program->summary = summary_new(conf);
    (void)uv_timer_start(&program->sum_up, on_sum_up, conf->log.summary_ms, conf->log.summary_ms);
}

static int init_handles(struct program *program)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};
    int error = 0;
    /* These can't fail once the loop is there. */
    (void)uv_async_init(&program->loop, &program->stopped, on_stopped);
    (void)uv_timer_init(&program->loop, &program->sum_up);
    (void)uv_async_init(&program->loop, &program->refused, on_refused);
    program->stopped.data = program->sum_up.data = program->refused.data = program;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uv_signal_t *handle = &program->signals[i];
        int failed = uv_signal_init(&program->loop, handle);
        handle->data = program;
        if (!failed)
            failed = uv_signal_start(handle, numbers[i] == SIGHUP ? on_hangup : on_terminate, numbers[i]);
        error = error ? error : failed;
    }
    return error;
}

static void say_listening(struct program *program, const struct conf *conf)
{
    for (size_t f = 0; f < conf->frontend_count; f++) {
        const struct conf_frontend *frontend = &conf->frontends[f];
        for (size_t l = 0; l < frontend->listen_count; l++) {
            const struct conf_address *bound = plane_address(program->plane, f, l);
            union socket_address address;
            char text[SOCKET_TEXT];
            struct line line;
            memcpy(address.bytes, &bound->address, sizeof address.bytes);
            bool unix_path = bound->address.ss_family == AF_UNIX;
            line_begin(&line, log_format(program->ring), CONF_LOG_INFO, "listening");
            line_text(&line, "frontend", frontend->name);
            line_text(&line, "address", unix_path ? frontend->listen[l].text : socket_text(&address, text));
            line_text(&line, "backend", conf->backends[frontend->backend].name);
            if (log_wants(program->ring, CONF_LOG_INFO))
                log_line(program->ring, line_end(&line));
        }
    }
    log_flush(program->ring);
}

/* What the limits leave, which nobody has set by that name. */
static void say_started(struct program *program)
{
    struct line line;
    if (!log_wants(program->ring, CONF_LOG_INFO))
        return;
    line_begin(&line, log_format(program->ring), CONF_LOG_INFO, "started");
    line_number(&line, "workers", plane_worker_count(program->plane));
    line_number(&line, "sessions_max", plane_sessions_max(program->plane));
    log_line(program->ring, line_end(&line));
}

/* Servers of this host that would refuse everybody. One that starts later is served, so it is no error. */
static void say_unserved(struct program *program, const struct conf *conf)
{
    for (size_t b = 0; b < conf->backend_count; b++) {
        const struct conf_backend *backend = &conf->backends[b];
        for (size_t s = 0; s < backend->server_count; s++) {
            const struct conf_server *server = &backend->servers[s];
            struct listening listening;
            struct line line;
            if (server->address.length == 0 || listening_find(&server->address.address, false, &listening) ||
                !listening.is_ours || listening.found || !log_wants(program->ring, CONF_LOG_WARNING))
                continue;
            line_begin(&line, log_format(program->ring), CONF_LOG_WARNING, "nobody_listens");
            line_text(&line, "backend", backend->name);
            line_text(&line, "server", server->text);
            log_line(program->ring, line_end(&line));
        }
    }
    log_flush(program->ring);
}

static const struct conf_address *address_of(const struct conf *conf, const char *text)
{
    for (size_t f = 0; f < conf->frontend_count; f++)
        for (size_t l = 0; l < conf->frontends[f].listen_count; l++)
            if (strcmp(conf->frontends[f].listen[l].text, text) == 0)
                return &conf->frontends[f].listen[l].address;
    return NULL;
}

static void say_not_started(const struct conf *conf, const char *where, int error)
{
    const struct conf_address *address = address_of(conf, where);
    struct listening listening = {0};
    fprintf(stderr, "lastack run: %s: %s", where, uv_strerror(error));
    if (error == UV_EMFILE)
        fprintf(stderr, "; raise the limit of open files (ulimit -n, LimitNOFILE=), or start fewer workers");
    if (error == UV_EADDRINUSE && address && listening_find(&address->address, true, &listening) == 0 &&
        listening.found) {
        if (listening.has_name)
            fprintf(stderr, "; %s (pid %d) listens there", listening.process.program,
                    (int)listening.process.pid);
        else
            fprintf(stderr, "; another user's program listens there (as root we could say which)");
    }
    fprintf(stderr, "\n");
}

static int serve(struct program *program, const struct conf *conf)
{
    const struct plane_hooks hooks = {.bound = on_bound, .confine = confine_worker, .context = program};
    const char *where = "signals";
    int error = init_handles(program);
    if (!error)
        error = plane_start_with(conf, program->log, &hooks, &program->stopped, &program->plane, &where);
    if (error) {
        say_not_started(conf, where ? where : program->failed, error);
    } else {
        say_given_up(program);
        say_started(program);
        say_listening(program, conf);
        say_unserved(program, conf);
        start_patrol(program, conf);
        start_summing_up(program, conf);
        process_release_signals();
        uv_run(&program->loop, UV_RUN_DEFAULT);
        process_hold_signals(); /* without our handlers the next one would end us before the log is written */
        summary_free(program->summary);
        program->looking_up = !patrol_stop(program->patrol);
        /* Joins the workers, so that none of them still sends `stopped`. */
        program->looking_up |= !plane_free(program->plane);
        log_say(program->ring, CONF_LOG_INFO, "stopped", NULL, NULL);
    }
    close_handles(program);
    uv_run(&program->loop, UV_RUN_DEFAULT);
    return error ? EXIT_FOUND : EXIT_FINE;
}

static bool finds_user(const struct conf *conf, struct privilege *privilege)
{
    int error = privilege_find(conf, privilege);
    if (error == -ENOENT)
        fprintf(stderr,
                "lastack run: user: this host has no user %s; make it by adduser --system --group %s\n",
                conf->user, conf->user);
    else if (error)
        fprintf(stderr, "lastack run: user: %s is root by another name\n", conf->user);
    return error == 0;
}

static int run_with(const struct conf *conf)
{
    struct program program = {.conf = conf};
    if (!process_serves("lastack run"))
        return EXIT_FOUND;
    process_hold_signals();
    if (!finds_user(conf, &program.privilege))
        return EXIT_FOUND;
    int error = log_prepare(&conf->log, &program.log);
    if (error) {
        fprintf(stderr, "lastack run: log.target: %s: %s\n", conf->log.target,
                error == -ELOOP ? "a symbolic link is not followed out of a folder that others may write to"
                                : uv_strerror(error));
        return EXIT_FOUND;
    }
    program.ring = log_ring(program.log);
    error = program.ring ? uv_loop_init(&program.loop) : UV_ENOMEM;
    int status = EXIT_FOUND;
    if (error) {
        fprintf(stderr, "lastack run: %s\n", uv_strerror(error));
    } else {
        status = serve(&program, conf);
        uv_loop_close(&program.loop);
    }
    log_close(program.log);
    if (program.looking_up)
        _exit(status);
    return status;
}

static bool is_called(const char *key, const char *flag, size_t length)
{
    size_t at = 0;
    while (at < length && (key[at] == flag[at] || (key[at] == '_' && flag[at] == '-')))
        at++;
    return at == length && !key[at];
}

/* The option of a file that is called like this flag, where no flag begins like it; or NULL. */
static const struct option_row *file_option(const char *flag, size_t length)
{
    size_t count = 0;
    const struct option_row *rows = option_table(&count), *found = NULL;
    for (size_t i = 0; i < count; i++) {
        const char *dot = strrchr(rows[i].path, '.');
        if (rows[i].flag && strncmp(rows[i].flag, flag, length) == 0)
            return NULL;
        if (!found && is_called(dot ? dot + 1 : rows[i].path, flag, length))
            found = &rows[i];
    }
    return found;
}

/* Before argp, which only says that there is no such flag. */
static bool says_where_it_goes(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0 || !argv[i][2])
            continue;
        const struct option_row *row = file_option(argv[i] + 2, strcspn(argv[i] + 2, "="));
        if (!row)
            continue;
        fprintf(stderr,
                "lastack run: %.*s is no flag; it stands in a file, as %s: lastack run -c FILE; "
                "conf/lastack.yaml has every option\n",
                (int)strcspn(argv[i], "="), argv[i], row->path);
        return true;
    }
    return false;
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->input;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "'%s' is not an option; `lastack run --help` lists them", argument);
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int command_run(int argc, char **argv)
{
    struct argp_child children[] = {{.argp = conf_argp()}, {0}};
    struct argp argp = {
        .parser = parse,
        .children = children,
        .doc =
            "Stands before a service and finishes what it never finishes: relays TCP, bounds both halves of "
            "every connection, and resets what leaks.\v"
            "SIGTERM or SIGINT drains, a second one ends at once. SIGHUP opens the log file again.\n"
            "Exit status: 0 ended when told to, 1 failed, 2 the options or the configuration were refused.",
    };
    struct conf_source source = {0};
    struct findings findings = {0};
    struct conf *conf = NULL;
    process_hold_hangup();
    if (says_where_it_goes(argc, argv))
        return EXIT_USAGE;
    argument_parse(&argp, argc, argv, &source);

    int error = conf_load(&source, &conf, &findings);
    if (!error) {
        struct conf_host host;
        conf_host_read(&host);
        conf_warn(conf, &host, &findings);
        privilege_warn(conf, &findings);
    }
    findings_print(&findings, stderr);
    int status = error ? EXIT_USAGE : run_with(conf);
    findings_free(&findings);
    conf_source_free(&source);
    conf_free(conf);
    return status;
}
