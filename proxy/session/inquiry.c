#include "proxy/session/inquiry.h"

#include "proxy/socket/socket.h"

#include <stdlib.h>

/* What may wait at a time. Each may hold a descriptor open a little longer than its session. */
enum { INBOX_MAX = 16384 };

/* Answers that one pass of a worker's loop takes. */
enum { COLLECT_MAX = 64 };

struct inquiry_desk {
    uv_thread_t thread;
    uv_mutex_t lock;
    uv_cond_t asked;
    struct inquiry *first, **last;
    size_t count;
    bool stopping;
    struct netlink *netlink;
};

/* ---- answers ---- */

int inquiry_answers_init(struct inquiry_answers *answers, uv_async_t *wake)
{
    *answers = (struct inquiry_answers){.last = &answers->first, .wake = wake};
    return uv_mutex_init(&answers->lock);
}

void inquiry_answers_free(struct inquiry_answers *answers)
{
    if (answers->wake)
        uv_mutex_destroy(&answers->lock);
}

static void answer(struct inquiry *inquiry)
{
    struct inquiry_answers *to = inquiry->to;
    uv_mutex_lock(&to->lock);
    inquiry->next = NULL;
    *to->last = inquiry;
    to->last = &inquiry->next;
    /* Within the lock: who has taken the answer may end at once. */
    uv_async_send(to->wake);
    uv_mutex_unlock(&to->lock);
}

static struct inquiry *answer_take(struct inquiry_answers *answers)
{
    if (!answers->fetched) {
        uv_mutex_lock(&answers->lock);
        answers->fetched = answers->first;
        answers->first = NULL;
        answers->last = &answers->first;
        uv_mutex_unlock(&answers->lock);
    }
    struct inquiry *inquiry = answers->fetched;
    if (inquiry)
        answers->fetched = inquiry->next;
    return inquiry;
}

bool inquiry_collect(struct inquiry_answers *answers)
{
    for (int count = 0; count < COLLECT_MAX; count++) {
        struct inquiry *inquiry = answer_take(answers);
        if (!inquiry)
            return false;
        inquiry->pending = false;
        inquiry->answered(inquiry);
    }
    return true;
}

/* ---- the desk ---- */

static void serve(struct netlink *netlink, struct inquiry *inquiry)
{
    switch (inquiry->kind) {
    case INQUIRY_RESET:
        inquiry->clearing = peer_find(netlink, inquiry->fd, &inquiry->peer);
        socket_abort(inquiry->fd);
        inquiry->fd = -1;
        if (inquiry->clearing == CLEARING_STILL)
            inquiry->clearing = peer_look(netlink, &inquiry->peer);
        break;
    case INQUIRY_LOOK:
        inquiry->clearing = peer_look(netlink, &inquiry->peer);
        break;
    case INQUIRY_HOLD:
        inquiry->hold = peer_hold(netlink, &inquiry->peer);
        break;
    }
    answer(inquiry);
}

/* All that have come meanwhile; waits for the first of them. NULL: it is to stop. */
static struct inquiry *inbox_take(struct inquiry_desk *desk)
{
    uv_mutex_lock(&desk->lock);
    while (!desk->first && !desk->stopping)
        uv_cond_wait(&desk->asked, &desk->lock);
    struct inquiry *first = desk->first;
    desk->first = NULL;
    desk->last = &desk->first;
    desk->count = 0;
    uv_mutex_unlock(&desk->lock);
    return first;
}

static void work(void *context)
{
    struct inquiry_desk *desk = context;
    for (struct inquiry *inquiry; (inquiry = inbox_take(desk));) {
        while (inquiry) {
            struct inquiry *next = inquiry->next;
            serve(desk->netlink, inquiry);
            inquiry = next;
        }
    }
}

bool inquiry_ask(struct inquiry_desk *desk, struct inquiry *inquiry)
{
    if (!desk)
        return false;
    uv_mutex_lock(&desk->lock);
    bool taken = desk->count < INBOX_MAX;
    if (taken) {
        inquiry->pending = true;
        inquiry->next = NULL;
        *desk->last = inquiry;
        desk->last = &inquiry->next;
        desk->count++;
        uv_cond_signal(&desk->asked);
    }
    uv_mutex_unlock(&desk->lock);
    return taken;
}

static void desk_free(struct inquiry_desk *desk)
{
    netlink_close(desk->netlink);
    uv_cond_destroy(&desk->asked);
    uv_mutex_destroy(&desk->lock);
    free(desk);
}

int inquiry_desk_start(struct inquiry_desk **out)
{
    *out = NULL;
    struct inquiry_desk *desk = calloc(1, sizeof *desk);
    if (!desk)
        return UV_ENOMEM;
    desk->last = &desk->first;
    int error = uv_mutex_init(&desk->lock);
    if (!error && (error = uv_cond_init(&desk->asked)) != 0)
        uv_mutex_destroy(&desk->lock);
    if (error) {
        free(desk);
        return error;
    }
    error = netlink_open(&desk->netlink);
    if (!error)
        error = uv_thread_create(&desk->thread, work, desk);
    if (error) {
        desk_free(desk);
        return error;
    }
    *out = desk;
    return 0;
}

void inquiry_desk_stop(struct inquiry_desk *desk)
{
    if (!desk)
        return;
    uv_mutex_lock(&desk->lock);
    desk->stopping = true;
    uv_cond_signal(&desk->asked);
    uv_mutex_unlock(&desk->lock);
    uv_thread_join(&desk->thread);
    desk_free(desk);
}
