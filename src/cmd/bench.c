/* `sluice bench`: prefill and decode at growing contexts, against the machine's read bandwidth. */
#include "cmd/bench.h"

#include <errno.h>
#include <xxhash.h>

#include "base/check.h"
#include "base/rng.h"
#include "bench/bench.h"
#include "cmd/cmd.h"
#include "os/clock.h"

struct bench {
    const struct options *o;
    struct sluice *e;
    struct sluice_session *s;
    float *logits;               /* [n_vocab] */
    int32_t *ids;                /* [largest frontier + decode] */
    int64_t frontier[BENCH_MAX_FRONTIERS];
    struct bench_result result;
};

static enum sluice_status parse_frontiers(struct bench *b, struct sluice_error *err)
{
    const char *list = options_text(b->o, OPT_FRONTIERS, "64,512,1024,2048"), *p = list;
    int64_t last = 0;
    while (*p) {
        char *end;
        long long n = strtoll(p, &end, 10);
        FAIL_IF(end == p || (*end && *end != ',') || n <= last ||
                    b->result.n == BENCH_MAX_FRONTIERS,
                err, SLUICE_ERR_ARG, "--frontiers: expected ascending lengths, found '%s'", list);
        last = b->frontier[b->result.n++] = n;
        p = *end ? end + 1 : end;
    }
    FAIL_IF(last == 0, err, SLUICE_ERR_ARG, "--frontiers: expected a length, found nothing");
    return SLUICE_OK;
}

static enum sluice_status eval(struct bench *b, int64_t at, int64_t n, bool logits,
                               struct sluice_error *err)
{
    struct sluice_eval eval = {
        .ids = b->ids + at, .n = (size_t)n, .logits = logits ? b->logits : NULL};
    return sluice_session_eval(b->s, &eval, err);
}

/* The first step pays for what has not been read yet; then all is. */
static enum sluice_status measure_start(struct bench *b, struct sluice_error *err)
{
    double *out[] = {&b->result.cold_s, &b->result.warm_s};
    for (int i = 0; i < 2; i++) {
        if (i == 1)
            b->result.load_s = sluice_load_wait(b->e);
        double began = clock_seconds();
        TRY(eval(b, 0, 1, /*logits=*/true, err));
        *out[i] = clock_seconds() - began;
        TRY(sluice_session_rewind(b->s, 0, err));
    }
    return SLUICE_OK;
}

/* Reads up to the frontier, its last token with logits. */
static enum sluice_status measure_prefill(struct bench *b, struct bench_row *w,
                                          struct sluice_error *err)
{
    int64_t at = sluice_session_length(b->s);
    w->prefill_tokens = w->context - at;
    FAIL_IF(w->prefill_tokens < 1, err, SLUICE_ERR_ARG,
            "--frontiers: %lld leaves nothing to read after %lld tokens", (long long)w->context,
            (long long)at);
    if (b->result.profile)
        sluice_session_profile(b->s, w->prefill_stage);
    double began = clock_seconds();
    if (w->prefill_tokens > 1)
        TRY(eval(b, at, w->prefill_tokens - 1, /*logits=*/false, err));
    TRY(eval(b, w->context - 1, 1, /*logits=*/true, err));
    w->prefill_s = clock_seconds() - began;
    return SLUICE_OK;
}

/* Decoded tokens are the text's next ones and stay: the next frontier begins after them. */
static enum sluice_status measure_row(struct bench *b, int i, struct sluice_error *err)
{
    struct bench_row *w = &b->result.row[i];
    int64_t n_decode = options_int(b->o, OPT_DECODE, 32);
    w->context = b->frontier[i];
    w->decode_tokens = n_decode;
    if (options_flag(b->o, OPT_RANDOM_PAST)) {
        /* the first step after it pays for the caches that it emptied */
        TRY(sluice_session_random_past(b->s, w->context - 1, err));
        TRY(eval(b, w->context - 1, 1, /*logits=*/true, err));
    } else {
        TRY(measure_prefill(b, w, err));
    }
    if (b->result.profile)
        sluice_session_profile(b->s, w->decode_stage);
    double began = clock_seconds();
    for (int64_t k = 0; k < n_decode; k++)
        TRY(eval(b, w->context + k, 1, /*logits=*/true, err));
    w->decode_s = clock_seconds() - began;
    w->hash = XXH3_64bits(b->logits, (size_t)b->result.info->n_vocab * sizeof *b->logits);
    return SLUICE_OK;
}

static enum sluice_status measure(struct bench *b, struct sluice_error *err)
{
    struct bench_result *r = &b->result;
    int64_t total = b->frontier[r->n - 1] + options_int(b->o, OPT_DECODE, 32);
    r->info = sluice_info(b->e);
    r->profile = options_flag(b->o, OPT_PROFILE);
    b->logits = malloc((size_t)r->info->n_vocab * sizeof *b->logits);
    b->ids = malloc((size_t)total * sizeof *b->ids);
    FAIL_IF(!b->logits || !b->ids, err, SLUICE_ERR_NOMEM, "out of memory for %lld tokens",
            (long long)total);
    for (int64_t i = 0; i < total; i++)
        b->ids[i] = (int32_t)(rng_u64(1, (uint64_t)i) % (uint64_t)r->info->n_vocab);
    TRY(bench_read(r->info->threads, &r->read_bytes_s, err));
    TRY(sluice_session_open(b->e, total, &b->s, err));
    TRY(measure_start(b, err));
    for (int i = 0; i < r->n; i++)
        TRY(measure_row(b, i, err));
    return SLUICE_OK;
}

enum sluice_status bench_write(const char *path, bench_print_fn *print, const void *result,
                               struct sluice_error *err)
{
    if (!path)
        return SLUICE_OK;
    FILE *f = fopen(path, "w");
    FAIL_IF(!f, err, SLUICE_ERR_IO, "%s: %s", path, strerror(errno));
    print(result, f);
    bool failed = ferror(f);
    FAIL_IF(fclose(f) != 0 || failed, err, SLUICE_ERR_IO, "%s: %s", path, strerror(errno));
    return SLUICE_OK;
}

static int report(struct bench *b)
{
    struct sluice_error err;
    bench_print(&b->result, stdout);
    if (bench_write(options_text(b->o, OPT_CSV, NULL), bench_csv, &b->result, &err) == SLUICE_OK &&
        bench_write(options_text(b->o, OPT_SVG, NULL), bench_svg, &b->result, &err) == SLUICE_OK)
        return EXIT_OK;
    cmd_error(b->o, &err);
    return EXIT_FAILED;
}

int cmd_bench(const struct options *o)
{
    struct bench b = {.o = o};
    struct sluice_options engine;
    struct sluice_error err;
    if (options_flag(o, OPT_OPS))
        return bench_ops_main(o);
    if (parse_frontiers(&b, &err) != SLUICE_OK)
        return cmd_usage(o, "%s", err.message);
    cmd_engine_options(o, &engine);
    engine.max_requests = 1;
    int64_t total = b.frontier[b.result.n - 1] + options_int(o, OPT_DECODE, 32);
    engine.context = engine.context ? engine.context : total;
    double began = clock_seconds();
    int code = cmd_open(o, &engine, &b.e);
    b.result.open_s = clock_seconds() - began;
    if (code != EXIT_OK)
        return code;
    if (measure(&b, &err) == SLUICE_OK) {
        code = report(&b);
    } else {
        cmd_error(o, &err);
        code = err.code == SLUICE_ERR_NOMEM ? EXIT_MEMORY
               : err.code == SLUICE_ERR_ARG ? EXIT_USAGE
                                            : EXIT_FAILED;
    }
    sluice_session_close(b.s);
    sluice_close(b.e);
    free(b.logits);
    free(b.ids);
    return code;
}
