/* cmd/bench.h - what `sluice bench` has measured, and how it is shown. */
#ifndef SLUICE_CMD_BENCH_H
#define SLUICE_CMD_BENCH_H

#include <stdio.h>

#include "cmd/options.h"
#include "sluice.h"

#define BENCH_MAX_FRONTIERS 64

/* One context length. */
struct bench_row {
    int64_t context;             /* tokens in the session when decoding began */
    int64_t prefill_tokens, decode_tokens;
    double prefill_s, decode_s;  /* prefill: 0 where the past is random */
    /* seconds; 0 if not asked for */
    double prefill_stage[SLUICE_STAGES], decode_stage[SLUICE_STAGES];
    uint64_t hash;               /* of the last row of logits */
};

struct bench_result {
    const struct sluice_info *info;
    double read_bytes_s;         /* the machine's read bandwidth with these threads */
    double open_s;               /* opening the model */
    double load_s;               /* from then until all weights were in memory; 0: not waited for */
    double cold_s, warm_s;       /* the first step of one token, and the same again */
    bool profile;
    struct bench_row row[BENCH_MAX_FRONTIERS];
    int n;
};

/* Each prints a struct bench_result. */
typedef void bench_print_fn(const void *result, FILE *to);
void bench_print(const void *result, FILE *to);
void bench_csv(const void *result, FILE *to);
/* Tokens per second over context: prefill and decode, each with its own scale. */
void bench_svg(const void *result, FILE *to);

/* What print writes of a result, as a file; nothing without a path. SLUICE_ERR_IO. */
enum sluice_status bench_write(const char *path, bench_print_fn *print, const void *result,
                               struct sluice_error *err);

/* `sluice bench --ops`; the exit code. */
int bench_ops_main(const struct options *o);

#endif
