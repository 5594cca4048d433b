#ifndef CONF_WARN_H
#define CONF_WARN_H

/* What is allowed but will surprise: settings that do not fit this host, or each other.
 *
 * The host's facts are a parameter, so that this can be tested; conf_host_read() gets them from the kernel.
 * Any thread. Warnings never refuse a configuration. */

#include "conf/conf.h"
#include "conf/finding.h"

struct conf_host {
    uint64_t conntrack_close_wait_ms; /* nf_conntrack_tcp_timeout_close_wait */
    uint64_t descriptors;             /* hard RLIMIT_NOFILE; UINT64_MAX: no limit */
    bool is_root;                     /* this process, and it has its powers */
    unsigned port_low, port_high;     /* ip_local_port_range: what connections from this host get; 0: none */
    char reserved_ports[1024];        /* ip_local_reserved_ports: "1,5-7"; cut at a number when longer */
};

/* What the kernel says. Without conntrack on this host its default of 60 s is assumed: the NAT or firewall
 * that matters may be another machine. Never fails. */
void conf_host_read(struct conf_host *host);

/* Appends one warning for each thing that does not fit. */
void conf_warn(const struct conf *conf, const struct conf_host *host, struct findings *findings);

#endif
