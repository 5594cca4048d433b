#ifndef CONF_LOAD_H
#define CONF_LOAD_H

/* From a file, flags, or both to a `struct conf`, entirely or not at all.
 *
 * Everything that can be set is a row of the option table (conf/option.h); this module walks a file against
 * it, lays flags over it, and reports every error that it finds, not just the first. Main thread only, before
 * workers run. Nothing is read but the named file and the answers that are named in it (conf/answer_file.h):
 * no name is resolved, no socket opened.
 *
 *     struct conf_source source = {0};
 *     struct argp_child children[] = {{conf_argp(), 0, NULL, 0}, {0}};
 *     ... in the parent's parser: case ARGP_KEY_INIT: state->child_inputs[0] = &source;
 *     argp_parse(&argp, argc, argv, 0, NULL, &arguments);
 *
 *     struct findings findings = {0};
 *     struct conf *conf = NULL;
 *     int error = conf_load(&source, &conf, &findings);
 *     if (!error)
 *         conf_warn(conf, &host, &findings);              (conf/warn.h)
 *     findings_print(&findings, stderr);
 *
 * Which wins: a flag over the file, for every frontend, also over a frontend's own `deadlines:`; the file
 * over the defaults. --listen and --backend make a configuration of their own with one frontend and one
 * backend, both called `main`, and are refused beside -c. */

#include "conf/conf.h"
#include "conf/finding.h"
#include "conf/flag.h"

/* 0 and a configuration in *out, or ERROR_CONFIG, -ENOMEM or -errno of reading the file, with *out NULL and
 * at least one error in `findings` that says why. Never both. */
int conf_load(const struct conf_source *source, struct conf **out, struct findings *findings);

/* The same from bytes that were read already; `name` stands for the file in errors. */
int conf_load_bytes(const char *name, const char *bytes, size_t size, const struct conf_source *flags,
                    struct conf **out, struct findings *findings);

#endif
