/* Fuzzes the configuration loader. Whatever the bytes are, it either gives a configuration that prints as a
 * file which loads as the same, or says why not: at least one error, each at a place within the file. Never
 * both. */

#include "conf/load.h"
#include "conf/print.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* libfyaml 0.7.12 keeps 4 KiB of a text with many escapes. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libfyaml.so";
}

static const struct conf_source no_flags;

/* How many lines there are, the one after the last newline included. */
static size_t count_lines(const char *bytes, size_t size)
{
    size_t lines = 1;
    for (size_t i = 0; i < size; i++)
        lines += bytes[i] == '\n';
    return lines;
}

/* The length of that line in bytes. */
static size_t line_length(const char *bytes, size_t size, unsigned line)
{
    const char *at = bytes;
    const char *end = bytes + size;
    for (unsigned i = 1; i < line; i++)
        at = (const char *)memchr(at, '\n', (size_t)(end - at)) + 1;
    const char *newline = at < end ? memchr(at, '\n', (size_t)(end - at)) : NULL;
    return (size_t)((newline ? newline : end) - at);
}

static void check_findings(const struct findings *findings, const char *bytes, size_t size)
{
    assert(findings->errors > 0 && findings->count > 0);
    assert(findings->count <= FINDINGS_MAX);
    size_t lines = count_lines(bytes, size);
    for (size_t i = 0; i < findings->count; i++) {
        const struct finding *finding = &findings->rows[i];
        assert(!finding->warning);
        assert(finding->line >= 1 && finding->line <= lines);
        assert(finding->column >= 1 && finding->column <= line_length(bytes, size, finding->line) + 1);
        assert(strncmp(finding->text, "fuzz:", 5) == 0);
        for (const char *at = finding->text; *at; at++)
            assert((unsigned char)*at >= ' ' && *at != 0x7f);
    }
}

static char *print(const struct conf *conf, size_t *size)
{
    char *text = NULL;
    FILE *file = open_memstream(&text, size);
    assert(file);
    conf_print(conf, file);
    fclose(file);
    return text;
}

static void check_round_trip(const struct conf *conf)
{
    size_t size = 0;
    size_t size_again = 0;
    struct conf *again = NULL;
    struct findings findings = {0};
    char *text = print(conf, &size);
    /* what is printed has everything written out, and may so outgrow the bound */
    if (size > 1024 * 1024 / 2 || conf_load_bytes("fuzz", text, size, &no_flags, &again, &findings) != 0) {
        assert(size > 4096);
    } else {
        char *text_again = print(again, &size_again);
        assert(size == size_again && memcmp(text, text_again, size) == 0);
        free(text_again);
    }
    conf_free(again);
    findings_free(&findings);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *bytes = (const char *)data;
    struct findings findings = {0};
    struct conf *conf = NULL;
    int error = conf_load_bytes("fuzz", bytes, size, &no_flags, &conf, &findings);
    assert((error == 0) == (conf != NULL));
    if (error) {
        check_findings(&findings, bytes, size);
    } else {
        assert(findings.count == 0 && findings.errors == 0);
        check_round_trip(conf);
    }
    conf_free(conf);
    findings_free(&findings);
    return 0;
}
