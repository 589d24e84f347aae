/* JSON text: what Python's json module gives, and refusals. */
#include <json-c/json.h>

#include "base/json_text.h"
#include "support/unit.h"

static void check(const char *in, const char *expected)
{
    struct json_object *value;
    struct sluice_error err;
    if (json_text_parse(in, strlen(in), &value, &err) != SLUICE_OK)
        fail_msg("%s: %s", in, err.message);
    struct buf b;
    buf_init(&b, 0);
    json_text_write(&b, value);
    assert_string_equal(b.data, expected);
    buf_deinit(&b);
    json_object_put(value);
}

static void test_round_trip(void **state)
{
    check("{\"b\":1,\"a\":[true,false,null,\"x\"],\"c\":{}}",
          "{\"b\": 1, \"a\": [true, false, null, \"x\"], \"c\": {}}");
    check(" [ ] ", "[]");
    check("{\"a\":1,\"b\":2,\"a\":3}", "{\"a\": 3, \"b\": 2}");
    check("\"\\u00e9\\/\\n\\u0001\\u007f\\\\\\\"\"", "\"é/\\n\\u0001\x7f\\\\\\\"\"");
    check("5", "5");
}

static void test_surrogates(void **state)
{
    check("\"a\\ud83d\\ude00b\\ud83d\\uDE01\"", "\"a😀b😁\"");
    check("\"\\ud83d x\"", "\"\xef\xbf\xbd x\"");
    check("\"\\ude00\"", "\"\xef\xbf\xbd\"");
    check("\"\\\\ud83d\"", "\"\\\\ud83d\"");
}

static void test_numbers(void **state)
{
    check("[1e-7,1e5,0.1,1.5e300,-0.0,1E16,123456789012345680.0,1e-5,0.0001,2.50]",
          "[1e-07, 100000.0, 0.1, 1.5e+300, -0.0, 1e+16, 1.2345678901234568e+17, 1e-05, 0.0001, "
          "2.5]");
    check("[9223372036854775807,-9223372036854775808,18446744073709551615]",
          "[9223372036854775807, -9223372036854775808, 18446744073709551615]");
    check("[1e999]", "[Infinity]");
}

static void check_refused(const char *in, size_t len, int64_t position)
{
    struct json_object *value;
    struct sluice_error err = {0};
    assert_int_equal(json_text_parse(in, len, &value, &err), SLUICE_ERR_FORMAT);
    assert_null(value);
    if (position >= 0)
        assert_int_equal(err.position, position);
}

static void test_refused(void **state)
{
    check_refused("", 0, 0);
    check_refused("{", 1, -1);
    check_refused("[1] x", 5, 4);
    check_refused("[1,]", 4, -1);
    check_refused("{'a':1}", 7, 1);
    check_refused("[1/* one */]", 12, 2);
    check_refused("\"\xff\"", 3, -1);
    check_refused("1\0", 2, 1);
    check_refused("[18446744073709551616]", 22, 1);
    check_refused("[-9223372036854775809]", 22, 1);
    char deep[400];
    memset(deep, '[', sizeof deep);
    check_refused(deep, sizeof deep, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_surrogates),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
