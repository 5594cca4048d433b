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

/* Two dumps: the leaks with their tcp_info, which costs the kernel a lock and much copying for each row, and
 * what explains them without. */
int look(struct netlink *netlink, struct triage *triage, const uint16_t *ports, size_t port_count,
         bool context)
{
    struct wanted wanted = {.triage = triage, .ports = ports, .port_count = port_count};
    struct diag_filter filter = {.states = triage_leak_states(triage),
                                 .side = DIAG_EITHER,
                                 .ports = ports,
                                 .port_count = port_count,
                                 .want_info = true};
    struct netlink_sink sink = {.row = row_take, .restart = dump_restart, .context = &wanted};
    triage_restart(triage);
    int error = netlink_dump(netlink, &filter, &sink);
    if (error)
        return error;
    filter.states = context ? triage_context_states(triage) : DIAG_STATE_BIT(DIAG_LISTEN);
    filter.want_info = false;
    sink.restart = NULL; /* would drop the leaks; a listener or a peer that comes twice does no harm */
    return netlink_dump(netlink, &filter, &sink);
}
