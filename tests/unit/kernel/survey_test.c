#include "tests/unit/cmocka.h"

#include "reaper/kernel/survey.h"
#include "tests/unit/sockets.h"

/* A dump passes through here, so that a test can let it begin with rows that the kernel then takes back. */

int __real_netlink_dump(struct netlink *netlink, const struct diag_filter *filter,
                        const struct netlink_sink *sink);
int __wrap_netlink_dump(struct netlink *netlink, const struct diag_filter *filter,
                        const struct netlink_sink *sink);

static const struct diag_row *taken_back; /* NULL: none */

int __wrap_netlink_dump(struct netlink *netlink, const struct diag_filter *filter,
                        const struct netlink_sink *sink)
{
    if (taken_back) {
        assert_int_equal(sink->row(sink->context, taken_back), 0);
        sink->restart(sink->context);
    }
    return __real_netlink_dump(netlink, filter, sink);
}

/* ---- both ends of a connection leak: each has got the other's FIN ------------------------------------- */

struct scene {
    struct survey survey;
    int listener, client, server;
    uint16_t port, client_port;
};

static uint16_t port_of(int fd)
{
    struct sockaddr_in address = {0};
    socklen_t length = sizeof address;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    return ntohs(address.sin_port);
}

static struct scene scene_open(void)
{
    struct sockaddr_in address;
    struct scene scene = {.listener = listen_on_loopback(&address),
                          .client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_int_equal(connect(scene.client, (struct sockaddr *)&address, sizeof address), 0);
    scene.server = accept4(scene.listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(scene.server >= 0);
    scene.port = port_of(scene.listener);
    scene.client_port = port_of(scene.client);
    assert_int_equal(survey_open(&scene.survey, &(struct survey_filter){0}, DIAG_CLOSE_WAIT), 0);
    return scene;
}

static void scene_close(struct scene *scene)
{
    survey_close(&scene->survey);
    close(scene->listener);
    close(scene->client);
    close(scene->server);
}

/* `fd`'s peer gets a FIN. */
static void half_close(int fd, int peer)
{
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    wait_for(peer, POLLIN);
}

static void look(struct scene *scene, const uint16_t *ports, size_t port_count, bool brief)
{
    scene->survey.filter.ports = ports;
    scene->survey.filter.port_count = port_count;
    scene->survey.brief = brief;
    assert_int_equal(survey_look(&scene->survey, 0), 0);
}

static bool shows(const struct triage *triage, uint16_t local_port)
{
    for (size_t i = 0; i < triage->leak_count; i++)
        if (triage->leaks[i].row.id.local.port == local_port)
            return true;
    return false;
}

static void a_leak_is_wanted_by_its_local_port_only(void **state)
{
    (void)state;
    struct scene scene = scene_open();
    const uint16_t ports[] = {1, scene.port};
    half_close(scene.server, scene.client); /* the client's end leaks: its remote port is the wanted one */
    look(&scene, ports, 2, false);
    assert_int_equal(scene.survey.now.leak_count, 0);
    assert_int_equal(scene.survey.now.peer_count, 1); /* yet it is known that this end was shut */
    look(&scene, &scene.client_port, 1, false);
    assert_int_equal(scene.survey.now.leak_count, 1);
    scene_close(&scene);
}

static void without_ports_every_leak_is_wanted(void **state)
{
    (void)state;
    struct scene scene = scene_open(), other = scene_open();
    half_close(scene.client, scene.server);
    half_close(other.server, other.client);
    look(&scene, NULL, 0, false);
    assert_true(shows(&scene.survey.now, scene.port));
    assert_true(shows(&scene.survey.now, other.client_port));
    scene_close(&scene);
    scene_close(&other);
}

static void what_peers_did_is_looked_at_only_when_asked(void **state)
{
    (void)state;
    struct scene scene = scene_open();
    half_close(scene.client, scene.server);
    look(&scene, &scene.port, 1, false);
    assert_int_equal(scene.survey.now.leak_count, 1);
    assert_int_equal(scene.survey.now.leaks[0].peer, TRIAGE_PEER_HALF_CLOSED);
    look(&scene, &scene.port, 1, true);
    assert_int_equal(scene.survey.now.leak_count, 1);
    assert_int_equal(scene.survey.now.peer_count, 0);
    assert_int_equal(scene.survey.now.listener_count, 1); /* server's side or client's: that is always told */
    scene_close(&scene);
}

static void rows_that_the_kernel_takes_back_are_forgotten(void **state)
{
    (void)state;
    struct scene scene = scene_open();
    const struct diag_row gone = {.id = {.family = AF_INET, .local.port = scene.port, .cookie = 1},
                                  .state = DIAG_CLOSE_WAIT};
    half_close(scene.client, scene.server);
    taken_back = &gone;
    look(&scene, &scene.port, 1, false);
    taken_back = NULL;
    assert_int_equal(scene.survey.now.leak_count, 1);
    assert_true(scene.survey.now.leaks[0].row.id.cookie != 1);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leak_is_wanted_by_its_local_port_only),
        cmocka_unit_test(without_ports_every_leak_is_wanted),
        cmocka_unit_test(what_peers_did_is_looked_at_only_when_asked),
        cmocka_unit_test(rows_that_the_kernel_takes_back_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
