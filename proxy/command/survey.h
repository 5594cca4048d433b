#ifndef PROXY_COMMAND_SURVEY_H
#define PROXY_COMMAND_SURVEY_H

/* What scan, reap and doctor share: look at the kernel's sockets, once or again, and find who holds them.
 *
 * The caller owns a struct survey and ends it with survey_close(). Main thread only. Functions that fail have
 * already told the user on stderr. */

#include "proxy/command/argument.h"
#include "proxy/command/table.h"
#include "reaper/kernel/netlink.h"
#include "reaper/kernel/owner.h"
#include "reaper/kernel/triage.h"

#include <jansson.h>

struct survey_held {
    const struct owner_holder *first;
    size_t count;
};

struct survey {
    const char *command;                /* "lastack scan" */
    const struct argument_ports *ports; /* empty: all */
    struct netlink *netlink;
    int proc_fd;
    struct triage now, before;
    uint64_t now_ms; /* of the last dump, CLOCK_MONOTONIC */
    struct owners owners;
    struct survey_held *held; /* who holds each leak of `now`; NULL: not looked for */
    bool brief;               /* set it to leave out what peers did, which halves the cost of a dump */
};

/* `state` is the enum diag_state to look for. 0 or a negative error. */
int survey_open(struct survey *survey, const char *command, const struct argument_ports *ports,
                unsigned state);

/* Dumps; what the last dump knew is carried over. 0 or a negative error. */
int survey_dump(struct survey *survey);

/* Whether every port that was asked for is listened on or has a socket in that state; says which isn't. */
bool survey_ports_exist(const struct survey *survey);

/* Finds the holders of all sockets of the last dump, and of the listening sockets of those never accepted. */
int survey_owners(struct survey *survey);

void survey_close(struct survey *survey);

/* Sleeps all of it, whatever signals are handled meanwhile. */
void survey_sleep_ms(uint64_t ms);

/* The leaks at least that old, oldest first: an array of *count that the caller frees, NULL without memory
 * (told) or when there are none. It points into the last dump. */
const struct leak **survey_oldest_first(const struct survey *survey, uint64_t older_than_ms, size_t *count);

/* The inode whose holders are responsible: the socket's own, or, while it waits in an accept queue, that of
 * the listening socket. 0: unknown. */
uint32_t survey_inode(const struct survey *survey, const struct leak *leak);

/* The holders of that inode, as owners_of() has them; none before survey_owners(). `leak` is of the last
 * dump. */
struct survey_held survey_holders(const struct survey *survey, const struct leak *leak);

/* One process, or the processes of one user that we may not look into, and what it leaks. */
struct survey_sum {
    const struct owner_process *process; /* NULL: not visible */
    uid_t uid;                           /* of the sockets, when not visible */
    size_t count;
    size_t by_cause[TRIAGE_CAUSE_COUNT];
    uint64_t oldest_ms;
};

/* What leaks together: the sockets of one service on this host, or those that this host opened to one
 * elsewhere, whose own ports say nothing. */
struct survey_service {
    uint16_t port; /* the service's; 0: every socket */
    bool client_side;
};

struct survey_service survey_service_of(const struct leak *leak);
bool survey_service_equal(struct survey_service a, struct survey_service b);
bool survey_service_has(struct survey_service service, const struct leak *leak);

/* Sums up by owner all leaks of that service (NULL: of all) at least that old, most first. A socket that
 * several processes hold counts for each. Returns an array of *count that the caller frees, or NULL without
 * memory or without leaks (*count is 0). */
struct survey_sum *survey_sums(const struct survey *survey, const struct survey_service *service,
                               uint64_t older_than_ms, size_t *count);

/* Says how many of these leaks have owners that this user may not see, and how to see them; nothing when
 * there are none. */
void survey_print_unseen(const struct survey *survey, uint64_t older_than_ms, FILE *out);

/* That sum's program, or "uid 1000 (not visible)". */
const char *survey_sum_name(const struct survey_sum *sum, char text[OWNER_PROGRAM]);

/* How many of the leaks have an owner that isn't visible. */
size_t survey_unseen(const struct survey *survey, uint64_t older_than_ms);

enum { SURVEY_AGE_TEXT = 24 };

/* "250ms", "12s", "3m05s", "2h10m", "3d04h". */
const char *survey_age_text(uint64_t ms, char text[SURVEY_AGE_TEXT]);

/* The same with ">=" before an age that is a lower bound only. */
const char *survey_leak_age_text(const struct survey *survey, const struct leak *leak,
                                 char text[SURVEY_AGE_TEXT]);

/* Three cells: pids, program, descriptors; "?" where we may not look. */
void survey_owner_cells(const struct survey *survey, const struct leak *leak, struct table *table);

/* One leak as JSON: a new reference, NULL without memory. */
json_t *survey_leak_json(const struct survey *survey, const struct leak *leak);

/* Prints an object and a line feed, indented on a terminal; takes the reference. 0 or a negative error, told.
 */
int survey_print_json(const char *command, json_t *object);

#endif
