#include "bench/plot.h"

#include <math.h>

enum { WIDTH = 760, PANEL = 220, LEFT = 60, RIGHT = 20, TOP = 60, GAP = 70, STEPS = 400 };

static const char style[] =
    "text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-size:16px;font-weight:600}"
    ".axis{stroke:#8c959f;stroke-width:1}.grid{stroke:#d0d7de;stroke-width:1;stroke-dasharray:2 3}"
    "path{fill:none;stroke-width:2}.a{stroke:#0969da}.b{stroke:#1a7f37}.c{stroke:#cf222e}"
    "rect.a{fill:#0969da}rect.b{fill:#1a7f37}rect.c{fill:#cf222e}.back{fill:#ffffff}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#30363d}.axis{stroke:#6e7681}"
    ".a{stroke:#58a6ff}.b{stroke:#3fb950}.c{stroke:#ff7b72}rect.a{fill:#58a6ff}rect.b{fill:#3fb950}"
    "rect.c{fill:#ff7b72}.back{fill:#0d1117}}";

static void escape(const char *text, FILE *out)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else
            fputc(*text, out);
    }
}

static void label(FILE *out, double x, double y, const char *anchor, const char *text)
{
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">", x, y, anchor);
    escape(text, out);
    fputs("</text>\n", out);
}

static void frame(FILE *out, double top)
{
    fprintf(out, "<path class=\"axis\" d=\"M%d %.1fV%.1fH%d\"/>\n", LEFT, top, top + PANEL, WIDTH - RIGHT);
}

/* ---- cumulative shares ---- */

static const double least_ns = 1e3, most_ns = 1e11; /* 1 us to 100 s */

static double x_of_ns(double ns)
{
    double share = (log10(ns) - log10(least_ns)) / (log10(most_ns) - log10(least_ns));
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    return LEFT + share * (WIDTH - LEFT - RIGHT);
}

static void shares_axes(FILE *out, double top)
{
    static const struct {
        double ns;
        const char *text;
    } ticks[] = {{1e3, "1 us"},   {1e4, "10 us"}, {1e5, "100 us"}, {1e6, "1 ms"},  {1e7, "10 ms"},
                 {1e8, "100 ms"}, {1e9, "1 s"},   {1e10, "10 s"},  {1e11, "100 s"}};
    frame(out, top);
    for (size_t i = 0; i < sizeof ticks / sizeof *ticks; i++) {
        double x = x_of_ns(ticks[i].ns);
        fprintf(out, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/>\n", x, top, top + PANEL);
        label(out, x, top + PANEL + 18, "middle", ticks[i].text);
    }
    label(out, LEFT - 8, top + 10, "end", "100 %");
    label(out, LEFT - 8, top + PANEL, "end", "0");
}

static void shares_curve(FILE *out, const struct histogram *histogram, char class, double top)
{
    if (histogram->count == 0)
        return;
    fprintf(out, "<path class=\"%c\" d=\"M%.1f %.1f", class, x_of_ns(least_ns), top + PANEL);
    for (int i = 0; i <= STEPS; i++) {
        double ns = least_ns * pow(most_ns / least_ns, (double)i / STEPS);
        double share = (double)histogram_count_to(histogram, (uint64_t)ns) / (double)histogram->count;
        fprintf(out, "L%.1f %.1f", x_of_ns(ns), top + PANEL - share * PANEL);
    }
    fputs("\"/>\n", out);
}

static void legend(FILE *out, double *x, double y, char class, const char *text)
{
    fprintf(out, "<rect class=\"%c\" x=\"%.1f\" y=\"%.1f\" width=\"12\" height=\"12\" stroke=\"none\"/>\n",
            class, *x, y - 11);
    label(out, *x + 18, y, "start", text);
    *x += 150;
}

/* ---- CLOSE_WAIT over time ---- */

static void close_wait_panel(FILE *out, const struct teardown_report *report, double top)
{
    uint32_t most = 1;
    uint64_t last_ns = 1;
    char text[32];
    for (size_t i = 0; i < report->sample_count; i++) {
        const struct teardown_sample *sample = &report->samples[i];
        most = sample->close_wait > most ? sample->close_wait : most;
        last_ns = sample->at_ns > last_ns ? sample->at_ns : last_ns;
    }
    frame(out, top);
    snprintf(text, sizeof text, "%u", most);
    label(out, LEFT - 8, top + 10, "end", text);
    label(out, LEFT - 8, top + PANEL, "end", "0");
    for (int i = 0; i <= 4; i++) {
        snprintf(text, sizeof text, "%.1f s", (double)last_ns * i / 4e9);
        label(out, LEFT + (WIDTH - LEFT - RIGHT) * i / 4.0, top + PANEL + 18, i == 4 ? "end" : "middle",
              text);
    }
    label(out, LEFT, top - 10, "start", "backend's sockets in CLOSE_WAIT over time");
    if (report->sample_count == 0)
        return;
    fputs("<path class=\"c\" d=\"", out);
    for (size_t i = 0; i < report->sample_count; i++) {
        const struct teardown_sample *sample = &report->samples[i];
        double x = LEFT + (double)sample->at_ns / (double)last_ns * (WIDTH - LEFT - RIGHT);
        fprintf(out, "%c%.1f %.1f", i ? 'L' : 'M', x,
                top + PANEL - (double)sample->close_wait / most * PANEL);
    }
    fputs("\"/>\n", out);
}

void plot_write(const struct teardown_report *report, const char *title, FILE *out)
{
    const double first = TOP + 20, second = first + PANEL + GAP, height = second + PANEL + 40;
    double x = LEFT;
    fprintf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" role=\"img\">\n<style>%s</style>\n"
        "<rect class=\"back\" width=\"%d\" height=\"%.0f\"/>\n<text class=\"title\" x=\"%d\" y=\"26\">",
        WIDTH, height, style, WIDTH, height, LEFT);
    escape(title, out);
    fputs("</text>\n", out);
    legend(out, &x, TOP - 6, 'a', "FIN relay");
    legend(out, &x, TOP - 6, 'b', "full teardown");
    legend(out, &x, TOP - 6, 'c', "leak residency");
    shares_axes(out, first);
    shares_curve(out, &report->fin_relay, 'a', first);
    shares_curve(out, &report->teardown, 'b', first);
    shares_curve(out, &report->residency, 'c', first);
    close_wait_panel(out, report, second);
    fputs("</svg>\n", out);
}
