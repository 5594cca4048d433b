#include "tests/unit/cmocka.h"

#include "proxy/server/resolve.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a name service and timers of the test's own ------------------------------------------------------ */

enum { NAMES = 2 };

static struct {
    uv_getaddrinfo_t *requests[NAMES]; /* under way, by the digit in the name */
    uv_getaddrinfo_cb answer;
    unsigned asked, cancelled;
    int error; /* of asking */
    uv_timer_t *timers[NAMES];
    uv_timer_cb rings[NAMES];
    uint64_t after_ms[NAMES]; /* UINT64_MAX: not set */
} around;

int __wrap_uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb answer,
                          const char *node, const char *service, const struct addrinfo *hints);
void __wrap_uv_freeaddrinfo(struct addrinfo *found);
int __wrap_uv_cancel(uv_req_t *request);
int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb ring, uint64_t after_ms, uint64_t repeat_ms);

int __wrap_uv_getaddrinfo(uv_loop_t *loop, uv_getaddrinfo_t *request, uv_getaddrinfo_cb answer,
                          const char *node, const char *service, const struct addrinfo *hints)
{
    size_t index = (size_t)(node[2] - '0');
    (void)loop;
    (void)hints;
    around.asked++;
    if (around.error)
        return around.error;
    assert_string_equal(service, "9000");
    assert_true(index < NAMES);
    assert_null(around.requests[index]);
    around.requests[index] = request;
    around.answer = answer;
    return 0;
}

void __wrap_uv_freeaddrinfo(struct addrinfo *found)
{
    while (found) {
        struct addrinfo *next = found->ai_next;
        free(found->ai_addr);
        free(found);
        found = next;
    }
}

int __wrap_uv_cancel(uv_req_t *request)
{
    (void)request;
    around.cancelled++;
    return 0;
}

/* The timers are handed over in the order of the names. */
int __wrap_uv_timer_start(uv_timer_t *timer, uv_timer_cb ring, uint64_t after_ms, uint64_t repeat_ms)
{
    size_t index = 0;
    assert_int_equal(repeat_ms, 0);
    while (index < NAMES && around.timers[index] && around.timers[index] != timer)
        index++;
    assert_true(index < NAMES);
    around.timers[index] = timer;
    around.rings[index] = ring;
    around.after_ms[index] = after_ms;
    return 0;
}

/* ---- one process -------------------------------------------------------------------------------------- */

struct bed {
    struct conf conf;
    struct conf_backend backends[NAMES];
    struct conf_server servers[NAMES + 1];
    struct conf_frontend frontends[NAMES]; /* 10.9.0.N:9000 leads to backend N */
    struct conf_listen listen[NAMES];
    struct resolver *resolver;
    const struct resolve_name *names[NAMES];
    struct log *log;
    uv_loop_t loop;
    uv_async_t wake;
    unsigned woken;
    struct resolve_subscriber subscriber;
};

static void on_wake(uv_async_t *wake)
{
    struct bed *bed = wake->data;
    bed->woken++;
}

static unsigned woken(struct bed *bed)
{
    unsigned before = bed->woken;
    uv_run(&bed->loop, UV_RUN_NOWAIT);
    return bed->woken - before;
}

static void prepare(struct bed *bed, uint64_t interval_ms)
{
    static char target[] = "/dev/null", backend[] = "service";
    static char hosts[NAMES][8] = {"db0", "db1"}, plain[] = "10.0.0.1:80";
    struct conf_log settings = {.level = CONF_LOG_INFO, .target = target};
    memset(bed, 0, sizeof *bed);
    memset(&around, 0, sizeof around);
    for (size_t i = 0; i < NAMES; i++) {
        bed->servers[i] = (struct conf_server){.text = hosts[i], .host = hosts[i], .port = 9000};
        bed->backends[i] = (struct conf_backend){.name = backend,
                                                 .servers = &bed->servers[i],
                                                 .server_count = i == NAMES - 1 ? 2 : 1,
                                                 .resolve_interval_ms = interval_ms};
        around.after_ms[i] = UINT64_MAX;
    }
    bed->servers[NAMES] = (struct conf_server){.text = plain, .address.length = sizeof(struct sockaddr_in)};
    for (size_t i = 0; i < NAMES; i++) {
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(9000)};
        in.sin_addr.s_addr = htonl(0x0a090000 + (uint32_t)i);
        bed->listen[i].address.length = sizeof in;
        memcpy(&bed->listen[i].address.address, &in, sizeof in);
        bed->frontends[i] =
            (struct conf_frontend){.listen = &bed->listen[i], .listen_count = 1, .backend = i};
    }
    bed->conf = (struct conf){.frontends = bed->frontends,
                              .frontend_count = NAMES,
                              .backends = bed->backends,
                              .backend_count = NAMES};
    assert_int_equal(log_open(&settings, &bed->log), 0);
    assert_int_equal(uv_loop_init(&bed->loop), 0);
    uv_async_init(&bed->loop, &bed->wake, on_wake);
    bed->wake.data = bed;
    assert_int_equal(resolve_new(&bed->conf, &bed->resolver), 0);
    resolve_subscribe(bed->resolver, &bed->subscriber, &bed->wake);
    for (size_t i = 0; i < NAMES; i++) {
        bed->names[i] = resolve_find(bed->resolver, &bed->servers[i]);
        assert_non_null(bed->names[i]);
    }
    assert_null(resolve_find(bed->resolver, &bed->servers[NAMES]));
}

static void begin(struct bed *bed, uint64_t interval_ms)
{
    prepare(bed, interval_ms);
    assert_int_equal(resolve_start(bed->resolver, &bed->loop, log_ring(bed->log)), 0);
    assert_int_equal(around.asked, NAMES);
}

static struct addrinfo *info(const char *host, struct addrinfo *next)
{
    struct addrinfo *made = calloc(1, sizeof *made);
    struct sockaddr_in *in = calloc(1, sizeof *in);
    assert_non_null(made);
    assert_non_null(in);
    in->sin_family = AF_INET;
    in->sin_port = htons(9000);
    assert_int_equal(inet_pton(AF_INET, host, &in->sin_addr), 1);
    made->ai_addr = (struct sockaddr *)in;
    made->ai_addrlen = sizeof *in;
    made->ai_next = next;
    return made;
}

static void answer(size_t name, int status, struct addrinfo *found)
{
    uv_getaddrinfo_t *request = around.requests[name];
    assert_non_null(request);
    around.requests[name] = NULL;
    around.after_ms[name] = UINT64_MAX;
    around.answer(request, status, found);
}

static void ring(size_t name)
{
    assert_true(around.after_ms[name] != UINT64_MAX);
    around.after_ms[name] = UINT64_MAX;
    around.rings[name](around.timers[name]);
}

static void finish(struct bed *bed)
{
    resolve_close(bed->resolver, &bed->loop);
    for (size_t i = 0; i < NAMES; i++)
        if (around.requests[i])
            answer(i, UV_ECANCELED, NULL);
    assert_false(resolve_is_busy(bed->resolver, &bed->loop));
    resolve_unsubscribe(bed->resolver, &bed->subscriber);
    uv_close((uv_handle_t *)&bed->wake, NULL);
    uv_run(&bed->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&bed->loop), 0);
    resolve_free(bed->resolver);
    log_close(bed->log);
}

/* What is known of the name: the last numbers of its addresses, "-" for none yet, "=" for nothing new. */
static const char *look(struct bed *bed, size_t name, uint64_t *seen)
{
    static char text[64];
    struct resolve_list *list;
    if (!resolve_look(bed->resolver, bed->names[name], seen, &list))
        return "=";
    snprintf(text, sizeof text, "%s", list ? "" : "-");
    for (size_t i = 0; list && i < list->count; i++) {
        const struct sockaddr_in *in = (const void *)&list->addresses[i].address;
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used, "%u", ntohl(in->sin_addr.s_addr) & 0xff);
    }
    resolve_give_back(list);
    return text;
}

/* ---- tests -------------------------------------------------------------------------------------------- */

static void each_name_is_asked_for_once_and_everybody_is_told(void **state)
{
    struct bed bed;
    uint64_t seen[2] = {0, 0};
    (void)state;
    begin(&bed, 30000);
    assert_string_equal(look(&bed, 0, &seen[0]), "=");
    answer(0, 0, info("10.1.0.1", info("10.1.0.2", info("10.1.0.1", NULL))));
    assert_int_equal(woken(&bed), 1);
    assert_string_equal(look(&bed, 0, &seen[0]), "12"); /* each address once */
    assert_string_equal(look(&bed, 0, &seen[0]), "=");
    assert_string_equal(look(&bed, 0, &seen[1]), "12"); /* another worker */
    seen[1] = 0;
    assert_string_equal(look(&bed, 1, &seen[1]), "=");
    assert_int_equal(around.after_ms[0], 30000);
    finish(&bed);
}

static void the_order_stays_and_an_answer_that_is_the_same_wakes_nobody(void **state)
{
    struct bed bed;
    uint64_t seen = 0;
    (void)state;
    begin(&bed, 30000);
    answer(0, 0, info("10.1.0.3", info("10.1.0.1", info("10.1.0.2", NULL))));
    assert_int_equal(woken(&bed), 1);
    assert_string_equal(look(&bed, 0, &seen), "312");
    ring(0);
    answer(0, 0, info("10.1.0.1", info("10.1.0.2", info("10.1.0.3", NULL))));
    assert_int_equal(woken(&bed), 0);
    assert_string_equal(look(&bed, 0, &seen), "=");
    ring(0);
    answer(0, 0, info("10.1.0.4", info("10.1.0.2", info("10.1.0.3", NULL))));
    assert_int_equal(woken(&bed), 1);
    assert_string_equal(look(&bed, 0, &seen), "324");
    finish(&bed);
}

static void a_list_lives_as_long_as_somebody_holds_it(void **state)
{
    struct bed bed;
    uint64_t seen = 0;
    struct resolve_list *list;
    (void)state;
    begin(&bed, 30000);
    answer(0, 0, info("10.1.0.1", NULL));
    assert_true(resolve_look(bed.resolver, bed.names[0], &seen, &list));
    ring(0);
    answer(0, 0, info("10.1.0.2", NULL));
    finish(&bed);
    assert_int_equal(list->count, 1); /* a sanitizer sees what was freed */
    resolve_give_back(list);
}

static void a_name_that_fails_is_asked_for_again_at_growing_intervals_until_it_is_found(void **state)
{
    static const uint64_t after_ms[] = {1000, 2000, 4000, 8000, 16000, 30000, 30000};
    struct bed bed;
    uint64_t seen = 0;
    (void)state;
    begin(&bed, DEADLINE_OFF);
    for (size_t i = 0; i < sizeof after_ms / sizeof after_ms[0]; i++) {
        answer(0, UV_EAI_AGAIN, NULL);
        assert_int_equal(woken(&bed), i == 0);
        assert_string_equal(look(&bed, 0, &seen), i == 0 ? "-" : "=");
        assert_true(around.after_ms[0] == after_ms[i]);
        ring(0);
    }
    answer(0, 0, info("10.1.0.1", NULL));
    assert_string_equal(look(&bed, 0, &seen), "1");
    assert_true(around.after_ms[0] == UINT64_MAX); /* it is found, and resolve_interval is off */
    finish(&bed);
}

static void the_interval_bounds_the_back_off_and_an_error_keeps_what_there_is(void **state)
{
    struct bed bed;
    uint64_t seen = 0;
    (void)state;
    begin(&bed, 3000);
    answer(0, 0, info("10.1.0.1", NULL));
    assert_string_equal(look(&bed, 0, &seen), "1");
    for (int i = 0; i < 4; i++) {
        static const uint64_t after_ms[] = {3000, 1000, 2000, 3000};
        assert_true(around.after_ms[0] == after_ms[i]);
        ring(0);
        answer(0, UV_EAI_FAIL, NULL);
    }
    assert_string_equal(look(&bed, 0, &seen), "=");
    (void)woken(&bed);
    around.error = UV_ENOMEM; /* it can't even be asked */
    ring(0);
    assert_true(around.after_ms[0] == 3000);
    around.error = 0;
    finish(&bed);
}

static void nobody_waits_for_a_name_service_that_is_silent(void **state)
{
    struct bed bed;
    uint64_t seen[NAMES] = {0, 0};
    (void)state;
    begin(&bed, DEADLINE_OFF);
    assert_true(around.after_ms[0] == RESOLVE_WAIT_MS);
    answer(1, 0, info("10.1.0.7", NULL));
    assert_string_equal(look(&bed, 1, &seen[1]), "7"); /* the other name is served meanwhile */
    assert_int_equal(woken(&bed), 1);
    ring(0);
    assert_int_equal(woken(&bed), 1);
    assert_string_equal(look(&bed, 0, &seen[0]), "-");
    assert_int_equal(around.asked, NAMES); /* the first question is still out */
    answer(0, 0, info("10.1.0.8", NULL));  /* late, and welcome */
    assert_int_equal(woken(&bed), 1);
    assert_string_equal(look(&bed, 0, &seen[0]), "8");
    finish(&bed);
}

static void closing_cancels_what_it_can_and_hears_no_more(void **state)
{
    struct bed bed;
    uint64_t seen = 0;
    (void)state;
    begin(&bed, 1000);
    answer(1, 0, info("10.1.0.1", NULL));
    (void)woken(&bed);
    resolve_close(bed.resolver, &bed.loop);
    assert_int_equal(around.cancelled, 1);
    assert_true(resolve_is_busy(bed.resolver, &bed.loop));
    assert_false(resolve_is_busy(bed.resolver, NULL)); /* another worker is none of its affair */
    answer(0, 0, info("10.1.0.1", NULL));
    assert_int_equal(woken(&bed), 0);
    assert_string_equal(look(&bed, 0, &seen), "=");
    assert_true(around.after_ms[0] == UINT64_MAX);
    finish(&bed);
}

static void a_start_that_can_not_ask_fails(void **state)
{
    struct bed bed;
    (void)state;
    prepare(&bed, 1000);
    around.error = UV_ENOMEM;
    assert_int_equal(resolve_start(bed.resolver, &bed.loop, log_ring(bed.log)), UV_ENOMEM);
    finish(&bed);
}

static void too_many_addresses_are_cut(void **state)
{
    struct bed bed;
    struct addrinfo *found = NULL;
    struct resolve_list *list;
    uint64_t seen = 0;
    char host[32];
    (void)state;
    begin(&bed, 1000);
    for (int i = 0; i < 400; i++) {
        snprintf(host, sizeof host, "10.2.%d.%d", i / 256, i % 256);
        found = info(host, found);
    }
    answer(0, 0, found);
    assert_true(resolve_look(bed.resolver, bed.names[0], &seen, &list));
    assert_int_equal(list->count, RESOLVE_ADDRESSES_MAX);
    resolve_give_back(list);
    finish(&bed);
}

static void an_address_that_leads_back_is_not_used(void **state)
{
    struct bed bed;
    uint64_t seen[NAMES] = {0, 0};
    (void)state;
    begin(&bed, 1000);
    answer(0, 0, info("10.9.0.0", info("10.1.0.5", NULL)));
    assert_string_equal(look(&bed, 0, &seen[0]), "5");
    ring(0);
    answer(0, 0, info("10.9.0.0", NULL)); /* nothing else is left */
    assert_string_equal(look(&bed, 0, &seen[0]), "");
    finish(&bed);
}

static void a_frontend_that_leads_on_is_used_until_it_would_lead_back(void **state)
{
    struct bed bed;
    uint64_t seen[NAMES] = {0, 0};
    (void)state;
    begin(&bed, 1000);
    answer(0, 0, info("10.9.0.1", NULL)); /* to the other backend, which leads to nobody of ours */
    assert_string_equal(look(&bed, 0, &seen[0]), "1");
    answer(1, 0, info("10.9.0.0", info("10.1.0.7", NULL)));
    assert_string_equal(look(&bed, 1, &seen[1]), "7");
    ring(0);
    answer(0, 0, info("10.1.0.6", NULL));
    assert_string_equal(look(&bed, 0, &seen[0]), "6");
    ring(1);
    answer(1, 0, info("10.9.0.0", info("10.1.0.7", NULL))); /* by now it leads on */
    assert_string_equal(look(&bed, 1, &seen[1]), "70");
    finish(&bed);
}

/* Each silent name keeps one of libuv's threads, and only half of them ask for names. */
static void names_do_not_wait_for_each_other(void **state)
{
    enum { MANY = 100 };
    static char host[] = "db0";
    static const struct {
        size_t names;
        const char *given, *threads;
    } cases[] = {{1, NULL, NULL}, {2, NULL, NULL}, {3, NULL, "6"}, {MANY, NULL, "64"}, {MANY, "5", "5"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct conf_server servers[MANY];
        struct conf_backend backend = {.servers = servers, .server_count = cases[i].names};
        struct conf conf = {.backends = &backend, .backend_count = 1};
        struct resolver *resolver;
        for (size_t s = 0; s < MANY; s++)
            servers[s] = (struct conf_server){.text = host, .host = host, .port = 9000};
        unsetenv("UV_THREADPOOL_SIZE");
        if (cases[i].given)
            setenv("UV_THREADPOOL_SIZE", cases[i].given, 1);
        assert_int_equal(resolve_new(&conf, &resolver), 0);
        const char *threads = getenv("UV_THREADPOOL_SIZE");
        if (cases[i].threads)
            assert_string_equal(threads, cases[i].threads);
        else
            assert_null(threads);
        resolve_free(resolver);
    }
    unsetenv("UV_THREADPOOL_SIZE");
}

/* ---- threads ------------------------------------------------------------------------------------------ */

struct reader {
    struct bed *bed;
    _Atomic bool *over;
    unsigned taken;
};

/* A worker that takes lists up as fast as it can: each is whole. */
static void *read_lists(void *context)
{
    struct reader *reader = context;
    uint64_t seen = 0;
    struct resolve_list *list;
    while (!atomic_load(reader->over)) {
        if (!resolve_look(reader->bed->resolver, reader->bed->names[0], &seen, &list) || !list)
            continue;
        for (size_t i = 1; i < list->count; i++)
            if (memcmp(&list->addresses[i].address, &list->addresses[0].address, list->addresses[0].length) ==
                0)
                abort();
        reader->taken += list->count == 2;
        resolve_give_back(list);
    }
    return NULL;
}

static void lists_are_taken_up_by_any_thread(void **state)
{
    struct bed bed;
    _Atomic bool over = false;
    pthread_t threads[3];
    struct reader readers[3];
    (void)state;
    begin(&bed, 1000);
    for (size_t i = 0; i < 3; i++) {
        readers[i] = (struct reader){.bed = &bed, .over = &over};
        assert_int_equal(pthread_create(&threads[i], NULL, read_lists, &readers[i]), 0);
    }
    for (int i = 0; i < 2000; i++) {
        char host[32];
        snprintf(host, sizeof host, "10.3.%d.%d", i / 200, i % 200 + 1);
        answer(0, 0, info("10.1.0.1", info(host, NULL)));
        ring(0);
    }
    atomic_store(&over, true);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    finish(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_name_is_asked_for_once_and_everybody_is_told),
        cmocka_unit_test(the_order_stays_and_an_answer_that_is_the_same_wakes_nobody),
        cmocka_unit_test(a_list_lives_as_long_as_somebody_holds_it),
        cmocka_unit_test(a_name_that_fails_is_asked_for_again_at_growing_intervals_until_it_is_found),
        cmocka_unit_test(the_interval_bounds_the_back_off_and_an_error_keeps_what_there_is),
        cmocka_unit_test(nobody_waits_for_a_name_service_that_is_silent),
        cmocka_unit_test(closing_cancels_what_it_can_and_hears_no_more),
        cmocka_unit_test(a_start_that_can_not_ask_fails),
        cmocka_unit_test(too_many_addresses_are_cut),
        cmocka_unit_test(an_address_that_leads_back_is_not_used),
        cmocka_unit_test(a_frontend_that_leads_on_is_used_until_it_would_lead_back),
        cmocka_unit_test(names_do_not_wait_for_each_other),
        cmocka_unit_test(lists_are_taken_up_by_any_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
