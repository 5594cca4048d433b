#ifndef CONF_CONF_H
#define CONF_CONF_H

/* What a user has set, as plain data.
 *
 * A `struct conf` is made whole by conf_load() (conf/load.h) or not at all, is never changed afterwards, and
 * may then be read by any thread. It owns all memory that it points to; conf_free() gives it back, on any
 * thread, once nobody reads it. Nothing here opens a socket, resolves a name or knows where a value came
 * from.
 *
 * Two rules hold for every value: a duration that is `off` is DEADLINE_OFF, a count or a rate that is `off`
 * or `auto` is 0. */

#include "reaper/kernel/ladder.h"
#include "reaper/policy/settings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum conf_mode { CONF_MODE_TCP, CONF_MODE_HTTP };
/* Which field tells the backend who the client is. */
enum conf_forwarded { CONF_FORWARDED_X, CONF_FORWARDED, CONF_FORWARDED_OFF };
/* Whether the lines of a head may end in LF alone. */
enum conf_bare_lf { CONF_BARE_LF_ACCEPT, CONF_BARE_LF_REFUSE };
/* What a client may ask to change to by Upgrade. */
enum { CONF_UPGRADES_MAX = 8, CONF_UPGRADE_TEXT = 32 };
/* What becomes of a connection beyond `max_connections`. */
enum conf_over_limit { CONF_OVER_LIMIT_WAIT, CONF_OVER_LIMIT_REFUSE };
/* How many of them a frontend that refuses them accepts at a time; the others wait. */
enum { CONF_SURPLUS_MAX = 64 };
enum conf_balance { CONF_BALANCE_ROUNDROBIN, CONF_BALANCE_LEASTCONN, CONF_BALANCE_SOURCE };
/* Whether a client says by a PROXY header for whom it speaks; one that is not trusted never may. */
enum conf_accept_proxy { CONF_ACCEPT_PROXY_OFF, CONF_ACCEPT_PROXY_REQUIRED, CONF_ACCEPT_PROXY_OPTIONAL };
/* When a session of mode tcp connects to its backend. */
enum conf_connect_on { CONF_CONNECT_ON_ACCEPT, CONF_CONNECT_ON_FIRST_BYTE };
/* Which PROXY header a server is sent; the last one with a CRC32c checksum. */
enum conf_send_proxy {
    CONF_SEND_PROXY_OFF,
    CONF_SEND_PROXY_V1,
    CONF_SEND_PROXY_V2,
    CONF_SEND_PROXY_V2_CRC32C
};
/* Whether requests of other clients may go over a backend leg that has served before. */
enum conf_reuse { CONF_REUSE_OFF, CONF_REUSE_SAFE, CONF_REUSE_ALWAYS };
enum conf_log_format { CONF_LOG_LOGFMT, CONF_LOG_JSON };
/* Each includes those before it. */
enum conf_log_level { CONF_LOG_ERROR, CONF_LOG_WARNING, CONF_LOG_INFO, CONF_LOG_DEBUG };

/* A socket address, ready for bind() or connect(). */
struct conf_address {
    struct sockaddr_storage address;
    socklen_t length; /* 0: none, only struct conf_server has that */
};

struct conf_listen {
    char *text;                  /* normalised: "127.0.0.1:8080", "[::]:8080", "unix:/run/a.sock" */
    struct conf_address address; /* AF_INET, AF_INET6 (meant for IPv6 only: set IPV6_V6ONLY) or AF_UNIX; a
                                    port may be 0, then the kernel picks one */
};

struct conf_server {
    char *text;                  /* as in logs: "127.0.0.1:9000", "db.internal:9000", "unix:/run/a.sock" */
    struct conf_address address; /* length 0: `host` is a name that has to be resolved */
    char *host;                  /* NULL unless it is a name */
    uint16_t port;               /* host byte order; 0 for a unix path */
};

/* Socket options of one side's legs. */
struct conf_tcp {
    bool nodelay;
    uint64_t
        keepalive_ms; /* idle time before the first probe, whole seconds; DEADLINE_OFF: no SO_KEEPALIVE */
    uint64_t user_timeout_ms; /* TCP_USER_TIMEOUT, fits int; DEADLINE_OFF: the kernel's own bound */
    uint64_t receive_buffer;  /* bytes the kernel holds for what was not read yet; 0: its own bound */
    uint64_t send_buffer;     /* bytes that wait to be sent; 0: its own bound */
};

/* Addresses that begin with the same bits. */
struct conf_network {
    sa_family_t family; /* AF_INET or AF_INET6 */
    unsigned bits;
    unsigned char address[16]; /* network byte order, the first 4 for IPv4; zero behind the bits */
};

/* An answer of the proxy's own that a file replaces (conf/answer_file.h). */
struct conf_answer {
    uint16_t status;
    bool has_date, has_retry_after; /* the file gives these fields */
    char *path;
    char *bytes; /* field lines and the empty line, each ended by CR LF, then the body */
    size_t head_size, body_size;
};

/* What is done with messages in mode http. */
struct conf_http {
    enum conf_forwarded forwarded;
    bool via, request_id;
    uint64_t max_head, max_request_line; /* bytes */
    uint64_t max_fields;
    bool connect;                                        /* CONNECT is passed on */
    char upgrades[CONF_UPGRADES_MAX][CONF_UPGRADE_TEXT]; /* in small letters, without a version */
    size_t upgrade_count;
    enum conf_bare_lf bare_lf;
    enum conf_over_limit over_limit;
    struct conf_answer *answers; /* no status twice */
    size_t answer_count;
};

struct conf_frontend {
    char *name; /* unique among frontends; letters, digits, '_', '-', '.' */
    struct conf_listen *listen;
    size_t listen_count; /* at least 1 */
    enum conf_mode mode;
    size_t backend;             /* index in conf.backends */
    uint64_t max_connections;   /* 0: no limit */
    struct deadlines deadlines; /* complete: the frontend's own over the defaults; DEADLINE_DRAIN included */
    struct conf_tcp tcp;        /* of its client legs */
    struct conf_network *trusted; /* clients whose word about those before them is believed */
    size_t trusted_count;
    enum conf_accept_proxy accept_proxy;
    enum conf_connect_on connect_on; /* mode http always waits for a request */
    struct conf_http http;           /* mode http only */
};

/* What a check of a server asks for. */
enum conf_check_kind { CONF_CHECK_OFF, CONF_CHECK_TCP, CONF_CHECK_GET, CONF_CHECK_HEAD };

struct conf_check {
    enum conf_check_kind kind;
    char *path; /* of GET and HEAD: from its '/' on, query included; else NULL */
};

struct conf_backend {
    char *name; /* unique among backends */
    struct conf_server *servers;
    size_t server_count; /* at least 1 */
    enum conf_balance balance;
    uint64_t resolve_interval_ms; /* DEADLINE_OFF: names are resolved once, at the start */
    enum conf_reuse reuse;        /* mode http only, as are the next two */
    uint64_t reuse_max;           /* idle legs kept for each address, by all workers together */
    uint64_t reuse_idle_ms;       /* how long each of them is kept; never DEADLINE_OFF */
    struct conf_tcp tcp;          /* of its backend legs */
    uint64_t
        set_aside_ms; /* after a failure to connect, doubled with each further one; DEADLINE_OFF: never */
    uint64_t set_aside_max_ms;
    enum conf_send_proxy send_proxy;
    struct conf_check check;
    uint64_t check_interval_ms;
    uint64_t rise, fall; /* good or bad checks in a row that take a server up or down */
};

enum { CONF_PORTS_MAX = 64 };

/* Leaks that did not go through the proxy: whether to look for them, and what to do about them. */
struct conf_reaper {
    bool backends;                  /* look at the ports of all backends' servers */
    uint16_t ports[CONF_PORTS_MAX]; /* or at these, host order */
    size_t port_count;
    uint64_t interval_ms;
    uint64_t older_than_ms; /* leave younger ones alone */
    enum ladder_action action;
};

struct conf_log {
    enum conf_log_format format;
    enum conf_log_level level;
    uint64_t summary_ms; /* DEADLINE_OFF: none */
    bool normal;         /* also lines about what ended well */
    char *target;        /* "stderr", "stdout" or the absolute path of a file to append to */
};

/* What happens to a system call that the program has no use for. */
enum conf_seccomp {
    CONF_SECCOMP_ON,  /* it is refused */
    CONF_SECCOMP_LOG, /* the kernel's audit log names it */
    CONF_SECCOMP_OFF,
};

struct conf {
    char *user; /* who to be after binding, when started as root; "off": as started */
    enum conf_seccomp seccomp;
    uint64_t workers;  /* 0: one a core */
    uint64_t drain_ms; /* DEADLINE_OFF: wait for the last session, however long */
    struct conf_log log;
    struct conf_reaper reaper;
    struct deadlines deadlines; /* the defaults of the frontends */
    struct conf_frontend *frontends;
    size_t frontend_count; /* at least 1 */
    struct conf_backend *backends;
    size_t backend_count; /* at least 1 */
};

/* How many sessions beyond `max_connections` that frontend refuses at a time. */
uint64_t conf_surplus(const struct conf_frontend *frontend);

/* Whether a server is given by a name, to be looked up. */
bool conf_has_names(const struct conf *conf);

/* Frees it and everything that it owns. NULL is fine. */
void conf_free(struct conf *conf);

/* The status of that text if it is one whose answer can be replaced, or 0. */
uint16_t conf_answer_status(const char *text);

/* All of them, separated by ", ". */
void conf_answer_statuses(char *list, size_t size);

#endif
