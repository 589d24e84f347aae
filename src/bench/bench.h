/* bench/bench.h - measurements below a whole step of the model: the machine's read bandwidth, and
 * each op alone. One thread at a time. */
#ifndef SLUICE_BENCH_BENCH_H
#define SLUICE_BENCH_BENCH_H

#include "sluice.h"

/* Bytes per second that `threads` threads (0: one per core) read together: the best of some passes
 * over more memory than the caches hold. SLUICE_ERR_NOMEM. */
enum sluice_status bench_read(int threads, double *bytes_s, struct sluice_error *err);

#define BENCH_MAX_OPS 192

/* One op at one size. */
struct bench_op {
    char name[32];               /* "matvec", "attention /4" */
    char what[48];               /* "Q4_K", "32768 tokens" */
    int32_t rows;                /* of the batch */
    double seconds;              /* of one call, the least of some */
    double bytes;                /* of weights or KV rows that a call reads */
    double weights;              /* in those bytes; 0 where they are no weights */
    double macs;                 /* multiply-adds of a call */
};

struct bench_ops_result {
    char sizes[32];              /* whose sizes: "Flash", "custom" */
    char backend[160];
    int threads;
    double read_bytes_s;
    int n;
    struct bench_op op[BENCH_MAX_OPS];
};

struct bench_ops_config {
    const char *model;           /* GGUF file whose sizes to take; NULL: Flash's */
    const char *backend, *isa;   /* NULL: the best */
    int threads;                 /* 0: one per core */
    enum sluice_kv kv;
    enum sluice_pin pin;
};

/* Times every op with random weights and a random past. The weights of a call come from memory,
 * not from the caches: as many as fit 128 MiB (experts: 512 MiB) are used in turn. */
enum sluice_status bench_ops(const struct bench_ops_config *config, struct bench_ops_result *out,
                             struct sluice_error *err);

#endif
