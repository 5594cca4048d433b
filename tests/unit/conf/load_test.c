#include "tests/unit/cmocka.h"

#include "conf/load.h"
#include "conf/option.h"
#include "conf/print.h"
#include "conf/warn.h"
#include "conf/yaml.h"
#include "reaper/error.h"
#include "reaper/policy/deadline.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What every good file needs; the cases put their lines before or after it. */
#define FRONTEND "frontends: [{name: f, listen: '127.0.0.1:1', backend: b}]\n"
#define BACKEND "backends: [{name: b, servers: 'host:1'}]\n"
#define SIDES FRONTEND BACKEND

static const struct conf_source no_flags;

static int load(const char *text, struct conf **conf, struct findings *findings)
{
    return conf_load_bytes("f", text, strlen(text), &no_flags, conf, findings);
}

static struct conf *load_fine(const char *text)
{
    struct findings findings = {0};
    struct conf *conf = NULL;
    int error = load(text, &conf, &findings);
    findings_print(&findings, stderr);
    assert_int_equal(error, 0);
    assert_int_equal(findings.count, 0);
    assert_non_null(conf);
    return conf;
}

/* The findings as one text, for comparison. The caller frees it. */
static char *findings_text(const struct findings *findings)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);
    assert_non_null(file);
    findings_print(findings, file);
    fclose(file);
    return text;
}

/* Files that are fine. */

static void a_small_file_gets_all_defaults(void **state)
{
    (void)state;
    struct conf *conf = load_fine(SIDES);
    struct deadlines expected;
    deadlines_default(&expected);
    assert_int_equal(conf->workers, 0);
    assert_int_equal(conf->drain_ms, 30000);
    assert_int_equal(conf->log.format, CONF_LOG_LOGFMT);
    assert_int_equal(conf->log.level, CONF_LOG_INFO);
    assert_string_equal(conf->log.target, "stderr");
    assert_int_equal(conf->frontend_count, 1);
    assert_int_equal(conf->backend_count, 1);
    const struct conf_frontend *frontend = &conf->frontends[0];
    assert_int_equal(frontend->mode, CONF_MODE_TCP);
    assert_int_equal(frontend->max_connections, 0);
    assert_memory_equal(&frontend->deadlines, &expected, sizeof expected);
    assert_true(frontend->tcp.nodelay);
    assert_int_equal(frontend->tcp.keepalive_ms, 300000);
    assert_true(frontend->tcp.user_timeout_ms == DEADLINE_OFF);
    assert_int_equal(frontend->tcp.receive_buffer, 8 << 20);
    assert_int_equal(frontend->tcp.send_buffer, 0);
    assert_int_equal(conf->backends[0].tcp.receive_buffer, 8 << 20);
    assert_int_equal(conf->backends[0].balance, CONF_BALANCE_ROUNDROBIN);
    assert_int_equal(conf->backends[0].resolve_interval_ms, 30000);
    assert_int_equal(conf->backends[0].set_aside_ms, 1000);
    assert_int_equal(conf->backends[0].set_aside_max_ms, 30000);
    assert_int_equal(conf->backends[0].check.kind, CONF_CHECK_OFF);
    assert_int_equal(conf->backends[0].check_interval_ms, 2000);
    assert_int_equal(conf->backends[0].rise, 2);
    assert_int_equal(conf->backends[0].fall, 3);
    conf_free(conf);
}

static void every_key_reaches_its_field(void **state)
{
    (void)state;
    struct conf *conf =
        load_fine("workers: 4\n"
                  "drain: 1m\n"
                  "log: {format: json, level: debug, target: /var/log/lastack.log}\n"
                  "frontends:\n"
                  "  - name: api\n"
                  "    listen: ['127.0.0.1:8080', '[::1]:8080', 'unix:/run/a.sock']\n"
                  "    mode: tcp\n"
                  "    backend: second\n"
                  "    max_connections: 10000\n"
                  "    tcp: {nodelay: off, keepalive: 1m, user_timeout: 1500ms, receive_buffer: off}\n"
                  "backends:\n"
                  "  - {name: first, servers: ['10.0.0.1:1']}\n"
                  "  - name: second\n"
                  "    servers: ['db.internal:9000', '[::1]:9001', 'unix:/run/b.sock']\n"
                  "    balance: source\n"
                  "    resolve_interval: off\n"
                  "    set_aside: off\n"
                  "    set_aside_max: 1m\n"
                  "    check: http HEAD /health?deep=1\n"
                  "    check_interval: 500ms\n"
                  "    rise: 1\n"
                  "    fall: 5\n"
                  "    tcp: {nodelay: on, keepalive: 2m, user_timeout: off, send_buffer: 20000}\n");
    assert_int_equal(conf->workers, 4);
    assert_int_equal(conf->drain_ms, 60000);
    assert_int_equal(conf->log.format, CONF_LOG_JSON);
    assert_int_equal(conf->log.level, CONF_LOG_DEBUG);
    assert_string_equal(conf->log.target, "/var/log/lastack.log");
    const struct conf_frontend *frontend = &conf->frontends[0];
    assert_string_equal(frontend->name, "api");
    assert_int_equal(frontend->listen_count, 3);
    assert_string_equal(frontend->listen[1].text, "[::1]:8080");
    assert_int_equal(frontend->listen[0].address.address.ss_family, AF_INET);
    assert_int_equal(frontend->listen[1].address.address.ss_family, AF_INET6);
    assert_int_equal(frontend->listen[2].address.address.ss_family, AF_UNIX);
    assert_int_equal(frontend->backend, 1);
    assert_int_equal(frontend->max_connections, 10000);
    assert_false(frontend->tcp.nodelay);
    assert_int_equal(frontend->tcp.keepalive_ms, 60000);
    assert_int_equal(frontend->tcp.user_timeout_ms, 1500);
    assert_int_equal(frontend->tcp.receive_buffer, 0);
    assert_int_equal(frontend->deadlines.after_ms[DEADLINE_DRAIN], 60000);
    const struct conf_backend *backend = &conf->backends[1];
    assert_int_equal(backend->tcp.send_buffer, 20000);
    assert_int_equal(backend->server_count, 3);
    assert_string_equal(backend->servers[0].text, "db.internal:9000");
    assert_string_equal(backend->servers[0].host, "db.internal");
    assert_int_equal(backend->servers[0].port, 9000);
    assert_int_equal(backend->servers[0].address.length, 0);
    assert_null(backend->servers[1].host);
    assert_int_equal(backend->servers[1].address.length, sizeof(struct sockaddr_in6));
    assert_string_equal(backend->servers[2].text, "unix:/run/b.sock");
    assert_int_equal(backend->balance, CONF_BALANCE_SOURCE);
    assert_true(backend->resolve_interval_ms == DEADLINE_OFF);
    assert_true(backend->set_aside_ms == DEADLINE_OFF);
    assert_int_equal(backend->set_aside_max_ms, 60000);
    assert_int_equal(backend->check.kind, CONF_CHECK_HEAD);
    assert_string_equal(backend->check.path, "/health?deep=1");
    assert_int_equal(backend->check_interval_ms, 500);
    assert_int_equal(backend->rise, 1);
    assert_int_equal(backend->fall, 5);
    assert_int_equal(backend->tcp.keepalive_ms, 120000);
    conf_free(conf);
}

static void a_frontends_deadlines_replace_single_ones_wherever_they_stand(void **state)
{
    (void)state;
    struct conf *conf =
        load_fine("frontends:\n"
                  "  - {name: a, listen: '127.0.0.1:1', backend: b,\n"
                  "     deadlines: {half_close: {client: fin}, idle: off, half_close_rate: off}}\n"
                  "  - {name: b, listen: '127.0.0.1:2', backend: b}\n"
                  "deadlines: {half_close: 10s, grace: 0s, lifetime: {after: 1d, backend: rst}}\n" BACKEND);
    const struct deadlines *a = &conf->frontends[0].deadlines;
    const struct deadlines *b = &conf->frontends[1].deadlines;
    assert_int_equal(a->after_ms[DEADLINE_HALF_CLOSE], 10000);
    assert_int_equal(a->action[DEADLINE_HALF_CLOSE][LEG_CLIENT], CLOSE_FIN);
    assert_int_equal(a->action[DEADLINE_HALF_CLOSE][LEG_BACKEND], CLOSE_RST);
    assert_true(a->after_ms[DEADLINE_IDLE] == DEADLINE_OFF);
    assert_int_equal(a->rate[DEADLINE_HALF_CLOSE], 0);
    assert_int_equal(a->after_ms[DEADLINE_GRACE], 0);
    assert_int_equal(b->after_ms[DEADLINE_HALF_CLOSE], 10000);
    assert_int_equal(b->action[DEADLINE_HALF_CLOSE][LEG_CLIENT], CLOSE_RST);
    assert_int_equal(b->after_ms[DEADLINE_IDLE], 3600000);
    assert_int_equal(b->rate[DEADLINE_HALF_CLOSE], 1024);
    assert_int_equal(b->after_ms[DEADLINE_LIFETIME], 86400000);
    assert_int_equal(b->action[DEADLINE_LIFETIME][LEG_CLIENT], CLOSE_FIN);
    assert_int_equal(b->action[DEADLINE_LIFETIME][LEG_BACKEND], CLOSE_RST);
    conf_free(conf);
}

static void files_may_be_written_in_many_ways(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "log:\ndeadlines:\n" SIDES,
        "log: {}\ndeadlines: {}\n" SIDES,
        "# comment\n---\n" SIDES "...\n",
        "\"workers\": '3'\n" SIDES,
        "workers: >-\n  3\n" SIDES,
        "workers: 3\r\nlog:\r\n  level: info\r\n" SIDES,
        "\xef\xbb\xbfworkers: 3\n" SIDES,
        "{\"frontends\":[{\"name\":\"f\",\"listen\":[\"127.0.0.1:1\"],\"backend\":\"b\"}],"
        "\"backends\":[{\"name\":\"b\",\"servers\":[\"h:1\"]}]}",
        "frontends: [{name: f, listen: ['127.0.0.1:0', '127.0.0.1:0', '[::]:0', '[::]:0'], backend: "
        "b}]\n" BACKEND,
        "frontends: [{name: f, listen: 'unix:/a', backend: b}, {name: g, listen: 'unix:/b', backend: "
        "b}]\n" BACKEND,
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        conf_free(load_fine(texts[i]));
}

static void what_is_printed_loads_as_the_same(void **state)
{
    (void)state;
    struct conf *conf =
        load_fine("workers: 3\nlog: {target: \"/tmp/it's # here: x\"}\n"
                  "deadlines: {idle: {after: off, client: rst}, half_close_rate: 3B/s, grace: 1ms}\n"
                  "frontends:\n"
                  "  - {name: a, listen: ['[::]:8', 'unix:/it''s'], backend: b, max_connections: 7,\n"
                  "     deadlines: {connect: off}, tcp: {keepalive: 1s}}\n"
                  "backends: [{name: b, servers: 'h:1', check: \"http GET /it's?a=:\", set_aside: off}]\n");
    char *first = NULL;
    char *second = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&first, &size);
    conf_print(conf, file);
    fclose(file);
    conf_free(conf);
    conf = load_fine(first);
    file = open_memstream(&second, &size);
    conf_print(conf, file);
    fclose(file);
    conf_free(conf);
    assert_string_equal(first, second);
    assert_non_null(strstr(first, "'unix:/it''s'"));
    assert_non_null(strstr(first, "check: 'http GET /it''s?a=:'\n"));
    free(first);
    free(second);
}

/* Files that are refused, with everything that is said about them. */

struct bad {
    const char *text;
    const char *errors;
};

#define A_DURATION "a duration from 1ms to 365d, or off"
#define LISTENS "addresses such as '127.0.0.1:8080', '[::]:8080', 'unix:/path'"
#define SERVERS "addresses such as '127.0.0.1:9000', 'name:9000', '[::1]:9000', 'unix:/path'"
#define CHECKS "off, tcp, 'http GET /path' or 'http HEAD /path'"
#define NETWORKS "networks such as '10.0.0.0/8', '127.0.0.1', 'fd00::/8', or off"
#define UNITS "(a duration is one number and one of the units ms, s, m, h, d; write 90s for 1m30s)"
#define BACKEND_KEYS                                                                                         \
    "name, servers, balance, resolve_interval, set_aside, set_aside_max, send_proxy, check, "                \
    "check_interval, rise, fall, reuse, reuse_max, reuse_idle, tcp"
#define TOP_KEYS "workers, user, seccomp, log, reaper, drain, deadlines, frontends, backends"
#define LATER "found a key that is not supported by this version; allowed: nothing, leave it out\n"
#define DEADLINE_KEYS                                                                                        \
    "connect, idle, idle_rate, half_close, half_close_rate, verify, half_close_max, write_stall, "           \
    "write_stall_rate, lifetime, grace, request_head, request_body, request_body_rate, response, "           \
    "response_rate, event_stream, keepalive, tunnel, message_grace, "                                        \
    "half_close_empty, preface"

static const struct bad values[] = {
    {"workers: 0\n" SIDES, "f:1:10: workers: found '0'; allowed: a number from 1 to 1024, or auto\n"},
    {"workers: off\n" SIDES,
     "f:1:10: workers: found 'off'; allowed: a number from 1 to 1024, or auto (this one cannot be off)\n"},
    {"workers:\n" SIDES, "f:1:1: workers: found nothing; allowed: a number from 1 to 1024, or auto\n"},
    {"workers: ''\n" SIDES, "f:1:10: workers: found nothing; allowed: a number from 1 to 1024, or auto\n"},
    {"workers: [1]\n" SIDES, "f:1:10: workers: found a list; allowed: a number from 1 to 1024, or auto\n"},
    {"workers: {a: 1}\n" SIDES,
     "f:1:10: workers: found a mapping; allowed: a number from 1 to 1024, or auto\n"},
    {"workers: 1.5\n" SIDES,
     "f:1:10: workers: found '1.5'; allowed: a number from 1 to 1024, or auto (digits only)\n"},
    {"drain: 30\n" SIDES,
     "f:1:8: drain: found '30'; allowed: a duration from 0ms to 365d, or off (a number needs a "
     "unit: 250ms, 30s, 2m, 1h or 1d)\n"},
    {"drain: 1m30s\n" SIDES,
     "f:1:8: drain: found '1m30s'; allowed: a duration from 0ms to 365d, or off " UNITS "\n"},
    {"log: {format: text}\n" SIDES, "f:1:15: log.format: found 'text'; allowed: logfmt or json\n"},
    {"log: {level: warn}\n" SIDES,
     "f:1:14: log.level: found 'warn'; allowed: error, warning, info or debug\n"},
    {"log: {target: x.log}\n" SIDES,
     "f:1:15: log.target: found 'x.log'; allowed: stderr, stdout or the absolute "
     "path of a file (a path starts with '/')\n"},
    {"log: {target: \"/a\\nb\"}\n" SIDES,
     "f:1:15: log.target: found '/a\\x0ab'; allowed: stderr, stdout or the "
     "absolute path of a file (a path has no control characters)\n"},
    {"log: json\n" SIDES,
     "f:1:6: log: found 'json'; allowed: a mapping of format, level, normal, summary, target\n"},
    {"log: [json]\n" SIDES,
     "f:1:6: log: found a list; allowed: a mapping of format, level, normal, summary, target\n"},
    {"deadlines: 30s\n" SIDES, "f:1:12: deadlines: found '30s'; allowed: a mapping of " DEADLINE_KEYS "\n"},
    {"deadlines: {idle: 0s}\n" SIDES, "f:1:19: deadlines.idle: found '0s'; allowed: " A_DURATION "\n"},
    {"deadlines: {idle: 366d}\n" SIDES, "f:1:19: deadlines.idle: found '366d'; allowed: " A_DURATION "\n"},
    {"deadlines: {idle: 99999999999999999999s}\n" SIDES,
     "f:1:19: deadlines.idle: found '99999999999999999999s'; allowed: " A_DURATION
     " (the number is too large)\n"},
    {"deadlines: {idle: [1s]}\n" SIDES, "f:1:19: deadlines.idle: found a list; allowed: " A_DURATION "\n"},
    {"deadlines: {grace: off}\n" SIDES,
     "f:1:20: deadlines.grace: found 'off'; allowed: a duration from 0ms to 365d (this one cannot be off)\n"},
    {"deadlines: {grace: {after: 1s}}\n" SIDES,
     "f:1:20: deadlines.grace: found a mapping; allowed: a duration from 0ms to 365d\n"},
    {"deadlines: {drain: 1s}\n" SIDES,
     "f:1:13: deadlines.drain: found an unknown key; allowed: " DEADLINE_KEYS "\n"},
    {"deadlines: {half_close_rate: 30s}\n" SIDES, "f:1:30: deadlines.half_close_rate: found '30s'; allowed: "
                                                  "a rate from 1B/s to 1GiB/s, or off (the units are "
                                                  "B/s, KiB/s, MiB/s, GiB/s, kB/s, MB/s, GB/s)\n"},
    {"deadlines: {half_close: {after: 5, client: kill, backend: [rst], reset: 1, client: fin}}\n" SIDES,
     "f:1:33: deadlines.half_close.after: found '5'; allowed: a duration from 0ms to 365d, or off (a number "
     "needs a "
     "unit: 250ms, 30s, 2m, 1h or 1d)\n"
     "f:1:44: deadlines.half_close.client: found 'kill'; allowed: fin or rst\n"
     "f:1:59: deadlines.half_close.backend: found a list; allowed: fin or rst\n"
     "f:1:66: deadlines.half_close.reset: found an unknown key; allowed: after, client, backend\n"
     "f:1:76: deadlines.half_close.client: found the key again; allowed: once (first on line 1)\n"},
};

#define STATUSES                                                                                             \
    "; allowed: a mapping of a status to a file: 400, 405, 408, 414, 431, 501, 502, 503, 504, 505\n"
#define ANSWERS(value)                                                                                       \
    "frontends:\n- {name: f, listen: '127.0.0.1:1', backend: b, http: {answers: " value "}}\n" BACKEND

static const struct bad answers[] = {
    {ANSWERS("/a"), "f:2:64: frontends[0].http.answers: found '/a'" STATUSES},
    {ANSWERS("[503]"), "f:2:64: frontends[0].http.answers: found a list" STATUSES},
    {ANSWERS("{200: /a}"),
     "f:2:65: frontends[0].http.answers.200: found a status that the proxy never answers with" STATUSES},
    {ANSWERS("{503: [/a], 502: /nonexistent/x, 503: /b}"),
     "f:2:70: frontends[0].http.answers.503: found a list; allowed: the path of a file\n"
     "f:2:81: frontends[0].http.answers.502: found '/nonexistent/x'; allowed: the absolute path of a file of "
     "up to 64KiB (No such file or directory)\n"
     "f:2:97: frontends[0].http.answers.503: found the key again; allowed: once (first on line 2)\n"},
};

static const struct bad keys[] = {
    {"worker: 1\n" SIDES, "f:1:1: worker: found an unknown key; did you mean 'workers'?\n"},
    {"timeout: 1\n" SIDES, "f:1:1: timeout: found an unknown key; allowed: " TOP_KEYS "\n"},
    {"workers: 1\nworkers: 2\n" SIDES,
     "f:2:1: workers: found the key again; allowed: once (first on line 1)\n"},
    {SIDES SIDES, "f:3:1: frontends: found the key again; allowed: once (first on line 1)\n"
                  "f:4:1: backends: found the key again; allowed: once (first on line 2)\n"},
    {"log.level: info\n" SIDES,
     "f:1:1: log.level: found an unknown key; allowed: workers, user, seccomp, log, reaper, drain, "
     "deadlines, frontends, backends\n"},
    {"'frontends[]': {name: x}\n" SIDES,
     "f:1:1: frontends[]: found an unknown key; did you mean 'frontends'?\n"},
    {"'': 1\n" SIDES, "f:1:1: : found an unknown key; allowed: " TOP_KEYS "\n"},
    {"\"a\\e[2Jb\": 1\n" SIDES, "f:1:1: a?[2Jb: found an unknown key; allowed: " TOP_KEYS "\n"},
    {"<<: {workers: 1}\n" SIDES, "f:1:1: <<: found an unknown key; allowed: " TOP_KEYS "\n"},
    {"log: {levl: info}\n" SIDES, "f:1:7: log.levl: found an unknown key; did you mean 'level'?\n"},
    {"deadlines: {half-close: 1s}\n" SIDES,
     "f:1:13: deadlines.half-close: found an unknown key; did you mean 'half_close'?\n"},
    {"admin: {listen: x}\n" SIDES, "f:1:1: admin: " LATER},
    {"reaper: {watch: [9000, 70000, x], action: kill, interval: 1ms}\n" SIDES,
     "f:1:24: reaper.watch[1]: found '70000'; allowed: off, backends, or a list of ports from 1 to 65535\n"
     "f:1:31: reaper.watch[2]: found 'x'; allowed: off, backends, or a list of ports from 1 to 65535 (digits "
     "only)\n"
     "f:1:43: reaper.action: found 'kill'; allowed: report, finish, destroy or ladder\n"
     "f:1:59: reaper.interval: found '1ms'; allowed: a duration from 100ms to 1h\n"},
    {"frontends:\n- name: f\n  listen: '127.0.0.1:1'\n  backend: b\n  mode: udp\n  accept_proxy: on\n"
     "  trusted: 10.0.0.1/8\n  max_connections_per_client: 5\n"
     "backends:\n- name: b\n  servers: h:1\n  send_proxy: v3\n  reuse: on\n",
     "f:5:9: frontends[0].mode: found 'udp'; allowed: tcp or http\n"
     "f:6:17: frontends[0].accept_proxy: found 'on'; allowed: off, required or optional\n"
     "f:7:12: frontends[0].trusted: found '10.0.0.1/8'; allowed: " NETWORKS
     " (there are bits set behind those that count)\n"
     "f:8:3: frontends[0].max_connections_per_client: " LATER
     "f:12:15: backends[0].send_proxy: found 'v3'; allowed: off, v1, v2 or v2-crc32c\n"
     "f:13:10: backends[0].reuse: found 'on'; allowed: off, safe or always\n"},
};

static const struct bad sides[] = {
    {"", "f:1:1: found nothing; allowed: a mapping of " TOP_KEYS "\n"},
    {"# nothing\n", "f:2:1: found nothing; allowed: a mapping of " TOP_KEYS "\n"},
    {"just text\n", "f:1:1: found 'just text'; allowed: a mapping of " TOP_KEYS "\n"},
    {"- a\n", "f:1:1: found a list; allowed: a mapping of " TOP_KEYS "\n"},
    {"workers: 1\n", "f:1:1: backends: found nothing; allowed: a list of 1 to 1024 mappings\n"
                     "f:1:1: frontends: found nothing; allowed: a list of 1 to 1024 mappings\n"},
    {"frontends: []\nbackends: {name: b}\n",
     "f:1:12: frontends: found a list; allowed: a list of 1 to 1024 mappings\n"
     "f:2:11: backends: found a mapping; allowed: a list of 1 to 1024 mappings\n"},
    {"frontends:\n -\nbackends:\n - x\n - []\n" /* nothing, a word, a list */,
     "f:2:2: frontends[0].name: found nothing; allowed: 1 to 63 letters, digits, '_', '-', '.'\n"
     "f:2:2: frontends[0].listen: found nothing; allowed: " LISTENS "\n"
     "f:2:2: frontends[0].backend: found nothing; allowed: the name of one of the backends\n"
     "f:4:4: backends[0]: found 'x'; allowed: a mapping of " BACKEND_KEYS "\n"
     "f:5:4: backends[1]: found a list; allowed: a mapping of " BACKEND_KEYS "\n"},
    {"frontends: [{name: f}]\n" BACKEND,
     "f:1:13: frontends[0].listen: found nothing; allowed: " LISTENS "\n"
     "f:1:13: frontends[0].backend: found nothing; allowed: the name of one of "
     "the backends\n"},
    {FRONTEND "backends: [{servers: 'h:1'}]\n",
     "f:1:55: frontends[0].backend: found 'b'; allowed: the name of one of the backends\n"
     "f:2:12: backends[0].name: found nothing; allowed: 1 to 63 letters, digits, '_', '-', '.'\n"},
    {"frontends: [{name: f, listen: '127.0.0.1:1', backend: [b]}]\n" BACKEND,
     "f:1:55: frontends[0].backend: found a list; allowed: the name of one of the backends\n"},
    {"frontends:\n- {name: f, listen: '127.0.0.1:1', backend: b}\n- {name: f, listen: '127.0.0.1:2', "
     "backend: b}\n"
     "backends:\n- {name: b, servers: 'h:1'}\n- {name: b, servers: 'h:1'}\n",
     "f:3:10: frontends[1].name: found 'f'; allowed: a name that no other has\n"
     "f:6:10: backends[1].name: found 'b'; allowed: a name that no other has\n"},
    {"frontends:\n- {name: f, listen: '[::1]:1', backend: b}\n- {name: g, listen: ['[::2]:1', '[0::1]:01'], "
     "backend: b}\n" BACKEND,
     "f:3:33: frontends[1].listen[1]: found '[0::1]:01'; allowed: " LISTENS " (listened on already)\n"},
    {"frontends: [{name: 'a b', listen: [], backend: b, max_connections: 0, tcp: {nodelay: yes, keepalive: "
     "1500ms, "
     "user_timeout: 25d}, deadlines: {idel: 1s, idle: 1}}]\n" BACKEND,
     "f:1:20: frontends[0].name: found 'a b'; allowed: 1 to 63 letters, digits, '_', '-', '.'\n"
     "f:1:35: frontends[0].listen: found a list; allowed: " LISTENS " (at least one)\n"
     "f:1:68: frontends[0].max_connections: found '0'; allowed: a number from 1 to 10000000, or off\n"
     "f:1:86: frontends[0].tcp.nodelay: found 'yes'; allowed: on or off\n"
     "f:1:102: frontends[0].tcp.keepalive: found '1500ms'; allowed: a duration from 1s to 9h, or off (whole "
     "seconds "
     "only)\n"
     "f:1:124: frontends[0].tcp.user_timeout: found '25d'; allowed: a duration from 1ms to 24d, or off\n"
     "f:1:142: frontends[0].deadlines.idel: found an unknown key; did you mean 'idle'?\n"
     "f:1:158: frontends[0].deadlines.idle: found '1'; allowed: " A_DURATION
     " (a number needs a unit: 250ms, 30s, 2m, 1h or 1d)\n"},
    {FRONTEND "backends:\n- name: b\n  servers: [h, 'h:0', '::1:1', {a: b}]\n  balance: random\n"
              "  resolve_interval: 1ms\n",
     "f:4:13: backends[0].servers[0]: found 'h'; allowed: " SERVERS
     " (a port is missing, as in 127.0.0.1:8080)\n"
     "f:4:16: backends[0].servers[1]: found 'h:0'; allowed: " SERVERS " (port 0 cannot be connected to)\n"
     "f:4:23: backends[0].servers[2]: found '::1:1'; allowed: " SERVERS
     " (an IPv6 address is written in brackets: [::1]:8080)\n"
     "f:4:32: backends[0].servers[3]: found a mapping; allowed: " SERVERS "\n"
     "f:5:12: backends[0].balance: found 'random'; allowed: roundrobin, leastconn or source\n"
     "f:6:21: backends[0].resolve_interval: found '1ms'; allowed: a duration from 1s to 365d, or off\n"},
    {FRONTEND "backends:\n- name: b\n  servers: 'h:1'\n  check: http\n  set_aside_max: off\n  rise: 0\n",
     "f:5:10: backends[0].check: found 'http'; allowed: " CHECKS "\n"
     "f:6:18: backends[0].set_aside_max: found 'off'; allowed: a duration from 10ms to 1h "
     "(this one cannot be off)\n"
     "f:7:9: backends[0].rise: found '0'; allowed: a number from 1 to 100\n"},
    {FRONTEND "backends:\n- {name: b, servers: 'h:1', check: http GET health}\n"
              "- {name: c, servers: 'h:1', check: http HEAD /a b}\n"
              "- {name: d, servers: 'h:1', check: http POST /}\n",
     "f:3:36: backends[0].check: found 'http GET health'; allowed: " CHECKS " (a path starts with '/')\n"
     "f:4:36: backends[1].check: found 'http HEAD /a b'; allowed: " CHECKS
     " (a path has visible ASCII characters only, and no '#')\n"
     "f:5:36: backends[2].check: found 'http POST /'; allowed: " CHECKS "\n"},
};

static const struct bad syntax[] = {
    {"a: [1\nb: 2\n", "f:3:1: found no valid YAML: flow sequence without a closing bracket\n"},
    {"a: 1\n\tb: 2\n", "f:1:4: found no valid YAML: invalid multiline plain key\n"},
    {"frontends:\n  - listen: [::]:8080\n", "f:2:17: found no valid YAML: invalid value after mapping\n"},
    {"a: \"x\n", "f:1:5: found no valid YAML: double-quoted scalar without closing quote\n"},
    {"a: *b\n", "f:1:5: found an anchor or an alias; allowed: the value written out\n"},
    {"a: &b 1\n", "f:1:7: found an anchor or an alias; allowed: the value written out\n"},
    {"a: &b [1]\n", "f:1:7: found an anchor or an alias; allowed: the value written out\n"},
    {"a: &b {c: 1}\n", "f:1:7: found an anchor or an alias; allowed: the value written out\n"},
    {"a: !!int 1\n", "f:1:10: found a tag; allowed: the value alone\n"},
    {"a: !x [1]\n", "f:1:7: found a tag; allowed: the value alone\n"},
    {"a: !x {b: 1}\n", "f:1:7: found a tag; allowed: the value alone\n"},
    {"%YAML 1.2\n---\na: 1\n",
     "f:1:1: found a line that begins with '%'; YAML directives are not supported\n"},
    {"a: 1\n---\nb: 1\n", "f:2:1: found a second document; allowed: one\n"},
    {"? [a]\n: 1\n", "f:1:3: found a list or a mapping as a key; allowed: a word\n"},
    {"{a: 1}: 1\n", "f:1:1: found a list or a mapping as a key; allowed: a word\n"},
    {"a: \"x\\0y\"\n", "f:1:4: found a NUL character; allowed: text\n"},
    {"a: \x01\n", "f:1:4: found the byte 0x01; allowed: text in UTF-8 without control characters\n"},
    {"a: b\rc: d\n", "f:1:5: found the byte 0x0d; allowed: text in UTF-8 without control characters\n"},
    {"a: \xff\n", "f:1:4: found the byte 0xff; allowed: text in UTF-8 without control characters\n"},
    {"a: \xc0\xaf\n", "f:1:4: found the byte 0xc0; allowed: text in UTF-8 without control characters\n"},
    {"a: \xed\xa0\x80\n", "f:1:4: found the byte 0xed; allowed: text in UTF-8 without control characters\n"},
    {"a: \xf4\x90\x80\x80\n",
     "f:1:4: found the byte 0xf4; allowed: text in UTF-8 without control characters\n"},
    {"\xc3\xa4: \xe2\x82", "f:1:4: found the byte 0xe2; allowed: text in UTF-8 without control characters\n"},
    {"[[[[[[[[[[[[[[[[[", "f:1:17: found too many levels; allowed: 16\n"},
};

static void check_bad(const struct bad *bad, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct findings findings = {0};
        struct conf *conf = NULL;
        assert_int_equal(load(bad[i].text, &conf, &findings), ERROR_CONFIG);
        assert_null(conf);
        char *text = findings_text(&findings);
        if (strcmp(text, bad[i].errors) != 0)
            print_error("case %zu:\n%s", i, bad[i].text);
        assert_string_equal(text, bad[i].errors);
        free(text);
        findings_free(&findings);
    }
}

#define CHECK_BAD(table) check_bad((table), sizeof(table) / sizeof(table)[0])

static void bad_values_are_refused_where_they_are(void **state)
{
    (void)state;
    CHECK_BAD(values);
}

static void bad_keys_are_refused_with_the_nearest_name(void **state)
{
    (void)state;
    CHECK_BAD(keys);
}

static void bad_answers_are_refused_where_they_are_named(void **state)
{
    (void)state;
    CHECK_BAD(answers);
}

static void bad_frontends_and_backends_are_refused(void **state)
{
    (void)state;
    CHECK_BAD(sides);
}

static void what_is_no_plain_yaml_is_refused(void **state)
{
    (void)state;
    CHECK_BAD(syntax);
}

/* A file with that text; the caller removes it. */
static void write_file(char name[static 64], const char *text)
{
    snprintf(name, 64, "/tmp/lastack_load_test_XXXXXX");
    int fd = mkstemp(name);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void answers_are_read_from_their_files_and_printed_as_their_names(void **state)
{
    (void)state;
    char first[64], second[64], text[512];
    char *printed = NULL;
    size_t size = 0;
    write_file(first, "Content-Type: text/plain\n\nlater\n");
    write_file(second, "Date: now\r\n\r\n");
    snprintf(text, sizeof text,
             "frontends:\n- {name: f, listen: '127.0.0.1:1', backend: b, mode: http,\n"
             "   http: {over_limit: refuse, answers: {503: %s, '502': %s}}}\n" BACKEND,
             first, second);
    struct conf *conf = load_fine(text);
    FILE *file = open_memstream(&printed, &size);
    conf_print(conf, file);
    fclose(file);
    conf_free(conf);
    conf = load_fine(printed);
    const struct conf_http *http = &conf->frontends[0].http;
    assert_int_equal(http->over_limit, CONF_OVER_LIMIT_REFUSE);
    assert_int_equal(http->answer_count, 2);
    assert_int_equal(http->answers[0].status, 503);
    assert_string_equal(http->answers[0].path, first);
    assert_int_equal(http->answers[0].body_size, 6);
    assert_memory_equal(http->answers[0].bytes, "Content-Type: text/plain\r\n\r\nlater\n", 34);
    assert_int_equal(http->answers[1].status, 502);
    assert_true(http->answers[1].has_date);
    conf_free(conf);
    free(printed);
    unlink(first);
    unlink(second);
}

/* Loads it, prints that and loads it again. */
static struct conf *load_printed(const char *http)
{
    char text[512];
    char *printed = NULL;
    size_t size = 0;
    snprintf(text, sizeof text,
             "frontends:\n- {name: f, listen: '127.0.0.1:1', backend: b, mode: http, http: {%s}}\n" BACKEND,
             http);
    struct conf *conf = load_fine(text);
    FILE *file = open_memstream(&printed, &size);
    conf_print(conf, file);
    fclose(file);
    conf_free(conf);
    conf = load_fine(printed);
    free(printed);
    return conf;
}

static void tunnels_are_listed(void **state)
{
    (void)state;
    struct conf *conf = load_printed("");
    assert_false(conf->frontends[0].http.connect);
    assert_int_equal(conf->frontends[0].http.bare_lf, CONF_BARE_LF_ACCEPT);
    assert_int_equal(conf->frontends[0].http.upgrade_count, 1);
    assert_string_equal(conf->frontends[0].http.upgrades[0], "websocket");
    conf_free(conf);
    conf = load_printed("connect: on, upgrade: [websocket, tls], bare_lf: refuse");
    assert_true(conf->frontends[0].http.connect);
    assert_int_equal(conf->frontends[0].http.bare_lf, CONF_BARE_LF_REFUSE);
    assert_int_equal(conf->frontends[0].http.upgrade_count, 2);
    assert_string_equal(conf->frontends[0].http.upgrades[1], "tls");
    conf_free(conf);
    conf = load_printed("upgrade: off");
    assert_int_equal(conf->frontends[0].http.upgrade_count, 0);
    conf_free(conf);
    static const struct bad bad[] = {
        {"frontends:\n- name: f\n  listen: '127.0.0.1:1'\n  backend: b\n  http: {upgrade: h2c}\n" BACKEND,
         "f:5:19: frontends[0].http.upgrade: found 'h2c'; allowed: off, or a list of names of protocols in "
         "small letters such as websocket (HTTP/2 is not spoken here)\n"},
    };
    check_bad(bad, 1);
}

static void a_bad_answer_is_refused_at_its_own_line(void **state)
{
    (void)state;
    char name[64], text[512], expected[512];
    struct findings findings = {0};
    struct conf *conf = NULL;
    write_file(name, "words\n\n");
    snprintf(text, sizeof text,
             "frontends: [{name: f, listen: '127.0.0.1:1', backend: b, http: {answers: {503: %s}}}]\n"
             "backends: [{name: b, servers: 'host'}]\n",
             name);
    assert_int_equal(load(text, &conf, &findings), ERROR_CONFIG);
    assert_null(conf);
    char *errors = findings_text(&findings);
    snprintf(
        expected, sizeof expected,
        "f:2:31: backends[0].servers: found 'host'; allowed: " SERVERS
        " (a port is missing, as in 127.0.0.1:8080)\n"
        "%s:1:6: found the end of the line; allowed: a field such as 'Retry-After: 30', or the empty line "
        "before the body\n",
        name);
    assert_string_equal(errors, expected);
    free(errors);
    findings_free(&findings);
    unlink(name);
}

#define LOOPS(address, name, listen, back)                                                                   \
    "found '" address "', where frontend " name " listens (" listen                                          \
    "), from which it goes back to backend " back " for ever; allowed: an address of the service itself\n"

static const struct bad loops[] = {
    {FRONTEND "backends: [{name: b, servers: '127.0.0.1:1'}]\n",
     "f:2:31: backends[0].servers: " LOOPS("127.0.0.1:1", "f", "127.0.0.1:1", "b")},
    {FRONTEND "backends: [{name: b, servers: '0.0.0.0:1'}]\n",
     "f:2:31: backends[0].servers: " LOOPS("0.0.0.0:1", "f", "127.0.0.1:1", "b")},
    {"frontends: [{name: f, listen: '[::1]:1', backend: b}]\nbackends: [{name: b, servers: '[::]:1'}]\n",
     "f:2:31: backends[0].servers: " LOOPS("[::]:1", "f", "[::1]:1", "b")},
    {"frontends: [{name: f, listen: '0.0.0.0:1', backend: b}]\n"
     "backends:\n- name: b\n  servers: ['127.0.0.1:2', '127.9.9.9:1', '0.0.0.0:1', '[::ffff:127.0.0.1]:1',\n"
     "            'localhost:1', '[::1]:1', 'host:1', '10.0.0.1:1']\n",
     "f:4:28: backends[0].servers[1]: " LOOPS(
         "127.9.9.9:1", "f", "0.0.0.0:1",
         "b") "f:4:43: backends[0].servers[2]: " LOOPS("0.0.0.0:1", "f", "0.0.0.0:1",
                                                       "b") "f:4:56: "
                                                            "backends[0].servers[3]:"
                                                            " " LOOPS("[::ffff:127.0.0.1]:"
                                                                      "1",
                                                                      "f", "0.0.0.0:1", "b") "f:5:13: "
                                                                                             "backends[0]."
                                                                                             "servers[4]:"
                                                                                             " " LOOPS("local"
                                                                                                       "host:"
                                                                                                       "1",
                                                                                                       "f",
                                                                                                       "0.0."
                                                                                                       "0.0:"
                                                                                                       "1",
                                                                                                       "b")},
    {"frontends: [{name: f, listen: ['[::]:1', 'unix:/a'], backend: b}]\n"
     "backends: [{name: b, servers: ['127.0.0.1:1', '[::1]:1', '[::2]:1', 'unix:/a', 'unix:/b', "
     "'localhost:1']}]\n",
     "f:2:47: backends[0].servers[1]: " LOOPS(
         "[::1]:1", "f", "[::]:1",
         "b") "f:2:69: backends[0].servers[3]: " LOOPS("unix:/a", "f", "unix:/a",
                                                       "b") "f:2:91: backends[0].servers[5]: " LOOPS("localho"
                                                                                                     "st:1",
                                                                                                     "f",
                                                                                                     "[::]:1",
                                                                                                     "b")},
    {"frontends:\n- {name: f, listen: '127.0.0.1:1', backend: b}\n- {name: g, listen: '127.0.0.1:2', "
     "backend: "
     "c}\n- {name: h, listen: '127.0.0.1:3', backend: d}\n"
     "backends:\n- {name: b, servers: '127.0.0.1:2'}\n- {name: c, servers: ['h:1', '127.0.0.1:3']}\n"
     "- {name: d, servers: ['127.0.0.1:1', 'h:1']}\n",
     "f:8:23: backends[2].servers[0]: " LOOPS("127.0.0.1:1", "f", "127.0.0.1:1", "d")},
};

static void a_proxy_that_connects_to_itself_is_refused(void **state)
{
    (void)state;
    CHECK_BAD(loops);
}

static void a_frontend_before_another_is_no_loop(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "frontends: [{name: f, listen: '0.0.0.0:1', backend: b}, {name: g, listen: '127.0.0.1:2', backend: "
        "c}]\n"
        "backends: [{name: b, servers: ['127.0.0.1:2', 'localhost:2']}, {name: c, servers: '10.0.0.1:1'}]\n",
        "frontends: [{name: f, listen: ['0.0.0.0:1', '127.0.0.1:0'], backend: b}]\n"
        "backends: [{name: b, servers: ['10.0.0.1:1', '[::1]:1', 'host:1', 'unix:/1']}]\n",
        "frontends: [{name: f, listen: '127.0.0.1:1', backend: b}]\n"
        "backends: [{name: b, servers: ['127.0.0.2:1', '127.0.0.1:2']}]\n",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        conf_free(load_fine(texts[i]));
}

/* Hostile files. */

/* `unit` as often as fits into `size` bytes, between `head` and `tail`. */
static void refuse_repeated(const char *head, const char *unit, const char *tail, size_t size,
                            const char *expected)
{
    struct findings findings = {0};
    struct conf *conf = NULL;
    char *bytes = malloc(strlen(head) + size + strlen(unit) + strlen(tail) + 1);
    assert_non_null(bytes);
    size_t used = (size_t)sprintf(bytes, "%s", head);
    while (used < strlen(head) + size)
        used += (size_t)sprintf(bytes + used, "%s", unit);
    used += (size_t)sprintf(bytes + used, "%s", tail);
    assert_int_equal(conf_load_bytes("f", bytes, used, &no_flags, &conf, &findings), ERROR_CONFIG);
    assert_null(conf);
    assert_true(findings.errors > 0);
    assert_true(findings.count <= FINDINGS_MAX);
    if (expected)
        assert_non_null(strstr(findings.rows[0].text, expected));
    findings_free(&findings);
    free(bytes);
}

static void hostile_files_are_refused_in_bounded_time(void **state)
{
    (void)state;
    enum { MOST = YAML_SIZE_MAX - 1024 };
    refuse_repeated("a: ", "x\n ", "", YAML_SIZE_MAX, "more than 1MiB");
    refuse_repeated("a: ", "x", "", MOST, "line that is too long");
    refuse_repeated("", "[\n", "", MOST, "too many levels");
    refuse_repeated("", "- - - -\n", "", MOST, NULL);
    refuse_repeated("", "{a:\n", "", MOST, NULL);
    refuse_repeated("a: >\n", "\n", "x\n", MOST, "too many blank lines");
    refuse_repeated("a: |\n", " \n", "x\n", MOST, "too many blank lines");
    refuse_repeated("", "a: 1\n", "", MOST, NULL);
    refuse_repeated("", "workers: 1\n", "", MOST, "found the key again");
    refuse_repeated("frontends:\n", "-\n", "", MOST, NULL);
    refuse_repeated("backends:\n", "- {name: b, servers: 'h:1'}\n", "", MOST, NULL);
    refuse_repeated("frontends:\n- listen: [", "'127.0.0.1:0',\n ", "]\n", MOST, NULL);
    refuse_repeated("backends: [{name: b, servers: [", "'h:1',\n ", "]}]\n", MOST, "1024 at most");
    refuse_repeated("a: \"", "\\x41\\\n  ", "\"", MOST, NULL);
    refuse_repeated("", "&a [*a,\n", "", MOST, NULL);
    refuse_repeated("", "? ", "", 4000, NULL);
    refuse_repeated("", "---\n", "", MOST, NULL);
    refuse_repeated("", "!", "", 4000, NULL);
}

/* libfyaml 0.7.12 prints the line of an error into a buffer of the terminal's width, when it is let. */
static void an_error_on_a_long_line_is_reported(void **state)
{
    (void)state;
    struct findings findings = {0};
    struct conf *conf = NULL;
    char text[4096];
    snprintf(text, sizeof text, "w%*sa: 5s\n%*sb: 5s\n", 1000, "", 1000, "");
    assert_int_equal(load(text, &conf, &findings), ERROR_CONFIG);
    assert_string_equal(findings.rows[0].text, "f:1:1005: found no valid YAML: invalid multiline plain key");
    findings_free(&findings);
}

static void a_nul_byte_is_refused_where_it_is(void **state)
{
    (void)state;
    static const char text[] = "workers: 1\nlog: \0{}\n";
    struct findings findings = {0};
    struct conf *conf = NULL;
    assert_int_equal(conf_load_bytes("f", text, sizeof text - 1, &no_flags, &conf, &findings), ERROR_CONFIG);
    assert_string_equal(findings.rows[0].text,
                        "f:2:6: found the byte 0x00; allowed: text in UTF-8 without control characters");
    findings_free(&findings);
}

static void errors_beyond_the_bound_are_counted(void **state)
{
    (void)state;
    struct findings findings = {0};
    for (unsigned i = 0; i < FINDINGS_MAX + 5; i++)
        finding_error(&findings, "f", i + 1, 1, "x");
    assert_int_equal(findings.count, FINDINGS_MAX);
    assert_int_equal(findings.omitted, 5);
    assert_int_equal(findings.errors, FINDINGS_MAX + 5);
    char *text = findings_text(&findings);
    assert_non_null(strstr(text, "\n... and more, not shown (5)\n"));
    free(text);
    findings_free(&findings);
}

static void a_long_text_is_cut_in_an_error(void **state)
{
    (void)state;
    char text[200];
    char quoted[FINDING_QUOTE];
    memset(text, '\1', sizeof text);
    text[199] = '\0';
    finding_quote(text, quoted);
    assert_true(strlen(quoted) < FINDING_QUOTE);
    assert_string_equal(quoted + strlen(quoted) - 8, "\\x01...'");
    assert_string_equal(finding_quote("it's", quoted), "'it's'");
}

/* Flags. */

/* Runs the parser over the arguments, which end with NULL. */
static void parse_flags(struct conf_source *source, const char *const *arguments)
{
    char *argv[16] = {(char[]){"test"}};
    int argc = 1;
    for (; arguments[argc - 1]; argc++)
        argv[argc] = strdup(arguments[argc - 1]);
    assert_int_equal(argp_parse(conf_argp(), argc, argv, ARGP_NO_EXIT, NULL, source), 0);
    for (size_t i = 0; i < source->flag_count; i++) {
        char *text = strdup(source->flags[i].text); /* the source points into argv, which ends here */
        source->flags[i].text = text;
    }
    source->file = source->file ? strdup(source->file) : NULL;
    for (int i = 1; i < argc; i++)
        free(argv[i]);
}

static void free_flags(struct conf_source *source)
{
    for (size_t i = 0; i < source->flag_count; i++) {
        void *text = NULL;
        memcpy(&text, &source->flags[i].text, sizeof text);
        free(text);
    }
    void *file = NULL;
    memcpy(&file, &source->file, sizeof file);
    free(file);
    conf_source_free(source);
}

static int load_flags(const char *const *arguments, struct conf **conf, struct findings *findings)
{
    struct conf_source source = {.file = NULL};
    parse_flags(&source, arguments);
    int error = conf_load(&source, conf, findings);
    free_flags(&source);
    return error;
}

static void flags_alone_make_one_frontend_and_one_backend(void **state)
{
    (void)state;
    static const char *const arguments[] = {"--listen",
                                            "127.0.0.1:1,[::1]:1",
                                            "--listen=unix:/a",
                                            "--backend",
                                            "db:1,127.0.0.1:2",
                                            "--half-close=2s",
                                            "--drain",
                                            "off",
                                            "--workers=2",
                                            "--workers",
                                            "3",
                                            "--log-level=debug",
                                            "--mode",
                                            "tcp",
                                            NULL};
    struct findings findings = {0};
    struct conf *conf = NULL;
    assert_int_equal(load_flags(arguments, &conf, &findings), 0);
    assert_int_equal(conf->frontend_count, 1);
    assert_string_equal(conf->frontends[0].name, "main");
    assert_int_equal(conf->frontends[0].listen_count, 3);
    assert_int_equal(conf->frontends[0].deadlines.after_ms[DEADLINE_HALF_CLOSE], 2000);
    assert_true(conf->frontends[0].deadlines.after_ms[DEADLINE_DRAIN] == DEADLINE_OFF);
    assert_string_equal(conf->backends[0].name, "main");
    assert_int_equal(conf->backends[0].server_count, 2);
    assert_int_equal(conf->workers, 3);
    assert_int_equal(conf->log.level, CONF_LOG_DEBUG);
    conf_free(conf);
}

static void bad_flags_are_all_named(void **state)
{
    (void)state;
    static const char *const arguments[] = {"--listen=127.0.0.1:1,x",  "--backend=h", "--idle=30",
                                            "--max-connections=1,000", "--mode=udp",  NULL};
    struct findings findings = {0};
    struct conf *conf = NULL;
    assert_int_equal(load_flags(arguments, &conf, &findings), ERROR_CONFIG);
    assert_null(conf);
    char *text = findings_text(&findings);
    assert_string_equal(
        text,
        "--listen: found 'x'; allowed: " LISTENS " (a port is missing, as in 127.0.0.1:8080)\n"
        "--backend: found 'h'; allowed: " SERVERS " (a port is missing, as in 127.0.0.1:8080)\n"
        "--idle: found '30'; allowed: " A_DURATION " (a number needs a unit: 250ms, 30s, 2m, 1h or 1d)\n"
        "--max-connections: found '1,000'; allowed: a number from 1 to 10000000, or off (digits only)\n"
        "--mode: found 'udp'; allowed: tcp or http\n");
    free(text);
    findings_free(&findings);
}

static void flags_that_connect_to_themselves_are_refused(void **state)
{
    (void)state;
    static const char *const arguments[] = {"--listen=[::]:1", "--backend=h:1,[::1]:1", NULL};
    struct findings findings = {0};
    struct conf *conf = NULL;
    assert_int_equal(load_flags(arguments, &conf, &findings), ERROR_CONFIG);
    assert_null(conf);
    char *text = findings_text(&findings);
    assert_string_equal(text, "--backend: " LOOPS("[::1]:1", "main", "[::]:1", "main"));
    free(text);
    findings_free(&findings);
}

static void a_configuration_needs_both_sides_or_a_file(void **state)
{
    (void)state;
    static const char *const cases[][4] = {
        {NULL}, {"--listen=127.0.0.1:1", NULL}, {"--backend=h:1", NULL}, {"-c", "x", "--backend=h:1", NULL}};
    static const char *const errors[] = {
        ("--listen: found nothing; allowed: an address such as 127.0.0.1:8080, or a whole configuration with "
         "-c FILE"),
        "--backend: found nothing; allowed: an address such as 127.0.0.1:9000",
        "--listen: found nothing; allowed: an address such as 127.0.0.1:8080",
        "--backend: found beside -c; allowed: either a file, or --listen and --backend",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct findings findings = {0};
        struct conf *conf = NULL;
        assert_int_equal(load_flags(cases[i], &conf, &findings), ERROR_CONFIG);
        assert_string_equal(findings.rows[0].text, errors[i]);
        findings_free(&findings);
    }
}

static void flags_win_over_the_file_in_every_frontend(void **state)
{
    (void)state;
    char name[] = "/tmp/lastack_load_test_XXXXXX";
    int fd = mkstemp(name);
    static const char text[] =
        "workers: 1\ndeadlines: {idle: 1s}\nfrontends:\n"
        "- {name: f, listen: '127.0.0.1:1', backend: b, deadlines: {idle: 2s, grace: 3s}}\n"
        "- {name: g, listen: '127.0.0.1:2', backend: b}\n" BACKEND;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof text - 1), sizeof text - 1);
    close(fd);
    const char *arguments[] = {"-c", name, "--idle=9s", "--max-connections=5", NULL};
    struct findings findings = {0};
    struct conf *conf = NULL;
    int error = load_flags(arguments, &conf, &findings);
    unlink(name);
    assert_int_equal(error, 0);
    assert_int_equal(conf->workers, 1);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(conf->frontends[i].deadlines.after_ms[DEADLINE_IDLE], 9000);
        assert_int_equal(conf->frontends[i].max_connections, 5);
    }
    assert_int_equal(conf->frontends[0].deadlines.after_ms[DEADLINE_GRACE], 3000);
    conf_free(conf);
}

static void a_file_that_cannot_be_read_is_named(void **state)
{
    (void)state;
    static const char *const missing[] = {"-c", "/nonexistent/lastack.yaml", NULL};
    static const char *const directory[] = {"-c", "/", NULL};
    struct findings findings = {0};
    struct conf *conf = NULL;
    assert_int_equal(load_flags(missing, &conf, &findings), -ENOENT);
    assert_int_equal(load_flags(directory, &conf, &findings), -EISDIR);
    assert_string_equal(findings.rows[0].text,
                        "/nonexistent/lastack.yaml: cannot be read: No such file or directory");
    assert_string_equal(findings.rows[1].text, "/: cannot be read: Is a directory");
    findings_free(&findings);
}

static void an_endless_file_is_read_no_further_than_the_bound(void **state)
{
    (void)state;
    static const char *const endless[] = {"-c", "/dev/zero", NULL};
    struct findings findings = {0};
    struct conf *conf = NULL;
    assert_int_equal(load_flags(endless, &conf, &findings), ERROR_CONFIG);
    assert_string_equal(findings.rows[0].text,
                        "/dev/zero:1:1: found more than 1MiB; allowed: a file of up to 1MiB");
    findings_free(&findings);
}

/* Warnings. */

static char *warnings(const char *text, const struct conf_host *host)
{
    struct findings findings = {0};
    struct conf *conf = load_fine(text);
    conf_warn(conf, host, &findings);
    assert_int_equal(findings.errors, 0);
    char *warned = findings_text(&findings);
    findings_free(&findings);
    conf_free(conf);
    return warned;
}

struct warned {
    const char *text;
    const char *part; /* NULL: no warning at all */
};

static void what_does_not_fit_the_host_is_warned_about(void **state)
{
    (void)state;
    static const struct warned cases[] = {
        {SIDES, NULL},
        {"deadlines: {half_close: 60s}\n" SIDES, NULL},
        {"deadlines: {half_close: 61s}\n" SIDES,
         "warning: frontend f: a half-closed session may be silent for 61s"},
        {"deadlines: {half_close: off}\n" SIDES, "may be silent for ever (half_close)"},
        {"deadlines: {half_close: off, half_close_max: 30s}\n" SIDES, NULL},
        {"deadlines: {half_close: off}\n" FRONTEND "backends: [{name: b, servers: ['127.9.9.9:1', '[::1]:1', "
         "'unix:/a', 'localhost:2']}]\n",
         NULL},
        {"deadlines: {half_close: off}\n" FRONTEND "backends: [{name: b, servers: ['[::1]:1', '[::2]:1']}]\n",
         "before [::2]:1 forgets it after 1m (nf_conntrack_tcp_timeout_close_wait)"},
        {"deadlines: {half_close: off}\n" FRONTEND "backends: [{name: b, servers: ['10.0.0.1:1']}]\n",
         "10.0.0.1:1"},
        {"frontends: [{name: f, listen: 'unix:/a', backend: b, max_connections: 468}]\n" BACKEND, NULL},
        {"frontends: [{name: f, listen: 'unix:/a', backend: b, max_connections: 469}]\n" BACKEND,
         "needs 1002 descriptors, but this process may have 1000"},
        {"frontends: [{name: f, listen: 'unix:/a', backend: b, mode: http, max_connections: 437, http: "
         "{over_limit: refuse}}]\n" BACKEND,
         "needs 1002 descriptors, but this process may have 1000"},
        {FRONTEND "backends: [{name: b, servers: 'h:1'}, {name: c, servers: 'h:1'}]\n",
         "warning: backend c: no frontend uses it\n"},
        {"frontends: [{name: f, listen: 'unix:/a', backend: b, trusted: '10.0.0.0/8', http: {via: on, "
         "max_fields: 100, over_limit: refuse}}]\n" BACKEND,
         "warning: frontend f: mode tcp takes no notice of trusted, http.via, http.over_limit\n"},
        {"frontends: [{name: f, listen: 'unix:/a', backend: b, mode: http, trusted: '10.0.0.0/8', http: "
         "{via: "
         "on}}]\n" BACKEND,
         NULL},
        {FRONTEND "backends: [{name: b, servers: 'h:1', set_aside: 2m}]\n",
         "warning: backend b: set_aside is cut to set_aside_max, 30s\n"},
        {FRONTEND "backends: [{name: b, servers: 'h:1', reuse: safe}]\n",
         "warning: backend b: reuse has no effect, for no frontend in mode http uses it\n"},
        {"frontends: [{name: f, listen: '127.0.0.1:1', backend: b, mode: http}]\n"
         "backends: [{name: b, servers: '127.0.0.1:2', reuse: always}]\n",
         NULL},
        {FRONTEND "backends: [{name: b, servers: ['127.0.0.1:39999', '127.0.0.1:50001', '[::1]:40007', "
                  "'10.0.0.1:40002', '[::2]:40002', 'h:40002', 'unix:/a']}]\n",
         NULL},
        {FRONTEND "backends: [{name: b, servers: ['127.0.0.1:2', '127.0.0.1:40000']}]\n",
         "warning: backend b: this host also gives the port of 127.0.0.1:40000 to connections that it opens "
         "(net.ipv4.ip_local_port_range, 40000 to 50000)"},
        {FRONTEND "backends: [{name: b, servers: ['[::1]:50000']}]\n", "the port of [::1]:50000"},
        {FRONTEND "backends: [{name: b, servers: ['localhost:40004']}]\n", "ip_local_reserved_ports=40004"},
        {FRONTEND "backends: [{name: b, servers: ['127.0.0.1:40009']}]\n", "the port of 127.0.0.1:40009"},
    };
    const struct conf_host host = {.conntrack_close_wait_ms = 60000,
                                   .descriptors = 1000,
                                   .port_low = 40000,
                                   .port_high = 50000,
                                   .reserved_ports = "80,40005-40008"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *text = warnings(cases[i].text, &host);
        if (cases[i].part)
            assert_non_null(strstr(text, cases[i].part));
        else
            assert_string_equal(text, "");
        free(text);
    }
}

static void the_host_can_be_read(void **state)
{
    (void)state;
    struct conf_host host = {.descriptors = 0};
    conf_host_read(&host);
    assert_true(host.descriptors > 0);
    assert_true(host.conntrack_close_wait_ms > 0);
    assert_int_equal(host.conntrack_close_wait_ms % 1000, 0);
    assert_true(host.port_low > 0 && host.port_low <= host.port_high);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_file_gets_all_defaults),
        cmocka_unit_test(every_key_reaches_its_field),
        cmocka_unit_test(a_frontends_deadlines_replace_single_ones_wherever_they_stand),
        cmocka_unit_test(files_may_be_written_in_many_ways),
        cmocka_unit_test(what_is_printed_loads_as_the_same),
        cmocka_unit_test(bad_values_are_refused_where_they_are),
        cmocka_unit_test(bad_keys_are_refused_with_the_nearest_name),
        cmocka_unit_test(bad_answers_are_refused_where_they_are_named),
        cmocka_unit_test(bad_frontends_and_backends_are_refused),
        cmocka_unit_test(what_is_no_plain_yaml_is_refused),
        cmocka_unit_test(answers_are_read_from_their_files_and_printed_as_their_names),
        cmocka_unit_test(tunnels_are_listed),
        cmocka_unit_test(a_bad_answer_is_refused_at_its_own_line),
        cmocka_unit_test(a_proxy_that_connects_to_itself_is_refused),
        cmocka_unit_test(a_frontend_before_another_is_no_loop),
        cmocka_unit_test(hostile_files_are_refused_in_bounded_time),
        cmocka_unit_test(an_error_on_a_long_line_is_reported),
        cmocka_unit_test(a_nul_byte_is_refused_where_it_is),
        cmocka_unit_test(errors_beyond_the_bound_are_counted),
        cmocka_unit_test(a_long_text_is_cut_in_an_error),
        cmocka_unit_test(flags_alone_make_one_frontend_and_one_backend),
        cmocka_unit_test(bad_flags_are_all_named),
        cmocka_unit_test(flags_that_connect_to_themselves_are_refused),
        cmocka_unit_test(a_configuration_needs_both_sides_or_a_file),
        cmocka_unit_test(flags_win_over_the_file_in_every_frontend),
        cmocka_unit_test(a_file_that_cannot_be_read_is_named),
        cmocka_unit_test(an_endless_file_is_read_no_further_than_the_bound),
        cmocka_unit_test(what_does_not_fit_the_host_is_warned_about),
        cmocka_unit_test(the_host_can_be_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
