#ifndef CONF_WALK_H
#define CONF_WALK_H

/* A YAML tree held against the option table: fills in a configuration, or says everything that is wrong.
 *
 * Each error is at the place of the value, or of the key when the key is wrong. Main thread only. */

#include "conf/conf.h"
#include "conf/finding.h"
#include "conf/yaml.h"

/* `conf` has its defaults and no frontends or backends; the caller frees it whatever happens. 0; or
 * ERROR_CONFIG or -ENOMEM, with at least one error appended. */
int walk(const char *name, const struct yaml *yaml, struct conf *conf, struct findings *findings);

#endif
