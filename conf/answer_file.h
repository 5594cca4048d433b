#ifndef CONF_ANSWER_FILE_H
#define CONF_ANSWER_FILE_H

/* A file that replaces one of the proxy's own answers: field lines, an empty line, a body.
 *
 *     Content-Type: text/html; charset=utf-8
 *     Retry-After: 30
 *
 *     <h1>Back in half a minute</h1>
 *
 * Lines of the head end with LF or CR LF; the body is any bytes. The status line, the length and what
 * concerns the connection are the proxy's to write and refused here, and so is what RFC 9110 (5.5, 5.6.2)
 * does not take for a field: every client would stumble over it, and its writer would not notice.
 *
 * The file is read once, while a configuration is loaded; main thread. */

#include "conf/assign.h"

/* Of the whole file. */
enum { ANSWER_FILE_MAX = 64 * 1024 };

/* Reads the file into *answer, which the caller frees whatever happens. 0; or ERROR_CONFIG or -ENOMEM,
 * with at least one error appended: at `place`, where the file is named, when it can't be read; at its own
 * line and column when it is no answer. */
int answer_file_read(const char *path, const struct place *place, struct conf_answer *answer,
                     struct findings *findings);

/* The same from bytes that were read already; `path` stands for the file in errors. */
int answer_file_parse(const char *path, const char *bytes, size_t size, struct conf_answer *answer,
                      struct findings *findings);

#endif
