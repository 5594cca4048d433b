#ifndef REAPER_ERROR_H
#define REAPER_ERROR_H

/* Error codes of every module, and their texts.
 *
 * A function that can fail returns 0 or more for success and a negative code for failure. Codes of the system
 * are -errno, which on Linux is what libuv uses too, so both pass through unchanged. Ours start below libuv's
 * lowest, UV_EOF (-4095). Any thread may call these functions; they keep no state and never allocate. */

#define ERROR_MAP(X)                                                                                         \
    X(ERROR_CONFIG, -4200, "the configuration was refused")                                                  \
    X(ERROR_TRUNCATED, -4201, "a message ended before its stated length")                                    \
    X(ERROR_MALFORMED, -4202, "a message has a length or a field that its format forbids")                   \
    X(ERROR_INTERRUPTED_DUMP, -4203, "the kernel's socket table changed while it was dumped")                \
    X(ERROR_NO_ADDRESS, -4204, "the name resolved to no address")                                            \
    X(ERROR_NO_SERVER, -4205, "the backend has no server that could be tried")                               \
    X(ERROR_STALE, -4220, "it is not the socket that was seen any more")                                     \
    X(ERROR_NOT_VISIBLE, -4221, "no process that this user may look into holds it")                          \
    X(ERROR_WAITING, -4222, "its peer on this host waits for an answer")

enum error {
#define X(name, code, text) name = (code),
    ERROR_MAP(X)
#undef X
};

/* The code's constant name ("ECONNREFUSED", "ERROR_CONFIG"), or "UNKNOWN". Static storage. */
const char *error_name(int code);

/* What the code means, in words. Static storage. */
const char *error_text(int code);

#endif
