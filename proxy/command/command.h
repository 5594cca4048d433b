#ifndef PROXY_COMMAND_COMMAND_H
#define PROXY_COMMAND_COMMAND_H

/* The subcommands. Each is a function in a file of its own that parses its arguments with argp, calls the
 * module that does the work, prints, and returns the process's exit status. argv[0] is "lastack NAME", for
 * messages. They run on the main thread and may block. */

enum exit_status {
    EXIT_FINE = 0,  /* done, nothing found */
    EXIT_FOUND = 1, /* found something, or failed */
    EXIT_USAGE = 2, /* the command line or the configuration was refused */
};

int command_bench(int argc, char **argv);
int command_conform(int argc, char **argv);
int command_demo(int argc, char **argv);
int command_leak(int argc, char **argv);
int command_run(int argc, char **argv);
int command_check(int argc, char **argv);
int command_doctor(int argc, char **argv);
int command_reap(int argc, char **argv);
int command_scan(int argc, char **argv);

#endif
