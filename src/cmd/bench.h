/* cmd/bench.h - what `sluice bench` has measured, and how it is shown. */
#ifndef SLUICE_CMD_BENCH_H
#define SLUICE_CMD_BENCH_H

#include <stdio.h>

#include "sluice.h"

#define BENCH_MAX_FRONTIERS 64

/* One context length. */
struct bench_row {
    int64_t context;             /* tokens in the session when decoding began */
    int64_t prefill_tokens, decode_tokens;
    double prefill_s, decode_s;
    /* seconds; 0 if not asked for */
    double prefill_stage[SLUICE_STAGES], decode_stage[SLUICE_STAGES];
    uint64_t hash;               /* of the last row of logits */
};

struct bench_result {
    const struct sluice_info *info;
    double read_bytes_s;         /* the machine's read bandwidth with these threads */
    double open_s;               /* opening the model */
    double cold_s, warm_s;       /* the first step of one token, and the same again */
    bool profile;
    struct bench_row row[BENCH_MAX_FRONTIERS];
    int n;
};

void bench_print(const struct bench_result *r, FILE *to);
void bench_csv(const struct bench_result *r, FILE *to);
/* Tokens per second over context: prefill and decode, each with its own scale. */
void bench_svg(const struct bench_result *r, FILE *to);

#endif
