/* os/pool.c - see pool.h.
 *
 * The gate is one word: number of the loop, a bit that says whether it is closed, and how many
 * workers are inside.
 *
 * Invariants: (1) the fields of a loop change only while its gate is closed and nobody is inside;
 *             (2) a worker enters an open loop by raising the count, at most once a loop, and
 *                 leaves by lowering it; nobody enters a closed one;
 *             (3) every item in [0, n) is claimed exactly once, from `next`.
 *
 *   worker:  ASLEEP --open gate--> INSIDE --no items left--> SPINNING --timeout--> ASLEEP
 *                                     ^------ open gate ------+
 *
 * The caller opens the gate, works itself, closes the gate when no item is left to claim, and waits
 * until nobody is inside: so it waits for pieces that are being worked on, and never for a worker
 * that is still waking up or has no CPU. A worker spins for a short while after a loop, since the
 * loops of one forward pass follow each other within microseconds; it does not spin when there are
 * more threads than CPUs. */
#include "os/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "os/cores.h"

#define SPIN_ROUNDS 4000
/* A claim takes the part 1 / (threads * LEFT_PARTS) of the items that are left, so that pieces are
 * long at first and short at the end, where threads would wait for each other. */
#define LEFT_PARTS 4

/* The gate: | loop number, 32 bits | closed | workers inside, 31 bits | */
#define GATE_CLOSED ((uint64_t)1 << 31)
#define GATE_INSIDE (GATE_CLOSED - 1)
#define GATE_LOOP ((uint64_t)1 << 32)

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
    /* the loop: written by the caller before the gate opens */
    int64_t n, grain;
    pool_fn fn;
    void *arg;
    /* shared */
    _Alignas(64) _Atomic int64_t next;
    _Alignas(64) _Atomic uint64_t gate;
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

static bool claim(struct pool *p, int64_t *first, int64_t *last)
{
    int64_t at = atomic_load_explicit(&p->next, memory_order_relaxed);
    do {
        int64_t left = p->n - at, piece = left / (LEFT_PARTS * p->n_threads);
        if (left <= 0)
            return false;
        piece = piece > p->grain ? piece : p->grain;
        *last = left < piece ? p->n : at + piece;
    } while (!atomic_compare_exchange_weak_explicit(&p->next, &at, *last, memory_order_relaxed,
                                                    memory_order_relaxed));
    *first = at;
    return true;
}

static void work(struct pool *p, int worker)
{
    int64_t first, last;
    while (claim(p, &first, &last))
        p->fn(p->arg, first, last, worker);
}

static uint32_t loop_of(uint64_t gate)
{
    return (uint32_t)(gate >> 32);
}

/* Enters a loop other than `seen`, if one is open. The load is not relaxed: a worker that has said
 * that it sleeps must see a gate that was opened before the caller looked for sleepers. */
static bool enter(struct pool *p, uint32_t *seen)
{
    uint64_t gate = atomic_load(&p->gate);
    while (loop_of(gate) != *seen && !(gate & GATE_CLOSED)) {
        if (atomic_compare_exchange_weak_explicit(&p->gate, &gate, gate + 1, memory_order_acquire,
                                                  memory_order_relaxed)) {
            *seen = loop_of(gate);
            return true;
        }
    }
    return false;
}

static void leave(struct pool *p)
{
    uint64_t left = atomic_fetch_sub_explicit(&p->gate, 1, memory_order_release) - 1;
    if (!(left & GATE_CLOSED) || (left & GATE_INSIDE))
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->idle);
    pthread_mutex_unlock(&p->lock);
}

/* Returns inside a loop, or false when the pool stops. */
static bool wait_for_loop(struct pool *p, uint32_t *seen)
{
    for (int i = 0; i < p->spin_rounds; i++) {
        if (enter(p, seen))
            return true;
        spin_hint();
    }
    bool inside = false;
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->n_asleep, 1);
    while (!atomic_load(&p->stop) && !(inside = enter(p, seen)))
        pthread_cond_wait(&p->wake, &p->lock);
    atomic_fetch_sub(&p->n_asleep, 1);
    pthread_mutex_unlock(&p->lock);
    return inside;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    uint32_t seen = 0;
    while (wait_for_loop(p, &seen)) {
        work(p, w->index);
        leave(p);
    }
    return NULL;
}

static void wake_sleepers(struct pool *p)
{
    if (atomic_load(&p->n_asleep) == 0)
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

static bool is_empty(struct pool *p)
{
    return (atomic_load_explicit(&p->gate, memory_order_acquire) & GATE_INSIDE) == 0;
}

static void close_gate(struct pool *p)
{
    atomic_fetch_or(&p->gate, GATE_CLOSED);
    for (int i = 0; i < p->spin_rounds; i++) {
        if (is_empty(p))
            return;
        spin_hint();
    }
    pthread_mutex_lock(&p->lock);
    while (!is_empty(p))
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
    uint64_t closed = atomic_load_explicit(&p->gate, memory_order_relaxed);
    SLUICE_ASSERT((closed & GATE_CLOSED) && (closed & GATE_INSIDE) == 0);
    atomic_store(&p->gate, (closed & ~GATE_CLOSED) + GATE_LOOP);
    wake_sleepers(p);
    work(p, 0);
    close_gate(p);
    p->running = false;
}

int pool_threads(const struct pool *p)
{
    return p->n_threads;
}

/* A refusal is harmless: pinning is only a hint. */
static void pin_to(pthread_t thread, int cpu)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    pthread_setaffinity_np(thread, sizeof one, &one);
}

enum sluice_status pool_open(int n_threads, bool pin, struct pool **out, struct sluice_error *err)
{
    struct cores cores;
    cores_usable(&cores);
    *out = NULL;
    if (n_threads == 0)
        n_threads = cores.n_threads < POOL_MAX_THREADS ? cores.n_threads : POOL_MAX_THREADS;
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
                       .spin_rounds = n_threads <= cores.n_cpus ? SPIN_ROUNDS : 0,
                       .gate = GATE_CLOSED};
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
            pin_to(workers[i].thread, cores.cpu[i % cores.n_cpus]);
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
    wake_sleepers(p);
    for (int i = 1; i <= p->n_started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->idle);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
}
