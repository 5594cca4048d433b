#include "proxy/http/rule.h"

#include <assert.h>

struct row {
    int status;
    const char *words;
};

static const struct row rows[RULE_COUNT] = {
#define X(constant, status, words) [constant] = {(status), (words)},
    RULE_MAP(X)
#undef X
};

int rule_status(enum rule rule)
{
    assert(rule < RULE_COUNT);
    return rows[rule].status;
}

const char *rule_words(enum rule rule)
{
    assert(rule < RULE_COUNT);
    return rows[rule].words;
}
