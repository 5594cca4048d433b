#include "conf/warn.h"

#include "conf/option.h"
#include "conf/value.h"

#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define CONNTRACK_CLOSE_WAIT "nf_conntrack_tcp_timeout_close_wait"

enum { DESCRIPTORS_BESIDES = 64 }; /* listeners, loops, pipes and logs beside those of sessions */

/* The first number in the file, or the fallback. */
static uint64_t read_number(const char *path, uint64_t fallback)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return fallback;
    char line[32] = "";
    uint64_t number = fallback;
    if (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        value_integer(line, &number); /* leaves the fallback when it is no number */
    }
    fclose(file);
    return number;
}

#define PORTS "/proc/sys/net/ipv4/ip_local_"

/* The first line of the file, without its end; empty when there is none. A line that is too long is cut
 * behind its last comma. */
static void read_line(const char *path, char *line, size_t size)
{
    line[0] = '\0';
    FILE *file = fopen(path, "re");
    if (!file)
        return;
    if (!fgets(line, (int)size, file))
        line[0] = '\0';
    fclose(file);
    char *end = strchr(line, '\n');
    char *comma = strrchr(line, ',');
    if (end)
        *end = '\0';
    else if (comma && strlen(line) == size - 1)
        *comma = '\0';
}

static void read_ports(struct conf_host *host)
{
    char range[32];
    host->port_low = host->port_high = 0;
    read_line(PORTS "port_range", range, sizeof range);
    if (sscanf(range, "%u %u", &host->port_low, &host->port_high) != 2)
        host->port_low = host->port_high = 0;
    read_line(PORTS "reserved_ports", host->reserved_ports, sizeof host->reserved_ports);
}

void conf_host_read(struct conf_host *host)
{
    read_ports(host);
    host->is_root = geteuid() == 0;
    struct rlimit limit = {.rlim_max = RLIM_INFINITY};
    getrlimit(RLIMIT_NOFILE, &limit); /* fails only for bad arguments: getrlimit(2) */
    host->descriptors = limit.rlim_max == RLIM_INFINITY ? UINT64_MAX : limit.rlim_max;
    host->conntrack_close_wait_ms = read_number("/proc/sys/net/netfilter/" CONNTRACK_CLOSE_WAIT, 60) * 1000;
}

static bool is_remote(const struct conf_server *server)
{
    const void *socket = &server->address.address;
    if (server->address.length == 0)
        return strcmp(server->host, "localhost") != 0;
    if (server->address.address.ss_family == AF_INET) {
        const struct sockaddr_in *in = socket;
        return (ntohl(in->sin_addr.s_addr) >> 24) != IN_LOOPBACKNET;
    }
    if (server->address.address.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = socket;
        return !IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
    }
    return false;
}

static unsigned port_of(const struct conf_server *server)
{
    const void *socket = &server->address.address;
    if (server->address.length == 0)
        return server->port;
    if (server->address.address.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)socket)->sin_port);
    if (server->address.address.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)socket)->sin6_port);
    return 0;
}

/* Whether the kernel's list names the port: "8080,9000-9010". */
static bool is_listed(const char *list, unsigned port)
{
    while (*list) {
        unsigned first = 0, last = 0;
        int found = sscanf(list, "%u-%u", &first, &last);
        if (found >= 1 && port >= first && port <= (found == 2 ? last : first))
            return true;
        list += strcspn(list, ",");
        list += *list == ',';
    }
    return false;
}

/* While the server is down, any connection from this host may have got its port, and it can't bind it. */
static void warn_ports(const struct conf_backend *backend, const struct conf_host *host,
                       struct findings *findings)
{
    for (size_t i = 0; i < backend->server_count; i++) {
        const struct conf_server *server = &backend->servers[i];
        unsigned port = port_of(server);
        if (port == 0 || is_remote(server) || port < host->port_low || port > host->port_high ||
            is_listed(host->reserved_ports, port))
            continue;
        finding_warning(
            findings,
            "backend %s: this host also gives the port of %s to connections that it opens "
            "(net.ipv4.ip_local_port_range, %u to %u): while the server is down, one of them may "
            "have the port when it starts again; net.ipv4.ip_local_reserved_ports=%u keeps it free",
            backend->name, server->text, host->port_low, host->port_high, port);
        return;
    }
}

static const struct conf_server *first_remote(const struct conf_backend *backend)
{
    for (size_t i = 0; i < backend->server_count; i++)
        if (is_remote(&backend->servers[i]))
            return &backend->servers[i];
    return NULL;
}

/* A half-closed session that is silent for longer than conntrack remembers it: the RST that ends it may not
 * reach the backend. */
static void warn_conntrack(const struct conf *conf, const struct conf_frontend *frontend,
                           const struct conf_host *host, struct findings *findings)
{
    uint64_t half_close = frontend->deadlines.after_ms[DEADLINE_HALF_CLOSE];
    uint64_t most = frontend->deadlines.after_ms[DEADLINE_HALF_CLOSE_MAX];
    uint64_t silent_ms = half_close < most ? half_close : most;
    const struct conf_server *server = first_remote(&conf->backends[frontend->backend]);
    if (!server || silent_ms <= host->conntrack_close_wait_ms)
        return;
    char silent[VALUE_NUMBER_TEXT] = "ever";
    char known[VALUE_NUMBER_TEXT];
    if (silent_ms != DEADLINE_OFF)
        value_duration_text(silent_ms, silent);
    value_duration_text(host->conntrack_close_wait_ms, known);
    finding_warning(
        findings,
        "frontend %s: a half-closed session may be silent for %s (half_close), but a firewall or NAT "
        "before %s forgets it after %s (" CONNTRACK_CLOSE_WAIT ") and may then drop the RST that ends it",
        frontend->name, silent, server->text, known);
}

/* A kernel answers for a leaking program as it does for a sound one. */
static void warn_extend(const struct conf_frontend *frontend, struct findings *findings)
{
    const struct deadlines *deadlines = &frontend->deadlines;
    if (deadlines->verify == VERIFY_EXTEND && deadlines->after_ms[DEADLINE_HALF_CLOSE_MAX] == DEADLINE_OFF)
        finding_warning(
            findings,
            "frontend %s: verify: extend without half_close_max lets a leak last for as long as its "
            "host is up",
            frontend->name);
}

/* Whether an option of mode http has another value than its default. */
static bool is_set(const struct option_row *row, const struct conf_frontend *frontend)
{
    char text[VALUE_NUMBER_TEXT];
    if (row->type == OPTION_NETWORKS)
        return frontend->trusted_count > 0 && frontend->accept_proxy == CONF_ACCEPT_PROXY_OFF;
    if (row->type == OPTION_ANSWERS)
        return frontend->http.answer_count > 0;
    option_text(row, frontend, text, sizeof text);
    return strcmp(text, row->fallback) != 0;
}

/* What it costs. */
static void warn_connect_on(const struct conf_frontend *frontend, struct findings *findings)
{
    if (frontend->connect_on == CONF_CONNECT_ON_FIRST_BYTE && frontend->mode == CONF_MODE_TCP)
        finding_warning(
            findings,
            "frontend %s: connect_on: first_byte: a client that waits for the server to speak first "
            "(SMTP, SSH, MySQL) waits in vain, and is reset after preface",
            frontend->name);
}

/* Who sets what is for messages wants them followed. */
static void warn_mode(const struct conf_frontend *frontend, struct findings *findings)
{
    static const char list[] = "frontends[].";
    static const char section[] = "frontends[].http.";
    char keys[OPTION_ALLOWED];
    size_t used = 0;
    size_t count = 0;
    const struct option_row *rows = option_table(&count);
    for (size_t i = 0; frontend->mode == CONF_MODE_TCP && i < count && used < sizeof keys; i++) {
        bool is_http =
            rows[i].type == OPTION_NETWORKS || strncmp(rows[i].path, section, strlen(section)) == 0;
        if (is_http && is_set(&rows[i], frontend))
            used += (size_t)snprintf(keys + used, sizeof keys - used, "%s%s", used ? ", " : "",
                                     rows[i].path + strlen(list));
    }
    if (used > 0)
        finding_warning(findings, "frontend %s: mode tcp takes no notice of %s", frontend->name, keys);
}

static void warn_descriptors(const struct conf *conf, const struct conf_host *host, struct findings *findings)
{
    uint64_t sessions = 0;
    uint64_t surplus = 0; /* without a backend leg */
    for (size_t i = 0; i < conf->frontend_count; i++) {
        sessions += conf->frontends[i].max_connections;
        surplus += conf_surplus(&conf->frontends[i]);
    }
    uint64_t needed = 2 * sessions + surplus + DESCRIPTORS_BESIDES;
    if (sessions > 0 && needed > host->descriptors)
        finding_warning(findings,
                        "max_connections of all frontends needs %" PRIu64
                        " descriptors, but this process may "
                        "have %" PRIu64 " (hard RLIMIT_NOFILE; LimitNOFILE= in a systemd unit)",
                        needed, host->descriptors);
}

static void warn_unused(const struct conf *conf, size_t backend, struct findings *findings)
{
    for (size_t i = 0; i < conf->frontend_count; i++)
        if (conf->frontends[i].backend == backend)
            return;
    finding_warning(findings, "backend %s: no frontend uses it", conf->backends[backend].name);
}

static void warn_set_aside(const struct conf_backend *backend, struct findings *findings)
{
    char most[VALUE_NUMBER_TEXT];
    if (backend->set_aside_ms == DEADLINE_OFF || backend->set_aside_ms <= backend->set_aside_max_ms)
        return;
    value_duration_text(backend->set_aside_max_ms, most);
    finding_warning(findings, "backend %s: set_aside is cut to set_aside_max, %s", backend->name, most);
}

static bool serves_http(const struct conf *conf, size_t backend)
{
    for (size_t i = 0; i < conf->frontend_count; i++)
        if (conf->frontends[i].backend == backend && conf->frontends[i].mode == CONF_MODE_HTTP)
            return true;
    return false;
}

static void warn_reuse(const struct conf *conf, size_t backend, struct findings *findings)
{
    if (conf->backends[backend].reuse != CONF_REUSE_OFF && !serves_http(conf, backend))
        finding_warning(findings, "backend %s: reuse has no effect, for no frontend in mode http uses it",
                        conf->backends[backend].name);
}

/* Who gets hold of the proxy gets the host. */
static void warn_root(const struct conf *conf, const struct conf_host *host, struct findings *findings)
{
    if (host->is_root && strcmp(conf->user, "off") == 0)
        finding_warning(
            findings, "the proxy would stay root; `user: lastack` at the top of the file, or --user=lastack, "
                      "gives that up once every address is bound (make the user by "
                      "adduser --system --group lastack)");
}

void conf_warn(const struct conf *conf, const struct conf_host *host, struct findings *findings)
{
    warn_root(conf, host, findings);
    for (size_t i = 0; i < conf->frontend_count; i++)
        warn_conntrack(conf, &conf->frontends[i], host, findings);
    for (size_t i = 0; i < conf->frontend_count; i++)
        warn_extend(&conf->frontends[i], findings);
    for (size_t i = 0; i < conf->frontend_count; i++)
        warn_mode(&conf->frontends[i], findings);
    for (size_t i = 0; i < conf->frontend_count; i++)
        warn_connect_on(&conf->frontends[i], findings);
    warn_descriptors(conf, host, findings);
    for (size_t i = 0; i < conf->backend_count; i++)
        warn_unused(conf, i, findings);
    for (size_t i = 0; i < conf->backend_count; i++)
        warn_set_aside(&conf->backends[i], findings);
    for (size_t i = 0; i < conf->backend_count; i++)
        warn_reuse(conf, i, findings);
    for (size_t i = 0; i < conf->backend_count; i++)
        warn_ports(&conf->backends[i], host, findings);
}
