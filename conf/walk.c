#include "conf/walk.h"

#include "conf/answer_file.h"
#include "conf/assign.h"
#include "conf/loop.h"
#include "conf/option.h"
#include "reaper/array.h"
#include "reaper/error.h"
#include "reaper/policy/deadline.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 160, LIST_MAX = 1024 };

/* The path of a key as it is shown; a very long one is cut. */
__attribute__((format(printf, 2, 3))) static void compose(char shown[SHOWN], const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(shown, SHOWN, format, arguments);
    va_end(arguments);
}

/* One walk. */
struct walk {
    const char *name;
    struct conf *conf;
    struct findings *findings;
    bool out_of_memory;
};

/* One mapping that is walked. */
struct section {
    const char *prefix; /* of paths in the option table: "frontends[]." */
    const char *shown;  /* where it is, for a reader: "frontends[0]"; "" at the top */
    void *object;       /* the struct of the scope */
};

static void walk_mapping(struct walk *walk, const struct yaml_node *node, const struct section *section);

/* Errors. */

static struct place place_of(const struct walk *walk, const struct yaml_node *node, const char *shown)
{
    return (struct place){.name = walk->name, .line = node->line, .column = node->column, .key = shown};
}

static struct place place_of_key(const struct walk *walk, const struct yaml_node *node, const char *shown)
{
    return (struct place){
        .name = walk->name, .line = node->key_line, .column = node->key_column, .key = shown};
}

/* What a node is, for "found ...". */
static const char *found(const struct yaml_node *node, char quoted[static FINDING_QUOTE])
{
    if (node->kind == YAML_SEQUENCE)
        return "a list";
    if (node->kind == YAML_MAPPING)
        return "a mapping";
    return assign_found(node->text, quoted);
}

static void refuse(struct walk *walk, const struct yaml_node *node, const char *shown, const char *allowed)
{
    char quoted[FINDING_QUOTE];
    struct place place = place_of(walk, node, shown);
    assign_refuse(&place, found(node, quoted), allowed, NULL, walk->findings);
}

static void refuse_row(struct walk *walk, const struct yaml_node *node, const char *shown,
                       const struct option_row *row, const char *why)
{
    char quoted[FINDING_QUOTE];
    struct place place = place_of(walk, node, shown);
    assign_refuse_row(&place, found(node, quoted), row, why, walk->findings);
}

static void refuse_memory(struct walk *walk, const struct yaml_node *node)
{
    struct place place = place_of(walk, node, NULL);
    assign_refuse_memory(&place, walk->findings);
    walk->out_of_memory = true;
}

static bool is_over(const struct walk *walk)
{
    return walk->out_of_memory || findings_full(walk->findings);
}

static void refuse_key(struct walk *walk, const struct yaml_node *node, const char *shown, const char *prefix)
{
    char nearest[OPTION_PATH];
    char keys[OPTION_ALLOWED];
    struct place place = place_of_key(walk, node, shown);
    option_keys(prefix, keys, sizeof keys);
    if (!option_nearest(prefix, node->key, nearest))
        assign_refuse(&place, "an unknown key", keys, NULL, walk->findings);
    else
        finding_error(walk->findings, place.name, place.line, place.column,
                      "%s: found an unknown key; did you mean '%s'?", shown, nearest);
}

static void refuse_again(struct walk *walk, const struct yaml_node *node, const char *shown,
                         const struct yaml_node *first)
{
    struct place place = place_of_key(walk, node, shown);
    char allowed[64];
    snprintf(allowed, sizeof allowed, "once (first on line %u)", first->key_line);
    assign_refuse(&place, "the key again", allowed, NULL, walk->findings);
}

/* Values. */

static void walk_scalar(struct walk *walk, const struct yaml_node *node, const char *shown,
                        const struct option_row *row, void *object)
{
    struct place place = place_of(walk, node, shown);
    if (node->kind != YAML_SCALAR)
        refuse_row(walk, node, shown, row, NULL);
    else if (assign(walk->conf, row, object, node->text, &place, walk->findings) == -ENOMEM)
        walk->out_of_memory = true;
}

/* One text, or a list of at least one. */
static void walk_list(struct walk *walk, const struct yaml_node *node, const char *shown,
                      const struct option_row *row, void *object)
{
    option_clear(row, object);
    if (node->kind != YAML_SEQUENCE || !node->first) {
        if (node->kind == YAML_SEQUENCE)
            refuse_row(walk, node, shown, row, "at least one");
        else
            walk_scalar(walk, node, shown, row, object);
        return;
    }
    size_t i = 0;
    for (const struct yaml_node *item = node->first; item && !is_over(walk); item = item->next, i++) {
        char item_shown[SHOWN];
        compose(item_shown, "%s[%zu]", shown, i);
        walk_scalar(walk, item, item_shown, row, object);
    }
}

static void walk_action(struct walk *walk, const struct yaml_node *node, const char *shown,
                        const struct option_row *row, struct deadlines *deadlines, enum leg leg)
{
    if (node->kind != YAML_SCALAR || option_set_action(row, deadlines, leg, node->text) != 0)
        refuse(walk, node, shown, "fin or rst");
}

/* {after: 30s, client: fin, backend: rst}; what is left out keeps its value. */
static void walk_deadline(struct walk *walk, const struct yaml_node *node, const char *shown,
                          const struct option_row *row, struct deadlines *deadlines)
{
    for (const struct yaml_node *child = node->first; child && !is_over(walk); child = child->next) {
        char key[SHOWN];
        compose(key, "%s.%.32s", shown, child->key);
        const struct yaml_node *first = yaml_get(node, child->key);
        struct place place = place_of_key(walk, child, key);
        if (first != child)
            refuse_again(walk, child, key, first);
        else if (strcmp(child->key, "after") == 0)
            walk_scalar(walk, child, key, row, deadlines);
        else if (strcmp(child->key, leg_name(LEG_CLIENT)) == 0)
            walk_action(walk, child, key, row, deadlines, LEG_CLIENT);
        else if (strcmp(child->key, leg_name(LEG_BACKEND)) == 0)
            walk_action(walk, child, key, row, deadlines, LEG_BACKEND);
        else
            assign_refuse(&place, "an unknown key", "after, client, backend", NULL, walk->findings);
    }
}

/* The file of one status. The answer is part of the frontend from the start, which so frees it. */
static void walk_answer(struct walk *walk, const struct yaml_node *node, const char *shown, uint16_t status,
                        struct conf_http *http)
{
    struct place place = place_of(walk, node, shown);
    if (node->kind != YAML_SCALAR) {
        refuse(walk, node, shown, "the path of a file");
        return;
    }
    struct conf_answer *grown = array_extend(http->answers, http->answer_count, sizeof *grown);
    if (!grown) {
        refuse_memory(walk, node);
        return;
    }
    http->answers = grown;
    grown += http->answer_count++;
    *grown = (struct conf_answer){.status = status};
    if (answer_file_read(node->text, &place, grown, walk->findings) == -ENOMEM)
        walk->out_of_memory = true;
}

/* {503: /path}. */
static void walk_answers(struct walk *walk, const struct yaml_node *node, const char *shown,
                         const struct option_row *row, struct conf_http *http)
{
    if (node->kind != YAML_MAPPING && !(node->kind == YAML_SCALAR && !*node->text)) {
        refuse_row(walk, node, shown, row, NULL);
        return;
    }
    for (const struct yaml_node *child = node->first; child && !is_over(walk); child = child->next) {
        char key[SHOWN];
        compose(key, "%s.%.32s", shown, child->key);
        const struct yaml_node *first = yaml_get(node, child->key);
        struct place place = place_of_key(walk, child, key);
        uint16_t status = conf_answer_status(child->key);
        if (first != child)
            refuse_again(walk, child, key, first);
        else if (status == 0)
            assign_refuse_row(&place, "a status that the proxy never answers with", row, NULL,
                              walk->findings);
        else
            walk_answer(walk, child, key, status, http);
    }
}

static void walk_reference(struct walk *walk, const struct yaml_node *node, const char *shown,
                           const struct option_row *row, struct conf_frontend *frontend)
{
    const struct conf *conf = walk->conf;
    if (node->kind == YAML_SCALAR)
        for (size_t i = 0; i < conf->backend_count; i++) {
            if (conf->backends[i].name && strcmp(conf->backends[i].name, node->text) == 0) {
                frontend->backend = i;
                return;
            }
        }
    refuse_row(walk, node, shown, row, NULL);
}

static bool has_settable_action(const struct option_row *row)
{
    return row->deadline < DEADLINE_COUNT && row->scope == SCOPE_DEADLINES &&
           deadline_row(row->deadline)->settable_action;
}

static void walk_value(struct walk *walk, const struct yaml_node *node, const char *shown,
                       const struct option_row *row, void *object)
{
    if (row->type == OPTION_DEADLINES) {
        struct conf_frontend *frontend = object;
        const struct section section = {"deadlines.", shown, &frontend->deadlines};
        walk_mapping(walk, node, &section);
    } else if (row->type == OPTION_ANSWERS) {
        struct conf_frontend *frontend = object;
        walk_answers(walk, node, shown, row, &frontend->http);
    } else if (row->type == OPTION_REFERENCE) {
        walk_reference(walk, node, shown, row, object);
    } else if (option_is_list(row)) {
        walk_list(walk, node, shown, row, object);
    } else if (node->kind == YAML_MAPPING && has_settable_action(row)) {
        walk_deadline(walk, node, shown, row, object);
    } else {
        walk_scalar(walk, node, shown, row, object);
    }
}

/* Mappings. */

/* A mapping inside a mapping: "log", "deadlines", "frontends[].tcp". */
static void walk_subsection(struct walk *walk, const struct yaml_node *node, const char *shown,
                            const char *path, void *object)
{
    char prefix[SHOWN];
    snprintf(prefix, sizeof prefix, "%s.", path);
    struct section section = {prefix, shown, object};
    if (strcmp(path, "deadlines") == 0)
        section.object = &walk->conf->deadlines;
    walk_mapping(walk, node, &section);
}

/* Paths are made of keys, so a key that has the characters of a path is no key. */
static bool is_key(const char *key)
{
    return strlen(key) < OPTION_PATH / 2 && strspn(key, "abcdefghijklmnopqrstuvwxyz_") == strlen(key);
}

static bool is_object_list(const char *path)
{
    return strcmp(path, "backends") == 0 || strcmp(path, "frontends") == 0;
}

static void walk_key(struct walk *walk, const struct yaml_node *mapping, const struct yaml_node *node,
                     const struct section *section)
{
    char path[OPTION_PATH] = "";
    char shown[SHOWN];
    compose(shown, "%s%s%.40s", section->shown, *section->shown ? "." : "", node->key);
    if (is_key(node->key))
        snprintf(path, sizeof path, "%s%s", section->prefix, node->key);
    const struct yaml_node *first = yaml_get(mapping, node->key);
    const struct option_row *row = option_find(path);
    struct place place = place_of_key(walk, node, shown);
    if (first != node)
        refuse_again(walk, node, shown, first);
    else if (option_is_later(path))
        assign_refuse(&place, "a key that is not supported by this version", "nothing, leave it out", NULL,
                      walk->findings);
    else if (row)
        walk_value(walk, node, shown, row, section->object);
    else if (is_object_list(path))
        return; /* walk() comes to them in their order */
    else if (*path && option_is_section(path))
        walk_subsection(walk, node, shown, path, section->object);
    else
        refuse_key(walk, node, shown, section->prefix);
}

static void walk_mapping(struct walk *walk, const struct yaml_node *node, const struct section *section)
{
    bool empty = node->kind == YAML_SCALAR && !*node->text && *section->shown;
    if (node->kind != YAML_MAPPING && !empty) {
        char keys[OPTION_ALLOWED];
        snprintf(keys, sizeof keys, "a mapping of ");
        option_keys(section->prefix, keys + strlen(keys), sizeof keys - strlen(keys));
        refuse(walk, node, *section->shown ? section->shown : NULL, keys);
        return;
    }
    for (const struct yaml_node *child = node->first; child && !is_over(walk); child = child->next)
        walk_key(walk, node, child, section);
}

/* Lists of mappings. */

/* Says which of the scope's keys without a default are missing. */
static void check_required(struct walk *walk, const struct yaml_node *node, const struct section *section,
                           enum option_scope scope)
{
    size_t count = 0;
    const struct option_row *rows = option_table(&count);
    for (size_t i = 0; i < count; i++) {
        const char *key = rows[i].path + strlen(section->prefix);
        if (rows[i].scope != scope || rows[i].fallback)
            continue;
        if (node->kind == YAML_MAPPING && yaml_get(node, key))
            continue;
        char shown[SHOWN];
        compose(shown, "%s.%s", section->shown, key);
        struct place place = place_of(walk, node, shown);
        assign_refuse_row(&place, "nothing", &rows[i], NULL, walk->findings);
    }
}

/* A list of frontends or of backends. */
struct object_list {
    const char *key;
    const char *prefix;
    enum option_scope scope;
    void *(*add)(struct conf *conf);                        /* with defaults, or NULL when out of memory */
    const char *(*name)(const struct conf *conf, size_t i); /* NULL: it has none */
};

static void *add_frontend(struct conf *conf)
{
    size_t count = conf->frontend_count;
    struct conf_frontend *grown = array_extend(conf->frontends, count, sizeof *grown);
    if (!grown)
        return NULL;
    conf->frontends = grown;
    grown[count] = (struct conf_frontend){.deadlines = conf->deadlines};
    conf->frontend_count = count + 1;
    return option_defaults(SCOPE_FRONTEND, &grown[count]) ? NULL : &grown[count];
}

static void *add_backend(struct conf *conf)
{
    size_t count = conf->backend_count;
    struct conf_backend *grown = array_extend(conf->backends, count, sizeof *grown);
    if (!grown)
        return NULL;
    conf->backends = grown;
    grown[count] = (struct conf_backend){0};
    conf->backend_count = count + 1;
    return option_defaults(SCOPE_BACKEND, &grown[count]) ? NULL : &grown[count];
}

static const char *frontend_name(const struct conf *conf, size_t i)
{
    return conf->frontends[i].name;
}

static const char *backend_name(const struct conf *conf, size_t i)
{
    return conf->backends[i].name;
}

/* Backends first: a frontend names one. */
static const struct object_list object_lists[] = {
    {"backends", "backends[].", SCOPE_BACKEND, add_backend, backend_name},
    {"frontends", "frontends[].", SCOPE_FRONTEND, add_frontend, frontend_name},
};

static void check_name(struct walk *walk, const struct yaml_node *item, const char *shown,
                       const struct object_list *list, size_t i)
{
    const char *name = list->name(walk->conf, i);
    for (size_t j = 0; name && j < i; j++) {
        const char *other = list->name(walk->conf, j);
        if (other && strcmp(other, name) == 0) {
            char key[SHOWN];
            compose(key, "%s.name", shown);
            refuse(walk, yaml_get(item, "name"), key, "a name that no other has");
            return;
        }
    }
}

static void walk_object(struct walk *walk, const struct yaml_node *item, const struct object_list *list,
                        size_t i)
{
    char shown[SHOWN];
    compose(shown, "%s[%zu]", list->key, i);
    const struct section section = {list->prefix, shown, list->add(walk->conf)};
    if (!section.object) {
        refuse_memory(walk, item);
        return;
    }
    walk_mapping(walk, item, &section);
    if (item->kind == YAML_MAPPING || (item->kind == YAML_SCALAR && !*item->text))
        check_required(walk, item, &section, list->scope);
    check_name(walk, item, shown, list, i);
}

static void walk_object_list(struct walk *walk, const struct yaml_node *root, const struct object_list *list)
{
    static const char allowed[] = "a list of 1 to 1024 mappings";
    const struct yaml_node *node = yaml_get(root, list->key);
    struct place place = place_of(walk, root, list->key);
    if (!node) {
        assign_refuse(&place, "nothing", allowed, NULL, walk->findings);
        return;
    }
    if (node->kind != YAML_SEQUENCE || !node->first) {
        refuse(walk, node, list->key, allowed);
        return;
    }
    size_t i = 0;
    for (const struct yaml_node *item = node->first; item && !is_over(walk); item = item->next, i++) {
        if (i == LIST_MAX) {
            refuse(walk, item, list->key, allowed);
            return;
        }
        walk_object(walk, item, list, i);
    }
}

/* What was read without an error has a node for each of its parts, in the same order. */
static const struct yaml_node *nth(const struct yaml_node *node, size_t n)
{
    const struct yaml_node *child = node->first;
    while (child && n-- > 0)
        child = child->next;
    return child;
}

struct loop_walk {
    struct walk *walk;
    const struct yaml_node *root;
};

static void on_loop(void *context, const struct loop *loop)
{
    const struct loop_walk *at = context;
    const struct yaml_node *servers = yaml_get(nth(yaml_get(at->root, "backends"), loop->backend), "servers");
    bool is_list = servers->kind == YAML_SEQUENCE;
    char shown[SHOWN];
    compose(shown, is_list ? "backends[%zu].servers[%zu]" : "backends[%zu].servers", loop->backend,
            loop->server);
    struct place place = place_of(at->walk, is_list ? nth(servers, loop->server) : servers, shown);
    loop_refuse(at->walk->conf, loop, &place, at->walk->findings);
}

int walk(const char *name, const struct yaml *yaml, struct conf *conf, struct findings *findings)
{
    assert(conf->frontend_count == 0 && conf->backend_count == 0);
    struct walk walk = {.name = name, .conf = conf, .findings = findings};
    const struct section top = {"", "", conf};
    size_t errors = findings->errors;
    walk_mapping(&walk, yaml->root, &top);
    for (size_t i = 0; i < sizeof object_lists / sizeof object_lists[0]; i++)
        if (yaml->root->kind == YAML_MAPPING && !is_over(&walk))
            walk_object_list(&walk, yaml->root, &object_lists[i]);
    if (findings->errors == errors) {
        struct loop_walk at = {&walk, yaml->root};
        if (loop_find(conf, on_loop, &at))
            refuse_memory(&walk, yaml->root);
    }
    if (walk.out_of_memory)
        return -ENOMEM;
    return findings->errors > errors ? ERROR_CONFIG : 0;
}
