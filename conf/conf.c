#include "conf/conf.h"

#include <stdio.h>
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

bool conf_has_names(const struct conf *conf)
{
    for (size_t b = 0; b < conf->backend_count; b++)
        for (size_t s = 0; s < conf->backends[b].server_count; s++)
            if (conf->backends[b].servers[s].host)
                return true;
    return false;
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
    free(conf->user);
    free(conf);
}

/* ---- answers ---- */

static const uint16_t statuses[] = {400, 405, 408, 414, 431, 501, 502, 503, 504, 505};

enum { STATUS_COUNT = sizeof statuses / sizeof statuses[0] };

uint16_t conf_answer_status(const char *text)
{
    for (size_t i = 0; i < STATUS_COUNT; i++) {
        char status[8];
        snprintf(status, sizeof status, "%u", statuses[i]);
        if (strcmp(status, text) == 0)
            return statuses[i];
    }
    return 0;
}

void conf_answer_statuses(char *list, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; i < STATUS_COUNT && used < size; i++)
        used += (size_t)snprintf(list + used, size - used, "%s%u", i > 0 ? ", " : "", statuses[i]);
}
