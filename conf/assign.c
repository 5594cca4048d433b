#include "conf/assign.h"

#include "reaper/error.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

enum { LISTEN_TOTAL_MAX = 1024 }; /* each is a descriptor a worker */

int assign_refuse(const struct place *place, const char *found, const char *allowed, const char *why,
                  struct findings *findings)
{
    finding_error(findings, place->name, place->line, place->column, "%s%sfound %s; allowed: %s%s%s%s",
                  place->key ? place->key : "", place->key ? ": " : "", found, allowed, why ? " (" : "",
                  why ? why : "", why ? ")" : "");
    return ERROR_CONFIG;
}

int assign_refuse_row(const struct place *place, const char *found, const struct option_row *row,
                      const char *why, struct findings *findings)
{
    char allowed[OPTION_ALLOWED];
    option_allowed(row, allowed);
    return assign_refuse(place, found, allowed, why, findings);
}

int assign_refuse_memory(const struct place *place, struct findings *findings)
{
    finding_error(findings, place->name, place->line, place->column, "out of memory");
    return -ENOMEM;
}

const char *assign_found(const char *text, char quoted[static FINDING_QUOTE])
{
    return *text ? finding_quote(text, quoted) : "nothing";
}

/* Port 0 is a new port each time. */
static bool is_any_port(const struct conf_listen *listen)
{
    const void *socket = &listen->address.address;
    if (listen->address.address.ss_family == AF_UNIX)
        return false;
    /* sin_port and sin6_port lie at the same place (RFC 3493 section 3.3 keeps the layout of sockaddr_in) */
    const struct sockaddr_in *in = socket;
    return in->sin_port == 0;
}

/* What speaks against the last address of that frontend beside all others; NULL: nothing. */
static const char *listen_conflict(const struct conf *conf, const struct conf_frontend *frontend)
{
    const struct conf_listen *last = &frontend->listen[frontend->listen_count - 1];
    size_t total = 0;
    for (size_t i = 0; i < conf->frontend_count; i++) {
        const struct conf_frontend *other = &conf->frontends[i];
        total += other->listen_count;
        for (size_t j = 0; j < other->listen_count; j++)
            if (&other->listen[j] != last && !is_any_port(last) &&
                strcmp(other->listen[j].text, last->text) == 0)
                return "listened on already";
    }
    return total > LISTEN_TOTAL_MAX ? "1024 addresses in all" : NULL;
}

int assign(const struct conf *conf, const struct option_row *row, void *object, const char *text,
           const struct place *place, struct findings *findings)
{
    char quoted[FINDING_QUOTE];
    const char *why = NULL;
    int error = option_set(row, object, text, &why);
    if (!error && row->type == OPTION_LISTEN)
        why = listen_conflict(conf, object);
    if (error == -ENOMEM)
        return assign_refuse_memory(place, findings);
    if (error || why)
        return assign_refuse_row(place, assign_found(text, quoted), row, *text ? why : NULL, findings);
    return 0;
}
