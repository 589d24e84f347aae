/* os/pool.c - see pool.h.
 *
 * Invariants: (1) `job` fields change only while no worker is inside the loop (n_inside == 0),
 * before epoch is raised;
 *             (2) a worker enters loop e once, when it sees epoch == e, and leaves by lowering
 *                 n_inside;
 *             (3) every item in [0, n) is claimed exactly once, from `next`.
 *
 *   worker:  ASLEEP --epoch raised--> INSIDE --no items left--> SPINNING --timeout--> ASLEEP
 *                                        ^------ epoch raised ------+
 *
 * The caller publishes the job by raising epoch, works itself, then waits until n_inside is 0. A
 * worker spins for a short while after a loop, since the loops of one forward pass follow each
 * other within microseconds; it does not spin when there are more threads than CPUs. */
#include "os/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"

#define SPIN_ROUNDS 4000

struct worker {
    struct pool *pool;
    pthread_t thread;
    int index;
};

struct pool {
    /* set once */
    int n_threads, n_started, spin_rounds;
    struct worker *workers;
    /* owner thread */
    bool running;
    /* the job: written by the caller before epoch is raised */
    int64_t n, grain;
    pool_fn fn;
    void *arg;
    /* shared */
    _Alignas(64) _Atomic int64_t next;
    _Alignas(64) _Atomic uint32_t epoch;
    _Atomic int n_inside;
    _Atomic bool stop;
    /* under lock */
    pthread_mutex_t lock;
    pthread_cond_t wake, idle;
    _Atomic int n_asleep;
};

static inline void spin_hint(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void work(struct pool *p, int worker)
{
    for (;;) {
        int64_t first = atomic_fetch_add_explicit(&p->next, p->grain, memory_order_relaxed);
        if (first >= p->n)
            return;
        int64_t last = p->n - first < p->grain ? p->n : first + p->grain;
        p->fn(p->arg, first, last, worker);
    }
}

/* Returns when epoch differs from `seen`, or the pool stops. */
static void wait_for_job(struct pool *p, uint32_t seen)
{
    for (int i = 0; i < p->spin_rounds; i++) {
        if (atomic_load_explicit(&p->epoch, memory_order_acquire) != seen)
            return;
        spin_hint();
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->n_asleep, 1);
    while (atomic_load(&p->epoch) == seen)
        pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->n_asleep, 1);
    pthread_mutex_unlock(&p->lock);
}

static void leave(struct pool *p)
{
    if (atomic_fetch_sub_explicit(&p->n_inside, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->idle);
    pthread_mutex_unlock(&p->lock);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    uint32_t seen = 0;
    for (;;) {
        wait_for_job(p, seen);
        seen++;
        if (atomic_load(&p->stop))
            return NULL;
        work(p, w->index);
        leave(p);
    }
}

/* Publishes a new epoch and wakes whoever sleeps. */
static void raise_epoch(struct pool *p)
{
    atomic_fetch_add(&p->epoch, 1);
    if (atomic_load(&p->n_asleep) == 0)
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

static void wait_until_idle(struct pool *p)
{
    for (int i = 0; i < p->spin_rounds; i++) {
        if (atomic_load_explicit(&p->n_inside, memory_order_acquire) == 0)
            return;
        spin_hint();
    }
    pthread_mutex_lock(&p->lock);
    while (atomic_load_explicit(&p->n_inside, memory_order_acquire) != 0)
        pthread_cond_wait(&p->idle, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

void pool_run(struct pool *p, int64_t n, int64_t grain, pool_fn fn, void *arg)
{
    SLUICE_ASSERT(n >= 0 && grain >= 1);
    SLUICE_ASSERT(!p->running);
    if (n == 0)
        return;
    p->running = true;
    if (n <= grain || p->n_started == 0) {
        fn(arg, 0, n, 0);
        p->running = false;
        return;
    }
    p->n = n;
    p->grain = grain;
    p->fn = fn;
    p->arg = arg;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->n_inside, p->n_started, memory_order_relaxed);
    raise_epoch(p);
    work(p, 0);
    wait_until_idle(p);
    p->running = false;
}

int pool_threads(const struct pool *p)
{
    return p->n_threads;
}

static int usable_cpus(cpu_set_t *set)
{
    CPU_ZERO(set);
    if (sched_getaffinity(0, sizeof *set, set) != 0)
        return 1;
    int n = CPU_COUNT(set);
    return n > 0 ? n : 1;
}

/* Binds a thread to the i-th usable CPU. A refusal is harmless: pinning is only a hint. */
static void pin_to(pthread_t thread, const cpu_set_t *usable, int i)
{
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, usable) || i-- > 0)
            continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        pthread_setaffinity_np(thread, sizeof one, &one);
        return;
    }
}

enum sluice_status pool_open(int n_threads, bool pin, struct pool **out, struct sluice_error *err)
{
    cpu_set_t usable;
    int n_cpus = usable_cpus(&usable);
    *out = NULL;
    if (n_threads == 0)
        n_threads = n_cpus < POOL_MAX_THREADS ? n_cpus : POOL_MAX_THREADS;
    FAIL_IF(n_threads < 0 || n_threads > POOL_MAX_THREADS, err, SLUICE_ERR_ARG,
            "threads: expected 0 to %d, found %d", POOL_MAX_THREADS, n_threads);
    struct pool *p = aligned_alloc(64, (sizeof *p + 63) / 64 * 64);
    struct worker *workers = calloc((size_t)n_threads, sizeof *workers);
    if (!p || !workers) {
        free(p);
        free(workers);
        return status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for a pool of %d threads",
                           n_threads);
    }
    *p = (struct pool){.n_threads = n_threads, .workers = workers,
                       .spin_rounds = n_threads <= n_cpus ? SPIN_ROUNDS : 0};
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->idle, NULL);
    for (int i = 1; i < n_threads; i++) {
        workers[i] = (struct worker){.pool = p, .index = i};
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0) {
            pool_close(p);
            return status_fail(err, SLUICE_ERR_NOMEM, -1, "the system refused thread %d of %d",
                               i + 1, n_threads);
        }
        p->n_started++;
        if (pin)
            pin_to(workers[i].thread, &usable, i % n_cpus);
    }
    *out = p;
    return SLUICE_OK;
}

void pool_close(struct pool *p)
{
    if (!p)
        return;
    SLUICE_ASSERT(!p->running);
    atomic_store(&p->stop, true);
    raise_epoch(p);
    for (int i = 1; i <= p->n_started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->idle);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
}
