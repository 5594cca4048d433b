#include "proxy/session/register.h"

#include "proxy/shared/shared.h"
#include "tests/unit/cmocka.h"

#include <stdlib.h>

/* Each half of what there was, and not for a few: giving back walks all of the memory. */
static void memory_is_given_back_when_half_of_many_have_gone(void **state)
{
    static const struct {
        size_t opened, left;
        bool gives;
    } rows[] = {{3000, 1501, false}, {0, 1500, true}, {0, 1400, false}, {0, 750, true},
                {0, 600, false},     {0, 0, false},   {900, 0, false},  {5000, 0, true}};
    struct shared *shared = calloc(1, sizeof *shared);
    (void)state;
    assert_non_null(shared);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].opened > shared->session_peak)
            shared->session_peak = rows[i].opened;
        shared->session_count = rows[i].left;
        assert_int_equal(register_give_memory_back(shared), rows[i].gives);
    }
    free(shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(memory_is_given_back_when_half_of_many_have_gone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
