#include "tests/unit/cmocka.h"

#include "reaper/kernel/guard.h"
#include "tests/unit/faults.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static struct leak due_leak(void)
{
    return (struct leak){
        .row = {.id = {.family = AF_INET, .cookie = 5},
                .state = DIAG_CLOSE_WAIT,
                .inode = 7,
                .has_info = true,
                .info.last_ack_recv_ms = 120000},
        .cause = TRIAGE_READ_EOF,
        .peer = TRIAGE_PEER_CLOSED,
        .held = true,
        .dumps = 2,
        .first_seen_ms = 1000,
        .quiet_since_ms = 1000,
    };
}

static const struct guard_policy policy = {.older_than_ms = 120000};

static void a_leak_without_a_guard_is_due(void **state)
{
    (void)state;
    struct leak leak = due_leak();
    assert_int_equal(guard_check(&leak, &policy, 2000), GUARD_CLEAR);
    leak.row.info.last_ack_recv_ms = 0;
    assert_int_equal(guard_check(&leak, &policy, 1000 + 120000), GUARD_CLEAR); /* by first sight alone */
}

static void each_guard_holds_alone(void **state)
{
    (void)state;
    struct leak leak = due_leak();
    for (uint8_t s = 0; s < 20; s++) {
        leak.row.state = s;
        assert_int_equal(guard_check(&leak, &policy, 2000),
                         s == DIAG_CLOSE_WAIT ? GUARD_CLEAR : GUARD_NOT_CLOSE_WAIT);
    }
    leak = due_leak();
    leak.row.id.cookie = DIAG_NO_COOKIE;
    assert_int_equal(guard_check(&leak, &policy, 2000), GUARD_NO_COOKIE);
    leak.row.id.cookie = 0; /* a kernel that does not fill it in */
    assert_int_equal(guard_check(&leak, &policy, 2000), GUARD_NO_COOKIE);
    leak = due_leak();
    leak.row.inode = 0;
    assert_int_equal(guard_check(&leak, &policy, 2000), GUARD_NEVER_ACCEPTED);
    leak = due_leak();
    leak.dumps = 1;
    assert_int_equal(guard_check(&leak, &policy, 2000), GUARD_SEEN_ONCE);
    leak = due_leak();
    leak.progressed = true;
    assert_int_equal(guard_check(&leak, &policy, 2000), GUARD_PROGRESS);
    leak = due_leak();
    leak.row.info.last_ack_recv_ms--;
    assert_int_equal(guard_check(&leak, &policy, 2000), GUARD_TOO_YOUNG);
}

/* What the operator may set aside, each by its own option and by no other. */
static void what_only_the_operator_can_know_is_left_alone_unless_named(void **state)
{
    (void)state;
    static const struct guard_policy policies[] = {
        {.older_than_ms = 120000, .client_side = true},
        {.older_than_ms = 120000, .even_waiting = true},
        {.older_than_ms = 120000, .even_unseen = true},
        {.older_than_ms = 120000, .named_owner = true},
    };
    static const enum guard guards[] = {GUARD_CLIENT_SIDE, GUARD_WAITING, GUARD_UNSEEN, GUARD_SOUND_OWNER};
    for (size_t g = 0; g < sizeof guards / sizeof guards[0]; g++) {
        struct leak leak = due_leak();
        leak.client_side = guards[g] == GUARD_CLIENT_SIDE;
        leak.peer = guards[g] == GUARD_WAITING ? TRIAGE_PEER_HALF_CLOSED : TRIAGE_PEER_FORGOTTEN;
        leak.held = guards[g] != GUARD_UNSEEN;
        leak.sound_owner = guards[g] == GUARD_SOUND_OWNER;
        assert_int_equal(guard_check(&leak, &policy, 2000), guards[g]);
        for (size_t p = 0; p < sizeof policies / sizeof policies[0]; p++)
            assert_int_equal(guard_check(&leak, &policies[p], 2000), p == g ? GUARD_CLEAR : guards[g]);
    }
}

static void owners_are_looked_for_when_nothing_else_is_missing(void **state)
{
    (void)state;
    struct leak leak = due_leak();
    leak.held = false;
    assert_true(guard_needs_owners(&leak, &policy, 2000));
    leak.dumps = 1;
    assert_false(guard_needs_owners(&leak, &policy, 2000));
}

static void every_guard_has_its_words(void **state)
{
    (void)state;
    for (enum guard a = 0; a < GUARD_COUNT; a++) {
        assert_true(strlen(guard_why(a)) > 10);
        assert_true(strlen(guard_override(a)) > 0);
        for (enum guard b = 0; b < a; b++)
            assert_string_not_equal(guard_name(a), guard_name(b));
    }
}

/* ---- several programs on one port ---------------------------------------------------------------------- */

enum { PORT = 80, LISTENER_A = 101, LISTENER_B = 102 };
enum { A, B, CHILD };

struct scene {
    struct triage triage;
    struct owner_holder holders[8];
    struct owner_process processes[3];
    struct owners owners;
    uint64_t cookies;
};

/* Holders are added by inode. */
static void hold(struct scene *scene, uint32_t inode, uint32_t process)
{
    scene->holders[scene->owners.holder_count] =
        (struct owner_holder){.inode = inode, .process = process, .fd = (int)scene->owners.holder_count};
    scene->owners.holder_count++;
}

static void scene_add(struct scene *scene, enum diag_state kind, uint32_t inode, uint32_t rqueue_bytes)
{
    const struct diag_row row = {.id = {.family = AF_INET,
                                        .local = {.host = {[10] = 0xff, 0xff, 127, 0, 0, 1}, .port = PORT},
                                        .cookie = ++scene->cookies},
                                 .state = (uint8_t)kind,
                                 .inode = inode,
                                 .rqueue_bytes = rqueue_bytes};
    assert_int_equal(triage_add(&scene->triage, &row), 0);
}

static struct scene *scene_make(void)
{
    struct scene *scene = calloc(1, sizeof *scene);
    assert_non_null(scene);
    triage_init(&scene->triage, DIAG_CLOSE_WAIT);
    scene->owners.holders = scene->holders;
    scene->owners.processes = scene->processes;
    scene->owners.process_count = 3;
    return scene;
}

static void scene_learn(struct scene *scene)
{
    triage_finish(&scene->triage, NULL, 0);
    assert_int_equal(guard_learn(&scene->triage, &scene->owners), 0);
}

static void scene_free(struct scene *scene)
{
    triage_clear(&scene->triage);
    free(scene);
}

static const struct leak *leak_of(const struct scene *scene, uint32_t inode)
{
    for (size_t i = 0; i < scene->triage.leak_count; i++)
        if (scene->triage.leaks[i].row.inode == inode)
            return &scene->triage.leaks[i];
    return NULL;
}

/* A leaks by read-eof; what B has is an EOF that it has not read yet. */
static void the_sound_one_of_two_programs_on_a_port_is_told_from_the_leaky_one(void **state)
{
    (void)state;
    struct scene *scene = scene_make();
    scene_add(scene, DIAG_LISTEN, LISTENER_A, 0);
    scene_add(scene, DIAG_LISTEN, LISTENER_B, 0);
    scene_add(scene, DIAG_CLOSE_WAIT, 1, 0);
    scene_add(scene, DIAG_CLOSE_WAIT, 2, 1);
    scene_add(scene, DIAG_CLOSE_WAIT, 3, 1);
    scene_add(scene, DIAG_CLOSE_WAIT, 4, 1);
    hold(scene, 1, A);
    hold(scene, 2, A);
    hold(scene, 3, B);
    hold(scene, LISTENER_A, A);
    hold(scene, LISTENER_B, B);
    scene_learn(scene);
    assert_false(leak_of(scene, 1)->sound_owner);
    assert_false(leak_of(scene, 2)->sound_owner); /* the same program's, which is known to leak */
    assert_true(leak_of(scene, 3)->sound_owner);
    assert_true(leak_of(scene, 3)->held);
    assert_false(leak_of(scene, 4)->held); /* nobody's, as far as can be seen */
    scene_free(scene);
}

static void one_program_with_several_listening_sockets_is_alone_on_its_port(void **state)
{
    (void)state;
    struct scene *scene = scene_make();
    scene_add(scene, DIAG_LISTEN, LISTENER_A, 0);
    scene_add(scene, DIAG_LISTEN, LISTENER_B, 0);
    scene_add(scene, DIAG_CLOSE_WAIT, 1, 1);
    hold(scene, 1, CHILD);
    hold(scene, LISTENER_A, A);
    hold(scene, LISTENER_A, CHILD);
    hold(scene, LISTENER_B, A);
    hold(scene, LISTENER_B, CHILD);
    scene_learn(scene);
    assert_false(leak_of(scene, 1)->sound_owner);
    scene_free(scene);
}

static void a_listening_socket_whose_holder_is_not_seen_is_another_programs(void **state)
{
    (void)state;
    struct scene *scene = scene_make();
    scene_add(scene, DIAG_LISTEN, LISTENER_A, 0);
    scene_add(scene, DIAG_LISTEN, LISTENER_B, 0);
    scene_add(scene, DIAG_CLOSE_WAIT, 1, 1);
    hold(scene, 1, A);
    hold(scene, LISTENER_A, A);
    scene_learn(scene);
    assert_true(leak_of(scene, 1)->sound_owner);
    scene_free(scene);
}

static void without_memory_nothing_is_known_to_be_held(void **state)
{
    (void)state;
    struct scene *scene = scene_make();
    scene_add(scene, DIAG_CLOSE_WAIT, 1, 0);
    hold(scene, 1, A);
    scene_learn(scene);
    assert_true(leak_of(scene, 1)->held);
    fault_arm(FAULT_MEMORY, FAULT_MINE, ENOMEM, 1, 1);
    assert_int_equal(guard_learn(&scene->triage, &scene->owners), -ENOMEM);
    assert_int_equal(fault_disarm(), 1);
    assert_false(leak_of(scene, 1)->held);
    scene_free(scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_leak_without_a_guard_is_due),
        cmocka_unit_test(each_guard_holds_alone),
        cmocka_unit_test(what_only_the_operator_can_know_is_left_alone_unless_named),
        cmocka_unit_test(owners_are_looked_for_when_nothing_else_is_missing),
        cmocka_unit_test(every_guard_has_its_words),
        cmocka_unit_test(the_sound_one_of_two_programs_on_a_port_is_told_from_the_leaky_one),
        cmocka_unit_test(one_program_with_several_listening_sockets_is_alone_on_its_port),
        cmocka_unit_test(a_listening_socket_whose_holder_is_not_seen_is_another_programs),
        cmocka_unit_test(without_memory_nothing_is_known_to_be_held),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
