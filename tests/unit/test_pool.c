/* The worker pool: every item once, whatever the sizes; caps; visibility of results. */
#include <dirent.h>
#include <stdatomic.h>
#include <unistd.h>

#include "os/cores.h"
#include "os/pool.h"
#include "support/unit.h"

struct counts {
    _Atomic int hits[1000];
    int n_threads;
    _Atomic int bad_worker, bad_piece;
    int64_t grain, n;
};

static void count(void *arg, int64_t first, int64_t last, int worker)
{
    struct counts *c = arg;
    if (worker < 0 || worker >= c->n_threads)
        c->bad_worker++;
    /* no shorter than asked for, except at the end */
    if (last - first < c->grain && last != c->n)
        c->bad_piece++;
    for (int64_t i = first; i < last; i++)
        c->hits[i]++;
}

static void every_item_runs_once(void **state)
{
    static const int64_t sizes[] = {0, 1, 2, 3, 7, 64, 999, 1000};
    for (int threads = 1; threads <= 5; threads++) {
        struct pool *p;
        assert_int_equal(pool_open(threads, threads == 3, &p, NULL), SLUICE_OK);
        assert_int_equal(pool_threads(p), threads);
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
            for (int64_t grain = 1; grain <= 70; grain += 23) {
                struct counts c = {.n_threads = threads, .grain = grain, .n = sizes[s]};
                pool_run(p, sizes[s], grain, count, &c);
                for (int64_t i = 0; i < 1000; i++)
                    assert_int_equal(c.hits[i], i < sizes[s]);
                assert_int_equal(c.bad_worker, 0);
                assert_int_equal(c.bad_piece, 0);
            }
        }
        pool_close(p);
    }
}

static void add_one(void *arg, int64_t first, int64_t last, int worker)
{
    int *values = arg;                 /* not atomic: the pool orders loops one after the other */
    for (int64_t i = first; i < last; i++)
        values[i]++;
}

static void loops_see_each_others_writes(void **state)
{
    struct pool *p;
    int values[64] = {0};
    assert_int_equal(pool_open(4, false, &p, NULL), SLUICE_OK);
    for (int round = 0; round < 2000; round++)
        pool_run(p, 64, 1, add_one, values);
    pool_close(p);
    for (int i = 0; i < 64; i++)
        assert_int_equal(values[i], 2000);
}

/* Pieces get shorter towards the end, and the last ones are of `grain` items. */
struct sizes {
    _Atomic int n;
    _Atomic int64_t first[1000], size[1000];
};

static void note_size(void *arg, int64_t first, int64_t last, int worker)
{
    struct sizes *s = arg;
    int at = s->n++;
    s->first[at] = first;
    s->size[at] = last - first;
}

static void pieces_shrink_towards_the_end(void **state)
{
    static struct sizes s;
    struct pool *p;
    int64_t at = 0, before = 10000;
    assert_int_equal(pool_open(4, false, &p, NULL), SLUICE_OK);
    pool_run(p, 10000, 3, note_size, &s);
    pool_close(p);
    while (at < 10000) {
        int64_t size = 0;
        for (int i = 0; i < s.n; i++)
            if (s.first[i] == at)
                size = s.size[i];
        assert_true(size > 0 && size <= before);
        assert_true(size <= 10000 / 16 && size <= (10000 - at) / 16 + 3);
        at += before = size;
    }
    assert_true(before <= 3);
}

/* A worker inside is waited for when nothing is left; one that comes late finds
 * the gate closed, and the next loop open. */
static void rest(void *arg, int64_t first, int64_t last, int worker)
{
    _Atomic int64_t *done = arg;
    if (first % 7 == 0)
        usleep(200);
    *done += last - first;
}

static void loops_end_when_all_pieces_are_done(void **state)
{
    struct pool *p;
    assert_int_equal(pool_open(8, false, &p, NULL), SLUICE_OK);
    for (int round = 0; round < 300; round++) {
        _Atomic int64_t done = 0;
        pool_run(p, 20 + round % 5, 1, rest, (void *)&done);
        assert_int_equal(done, 20 + round % 5);
        if (round % 50 == 0)
            usleep(2000);              /* long enough that all sleep */
    }
    pool_close(p);
}

/* How many other threads of this process do not sleep. */
static int threads_awake(void)
{
    int awake = 0;
    char path[300], text[512];
    DIR *dir = opendir("/proc/self/task");
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        if (d->d_name[0] == '.' || strtol(d->d_name, NULL, 10) == (long)getpid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/stat", d->d_name);
        FILE *f = fopen(path, "r");
        assert_non_null(f);
        assert_non_null(fgets(text, sizeof text, f));
        fclose(f);
        const char *state = strrchr(text, ')');
        awake += state && state[2] == 'R';
    }
    closedir(dir);
    return awake;
}

static void idle_threads_sleep(void **state)
{
    struct pool *p;
    int values[64] = {0}, asleep = 0;
    assert_int_equal(pool_open(2, false, &p, NULL), SLUICE_OK);
    pool_run(p, 64, 1, add_one, values);
    for (int look = 0; look < 2000 && asleep < 5; look++) {
        asleep = threads_awake() == 0 ? asleep + 1 : 0;
        usleep(5000);
    }
    assert_int_equal(asleep, 5);
    pool_close(p);
}

static void a_small_loop_stays_in_the_caller(void **state)
{
    struct pool *p;
    int values[8] = {0};
    assert_int_equal(pool_open(2, false, &p, NULL), SLUICE_OK);
    pool_run(p, 8, 8, add_one, values);
    pool_close(p);
    for (int i = 0; i < 8; i++)
        assert_int_equal(values[i], 1);
}

static void zero_threads_means_those_worth_having(void **state)
{
    struct pool *p;
    assert_int_equal(pool_open(0, false, &p, NULL), SLUICE_OK);
    struct cores cores;
    cores_usable(&cores);
    assert_int_equal(pool_threads(p), cores.n_threads < 256 ? cores.n_threads : 256);
    pool_close(p);
    pool_close(NULL);
}

static void too_many_threads_are_refused(void **state)
{
    struct sluice_error err;
    struct pool *p = (struct pool *)1;
    assert_int_equal(pool_open(POOL_MAX_THREADS + 1, false, &p, &err), SLUICE_ERR_ARG);
    assert_null(p);
    assert_non_null(strstr(err.message, "257"));
    assert_int_equal(pool_open(-1, false, &p, &err), SLUICE_ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_runs_once),
        cmocka_unit_test(loops_see_each_others_writes),
        cmocka_unit_test(pieces_shrink_towards_the_end),
        cmocka_unit_test(loops_end_when_all_pieces_are_done),
        cmocka_unit_test(idle_threads_sleep),
        cmocka_unit_test(a_small_loop_stays_in_the_caller),
        cmocka_unit_test(zero_threads_means_those_worth_having),
        cmocka_unit_test(too_many_threads_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
