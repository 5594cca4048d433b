#ifndef CONF_FILE_H
#define CONF_FILE_H

/* Reading a file whole, as far as there is room. Keeps no state; any thread. */

#include <stddef.h>
#include <sys/types.h>

/* Reads to the end, or until `room` is full: with a byte more than is allowed the caller sees what is too
 * large. The size, or a negative errno. */
ssize_t file_read(const char *path, char *bytes, size_t room);

#endif
