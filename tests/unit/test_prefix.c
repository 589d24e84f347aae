/* The tree of prefixes against looking at every mark, over random additions, removals and
 * questions. */
#include <stdbool.h>

#include "base/rng.h"
#include "engine/prefix.h"
#include "support/unit.h"

enum { MAX_MARKS = 400, MAX_N = 300 };

/* What the oracle knows of a mark. */
struct known {
    int32_t ids[MAX_N];
    int64_t n, from;
    struct prefix_mark *mark;
};

static uint64_t draws;
static uint64_t draw(uint64_t below)
{
    return rng_u64(17, draws++) % below;
}

/* A sequence that shares a beginning with a known one more often than not. */
static int64_t sequence(const struct known *known, size_t n_known, int32_t *ids)
{
    int64_t n = 1 + (int64_t)draw(MAX_N), same = 0;
    if (n_known && draw(4)) {
        const struct known *k = &known[draw(n_known)];
        same = (int64_t)draw((uint64_t)k->n + 1);
        same = same < n ? same : n;
        memcpy(ids, k->ids, (size_t)same * sizeof *ids);
    }
    for (int64_t i = same; i < n; i++)
        ids[i] = (int32_t)draw(draw(3) ? 2 : 100000);
    return n;
}

static int64_t common(const struct known *k, const int32_t *ids, int64_t n)
{
    int64_t most = k->n < n ? k->n : n, i = 0;
    while (i < most && k->ids[i] == ids[i])
        i++;
    return i;
}

static void check_find(const struct prefix *t, const struct known *known, size_t n_known,
                       const int32_t *ids, int64_t n)
{
    int64_t best = 0, from = 0, same = -1;
    for (size_t i = 0; i < n_known; i++) {
        int64_t c = common(&known[i], ids, n);
        if (c == 0 || c < known[i].from || c < best)
            continue;
        from = c > best || known[i].from < from ? known[i].from : from;
        best = c;
    }
    const struct prefix_mark *found = prefix_find(t, ids, (size_t)n, &same);
    assert_int_equal(same, best);
    assert_int_equal(found != NULL, best > 0);
    if (found) {
        const struct known *k = found->owner;
        assert_ptr_equal(k->mark, found);
        assert_int_equal(common(k, ids, n), best);
        assert_int_equal(found->from, from);
    }
}

static void add(struct prefix *t, struct known *k, const struct known *all, size_t n_all)
{
    static const int64_t slack[] = {0, 1, 16};
    k->n = sequence(all, n_all, k->ids);
    k->from = k->n - slack[draw(3)];
    k->from = k->from > 0 ? k->from : 0;
    struct prefix_mark mark = {.n = k->n, .from = k->from, .owner = k};
    assert_int_equal(prefix_add(t, k->ids, &mark, &k->mark, NULL), SLUICE_OK);
}

/* The last takes the removed one's place. */
static void take_out(struct prefix *t, struct known *all, size_t *n, size_t i)
{
    prefix_remove(t, all[i].mark);
    all[i] = all[--*n];
    if (i < *n)
        all[i].mark->owner = &all[i];
}

static void test_random(void **state)
{
    static struct known known[MAX_MARKS];
    size_t n_known = 0;
    struct prefix *t;
    int32_t ids[MAX_N];
    assert_int_equal(prefix_open(&t, NULL), SLUICE_OK);
    for (int i = 0; i < 30000; i++) {
        /* Grows and shrinks in turn. */
        bool grow = i / 500 % 3 != 2;
        if (n_known < MAX_MARKS && draw(10) < (grow ? 6 : 2)) {
            add(t, &known[n_known], known, n_known);
            n_known++;
        } else if (n_known && draw(10) < (grow ? 3 : 7)) {
            take_out(t, known, &n_known, draw(n_known));
        }
        int64_t n = sequence(known, n_known, ids);
        check_find(t, known, n_known, ids, n);
    }
    while (n_known)
        take_out(t, known, &n_known, draw(n_known));
    check_find(t, known, 0, ids, MAX_N);
    prefix_close(t);
}

/* By hand: a state that is used whole, and one that may be two ids shorter. */
static void test_from(void **state)
{
    const int32_t ids[] = {5, 6, 7, 8, 9}, other[] = {5, 6, 7, 1};
    struct prefix *t;
    struct prefix_mark *whole, *shorter;
    int64_t same;
    assert_int_equal(prefix_open(&t, NULL), SLUICE_OK);
    assert_null(prefix_find(t, ids, 5, &same));
    struct prefix_mark mark = {.n = 2, .from = 2};
    assert_int_equal(prefix_add(t, ids, &mark, &whole, NULL), SLUICE_OK);
    mark = (struct prefix_mark){.n = 5, .from = 3};
    assert_int_equal(prefix_add(t, ids, &mark, &shorter, NULL), SLUICE_OK);
    assert_ptr_equal(prefix_find(t, ids, 5, &same), shorter);
    assert_int_equal(same, 5);
    assert_ptr_equal(prefix_find(t, other, 4, &same), shorter);
    assert_int_equal(same, 3);
    assert_ptr_equal(prefix_find(t, ids, 2, &same), whole);
    assert_int_equal(same, 2);
    assert_null(prefix_find(t, ids, 1, &same));
    assert_int_equal(same, 0);
    prefix_remove(t, shorter);
    assert_ptr_equal(prefix_find(t, other, 4, &same), whole);
    assert_int_equal(same, 2);
    prefix_close(t); /* frees the mark that is left */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random), cmocka_unit_test(test_from)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
