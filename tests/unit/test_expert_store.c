/* The store of resident experts: whole layers, and leases of single ones. */
#include "stream/expert_store.h"
#include "support/unit.h"

static uint8_t bytes[1000];
static const struct expert_bytes layers[2] = {
    {bytes, bytes + 100, bytes + 200, 10, 11, 12},
    {bytes + 300, bytes + 400, bytes + 500, 20, 21, 22},
};
static struct sluice_error err;

static struct expert_store *open_store(bool by_expert)
{
    struct expert_store *s;
    struct expert_store_config c = {
        .layer = layers, .n_layer = 2, .n_expert = 5, .by_expert = by_expert,
    };
    assert_int_equal(expert_store_open_resident(&c, &s, &err), SLUICE_OK);
    return s;
}

static void a_resident_layer_needs_no_ids(void **state)
{
    struct expert_store *s = open_store(/*by_expert=*/false);
    struct expert_lease a, b;
    assert_true(expert_store_resident(s, 1));
    assert_int_equal(expert_store_acquire(s, 1, NULL, 0, &a, &err), SLUICE_OK);
    assert_int_equal(expert_store_acquire(s, 0, NULL, 0, &b, &err), SLUICE_OK);
    assert_ptr_equal(a.all.down, bytes + 500);
    assert_int_equal(a.all.up_stride, 21);
    assert_null(a.place);
    expert_store_release(s, &a);
    expert_store_release(s, &b);
    expert_store_close(s);
}

static void leases_hold_what_was_asked_for(void **state)
{
    struct expert_store *s = open_store(/*by_expert=*/true);
    struct expert_lease lease;
    const int32_t ids[] = {3, 0, 3};
    assert_false(expert_store_resident(s, 1));
    assert_int_equal(expert_store_acquire(s, 1, ids, 3, &lease, &err), SLUICE_OK);
    assert_null(lease.all.gate);
    assert_ptr_equal(lease.place[3].gate, bytes + 300 + 3 * 20);
    assert_ptr_equal(lease.place[3].up, bytes + 400 + 3 * 21);
    assert_ptr_equal(lease.place[0].down, bytes + 500);
    assert_null(lease.place[1].gate);
    assert_null(lease.place[4].down);
    expert_store_release(s, &lease);

    const int32_t other[] = {4};
    assert_int_equal(expert_store_acquire(s, 1, other, 1, &lease, &err), SLUICE_OK);
    assert_null(lease.place[3].gate);
    assert_ptr_equal(lease.place[4].gate, bytes + 300 + 4 * 20);
    expert_store_release(s, &lease);
    expert_store_close(s);
}

static void ids_outside_are_refused(void **state)
{
    struct expert_store *s = open_store(/*by_expert=*/true);
    struct expert_lease lease;
    const int32_t high[] = {1, 5}, low[] = {-1};
    assert_int_equal(expert_store_acquire(s, 0, high, 2, &lease, &err), SLUICE_ERR_ARG);
    assert_non_null(strstr(err.message, "found 5"));
    assert_int_equal(expert_store_acquire(s, 0, low, 1, &lease, &err), SLUICE_ERR_ARG);
    /* A refused lease is not out. */
    const int32_t good[] = {2};
    assert_int_equal(expert_store_acquire(s, 0, good, 1, &lease, &err), SLUICE_OK);
    assert_null(lease.place[1].gate);
    expert_store_release(s, &lease);
    expert_store_close(s);
}

static void an_empty_store_is_refused(void **state)
{
    struct expert_store *s;
    struct expert_store_config c = {.layer = layers, .n_layer = 0, .n_expert = 5};
    assert_int_equal(expert_store_open_resident(&c, &s, &err), SLUICE_ERR_ARG);
    c = (struct expert_store_config){.layer = layers, .n_layer = 2, .n_expert = 0};
    assert_int_equal(expert_store_open_resident(&c, &s, &err), SLUICE_ERR_ARG);
    assert_null(s);
    expert_store_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_resident_layer_needs_no_ids),
        cmocka_unit_test(leases_hold_what_was_asked_for),
        cmocka_unit_test(ids_outside_are_refused),
        cmocka_unit_test(an_empty_store_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
