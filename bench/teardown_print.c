#include "bench/teardown_print.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

enum { BAR_COLUMNS = 40, SAMPLES_PRINTED = 400 };

static const struct {
    const char *name;
    double share;
} percentiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p99.9", 0.999}, {"max", 1.0}};

enum { PERCENTILES = sizeof percentiles / sizeof *percentiles };

static double ms(uint64_t ns)
{
    return (double)ns / 1e6;
}

/* ---- text ---- */

static void row_print(const char *name, const struct histogram *histogram, FILE *out)
{
    fprintf(out, "%-22s", name);
    for (int i = 0; i < PERCENTILES && histogram->count; i++)
        fprintf(out, " %10.3f", ms(histogram_quantile(histogram, percentiles[i].share)));
    for (int i = 0; i < PERCENTILES && !histogram->count; i++)
        fprintf(out, " %10s", "-");
    fprintf(out, " %8llu\n", (unsigned long long)histogram->count);
}

static void ended_print(const char *name, const struct teardown_ended *ended, FILE *out)
{
    double all = (double)(ended->fin + ended->reset + ended->never + ended->kept + ended->unseen);
    if (all == 0)
        return;
    fprintf(out, "%-22s %8.2f %% FIN %8.2f %% RST %8.2f %% never", name, 100 * (double)ended->fin / all,
            100 * (double)ended->reset / all, 100 * (double)ended->never / all);
    if (ended->kept)
        fprintf(out, " %8.2f %% kept for others", 100 * (double)ended->kept / all);
    if (ended->unseen)
        fprintf(out, "   (%llu closed by close(): not seen)", (unsigned long long)ended->unseen);
    fputc('\n', out);
}

/* A bar each factor of two that has a value. */
static void bars_print(const char *name, const struct histogram *histogram, FILE *out)
{
    uint64_t most = 0, of[64] = {0};
    int first = 64, last = -1;
    if (histogram->count == 0)
        return;
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++) {
        if (histogram->of[bucket] == 0)
            continue;
        int power = histogram_bucket_top(bucket) < 2 ? 0 : (int)log2((double)histogram_bucket_top(bucket));
        of[power] += histogram->of[bucket];
        most = of[power] > most ? of[power] : most;
        first = power < first ? power : first;
        last = power > last ? power : last;
    }
    fprintf(out, "\n%s, ms\n", name);
    for (int power = first; power <= last; power++) {
        int columns = (int)((of[power] * BAR_COLUMNS + most - 1) / most);
        fprintf(out, "%10.3f .. %10.3f |", ldexp(1e-6, power), ldexp(1e-6, power + 1));
        for (int i = 0; i < columns; i++)
            fputc('#', out);
        fprintf(out, "%*s %llu\n", BAR_COLUMNS - columns, "", (unsigned long long)of[power]);
    }
}

void teardown_print_text(const struct teardown_options *options, const struct teardown_report *report,
                         const struct teardown_report *direct, FILE *out)
{
    fprintf(out, "mode %s, %u connections at %u/s, %s closes%s, backend %s\n\n%-22s",
            options->http ? "http" : "tcp", options->connections, options->rate,
            teardown_closer_name(options->closer), options->half_close ? " by FIN and reads on" : "",
            teardown_leak_name(options->leak), "ms");
    for (int i = 0; i < PERCENTILES; i++)
        fprintf(out, " %10s", percentiles[i].name);
    fprintf(out, " %8s\n", "count");
    row_print("FIN relay", &report->fin_relay, out);
    if (direct)
        row_print("  without a proxy", &direct->fin_relay, out);
    if (options->leak != TEARDOWN_HEALTHY)
        row_print("leak residency", &report->residency, out);
    else
        row_print("full teardown", &report->teardown, out);
    if (direct && options->leak == TEARDOWN_HEALTHY)
        row_print("  without a proxy", &direct->teardown, out);
    row_print("clients' lateness", &report->lag, out);
    fputc('\n', out);
    ended_print("client leg ended by", &report->client, out);
    ended_print("backend leg ended by", &report->backend, out);
    if (options->leak != TEARDOWN_HEALTHY)
        fprintf(out,
                "%-22s %8llu leaked, %llu are still in CLOSE_WAIT, %llu left it, says the kernel's table\n",
                "leaks", (unsigned long long)report->leaked, (unsigned long long)report->still,
                (unsigned long long)report->verified);
    fprintf(
        out,
        "%-22s %8.1f per 10,000 exchanges (%llu reset, %llu cut, %llu wrong, of %llu whole; %llu refused)\n",
        "harm", teardown_harm(report), (unsigned long long)report->resets, (unsigned long long)report->cuts,
        (unsigned long long)report->wrongs, (unsigned long long)report->exchanged,
        (unsigned long long)report->refused);
    bars_print("FIN relay", &report->fin_relay, out);
    bars_print(options->leak == TEARDOWN_HEALTHY ? "full teardown" : "leak residency",
               options->leak == TEARDOWN_HEALTHY ? &report->teardown : &report->residency, out);
}

/* ---- JSON ---- */

static json_t *histogram_json(const struct histogram *histogram)
{
    json_t *object = json_pack("{s:I}", "count", (json_int_t)histogram->count);
    for (int i = 0; i < PERCENTILES; i++)
        json_object_set_new(object, percentiles[i].name,
                            histogram->count
                                ? json_real(ms(histogram_quantile(histogram, percentiles[i].share)))
                                : json_null());
    return object;
}

static json_t *ended_json(const struct teardown_ended *ended)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "fin", (json_int_t)ended->fin, "rst",
                     (json_int_t)ended->reset, "never", (json_int_t)ended->never, "kept",
                     (json_int_t)ended->kept, "unseen", (json_int_t)ended->unseen);
}

/* Thinned out to what a picture needs. */
static json_t *samples_json(const struct teardown_report *report)
{
    json_t *array = json_array();
    size_t step = report->sample_count / SAMPLES_PRINTED + 1;
    for (size_t i = 0; i < report->sample_count; i += step)
        json_array_append_new(array, json_pack("[f, I]", ms(report->samples[i].at_ns),
                                               (json_int_t)report->samples[i].close_wait));
    return array;
}

static json_t *report_json(const struct teardown_report *report)
{
    return json_pack(
        "{s:o, s:o, s:o, s:o, s:{s:o, s:o}, s:{s:f, s:I, s:I, s:I, s:I, s:I}, s:{s:I, s:I, s:I}, s:o}",
        "fin_relay_ms", histogram_json(&report->fin_relay), "teardown_ms", histogram_json(&report->teardown),
        "leak_residency_ms", histogram_json(&report->residency), "lag_ms", histogram_json(&report->lag),
        "ended", "client", ended_json(&report->client), "backend", ended_json(&report->backend), "harm",
        "per_10000", teardown_harm(report), "exchanges", (json_int_t)report->exchanged, "reset",
        (json_int_t)report->resets, "cut", (json_int_t)report->cuts, "wrong", (json_int_t)report->wrongs,
        "refused", (json_int_t)report->refused, "leaks", "leaked", (json_int_t)report->leaked, "still",
        (json_int_t)report->still, "verified", (json_int_t)report->verified, "close_wait",
        samples_json(report));
}

int teardown_print_json(const struct teardown_options *options, const struct teardown_report *report,
                        const struct teardown_report *direct, FILE *out)
{
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:b, s:I, s:I}", "mode", options->http ? "http" : "tcp", "who_closes",
                  teardown_closer_name(options->closer), "leak", teardown_leak_name(options->leak),
                  "half_close", options->half_close, "connections", (json_int_t)options->connections, "rate",
                  (json_int_t)options->rate);
    json_t *figures = report_json(report);
    if (!root || !figures || json_object_update(root, figures) < 0) {
        json_decref(root);
        json_decref(figures);
        return -ENOMEM;
    }
    json_decref(figures);
    json_object_set_new(root, "direct", direct ? report_json(direct) : json_null());
    char *text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    if (!text)
        return -ENOMEM;
    fprintf(out, "%s\n", text);
    free(text);
    return 0;
}
