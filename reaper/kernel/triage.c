#include "reaper/kernel/triage.h"

#include "reaper/array.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { TIMER_KEEPALIVE = 2 };

struct word {
    const char *name, *text;
};

static const struct word causes[TRIAGE_CAUSE_COUNT] = {
#define X(constant, name, text) [constant] = {(name), (text)},
    TRIAGE_CAUSE_MAP(X)
#undef X
};

static const struct word peers[TRIAGE_PEER_COUNT] = {
#define X(constant, name, text) [constant] = {(name), (text)},
    TRIAGE_PEER_MAP(X)
#undef X
};

const char *triage_cause_name(enum triage_cause cause)
{
    return causes[cause].name;
}

const char *triage_cause_text(enum triage_cause cause)
{
    return causes[cause].text;
}

const char *triage_peer_name(enum triage_peer peer)
{
    return peers[peer].name;
}

const char *triage_peer_text(enum triage_peer peer)
{
    return peers[peer].text;
}

void triage_init(struct triage *triage, unsigned state)
{
    *triage = (struct triage){.state = state};
}

void triage_restart(struct triage *triage)
{
    triage->leak_count = triage->listener_count = triage->peer_count = 0;
}

void triage_clear(struct triage *triage)
{
    free(triage->leaks);
    free(triage->listeners);
    free(triage->peers);
    triage_init(triage, triage->state);
}

uint32_t triage_leak_states(const struct triage *triage)
{
    return DIAG_STATE_BIT(triage->state);
}

uint32_t triage_context_states(const struct triage *triage)
{
    return (DIAG_STATE_BIT(DIAG_LISTEN) | DIAG_STATE_BIT(DIAG_FIN_WAIT_1) | DIAG_STATE_BIT(DIAG_FIN_WAIT_2)) &
           ~triage_leak_states(triage);
}

static int leak_add(struct triage *triage, const struct diag_row *row)
{
    struct leak *leaks = array_grow(triage->leaks, triage->leak_count, &triage->leak_room, sizeof *leaks);
    if (!leaks)
        return -ENOMEM;
    triage->leaks = leaks;
    leaks[triage->leak_count++] = (struct leak){.row = *row};
    return 0;
}

static int listener_add(struct triage *triage, const struct diag_row *row)
{
    struct diag_row *rows =
        array_grow(triage->listeners, triage->listener_count, &triage->listener_room, sizeof *rows);
    if (!rows)
        return -ENOMEM;
    triage->listeners = rows;
    rows[triage->listener_count++] = *row;
    return 0;
}

static int peer_add(struct triage *triage, const struct diag_row *row)
{
    struct triage_peer_row *rows =
        array_grow(triage->peers, triage->peer_count, &triage->peer_room, sizeof *rows);
    if (!rows)
        return -ENOMEM;
    triage->peers = rows;
    rows[triage->peer_count++] = (struct triage_peer_row){row->id.local, row->id.remote, row->inode};
    return 0;
}

int triage_add(struct triage *triage, const struct diag_row *row)
{
    int error = 0;
    if (row->state == triage->state)
        error = leak_add(triage, row);
    if (error == 0 && row->state == DIAG_LISTEN)
        error = listener_add(triage, row);
    if (error == 0 && (row->state == DIAG_FIN_WAIT_1 || row->state == DIAG_FIN_WAIT_2))
        error = peer_add(triage, row);
    return error;
}

static int leak_order(const void *a, const void *b)
{
    uint64_t left = ((const struct leak *)a)->row.id.cookie, right = ((const struct leak *)b)->row.id.cookie;
    return (left > right) - (left < right);
}

static int listener_order(const void *a, const void *b)
{
    return ((const struct diag_row *)a)->id.local.port - ((const struct diag_row *)b)->id.local.port;
}

static int endpoint_order(const struct diag_endpoint *a, const struct diag_endpoint *b)
{
    return a->port != b->port ? a->port - b->port : memcmp(a->host, b->host, sizeof a->host);
}

static int peer_order(const void *a, const void *b)
{
    const struct triage_peer_row *left = a, *right = b;
    int order = endpoint_order(&left->local, &right->local);
    return order ? order : endpoint_order(&left->remote, &right->remote);
}

/* qsort's and bsearch's arrays may not be NULL, even when they are empty. */
static void sort(void *array, size_t count, size_t element_bytes, int (*order)(const void *, const void *))
{
    if (count > 1)
        qsort(array, count, element_bytes, order);
}

static void *find(const void *key, const void *array, size_t count, size_t element_bytes,
                  int (*order)(const void *, const void *))
{
    return count ? bsearch(key, array, count, element_bytes, order) : NULL;
}

/* A dump of a table that changes may show a row twice. */
static void leaks_unique(struct triage *triage)
{
    size_t kept = 0;
    for (size_t i = 0; i < triage->leak_count; i++)
        if (kept == 0 || leak_order(&triage->leaks[kept - 1], &triage->leaks[i]) != 0)
            triage->leaks[kept++] = triage->leaks[i];
    triage->leak_count = kept;
}

static enum triage_cause cause_of(const struct diag_row *row)
{
    if (row->state != DIAG_CLOSE_WAIT)
        return TRIAGE_NO_CAUSE;
    if (row->inode == 0)
        return TRIAGE_NEVER_ACCEPTED;
    if (row->rqueue_bytes == 0)
        return TRIAGE_READ_EOF;
    return row->rqueue_bytes == 1 ? TRIAGE_EOF_UNREAD : TRIAGE_DATA_UNREAD;
}

/* Both ends have the same address: the connection never left this host. */
static bool peer_is_here(const struct diag_id *id)
{
    static const uint8_t loopback_v4[13] = {[10] = 0xff, 0xff, 127}, loopback_v6[16] = {[15] = 1};
    return memcmp(id->remote.host, id->local.host, sizeof id->local.host) == 0 ||
           memcmp(id->remote.host, loopback_v4, sizeof loopback_v4) == 0 ||
           memcmp(id->remote.host, loopback_v6, sizeof loopback_v6) == 0;
}

static enum triage_peer peer_of(const struct triage *triage, const struct diag_row *row, uint32_t *inode)
{
    const struct triage_peer_row mirror = {.local = row->id.remote, .remote = row->id.local};
    const struct triage_peer_row *peer =
        find(&mirror, triage->peers, triage->peer_count, sizeof mirror, peer_order);
    *inode = peer ? peer->inode : 0;
    if (peer)
        return peer->inode ? TRIAGE_PEER_HALF_CLOSED : TRIAGE_PEER_CLOSED;
    return row->state == DIAG_CLOSE_WAIT && peer_is_here(&row->id) ? TRIAGE_PEER_FORGOTTEN
                                                                   : TRIAGE_PEER_REMOTE;
}

/* How well a listening socket fits the local address of another socket of its port: 0 not at all, 1 it
 * listens on any address of that family, 2 on just this one. An IPv6 socket on any address takes IPv4 as
 * well, unless IPV6_V6ONLY is set (ipv6(7)). */
static int listener_fit(const struct diag_row *listener, const struct diag_row *row)
{
    if (listener->id.interface != 0 && listener->id.interface != row->id.interface)
        return 0;
    if (memcmp(listener->id.local.host, row->id.local.host, sizeof row->id.local.host) == 0)
        return 2;
    if (!diag_host_is_any(listener->id.local.host))
        return 0;
    bool v4 = diag_host_is_v4(row->id.local.host);
    if (listener->id.family == AF_INET6 && !diag_host_is_v4(listener->id.local.host))
        return !v4 || !listener->v6_only;
    return v4;
}

bool triage_listens_for(const struct diag_row *listener, const struct diag_row *row)
{
    return listener->id.local.port == row->id.local.port && listener_fit(listener, row) > 0;
}

const struct diag_row *triage_listener(const struct triage *triage, const struct diag_row *row)
{
    const struct diag_row *first =
        find(row, triage->listeners, triage->listener_count, sizeof *row, listener_order);
    const struct diag_row *end = triage->listeners + triage->listener_count, *found = NULL;
    int best = 0;
    while (first && first > triage->listeners && listener_order(first - 1, row) == 0)
        first--;
    for (const struct diag_row *at = first; at && at < end && listener_order(at, row) == 0; at++) {
        int fit = listener_fit(at, row);
        if (fit > best) {
            best = fit;
            found = at;
        }
    }
    return found;
}

static void leak_judge(const struct triage *triage, struct leak *leak, const struct leak *before,
                       uint64_t now_ms)
{
    leak->cause = cause_of(&leak->row);
    leak->peer = peer_of(triage, &leak->row, &leak->peer_inode);
    leak->client_side = !triage_listener(triage, &leak->row);
    leak->progressed = before && leak->row.info.acked_bytes != before->row.info.acked_bytes;
    leak->dumps = before ? before->dumps + 1 : 1;
    leak->first_seen_ms = before ? before->first_seen_ms : now_ms;
    leak->quiet_since_ms = before && !leak->progressed ? before->quiet_since_ms : now_ms;
}

void triage_finish(struct triage *triage, const struct triage *before, uint64_t now_ms)
{
    sort(triage->leaks, triage->leak_count, sizeof *triage->leaks, leak_order);
    sort(triage->listeners, triage->listener_count, sizeof *triage->listeners, listener_order);
    sort(triage->peers, triage->peer_count, sizeof *triage->peers, peer_order);
    leaks_unique(triage);
    for (size_t i = 0; i < triage->leak_count; i++) {
        struct leak *leak = &triage->leaks[i];
        leak_judge(triage, leak, before ? triage_find(before, leak->row.id.cookie) : NULL, now_ms);
    }
}

const struct leak *triage_find(const struct triage *triage, uint64_t cookie)
{
    const struct leak key = {.row.id.cookie = cookie};
    return find(&key, triage->leaks, triage->leak_count, sizeof key, leak_order);
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

uint64_t leak_age_ms(const struct leak *leak, uint64_t now_ms, bool *exact)
{
    const struct diag_info *info = &leak->row.info;
    uint64_t age_ms = larger(info->last_ack_recv_ms, now_ms - leak->first_seen_ms);
    /* Data sent after the FIN, or a keepalive, draws an ACK of its own; on loopback within the same tick. */
    if (exact)
        *exact = leak->row.has_info && age_ms == info->last_ack_recv_ms &&
                 leak->row.timer != TIMER_KEEPALIVE &&
                 (info->sent_bytes == 0 || info->last_data_sent_ms > info->last_ack_recv_ms);
    return age_ms;
}

uint64_t leak_quiet_ms(const struct leak *leak, uint64_t now_ms)
{
    return larger(leak->row.info.last_ack_recv_ms, now_ms - leak->quiet_since_ms);
}
