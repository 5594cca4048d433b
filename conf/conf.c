#include "conf/conf.h"

#include <stdlib.h>
#include <string.h>

uint64_t conf_surplus(const struct conf_frontend *frontend)
{
    bool refuses = frontend->mode == CONF_MODE_HTTP && frontend->http.over_limit == CONF_OVER_LIMIT_REFUSE;
    return refuses ? CONF_SURPLUS_MAX : 0;
}

static void free_frontend(struct conf_frontend *frontend)
{
    for (size_t i = 0; i < frontend->listen_count; i++)
        free(frontend->listen[i].text);
    free(frontend->listen);
    free(frontend->trusted);
    for (size_t i = 0; i < frontend->http.answer_count; i++) {
        free(frontend->http.answers[i].path);
        free(frontend->http.answers[i].bytes);
    }
    free(frontend->http.answers);
    free(frontend->name);
}

static void free_backend(struct conf_backend *backend)
{
    for (size_t i = 0; i < backend->server_count; i++) {
        free(backend->servers[i].text);
        free(backend->servers[i].host);
    }
    free(backend->servers);
    free(backend->check.path);
    free(backend->name);
}

void conf_free(struct conf *conf)
{
    if (!conf)
        return;
    for (size_t i = 0; i < conf->frontend_count; i++)
        free_frontend(&conf->frontends[i]);
    for (size_t i = 0; i < conf->backend_count; i++)
        free_backend(&conf->backends[i]);
    free(conf->frontends);
    free(conf->backends);
    free(conf->log.target);
    free(conf);
}
