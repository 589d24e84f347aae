/* cmd/bench_report.c - the table, CSV and plot of `sluice bench`. */
#include <inttypes.h>

#include "cmd/bench.h"

static double decode_rate(const struct bench_row *w)
{
    return (double)w->decode_tokens / w->decode_s;
}

static double prefill_rate(const struct bench_row *w)
{
    return w->prefill_s > 0 ? (double)w->prefill_tokens / w->prefill_s : 0;
}

static double decode_bytes_s(const struct bench_result *r, const struct bench_row *w)
{
    return decode_rate(w) * (double)r->info->token_bytes;
}

static void print_stages(const struct bench_row *w, FILE *to)
{
    const double *stages[] = {w->prefill_stage, w->decode_stage};
    const char *names[] = {"prefill", "decode"};
    for (int k = 0; k < 2; k++) {
        double total = 0;
        for (int i = 0; i < SLUICE_STAGES; i++)
            total += stages[k][i];
        if (total == 0)
            continue;
        fprintf(to, "          %s:", names[k]);
        for (int i = 0; i < SLUICE_STAGES; i++)
            fprintf(to, " %s %.1f %%%s", sluice_stage_name((enum sluice_stage)i),
                    100 * stages[k][i] / total, i + 1 < SLUICE_STAGES ? "," : "");
        fputc('\n', to);
    }
}

void bench_print(const void *result, FILE *to)
{
    const struct bench_result *r = result;
    const struct sluice_info *info = r->info;
    fprintf(to, "model     %s (%s), %.2f GB\n", info->name, info->family,
            (double)info->weight_bytes / 1e9);
    fprintf(to, "backend   %s\n", info->backend);
    fprintf(to, "memory    %.1f GB/s read with %d threads; a decoded token reads %.3f GB of "
                "weights: at most %.1f t/s\n",
            r->read_bytes_s / 1e9, info->threads, (double)info->token_bytes / 1e9,
            r->read_bytes_s / (double)info->token_bytes);
    fprintf(to, "start     open %.2f s, first step %.3f s, the same again %.3f s\n", r->open_s,
            r->cold_s, r->warm_s);
    if (r->load_s > 0)
        fprintf(to, "load      %.2f s until all weights were in memory: %.2f GB/s\n", r->load_s,
                (double)info->weight_bytes / r->load_s / 1e9);
    fputc('\n', to);
    fprintf(to, " context   prefill t/s   decode t/s     GB/s   of read   logits\n");
    for (int i = 0; i < r->n; i++) {
        const struct bench_row *w = &r->row[i];
        fprintf(to, "%8" PRId64 "  ", w->context);
        if (w->prefill_s > 0)
            fprintf(to, "%12.2f", prefill_rate(w));
        else
            fprintf(to, "%12s", "-");
        fprintf(to, " %12.2f %8.2f    %4.0f %%   %016" PRIx64 "\n",
                decode_rate(w), decode_bytes_s(r, w) / 1e9,
                100 * decode_bytes_s(r, w) / r->read_bytes_s, w->hash);
        if (r->profile)
            print_stages(w, to);
    }
}

void bench_csv(const void *result, FILE *to)
{
    const struct bench_result *r = result;
    fprintf(to, "context,prefill_tokens,prefill_s,prefill_tps,decode_tokens,decode_s,decode_tps,"
                "decode_gbps,read_gbps,logits");
    for (int i = 0; i < SLUICE_STAGES && r->profile; i++)
        fprintf(to, ",prefill_%s_s,decode_%s_s", sluice_stage_name((enum sluice_stage)i),
                sluice_stage_name((enum sluice_stage)i));
    fputc('\n', to);
    for (int i = 0; i < r->n; i++) {
        const struct bench_row *w = &r->row[i];
        fprintf(to, "%" PRId64 ",%" PRId64 ",%.6f,%.3f,%" PRId64 ",%.6f,%.3f,%.3f,%.3f,%016" PRIx64,
                w->context, w->prefill_tokens, w->prefill_s, prefill_rate(w), w->decode_tokens,
                w->decode_s, decode_rate(w), decode_bytes_s(r, w) / 1e9, r->read_bytes_s / 1e9,
                w->hash);
        for (int k = 0; k < SLUICE_STAGES && r->profile; k++)
            fprintf(to, ",%.6f,%.6f", w->prefill_stage[k], w->decode_stage[k]);
        fputc('\n', to);
    }
}

/* ---- the plot ---- */

enum { WIDTH = 760, HEIGHT = 400, LEFT = 70, RIGHT = 70, TOP = 50, BOTTOM = 50 };

typedef double rate_fn(const struct bench_row *w);

static double largest(const struct bench_result *r, rate_fn *rate)
{
    double most = 0;
    for (int i = 0; i < r->n; i++)
        if (rate(&r->row[i]) > most)
            most = rate(&r->row[i]);
    return most > 0 ? most : 1;
}

static double x_of(const struct bench_result *r, int i)
{
    double last = (double)r->row[r->n - 1].context;
    return LEFT + (WIDTH - LEFT - RIGHT) * (double)r->row[i].context / last;
}

static void curve(const struct bench_result *r, rate_fn *rate, const char *colour, FILE *to)
{
    double most = largest(r, rate);
    fprintf(to, "<polyline fill='none' stroke='%s' stroke-width='2' points='", colour);
    for (int i = 0; i < r->n; i++)
        fprintf(to, "%.1f,%.1f ", x_of(r, i),
                HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rate(&r->row[i]) / most);
    fprintf(to, "'/>\n");
    for (int i = 0; i < r->n; i++)
        fprintf(to, "<circle cx='%.1f' cy='%.1f' r='3' fill='%s'/>\n", x_of(r, i),
                HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * rate(&r->row[i]) / most, colour);
}

static void scale(const struct bench_result *r, rate_fn *rate, const char *colour, bool left,
                  FILE *to)
{
    double most = largest(r, rate);
    for (int i = 0; i <= 4; i++)
        fprintf(to, "<text x='%d' y='%d' fill='%s' text-anchor='%s'>%.4g</text>\n",
                left ? LEFT - 8 : WIDTH - RIGHT + 8,
                HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * i / 4 + 4, colour,
                left ? "end" : "start", most * i / 4);
}

void bench_svg(const void *result, FILE *to)
{
    const struct bench_result *r = result;
    static const char blue[] = "#1f6fb4", red[] = "#c8442b";
    fprintf(to,
            "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' "
            "font-family='sans-serif' font-size='12'>\n<rect width='100%%' height='100%%' "
            "fill='white'/>\n",
            WIDTH, HEIGHT);
    fprintf(to, "<path d='M%d %dV%dH%dV%d' fill='none' stroke='#888'/>\n", LEFT, TOP,
            HEIGHT - BOTTOM, WIDTH - RIGHT, TOP);
    fprintf(to, "<text x='%d' y='30' fill='%s'>decode, t/s</text>\n", LEFT, blue);
    fprintf(to, "<text x='%d' y='30' fill='%s' text-anchor='end'>prefill, t/s</text>\n",
            WIDTH - RIGHT, red);
    scale(r, decode_rate, blue, /*left=*/true, to);
    scale(r, prefill_rate, red, /*left=*/false, to);
    for (int i = 0; i < r->n; i++)
        fprintf(to, "<text x='%.1f' y='%d' text-anchor='middle'>%" PRId64 "</text>\n", x_of(r, i),
                HEIGHT - BOTTOM + 18, r->row[i].context);
    curve(r, prefill_rate, red, to);
    curve(r, decode_rate, blue, to);
    fprintf(to, "<text x='%d' y='%d' text-anchor='middle'>context, tokens</text>\n</svg>\n",
            WIDTH / 2, HEIGHT - 10);
}
