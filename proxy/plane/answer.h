#ifndef PROXY_PLANE_ANSWER_H
#define PROXY_PLANE_ANSWER_H

/* The proxy's own answers to requests that no backend answers: 400, 408, 414, 431, 501, 502, 503, 504, 505.
 *
 * An answer is always the last one of its connection. Its body is a sentence in plain text, HTML or JSON,
 * whichever the client asked for. Pure; any thread. */

#include "proxy/plane/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

enum answer_format { ANSWER_TEXT, ANSWER_HTML, ANSWER_JSON };

/* Longest answer, body included. */
enum { ANSWER_SIZE = 1024 };

/* Seconds after which a client is asked to try again (503). */
enum { ANSWER_RETRY_AFTER_S = 5 };

/* What the request's Accept fields like best (RFC 9110, 12.5.1); plain text when they do not care. */
enum answer_format answer_format(const struct message *request);

/* The answer with this status, complete. `head_only`: to a HEAD request, without the body. Its size. */
size_t answer_write(char space[static ANSWER_SIZE], int status, enum answer_format format, bool head_only,
                    time_t now);

#endif
