#include "proxy/command/command.h"
#include "proxy/command/process.h"
#include "version.h"

#include <stdio.h>
#include <string.h>

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
};

static const struct command commands[] = {
    {"run", command_run, "stand before a service and end what it leaks"},
    {"check", command_check, "say whether a configuration is fine, and what is wrong with it"},
    {"demo", command_demo, "show a leak, and the end of it, in 20 seconds"},
    {"bench", command_bench, "measure how fast, and how harmlessly, any proxy ends connections"},
    {"conform", command_conform, "test how any proxy ends connections, case by case"},
    {"leak", command_leak, "serve as a backend that leaks, for tests and demos"},
    {"scan", command_scan, "list sockets that leak: how old, why, and who holds them"},
    {"reap", command_reap, "finish sockets that leak, and prove it"},
    {"doctor", command_doctor, "say why sockets pile up in CLOSE_WAIT, and what helps"},
    {NULL, NULL, NULL},
};

static void usage(FILE *out)
{
    fprintf(out, "Usage: lastack COMMAND [OPTION...]\n\n");
    for (const struct command *c = commands; c->name; c++)
        fprintf(out, "  %-8s %s\n", c->name, c->help);
    fprintf(out, "\n`lastack COMMAND --help` tells more. `lastack --version` prints the version.\n");
}

int main(int argc, char **argv)
{
    process_fill_standard();
    if (argc < 2) {
        usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("lastack %s\n", LASTACK_VERSION);
        return EXIT_FINE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return EXIT_FINE;
    }
    for (const struct command *c = commands; c->name; c++) {
        if (strcmp(argv[1], c->name) == 0) {
            char name[64];
            snprintf(name, sizeof name, "lastack %s", c->name);
            argv[1] = name;
            return c->run(argc - 1, argv + 1);
        }
    }
    fprintf(stderr, "lastack: there is no command '%s'; `lastack --help` lists them\n", argv[1]);
    return EXIT_USAGE;
}
