#include "conf/load.h"

#include "conf/assign.h"
#include "conf/file.h"
#include "conf/loop.h"
#include "conf/option.h"
#include "conf/walk.h"
#include "conf/yaml.h"
#include "reaper/error.h"
#include "reaper/policy/deadline.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Flags. */

/* "A,B": each part is one element. */
static int assign_parts(const struct conf *conf, const struct conf_flag *flag, void *object,
                        const struct place *place, struct findings *findings)
{
    int error = 0;
    char *parts = strdup(flag->text);
    if (!parts)
        return assign_refuse_memory(place, findings);
    char *rest = parts;
    for (char *part = strsep(&rest, ","); part && !error; part = strsep(&rest, ","))
        error = assign(conf, flag->option, object, part, place, findings);
    free(parts);
    return error;
}

static int assign_flag(const struct conf *conf, const struct conf_flag *flag, void *object,
                       const struct place *place, struct findings *findings)
{
    if (option_is_list(flag->option))
        return assign_parts(conf, flag, object, place, findings);
    return assign(conf, flag->option, object, flag->text, place, findings);
}

/* To every object that the flag is about. An error is reported once. */
static int apply_flag(struct conf *conf, const struct conf_flag *flag, struct findings *findings)
{
    char name[OPTION_PATH];
    const struct option_row *row = flag->option;
    const struct place place = {.name = name};
    snprintf(name, sizeof name, "--%s", row->flag);
    int error = 0;
    if (row->scope == SCOPE_TOP)
        error = assign_flag(conf, flag, conf, &place, findings);
    if (row->scope == SCOPE_DEADLINES)
        error = assign_flag(conf, flag, &conf->deadlines, &place, findings);
    for (size_t i = 0; row->scope == SCOPE_DEADLINES && i < conf->frontend_count && !error; i++)
        error = assign_flag(conf, flag, &conf->frontends[i].deadlines, &place, findings);
    for (size_t i = 0; row->scope == SCOPE_FRONTEND && i < conf->frontend_count && !error; i++)
        error = assign_flag(conf, flag, &conf->frontends[i], &place, findings);
    for (size_t i = 0; row->scope == SCOPE_BACKEND && i < conf->backend_count && !error; i++)
        error = assign_flag(conf, flag, &conf->backends[i], &place, findings);
    return error;
}

/* All of them, to report all errors. */
static int apply_flags(struct conf *conf, const struct conf_source *source, struct findings *findings)
{
    int result = 0;
    for (size_t i = 0; i < source->flag_count && result != -ENOMEM; i++) {
        int error = apply_flag(conf, &source->flags[i], findings);
        result = error ? error : result;
    }
    return result;
}

/* The first flag of that option's type, or NULL. */
static const struct conf_flag *find_flag(const struct conf_source *source, enum option_type type)
{
    for (size_t i = 0; i < source->flag_count; i++)
        if (source->flags[i].option->type == type)
            return &source->flags[i];
    return NULL;
}

/* One frontend and one backend, both `main`, with nothing but defaults. 0 or -ENOMEM. */
static int add_main(struct conf *conf)
{
    conf->frontends = calloc(1, sizeof *conf->frontends);
    conf->backends = calloc(1, sizeof *conf->backends);
    if (!conf->frontends || !conf->backends)
        return -ENOMEM;
    conf->frontend_count = conf->backend_count = 1;
    conf->frontends->deadlines = conf->deadlines;
    conf->frontends->name = strdup("main");
    conf->backends->name = strdup("main");
    if (!conf->frontends->name || !conf->backends->name)
        return -ENOMEM;
    int error = option_defaults(SCOPE_FRONTEND, conf->frontends);
    return error ? error : option_defaults(SCOPE_BACKEND, conf->backends);
}

/* Putting it together. */

static struct conf *conf_new(void)
{
    struct conf *conf = calloc(1, sizeof *conf);
    if (!conf)
        return NULL;
    deadlines_default(&conf->deadlines);
    if (option_defaults(SCOPE_TOP, conf) == 0)
        return conf;
    conf_free(conf);
    return NULL;
}

/* `drain` stands at the top of a file, and is a deadline of every session. */
static void spread_drain(struct conf *conf)
{
    conf->deadlines.after_ms[DEADLINE_DRAIN] = conf->drain_ms;
    for (size_t i = 0; i < conf->frontend_count; i++)
        conf->frontends[i].deadlines.after_ms[DEADLINE_DRAIN] = conf->drain_ms;
}

/* Gives the configuration out, or frees it: entirely or not at all. */
/* One header names one client, and a connection that is reused serves many. */
static bool refuses_reuse(const struct conf *conf, struct findings *findings)
{
    bool refused = false;
    for (size_t i = 0; i < conf->backend_count; i++) {
        const struct conf_backend *backend = &conf->backends[i];
        if (backend->send_proxy == CONF_SEND_PROXY_OFF || backend->reuse == CONF_REUSE_OFF)
            continue;
        finding_error(
            findings, "lastack", 0, 0,
            "backend %s: found send_proxy beside reuse; allowed: one of the two, for one header names "
            "one client",
            backend->name);
        refused = true;
    }
    return refused;
}

/* Nobody could connect. */
static bool refuses_everybody(const struct conf *conf, struct findings *findings)
{
    bool refused = false;
    for (size_t i = 0; i < conf->frontend_count; i++) {
        const struct conf_frontend *frontend = &conf->frontends[i];
        bool has_unix = false;
        for (size_t l = 0; l < frontend->listen_count; l++)
            has_unix |= frontend->listen[l].address.address.ss_family == AF_UNIX;
        if (frontend->accept_proxy == CONF_ACCEPT_PROXY_OFF || frontend->trusted_count > 0 || has_unix)
            continue;
        finding_error(findings, "lastack", 0, 0,
                      "frontend %s: found accept_proxy without trusted; allowed: with the networks of those "
                      "that may send a PROXY header",
                      frontend->name);
        refused = true;
    }
    return refused;
}

static int finish(struct conf *conf, int error, struct conf **out, struct findings *findings)
{
    bool refused = !error && refuses_reuse(conf, findings);
    if (!error && (refuses_everybody(conf, findings) || refused))
        error = ERROR_CONFIG;
    findings_sort(findings);
    if (error) {
        conf_free(conf);
        return error;
    }
    spread_drain(conf);
    *out = conf;
    return 0;
}

static int refuse_memory(struct findings *findings)
{
    static const struct place place = {.name = "lastack"};
    return assign_refuse_memory(&place, findings);
}

static int walk_bytes(const char *name, const char *bytes, size_t size, struct conf *conf,
                      struct findings *findings)
{
    struct yaml yaml;
    int error = yaml_parse(name, bytes, size, &yaml, findings);
    if (!error)
        error = walk(name, &yaml, conf, findings);
    yaml_free(&yaml);
    return error;
}

int conf_load_bytes(const char *name, const char *bytes, size_t size, const struct conf_source *flags,
                    struct conf **out, struct findings *findings)
{
    *out = NULL;
    struct conf *conf = conf_new();
    if (!conf)
        return refuse_memory(findings);
    int error = walk_bytes(name, bytes, size, conf, findings);
    int flag_error = error == -ENOMEM ? 0 : apply_flags(conf, flags, findings);
    return finish(conf, error ? error : flag_error, out, findings);
}

/* What on_loop() needs to say so of flags. */
struct flag_loop {
    const struct conf *conf;
    struct findings *findings;
};

static void on_loop(void *context, const struct loop *loop)
{
    static const struct place place = {.name = "--backend"};
    const struct flag_loop *at = context;
    loop_refuse(at->conf, loop, &place, at->findings);
}

static int load_flags(const struct conf_source *source, struct conf **out, struct findings *findings)
{
    struct conf *conf = conf_new();
    int error = conf ? add_main(conf) : -ENOMEM;
    if (error) {
        conf_free(conf);
        return refuse_memory(findings);
    }
    error = apply_flags(conf, source, findings);
    struct flag_loop at = {conf, findings};
    size_t errors = findings->errors;
    if (!error && loop_find(conf, on_loop, &at))
        error = refuse_memory(findings);
    if (!error && findings->errors > errors)
        error = ERROR_CONFIG;
    return finish(conf, error, out, findings);
}

/* What is there to load at all. 0 or ERROR_CONFIG. */
static int check_source(const struct conf_source *source, struct findings *findings)
{
    const struct conf_flag *listen = find_flag(source, OPTION_LISTEN);
    const struct conf_flag *backend = find_flag(source, OPTION_SERVERS);
    if (source->file && (listen || backend)) {
        finding_error(findings, listen ? "--listen" : "--backend", 0, 0,
                      "found beside -c; allowed: either a file, or --listen and --backend");
        return ERROR_CONFIG;
    }
    if (source->file || (listen && backend))
        return 0;
    if (!listen)
        finding_error(findings, "--listen", 0, 0,
                      "found nothing; allowed: an address such as 127.0.0.1:8080%s",
                      backend ? "" : ", or a whole configuration with -c FILE");
    if (!backend)
        finding_error(findings, "--backend", 0, 0,
                      "found nothing; allowed: an address such as 127.0.0.1:9000");
    return ERROR_CONFIG;
}

int conf_load(const struct conf_source *source, struct conf **out, struct findings *findings)
{
    *out = NULL;
    int error = check_source(source, findings);
    if (error)
        return error;
    if (!source->file)
        return load_flags(source, out, findings);
    size_t room = YAML_SIZE_MAX + 1;
    char *bytes = malloc(room);
    if (!bytes)
        return refuse_memory(findings);
    ssize_t size = file_read(source->file, bytes, room);
    if (size < 0) {
        finding_error(findings, source->file, 0, 0, "cannot be read: %s", error_text((int)size));
        error = (int)size;
    } else {
        error = conf_load_bytes(source->file, bytes, (size_t)size, source, out, findings);
    }
    free(bytes);
    return error;
}
