#include "tests/unit/cmocka.h"

#include "bench/plot.h"
#include "bench/teardown_print.h"

#include <jansson.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

static struct teardown_report report; /* large */

static struct teardown_options direct(bool http)
{
    struct teardown_options options;
    const struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    teardown_options_default(&options);
    memcpy(&options.backend.address, &any, sizeof any);
    options.backend.length = sizeof any;
    options.http = http;
    options.connections = 20;
    options.rate = 2000;
    return options;
}

static void no_harm(uint64_t count)
{
    assert_int_equal(report.exchanged, count);
    assert_int_equal(report.resets + report.cuts + report.wrongs + report.refused, 0);
    assert_true(teardown_harm(&report) < 0.01);
}

/* Without a proxy every way to close ends by FIN, and nobody is harmed. */
static void all_ways_to_close(void **state)
{
    (void)state;
    for (int http = 0; http < 2; http++)
        for (enum teardown_closer closer = 0; closer < TEARDOWN_CLOSER_COUNT; closer++)
            for (int half = 0; half < 2; half++) {
                struct teardown_options options = direct(http);
                options.closer = closer;
                options.half_close = half || closer != TEARDOWN_CLIENT;
                assert_int_equal(teardown_run(&options, &report), 0);
                no_harm(20);
                assert_int_equal(report.backend.fin, 20);
                assert_int_equal(report.client.fin + report.client.unseen, 20);
                assert_int_equal(report.teardown.count, 20);
                assert_int_equal(report.lag.count, 20);
                assert_true(report.fin_relay.count >= 20);
                teardown_free(&report);
            }
}

/* Without a proxy a leak stays; with a client that is gone the kernel ends only what is sent to. */
static void leaks_without_a_proxy(void **state)
{
    (void)state;
    struct teardown_options options = direct(false);
    options.leak = TEARDOWN_NEVER_CLOSE;
    options.half_close = false;
    options.watch_ms = 300;
    assert_int_equal(teardown_run(&options, &report), 0);
    no_harm(20);
    assert_int_equal(report.leaked, 20);
    assert_int_equal(report.still, 20);
    assert_int_equal(report.residency.count, 0);
    assert_true(report.sample_count > 1);
    assert_int_equal(report.samples[report.sample_count - 1].close_wait, 20);
    teardown_free(&report);

    options.leak = TEARDOWN_TRICKLE;
    options.watch_ms = 10000;
    assert_int_equal(teardown_run(&options, &report), 0);
    assert_int_equal(report.still, 0);
    assert_int_equal(report.residency.count, 20);
    assert_int_equal(report.verified, 20);
    assert_int_equal(report.backend.reset + report.backend.fin, 20);
    teardown_free(&report);
}

static void names_are_found(void **state)
{
    (void)state;
    for (enum teardown_leak leak = 0; leak < TEARDOWN_LEAK_COUNT; leak++) {
        assert_int_equal(teardown_leak_find(teardown_leak_name(leak)), leak);
        assert_true(strlen(teardown_leak_help(leak)) > 10);
    }
    assert_true(teardown_leak_find("no-such") < 0);
    assert_int_equal(teardown_closer_find("both"), TEARDOWN_BOTH);
    assert_true(teardown_closer_find("") < 0);
}

static void prints_figures(void **state)
{
    (void)state;
    struct teardown_options options = direct(false);
    char *text = NULL;
    size_t length = 0;
    memset(&report, 0, sizeof report);
    struct teardown_sample samples[2] = {{0, 3}, {UINT64_C(1000000000), 0}};
    report.samples = samples;
    report.sample_count = 2;
    report.exchanged = 1000;
    report.resets = 5;
    histogram_add(&report.fin_relay, 2000000);

    FILE *out = open_memstream(&text, &length);
    assert_int_equal(teardown_print_json(&options, &report, NULL, out), 0);
    fclose(out);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    double p50 = json_number_value(json_object_get(json_object_get(root, "fin_relay_ms"), "p50"));
    assert_true(p50 > 1.99 && p50 < 2.01);
    double harm = json_number_value(json_object_get(json_object_get(root, "harm"), "per_10000"));
    assert_true(harm > 49.9 && harm < 50.1);
    assert_true(json_is_null(json_object_get(json_object_get(root, "teardown_ms"), "p50")));
    assert_true(json_is_null(json_object_get(root, "direct")));
    assert_int_equal(json_array_size(json_object_get(root, "close_wait")), 2);
    json_decref(root);
    free(text);

    out = open_memstream(&text, &length);
    teardown_print_text(&options, &report, &report, out);
    plot_write(&report, "<&>", out);
    fclose(out);
    assert_non_null(strstr(text, "50.0 per 10,000 exchanges"));
    assert_non_null(strstr(text, "&lt;&amp;>"));
    assert_non_null(strstr(text, "prefers-color-scheme:dark"));
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_ways_to_close),
        cmocka_unit_test(leaks_without_a_proxy),
        cmocka_unit_test(names_are_found),
        cmocka_unit_test(prints_figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
