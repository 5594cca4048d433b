#include "reaper/kernel/look.h"

struct wanted {
    struct triage *triage;
    const uint16_t *ports;
    size_t port_count;
};

static bool has_port(const struct wanted *wanted, uint16_t port)
{
    for (size_t i = 0; i < wanted->port_count; i++)
        if (wanted->ports[i] == port)
            return true;
    return wanted->port_count == 0;
}

/* The filter lets rows pass in which either port is wanted, for the sake of peers on this host; a leak itself
 * is wanted by its local port only. */
static int row_take(void *context, const struct diag_row *row)
{
    const struct wanted *wanted = context;
    if (row->state == wanted->triage->state && !has_port(wanted, row->id.local.port))
        return 0;
    return triage_add(wanted->triage, row);
}

static void dump_restart(void *context)
{
    const struct wanted *wanted = context;
    triage_restart(wanted->triage);
}

/* All in one dump: for the kernel, walking its table once more costs more than the tcp_info of the rows that
 * explain the leaks. Asking for LISTEN costs nothing, that is another, smaller table. */
int look(struct netlink *netlink, struct triage *triage, const uint16_t *ports, size_t port_count,
         bool context)
{
    uint32_t explain = context ? triage_context_states(triage) : DIAG_STATE_BIT(DIAG_LISTEN);
    struct wanted wanted = {.triage = triage, .ports = ports, .port_count = port_count};
    const struct diag_filter filter = {.states = triage_leak_states(triage) | explain,
                                       .side = DIAG_EITHER,
                                       .ports = ports,
                                       .port_count = port_count,
                                       .want_info = true};
    const struct netlink_sink sink = {.row = row_take, .restart = dump_restart, .context = &wanted};
    triage_restart(triage);
    return netlink_dump(netlink, &filter, &sink);
}
