/* os/pool.h - persistent worker threads that run one loop at a time.
 *
 * The caller is worker 0 and takes part; the others spin for some 100 microseconds after a loop and
 * then sleep: a pool without work takes no CPU time. Pieces of a loop are claimed from an atomic
 * counter, so that a worker whose pieces are cheap takes more of them, and get shorter towards the
 * end. Which worker runs which piece is not defined, and a worker may get none: results must not
 * depend on it.
 *
 * Threads: pool_run from one thread at a time; never from inside a loop (checked). */
#ifndef SLUICE_OS_POOL_H
#define SLUICE_OS_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#define POOL_MAX_THREADS 256

struct pool;

/* Work on items [first, last); worker is in [0, pool_threads). */
typedef void (*pool_fn)(void *arg, int64_t first, int64_t last, int worker);

/* n_threads counts the caller; 0 means as many as cores.h says. pin binds worker i to
 * the i-th CPU of cores.h (the caller is left alone). SLUICE_ERR_ARG beyond POOL_MAX_THREADS;
 * SLUICE_ERR_NOMEM when threads cannot be made. */
enum sluice_status pool_open(int n_threads, bool pin, struct pool **out, struct sluice_error *err);
void pool_close(struct pool *p);   /* accepts NULL */
int pool_threads(const struct pool *p);

/* Runs fn over [0, n) in pieces of at least `grain` items (the last may be smaller) and returns
 * when all are done. n <= grain, or a pool of one thread, runs in the caller without waking
 * anybody. What the pieces wrote is visible to the caller after the return. */
void pool_run(struct pool *p, int64_t n, int64_t grain, pool_fn fn, void *arg);

#endif
