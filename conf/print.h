#ifndef CONF_PRINT_H
#define CONF_PRINT_H

/* A configuration as a file that conf_load() reads back as the same: what is in force, defaults and flags
 * included. Any thread; the configuration is only read. */

#include "conf/conf.h"

#include <stdio.h>

void conf_print(const struct conf *conf, FILE *out);

#endif
