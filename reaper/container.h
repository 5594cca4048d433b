#ifndef REAPER_CONTAINER_H
#define REAPER_CONTAINER_H

/* From a member that a callback is called with (a source, a task, an alarm) to what it is embedded in. The
 * compiler refuses a pointer that is not of the member's type. */

#include <stddef.h>

#define CONTAINER(type_, name_, member_)                                                                     \
    ((type_ *)(void *)((char *)(1 ? (member_) : &((type_ *)NULL)->name_) - offsetof(type_, name_)))

#endif
