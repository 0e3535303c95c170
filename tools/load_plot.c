// SPDX-License-Identifier: Apache-2.0
// A load test as a picture: on the left how the times are distributed, on the right how they went. SVG 1.1, written directly.
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "platform/plat.h"
#include "tools/load.h"
#include "tools/out.h"

enum {
    WIDTH = 1000,
    HEIGHT = 552,
    TOP = 96,
    BOTTOM = 440,
    LEFT_A = 70,
    RIGHT_A = 470,
    LEFT_B = 570,
    RIGHT_B = 970,
    MOST_POINTS = 500, // of a curve
    MOST_DOTS = 2000,
    MOST_BINS = 40,
    LEAST_IN_BIN = 5
};

static const char blue[] = "#1f6fb4", orange[] = "#d9770b", red[] = "#c0392b";

struct plot {
    struct out *out;
    double low_ms, high_ms; // of the logarithmic axis of times
    double seconds;
    uint64_t begin_ns;
};

static double fraction(const struct plot *plot, double ms)
{
    double f = log(ms / plot->low_ms) / log(plot->high_ms / plot->low_ms);
    return f < 0 ? 0 : f > 1 ? 1 : f;
}

static double time_x(const struct plot *plot, double ms)
{
    return LEFT_A + fraction(plot, ms) * (RIGHT_A - LEFT_A);
}

static double time_y(const struct plot *plot, double ms)
{
    return BOTTOM - fraction(plot, ms) * (BOTTOM - TOP);
}

static double when_x(const struct plot *plot, uint64_t at_ns)
{
    double s = at_ns > plot->begin_ns ? (double)(at_ns - plot->begin_ns) * 1e-9 : 0;
    return LEFT_B + fmin(s / plot->seconds, 1) * (RIGHT_B - LEFT_B);
}

// Text with XML's characters escaped; what is not ASCII or is a control character becomes '?'.
GRAFT_PRINTF(6, 7)
static void text(struct out *out, double x, double y, const char *anchor, const char *style, const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    out_format(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" %s>", x, y, anchor, style);
    for (const char *p = line; *p; p++) {
        if (*p == '<' || *p == '>' || *p == '&') {
            out_text(out, *p == '<' ? "&lt;" : *p == '>' ? "&gt;" : "&amp;");
        } else {
            out_bytes(out, *p >= ' ' && *p < 0x7f ? p : "?", 1);
        }
    }
    out_text(out, "</text>\n");
}

static void line(struct out *out, double x1, double y1, double x2, double y2, const char *style)
{
    out_format(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", x1, y1, x2, y2, style);
}

// "1 ms", "0.5 s", "20 s".
static const char *tick_text(double ms, char out[32])
{
    if (ms < 999) {
        snprintf(out, 32, "%g ms", ms);
    } else {
        snprintf(out, 32, "%g s", ms / 1000);
    }
    return out;
}

static const char small_text[] = "font-size=\"11\" fill=\"#444\"", label_text[] = "font-size=\"12\" fill=\"#222\"",
                  grid[] = "stroke=\"#e3e3e3\"", frame[] = "stroke=\"#222\"";

// Lines at 1, 2 and 5 times the powers of ten, for both panels.
static void draw_time_axes(const struct plot *plot)
{
    static const double steps[] = {1, 2, 5};
    char word[32];
    double decades = log10(plot->high_ms / plot->low_ms);
    for (double power = pow(10, floor(log10(plot->low_ms))); power <= plot->high_ms; power *= 10) {
        for (int i = 0; i < 3; i++) {
            double ms = power * steps[i];
            if (ms < plot->low_ms * 0.999 || ms > plot->high_ms * 1.001 || (decades > 3 && i)) {
                continue;
            }
            line(plot->out, time_x(plot, ms), TOP, time_x(plot, ms), BOTTOM, grid);
            line(plot->out, LEFT_B, time_y(plot, ms), RIGHT_B, time_y(plot, ms), grid);
            text(plot->out, time_x(plot, ms), BOTTOM + 16, "middle", small_text, "%s", tick_text(ms, word));
            text(plot->out, LEFT_B - 6, time_y(plot, ms) + 4, "end", small_text, "%s", tick_text(ms, word));
        }
    }
}

static void draw_axes(const struct plot *plot)
{
    static const int shares[] = {0, 25, 50, 75, 95, 100};
    struct out *out = plot->out;
    draw_time_axes(plot);
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
        double y = BOTTOM - shares[i] / 100.0 * (BOTTOM - TOP);
        line(out, LEFT_A, y, RIGHT_A, y, grid);
        text(out, LEFT_A - 6, y + 4, "end", small_text, "%d %%", shares[i]);
    }
    double step = pow(10, floor(log10(plot->seconds)));
    step = plot->seconds / step < 2 ? step / 5 : plot->seconds / step < 5 ? step / 2 : step;
    for (double s = 0; s <= plot->seconds * 1.001; s += step) {
        double x = LEFT_B + s / plot->seconds * (RIGHT_B - LEFT_B);
        line(out, x, BOTTOM, x, BOTTOM + 4, frame);
        text(out, x, BOTTOM + 16, "middle", small_text, "%g", s);
    }
    line(out, LEFT_A, BOTTOM, RIGHT_A, BOTTOM, frame);
    line(out, LEFT_A, TOP, LEFT_A, BOTTOM, frame);
    line(out, LEFT_B, BOTTOM, RIGHT_B, BOTTOM, frame);
    line(out, LEFT_B, TOP, LEFT_B, BOTTOM, frame);
    text(out, (LEFT_A + RIGHT_A) / 2.0, BOTTOM + 36, "middle", label_text, "time (logarithmic)");
    text(out, (LEFT_B + RIGHT_B) / 2.0, BOTTOM + 36, "middle", label_text, "seconds since the beginning");
    text(out, LEFT_A, TOP - 10, "start", label_text, "Share of tokens and answers that were at least this fast");
    text(out, LEFT_B, TOP - 10, "start", label_text, "Times as the test went on (logarithmic)");
}

// ---- curves ----

// The empirical distribution of sorted samples, as steps.
static void draw_share(const struct plot *plot, const struct samples *samples, const char *colour, const char *dash)
{
    if (!samples->count) {
        return;
    }
    size_t points = samples->count < MOST_POINTS ? samples->count : MOST_POINTS;
    out_format(plot->out, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\"%s d=\"M%.1f %d", colour, dash,
               time_x(plot, (double)samples->values[0].value_ns * 1e-6), BOTTOM);
    for (size_t k = 1; k <= points; k++) {
        size_t i = k * samples->count / points - 1;
        out_format(plot->out, "H%.1fV%.1f", time_x(plot, (double)samples->values[i].value_ns * 1e-6),
                   BOTTOM - (double)(i + 1) / (double)samples->count * (BOTTOM - TOP));
    }
    out_text(plot->out, "\"/>\n");
}

// p50 and p95 of the times in pieces of the run that have enough of them.
static void draw_course(const struct plot *plot, const struct samples *samples, double share, const char *colour,
                        const char *dash)
{
    bool begun = false;
    for (int b = 0; b < MOST_BINS; b++) {
        uint64_t from = plot->begin_ns + (uint64_t)(plot->seconds * 1e9 * b / MOST_BINS),
                 to = plot->begin_ns + (uint64_t)(plot->seconds * 1e9 * (b + 1) / MOST_BINS);
        struct samples bin = {0};
        for (size_t i = 0; i < samples->count; i++) { // sorted by value, so the bin is, too
            const struct sample *s = &samples->values[i];
            if (s->at_ns >= from && s->at_ns < to) {
                samples_add(&bin, s->at_ns, s->value_ns);
            }
        }
        if (bin.count >= LEAST_IN_BIN) {
            if (!begun) {
                out_format(plot->out, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\"%s d=\"", colour, dash);
            }
            out_format(plot->out, "%c%.1f %.1f", begun ? 'L' : 'M', when_x(plot, from / 2 + to / 2),
                       time_y(plot, samples_quantile_ms(&bin, share)));
            begun = true;
        }
        free(bin.values);
    }
    if (begun) {
        out_text(plot->out, "\"/>\n");
    }
}

static void draw_dots(const struct plot *plot, const struct samples *samples)
{
    size_t step = samples->count / MOST_DOTS + 1;
    for (size_t i = 0; i < samples->count; i += step) {
        out_format(plot->out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.2\" fill=\"%s\" fill-opacity=\"0.6\"/>\n",
                   when_x(plot, samples->values[i].at_ns), time_y(plot, (double)samples->values[i].value_ns * 1e-6), blue);
    }
}

static void draw_entries(const struct plot *plot, const struct samples *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        double x = when_x(plot, entries->values[i].at_ns),
               end = when_x(plot, entries->values[i].at_ns + entries->values[i].value_ns);
        out_format(plot->out, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\" fill-opacity=\"0.10\"/>\n", x,
                   TOP, fmax(end - x, 0.5), BOTTOM - TOP, red);
    }
}

// ---- words ----

static void legend(const struct plot *plot, int row, double x, const char *colour, const char *dash, const char *name,
                   const struct samples *samples)
{
    double y = BOTTOM + 66 + row * 16;
    out_format(plot->out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" stroke-width=\"2\"%s/>\n", x,
               y - 4, x + 24, y - 4, colour, dash);
    if (samples) {
        text(plot->out, x + 30, y, "start", small_text, "%s: p50 %.1f, p95 %.1f, p99 %.1f ms (%zu)", name,
             samples_quantile_ms(samples, 0.5), samples_quantile_ms(samples, 0.95), samples_quantile_ms(samples, 0.99),
             samples->count);
    } else {
        text(plot->out, x + 30, y, "start", small_text, "%s", name);
    }
}

static const char dashes[] = " stroke-dasharray=\"5 3\"";

static void draw_words(const struct plot *plot, const struct load_run *run)
{
    const struct options *o = run->options;
    char load[160], limits[120] = "";
    if (o->load_rate > 0) {
        snprintf(load, sizeof load, "%g arrivals per second", o->load_rate);
    } else {
        snprintf(load, sizeof load, "%lld streams", (long long)o->load_streams);
    }
    if (o->load_first_limit > 0 || o->load_between_limit > 0) {
        snprintf(limits, sizeof limits, ", %.1f of them within the limits", (double)run->good_tokens / plot->seconds);
    }
    text(plot->out, WIDTH / 2.0, 28, "middle", "font-size=\"17\" font-weight=\"bold\" fill=\"#111\"",
         "graft load-test: %s, adapters %.200s", load, o->load_adapters ? o->load_adapters : "none");
    text(plot->out, WIDTH / 2.0, 50, "middle", label_text,
         "%llu answers of at most %lld tokens to prompts of %lld words in %.1f s: %.1f tokens/s%s; %llu failed",
         (unsigned long long)run->ok, (long long)o->load_predict, (long long)o->load_prompt, plot->seconds,
         (double)run->tokens / plot->seconds, limits, (unsigned long long)run->failed);
    legend(plot, 0, LEFT_A, blue, "", "first token", &run->first);
    legend(plot, 1, LEFT_A, orange, "", "between tokens", &run->between);
    if (o->load_long) {
        legend(plot, 2, LEFT_A, red, dashes, "the same beside long prompts", &run->beside);
    }
    legend(plot, 0, LEFT_B, blue, "", "dots: first tokens, at the time of asking", NULL);
    legend(plot, 1, LEFT_B, orange, "", "p50 between tokens; dashed: p95", NULL);
    if (o->load_long) {
        legend(plot, 2, LEFT_B, red, "", "shaded: a long prompt enters", NULL);
    }
}

static void draw(const struct plot *plot, const struct load_run *run)
{
    out_format(plot->out,
               "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
               "<svg xmlns=\"http://www.w3.org/2000/svg\" version=\"1.1\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
               "font-family=\"sans-serif\" role=\"img\">\n<title>graft load-test</title>\n"
               "<desc>Left: distributions of the time to the first token and between tokens. Right: these times during the "
               "test.</desc>\n<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n",
               WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    draw_axes(plot);
    draw_entries(plot, &run->entries);
    draw_share(plot, &run->first, blue, "");
    draw_share(plot, &run->between, orange, "");
    draw_share(plot, &run->beside, red, dashes);
    draw_dots(plot, &run->first);
    draw_course(plot, &run->between, 0.5, orange, "");
    draw_course(plot, &run->between, 0.95, orange, dashes);
    draw_words(plot, run);
    out_text(plot->out, "</svg>\n");
}

int load_plot(const struct load_run *run, double seconds, const char *path)
{
    struct out out = {0};
    struct plot plot = {.out = &out, .seconds = seconds > 0.001 ? seconds : 0.001, .begin_ns = run->begin_ns};
    const struct samples *all[] = {&run->first, &run->between};
    for (int i = 0; i < 2; i++) {
        double low = samples_quantile_ms(all[i], 0.01), high = samples_quantile_ms(all[i], 1);
        plot.low_ms = low > 0 && (plot.low_ms <= 0 || low < plot.low_ms) ? low : plot.low_ms;
        plot.high_ms = fmax(plot.high_ms, high);
    }
    plot.low_ms = fmax(plot.low_ms, 0.01) * 0.8;
    plot.high_ms = fmax(plot.high_ms * 1.25, plot.low_ms * 10);
    draw(&plot, run);
    int code = EXIT_FAILED;
    if (out.failed) {
        error3("the picture cannot be drawn", "there is no memory for it", "close other programs");
    } else {
        enum graft_status status = graft_file_replace(path, out.data, out.length);
        code = status == GRAFT_OK ? EXIT_GOOD : error_status(status, "the picture cannot be written");
    }
    out_free(&out);
    return code;
}
