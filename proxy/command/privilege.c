#include "proxy/command/privilege.h"

#include <cap-ng.h>
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* To end a leak, its owner has to be known (reaper/kernel/guard.h), whoever it is: the folder /proc/PID/fd is
 * its owner's alone, and what its links point to is shown to who may trace the process (proc(5)). */
static const struct {
    unsigned capability;
    bool for_action[LADDER_ACTION_COUNT];
} needs[] = {
    {CAP_DAC_READ_SEARCH, {[LADDER_FINISH] = true, [LADDER_DESTROY] = true, [LADDER_BOTH] = true}},
    {CAP_SYS_PTRACE, {[LADDER_FINISH] = true, [LADDER_DESTROY] = true, [LADDER_BOTH] = true}},
    {CAP_NET_ADMIN, {[LADDER_DESTROY] = true, [LADDER_BOTH] = true}},
};

enum { NEEDS = sizeof needs / sizeof needs[0] };

/* Of this process, for threads that begin: it stays root, and its workers with it. */
static bool stays_root;

static bool is_off(const struct conf *conf)
{
    return strcmp(conf->user, "off") == 0;
}

static bool watches(const struct conf *conf)
{
    return conf->reaper.backends || conf->reaper.port_count > 0;
}

static bool is_needed(const struct conf *conf, size_t need)
{
    return watches(conf) && needs[need].for_action[conf->reaper.action];
}

/* ---- giving up ---- */

int privilege_find(const struct conf *conf, struct privilege *out)
{
    *out = (struct privilege){.conf = conf, .where = "user"};
    if (is_off(conf) || geteuid() != 0)
        return 0;
    const struct passwd *user = getpwnam(conf->user);
    if (!user)
        return -ENOENT;
    if (user->pw_uid == 0) /* by another name */
        return -EINVAL;
    out->uid = user->pw_uid;
    out->gid = user->pw_gid;
    out->becomes = true;
    return 0;
}

/* Into libcap-ng's state: what is needed and there. */
static void choose(struct privilege *privilege)
{
    bool has[NEEDS];
    for (size_t i = 0; i < NEEDS; i++)
        has[i] = capng_have_capability(CAPNG_PERMITTED, needs[i].capability);
    capng_clear(CAPNG_SELECT_ALL);
    for (size_t i = 0; i < NEEDS; i++)
        if (has[i] && is_needed(privilege->conf, i)) {
            (void)capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, needs[i].capability);
            privilege->kept |= 1U << i;
        }
}

static int become(struct privilege *privilege)
{
    privilege->where = "becoming the user (it takes CAP_SETUID, CAP_SETGID and CAP_SETPCAP)";
    choose(privilege);
    int failed = capng_change_id((int)privilege->uid, (int)privilege->gid,
                                 CAPNG_DROP_SUPP_GRP | CAPNG_CLEAR_BOUNDING | CAPNG_CLEAR_AMBIENT);
    if (failed)
        return errno ? -errno : -EPERM;
    return getuid() == privilege->uid && geteuid() == privilege->uid && setuid(0) != 0 ? 0 : -EPERM;
}

/* The bounding set can only be emptied by who may do that; without a way to more it bounds nothing. */
static int shed(struct privilege *privilege)
{
    privilege->where = "giving capabilities up";
    bool bounds = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP);
    choose(privilege);
    if (bounds && capng_apply(CAPNG_SELECT_BOUNDS))
        return -EPERM;
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); /* not before Linux 4.3 */
    return capng_apply(CAPNG_SELECT_CAPS) ? -EPERM : 0;
}

int privilege_drop(struct privilege *privilege)
{
    privilege->where = "reading capabilities";
    if (capng_get_caps_process())
        return -EIO;
    bool is_root = geteuid() == 0;
    privilege->had = is_root || capng_have_capabilities(CAPNG_SELECT_CAPS) > CAPNG_NONE;
    int error = 0;
    errno = 0;
    if (privilege->becomes)
        error = become(privilege);
    else if (!is_root && privilege->had)
        error = shed(privilege);
    if (error)
        return error;
    stays_root = geteuid() == 0;
    privilege->where = "no_new_privs";
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
}

void privilege_drop_all(void)
{
    if (stays_root)
        return;
    capng_clear(CAPNG_SELECT_ALL);
    (void)capng_apply(CAPNG_SELECT_CAPS); /* fewer are always allowed: capabilities(7) */
}

/* ---- saying ---- */

void privilege_say(const struct privilege *privilege, struct log_ring *ring)
{
    enum conf_log_level level = stays_root ? CONF_LOG_WARNING : CONF_LOG_INFO;
    char id[16], kept[64] = "none";
    struct line line;
    size_t used = 0;
    if (!privilege->had || !log_wants(ring, level))
        return;
    snprintf(id, sizeof id, "%u", (unsigned)geteuid());
    for (size_t i = 0; i < NEEDS; i++)
        if (privilege->kept & 1U << i)
            used += (size_t)snprintf(kept + used, sizeof kept - used, "%s%s", used > 0 ? "," : "",
                                     capng_capability_to_name(needs[i].capability));
    line_begin(&line, log_format(ring), level, "privileges");
    line_text(&line, "user", privilege->becomes ? privilege->conf->user : stays_root ? "root" : id);
    line_text(&line, "kept", stays_root ? "all" : kept);
    if (!stays_root && watches(privilege->conf) && used == 0)
        line_text(&line, "unseen", "which programs of other users hold what leaked");
    log_line(ring, line_end(&line));
    log_flush(ring);
}

static bool may_write(const struct passwd *user, const struct stat *status)
{
    if (status->st_uid == user->pw_uid)
        return status->st_mode & S_IWUSR;
    return status->st_mode & (status->st_gid == user->pw_gid ? S_IWGRP : S_IWOTH);
}

/* The file may be the user's or not: what matters is the one that is made after a rotation. */
static void warn_log(const struct conf *conf, const struct passwd *user, struct findings *findings)
{
    char folder[PATH_MAX];
    struct stat status;
    snprintf(folder, sizeof folder, "%s", conf->log.target);
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder)
        return;
    *slash = '\0';
    if (stat(folder, &status) == 0 && !may_write(user, &status))
        finding_warning(
            findings,
            "log.target: %s may not make files in %s, so that after a rotation the log goes on in the "
            "old file; let logrotate make the new one (create 0640 %s adm), or give %s a folder",
            conf->user, folder, conf->user, conf->user);
}

void privilege_warn(const struct conf *conf, struct findings *findings)
{
    if (is_off(conf))
        return;
    const struct passwd *user = getpwnam(conf->user);
    if (!user)
        finding_warning(findings, "user: this host has no user %s; make it by adduser --system --group %s",
                        conf->user, conf->user);
    else if (user->pw_uid == 0)
        finding_warning(findings, "user: %s is root by another name", conf->user);
    else
        warn_log(conf, user, findings);
}
