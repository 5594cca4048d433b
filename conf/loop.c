#include "conf/loop.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

/* ---- addresses ---- */

/* What an address is to somebody who connects from this host. */
enum host { HOST_OTHER, HOST_LOOPBACK, HOST_ANY };

static enum host host4(uint32_t address)
{
    if (ntohl(address) >> 24 == IN_LOOPBACKNET)
        return HOST_LOOPBACK;
    return address == htonl(INADDR_ANY) ? HOST_ANY : HOST_OTHER;
}

static enum host host6(const struct in6_addr *address)
{
    if (IN6_IS_ADDR_LOOPBACK(address))
        return HOST_LOOPBACK;
    return IN6_IS_ADDR_UNSPECIFIED(address) ? HOST_ANY : HOST_OTHER;
}

static bool meets(enum host listens, enum host connects, bool is_here)
{
    return listens == HOST_ANY && (connects != HOST_OTHER || is_here);
}

/* Who connects to the wildcard address connects to the loopback one (ip(7), ipv6(7)). */
static uint32_t reached4(uint32_t address)
{
    return address == htonl(INADDR_ANY) ? htonl(INADDR_LOOPBACK) : address;
}

static const struct in6_addr *reached6(const struct in6_addr *address)
{
    return IN6_IS_ADDR_UNSPECIFIED(address) ? &in6addr_loopback : address;
}

static bool same4(const struct sockaddr_in *listens, uint32_t address, in_port_t port, bool is_here)
{
    bool same = listens->sin_addr.s_addr == reached4(address) ||
                meets(host4(listens->sin_addr.s_addr), host4(address), is_here);
    return same && listens->sin_port == port;
}

static bool same6(const struct sockaddr_in6 *listens, const struct sockaddr_in6 *connects, bool is_here)
{
    bool same = memcmp(&listens->sin6_addr, reached6(&connects->sin6_addr), sizeof listens->sin6_addr) == 0 &&
                listens->sin6_scope_id == connects->sin6_scope_id;
    return listens->sin6_port == connects->sin6_port &&
           (same || meets(host6(&listens->sin6_addr), host6(&connects->sin6_addr), is_here));
}

static bool same_port(const struct conf_listen *listen, uint16_t port)
{
    const void *socket = &listen->address.address;
    if (listen->address.address.ss_family == AF_INET) {
        const struct sockaddr_in *in = socket;
        return in->sin_port == htons(port) && host4(in->sin_addr.s_addr) != HOST_OTHER;
    }
    const struct sockaddr_in6 *in6 = socket;
    return listen->address.address.ss_family == AF_INET6 && in6->sin6_port == htons(port) &&
           host6(&in6->sin6_addr) != HOST_OTHER;
}

/* An IPv4 address may be written as one of IPv6 (RFC 4291, 2.5.5.2). */
static bool same_address(const struct conf_listen *listen, const struct conf_address *address, bool is_here)
{
    const void *listens = &listen->address.address;
    const void *connects = &address->address;
    sa_family_t family = address->address.ss_family;
    const struct sockaddr_in6 *in6 = connects;
    if (family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        uint32_t mapped;
        memcpy(&mapped, in6->sin6_addr.s6_addr + 12, sizeof mapped);
        return listen->address.address.ss_family == AF_INET &&
               same4(listens, mapped, in6->sin6_port, is_here);
    }
    if (family != listen->address.address.ss_family)
        return false;
    if (family == AF_INET6)
        return same6(listens, connects, is_here);
    if (family == AF_UNIX)
        return strcmp(((const struct sockaddr_un *)listens)->sun_path,
                      ((const struct sockaddr_un *)connects)->sun_path) == 0;
    const struct sockaddr_in *in = connects;
    return same4(listens, in->sin_addr.s_addr, in->sin_port, is_here);
}

static bool same_place(const struct conf_listen *listen, const struct conf_server *server)
{
    if (server->host)
        return strcmp(server->host, "localhost") == 0 && same_port(listen, server->port);
    return same_address(listen, &server->address, false);
}

static const struct conf_listen *listen_at(const struct conf_frontend *frontend,
                                           const struct conf_server *server)
{
    for (size_t i = 0; i < frontend->listen_count; i++)
        if (same_place(&frontend->listen[i], server))
            return &frontend->listen[i];
    return NULL;
}

/* ---- the way back ---- */

enum mark { MARK_NONE, MARK_ON_THE_WAY, MARK_DONE };

struct search {
    const struct conf *conf;
    unsigned char *marks; /* enum mark, one a backend */
    void (*found)(void *context, const struct loop *loop);
    void *context;
};

static void visit(struct search *search, size_t b);

/* Goes on from a server to the backends behind those who listen there. */
static void follow(struct search *search, size_t b, size_t s)
{
    const struct conf *conf = search->conf;
    for (size_t f = 0; f < conf->frontend_count; f++) {
        const struct conf_frontend *frontend = &conf->frontends[f];
        const struct conf_listen *listen = listen_at(frontend, &conf->backends[b].servers[s]);
        const struct loop loop = {.backend = b, .server = s, .frontend = frontend, .listen = listen};
        if (listen && search->marks[frontend->backend] == MARK_NONE)
            visit(search, frontend->backend);
        else if (listen && search->marks[frontend->backend] == MARK_ON_THE_WAY)
            search->found(search->context, &loop);
    }
}

static void visit(struct search *search, size_t b)
{
    search->marks[b] = MARK_ON_THE_WAY;
    for (size_t s = 0; s < search->conf->backends[b].server_count; s++)
        follow(search, b, s);
    search->marks[b] = MARK_DONE;
}

int loop_find(const struct conf *conf, void (*found)(void *context, const struct loop *loop), void *context)
{
    struct search search = {.conf = conf, .found = found, .context = context};
    search.marks = calloc(conf->backend_count, 1);
    if (!search.marks)
        return -ENOMEM;
    for (size_t b = 0; b < conf->backend_count; b++)
        if (search.marks[b] == MARK_NONE)
            visit(&search, b);
    free(search.marks);
    return 0;
}

/* ---- addresses that were found later ---- */

const struct conf_frontend *loop_frontend_at(const struct conf *conf, const struct conf_address *address,
                                             bool is_here)
{
    for (size_t f = 0; f < conf->frontend_count; f++)
        for (size_t l = 0; l < conf->frontends[f].listen_count; l++)
            if (same_address(&conf->frontends[f].listen[l], address, is_here))
                return &conf->frontends[f];
    return NULL;
}

struct way {
    const struct conf *conf;
    const struct loop_names *names;
    unsigned char *seen; /* one a backend */
};

static void walk(const struct way *way, size_t backend);

static void walk_from(const struct way *way, const struct conf_address *address)
{
    const struct conf_frontend *frontend = loop_frontend_at(way->conf, address, false);
    if (frontend)
        walk(way, frontend->backend);
}

/* As deep as there are backends: each is walked through once. */
static void walk(const struct way *way, size_t backend)
{
    const struct conf_backend *conf = &way->conf->backends[backend];
    struct conf_address address;
    if (way->seen[backend])
        return;
    way->seen[backend] = true;
    for (size_t s = 0; s < conf->server_count; s++) {
        if (!conf->servers[s].host)
            walk_from(way, &conf->servers[s].address);
        for (size_t i = 0; conf->servers[s].host &&
                           way->names->address(way->names->context, &conf->servers[s], i, &address);
             i++)
            walk_from(way, &address);
    }
}

int loop_leads_to(const struct conf *conf, const struct conf_frontend *frontend, size_t backend,
                  const struct loop_names *names)
{
    struct way way = {.conf = conf, .names = names, .seen = calloc(conf->backend_count, 1)};
    if (!way.seen)
        return -ENOMEM;
    walk(&way, frontend->backend);
    bool leads = way.seen[backend];
    free(way.seen);
    return leads;
}

void loop_refuse(const struct conf *conf, const struct loop *loop, const struct place *place,
                 struct findings *findings)
{
    const struct conf_backend *backend = &conf->backends[loop->backend];
    finding_error(findings, place->name, place->line, place->column,
                  "%s%sfound '%s', where frontend %s listens (%s), from which it goes back to backend %s for "
                  "ever; allowed: an address of the service itself",
                  place->key ? place->key : "", place->key ? ": " : "", backend->servers[loop->server].text,
                  loop->frontend->name, loop->listen->text, backend->name);
}
