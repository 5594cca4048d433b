#include "conf/yaml.h"

#include "reaper/error.h"

#include <assert.h>
#include <errno.h>
#include <libfyaml.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Screening: what libfyaml need not see. */

struct screen {
    unsigned line, column;
    unsigned blank_lines; /* ended just before this line */
    bool blank;           /* this line, so far */
};

/* The length of the UTF-8 character at `at`, 0 when it is none (RFC 3629 section 4) or is a control character
 * that YAML forbids (YAML 1.2 section 5.1). */
static size_t text_length(const unsigned char *at, const unsigned char *end)
{
    if (*at < 0x80)
        return (*at >= ' ' && *at != 0x7f) || *at == '\t' || *at == '\n' ||
               (*at == '\r' && at + 1 < end && at[1] == '\n');
    size_t length = *at >= 0xf0 ? 4 : *at >= 0xe0 ? 3 : 2;
    if (*at < 0xc2 || *at > 0xf4 || (size_t)(end - at) < length)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((at[i] & 0xc0) != 0x80)
            return 0;
    bool too_long = (*at == 0xe0 && at[1] < 0xa0) || (*at == 0xf0 && at[1] < 0x90);
    bool surrogate = *at == 0xed && at[1] >= 0xa0;
    bool beyond = *at == 0xf4 && at[1] >= 0x90;
    return too_long || surrogate || beyond ? 0 : length;
}

/* Takes note of one character; NULL, or what is wrong with it. */
static const char *screen_step(struct screen *screen, unsigned char first)
{
    if (first == '\n') {
        screen->blank_lines = screen->blank ? screen->blank_lines + 1 : 0;
        screen->line++;
        screen->column = 0;
        screen->blank = true;
        return screen->blank_lines > YAML_BLANK_LINES_MAX
                   ? "found too many blank lines; allowed: 256 in a row"
                   : NULL;
    }
    if (first == '%' && screen->column == 1)
        return "found a line that begins with '%'; YAML directives are not supported";
    if (screen->column > YAML_LINE_MAX)
        return "found a line that is too long; allowed: 4096 characters";
    if (first != ' ' && first != '\t' && first != '\r')
        screen->blank = false;
    return NULL;
}

/* Leaves the place behind the last byte in *screen. */
static int screen_bytes(const char *name, const char *bytes, size_t size, struct screen *screen,
                        struct findings *findings)
{
    *screen = (struct screen){.line = 1, .column = 1, .blank = true};
    const unsigned char *at = (const unsigned char *)bytes;
    const unsigned char *end = at + size;
    if (size > YAML_SIZE_MAX) {
        finding_error(findings, name, 1, 1, "found more than 1MiB; allowed: a file of up to 1MiB");
        return ERROR_CONFIG;
    }
    while (at < end) {
        size_t length = text_length(at, end);
        const char *why = length == 0 ? "" : screen_step(screen, *at);
        if (length == 0)
            finding_error(findings, name, screen->line, screen->column,
                          "found the byte 0x%02x; allowed: text in UTF-8 without control characters", *at);
        else if (why)
            finding_error(findings, name, screen->line, screen->column, "%s", why);
        if (why)
            return ERROR_CONFIG;
        at += length;
        screen->column++;
    }
    return 0;
}

/* Building: from libfyaml's events to nodes. */

struct builder {
    const char *name;
    struct yaml *yaml;
    struct findings *findings;
    struct yaml_node *open[YAML_DEPTH_MAX]; /* collections that have not ended */
    size_t depth;
    char *key;                     /* of the next value; owned until a node takes it */
    unsigned key_line, key_column; /* of the last key */
    unsigned line, column;         /* of the last event that had a place */
    unsigned documents;
    unsigned end_line, end_column; /* behind the last byte; libfyaml can point beyond it */
};

static int refuse(const struct builder *builder, const char *why)
{
    finding_error(builder->findings, builder->name, builder->line, builder->column, "%s", why);
    return ERROR_CONFIG;
}

static int refuse_memory(const struct builder *builder)
{
    refuse(builder, "out of memory");
    return -ENOMEM;
}

static void move_to(struct builder *builder, unsigned line, unsigned column)
{
    bool beyond = line > builder->end_line || (line == builder->end_line && column > builder->end_column);
    builder->line = beyond ? builder->end_line : line;
    builder->column = beyond ? builder->end_column : column;
}

/* The collection that the next node belongs to; NULL at the root. */
static struct yaml_node *parent_of_next(const struct builder *builder)
{
    return builder->depth > 0 ? builder->open[builder->depth - 1] : NULL;
}

static bool is_key_next(const struct builder *builder)
{
    const struct yaml_node *parent = parent_of_next(builder);
    return parent && parent->kind == YAML_MAPPING && !builder->key;
}

static void link_node(struct builder *builder, struct yaml_node *node)
{
    struct yaml_node *parent = parent_of_next(builder);
    if (!parent)
        builder->yaml->root = node;
    else if (parent->last)
        parent->last->next = node;
    else
        parent->first = node;
    if (parent)
        parent->last = node;
}

/* Takes over `text` and the builder's key. NULL when out of memory; `text` is then still the caller's. */
static struct yaml_node *add_node(struct builder *builder, enum yaml_kind kind, char *text)
{
    struct yaml_node *node = malloc(sizeof *node);
    if (!node)
        return NULL;
    *node = (struct yaml_node){
        .kind = kind,
        .line = builder->line,
        .column = builder->column,
        .text = text,
        .key = builder->key,
        .key_line = builder->key ? builder->key_line : builder->line,
        .key_column = builder->key ? builder->key_column : builder->column,
        .allocated = builder->yaml->allocated,
    };
    builder->yaml->allocated = node;
    builder->key = NULL;
    link_node(builder, node);
    return node;
}

static int open_collection(struct builder *builder, enum yaml_kind kind)
{
    if (is_key_next(builder))
        return refuse(builder, "found a list or a mapping as a key; allowed: a word");
    if (builder->depth == YAML_DEPTH_MAX)
        return refuse(builder, "found too many levels; allowed: 16");
    struct yaml_node *node = add_node(builder, kind, NULL);
    if (!node)
        return refuse_memory(builder);
    builder->open[builder->depth++] = node;
    return 0;
}

static int add_scalar(struct builder *builder, struct fy_token *token)
{
    size_t length = 0;
    const char *bytes = token ? fy_token_get_text(token, &length) : "";
    if (!bytes)
        return refuse_memory(builder);
    if (memchr(bytes, '\0', length))
        return refuse(builder, "found a NUL character; allowed: text");
    char *text = strndup(bytes, length);
    if (!text)
        return refuse_memory(builder);
    if (is_key_next(builder)) {
        builder->key = text;
        builder->key_line = builder->line;
        builder->key_column = builder->column;
        return 0;
    }
    if (!add_node(builder, YAML_SCALAR, text)) {
        free(text);
        return refuse_memory(builder);
    }
    return 0;
}

/* What is legal in YAML but has no business in a configuration; NULL when there is none. */
static const char *unwanted(const struct builder *builder, const struct fy_event *event)
{
    static const char anchor[] = "found an anchor or an alias; allowed: the value written out";
    static const char tag[] = "found a tag; allowed: the value alone";
    switch (event->type) {
    case FYET_DOCUMENT_START:
        return builder->documents > 0 ? "found a second document; allowed: one" : NULL;
    case FYET_ALIAS:
        return anchor;
    case FYET_SCALAR:
        return event->scalar.anchor ? anchor : event->scalar.tag ? tag : NULL;
    case FYET_SEQUENCE_START:
        return event->sequence_start.anchor ? anchor : event->sequence_start.tag ? tag : NULL;
    case FYET_MAPPING_START:
        return event->mapping_start.anchor ? anchor : event->mapping_start.tag ? tag : NULL;
    default:
        return NULL;
    }
}

static void note_place(struct builder *builder, struct fy_event *event)
{
    const struct fy_mark *mark = fy_event_start_mark(event);
    if (!mark || mark->line < 0 || mark->column < 0)
        return; /* a value left out: it is where its key is */
    move_to(builder, (unsigned)mark->line + 1, (unsigned)mark->column + 1);
}

/* libfyaml puts the place of a quoted text behind the quote. */
static void step_back_to_quote(struct builder *builder, struct fy_token *token)
{
    enum fy_scalar_style style = token ? fy_scalar_token_get_style(token) : FYSS_PLAIN;
    if ((style == FYSS_SINGLE_QUOTED || style == FYSS_DOUBLE_QUOTED) && builder->column > 1)
        builder->column--;
}

static int build_event(struct builder *builder, struct fy_event *event)
{
    note_place(builder, event);
    const char *why = unwanted(builder, event);
    if (why)
        return refuse(builder, why);
    switch (event->type) {
    case FYET_DOCUMENT_START:
        builder->documents++;
        return 0;
    case FYET_SCALAR:
        step_back_to_quote(builder, event->scalar.value);
        return add_scalar(builder, event->scalar.value);
    case FYET_SEQUENCE_START:
        return open_collection(builder, YAML_SEQUENCE);
    case FYET_MAPPING_START:
        return open_collection(builder, YAML_MAPPING);
    case FYET_SEQUENCE_END:
    case FYET_MAPPING_END:
        if (builder->depth == 0)
            return refuse(builder, "found no valid YAML");
        builder->depth--;
        return 0;
    default:
        return 0;
    }
}

/* The first error that libfyaml collected. */
static int refuse_syntax(struct builder *builder, struct fy_diag *diag)
{
    void *iterator = NULL;
    const struct fy_diag_error *error = fy_diag_errors_iterate(diag, &iterator);
    if (!error)
        return refuse(builder, "found no valid YAML");
    if (error->line > 0 && error->column > 0)
        move_to(builder, (unsigned)error->line, (unsigned)error->column);
    finding_error(builder->findings, builder->name, builder->line, builder->column, "found no valid YAML: %s",
                  error->msg);
    return ERROR_CONFIG;
}

static int build(struct builder *builder, struct fy_parser *parser, struct fy_diag *diag)
{
    int error = 0;
    struct fy_event *event = NULL;
    while (!error && (event = fy_parser_parse(parser))) {
        error = build_event(builder, event);
        fy_parser_event_free(parser, event);
    }
    if (!error && fy_parser_get_stream_error(parser))
        error = refuse_syntax(builder, diag);
    if (!error && !builder->yaml->root)
        error = add_scalar(builder, NULL);
    return error;
}

/* libfyaml's parser with errors collected. Printed ones, even to a callback, come with the line they are
 * about, and 0.7.12 overruns a buffer when that line is long. */
static int parse(struct builder *builder, const char *bytes, size_t size)
{
    const struct fy_diag_cfg diag_config = {.level = FYET_ERROR, .module_mask = UINT_MAX};
    struct fy_diag *diag = fy_diag_create(&diag_config);
    if (!diag)
        return refuse_memory(builder);
    fy_diag_set_collect_errors(diag, true);
    const struct fy_parse_cfg config = {
        .flags = FYPCF_QUIET | FYPCF_COLLECT_DIAG | FYPCF_DEFAULT_VERSION_1_2 | FYPCF_JSON_NONE,
        .diag = diag,
    };
    int error = -ENOMEM;
    struct fy_parser *parser = fy_parser_create(&config);
    if (parser && fy_parser_set_string(parser, bytes, size) == 0)
        error = build(builder, parser, diag);
    else
        refuse_memory(builder);
    fy_diag_set_collect_errors(diag, false); /* frees them; fy_diag_unref() does not */
    if (parser)
        fy_parser_destroy(parser);
    fy_diag_unref(diag);
    return error;
}

int yaml_parse(const char *name, const char *bytes, size_t size, struct yaml *yaml, struct findings *findings)
{
    *yaml = (struct yaml){0};
    struct screen screen;
    int error = screen_bytes(name, bytes, size, &screen, findings);
    if (error)
        return error;
    struct builder builder = {
        .name = name,
        .yaml = yaml,
        .findings = findings,
        .line = 1,
        .column = 1,
        .end_line = screen.line,
        .end_column = screen.column,
    };
    error = parse(&builder, bytes, size);
    free(builder.key);
    if (error)
        yaml_free(yaml);
    return error;
}

struct yaml_node *yaml_get(const struct yaml_node *mapping, const char *key)
{
    assert(mapping->kind == YAML_MAPPING);
    for (struct yaml_node *node = mapping->first; node; node = node->next)
        if (strcmp(node->key, key) == 0)
            return node;
    return NULL;
}

void yaml_free(struct yaml *yaml)
{
    struct yaml_node *node = yaml->allocated;
    while (node) {
        struct yaml_node *before = node->allocated;
        free(node->text);
        free(node->key);
        free(node);
        node = before;
    }
    *yaml = (struct yaml){0};
}
