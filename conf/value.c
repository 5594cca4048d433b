#include "conf/value.h"

#include <arpa/inet.h>
#include <assert.h>
#include <inttypes.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

struct unit {
    const char *name;
    uint64_t factor;
};

/* Of two units for one factor, the text functions print the first. */
static const struct unit duration_units[] = {
    {"ms", 1},
    {"s", 1000},
    {"m", UINT64_C(60) * 1000},
    {"h", UINT64_C(3600) * 1000},
    {"d", UINT64_C(24) * 3600 * 1000},
    {NULL, 0},
};
static const struct unit size_units[] = {
    {"B", 1},
    {"KiB", UINT64_C(1) << 10},
    {"MiB", UINT64_C(1) << 20},
    {"GiB", UINT64_C(1) << 30},
    {"kB", 1000},
    {"KB", 1000},
    {"MB", UINT64_C(1000) * 1000},
    {"GB", UINT64_C(1000) * 1000 * 1000},
    {NULL, 0},
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Reads digits up to the first other character; NULL when there are none or they overflow. */
static const char *read_digits(const char *text, uint64_t *number)
{
    uint64_t value = 0;
    const char *at = text;
    for (; is_digit(*at); at++)
        if (__builtin_mul_overflow(value, 10U, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value))
            return NULL;
    if (at == text)
        return NULL;
    *number = value;
    return at;
}

struct quantity {
    const struct unit *units;
    const char *suffix;    /* after the unit */
    const char *form;      /* said when it does not start with digits */
    const char *bare;      /* said when it is nothing but digits */
    const char *units_are; /* said when something unknown follows the digits */
};

static const struct quantity duration = {
    .units = duration_units,
    .suffix = "",
    .form = "a duration is a whole number and a unit, as in 30s",
    .bare = "a number needs a unit: 250ms, 30s, 2m, 1h or 1d",
    .units_are = "a duration is one number and one of the units ms, s, m, h, d; write 90s for 1m30s",
};
static const struct quantity size = {
    .units = size_units,
    .suffix = "",
    .form = "a size is a whole number and a unit, as in 16KiB",
    .bare = "a number needs a unit: 512B, 16KiB, 1MiB or 10MB",
    .units_are = "the units are B, KiB, MiB, GiB, kB, MB, GB",
};
static const struct quantity rate = {
    .units = size_units,
    .suffix = "/s",
    .form = "a rate is a whole number and a unit, as in 1KiB/s",
    .bare = "a number needs a unit: 512B/s, 1KiB/s or 1MB/s",
    .units_are = "the units are B/s, KiB/s, MiB/s, GiB/s, kB/s, MB/s, GB/s",
};

static const struct unit *find_unit(const struct quantity *quantity, const char *text)
{
    for (const struct unit *unit = quantity->units; unit->name; unit++) {
        size_t length = strlen(unit->name);
        if (strncmp(text, unit->name, length) == 0 && strcmp(text + length, quantity->suffix) == 0)
            return unit;
    }
    return NULL;
}

static const char *read_quantity(const struct quantity *quantity, const char *text, uint64_t *value)
{
    if (!is_digit(*text))
        return quantity->form;
    uint64_t number = 0;
    const char *rest = read_digits(text, &number);
    if (!rest)
        return "the number is too large";
    if (*rest == '\0')
        return quantity->bare;
    const struct unit *unit = find_unit(quantity, rest);
    if (!unit)
        return quantity->units_are;
    if (__builtin_mul_overflow(number, unit->factor, &number))
        return "the number is too large";
    *value = number;
    return NULL;
}

const char *value_duration(const char *text, uint64_t *ms)
{
    return read_quantity(&duration, text, ms);
}

const char *value_size(const char *text, uint64_t *bytes)
{
    return read_quantity(&size, text, bytes);
}

const char *value_rate(const char *text, uint64_t *bytes)
{
    return read_quantity(&rate, text, bytes);
}

/* The largest unit that divides the value, so that the number is the smallest. */
static void quantity_text(const struct quantity *quantity, uint64_t value, char text[VALUE_NUMBER_TEXT])
{
    const struct unit *best = quantity->units;
    for (const struct unit *unit = quantity->units; unit->name; unit++)
        if (value > 0 && value % unit->factor == 0 && unit->factor > best->factor)
            best = unit;
    snprintf(text, VALUE_NUMBER_TEXT, "%" PRIu64 "%s%s", value / best->factor, best->name, quantity->suffix);
}

void value_duration_text(uint64_t ms, char text[static VALUE_NUMBER_TEXT])
{
    quantity_text(&duration, ms, text);
}

void value_size_text(uint64_t bytes, char text[static VALUE_NUMBER_TEXT])
{
    quantity_text(&size, bytes, text);
}

void value_rate_text(uint64_t bytes, char text[static VALUE_NUMBER_TEXT])
{
    quantity_text(&rate, bytes, text);
}

const char *value_integer(const char *text, uint64_t *number)
{
    if (!is_digit(*text))
        return "digits only";
    uint64_t value = 0;
    const char *rest = read_digits(text, &value);
    if (!rest)
        return "the number is too large";
    if (*rest != '\0')
        return "digits only";
    *number = value;
    return NULL;
}

const char *value_switch(const char *text, bool *on)
{
    if (strcmp(text, "on") != 0 && strcmp(text, "off") != 0)
        return "a switch is on or off";
    *on = strcmp(text, "on") == 0;
    return NULL;
}

const char *value_name(const char *text)
{
    size_t length = strlen(text);
    if (length == 0 || length > 63)
        return "a name has 1 to 63 characters";
    for (const char *at = text; *at; at++)
        if (!is_letter(*at) && !is_digit(*at) && !strchr("_-.", *at))
            return "a name has letters, digits, '_', '-' and '.' only";
    return NULL;
}

const char *value_path(const char *text)
{
    if (text[0] != '/')
        return "a path starts with '/'";
    if (strlen(text) >= PATH_MAX)
        return "a path has at most 4095 bytes";
    for (const char *at = text; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            return "a path has no control characters";
    return NULL;
}

const char *value_request_path(const char *text)
{
    if (text[0] != '/')
        return "a path starts with '/'";
    if (strlen(text) > VALUE_REQUEST_PATH_MAX)
        return "a path has at most 1023 bytes";
    for (const char *at = text; *at; at++)
        if (*at <= ' ' || *at > '~' || *at == '#')
            return "a path has visible ASCII characters only, and no '#'";
    return NULL;
}

static const char *read_unix(const char *path, struct conf_address *address)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    const char *why = value_path(path);
    if (why)
        return why;
    size_t length = strlen(path);
    if (length >= sizeof un.sun_path)
        return "the path of a unix socket has at most 107 bytes (unix(7))";
    memcpy(un.sun_path, path, length + 1);
    *address = (struct conf_address){.length = sizeof un};
    memcpy(&address->address, &un, sizeof un);
    return NULL;
}

static void store_inet(const struct in_addr *host, uint16_t port, struct conf_address *address)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = *host};
    *address = (struct conf_address){.length = sizeof in};
    memcpy(&address->address, &in, sizeof in);
}

static void store_inet6(const struct in6_addr *host, uint16_t port, struct conf_address *address)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = *host};
    *address = (struct conf_address){.length = sizeof in6};
    memcpy(&address->address, &in6, sizeof in6);
}

/* One label of a name: RFC 1123 section 2.1, and '_' because container names have it. */
static bool is_label(const char *label, size_t length)
{
    if (length == 0 || length > 63 || label[0] == '-' || label[length - 1] == '-')
        return false;
    for (size_t i = 0; i < length; i++)
        if (!is_letter(label[i]) && !is_digit(label[i]) && label[i] != '-' && label[i] != '_')
            return false;
    return true;
}

/* A last label of digits is a mistyped address, never a name: "127.0.0.256". */
static bool is_host_name(const char *host)
{
    if (strlen(host) > 253)
        return false;
    bool numeric = false;
    for (;;) {
        size_t length = strcspn(host, ".");
        if (!is_label(host, length))
            return false;
        numeric = strspn(host, "0123456789") == length;
        host += length;
        if (*host == '.')
            host++; /* the last dot may be the root's, which keeps a resolver from trying search domains */
        if (*host == '\0')
            return !numeric;
    }
}

static const char *read_port(const char *text, uint16_t *port)
{
    uint64_t number = 0;
    if (value_integer(text, &number) || number > UINT16_MAX)
        return "a port is a number up to 65535";
    *port = (uint16_t)number;
    return NULL;
}

static const char *read_host(const char *host, struct value_server *server)
{
    struct in_addr in;
    struct in6_addr in6;
    size_t length = strlen(host);
    if (length == 0)
        return "an address comes before the port; 0.0.0.0 and [::] are every address of the host";
    if (host[0] == '[') {
        char inner[INET6_ADDRSTRLEN] = "";
        if (host[length - 1] == ']' && length - 2 < sizeof inner)
            memcpy(inner, host + 1, length - 2);
        if (inet_pton(AF_INET6, inner, &in6) != 1)
            return "between the brackets is an IPv6 address without a zone";
        store_inet6(&in6, server->port, &server->address);
    } else if (inet_pton(AF_INET, host, &in) == 1) {
        store_inet(&in, server->port, &server->address);
    } else if (strchr(host, ':')) {
        return "an IPv6 address is written in brackets: [::1]:8080";
    } else if (is_host_name(host)) {
        memcpy(server->host, host, length + 1);
    } else {
        return "this is neither an IPv4 address nor a host name";
    }
    return NULL;
}

/* "HOST:PORT"; the port may be 0, the host a name. */
static const char *read_inet(const char *text, struct value_server *server)
{
    const char *colon = strrchr(text, ':');
    if (!colon || strchr(colon, ']'))
        return "a port is missing, as in 127.0.0.1:8080";
    const char *why = read_port(colon + 1, &server->port);
    if (why)
        return why;
    char host[sizeof server->host];
    size_t length = (size_t)(colon - text);
    if (length >= sizeof host)
        return "a host name has at most 253 characters";
    memcpy(host, text, length);
    host[length] = '\0';
    return read_host(host, server);
}

static const char *read_endpoint(const char *text, struct value_server *server)
{
    static const char scheme[] = "unix:";
    if (strstr(text, "://"))
        return "an address has no scheme and no path; what is spoken there is said by mode: http or tcp";
    if (strncmp(text, scheme, strlen(scheme)) == 0)
        return read_unix(text + strlen(scheme), &server->address);
    return read_inet(text, server);
}

const char *value_server(const char *text, struct value_server *server)
{
    struct value_server result = {.port = 0};
    const char *why = read_endpoint(text, &result);
    if (!why && result.port == 0 && result.address.address.ss_family != AF_UNIX)
        why = "port 0 cannot be connected to";
    if (!why)
        *server = result;
    return why;
}

const char *value_listen(const char *text, struct conf_address *address)
{
    struct value_server result = {.port = 0};
    const char *why = read_endpoint(text, &result);
    if (!why && result.address.length == 0)
        why = "to listen takes an address, not a name";
    if (!why)
        *address = result.address;
    return why;
}

void value_address_text(const struct conf_address *address, char text[static VALUE_ADDRESS_TEXT])
{
    char host[INET6_ADDRSTRLEN] = "";
    const void *socket = &address->address;
    if (address->address.ss_family == AF_UNIX) {
        const struct sockaddr_un *un = socket;
        snprintf(text, VALUE_ADDRESS_TEXT, "unix:%s", un->sun_path);
    } else if (address->address.ss_family == AF_INET) {
        const struct sockaddr_in *in = socket;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(text, VALUE_ADDRESS_TEXT, "%s:%u", host, ntohs(in->sin_port));
    } else {
        assert(address->address.ss_family == AF_INET6);
        const struct sockaddr_in6 *in6 = socket;
        inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
        snprintf(text, VALUE_ADDRESS_TEXT, "[%s]:%u", host, ntohs(in6->sin6_port));
    }
}

/* Whether every bit after the first `bits` is 0. */
static bool is_network(const uint8_t bytes[16], unsigned bits)
{
    for (unsigned bit = bits; bit < 128; bit++)
        if (bytes[bit / 8] & (0x80U >> bit % 8))
            return false;
    return true;
}

const char *value_cidr(const char *text, struct value_cidr *cidr)
{
    struct value_cidr result = {.family = strchr(text, ':') ? AF_INET6 : AF_INET};
    size_t length = strcspn(text, "/");
    char host[INET6_ADDRSTRLEN];
    if (length >= sizeof host)
        return "a network is an IPv4 or IPv6 address and a prefix, as in 10.0.0.0/8";
    memcpy(host, text, length);
    host[length] = '\0';
    if (inet_pton(result.family, host, result.bytes) != 1)
        return "a network is an IPv4 or IPv6 address and a prefix, as in 10.0.0.0/8";
    uint64_t most = result.family == AF_INET ? 32 : 128;
    uint64_t bits = most;
    if (text[length] == '/' && (value_integer(text + length + 1, &bits) || bits > most))
        return result.family == AF_INET ? "an IPv4 prefix is 0 to 32" : "an IPv6 prefix is 0 to 128";
    result.bits = (unsigned)bits;
    if (!is_network(result.bytes, result.bits))
        return "bits after the prefix must be 0: 10.0.0.0/8, not 10.1.2.3/8";
    *cidr = result;
    return NULL;
}

static bool has_host_bits(const struct conf_network *network)
{
    for (unsigned bit = network->bits; bit < 128; bit++)
        if (network->address[bit / 8] & (0x80 >> bit % 8))
            return true;
    return false;
}

const char *value_network(const char *text, struct conf_network *network)
{
    char host[INET6_ADDRSTRLEN];
    size_t length = strcspn(text, "/");
    if (length >= sizeof host)
        return "an address is shorter";
    snprintf(host, sizeof host, "%.*s", (int)length, text);
    *network = (struct conf_network){.family = AF_INET, .bits = 32};
    if (inet_pton(AF_INET, host, network->address) != 1) {
        *network = (struct conf_network){.family = AF_INET6, .bits = 128};
        if (inet_pton(AF_INET6, host, network->address) != 1)
            return "not an address";
    }
    uint64_t bits = network->bits;
    if (text[length] && (value_integer(text + length + 1, &bits) || bits > network->bits))
        return "behind the '/' stands a number of bits, up to 32 or 128";
    network->bits = (unsigned)bits;
    return has_host_bits(network) ? "there are bits set behind those that count" : NULL;
}

void value_network_text(const struct conf_network *network, char text[static VALUE_NETWORK_TEXT])
{
    char host[INET6_ADDRSTRLEN];
    inet_ntop(network->family, network->address, host, sizeof host);
    snprintf(text, VALUE_NETWORK_TEXT, "%s/%u", host, network->bits);
}
