#include "tests/unit/cmocka.h"

#include "conf/value.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

struct number_case {
    const char *text;
    uint64_t value;
};

static void durations_are_one_number_and_one_unit(void **state)
{
    (void)state;
    static const struct number_case cases[] = {
        {"0s", 0},
        {"1ms", 1},
        {"250ms", 250},
        {"30s", 30000},
        {"007s", 7000},
        {"2m", 120000},
        {"1h", 3600000},
        {"1d", 86400000},
        {"18446744073709551615ms", UINT64_MAX},
        {"18446744073709551s", UINT64_C(18446744073709551000)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t ms = 42;
        assert_null(value_duration(cases[i].text, &ms));
        assert_int_equal(ms, cases[i].value);
    }
}

static void what_is_no_duration_is_refused_and_stores_nothing(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",     " ",  "s",     "30",  "1.5s", "-1s",  "+1s",  " 1s",       "1s ",  "1 s",  "1m30s", "1S",
        "1sec", "1w", "0x10s", "off", "1e3s", "1,0s", "1ms1", "\xd9\xa1s", "1min", "1\ns", "s30",   "30\ts",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        uint64_t ms = 42;
        const char *why = value_duration(texts[i], &ms);
        assert_non_null(why);
        assert_true(strlen(why) > 5);
        assert_int_equal(ms, 42);
    }
}

static void numbers_that_overflow_are_too_large(void **state)
{
    (void)state;
    uint64_t number = 42;
    static const char large[] = "the number is too large";
    assert_string_equal(value_duration("18446744073709551616ms", &number), large);
    assert_string_equal(value_duration("18446744073709552s", &number), large);
    assert_string_equal(value_duration("99999999999999999999999999999999999999d", &number), large);
    assert_string_equal(value_duration("213503982335d", &number), large);
    assert_string_equal(value_size("17179869184GiB", &number), large);
    assert_string_equal(value_rate("18446744073709551615GB/s", &number), large);
    assert_string_equal(value_integer("18446744073709551616", &number), large);
    assert_int_equal(number, 42);
}

static void a_bare_number_is_told_about_units(void **state)
{
    (void)state;
    uint64_t number = 0;
    assert_string_equal(value_duration("30", &number), "a number needs a unit: 250ms, 30s, 2m, 1h or 1d");
    assert_string_equal(value_size("30", &number), "a number needs a unit: 512B, 16KiB, 1MiB or 10MB");
    assert_string_equal(value_rate("30", &number), "a number needs a unit: 512B/s, 1KiB/s or 1MB/s");
}

static void sizes_know_both_kinds_of_kilo(void **state)
{
    (void)state;
    static const struct number_case cases[] = {
        {"0B", 0},       {"512B", 512},   {"16KiB", 16384},   {"1MiB", 1048576},   {"2GiB", 1ULL << 31},
        {"10kB", 10000}, {"10KB", 10000}, {"10MB", 10000000}, {"1GB", 1000000000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t bytes = 42;
        char rate[32];
        assert_null(value_size(cases[i].text, &bytes));
        assert_int_equal(bytes, cases[i].value);
        snprintf(rate, sizeof rate, "%s/s", cases[i].text);
        assert_null(value_rate(rate, &bytes));
        assert_int_equal(bytes, cases[i].value);
        assert_non_null(value_rate(cases[i].text, &bytes));
        assert_non_null(value_size(rate, &bytes));
    }
    uint64_t bytes = 42;
    assert_non_null(value_size("16K", &bytes));
    assert_non_null(value_size("16kib", &bytes));
    assert_non_null(value_rate("1KiB/m", &bytes));
}

static void integers_and_switches_take_nothing_else(void **state)
{
    (void)state;
    uint64_t number = 42;
    bool on = false;
    assert_null(value_integer("0", &number));
    assert_int_equal(number, 0);
    assert_null(value_integer("18446744073709551615", &number));
    assert_true(number == UINT64_MAX);
    assert_non_null(value_integer("", &number));
    assert_non_null(value_integer("-1", &number));
    assert_non_null(value_integer("1_000", &number));
    assert_non_null(value_integer("0x10", &number));
    assert_null(value_switch("on", &on));
    assert_true(on);
    assert_null(value_switch("off", &on));
    assert_false(on);
    assert_non_null(value_switch("yes", &on));
    assert_non_null(value_switch("ON", &on));
    assert_non_null(value_switch("", &on));
}

static void numbers_are_written_as_they_are_read(void **state)
{
    (void)state;
    static const struct number_case durations[] = {
        {"0ms", 0},     {"1ms", 1},     {"1500ms", 1500},      {"30s", 30000},
        {"90s", 90000}, {"2m", 120000}, {"365d", 31536000000},
    };
    char text[VALUE_NUMBER_TEXT];
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        value_duration_text(durations[i].value, text);
        assert_string_equal(text, durations[i].text);
    }
    value_size_text(16384, text);
    assert_string_equal(text, "16KiB");
    value_size_text(10000000, text);
    assert_string_equal(text, "10MB");
    value_rate_text(1024, text);
    assert_string_equal(text, "1KiB/s");
    for (uint64_t number = 1; number < UINT64_MAX / 3; number = number * 3 + number / 2 + 1) {
        uint64_t back = 0;
        value_duration_text(number, text);
        assert_null(value_duration(text, &back));
        assert_int_equal(back, number);
        value_rate_text(number, text);
        assert_null(value_rate(text, &back));
        assert_int_equal(back, number);
    }
}

static void names_are_safe_in_logs(void **state)
{
    (void)state;
    char longest[65];
    memset(longest, 'a', sizeof longest);
    longest[63] = '\0';
    assert_null(value_name(longest));
    assert_null(value_name("api-2.internal_X"));
    longest[63] = 'a';
    longest[64] = '\0';
    assert_non_null(value_name(longest));
    assert_non_null(value_name(""));
    assert_non_null(value_name("a b"));
    assert_non_null(value_name("a\"b"));
    assert_non_null(value_name("a=b"));
    assert_non_null(value_name("\xc3\xa4"));
}

struct address_case {
    const char *text;
    const char *normal; /* NULL: refused */
};

static const struct address_case both[] = {
    {"127.0.0.1:8080", "127.0.0.1:8080"},
    {"0.0.0.0:65535", "0.0.0.0:65535"},
    {"[::]:8080", "[::]:8080"},
    {"[::1]:080", "[::1]:80"},
    {"[2001:DB8:0:0::1]:443", "[2001:db8::1]:443"},
    {"[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1"},
    {"unix:/run/a b:c.sock", "unix:/run/a b:c.sock"},
    {"", NULL},
    {":", NULL},
    {":8080", NULL},
    {"*:8080", NULL},
    {"8080", NULL},
    {"127.0.0.1", NULL},
    {"127.0.0.1:", NULL},
    {"127.0.0.1:65536", NULL},
    {"127.0.0.1:-1", NULL},
    {"127.0.0.1:http", NULL},
    {"127.0.0.1:99999999999999999999999", NULL},
    {"127.0.0.1:80 ", NULL},
    {" 127.0.0.1:80", NULL},
    {"127.0.0.256:80", NULL},
    {"127.1:80", NULL},
    {"1.2.3.4.5:80", NULL},
    {"::1:8080", NULL},
    {"[::1]", NULL},
    {"[::1]8080", NULL},
    {"[::1:8080", NULL},
    {"[]:8080", NULL},
    {"[:8080", NULL},
    {"]:8080", NULL},
    {"[fe80::1%eth0]:8080", NULL},
    {"[127.0.0.1]:8080", NULL},
    {"[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:1", NULL},
    {"unix:", NULL},
    {"unix:run/a.sock", NULL},
    {"unix:@abstract", NULL},
    {"unix:/run/a\n.sock", NULL},
    {"unix:/run/a\x7f.sock", NULL},
};

static void addresses_are_read_the_same_on_both_sides(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof both / sizeof both[0]; i++) {
        struct conf_address address = {.length = 0};
        struct value_server server = {.port = 0};
        const char *why = value_listen(both[i].text, &address);
        assert_int_equal(!why, !value_server(both[i].text, &server));
        assert_int_equal(!why, both[i].normal != NULL);
        if (why) {
            assert_true(strlen(why) > 5);
            assert_int_equal(address.length, 0);
            continue;
        }
        char text[VALUE_ADDRESS_TEXT];
        value_address_text(&address, text);
        assert_string_equal(text, both[i].normal);
        value_address_text(&server.address, text);
        assert_string_equal(text, both[i].normal);
        assert_string_equal(server.host, "");
    }
}

static void port_0_is_for_listening(void **state)
{
    (void)state;
    struct conf_address address;
    struct value_server server;
    assert_null(value_listen("127.0.0.1:0", &address));
    assert_string_equal(value_server("127.0.0.1:0", &server), "port 0 cannot be connected to");
}

static void names_are_for_servers(void **state)
{
    (void)state;
    static const char *const hosts[] = {"localhost", "db.internal", "a_b-c.d", "9.example",
                                        "service.svc.cluster.local."};
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        char text[64];
        struct value_server server = {.port = 0};
        struct conf_address address;
        snprintf(text, sizeof text, "%s:9000", hosts[i]);
        assert_null(value_server(text, &server));
        assert_string_equal(server.host, hosts[i]);
        assert_int_equal(server.port, 9000);
        assert_int_equal(server.address.length, 0);
        assert_string_equal(value_listen(text, &address), "to listen takes an address, not a name");
    }
    static const char *const wrong[] = {"-a:1",  "a-:1",  "a..b:1",     ".a:1",    ".:1",
                                        "a b:1", "a/b:1", "\xc3\xa4:1", "1.2.3:1", "a@b:1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct value_server server;
        assert_non_null(value_server(wrong[i], &server));
    }
}

static void host_names_have_their_bounds(void **state)
{
    (void)state;
    struct value_server server;
    char text[400];
    memset(text, 'a', sizeof text);
    memcpy(text + 63, ":1", 3);
    assert_null(value_server(text, &server));
    text[63] = 'a';
    memcpy(text + 64, ":1", 3);
    assert_non_null(value_server(text, &server)); /* a label of 64 */
    memset(text, 'a', sizeof text);
    for (size_t i = 49; i < 253; i += 50)
        text[i] = '.';
    memcpy(text + 253, ":1", 3);
    assert_null(value_server(text, &server));
    assert_int_equal(strlen(server.host), 253);
    text[253] = 'a';
    memcpy(text + 254, ":1", 3);
    assert_non_null(value_server(text, &server));
    memset(text, 'a', 398);
    memcpy(text + 397, ":1", 3);
    assert_non_null(value_server(text, &server));
}

static void unix_paths_fit_their_address(void **state)
{
    (void)state;
    char text[5 + 108 + 1] = "unix:/";
    struct conf_address address;
    memset(text + 6, 'a', 106);
    assert_null(value_listen(text, &address));
    const void *socket = &address.address;
    const struct sockaddr_un *un = socket;
    assert_int_equal(strlen(un->sun_path), 107);
    assert_int_equal(address.length, sizeof *un);
    text[5 + 107] = 'a';
    assert_non_null(value_listen(text, &address));
}

struct cidr_case {
    const char *text;
    int family; /* 0: refused */
    unsigned bits;
};

static void networks_have_nothing_after_their_prefix(void **state)
{
    (void)state;
    static const struct cidr_case cases[] = {
        {"10.0.0.0/8", AF_INET, 8},
        {"0.0.0.0/0", AF_INET, 0},
        {"10.1.2.3", AF_INET, 32},
        {"10.1.2.3/32", AF_INET, 32},
        {"192.168.0.0/17", AF_INET, 17},
        {"fd00::/8", AF_INET6, 8},
        {"::/0", AF_INET6, 0},
        {"::1", AF_INET6, 128},
        {"2001:db8::/33", AF_INET6, 33},
        {"10.1.2.3/8", 0, 0},
        {"192.168.128.0/16", 0, 0},
        {"10.0.0.0/33", 0, 0},
        {"10.0.0.0/", 0, 0},
        {"10.0.0.0/-1", 0, 0},
        {"10.0.0.0/8/8", 0, 0},
        {"10.0.0/8", 0, 0},
        {"::1/129", 0, 0},
        {"::1/64", 0, 0},
        {"", 0, 0},
        {"/8", 0, 0},
        {"localhost/8", 0, 0},
        {"10.0.0.0/99999999999999999999", 0, 0},
        {"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000/8", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct value_cidr cidr = {.family = 0};
        assert_int_equal(value_cidr(cases[i].text, &cidr) == NULL, cases[i].family != 0);
        assert_int_equal(cidr.family, cases[i].family);
        assert_int_equal(cidr.bits, cases[i].bits);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_are_one_number_and_one_unit),
        cmocka_unit_test(what_is_no_duration_is_refused_and_stores_nothing),
        cmocka_unit_test(numbers_that_overflow_are_too_large),
        cmocka_unit_test(a_bare_number_is_told_about_units),
        cmocka_unit_test(sizes_know_both_kinds_of_kilo),
        cmocka_unit_test(integers_and_switches_take_nothing_else),
        cmocka_unit_test(numbers_are_written_as_they_are_read),
        cmocka_unit_test(names_are_safe_in_logs),
        cmocka_unit_test(addresses_are_read_the_same_on_both_sides),
        cmocka_unit_test(port_0_is_for_listening),
        cmocka_unit_test(names_are_for_servers),
        cmocka_unit_test(host_names_have_their_bounds),
        cmocka_unit_test(unix_paths_fit_their_address),
        cmocka_unit_test(networks_have_nothing_after_their_prefix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
