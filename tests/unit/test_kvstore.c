/* The disk store: what is put comes back whole or not at all, across restarts, harm, full disks,
 * kills and other processes. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rng.h"
#include "kvstore/store_internal.h"
#include "support/unit.h"

enum { PAGE = 3000, FIXED = 5000, N_IDS = 1000 };
static const struct page_identity identity = {.model = 7, .page_bytes = PAGE, .fixed_bytes = FIXED};
static char dir[64];
static int warnings;
static char last_warning[512];

static void on_log(void *ctx, enum sluice_log_level level, const char *text)
{
    warnings++;
    snprintf(last_warning, sizeof last_warning, "%s", text);
}

static struct kvstore *open_store(int64_t bytes, uint64_t model)
{
    struct kvstore *s;
    struct sluice_error err;
    struct kvstore_options o = {
        .dir = dir, .bytes = bytes, .identity = identity, .log = on_log};
    o.identity.model = model;
    if (kvstore_open(&o, &s, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    return s;
}

/* Bytes that belong to a key and to no other. */
static void fill(struct page_key key, uint8_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)rng_u64(key.low ^ key.high, i);
}

/* Conversation number k: its ids, keys and what a checkpoint at n is. */
struct talk {
    int32_t ids[N_IDS];
    struct page_key chain[N_IDS / PAGE_SINK_TOKENS + 1];
};

static void make_talk(struct talk *t, int k)
{
    for (int i = 0; i < N_IDS; i++)
        t->ids[i] = i < 300 ? i : i * k; /* the first page is everybody's */
    t->chain[0] = page_key_root(&identity);
    for (int i = 0; i < N_IDS / PAGE_SINK_TOKENS; i++)
        t->chain[i + 1] =
            page_key_next(t->chain[i], t->ids + i * PAGE_SINK_TOKENS, PAGE_SINK_TOKENS);
}

static struct page_checkpoint at(const struct talk *t, int64_t n)
{
    struct page_key parent = t->chain[n / PAGE_SINK_TOKENS];
    const int32_t *tail = t->ids + n / PAGE_SINK_TOKENS * PAGE_SINK_TOKENS;
    return (struct page_checkpoint){
        parent, page_key_next(parent, tail, (size_t)n % PAGE_SINK_TOKENS), n};
}

static size_t checkpoint_bytes(int64_t n)
{
    return FIXED + (n % PAGE_SINK_TOKENS ? PAGE : 0);
}

static void put(struct kvstore *s, const struct talk *t, int64_t n)
{
    struct page_sink sink = *kvstore_sink(s);
    uint8_t bytes[FIXED + PAGE];
    for (int64_t i = 0; i < n / PAGE_SINK_TOKENS; i++) {
        struct page_link page = {t->chain[i], t->chain[i + 1]};
        fill(page.key, bytes, PAGE);
        sink.put_page(sink.ctx, &page, bytes, PAGE);
    }
    struct page_checkpoint c = at(t, n);
    fill(c.key, bytes, checkpoint_bytes(n));
    sink.put_checkpoint(sink.ctx, &c, bytes, checkpoint_bytes(n));
}

/* Length of the longest stored prefix of t's first n ids, every byte of it checked; 0 if none, -1
 * if the store said so but could not give it. */
static int64_t restore(struct kvstore *s, const struct talk *t, size_t n)
{
    struct page_sink sink = *kvstore_sink(s);
    struct page_checkpoint c;
    uint8_t found[FIXED + PAGE], expected[FIXED + PAGE];
    if (!sink.find(sink.ctx, t->chain, t->ids, n, &c))
        return 0;
    assert_true(c.n <= (int64_t)n && page_key_same(c.key, at(t, c.n).key));
    for (int64_t i = 0; i < c.n / PAGE_SINK_TOKENS; i++) {
        if (sink.get_page(sink.ctx, t->chain[i + 1], found, PAGE, NULL) != SLUICE_OK)
            return -1;
        fill(t->chain[i + 1], expected, PAGE);
        assert_memory_equal(found, expected, PAGE);
    }
    size_t size = checkpoint_bytes(c.n);
    if (sink.get_checkpoint(sink.ctx, c.key, found, size, NULL) != SLUICE_OK)
        return -1;
    fill(c.key, expected, size);
    assert_memory_equal(found, expected, size);
    return c.n;
}

static void remove_dir(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    assert_int_equal(system(command), 0);
}

static int setup(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/sluice-kv-XXXXXX");
    assert_non_null(mkdtemp(dir));
    warnings = 0;
    return 0;
}

static int teardown(void **state)
{
    remove_dir();
    return 0;
}

static void test_put_and_restart(void **state)
{
    struct talk a, b;
    make_talk(&a, 3);
    make_talk(&b, 5);
    struct kvstore *s = open_store(0, 7);
    put(s, &a, 600);
    put(s, &a, 768); /* at a page's end, under the page's key but one bit */
    put(s, &b, 300);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(restore(s, &a, 1000), 768);
        assert_int_equal(restore(s, &a, 767), 600);
        assert_int_equal(restore(s, &a, 599), 300); /* the beginning is b's too */
        assert_int_equal(restore(s, &b, 1000), 300);
        assert_int_equal(restore(s, &b, 299), 0);
        struct kvstore_stats stats;
        kvstore_stats(s, &stats);
        assert_int_equal(stats.records, 3 + 3);
        kvstore_close(s);
        s = open_store(0, 7);
    }
    kvstore_close(s);
    s = open_store(0, 8); /* another model: none of it */
    assert_int_equal(restore(s, &a, 1000), 0);
    kvstore_close(s);
    assert_int_equal(warnings, 0);
    struct stat st;
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 077, 0);
}

/* Calls fn on every record's path. */
static void each_file(const char *suffix, void (*fn)(const char *path))
{
    for (int i = 0; i < 256; i++) {
        char folder[128];
        snprintf(folder, sizeof folder, "%s/%02x", dir, i);
        DIR *d = opendir(folder);
        for (struct dirent *e; d && (e = readdir(d));) {
            char path[512];
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
            if (strstr(e->d_name, suffix))
                fn(path);
        }
        if (d)
            closedir(d);
    }
}

static void flip_last_byte(const char *path)
{
    FILE *f = fopen(path, "r+");
    fseek(f, -1, SEEK_END);
    int c = fgetc(f);
    fseek(f, -1, SEEK_END);
    fputc(c ^ 1, f);
    fclose(f);
}

static void truncate_half(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(truncate(path, st.st_size / 2), 0);
}

static void empty(const char *path)
{
    assert_int_equal(truncate(path, 0), 0);
}

/* After each harm nothing wrong is served, the harmed files are gone, and what is put again works.
 */
static void test_harm(void **state)
{
    void (*const harm[])(const char *) = {flip_last_byte, truncate_half, empty};
    struct talk a;
    make_talk(&a, 3);
    for (size_t i = 0; i < sizeof harm / sizeof *harm; i++) {
        struct kvstore *s = open_store(0, 7);
        put(s, &a, 300);
        put(s, &a, 600);
        kvstore_close(s);
        warnings = 0;
        each_file(".ckpt", harm[i]);
        s = open_store(0, 7);
        assert_true(restore(s, &a, 1000) <= 0);
        assert_true(restore(s, &a, 1000) <= 0);
        assert_int_equal(restore(s, &a, 1000), 0);
        assert_int_equal(warnings, 2);
        put(s, &a, 600);
        kvstore_flush(s);
        assert_int_equal(restore(s, &a, 1000), 600);
        kvstore_close(s);
        remove_dir();
        assert_int_equal(mkdir(dir, 0700), 0);
    }
}

static char first_path[512];

static void copy_over(const char *path)
{
    char command[1200];
    if (!first_path[0]) {
        snprintf(first_path, sizeof first_path, "%s", path);
        return;
    }
    snprintf(command, sizeof command, "cp '%s' '%s'", first_path, path);
    assert_int_equal(system(command), 0);
}

/* A whole record under another's name is not served as the other. */
static void test_swapped(void **state)
{
    struct talk a;
    make_talk(&a, 3);
    struct kvstore *s = open_store(0, 7);
    put(s, &a, 300);
    put(s, &a, 400);
    kvstore_flush(s);
    each_file(".ckpt", copy_over);
    int64_t n = restore(s, &a, 1000); /* every byte is compared with what it should be */
    assert_true(n == -1 || n == 400);
    if (n == 400)
        assert_true(restore(s, &a, 399) <= 0);
    kvstore_close(s);
}

static void test_budget(void **state)
{
    struct talk t[8];
    struct kvstore_stats stats;
    struct kvstore *s = open_store(40000, 7);
    for (int k = 0; k < 8; k++) {
        make_talk(&t[k], 3 + 2 * k);
        put(s, &t[k], 900);
        kvstore_flush(s);
        kvstore_stats(s, &stats);
        assert_true(stats.bytes <= 40000);
    }
    int kept = 0;
    for (int k = 0; k < 8; k++) {
        int64_t n = restore(s, &t[k], 1000);
        assert_true(n == 0 || n == 900); /* never part of one */
        kept += n == 900;
    }
    assert_true(kept >= 1 && kept < 8);
    kvstore_close(s);
}

static int writes_left;
static enum sluice_status (*file_write)(int fd, const void *bytes, size_t n, uint64_t offset,
                                        struct sluice_error *err);

static enum sluice_status write_until_full(int fd, const void *bytes, size_t n, uint64_t offset,
                                           struct sluice_error *err)
{
    if (writes_left-- > 0)
        return file_write(fd, bytes, n, offset, err);
    return status_fail(err, SLUICE_ERR_IO, -1, "No space left on device");
}

static void test_full_disk(void **state)
{
    struct talk a, b;
    make_talk(&a, 3);
    make_talk(&b, 5);
    struct store_io io = store_io;
    file_write = io.write;
    store_io.write = write_until_full;
    struct kvstore *s = open_store(0, 7);
    writes_left = 2;
    put(s, &a, 300);
    kvstore_flush(s);
    put(s, &b, 600);
    kvstore_flush(s);
    put(s, &b, 900);
    kvstore_flush(s);
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(last_warning, "No space left"));
    assert_int_equal(restore(s, &b, 1000), 300);
    struct kvstore_stats stats;
    kvstore_stats(s, &stats);
    assert_int_equal(stats.written, 2);
    assert_true(stats.dropped > 0);
    kvstore_close(s);
    store_io = io;
    s = open_store(0, 7);
    assert_int_equal(restore(s, &a, 1000), 300);
    kvstore_close(s);
}

static void test_two_processes(void **state)
{
    struct talk a;
    make_talk(&a, 3);
    struct kvstore *first = open_store(0, 7);
    put(first, &a, 300);
    kvstore_flush(first);
    struct kvstore *second = open_store(0, 7);
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(last_warning, "only reads"));
    assert_int_equal(restore(second, &a, 1000), 300);
    put(second, &a, 600); /* ignored */
    kvstore_flush(second);
    assert_int_equal(restore(second, &a, 1000), 300);
    kvstore_close(second);
    kvstore_close(first);
}

/* A child that writes and tells what is safe; killed at any moment, that much must be there. */
static void child(int to)
{
    struct kvstore *s = open_store(0, 7);
    for (int k = 2;; k++) {
        struct talk t;
        make_talk(&t, k);
        put(s, &t, 600);
        kvstore_flush(s);
        if (write(to, &k, sizeof k) != sizeof k)
            _exit(1);
    }
}

static void test_kill(void **state)
{
    int safe = 1;
    for (uint64_t i = 0; i < 25; i++) {
        int pipes[2];
        assert_int_equal(pipe(pipes), 0);
        pid_t pid = fork();
        if (pid == 0)
            child(pipes[1]);
        close(pipes[1]);
        usleep((useconds_t)(1000 + rng_u64(9, i) % 40000));
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        for (int k; read(pipes[0], &k, sizeof k) == sizeof k;)
            safe = k > safe ? k : safe;
        close(pipes[0]);
        struct kvstore *s = open_store(0, 7);
        for (int k = 2; k <= safe; k++) {
            struct talk t;
            make_talk(&t, k);
            assert_int_equal(restore(s, &t, 1000), 600);
        }
        kvstore_close(s);
    }
    assert_true(safe > 2);
    assert_int_equal(warnings, 0);
}

static int n_items, n_bad;

static void count_item(void *ctx, const struct kvstore_item *item)
{
    n_items++;
    n_bad += item->status != SLUICE_OK;
    assert_true(item->bytes > 0 && item->identity.model == 7);
}

static void test_list(void **state)
{
    struct talk a;
    make_talk(&a, 3);
    struct kvstore *s = open_store(0, 7);
    put(s, &a, 600);
    kvstore_close(s);
    assert_int_equal(kvstore_list(dir, /*deep=*/true, count_item, NULL, NULL), SLUICE_OK);
    assert_int_equal(n_items, 3);
    assert_int_equal(n_bad, 0);
    each_file(".ckpt", flip_last_byte);
    assert_int_equal(kvstore_list(dir, /*deep=*/true, count_item, NULL, NULL), SLUICE_OK);
    assert_int_equal(n_bad, 1);
    assert_int_equal(kvstore_list("/nonexistent", true, count_item, NULL, NULL), SLUICE_ERR_IO);
}

/* Value: by hand. A page that nothing needs goes first, then what is old or large for its tokens.
 */
static void test_value(void **state)
{
    struct index_entry page = {.r.kind = RECORD_PAGE, .bytes = 99, .last_use = 1000};
    struct index_entry young = {
        .r = {.kind = RECORD_CHECKPOINT, .n = 100}, .bytes = 99, .last_use = 1000};
    struct index_entry old = young, large = young;
    old.last_use = 100;
    large.bytes = 999;
    assert_close(index_value(&page, 1000), 0, 0);
    assert_close(index_value(&young, 1000), 100.0 / 100 / 60, 1e-12);
    assert_close(index_value(&old, 1000), 100.0 / 100 / 960, 1e-12);
    assert_close(index_value(&large, 1000), 100.0 / 1000 / 60, 1e-12);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_put_and_restart), TEST(test_harm),          TEST(test_swapped), TEST(test_budget),
        TEST(test_full_disk),       TEST(test_two_processes), TEST(test_kill),    TEST(test_list),
        TEST(test_value),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
