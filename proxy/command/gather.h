#ifndef PROXY_COMMAND_GATHER_H
#define PROXY_COMMAND_GATHER_H

/* Gathers doctor's evidence: two looks at the kernel's sockets, some time apart, and what /proc says of the
 * processes that hold them. Each service is judged by itself: what one port's queue and process do says
 * nothing about another's.
 *
 * The caller owns the struct gathered and ends it with gather_clear(), before the survey that it points into.
 * Main thread only; blocks for as long as it watches. Functions that fail have already told the user. */

#include "proxy/command/diagnosis.h"
#include "proxy/command/survey.h"

/* A close is under way in every healthy server now and then: younger sockets are no symptom. */
enum { GATHER_SYMPTOM_MS = 1000 };

/* One service with symptoms, or that was asked for. */
struct gathered_service {
    struct survey_service service;
    struct evidence evidence;
};

struct gathered {
    struct gathered_service *services; /* at least one */
    size_t count, room;
};

/* Watches for so long. Without symptoms anywhere, and no port asked for, the one service is that of port 0,
 * which stands for all. 0 or a negative error. */
int gather(struct survey *survey, uint64_t watch_ms, struct gathered *gathered);

void gather_clear(struct gathered *gathered);

/* A small file below /proc, ended with '\0'; "" when it can't be read. */
void gather_read(const struct survey *survey, const char *path, char *text, size_t size);

#endif
