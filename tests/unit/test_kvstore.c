/* The disk store: what is put comes back whole or not at all, across restarts, harm, full disks,
 * kills and other processes. */
#include <fcntl.h>

#include "support/kv_talks.h"

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

static struct talk shown;
static int n_shown;

static void check_state(void *ctx, const struct kvstore_state *k)
{
    const bool *whole = ctx;
    n_shown++;
    assert_int_equal(k->identity.model, 7);
    assert_int_equal(k->pages, k->n / PAGE_SINK_TOKENS);
    assert_int_equal(k->page_bytes > 0, k->pages > 0);
    assert_int_equal(strlen(k->id), 32);
    assert_true(k->bytes > 0);
    assert_int_equal(k->n_ids, *whole || k->n < 256 ? k->n : 256);
    assert_memory_equal(k->ids, shown.ids, k->n_ids * sizeof *k->ids);
}

static void test_show(void **state)
{
    bool whole = false;
    struct sluice_error err;
    char id[33];
    make_talk(&shown, 3);
    struct kvstore *s = open_store(0, 7);
    put(s, &shown, 200);
    put(s, &shown, 900);
    kvstore_flush(s); /* it may be looked at while it is written to */
    n_shown = 0;
    assert_int_equal(kvstore_show(dir, NULL, check_state, &whole, &err), SLUICE_OK);
    assert_int_equal(n_shown, 2);
    struct page_key key = record_checkpoint_key(at(&shown, 900).key);
    snprintf(id, sizeof id, "%016llx%016llx", (unsigned long long)key.high,
             (unsigned long long)key.low);
    whole = true;
    assert_int_equal(kvstore_show(dir, id, check_state, &whole, &err), SLUICE_OK);
    id[9] = '\0';
    assert_int_equal(kvstore_show(dir, id, check_state, &whole, &err), SLUICE_OK);
    assert_int_equal(n_shown, 4);
    assert_int_equal(kvstore_show(dir, "", check_state, &whole, &err), SLUICE_ERR_ARG);
    assert_int_equal(kvstore_show(dir, "x", check_state, &whole, &err), SLUICE_ERR_ARG);
    assert_int_equal(kvstore_show("/nonexistent", NULL, check_state, &whole, &err), SLUICE_ERR_IO);
    assert_int_equal(n_shown, 4);
    kvstore_close(s);
    assert_int_equal(warnings, 0);
}

/* By hand: twice the tokens are worth six hours; a page is worth a state of 4,096; a state that
 * pages go beyond is worth a day less than that, while they do. */
static void test_rank(void **state)
{
    enum { HOUR = 3600 };
    struct index x;
    struct page_key root = {1, 1}, p = {2, 2}, young = {3, 3}, old = {4, 4}, next = {5, 5};
    assert_int_equal(index_init(&x, NULL), SLUICE_OK);
    const struct index_entry all[] = {
        {.r = {RECORD_PAGE, p, root, 0}, .at_root = true, .last_use = 90 * HOUR},
        {.r = {RECORD_CHECKPOINT, young, p, 8192}, .last_use = 90 * HOUR},
        {.r = {RECORD_CHECKPOINT, old, p, 2048}, .last_use = 70 * HOUR},
        {.r = {RECORD_PAGE, next, p, 0}, .last_use = 100 * HOUR}};
    for (int i = 0; i < 3; i++)
        assert_non_null(index_add(&x, &all[i]));
    assert_close(index_rank(index_find(&x, p)), 90 * HOUR, 0);
    assert_close(index_rank(index_find(&x, young)), 96 * HOUR, 0);
    assert_close(index_rank(index_find(&x, old)), 64 * HOUR, 0);
    assert_non_null(index_add(&x, &all[3]));
    assert_close(index_rank(index_find(&x, young)), 66 * HOUR, 0);
    index_remove(&x, index_find(&x, old), NULL, NULL);
    assert_ptr_equal(index_worst(&x), index_find(&x, young));
    index_remove(&x, index_find(&x, next), NULL, NULL);
    assert_close(index_rank(index_find(&x, young)), 96 * HOUR, 0);
    index_deinit(&x);
}

int main(void)
{
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_put_and_restart), TEST(test_harm),          TEST(test_swapped), TEST(test_budget),
        TEST(test_full_disk),       TEST(test_two_processes), TEST(test_list),    TEST(test_show),
        TEST(test_rank),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
