#ifndef REAPER_KERNEL_SURVEY_H
#define REAPER_KERNEL_SURVEY_H

/* Looks at the kernel's sockets, once or again and again, and finds who holds them: what scan, reap, doctor
 * and the reaper in `run` share.
 *
 * The caller owns a struct survey and ends it with survey_close(). It blocks for as long as a dump and a walk
 * over /proc take; one thread at a time may use it. Times are parameters, CLOCK_MONOTONIC. It prints
 * nothing. */

#include "reaper/kernel/netlink.h"
#include "reaper/kernel/owner.h"
#include "reaper/kernel/triage.h"

#include <stdatomic.h>

struct survey_held {
    const struct owner_holder *first;
    size_t count;
};

/* Which sockets are wanted: all that fit each part that is given. The arrays are the caller's. */
struct survey_filter {
    const uint16_t *ports;             /* local ones */
    size_t port_count;                 /* 0: all */
    const uint16_t *to;                /* remote ones */
    size_t to_count;                   /* 0: all */
    const struct diag_endpoint *peers; /* hosts; their ports don't matter */
    size_t peer_count;                 /* 0: all */
    const char *program;               /* held by a process of that name; NULL: any */
    bool program_is_part;              /* `program` may be a part of the name of one program only */
};

struct survey {
    struct survey_filter filter;
    struct netlink *netlink;
    int proc_fd;
    struct triage now, before;
    const atomic_bool *stop; /* NULL: never */
    uint64_t now_ms;         /* of the last look */
    size_t going_there; /* sockets of the last look that are not wanted, but go to one of `ports` elsewhere */
    struct owners owners;
    struct survey_held *held; /* who holds each leak of `now`; NULL: not looked for */
    bool brief;               /* set it to leave out what peers did, which halves the cost of a look */
};

/* `state` is the enum diag_state to look for. 0; -EPROTONOSUPPORT: a kernel without sock_diag; -ENOMEM; or
 * what socket(2) and open(2) say: when `netlink` is open, it is /proc that is not. The caller calls
 * survey_close() after an error, too. */
int survey_open(struct survey *survey, const struct survey_filter *filter, unsigned state);

void survey_close(struct survey *survey);

/* Once *stop is true a dump or a walk under way is given up soon, with -ECANCELED. */
void survey_stop_on(struct survey *survey, const atomic_bool *stop);

/* One dump; what the last one knew is carried over. Errors are those of netlink_dump() and triage_add(): then
 * what was known stays known, so that a host that is too busy for one dump does not make its leaks young. */
int survey_look(struct survey *survey, uint64_t now_ms);

/* Finds the holders of all sockets of the last look, and of the listening sockets of those never accepted,
 * and tells the leaks (guard_learn()). Then drops what the program in the filter does not hold. 0 or a
 * negative error; with program_is_part -ESRCH: no such program, -ENOTUNIQ: several. */
int survey_owners(struct survey *survey);

/* How many of its local ports a dump may be held to, so that it still shows what explains the leaks: with
 * remote ports none, for the sockets that listen have none of those. */
size_t survey_dump_ports(const struct survey_filter *filter);

/* Whether the filter wants a socket of that address; what holds it is not asked. */
bool survey_wants(const struct survey_filter *filter, const struct diag_id *id);

/* Whether something listens on that port, or leaks with it as its local port. */
bool survey_port_exists(const struct survey *survey, uint16_t port);

/* The leaks at least that old, oldest first: an array of *count that the caller frees, or NULL without
 * memory (*count is 0). It points into the last look. */
const struct leak **survey_oldest_first(const struct survey *survey, uint64_t older_than_ms, size_t *count);

/* The inode whose holders are responsible: the socket's own, or, while it waits in an accept queue, that of
 * the listening socket. 0: unknown. */
uint32_t survey_inode(const struct survey *survey, const struct leak *leak);

/* The holders of that inode, as owners_of() has them; none before survey_owners(). `leak` is of the last
 * look. */
struct survey_held survey_holders(const struct survey *survey, const struct leak *leak);

/* What leaks together: the sockets of one service on this host, or those that this host opened to one
 * elsewhere, whose own ports say nothing. */
struct survey_service {
    uint16_t port; /* the service's; 0: every socket */
    bool client_side;
};

/* One service's sockets in one process, or in processes of one user that we may not look into. */
struct survey_sum {
    struct survey_service service;
    const struct owner_process *process; /* NULL: not visible */
    size_t sharers;                      /* as many processes hold each of them; `process` is the first */
    uid_t uid;                           /* of the sockets, when not visible */
    size_t count;
    size_t by_cause[TRIAGE_CAUSE_COUNT];
    uint64_t oldest_ms;
};

struct survey_service survey_service_of(const struct leak *leak);
bool survey_service_equal(struct survey_service a, struct survey_service b);
bool survey_service_has(struct survey_service service, const struct leak *leak);

/* Sums up by owner all leaks of that service (NULL: of all) at least that old, most first. A socket that
 * several processes hold counts once, for the first of them. Returns an array of *count that the caller
 * frees, or NULL without memory (*count is 0). */
struct survey_sum *survey_sums(const struct survey *survey, const struct survey_service *service,
                               uint64_t older_than_ms, size_t *count);

/* How many of the leaks have an owner that isn't visible. */
size_t survey_unseen(const struct survey *survey, uint64_t older_than_ms);

#endif
