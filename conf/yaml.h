#ifndef CONF_YAML_H
#define CONF_YAML_H

/* A YAML file as a small tree in which every node knows its line and column.
 *
 * libfyaml does the parsing, this module refuses what a configuration has no use for and what a hostile file
 * could hurt with: anchors and aliases, tags, directives, a second document, keys that are not plain text,
 * bytes that are not UTF-8 text, and more than the maxima below. Of what libfyaml finds only the first error
 * is kept, the later ones are its consequences. Knows nothing of options. The caller owns the tree. */

#include "conf/finding.h"

enum {
    YAML_DEPTH_MAX = 16,
    YAML_SIZE_MAX = 1024 * 1024,
    /* libfyaml 0.7.12 takes quadratic time for long lines of some kinds and for runs of blank lines. */
    YAML_LINE_MAX = 4096,
    YAML_BLANK_LINES_MAX = 256,
};

enum yaml_kind { YAML_SCALAR, YAML_SEQUENCE, YAML_MAPPING };

struct yaml_node {
    enum yaml_kind kind;
    unsigned line, column; /* from 1 */
    char *text;            /* of a scalar, "" for a value left out; else NULL */
    char *key;             /* of a value in a mapping; else NULL */
    unsigned key_line, key_column;
    struct yaml_node *first, *last; /* children, in order */
    struct yaml_node *next;         /* sibling */
    struct yaml_node *allocated;    /* the node made before, for yaml_free() */
};

struct yaml {
    struct yaml_node *root;      /* never NULL; an empty file is an empty scalar */
    struct yaml_node *allocated; /* the node made last */
};

/* 0, or ERROR_CONFIG or -ENOMEM with one error appended and an empty tree. `bytes` need no terminator. */
int yaml_parse(const char *name, const char *bytes, size_t size, struct yaml *yaml,
               struct findings *findings);

/* The value of that key, or NULL. */
struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key);

void yaml_free(struct yaml *yaml);

#endif
