#ifndef PROXY_HTTP_ANSWER_H
#define PROXY_HTTP_ANSWER_H

/* The proxy's own answers to requests that no backend answers: 400, 405, 408, 414, 431 and 501 to 505.
 *
 * An answer is always the last one of its connection. Its body is a sentence in plain text, HTML or JSON,
 * whichever the client asked for; or it is a file's (conf/answer_file.h), to which the status line, the
 * length and what concerns the connection are added. Pure; any thread. */

#include "conf/conf.h"
#include "proxy/http/message.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>
#include <time.h>

enum answer_format { ANSWER_TEXT, ANSWER_HTML, ANSWER_JSON };

/* Longest answer, body included, but for what is a file's. */
enum { ANSWER_SIZE = 1024 };

/* Seconds after which a client is asked to try again (503). */
enum { ANSWER_RETRY_AFTER_S = 5 };

/* What the request's Accept fields like best (RFC 9110, 12.5.1); plain text when they do not care. */
enum answer_format answer_format(const struct message *request);

struct answer_choice {
    int status;
    enum answer_format format;
    bool head_only;               /* to a HEAD request: without the body */
    const struct conf_http *http; /* has the files */
};

enum { ANSWER_PARTS = 2 };

/* The whole answer, in parts that point into `space` and into the configuration. How many there are. */
int answer_write(const struct answer_choice *choice, time_t now, char space[static ANSWER_SIZE],
                 struct iovec parts[static ANSWER_PARTS]);

#endif
