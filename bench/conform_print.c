#include "bench/conform_print.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>

static const char *mode_of(const struct conform_report *report)
{
    return report->http ? "http" : "tcp";
}

static bool is_bad(enum conform_verdict verdict)
{
    return verdict == CONFORM_FAIL || verdict == CONFORM_DESTROYS_DATA;
}

/* ---- text ---- */

void conform_print_text(const struct conform_report *report, FILE *out)
{
    for (size_t i = 0; i < report->count; i++) {
        const struct conform_result *result = &report->results[i];
        if (result->verdict == CONFORM_PASS)
            continue;
        fprintf(out, "%-14s %s\n%15s%s\n", conform_verdict_name(result->verdict), result->of->name, "",
                result->why);
        if (is_bad(result->verdict))
            fprintf(out, "%15sgood: %s (%s)\n", "", result->of->good, result->of->origin);
        if (result->verdict == CONFORM_OPINION)
            fprintf(out, "%15seither: %s\n%15sor: %s\n", "", result->of->good, "", result->of->opinion);
    }
    fprintf(out, "mode %s: %zu cases", mode_of(report), report->count);
    for (enum conform_verdict verdict = 0; verdict < CONFORM_VERDICT_COUNT; verdict++)
        fprintf(out, ", %u %s", report->of[verdict], conform_verdict_name(verdict));
    fputc('\n', out);
}

/* ---- JSON ---- */

static json_t *case_json(const struct conform_result *result)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s?, s:I}", "name", result->of->name, "verdict",
                     conform_verdict_name(result->verdict), "why", result->why, "origin", result->of->origin,
                     "good", result->of->good, "opinion", result->of->opinion, "ms",
                     (json_int_t)result->took_ms);
}

int conform_print_json(const struct conform_report *report, FILE *out)
{
    json_t *cases = json_array();
    json_t *counts = json_object();
    for (size_t i = 0; i < report->count; i++)
        json_array_append_new(cases, case_json(&report->results[i]));
    for (enum conform_verdict verdict = 0; verdict < CONFORM_VERDICT_COUNT; verdict++)
        json_object_set_new(counts, conform_verdict_name(verdict), json_integer(report->of[verdict]));
    json_t *root = json_pack("{s:s, s:b, s:o, s:o}", "mode", mode_of(report), "direct", report->is_direct,
                             "counts", counts, "cases", cases);
    char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
    json_decref(root);
    if (!text)
        return -ENOMEM;
    fprintf(out, "%s\n", text);
    free(text);
    return 0;
}

/* ---- TAP ---- */

void conform_print_tap(const struct conform_report *report, FILE *out)
{
    fprintf(out, "TAP version 13\n1..%zu\n", report->count);
    for (size_t i = 0; i < report->count; i++) {
        const struct conform_result *result = &report->results[i];
        fprintf(out, "%s %zu - %s", is_bad(result->verdict) ? "not ok" : "ok", i + 1, result->of->name);
        if (result->verdict == CONFORM_SKIP)
            fprintf(out, " # SKIP %s", result->why);
        fputc('\n', out);
        if (result->verdict != CONFORM_PASS && result->verdict != CONFORM_SKIP)
            fprintf(out, "# %s: %s\n", conform_verdict_name(result->verdict), result->why);
    }
}

/* ---- HTML ---- */

static void escape(const char *text, FILE *out)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else if (*text == '"')
            fputs("&quot;", out);
        else
            fputc(*text, out);
    }
}

static void cell(const char *text, FILE *out)
{
    fputs("<td>", out);
    escape(text, out);
    fputs("</td>", out);
}

static const char style[] =
    ":root{color-scheme:light dark}"
    "body{font:15px/1.4 system-ui,sans-serif;max-width:75em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;width:100%}"
    "td,th{text-align:left;vertical-align:top;padding:.3em .6em;border-bottom:1px solid #8884}"
    ".pass{color:#1a7f37}.fail{color:#bc4c00}.destroys-data{color:#cf222e;font-weight:bold}"
    ".opinion{color:#6639ba}.skip{color:#888}"
    "@media(prefers-color-scheme:dark){.pass{color:#3fb950}.fail{color:#f0883e}"
    ".destroys-data{color:#ff7b72}.opinion{color:#bc8cff}}";

static void row(const struct conform_result *result, FILE *out)
{
    const char *verdict = conform_verdict_name(result->verdict);
    fprintf(out, "<tr><td><code>%s</code></td><td class=\"%s\">%s</td>", result->of->name, verdict, verdict);
    cell(result->why, out);
    fputs("<td>", out);
    escape(result->of->good, out);
    if (result->of->opinion) {
        fputs("<br><i>Or:</i> ", out);
        escape(result->of->opinion, out);
    }
    fputs("</td>", out);
    cell(result->of->origin, out);
    fprintf(out, "<td>%.1f s</td></tr>\n", (double)result->took_ms / 1000);
}

void conform_print_html(const struct conform_report *report, const char *title, FILE *out)
{
    fputs("<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Teardown: ", out);
    escape(title, out);
    fprintf(out, "</title>\n<style>%s</style>\n<h1>", style);
    escape(title, out);
    fprintf(out, ", mode %s</h1>\n<p>", mode_of(report));
    for (enum conform_verdict verdict = 0; verdict < CONFORM_VERDICT_COUNT; verdict++)
        fprintf(out, "<span class=\"%s\">%u %s</span> ", conform_verdict_name(verdict), report->of[verdict],
                conform_verdict_name(verdict));
    fputs("</p>\n<table>\n<tr><th>case<th>verdict<th>what happened<th>what a good proxy does<th>from<th>took"
          "</tr>\n",
          out);
    for (size_t i = 0; i < report->count; i++)
        row(&report->results[i], out);
    fputs("</table>\n</html>\n", out);
}
