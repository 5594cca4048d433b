#ifndef REAPER_KERNEL_TEXT_H
#define REAPER_KERNEL_TEXT_H

/* Text from outside, made fit for a terminal, a log and JSON.
 *
 * Any local user gives processes any name, and root reads it: prctl(PR_SET_NAME) takes escape sequences,
 * which a terminal obeys, and bytes that are no UTF-8, which JSON can't hold. So such text is cleaned once,
 * where it is read. Pure; any thread. Sources: RFC 3629 (UTF-8), ECMA-48 (control characters), Unicode 15,
 * chapter 23. */

/* In place, never longer than it was: every byte of what is no UTF-8, and every character that a terminal may
 * obey instead of showing it (C0, DEL, C1, line and paragraph separators, directions, invisible ones),
 * becomes one '?'. */
void text_clean(char *text);

#endif
