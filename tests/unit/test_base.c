/* Status records, the capped buffer, string views. */
#include "base/buf.h"
#include "base/status.h"
#include "base/str.h"
#include "support/unit.h"

static enum sluice_status inner(int fails, struct sluice_error *err)
{
    FAIL_IF(fails, err, SLUICE_ERR_LIMIT, "expected %d, found %d", 0, fails);
    return SLUICE_OK;
}

static enum sluice_status outer(int fails, struct sluice_error *err, int *reached)
{
    TRY(inner(fails, err));
    *reached = 1;
    return SLUICE_OK;
}

static void failures_pass_up_with_their_record(void **state)
{
    struct sluice_error err = {.message = "untouched"};
    int reached = 0;
    assert_int_equal(outer(0, &err, &reached), SLUICE_OK);
    assert_string_equal(err.message, "untouched");
    assert_int_equal(reached, 1);
    reached = 0;
    assert_int_equal(outer(7, &err, &reached), SLUICE_ERR_LIMIT);
    assert_int_equal(err.code, SLUICE_ERR_LIMIT);
    assert_int_equal(err.position, -1);
    assert_string_equal(err.message, "expected 0, found 7");
    assert_int_equal(reached, 0);
    assert_int_equal(outer(7, NULL, &reached), SLUICE_ERR_LIMIT);
}

static void messages_are_cut_not_overrun(void **state)
{
    struct sluice_error err;
    char lengthy[2000];
    memset(lengthy, 'x', sizeof lengthy - 1);
    lengthy[sizeof lengthy - 1] = 0;
    status_fail(&err, SLUICE_ERR_IO, 42, "%s", lengthy);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_int_equal(err.position, 42);
    status_prefix(&err, "file: ");
    assert_memory_equal(err.message, "file: xxx", 9);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

static void every_status_has_a_name(void **state)
{
    for (int s = SLUICE_OK; s <= SLUICE_ERR_INTERNAL; s++)
        assert_string_not_equal(sluice_status_name((enum sluice_status)s), "unknown");
    assert_string_equal(sluice_status_name((enum sluice_status)99), "unknown");
}

static void buffers_grow_and_stay_terminated(void **state)
{
    struct buf b;
    buf_init(&b, 0);
    for (int i = 0; i < 1000; i++)
        buf_addf(&b, "%d,", i);
    assert_int_equal(buf_status(&b, NULL), SLUICE_OK);
    assert_int_equal(strlen(b.data), b.len);
    buf_drop_front(&b, 4);
    assert_memory_equal(b.data, "2,3,", 4);
    size_t n, len = b.len;
    char *taken = buf_take(&b, &n);
    assert_int_equal(n, len);
    assert_int_equal(b.len, 0);
    free(taken);
    buf_deinit(&b);
}

static void a_full_buffer_keeps_what_it_had(void **state)
{
    struct sluice_error err;
    struct buf b;
    buf_init(&b, 5);
    buf_add_str(&b, "abc");
    buf_add_str(&b, "def");
    buf_add_char(&b, 'g');
    assert_string_equal(b.data, "abc");
    assert_int_equal(buf_status(&b, &err), SLUICE_ERR_LIMIT);
    assert_non_null(strstr(err.message, "5 bytes"));
    assert_null(buf_take(&b, NULL));
    buf_clear(&b);
    buf_add_str(&b, "hello");
    assert_int_equal(buf_status(&b, NULL), SLUICE_OK);
    assert_string_equal(b.data, "hello");
    buf_deinit(&b);
}

static void an_empty_buffer_can_be_taken(void **state)
{
    struct buf b;
    size_t n = 1;
    buf_init(&b, 0);
    char *taken = buf_take(&b, &n);
    assert_non_null(taken);
    assert_string_equal(taken, "");
    assert_int_equal(n, 0);
    free(taken);
    buf_deinit(&b);
}

static void views_compare_by_bytes(void **state)
{
    assert_true(str_eq(STR_LIT("a\0b"), (struct str){"a\0b", 3}));
    assert_false(str_eq(STR_LIT("a\0b"), STR_LIT("a\0c")));
    assert_true(str_starts(STR_LIT("abc"), STR_LIT("")));
    assert_false(str_starts(STR_LIT("ab"), STR_LIT("abc")));
    assert_true(str_is((struct str){NULL, 0}, ""));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_pass_up_with_their_record),
        cmocka_unit_test(messages_are_cut_not_overrun),
        cmocka_unit_test(every_status_has_a_name),
        cmocka_unit_test(buffers_grow_and_stay_terminated),
        cmocka_unit_test(a_full_buffer_keeps_what_it_had),
        cmocka_unit_test(an_empty_buffer_can_be_taken),
        cmocka_unit_test(views_compare_by_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
