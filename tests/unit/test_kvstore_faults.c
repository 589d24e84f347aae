/* The disk store when something is in its way: a slow, full or failing disk, lost pages, other
 * models' records, another process, hands. */
#include <math.h>
#include <pthread.h>

#include "support/kv_talks.h"

/* ---- a disk that does as it is told ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t opened;
    bool shut;                   /* writes wait */
    int failures;                /* of the next writes */
    double now;
} disk = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0, 0};

static enum sluice_status (*plain_write)(int fd, const void *bytes, size_t n, uint64_t offset,
                                         struct sluice_error *err);

static enum sluice_status disk_write(int fd, const void *bytes, size_t n, uint64_t offset,
                                     struct sluice_error *err)
{
    pthread_mutex_lock(&disk.lock);
    while (disk.shut)
        pthread_cond_wait(&disk.opened, &disk.lock);
    bool fails = disk.failures > 0;
    disk.failures -= fails;
    pthread_mutex_unlock(&disk.lock);
    if (fails)
        return status_fail(err, SLUICE_ERR_IO, -1, "No space left on device");
    return plain_write(fd, bytes, n, offset, err);
}

static double disk_clock(void)
{
    pthread_mutex_lock(&disk.lock);
    double t = disk.now;
    pthread_mutex_unlock(&disk.lock);
    return t;
}

static int no_sync(int fd)
{
    return 0;
}

static void disk_set(bool shut, int failures, double now)
{
    pthread_mutex_lock(&disk.lock);
    disk.shut = shut;
    disk.failures = failures;
    disk.now = now;
    pthread_cond_broadcast(&disk.opened);
    pthread_mutex_unlock(&disk.lock);
}

static struct store_io plain;

static int setup_disk(void **state)
{
    plain = store_io;
    plain_write = store_io.write;
    store_io.write = disk_write;
    store_io.sync = no_sync;
    store_io.clock = disk_clock;
    disk_set(false, 0, 1000);
    return setup(state);
}

static int teardown_disk(void **state)
{
    store_io = plain;
    return teardown(state);
}

static int64_t bytes_there;
static int files_there;

static void add_file(const char *path)
{
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    bytes_there += st.st_size;
    files_there++;
}

static int count_files(void)
{
    bytes_there = files_there = 0;
    each_file(".page", add_file);
    each_file(".ckpt", add_file);
    each_file(".tmp", add_file);
    return files_there;
}

/* ---- what is in the way ---- */

/* The budget is the folder's, whatever the records are of. */
static void test_other_models(void **state)
{
    struct talk t;
    struct kvstore *s = open_store(0, 7);
    for (int k = 2; k < 6; k++) {
        make_talk(&t, k);
        put(s, &t, 900);
    }
    kvstore_close(s);
    count_files();
    int64_t before = bytes_there;
    assert_true(before > 40000);
    s = open_store(before + 4000, 8);
    for (int k = 2; k < 6; k++) {
        make_talk_of(&t, k, 8);
        put(s, &t, 900);
        kvstore_flush(s);
        count_files();
        assert_true(bytes_there <= before + 4000);
        assert_int_equal(restore(s, &t, 1000), 900);
    }
    kvstore_close(s);
    s = open_store(20000, 8); /* a smaller budget: at once */
    count_files();
    assert_true(bytes_there <= 20000 && files_there > 0);
    kvstore_close(s);
    assert_int_equal(warnings, 0);
}

static struct page_key lost_key;

static void unlink_lost(const char *path)
{
    char name[64];
    snprintf(name, sizeof name, "%016llx%016llx", (unsigned long long)lost_key.high,
             (unsigned long long)lost_key.low);
    if (strstr(path, name))
        assert_int_equal(unlink(path), 0);
}

static void flip_lost(const char *path)
{
    char name[64];
    snprintf(name, sizeof name, "%016llx%016llx", (unsigned long long)lost_key.high,
             (unsigned long long)lost_key.low);
    if (strstr(path, name))
        flip_last_byte(path);
}

/* What goes on from a lost page is of no use and must not stay. */
static void test_lost_at_open(void **state)
{
    struct talk a, b;
    make_talk(&a, 3);
    make_talk(&b, 5);
    struct kvstore *s = open_store(0, 7);
    put(s, &a, 900);
    put(s, &b, 400);
    kvstore_close(s);
    assert_int_equal(count_files(), 3 + 1 + 1);
    lost_key = a.chain[2];
    each_file(".page", unlink_lost);
    s = open_store(0, 7);
    assert_int_equal(warnings, 2); /* the third page and the state at 900 */
    assert_int_equal(count_files(), 2);
    assert_int_equal(restore(s, &a, 1000), 0);
    assert_int_equal(restore(s, &b, 1000), 400);
    kvstore_close(s);
}

static void test_lost_when_noticed(void **state)
{
    struct talk a, b;
    make_talk(&a, 3);
    make_talk(&b, 5);
    struct kvstore *s = open_store(0, 7);
    put(s, &a, 900);
    put(s, &b, 400);
    kvstore_flush(s);
    lost_key = a.chain[2];
    each_file(".page", flip_lost);
    assert_int_equal(restore(s, &a, 1000), -1);
    assert_int_equal(warnings, 1);
    assert_int_equal(restore(s, &a, 1000), 0);
    kvstore_flush(s);
    assert_int_equal(count_files(), 2);
    put(s, &a, 900);
    kvstore_flush(s);
    assert_int_equal(restore(s, &a, 1000), 900);
    assert_int_equal(restore(s, &b, 1000), 400);
    kvstore_close(s);
}

/* Saving goes on when the disk does, and each change is said once. */
static void test_retry(void **state)
{
    struct talk t;
    struct kvstore *s = open_store(0, 7);
    make_talk(&t, 3);
    disk_set(false, 2, 1000);
    put(s, &t, 900);
    kvstore_flush(s);
    put(s, &t, 900);
    kvstore_flush(s);
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(last_warning, "No space left"));
    assert_int_equal(count_files(), 0);
    disk_set(false, 1, 1002); /* tried again, in vain: nothing is said */
    put(s, &t, 900);
    kvstore_flush(s);
    assert_int_equal(warnings, 1);
    disk_set(false, 0, 1003); /* too early: the pause is two seconds now */
    put(s, &t, 900);
    kvstore_flush(s);
    assert_int_equal(count_files(), 0);
    disk_set(false, 0, 1005);
    put(s, &t, 900);
    kvstore_flush(s);
    assert_int_equal(warnings, 2);
    assert_non_null(strstr(last_warning, "saved again"));
    assert_int_equal(restore(s, &t, 1000), 900);
    kvstore_close(s);
}

/* More than the cap waits: said once, and once when it is over. */
static void test_slow_disk(void **state)
{
    struct talk t;
    struct kvstore *s = open_store(0, 7);
    store_io.queue_bytes = 20000;
    disk_set(true, 0, 1000);
    for (int k = 2; k < 8; k++) {
        make_talk(&t, k);
        put(s, &t, 900);
    }
    assert_int_equal(warnings, 1);
    assert_non_null(strstr(last_warning, "wait for the disk"));
    struct kvstore_stats stats;
    kvstore_stats(s, &stats);
    assert_true(stats.dropped > 0);
    disk_set(false, 0, 1000);
    kvstore_flush(s);
    put(s, &t, 900);
    kvstore_flush(s);
    assert_int_equal(warnings, 2);
    assert_int_equal(restore(s, &t, 1000), 900);
    kvstore_close(s);
}

/* What waits to be written is served without waiting for it. */
static void test_get_while_writing(void **state)
{
    struct talk t;
    struct kvstore *s = open_store(0, 7);
    make_talk(&t, 3);
    disk_set(true, 0, 1000);
    put(s, &t, 900);
    assert_int_equal(restore(s, &t, 1000), 900);
    disk_set(false, 0, 1000);
    kvstore_flush(s);
    assert_int_equal(restore(s, &t, 1000), 900);
    kvstore_close(s);
}

/* Pages that wait for their state are not given up for it. */
static void test_pages_before_state(void **state)
{
    struct talk a, b;
    make_talk(&a, 3);
    make_talk(&b, 5);
    struct kvstore *s = open_store(0, 7);
    put(s, &a, 900);
    kvstore_close(s);
    count_files();
    s = open_store(bytes_there + 5000, 7); /* one more page fits */
    put_pages(s, &b, 512);
    kvstore_flush(s);
    put_pages(s, &b, 900);
    kvstore_flush(s);
    put_checkpoint(s, &b, 900);
    kvstore_flush(s);
    assert_int_equal(restore(s, &b, 1000), 900);
    kvstore_close(s);
    assert_int_equal(warnings, 0);
}

/* Conversations that were too short for a state leave pages, which make room like all else. */
static void test_pages_without_state(void **state)
{
    struct kvstore *s = open_store(40000, 7);
    int said = warnings;
    for (int k = 3; k < 40; k++) {
        struct talk t;
        make_talk(&t, k);
        put_pages(s, &t, 600);
        put_done(s);
        kvstore_flush(s);
        assert_true(kvstore_sink(s)->has_page(kvstore_sink(s)->ctx, t.chain[2]));
        put_done(s);
    }
    assert_int_equal(warnings, said);
    kvstore_close(s);
}

/* A second process leaves what it cannot use where it is, and says so. */
static void test_reader_removes_nothing(void **state)
{
    struct talk t;
    make_talk(&t, 3);
    struct kvstore *first = open_store(0, 7);
    put(first, &t, 900);
    kvstore_flush(first);
    each_file(".ckpt", truncate_half);
    int n = count_files();
    struct kvstore *second = open_store(0, 7);
    assert_int_equal(warnings, 2); /* that it only reads; the record */
    assert_int_equal(restore(second, &t, 1000), 0);
    kvstore_close(second);
    assert_int_equal(count_files(), n);
    kvstore_close(first);
}

static void test_reader_says_left_out(void **state)
{
    struct talk t;
    make_talk(&t, 3);
    struct kvstore *first = open_store(0, 7);
    put(first, &t, 900);
    kvstore_flush(first);
    struct kvstore *second = open_store(0, 7);
    each_file(".ckpt", flip_last_byte);
    assert_int_equal(restore(second, &t, 1000), -1);
    assert_non_null(strstr(last_warning, "left out"));
    kvstore_close(second);
    assert_int_equal(restore(first, &t, 1000), -1);
    assert_non_null(strstr(last_warning, "removed"));
    kvstore_close(first);
}

static void test_prune(void **state)
{
    struct talk t;
    struct kvstore_options o = {.dir = dir, .log = on_log};
    struct kvstore_stats stats;
    struct sluice_error err;
    struct kvstore *s = open_store(0, 7);
    for (int k = 2; k < 8; k++) {
        make_talk(&t, k);
        put(s, &t, 900);
    }
    kvstore_flush(s);
    assert_int_equal(kvstore_prune(&o, &stats, &err), SLUICE_ERR_STATE);
    assert_non_null(strstr(err.message, "another process"));
    kvstore_close(s);
    count_files();
    /* At every size what is left is whole conversations. */
    for (int64_t most = bytes_there - 1; most > 0; most -= 5000) {
        o.bytes = most;
        assert_int_equal(kvstore_prune(&o, &stats, &err), SLUICE_OK);
        count_files();
        assert_true(bytes_there <= most && stats.bytes == bytes_there);
        s = open_store(0, 7);
        for (int k = 2; k < 8; k++) {
            make_talk(&t, k);
            int64_t n = restore(s, &t, 1000);
            assert_true(n == 0 || n == 900);
        }
        kvstore_close(s);
    }
    assert_int_equal(warnings, 0);
    o.bytes = 0;
    assert_int_equal(kvstore_prune(&o, &stats, &err), SLUICE_OK);
    assert_int_equal(count_files(), 0);
    o.dir = "/nonexistent/kv";
    assert_int_equal(kvstore_prune(&o, &stats, &err), SLUICE_ERR_IO);
}

/* ---- the index ---- */

static int n_left;
static void count_left(void *ctx, struct index_entry *e)
{
    n_left++;
}

/* Forged headers: records that go on from each other, or from themselves. */
static void test_rings(void **state)
{
    struct index x;
    struct page_key a = {1, 1}, b = {2, 2}, c = {3, 3}, d = {4, 4}, root = {9, 9};
    const struct index_entry all[] = {
        {.r = {RECORD_PAGE, a, b, 0}},
        {.r = {RECORD_PAGE, b, a, 0}},
        {.r = {RECORD_CHECKPOINT, d, b, 600}},
        {.r = {RECORD_PAGE, c, root, 0}, .at_root = true},
        {.r = {RECORD_PAGE, {5, 5}, {5, 5}, 0}},
        {.r = {RECORD_CHECKPOINT, {6, 6}, c, 300}}};
    assert_int_equal(index_init(&x, NULL), SLUICE_OK);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        assert_non_null(index_add(&x, &all[i]));
    n_left = 0;
    index_remove_orphans(&x, count_left, NULL);
    assert_int_equal(n_left, 4);
    assert_int_equal(x.n, 2);
    assert_non_null(index_find(&x, c));
    index_remove(&x, index_find(&x, c), count_left, NULL);
    assert_int_equal(n_left, 6);
    assert_int_equal(x.n, 0);
    assert_null(index_worst(&x));
    index_deinit(&x);
}

/* The longest stored prefix, and the entry to give up, against looking at all of them. */
enum { N_KNOWN = 600, TALK = 700 };
static struct known {
    int32_t ids[TALK];
    size_t n;
    struct page_key key;         /* of the record */
} known[N_KNOWN];
static size_t n_known;
static uint64_t draws;

static uint64_t draw(uint64_t below)
{
    return rng_u64(23, draws++) % below;
}

static void chain_of(const int32_t *ids, size_t n, struct page_key *chain)
{
    chain[0] = page_key_root(&identity);
    for (size_t i = 0; i < n / PAGE_SINK_TOKENS; i++)
        chain[i + 1] = page_key_next(chain[i], ids + i * PAGE_SINK_TOKENS, PAGE_SINK_TOKENS);
}

static size_t draw_ids(int32_t *ids)
{
    size_t n = 1 + draw(TALK), same = 0;
    if (n_known && draw(5)) {
        const struct known *k = &known[draw(n_known)];
        same = draw(k->n + 1);
        same = same < n ? same : n;
        memcpy(ids, k->ids, same * sizeof *ids);
    }
    for (size_t i = same; i < n; i++)
        ids[i] = (int32_t)draw(2);
    return n;
}

static void put_known(struct kvstore *s, const int32_t *ids, size_t n)
{
    const struct page_sink *sink = kvstore_sink(s);
    struct page_key chain[TALK / PAGE_SINK_TOKENS + 1];
    size_t pages = n / PAGE_SINK_TOKENS;
    chain_of(ids, n, chain);
    for (size_t i = 0; i < pages; i++) {
        struct page_link page = {chain[i], chain[i + 1], ids + i * PAGE_SINK_TOKENS};
        assert_true(sink->put_page(sink->ctx, &page, "p", 1));
    }
    const int32_t *tail = ids + pages * PAGE_SINK_TOKENS;
    struct page_checkpoint c = {
        chain[pages], page_key_next(chain[pages], tail, n % PAGE_SINK_TOKENS), (int64_t)n};
    bool there = sink->has_checkpoint(sink->ctx, c.key);
    assert_true(sink->put_checkpoint(sink->ctx, &c, tail, "c", 1));
    sink->done(sink->ctx);
    if (there)
        return;
    memcpy(known[n_known].ids, ids, n * sizeof *ids);
    known[n_known].n = n;
    known[n_known++].key = record_checkpoint_key(c.key);
}

static void check_find(struct kvstore *s, const int32_t *ids, size_t n)
{
    const struct page_sink *sink = kvstore_sink(s);
    struct page_key chain[TALK / PAGE_SINK_TOKENS + 1];
    struct page_checkpoint found;
    size_t best = 0;
    for (size_t i = 0; i < n_known; i++)
        if (known[i].n <= n && known[i].n > best &&
            memcmp(known[i].ids, ids, known[i].n * sizeof *ids) == 0)
            best = known[i].n;
    chain_of(ids, n, chain);
    assert_int_equal(sink->find(sink->ctx, chain, ids, n, &found), best > 0);
    if (best)
        assert_int_equal(found.n, best);
}

static void test_find(void **state)
{
    int32_t ids[TALK];
    struct kvstore *s = open_store(0, 7);
    draws = n_known = 0;
    for (int i = 0; i < 6000; i++) {
        size_t n = draw_ids(ids);
        if (n_known < N_KNOWN && draw(3) == 0) {
            put_known(s, ids, n);
        } else if (n_known > N_KNOWN / 2 && draw(4) == 0) {
            size_t k = draw(n_known);
            pthread_mutex_lock(&s->lock);
            store_forget(s, index_find(&s->index, known[k].key));
            pthread_mutex_unlock(&s->lock);
            known[k] = known[--n_known];
        }
        check_find(s, ids, n);
    }
    assert_true(n_known > N_KNOWN / 3);
    kvstore_close(s);
}

static void test_worst(void **state)
{
    struct index x;
    assert_int_equal(index_init(&x, NULL), SLUICE_OK);
    struct page_key root = {1, 1};
    for (uint64_t i = 0; i < 3000; i++) {
        struct page_key key = {2 + draw(500), 0};
        struct index_entry *e = index_find(&x, key);
        bool page = draw(40) == 0;
        struct index_entry new = {
            .r = {page ? RECORD_PAGE : RECORD_CHECKPOINT, key, root,
                  page ? 0 : 1 + (int64_t)draw(5000)},
            .at_root = true,
            .last_use = (int64_t)draw(1000000)};
        if (!e)
            assert_non_null(index_add(&x, &new));
        else if (draw(2))
            index_touch(&x, e, (int64_t)draw(1000000));
        else
            index_remove(&x, e, NULL, NULL);
        double least = INFINITY;
        for (uint64_t k = 2; k < 502; k++)
            if ((e = index_find(&x, (struct page_key){k, 0})) && index_rank(e) < least)
                least = index_rank(e);
        assert_int_equal(index_worst(&x) != NULL, x.n > 0);
        if (x.n)
            assert_true(index_rank(index_worst(&x)) == least);
    }
    index_deinit(&x);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup_disk, teardown_disk)
    const struct CMUnitTest tests[] = {
        TEST(test_other_models),
        TEST(test_lost_at_open),
        TEST(test_lost_when_noticed),
        TEST(test_retry),
        TEST(test_slow_disk),
        TEST(test_get_while_writing),
        TEST(test_pages_before_state),
        TEST(test_pages_without_state),
        TEST(test_reader_removes_nothing),
        TEST(test_reader_says_left_out),
        TEST(test_prune),
        TEST(test_find),
        cmocka_unit_test(test_rings),
        cmocka_unit_test(test_worst),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
