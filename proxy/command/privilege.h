#ifndef PROXY_COMMAND_PRIVILEGE_H
#define PROXY_COMMAND_PRIVILEGE_H

/* What a process that was started as root gives up once its files and ports are open, and what it keeps.
 *
 * It becomes the `user` of the configuration: that user's ids, its group and no other, no capability but
 * those that `reaper.action` needs, an empty bounding set, nothing inheritable or ambient, and no program
 * that it could ever run gets more (no_new_privs). Who was started as another user with capabilities keeps no
 * others either. Workers keep none. Started as root without `user`, it stays root and says so.
 *
 * Main thread, before any other thread: capabilities and no_new_privs are each thread's own. */

#include "conf/conf.h"
#include "conf/finding.h"
#include "proxy/shared/log.h"

#include <stdbool.h>
#include <sys/types.h>

struct privilege {
    const struct conf *conf;
    uid_t uid;         /* to become */
    gid_t gid;         /* likewise */
    bool becomes;      /* that user, from root */
    bool had;          /* some capability, or root's id: then it is said what became of it */
    unsigned kept;     /* one bit a capability of privilege.c's table */
    const char *where; /* the step that failed */
};

/* Looks the user up. 0, or -ENOENT when there is none and the process would have to become that user. */
int privilege_find(const struct conf *conf, struct privilege *out);

/* Gives up. 0 or a negative errno, and then nothing may go on: what was given up is not known. */
int privilege_drop(struct privilege *privilege);

/* For a worker's thread: it keeps nothing, unless the process stays root. */
void privilege_drop_all(void);

/* "msg=privileges user= kept= unseen=", where there was something to give up. */
void privilege_say(const struct privilege *privilege, struct log_ring *ring);

/* What will surprise: no such user on this host, and a log that the user could not open again. Any thread. */
void privilege_warn(const struct conf *conf, struct findings *findings);

#endif
