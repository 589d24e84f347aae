/* A process that writes all the time is killed, again and again: by a signal at any moment, within
 * a write, or by a disk that says it has synced and has not. The store opens each time, what was
 * reported saved is there (but for the lying disk), and nothing wrong is served. KILLS=N kills N
 * times (default 30). */
#include <signal.h>
#include <sys/wait.h>

#include "support/kv_talks.h"

enum { MODEL_HONEST = 7, MODEL_LIES = 8 };

static uint64_t seed, draws;
static uint64_t draw(uint64_t below)
{
    return rng_u64(seed, draws++) % below;
}

/* ---- disks of the child ---- */

static int writes_left;
static enum sluice_status (*plain_write)(int fd, const void *bytes, size_t n, uint64_t offset,
                                         struct sluice_error *err);

/* Dies within a write. */
static enum sluice_status torn_write(int fd, const void *bytes, size_t n, uint64_t offset,
                                     struct sluice_error *err)
{
    if (writes_left-- > 0)
        return plain_write(fd, bytes, n, offset, err);
    plain_write(fd, bytes, draw(n), offset, err);
    raise(SIGKILL);
    return SLUICE_OK;
}

/* What a file is after the power went and its sync had been dropped: short, or in part zeros. */
static int lying_sync(int fd)
{
    struct stat st;
    char zeros[512] = {0};
    if (draw(4) || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return fsync(fd);
    if (draw(2))
        return ftruncate(fd, (off_t)draw((uint64_t)st.st_size));
    off_t at = (off_t)draw((uint64_t)st.st_size);
    size_t n = st.st_size - at < (off_t)sizeof zeros ? (size_t)(st.st_size - at) : sizeof zeros;
    return pwrite(fd, zeros, n, at) == (ssize_t)n ? 0 : -1;
}

enum way { BY_SIGNAL, TORN, LYING, WAYS };

/* Tells the parent which talk is saved. */
static void child(enum way way, int first, int to)
{
    uint64_t model = way == LYING ? MODEL_LIES : MODEL_HONEST;
    writes_left = (int)draw(20);
    plain_write = store_io.write;
    if (way == TORN)
        store_io.write = torn_write;
    if (way == LYING)
        store_io.sync = lying_sync;
    struct kvstore *s = open_store(0, model);
    for (int k = first;; k++) {
        struct talk t;
        make_talk_of(&t, k, model);
        put(s, &t, 600);
        kvstore_flush(s);
        if (write(to, &k, sizeof k) != sizeof k)
            _exit(1);
    }
}

/* ---- the parent ---- */

static int run_child(enum way way, int first, useconds_t after)
{
    int pipes[2], last = first - 1, status;
    assert_int_equal(pipe(pipes), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        child(way, first, pipes[1]);
    close(pipes[1]);
    usleep(after);
    if (way != TORN)
        assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    for (int k; read(pipes[0], &k, sizeof k) == sizeof k;)
        last = k;
    close(pipes[0]);
    return last;
}

static void check_saved(int from, int to)
{
    struct kvstore *s = open_store(0, MODEL_HONEST);
    for (int k = from; k <= to; k++) {
        struct talk t;
        make_talk(&t, k);
        assert_int_equal(restore(s, &t, 1000), 600);
    }
    kvstore_close(s);
}

/* Every byte that comes back is compared with what it should be; what cannot be had is given up. */
static int check_lies(int from, int to)
{
    int whole = 0;
    struct kvstore *s = open_store(0, MODEL_LIES);
    for (int k = from; k <= to; k++) {
        struct talk t;
        int64_t n = -1;
        make_talk_of(&t, k, MODEL_LIES);
        for (int tries = 0; tries < 4 && n < 0; tries++)
            n = restore(s, &t, 1000);
        assert_true(n == 600 || n == 0);
        whole += n == 600;
    }
    kvstore_close(s);
    return whole;
}

static void test_kills(void **state)
{
    const char *kills = getenv("KILLS");
    long n = kills ? strtol(kills, NULL, 10) : 30;
    int saved = 1, lied = 1, whole = 0;
    for (long i = 0; i < n; i++) {
        enum way way = (enum way)(i % WAYS);
        seed = 100 + (uint64_t)i;
        draws = 0;
        useconds_t after = (useconds_t)(1000 + draw(60000));
        if (way == LYING) {
            int last = run_child(way, lied + 1, after);
            whole += check_lies(lied + 1, last + 1);
            lied = last + 1;
        } else {
            int before = saved;
            saved = run_child(way, saved + 1, after);
            /* The rest of them at the end. */
            check_saved(before > 22 ? before - 20 : 2, saved);
        }
    }
    int said = warnings;
    check_saved(2, saved);
    assert_int_equal(warnings, said);
    print_message("%ld kills: %d conversations saved and found; a lying disk: %d of %d found, %d "
                  "records removed\n",
                  n, saved - 1, whole, lied - 1, said);
    assert_true(saved > n / 4 && whole > 0 && whole < lied - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_kills, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
