/* `sluice bench --ops`: each op alone, against what memory and cores can do. */
#include "bench/bench.h"
#include "base/check.h"
#include "cmd/bench.h"
#include "cmd/cmd.h"

static double rate(double amount, const struct bench_op *op)
{
    return amount / op->seconds / 1e9;
}

static double per_core(const struct bench_ops_result *r, const struct bench_op *op)
{
    return rate(op->weights, op) / r->threads;
}

/* A number in 9 columns, or a dash where there is none. */
static void cell(FILE *to, double value)
{
    if (value > 0)
        fprintf(to, " %9.2f", value);
    else
        fprintf(to, " %9s", "-");
}

static void print_ops(const void *result, FILE *to)
{
    const struct bench_ops_result *r = result;
    fprintf(to, "sizes     %s\nbackend   %s\n", r->sizes, r->backend);
    fprintf(to, "memory    %.1f GB/s read with %d thread%s\n\n", r->read_bytes_s / 1e9, r->threads,
            r->threads == 1 ? "" : "s");
    fprintf(to, "%-17s%-22s%6s %9s %9s %9s %9s %9s\n", "op", "of", "rows", "ms", "GB/s",
            "% of read", "Gw/s/core", "GMAC/s");
    for (int i = 0; i < r->n; i++) {
        const struct bench_op *op = &r->op[i];
        fprintf(to, "%-17s%-22s%6d %9.3f", op->name, op->what, op->rows, op->seconds * 1e3);
        cell(to, rate(op->bytes, op));
        cell(to, 100 * rate(op->bytes, op) * 1e9 / r->read_bytes_s);
        cell(to, per_core(r, op));
        cell(to, rate(op->macs, op));
        fputc('\n', to);
    }
}

static void csv_ops(const void *result, FILE *to)
{
    const struct bench_ops_result *r = result;
    fprintf(to, "op,of,rows,seconds,bytes,weights,macs,threads,read_gbps\n");
    for (int i = 0; i < r->n; i++) {
        const struct bench_op *op = &r->op[i];
        fprintf(to, "%s,\"%s\",%d,%.9f,%.0f,%.0f,%.0f,%d,%.3f\n", op->name, op->what, op->rows,
                op->seconds, op->bytes, op->weights, op->macs, r->threads, r->read_bytes_s / 1e9);
    }
}

static int run(const struct options *o, struct bench_ops_result *result)
{
    struct sluice_options engine;
    struct sluice_error err;
    cmd_engine_options(o, &engine);
    struct bench_ops_config config = {
        .model = engine.model, .backend = engine.backend, .isa = engine.isa,
        .threads = engine.threads, .kv = engine.kv, .pin = engine.pin,
    };
    enum sluice_status st = bench_ops(&config, result, &err);
    if (st != SLUICE_OK) {
        cmd_error(o, &err);
        return cmd_open_code(st);
    }
    print_ops(result, stdout);
    if (bench_write(options_text(o, OPT_CSV, NULL), csv_ops, result, &err) == SLUICE_OK)
        return EXIT_OK;
    cmd_error(o, &err);
    return EXIT_FAILED;
}

int bench_ops_main(const struct options *o)
{
    if (options_given(o, OPT_SVG))
        return cmd_usage(o, "--svg: expected without --ops, which has no contexts to draw");
    struct bench_ops_result *result = calloc(1, sizeof *result);
    int code = EXIT_MEMORY;
    if (result)
        code = run(o, result);
    else
        fprintf(stderr, "sluice bench: out of memory for results\n");
    free(result);
    return code;
}
