#ifndef REAPER_KERNEL_EVIDENCE_H
#define REAPER_KERNEL_EVIDENCE_H

/* What is seen of a service whose sockets pile up: two looks at the kernel's sockets, some time apart, and
 * what
 * /proc says of the processes that hold them. Each service is judged by itself: what one port's queue and
 * process do says nothing about another's.
 *
 * The caller owns a struct evidence_set and ends it with evidence_clear(), before the survey that it points
 * into. The survey's thread; blocks for the looks and a walk over /proc. It prints nothing. */

#include "reaper/kernel/files.h"
#include "reaper/kernel/runtime.h"
#include "reaper/kernel/survey.h"

/* A close is under way in every healthy server now and then: younger sockets are no symptom. */
enum { EVIDENCE_SYMPTOM_MS = 1000 };

enum { EVIDENCE_PIDS = 32 };

/* What was seen of one service over some seconds. Counts are of sockets at the end of them. */
struct evidence {
    double seconds;
    uint16_t port;     /* 0: all */
    bool client_side;  /* this host opened them: the port is the peers' */
    bool others_known; /* `accepted` and `moved` were counted */
    bool upstream_here, network_is_loopback;
    size_t close_wait;
    size_t came, went; /* of those in CLOSE_WAIT, by their cookies: within those seconds */
    size_t established, established_before;
    size_t by_cause[TRIAGE_CAUSE_COUNT];
    size_t waiting[TRIAGE_CAUSE_COUNT]; /* whose peer on this host still holds its half-closed socket */
    size_t far;                         /* whose peer is not in this network namespace */
    const struct owner_process *waiter; /* who holds one of those peers; NULL: none, or not visible */
    size_t accepted, moved; /* other connections that the program took, read or wrote, within the seconds */
    uint64_t oldest_ms;
    size_t zero_bytes;                   /* of those in CLOSE_WAIT, whose client never sent a byte */
    size_t with_keepalive;               /* whose keepalive timer runs */
    size_t peers_closed_here;            /* whose peer on this host has closed */
    double accepted_per_s;               /* connections completed by the kernel, on all ports of this host */
    uint64_t overflows;                  /* on this host, that found a full queue over those seconds */
    uint32_t backlog_used, backlog_size; /* of its fullest accept queue; size 0: none listens */
    uint32_t backlog_used_before;
    size_t queue_left; /* of those in CLOSE_WAIT in the queue at first: accepted or gone by now */

    const struct owner_process *owner; /* who holds most; NULL: not visible or nobody */
    size_t owner_count;
    size_t owner_by_cause[TRIAGE_CAUSE_COUNT];
    enum runtime owner_runtime;
    uint64_t owner_files, owner_files_limit; /* 0: unknown */
    uint64_t owner_files_hard, owner_files_before;
    size_t owner_dead; /* descriptors that are sockets which the kernel has no more */

    pid_t stopped[EVIDENCE_PIDS];          /* processes that hold some of them and are stopped */
    size_t stopped_count, stopped_sockets; /* all of them, and what they hold */
    pid_t querying[EVIDENCE_PIDS];         /* PostgreSQL's that are at a query, by their titles */
    size_t querying_count, query_sockets;

    struct diag_endpoint upstream; /* where most of the owner's own unanswered requests went */
    size_t upstream_count;         /* 0: none is known */
    uint64_t upstream_waited_ms;
    struct owner_process upstream_owner; /* who listens there, on this host; pid 0: not known */

    char network[64]; /* "10.1.2.0/24": that most of them come from */
    size_t network_count;
};

/* One service with symptoms, or that was asked for. */
struct evidence_service {
    struct survey_service service;
    struct evidence evidence;
};

struct evidence_set {
    struct evidence_service *services; /* at least one */
    size_t count, room;
};

/* One connection of a service that leaks, and how far its program was. */
struct evidence_flow {
    uint64_t cookie, done_bytes; /* read by it and sent by it */
    uint16_t port;
    bool taken; /* accepted */
};

/* So many of them are kept; with more it is not known whether others move. */
enum { EVIDENCE_FLOWS = 100000 };

/* One of the two looks: what survey_look() does not keep. Half a megabyte and up to three more. The caller
 * starts with {0} and ends with evidence_sample_clear(). */
struct evidence_sample {
    uint64_t at_ms;
    struct evidence_flow *flows; /* by cookie */
    size_t flow_count, flow_room;
    bool flows_incomplete;
    bool wanted[UINT16_MAX + 1]; /* local ports whose flows are kept */
    struct files_process *files; /* how many descriptors those had who hold or listen */
    size_t files_count;
    uint64_t accepted, overflows;                                 /* on this host */
    size_t established_all;                                       /* connections */
    uint32_t by_local[UINT16_MAX + 1], by_remote[UINT16_MAX + 1]; /* these by either port */
};

/* Looks once. 0, or an error of survey_look() or netlink_dump(). */
int evidence_sample(struct survey *survey, uint64_t now_ms, struct evidence_sample *sample);

void evidence_sample_clear(struct evidence_sample *sample);

/* What two samples, the last two of that survey, say. Without symptoms anywhere, and no
 * port asked for, the one service is that of port 0, which stands for all. 0 or a negative error. */
int evidence_gather(struct survey *survey, const struct evidence_sample *before,
                    const struct evidence_sample *after, struct evidence_set *set);

void evidence_clear(struct evidence_set *set);

/* Whether descriptors are nearly gone. */
bool evidence_files_short(uint64_t open, uint64_t limit);

/* Whether an accept queue is about to refuse connections. */
bool evidence_queue_full(uint32_t used, uint32_t size);

/* A small file below /proc, ended with '\0'; "" when it can't be read. */
void evidence_read(const struct survey *survey, const char *path, char *text, size_t size);

#endif
