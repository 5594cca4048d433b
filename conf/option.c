#include "conf/option.h"

#include "conf/kind.h"
#include "conf/value.h"
#include "reaper/error.h"
#include "reaper/policy/deadline.h"
#include "reaper/words.h"

#include <assert.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Options of OPTION_WORD are enums; all are kept and read as unsigned. */
static_assert(sizeof(enum conf_mode) == sizeof(unsigned), "an enum is not the size of unsigned");

static const char *const modes[] = {[CONF_MODE_TCP] = "tcp", [CONF_MODE_HTTP] = "http", NULL};
static const char *const forwarded[] = {
    [CONF_FORWARDED_X] = "x-forwarded-for",
    [CONF_FORWARDED] = "forwarded",
    [CONF_FORWARDED_OFF] = "off",
    NULL,
};
static const char *const bare_lfs[] = {
    [CONF_BARE_LF_ACCEPT] = "accept",
    [CONF_BARE_LF_REFUSE] = "refuse",
    NULL,
};
static const char *const over_limits[] = {
    [CONF_OVER_LIMIT_WAIT] = "wait",
    [CONF_OVER_LIMIT_REFUSE] = "refuse",
    NULL,
};
static const char *const balances[] = {
    [CONF_BALANCE_ROUNDROBIN] = "roundrobin",
    [CONF_BALANCE_LEASTCONN] = "leastconn",
    [CONF_BALANCE_SOURCE] = "source",
    NULL,
};
static const char *const accept_proxies[] = {
    [CONF_ACCEPT_PROXY_OFF] = "off",
    [CONF_ACCEPT_PROXY_REQUIRED] = "required",
    [CONF_ACCEPT_PROXY_OPTIONAL] = "optional",
    NULL,
};
static const char *const connect_ons[] = {
    [CONF_CONNECT_ON_ACCEPT] = "accept",
    [CONF_CONNECT_ON_FIRST_BYTE] = "first_byte",
    NULL,
};
static const char *const send_proxies[] = {
    [CONF_SEND_PROXY_OFF] = "off",
    [CONF_SEND_PROXY_V1] = "v1",
    [CONF_SEND_PROXY_V2] = "v2",
    [CONF_SEND_PROXY_V2_CRC32C] = "v2-crc32c",
    NULL,
};
static const char *const reuses[] = {
    [CONF_REUSE_OFF] = "off",
    [CONF_REUSE_SAFE] = "safe",
    [CONF_REUSE_ALWAYS] = "always",
    NULL,
};
static const char *const seccomps[] = {
    [CONF_SECCOMP_ON] = "on",
    [CONF_SECCOMP_LOG] = "log",
    [CONF_SECCOMP_OFF] = "off",
    NULL,
};
static const char *const log_formats[] = {[CONF_LOG_LOGFMT] = "logfmt", [CONF_LOG_JSON] = "json", NULL};
static const char *const log_levels[] = {
    [CONF_LOG_ERROR] = "error",
    [CONF_LOG_WARNING] = "warning",
    [CONF_LOG_INFO] = "info",
    [CONF_LOG_DEBUG] = "debug",
    NULL,
};

/* More is a mistake, or somebody who wants to see what happens. */
enum { LIST_MAX = 1024 };

#define HOUR_MS (3600 * 1000)
#define NOT_A_DEADLINE .deadline = DEADLINE_COUNT
#define OFF_IS_NEVER .word = "off", .word_value = DEADLINE_OFF
#define OFF_IS_NONE .word = "off", .word_value = 0

static const struct option_row top_rows[] = {
    {.path = "workers",
     .type = OPTION_COUNT,
     .fallback = "auto",
     .min = 1,
     .max = 1024,
     .word = "auto",
     .offset = offsetof(struct conf, workers),
     NOT_A_DEADLINE,
     .flag = "workers",
     .help = "Threads that carry sessions; auto: one a core"},
    {.path = "user",
     .type = OPTION_USER,
     .fallback = "off",
     .offset = offsetof(struct conf, user),
     NOT_A_DEADLINE,
     .flag = "user",
     .help = "Who to be once every address is bound, when started as root; off: as started"},
    {.path = "seccomp",
     .type = OPTION_WORD,
     .fallback = "on",
     .words = seccomps,
     .offset = offsetof(struct conf, seccomp),
     NOT_A_DEADLINE,
     .flag = "seccomp",
     .help =
         "System calls that the proxy has no use for: on refuses them, log lets the kernel's audit log name "
         "them"},
    {.path = "log.format",
     .type = OPTION_WORD,
     .fallback = "logfmt",
     .words = log_formats,
     .offset = offsetof(struct conf, log.format),
     NOT_A_DEADLINE,
     .flag = "log-format",
     .help = "How the one line a session is written"},
    {.path = "log.level",
     .type = OPTION_WORD,
     .fallback = "info",
     .words = log_levels,
     .offset = offsetof(struct conf, log.level),
     NOT_A_DEADLINE,
     .flag = "log-level",
     .help = "What is worth a line; each level includes those before it"},
    {.path = "log.normal",
     .type = OPTION_SWITCH,
     .fallback = "on",
     .offset = offsetof(struct conf, log.normal),
     NOT_A_DEADLINE,
     .flag = "log-normal",
     .help = "Lines for sessions and requests that ended well, too"},
    {.path = "log.summary",
     .type = OPTION_DURATION,
     .fallback = "1m",
     .min = 1000,
     .max = DEADLINE_MAX_MS,
     .word = "off",
     .word_value = DEADLINE_OFF,
     .offset = offsetof(struct conf, log.summary_ms),
     NOT_A_DEADLINE,
     .help = "How often the proxy sums up itself, each backend and its service"},
    {.path = "log.target",
     .type = OPTION_TARGET,
     .fallback = "stderr",
     .offset = offsetof(struct conf, log.target),
     NOT_A_DEADLINE,
     .flag = "log-target",
     .help = "Where lines go: stderr, stdout or the absolute path of a file to append to"},
    {.path = "reaper.watch",
     .type = OPTION_WATCH,
     .fallback = "backends",
     .offset = offsetof(struct conf, reaper),
     NOT_A_DEADLINE,
     .help =
         "Where to look for leaks that did not go through the proxy: the ports of the backends, or these"},
    {.path = "reaper.interval",
     .type = OPTION_DURATION,
     .fallback = "5s",
     .min = 100,
     .max = HOUR_MS,
     .offset = offsetof(struct conf, reaper.interval_ms),
     NOT_A_DEADLINE,
     .help = "How often to look"},
    {.path = "reaper.older_than",
     .type = OPTION_DURATION,
     .fallback = "2m",
     .min = 0,
     .max = DEADLINE_MAX_MS,
     .offset = offsetof(struct conf, reaper.older_than_ms),
     NOT_A_DEADLINE,
     .help = "Leave leaks alone that are not known to be older"},
    {.path = "reaper.action",
     .type = OPTION_WORD,
     .fallback = "report",
     .words = ladder_words,
     .offset = offsetof(struct conf, reaper.action),
     NOT_A_DEADLINE,
     .help = "What to do about them: report; finish: FIN after what is queued; destroy: RST; ladder: both in "
             "turn"},
};

static const struct option_row verify_row = {
    .path = "deadlines.verify",
    .scope = SCOPE_DEADLINES,
    .type = OPTION_WORD,
    .fallback = "off",
    .words = verify_words,
    .offset = offsetof(struct deadlines, verify),
    NOT_A_DEADLINE,
    .flag = "verify",
    .help =
        "Ask the peers' kernels before half_close ends a session, and end it early where the client is known "
        "to have closed; extend: wait on, up to half_close_max, while both answer",
};

/* TCP_KEEPIDLE takes 1 to 32767 whole seconds (MAX_TCP_KEEPIDLE in include/net/tcp.h), TCP_USER_TIMEOUT what
 * fits an int of milliseconds (tcp(7)): the maxima are the largest round ones. */
#define TCP_ROWS(list, scope_, type_, legs, keepalive_)                                                      \
    {.path = list ".tcp.nodelay",                                                                            \
     .scope = (scope_),                                                                                      \
     .type = OPTION_SWITCH,                                                                                  \
     .fallback = "on",                                                                                       \
     .offset = offsetof(type_, tcp.nodelay),                                                                 \
     NOT_A_DEADLINE,                                                                                         \
     .help = "TCP_NODELAY on " legs ": small writes leave at once"},                                         \
        {.path = list ".tcp.keepalive",                                                                      \
         .scope = (scope_),                                                                                  \
         .type = OPTION_DURATION,                                                                            \
         .fallback = (keepalive_),                                                                           \
         .min = 1000,                                                                                        \
         .max = 9 * HOUR_MS,                                                                                 \
         .step = 1000,                                                                                       \
         OFF_IS_NEVER,                                                                                       \
         .offset = offsetof(type_, tcp.keepalive_ms),                                                        \
         NOT_A_DEADLINE,                                                                                     \
         .help = "Idle time after which the kernel probes " legs " (SO_KEEPALIVE)"},                         \
        {.path = list ".tcp.user_timeout",                                                                   \
         .scope = (scope_),                                                                                  \
         .type = OPTION_DURATION,                                                                            \
         .fallback = "off",                                                                                  \
         .min = 1,                                                                                           \
         .max = HOUR_MS * 24 * 24,                                                                           \
         OFF_IS_NEVER,                                                                                       \
         .offset = offsetof(type_, tcp.user_timeout_ms),                                                     \
         NOT_A_DEADLINE,                                                                                     \
         .help = "How long " legs " may leave bytes unacknowledged (TCP_USER_TIMEOUT)"},                     \
        {.path = list ".tcp.receive_buffer",                                                                 \
         .scope = (scope_),                                                                                  \
         .type = OPTION_COUNT,                                                                               \
         .fallback = "8388608",                                                                              \
         .min = 16384,                                                                                       \
         .max = UINT64_C(1) << 30,                                                                           \
         OFF_IS_NONE,                                                                                        \
         .offset = offsetof(type_, tcp.receive_buffer),                                                      \
         NOT_A_DEADLINE,                                                                                     \
         .help = "Bytes of kernel memory for what came from " legs " and was not relayed (SO_RCVBUF)"},      \
    {                                                                                                        \
        .path = list ".tcp.send_buffer", .scope = (scope_), .type = OPTION_COUNT, .fallback = "off",         \
        .min = 16384, .max = UINT64_C(1) << 30, OFF_IS_NONE, .offset = offsetof(type_, tcp.send_buffer),     \
        NOT_A_DEADLINE, .help = "Bytes that may wait to be sent to " legs " (TCP_NOTSENT_LOWAT)"             \
    }

static const struct option_row side_rows[] = {
    {.path = "frontends[].name",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_NAME,
     .offset = offsetof(struct conf_frontend, name),
     NOT_A_DEADLINE,
     .help = "In logs; unique among frontends"},
    {.path = "frontends[].listen",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_LISTEN,
     .max = LIST_MAX,
     NOT_A_DEADLINE,
     .flag = "listen",
     .help = "Where clients connect: HOST:PORT, [HOST]:PORT or unix:/PATH; a list"},
    {.path = "frontends[].mode",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_WORD,
     .fallback = "tcp",
     .words = modes,
     .offset = offsetof(struct conf_frontend, mode),
     NOT_A_DEADLINE,
     .flag = "mode",
     .help = "What is followed: tcp is bytes and FINs, http is requests and responses"},
    {.path = "frontends[].backend",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_REFERENCE,
     .offset = offsetof(struct conf_frontend, backend),
     NOT_A_DEADLINE,
     .help = "The name of the backend that serves it"},
    {.path = "frontends[].max_connections",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_COUNT,
     .fallback = "off",
     .min = 1,
     .max = UINT64_C(10) * 1000 * 1000,
     OFF_IS_NONE,
     .offset = offsetof(struct conf_frontend, max_connections),
     NOT_A_DEADLINE,
     .flag = "max-connections",
     .help = "How many sessions there may be at a time"},
    {.path = "frontends[].deadlines",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_DEADLINES,
     .fallback = "{}",
     .offset = offsetof(struct conf_frontend, deadlines),
     NOT_A_DEADLINE,
     .help = "What differs from `deadlines:` for this frontend"},
    {.path = "frontends[].trusted",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_NETWORKS,
     .fallback = "off",
     .word = "off",
     NOT_A_DEADLINE,
     .flag = "trusted",
     .help = "Clients that are believed about those before them: '10.0.0.0/8', '::1'; a list"},
    {.path = "frontends[].accept_proxy",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_WORD,
     .fallback = "off",
     .words = accept_proxies,
     .offset = offsetof(struct conf_frontend, accept_proxy),
     NOT_A_DEADLINE,
     .flag = "accept-proxy",
     .help = "Whether clients among trusted say by a PROXY header for whom they speak; required: others are "
             "refused"},
    {.path = "frontends[].connect_on",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_WORD,
     .fallback = "accept",
     .words = connect_ons,
     .offset = offsetof(struct conf_frontend, connect_on),
     NOT_A_DEADLINE,
     .flag = "connect-on",
     .help =
         "Mode tcp: when the backend is connected to; first_byte: a client that says nothing never reaches "
         "it"},
    {.path = "frontends[].http.forwarded",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_WORD,
     .fallback = "x-forwarded-for",
     .words = forwarded,
     .offset = offsetof(struct conf_frontend, http.forwarded),
     NOT_A_DEADLINE,
     .flag = "forwarded",
     .help = "Mode http: the field that tells the backend who the client is; off adds and removes none"},
    {.path = "frontends[].http.request_id",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_SWITCH,
     .fallback = "off",
     .offset = offsetof(struct conf_frontend, http.request_id),
     NOT_A_DEADLINE,
     .help = "Mode http: X-Request-Id is kept, or made for requests that bring none"},
    {.path = "frontends[].http.via",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_SWITCH,
     .fallback = "off",
     .offset = offsetof(struct conf_frontend, http.via),
     NOT_A_DEADLINE,
     .help = "Mode http: Via is added to requests and responses"},
    {.path = "frontends[].http.max_head",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_COUNT,
     .fallback = "16384",
     .min = 512,
     .max = 65536,
     .offset = offsetof(struct conf_frontend, http.max_head),
     NOT_A_DEADLINE,
     .help = "Mode http: bytes that the head of a message may have; beyond that 431"},
    {.path = "frontends[].http.max_request_line",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_COUNT,
     .fallback = "8192",
     .min = 64,
     .max = 65536,
     .offset = offsetof(struct conf_frontend, http.max_request_line),
     NOT_A_DEADLINE,
     .help = "Mode http: bytes that a request line may have; beyond that 414"},
    {.path = "frontends[].http.max_fields",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_COUNT,
     .fallback = "100",
     .min = 1,
     .max = 256,
     .offset = offsetof(struct conf_frontend, http.max_fields),
     NOT_A_DEADLINE,
     .help = "Mode http: fields that the head of a message may have; beyond that 431"},
    {.path = "frontends[].http.connect",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_SWITCH,
     .fallback = "off",
     .offset = offsetof(struct conf_frontend, http.connect),
     NOT_A_DEADLINE,
     .help = "Mode http: CONNECT is passed on, and what follows is a tunnel; off answers it with 405"},
    {.path = "frontends[].http.upgrade",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_UPGRADES,
     .fallback = "websocket",
     .word = "off",
     .max = CONF_UPGRADES_MAX,
     .offset = offsetof(struct conf_frontend, http),
     NOT_A_DEADLINE,
     .help = "Mode http: protocols that a client may change to; other requests go on without their Upgrade"},
    {.path = "frontends[].http.bare_lf",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_WORD,
     .fallback = "accept",
     .words = bare_lfs,
     .offset = offsetof(struct conf_frontend, http.bare_lf),
     NOT_A_DEADLINE,
     .help = "Mode http: heads whose lines end in LF alone are passed on with CR LF, or refused with 400"},
    {.path = "frontends[].http.over_limit",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_WORD,
     .fallback = "wait",
     .words = over_limits,
     .offset = offsetof(struct conf_frontend, http.over_limit),
     NOT_A_DEADLINE,
     .help = "Mode http: what becomes of a connection beyond max_connections; refuse answers it with 503"},
    {.path = "frontends[].http.answers",
     .scope = SCOPE_FRONTEND,
     .type = OPTION_ANSWERS,
     .fallback = "{}",
     NOT_A_DEADLINE,
     .help = "Mode http: files with answers in place of the proxy's own, by status"},
    TCP_ROWS("frontends[]", SCOPE_FRONTEND, struct conf_frontend, "client legs", "5m"),
    {.path = "backends[].name",
     .scope = SCOPE_BACKEND,
     .type = OPTION_NAME,
     .offset = offsetof(struct conf_backend, name),
     NOT_A_DEADLINE,
     .help = "In logs; unique among backends"},
    {.path = "backends[].servers",
     .scope = SCOPE_BACKEND,
     .type = OPTION_SERVERS,
     .max = LIST_MAX,
     NOT_A_DEADLINE,
     .flag = "backend",
     .help = "Where the service is: HOST:PORT, NAME:PORT or unix:/PATH; a list"},
    {.path = "backends[].balance",
     .scope = SCOPE_BACKEND,
     .type = OPTION_WORD,
     .fallback = "roundrobin",
     .words = balances,
     .offset = offsetof(struct conf_backend, balance),
     NOT_A_DEADLINE,
     .help = "Which server is next: in turn, the least busy, or by client address"},
    {.path = "backends[].resolve_interval",
     .scope = SCOPE_BACKEND,
     .type = OPTION_DURATION,
     .fallback = "30s",
     .min = 1000,
     .max = DEADLINE_MAX_MS,
     OFF_IS_NEVER,
     .offset = offsetof(struct conf_backend, resolve_interval_ms),
     NOT_A_DEADLINE,
     .help = "How often names of servers are resolved again; off: only until they are"},
    {.path = "backends[].set_aside",
     .scope = SCOPE_BACKEND,
     .type = OPTION_DURATION,
     .fallback = "1s",
     .min = 10,
     .max = HOUR_MS,
     OFF_IS_NEVER,
     .offset = offsetof(struct conf_backend, set_aside_ms),
     NOT_A_DEADLINE,
     .help = "A server that could not be connected to gets no session for so long, doubled with each further "
             "failure"},
    {.path = "backends[].set_aside_max",
     .scope = SCOPE_BACKEND,
     .type = OPTION_DURATION,
     .fallback = "30s",
     .min = 10,
     .max = HOUR_MS,
     .offset = offsetof(struct conf_backend, set_aside_max_ms),
     NOT_A_DEADLINE,
     .help = "But not for longer than this"},
    {.path = "backends[].send_proxy",
     .scope = SCOPE_BACKEND,
     .type = OPTION_WORD,
     .fallback = "off",
     .words = send_proxies,
     .offset = offsetof(struct conf_backend, send_proxy),
     NOT_A_DEADLINE,
     .flag = "send-proxy",
     .help = "Tells each server by a PROXY header who the client is; v2 also the session's id"},
    {.path = "backends[].check",
     .scope = SCOPE_BACKEND,
     .type = OPTION_CHECK,
     .fallback = "off",
     .offset = offsetof(struct conf_backend, check),
     NOT_A_DEADLINE,
     .help = "What each server is asked at an interval: tcp is a connection, http an answer 2xx or 3xx"},
    {.path = "backends[].check_interval",
     .scope = SCOPE_BACKEND,
     .type = OPTION_DURATION,
     .fallback = "2s",
     .min = 100,
     .max = HOUR_MS,
     .offset = offsetof(struct conf_backend, check_interval_ms),
     NOT_A_DEADLINE,
     .help = "How often it is checked; no answer until the next check is a bad one"},
    {.path = "backends[].rise",
     .scope = SCOPE_BACKEND,
     .type = OPTION_COUNT,
     .fallback = "2",
     .min = 1,
     .max = 100,
     .offset = offsetof(struct conf_backend, rise),
     NOT_A_DEADLINE,
     .help = "Good checks in a row that take a server up again"},
    {.path = "backends[].fall",
     .scope = SCOPE_BACKEND,
     .type = OPTION_COUNT,
     .fallback = "3",
     .min = 1,
     .max = 100,
     .offset = offsetof(struct conf_backend, fall),
     NOT_A_DEADLINE,
     .help = "Bad checks in a row that take it down"},
    {.path = "backends[].reuse",
     .scope = SCOPE_BACKEND,
     .type = OPTION_WORD,
     .fallback = "off",
     .words = reuses,
     .offset = offsetof(struct conf_backend, reuse),
     NOT_A_DEADLINE,
     .flag = "reuse",
     .help =
         "Mode http: connections are shared by clients; safe: requests that can't be repeated get new ones"},
    {.path = "backends[].reuse_max",
     .scope = SCOPE_BACKEND,
     .type = OPTION_COUNT,
     .fallback = "32",
     .min = 1,
     .max = 65536,
     .offset = offsetof(struct conf_backend, reuse_max),
     NOT_A_DEADLINE,
     .help = "Idle connections kept for each address of a server, shared out among the workers"},
    {.path = "backends[].reuse_idle",
     .scope = SCOPE_BACKEND,
     .type = OPTION_DURATION,
     .fallback = "4s",
     .min = 1,
     .max = HOUR_MS,
     .offset = offsetof(struct conf_backend, reuse_idle_ms),
     NOT_A_DEADLINE,
     .help = "How long each of them is kept; less than the server keeps idle connections itself"},
    TCP_ROWS("backends[]", SCOPE_BACKEND, struct conf_backend, "backend legs", "off"),
};

/* What DESIGN promises for later; refused until it works, so that nobody believes it is on. */
static const char *const later[] = {
    "admin",
    "frontends[].max_connections_per_client",
};

/* Building the table. */

enum {
    TOP_COUNT = sizeof top_rows / sizeof top_rows[0],
    SIDE_COUNT = sizeof side_rows / sizeof side_rows[0],
    TABLE_MAX = TOP_COUNT + 2 * DEADLINE_COUNT + 1 + SIDE_COUNT
};

static struct option_row table[TABLE_MAX];
static size_t table_count;

/* What the rows of deadlines point to. */
static struct {
    char path[OPTION_PATH];
    char flag[OPTION_PATH];
    char fallback[VALUE_NUMBER_TEXT];
    char help[192];
    char rate_path[OPTION_PATH];
    char rate_flag[OPTION_PATH];
    char rate_fallback[VALUE_NUMBER_TEXT];
} deadline_texts[DEADLINE_COUNT];

static void as_flag(char *flag)
{
    for (; *flag; flag++)
        if (*flag == '_')
            *flag = '-';
}

static void deadline_option(enum deadline_id id, struct option_row *row)
{
    const struct deadline *deadline = deadline_row(id);
    char *path = deadline_texts[id].path;
    char *flag = deadline_texts[id].flag;
    char *fallback = deadline_texts[id].fallback;
    bool top = id == DEADLINE_DRAIN;
    snprintf(path, OPTION_PATH, "%s%s", top ? "" : "deadlines.", deadline->name);
    snprintf(flag, OPTION_PATH, "%s", deadline->name);
    as_flag(flag);
    snprintf(fallback, VALUE_NUMBER_TEXT, "off");
    if (deadline->default_ms != DEADLINE_OFF)
        value_duration_text(deadline->default_ms, fallback);
    char *help = deadline_texts[id].help;
    snprintf(help, sizeof deadline_texts[id].help, "%s: %s", deadline->runs_while, deadline->at_expiry);
    help[0] = (char)toupper((unsigned char)help[0]);
    *row = (struct option_row){
        .path = path,
        .scope = top ? SCOPE_TOP : SCOPE_DEADLINES,
        .type = OPTION_DURATION,
        .fallback = fallback,
        .min = deadline->min_ms,
        .max = deadline->max_ms,
        .word = deadline->may_be_off ? "off" : NULL,
        .word_value = DEADLINE_OFF,
        .offset = top ? offsetof(struct conf, drain_ms)
                      : offsetof(struct deadlines, after_ms) + id * sizeof(uint64_t),
        .deadline = id,
        .flag = flag,
        .help = help,
    };
}

static void rate_option(enum deadline_id id, struct option_row *row)
{
    const struct deadline *deadline = deadline_row(id);
    char *path = deadline_texts[id].rate_path;
    char *flag = deadline_texts[id].rate_flag;
    char *fallback = deadline_texts[id].rate_fallback;
    snprintf(path, OPTION_PATH, "deadlines.%s_rate", deadline->name);
    snprintf(flag, OPTION_PATH, "%s_rate", deadline->name);
    as_flag(flag);
    snprintf(fallback, VALUE_NUMBER_TEXT, "off");
    if (deadline->default_rate > 0)
        value_rate_text(deadline->default_rate, fallback);
    *row = (struct option_row){
        .path = path,
        .scope = SCOPE_DEADLINES,
        .type = OPTION_RATE,
        .fallback = fallback,
        .min = 1,
        .max = UINT64_C(1) << 30,
        OFF_IS_NONE,
        .offset = offsetof(struct deadlines, rate) + id * sizeof(uint64_t),
        NOT_A_DEADLINE,
        .flag = flag,
        .help = deadline->rate_help,
    };
}

static void build_table(void)
{
    size_t count = 0;
    for (size_t i = 0; i < TOP_COUNT; i++)
        table[count++] = top_rows[i];
    deadline_option(DEADLINE_DRAIN, &table[count++]);
    for (enum deadline_id id = 0; id < DEADLINE_COUNT; id++) {
        if (id == DEADLINE_DRAIN)
            continue;
        deadline_option(id, &table[count++]);
        if (deadline_row(id)->rate_reason != REASON_NONE)
            rate_option(id, &table[count++]);
        if (id == DEADLINE_HALF_CLOSE)
            table[count++] = verify_row;
    }
    for (size_t i = 0; i < SIDE_COUNT; i++)
        table[count++] = side_rows[i];
    assert(count <= TABLE_MAX);
    table_count = count;
}

const struct option_row *option_table(size_t *count)
{
    if (table_count == 0)
        build_table();
    *count = table_count;
    return table;
}

/* Looking up. */

const struct option_row *option_find(const char *path)
{
    size_t count = 0;
    const struct option_row *rows = option_table(&count);
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].path, path) == 0)
            return &rows[i];
    return NULL;
}

bool option_is_section(const char *path)
{
    size_t count = 0;
    size_t length = strlen(path);
    const struct option_row *rows = option_table(&count);
    for (size_t i = 0; i < count; i++)
        if (strncmp(rows[i].path, path, length) == 0 &&
            (rows[i].path[length] == '.' || rows[i].path[length] == '['))
            return true;
    return false;
}

bool option_is_later(const char *path)
{
    for (size_t i = 0; i < sizeof later / sizeof later[0]; i++)
        if (strcmp(later[i], path) == 0)
            return true;
    return false;
}

/* The next distinct key below `prefix`, from row *i on; false when there is none. Keys of one section follow
 * each other in the table. */
static bool next_key(const char *prefix, size_t *i, char key[OPTION_PATH])
{
    size_t count = 0;
    const struct option_row *rows = option_table(&count);
    size_t length = strlen(prefix);
    char before[OPTION_PATH];
    snprintf(before, sizeof before, "%s", key);
    for (; *i < count; ++*i) {
        const char *path = rows[*i].path;
        if (strncmp(path, prefix, length) != 0)
            continue;
        snprintf(key, OPTION_PATH, "%.*s", (int)strcspn(path + length, ".["), path + length);
        if (strcmp(key, before) != 0)
            return true;
    }
    return false;
}

void option_keys(const char *prefix, char *keys, size_t size)
{
    char key[OPTION_PATH] = "";
    size_t used = 0;
    keys[0] = '\0';
    for (size_t i = 0; next_key(prefix, &i, key) && used < size;)
        used += (size_t)snprintf(keys + used, size - used, "%s%s", used ? ", " : "", key);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* How many letters have to be changed, added, left out or swapped with their neighbour to get from a to b
 * (optimal string alignment). Both shorter than OPTION_PATH. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t rows[3][OPTION_PATH]; /* of the matrix: this one and the two before */
    size_t length = strlen(b);
    for (size_t j = 0; j <= length; j++)
        rows[0][j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t *now = rows[i % 3];
        const size_t *before = rows[(i + 2) % 3];
        now[0] = i;
        for (size_t j = 1; j <= length; j++) {
            now[j] = least(least(before[j], now[j - 1]) + 1, before[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], rows[(i + 1) % 3][j - 2] + 1);
        }
    }
    return rows[strlen(a) % 3][length];
}

bool option_nearest(const char *prefix, const char *key, char nearest[static OPTION_PATH])
{
    char candidate[OPTION_PATH] = "";
    size_t length = strlen(key);
    size_t best = length / 3 + 1; /* farther than this is another word */
    bool found = false;
    if (length >= OPTION_PATH)
        return false;
    for (size_t i = 0; next_key(prefix, &i, candidate);) {
        size_t distance = edit_distance(key, candidate);
        if (distance < best || (!found && distance == best)) {
            best = distance;
            snprintf(nearest, OPTION_PATH, "%s", candidate);
            found = true;
        }
    }
    return found;
}

int option_set(const struct option_row *row, void *object, const char *text, const char **why)
{
    assert(option_kind(row)->set);
    *why = NULL;
    return option_kind(row)->set(row, (char *)object + row->offset, text, why);
}

int option_set_action(const struct option_row *row, struct deadlines *deadlines, enum leg leg,
                      const char *text)
{
    assert(row->deadline < DEADLINE_COUNT && deadline_row(row->deadline)->settable_action);
    int action = words_find(close_action_words, text);
    if (action < 0)
        return ERROR_CONFIG;
    deadlines->action[row->deadline][leg] = (enum close_action)action;
    return 0;
}

const char *option_action(enum close_action action)
{
    return close_action_words[action];
}

void option_allowed(const struct option_row *row, char allowed[static OPTION_ALLOWED])
{
    bool deadlines = row->type == OPTION_DEADLINES;
    if (option_kind(row)->allowed) {
        option_kind(row)->allowed(row, allowed, OPTION_ALLOWED);
        return;
    }
    snprintf(allowed, OPTION_ALLOWED, "a mapping of %s", deadlines ? "" : "a status to a file: ");
    size_t used = strlen(allowed);
    if (deadlines)
        option_keys("deadlines.", allowed + used, OPTION_ALLOWED - used);
    else
        conf_answer_statuses(allowed + used, OPTION_ALLOWED - used);
}

void option_text(const struct option_row *row, const void *object, char *text, size_t size)
{
    assert(option_kind(row)->text);
    option_kind(row)->text(row, (const char *)object + row->offset, text, size);
}

const char *option_argument(const struct option_row *row)
{
    return option_kind(row)->argument;
}

bool option_is_list(const struct option_row *row)
{
    return option_kind(row)->list;
}

void option_clear(const struct option_row *row, void *object)
{
    if (option_kind(row)->clear)
        option_kind(row)->clear((char *)object + row->offset);
}

int option_defaults(enum option_scope scope, void *object)
{
    size_t count = 0;
    const struct option_row *rows = option_table(&count);
    for (size_t i = 0; i < count; i++) {
        const char *why = NULL;
        if (rows[i].scope != scope || !rows[i].fallback || !option_kind(&rows[i])->set)
            continue;
        int error = option_set(&rows[i], object, rows[i].fallback, &why);
        assert(error != ERROR_CONFIG);
        if (error)
            return error;
    }
    return 0;
}
