#ifndef PROXY_LOOP_LOOP_H
#define PROXY_LOOP_LOOP_H

/* The loop of one thread: its sockets (poller.h), work that is put off, alarms, and memory that must live a
 * little longer. The loop knows nobody: whoever has something to do on it embeds a source, a task, an alarm
 * or a grave, and is called.
 *
 *   +-> alarms that are due -> tasks that were put off -> what happened to sockets, and -> loop_settle() -+
 *   |                                                     the tasks made of that                          |
 *   +-----------------------------------------------------------------------------------------------------+
 *
 * A pass ends, whatever comes. Each of its three parts has a share of time (SHARE_MS), which is over for all
 * who work in it once it has been used: what is left waits for the next pass, behind the other two parts. One
 * that was put off waits for the next pass in any case, so that a share is for many. What a source, a task or
 * an alarm does at once has to have a bound of its own.
 *
 * Time is read when a batch of events has come, before each task, and once for the alarms of a pass, before
 * what happened until then is delivered: who is told by an alarm that it is late has been told of everything
 * that came in time, or still has its task queued.
 *
 * Nothing is allocated. One thread a loop; who embeds something takes it out before its memory goes. */

#include "proxy/loop/poller.h"
#include "reaper/policy/wheel.h"

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

/* Work that waits for its turn. Queued at most once. */
struct task {
    struct task *prev, *next;
    void (*run)(struct task *task);
    struct task **queue; /* NULL: in none */
    uint64_t round;      /* of the loop, when it was queued */
};

/* Something that is to happen at a time. */
struct alarm {
    struct wheel_entry entry;
    void (*ring)(struct alarm *alarm);
};

/* Memory that events of this pass may still reach. */
struct grave {
    struct grave *next;
    void (*free)(struct grave *grave);
};

struct loop {
    uv_loop_t uv;
    struct poller poller;
    struct wheel wheel;    /* of alarms */
    struct task *soon;     /* tasks, made of what happened to sockets */
    struct task *put_off;  /* tasks that were put off */
    uint64_t round;        /* how often tasks have been run */
    uint64_t share_ns;     /* when the present share is over, on uv_hrtime()'s clock */
    struct grave *graves;  /* to be emptied when this pass ends */
    uint64_t timer_due_ms; /* UINT64_MAX: not set */
    uv_timer_t timer;
    uv_idle_t idle; /* runs while there are tasks */
    void (*settled)(void *context);
    void *context;
};

/* 0 or a negative errno, and then nothing is left behind. `settled` is called at the end of every pass. */
int loop_init(struct loop *loop, void (*settled)(void *context), void *context);

/* The end of a pass. For who was called by a handle of his own on loop->uv, and before the first pass. */
void loop_settle(struct loop *loop);

/* Closes the loop's own handles, so that uv_run() returns once those of others are closed, too. */
void loop_close(struct loop *loop);
bool loop_is_closing(const struct loop *loop);

/* After uv_run() has returned, with all handles closed: empties the graves, and ends the loop. */
void loop_end(struct loop *loop);

/* Milliseconds of a monotonic clock: now, but for what was done since it was read (above). */
static inline uint64_t loop_now_ms(const struct loop *loop)
{
    return uv_now(&loop->uv);
}

/* Runs the task once what happened to sockets has been delivered; nothing if it is queued already. */
void loop_do_soon(struct loop *loop, struct task *task);

/* Runs the task in the next pass, for it has had its share of this one; nothing if it is queued already. */
void loop_put_off(struct loop *loop, struct task *task);

static inline bool loop_is_queued(const struct task *task)
{
    return task->queue != NULL;
}

/* Whether the present share of time has been used. For who has many things to do, between two of them. */
bool loop_share_is_over(const struct loop *loop);

void loop_forget(struct loop *loop, struct task *task);

/* Makes the alarm ring at the latest at due_ms. One that is set for earlier stays: who is woken early looks
 * and sets it again, which costs less than moving it each time. UINT64_MAX never rings. */
void loop_set_alarm(struct loop *loop, struct alarm *alarm, uint64_t due_ms);
void loop_clear_alarm(struct loop *loop, struct alarm *alarm);

/* Calls `free` when this pass ends. */
void loop_bury(struct loop *loop, struct grave *grave, void (*free)(struct grave *grave));

#endif
