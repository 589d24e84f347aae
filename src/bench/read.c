/* The machine's read bandwidth. */
#include "base/check.h"
#include "base/status.h"
#include "bench/bench.h"
#include "os/clock.h"
#include "os/memory.h"
#include "os/pool.h"

#define READ_BYTES ((size_t)1 << 29)
#define READ_PASSES 8
/* Pages of 4 KiB that a thread reads in a row: long enough for the processor to read ahead. */
#define READ_PIECE 1024

/* Words ahead that a pass asks memory for; processors differ in whether that is faster. */
static const int read_ahead[] = {0, 512, 1024, 2048};

struct reading {
    const uint64_t *at;
    int64_t ahead;
    uint64_t sum[POOL_MAX_THREADS * 8];   /* a cache line each, so that nobody waits */
};

static void read_piece(void *arg, int64_t first, int64_t last, int worker)
{
    struct reading *r = arg;
    uint64_t sum[8] = {0};
    for (int64_t i = first * 512; i < last * 512; i += 8) {
        __builtin_prefetch(r->at + i + r->ahead, 0, 2);
        for (int k = 0; k < 8; k++)
            sum[k] += r->at[i + k];
    }
    for (int k = 0; k < 8; k++)
        r->sum[worker * 8] += sum[k];
}

enum sluice_status bench_read(int threads, double *bytes_s, struct sluice_error *err)
{
    struct pool *pool;
    uint64_t *memory = memory_take(READ_BYTES, MEMORY_SPREAD);
    struct reading *reading = calloc(1, sizeof *reading);
    enum sluice_status st = SLUICE_ERR_NOMEM;
    if (!memory || !reading)
        status_fail(err, st, -1, "out of memory for measuring the read bandwidth");
    else
        st = pool_open(threads, /*pin=*/false, &pool, err);
    if (st == SLUICE_OK) {
        memset(memory, 1, READ_BYTES);
        reading->at = memory;
        *bytes_s = 0;
        for (int pass = 0; pass < READ_PASSES; pass++) {
            reading->ahead = read_ahead[pass % 4];
            double began = clock_seconds();
            pool_run(pool, READ_BYTES / 4096, READ_PIECE, read_piece, reading);
            double rate = (double)READ_BYTES / (clock_seconds() - began);
            *bytes_s = rate > *bytes_s ? rate : *bytes_s;
        }
        pool_close(pool);
    }
    free(memory);
    free(reading);
    return st;
}
