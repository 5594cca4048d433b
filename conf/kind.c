#include "conf/kind.h"

#include "conf/value.h"
#include "reaper/array.h"
#include "reaper/error.h"
#include "reaper/words.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Numbers of three notations. */

struct notation {
    const char *(*read)(const char *text, uint64_t *number);
    void (*write)(uint64_t number, char text[static VALUE_NUMBER_TEXT]);
    const char *what;
};

static void integer_text(uint64_t number, char text[static VALUE_NUMBER_TEXT])
{
    snprintf(text, VALUE_NUMBER_TEXT, "%" PRIu64, number);
}

static const struct notation notations[] = {
    [OPTION_DURATION] = {value_duration, value_duration_text, "a duration"},
    [OPTION_RATE] = {value_rate, value_rate_text, "a rate"},
    [OPTION_COUNT] = {value_integer, integer_text, "a number"},
};

static int set_number(const struct option_row *row, void *slot, const char *text, const char **why)
{
    uint64_t number = row->word_value;
    bool is_word = row->word && strcmp(text, row->word) == 0;
    if (!is_word) {
        *why = strcmp(text, "off") == 0 ? "this one cannot be off" : notations[row->type].read(text, &number);
        if (*why)
            return ERROR_CONFIG;
        if (number < row->min || number > row->max)
            return ERROR_CONFIG;
        if (row->step && number % row->step != 0) {
            *why = "whole seconds only";
            return ERROR_CONFIG;
        }
    }
    memcpy(slot, &number, sizeof number);
    return 0;
}

static void number_text(const struct option_row *row, const void *slot, char *text, size_t size)
{
    uint64_t number = 0;
    char written[VALUE_NUMBER_TEXT];
    memcpy(&number, slot, sizeof number);
    notations[row->type].write(number, written);
    snprintf(text, size, "%s", row->word && number == row->word_value ? row->word : written);
}

static void number_allowed(const struct option_row *row, char *allowed, size_t size)
{
    char min[VALUE_NUMBER_TEXT];
    char max[VALUE_NUMBER_TEXT];
    notations[row->type].write(row->min, min);
    notations[row->type].write(row->max, max);
    snprintf(allowed, size, "%s from %s to %s%s%s", notations[row->type].what, min, max,
             row->word ? ", or " : "", row->word ? row->word : "");
}

static int set_switch(const struct option_row *row, void *slot, const char *text, const char **why)
{
    (void)row;
    (void)why;
    bool on = false;
    if (value_switch(text, &on))
        return ERROR_CONFIG;
    memcpy(slot, &on, sizeof on);
    return 0;
}

static void switch_text(const struct option_row *row, const void *slot, char *text, size_t size)
{
    (void)row;
    bool on = false;
    memcpy(&on, slot, sizeof on);
    snprintf(text, size, "%s", on ? "on" : "off");
}

static void switch_allowed(const struct option_row *row, char *allowed, size_t size)
{
    (void)row;
    snprintf(allowed, size, "on or off");
}

static int set_word(const struct option_row *row, void *slot, const char *text, const char **why)
{
    int index = words_find(row->words, text);
    if (index < 0) {
        if (row->later && strcmp(text, row->later) == 0)
            *why = "that is for a later version";
        return ERROR_CONFIG;
    }
    unsigned value = (unsigned)index;
    memcpy(slot, &value, sizeof value);
    return 0;
}

static void word_text(const struct option_row *row, const void *slot, char *text, size_t size)
{
    unsigned value = 0;
    memcpy(&value, slot, sizeof value);
    snprintf(text, size, "%s", row->words[value]);
}

static void word_allowed(const struct option_row *row, char *allowed, size_t size)
{
    size_t used = 0;
    for (size_t i = 0; row->words[i] && used < size; i++) {
        const char *between = i == 0 ? "" : row->words[i + 1] ? ", " : " or ";
        used += (size_t)snprintf(allowed + used, size - used, "%s%s", between, row->words[i]);
    }
}

/* Replaces the string in the slot. */
static int store_string(void *slot, const char *text)
{
    char *copy = strdup(text);
    char *old = NULL;
    if (!copy)
        return -ENOMEM;
    memcpy(&old, slot, sizeof old);
    free(old);
    memcpy(slot, &copy, sizeof copy);
    return 0;
}

static void string_text(const struct option_row *row, const void *slot, char *text, size_t size)
{
    (void)row;
    char *string = NULL;
    memcpy(&string, slot, sizeof string);
    snprintf(text, size, "%s", string);
}

static int set_name(const struct option_row *row, void *slot, const char *text, const char **why)
{
    (void)row;
    (void)why;
    return value_name(text) ? ERROR_CONFIG : store_string(slot, text);
}

static void name_allowed(const struct option_row *row, char *allowed, size_t size)
{
    (void)row;
    snprintf(allowed, size, "1 to 63 letters, digits, '_', '-', '.'");
}

static int set_target(const struct option_row *row, void *slot, const char *text, const char **why)
{
    (void)row;
    bool stream = strcmp(text, "stderr") == 0 || strcmp(text, "stdout") == 0;
    *why = stream ? NULL : value_path(text);
    return *why ? ERROR_CONFIG : store_string(slot, text);
}

static void target_allowed(const struct option_row *row, char *allowed, size_t size)
{
    (void)row;
    snprintf(allowed, size, "stderr, stdout or the absolute path of a file");
}

/* useradd(8): what Debian lets a user be called. Who is meant is looked up where it matters: the host that a
 * file is checked on may be another one. */
static int set_user(const struct option_row *row, void *slot, const char *text, const char **why)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.$";
    size_t size = strlen(text);
    (void)row;
    *why = NULL;
    if (strcmp(text, "root") == 0)
        *why = "that gives nothing up";
    if (strcmp(text, "nobody") == 0)
        *why = "other programs run as nobody too, and could end this one or read its memory; make a user of "
               "its own";
    if (*why || size == 0 || size > 32 || text[0] == '-' || strspn(text, name) != size)
        return ERROR_CONFIG;
    return store_string(slot, text);
}

static void user_allowed(const struct option_row *row, char *allowed, size_t size)
{
    (void)row;
    snprintf(allowed, size, "off or the name of a user other than root and nobody");
}

static void reference_allowed(const struct option_row *row, char *allowed, size_t size)
{
    (void)row;
    snprintf(allowed, size, "the name of one of the backends");
}

/* Lists. */

static const char too_many[] = "1024 at most";

static int append_listen(const struct option_row *row, void *slot, const char *text, const char **why)
{
    struct conf_frontend *frontend = slot;
    struct conf_listen listen;
    *why = frontend->listen_count < row->max ? value_listen(text, &listen.address) : too_many;
    if (*why)
        return ERROR_CONFIG;
    char normalised[VALUE_ADDRESS_TEXT];
    value_address_text(&listen.address, normalised);
    size_t count = frontend->listen_count;
    struct conf_listen *grown = array_extend(frontend->listen, count, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    frontend->listen = grown;
    listen.text = strdup(normalised);
    if (!listen.text)
        return -ENOMEM;
    frontend->listen[count] = listen;
    frontend->listen_count = count + 1;
    return 0;
}

static void listen_allowed(const struct option_row *row, char *allowed, size_t size)
{
    (void)row;
    snprintf(allowed, size, "addresses such as '127.0.0.1:8080', '[::]:8080', 'unix:/path'");
}

/* Copies the strings of a server; -ENOMEM leaves nothing behind. */
static int copy_server(const struct value_server *value, struct conf_server *server)
{
    char text[sizeof value->host + sizeof ":65535"];
    snprintf(text, sizeof text, "%s:%u", value->host, value->port);
    if (value->address.length > 0)
        value_address_text(&value->address, text);
    *server = (struct conf_server){.text = strdup(text), .address = value->address, .port = value->port};
    if (value->host[0])
        server->host = strdup(value->host);
    if (server->text && (server->host || !value->host[0]))
        return 0;
    free(server->text);
    free(server->host);
    return -ENOMEM;
}

static int append_server(const struct option_row *row, void *slot, const char *text, const char **why)
{
    struct conf_backend *backend = slot;
    struct value_server value;
    *why = backend->server_count < row->max ? value_server(text, &value) : too_many;
    if (*why)
        return ERROR_CONFIG;
    size_t count = backend->server_count;
    struct conf_server *grown = array_extend(backend->servers, count, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    backend->servers = grown;
    int error = copy_server(&value, &backend->servers[count]);
    if (!error)
        backend->server_count = count + 1;
    return error;
}

static void servers_allowed(const struct option_row *row, char *allowed, size_t size)
{
    (void)row;
    snprintf(allowed, size, "addresses such as '127.0.0.1:9000', 'name:9000', '[::1]:9000', 'unix:/path'");
}

static void networks_clear(void *slot)
{
    struct conf_frontend *frontend = slot;
    free(frontend->trusted);
    frontend->trusted = NULL;
    frontend->trusted_count = 0;
}

static int append_network(const struct option_row *row, void *slot, const char *text, const char **why)
{
    struct conf_frontend *frontend = slot;
    struct conf_network network;
    if (strcmp(text, row->word) == 0) {
        networks_clear(frontend);
        return 0;
    }
    *why = value_network(text, &network);
    if (*why)
        return ERROR_CONFIG;
    struct conf_network *grown = array_extend(frontend->trusted, frontend->trusted_count, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    frontend->trusted = grown;
    grown[frontend->trusted_count++] = network;
    return 0;
}

static void networks_allowed(const struct option_row *row, char *allowed, size_t size)
{
    snprintf(allowed, size, "networks such as '10.0.0.0/8', '127.0.0.1', 'fd00::/8', or %s", row->word);
}

static const char *const checks[] = {
    [CONF_CHECK_OFF] = "off",
    [CONF_CHECK_TCP] = "tcp",
    [CONF_CHECK_GET] = "http GET",
    [CONF_CHECK_HEAD] = "http HEAD",
    NULL,
};

/* The kind of check that the text asks for, *path what stands behind it; -1: none. */
static int read_check(const char *text, const char **path)
{
    *path = NULL;
    int word = words_find(checks, text);
    if (word >= 0)
        return word < CONF_CHECK_GET ? word : -1;
    for (int kind = CONF_CHECK_GET; checks[kind]; kind++) {
        size_t length = strlen(checks[kind]);
        if (strncmp(text, checks[kind], length) == 0 && text[length] == ' ') {
            *path = text + length + 1;
            return kind;
        }
    }
    return -1;
}

static int set_check(const struct option_row *row, void *slot, const char *text, const char **why)
{
    (void)row;
    struct conf_check *check = slot;
    const char *path;
    int kind = read_check(text, &path);
    *why = kind >= 0 && path ? value_request_path(path) : NULL;
    if (kind < 0 || *why)
        return ERROR_CONFIG;
    if (path && store_string(&check->path, path))
        return -ENOMEM;
    check->kind = (enum conf_check_kind)kind;
    return 0;
}

static void check_text(const struct option_row *row, const void *slot, char *text, size_t size)
{
    (void)row;
    const struct conf_check *check = slot;
    bool has_path = check->kind >= CONF_CHECK_GET;
    snprintf(text, size, "%s%s%s", checks[check->kind], has_path ? " " : "", has_path ? check->path : "");
}

static void check_allowed(const struct option_row *row, char *allowed, size_t size)
{
    (void)row;
    snprintf(allowed, size, "off, tcp, 'http GET /path' or 'http HEAD /path'");
}

static void watch_clear(void *slot)
{
    struct conf_reaper *reaper = slot;
    reaper->backends = false;
    reaper->port_count = 0;
}

static int append_watch(const struct option_row *row, void *slot, const char *text, const char **why)
{
    (void)row;
    struct conf_reaper *reaper = slot;
    uint64_t port;
    if (strcmp(text, "off") == 0) {
        watch_clear(reaper);
        return 0;
    }
    if (strcmp(text, "backends") == 0) {
        reaper->backends = true;
        return 0;
    }
    *why = value_integer(text, &port);
    if (*why || port == 0 || port > UINT16_MAX)
        return ERROR_CONFIG;
    if (reaper->port_count == CONF_PORTS_MAX) {
        *why = "no more than 64 ports";
        return ERROR_CONFIG;
    }
    reaper->ports[reaper->port_count++] = (uint16_t)port;
    return 0;
}

/* As a YAML list where it is more than one thing. */
static void watch_text(const struct option_row *row, const void *slot, char *text, size_t size)
{
    (void)row;
    const struct conf_reaper *reaper = slot;
    if (!reaper->backends && reaper->port_count == 0) {
        snprintf(text, size, "off");
        return;
    }
    if (reaper->port_count == 0) {
        snprintf(text, size, "backends");
        return;
    }
    size_t used = (size_t)snprintf(text, size, "[%s", reaper->backends ? "backends" : "");
    for (size_t i = 0; i < reaper->port_count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%u", i > 0 || reaper->backends ? ", " : "",
                                 reaper->ports[i]);
    if (used < size)
        snprintf(text + used, size - used, "]");
}

static void watch_allowed(const struct option_row *row, char *allowed, size_t size)
{
    (void)row;
    snprintf(allowed, size, "off, backends, or a list of ports from 1 to 65535");
}

static void upgrades_clear(void *slot)
{
    struct conf_http *http = slot;
    http->upgrade_count = 0;
}

/* A token (RFC 9110, 5.6.2), without the version that may follow it. */
static bool is_protocol(const char *text)
{
    static const char token[] = "abcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~";
    size_t size = strlen(text);
    return size > 0 && size < CONF_UPGRADE_TEXT && strspn(text, token) == size;
}

static int append_upgrade(const struct option_row *row, void *slot, const char *text, const char **why)
{
    struct conf_http *http = slot;
    if (strcmp(text, row->word) == 0) {
        upgrades_clear(http);
        return 0;
    }
    *why = http->upgrade_count < row->max ? NULL : "8 at most";
    if (*why || !is_protocol(text))
        return ERROR_CONFIG;
    if (strncmp(text, "h2", 2) == 0) {
        *why = "HTTP/2 is not spoken here";
        return ERROR_CONFIG;
    }
    snprintf(http->upgrades[http->upgrade_count++], CONF_UPGRADE_TEXT, "%s", text);
    return 0;
}

/* As a YAML list where it is more than one. */
static void upgrades_text(const struct option_row *row, const void *slot, char *text, size_t size)
{
    const struct conf_http *http = slot;
    bool list = http->upgrade_count > 1;
    size_t used = (size_t)snprintf(text, size, "%s", list ? "[" : http->upgrade_count == 0 ? row->word : "");
    for (size_t i = 0; i < http->upgrade_count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i > 0 ? ", " : "", http->upgrades[i]);
    if (list && used < size)
        snprintf(text + used, size - used, "]");
}

static void upgrades_allowed(const struct option_row *row, char *allowed, size_t size)
{
    snprintf(allowed, size, "%s, or a list of names of protocols in small letters such as websocket",
             row->word);
}

static const struct option_kind kinds[] = {
    [OPTION_DURATION] = {set_number, number_text, number_allowed, NULL, "DURATION", false},
    [OPTION_RATE] = {set_number, number_text, number_allowed, NULL, "RATE", false},
    [OPTION_COUNT] = {set_number, number_text, number_allowed, NULL, "NUMBER", false},
    [OPTION_SWITCH] = {set_switch, switch_text, switch_allowed, NULL, "on|off", false},
    [OPTION_WORD] = {set_word, word_text, word_allowed, NULL, "WORD", false},
    [OPTION_NAME] = {set_name, string_text, name_allowed, NULL, "NAME", false},
    [OPTION_TARGET] = {set_target, string_text, target_allowed, NULL, "TARGET", false},
    [OPTION_USER] = {set_user, string_text, user_allowed, NULL, "USER", false},
    [OPTION_REFERENCE] = {NULL, NULL, reference_allowed, NULL, NULL, false},
    [OPTION_LISTEN] = {append_listen, NULL, listen_allowed, NULL, "ADDRESS", true},
    [OPTION_SERVERS] = {append_server, NULL, servers_allowed, NULL, "ADDRESS", true},
    [OPTION_WATCH] = {append_watch, watch_text, watch_allowed, watch_clear, "PORT", true},
    [OPTION_NETWORKS] = {append_network, NULL, networks_allowed, networks_clear, "NETWORK", true},
    [OPTION_UPGRADES] = {append_upgrade, upgrades_text, upgrades_allowed, upgrades_clear, "PROTOCOL", true},
    [OPTION_ANSWERS] = {NULL, NULL, NULL, NULL, NULL, false},
    [OPTION_CHECK] = {set_check, check_text, check_allowed, NULL, "CHECK", false},
    [OPTION_DEADLINES] = {NULL, NULL, NULL, NULL, NULL, false},
};

const struct option_kind *option_kind(const struct option_row *row)
{
    return &kinds[row->type];
}
