/* Parts of the server by themselves: the shelf, sealed reasoning, faults, what an ask may say. */
#include <json-c/json.h>

#include "base/json_text.h"
#include "server/ask.h"
#include "server/fault.h"
#include "server/seal.h"
#include "server/server_internal.h"
#include "server/shelf.h"
#include "server/turns.h"
#include "support/unit.h"

static bool kept(struct shelf *s, const char *name, const char *value)
{
    struct buf b = {0};
    bool found = shelf_get(s, str_of(name), &b);
    if (found)
        assert_string_equal(b.data, value);
    buf_deinit(&b);
    return found;
}

static void test_shelf(void **state)
{
    struct shelf *s = shelf_new(1000);
    char big[300] = {0};
    memset(big, 'x', sizeof big - 1);
    shelf_put(s, STR_LIT("a"), STR_LIT("1"));
    shelf_put(s, STR_LIT("a"), STR_LIT("2"));
    assert_true(kept(s, "a", "2"));
    assert_false(kept(s, "b", ""));
    /* Larger than a quarter of the shelf. */
    shelf_put(s, STR_LIT("big"), str_of(big));
    assert_false(kept(s, "big", ""));
    big[100] = '\0';
    /* What is used stays, what is not goes. */
    for (int i = 0; i < 20; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i);
        shelf_put(s, str_of(name), str_of(big));
        assert_true(kept(s, "a", "2"));
    }
    assert_false(kept(s, "n0", ""));
    assert_true(kept(s, "n19", big));
    assert_true(shelf_drop(s, STR_LIT("a")));
    assert_false(shelf_drop(s, STR_LIT("a")));
    shelf_free(s);
    shelf_free(NULL);
}

static void test_seal(void **state)
{
    for (size_t n = 0; n < 300; n++) {
        char text[300];
        struct buf sealed = {0}, back = {0};
        for (size_t i = 0; i < n; i++)
            text[i] = (char)(i * 37 + n);
        seal_write((struct str){text, n}, &sealed);
        assert_true(seal_read((struct str){sealed.data, sealed.len}, &back));
        assert_int_equal(back.len, n);
        assert_true(n == 0 || memcmp(back.data, text, n) == 0);
        /* Damage shows. */
        sealed.data[n * 7 % (sealed.len - 8) + 6] ^= 1;
        buf_clear(&back);
        if (seal_read((struct str){sealed.data, sealed.len}, &back))
            assert_true(back.len == n && (n == 0 || memcmp(back.data, text, n) == 0));
        assert_false(seal_read((struct str){sealed.data, sealed.len / 2}, &back));
        buf_deinit(&sealed);
        buf_deinit(&back);
    }
    struct buf out = {0};
    assert_false(seal_read(STR_LIT("gAAAAABm-of-another-vendor=="), &out));
    assert_false(seal_read(STR_LIT(""), &out));
    assert_int_equal(out.len, 0);
}

static void test_fault(void **state)
{
    struct sluice_error err;
    struct fault f;
    status_fail(&err, SLUICE_ERR_ARG, -1, "messages[3].content: expected \xff\xe4\xb8");
    fault_from(&f, &err);
    assert_int_equal(f.status, 400);
    assert_string_equal(f.param, "messages[3].content");
    assert_string_equal(f.message, "messages[3].content: expected ???");
    status_fail(&err, SLUICE_ERR_NOMEM, -1, "no: more");
    fault_from(&f, &err);
    assert_int_equal(f.status, 503);
    assert_int_equal(f.retry_after, 1);
}

static struct json_object *parse(const char *text)
{
    struct json_object *value = NULL;
    assert_int_equal(json_text_parse(text, strlen(text), &value, NULL), SLUICE_OK);
    return value;
}

static void test_effort(void **state)
{
    static const struct {
        const char *value;
        int effort; /* -1: refused */
        int64_t budget;
    } cases[] = {
        {"\"none\"", SLUICE_EFFORT_NONE, 0},
        {"\"minimal\"", SLUICE_EFFORT_DEFAULT, 0},
        {"\"HIGH\"", SLUICE_EFFORT_HIGH, 0},
        {"\"xhigh\"", SLUICE_EFFORT_MAX, 0},
        {"\"0\"", SLUICE_EFFORT_NONE, 0},
        {"75", SLUICE_EFFORT_HIGH, 0},
        {"\"4096\"", SLUICE_EFFORT_DEFAULT, 4096},
        {"\"lots\"", -1, 0},
        {"-5", -1, 0},
        {"1.5", -1, 0},
        {"\"\"", -1, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ask *a = ask_new(&(struct ask_defaults){0});
        struct json_object *value = parse(cases[i].value);
        enum sluice_status st = ask_effort(a, value, "effort", NULL);
        assert_int_equal(st, cases[i].effort < 0 ? SLUICE_ERR_ARG : SLUICE_OK);
        if (st == SLUICE_OK) {
            assert_int_equal(a->effort, cases[i].effort);
            assert_int_equal(a->think_budget, cases[i].budget);
        }
        json_object_put(value);
        ask_free(a);
    }
}

/* A budget for thinking leaves room for the answer. */
static void test_budget(void **state)
{
    struct ask a = {.effort = SLUICE_EFFORT_HIGH, .max_tokens = 8000, .think_budget = 9000};
    ask_settle(&a);
    assert_int_equal(a.think_budget, 8000 - 1024);
    a = (struct ask){.effort = SLUICE_EFFORT_HIGH, .max_tokens = 100, .think_budget = 100};
    ask_settle(&a);
    assert_int_equal(a.think_budget, 75);
    a = (struct ask){.effort = SLUICE_EFFORT_NONE, .max_tokens = 100, .think_budget = 50};
    ask_settle(&a);
    assert_int_equal(a.think_budget, 0);
}

/* What differs in form only is the same conversation, and what only the server may say is gone. */
static void test_turns(void **state)
{
    static const char *const same[][2] = {
        {"[{\"role\": \"user\", \"content\": \"a\"}]",
         "[{\"content\": [{\"type\": \"text\", \"cache_control\": {}, \"text\": \"a\"}], \"role\": "
         "\"user\", \"name\": \"x\"}]"},
        {"[{\"role\": \"system\", \"content\": \"a\\n\\nb\"}, {\"role\": \"user\", \"content\": "
         "\"c\"}]",
         "[{\"role\": \"developer\", \"content\": \"a\"}, {\"role\": \"system\", \"content\": "
         "\"b\"}, {\"role\": \"user\", \"content\": \"c\"}]"},
        {"[{\"role\": \"system\", \"content\": \"a\"}, {\"role\": \"user\", \"content\": \"\"}]",
         "[{\"role\": \"system\", \"content\": \"a\"}]"},
        {"[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"user\", \"content\": \"s\"}, "
         "{\"role\": \"assistant\", \"content\": \"b\"}]",
         "[{\"role\": \"user\", \"content\": \"a\"}, {\"role\": \"system\", \"content\": \"s\"}, "
         "{\"role\": \"assistant\", \"content\": \"b\", \"tool_calls_text\": \"<\", \"wo_eos\": "
         "true, \"task\": \"action\"}]"},
    };
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        struct buf text[2] = {0};
        for (int k = 0; k < 2; k++) {
            struct json_object *in = parse(same[i][k]), *out = json_object_new_array();
            assert_int_equal(turns_from_openai(in, out, NULL), SLUICE_OK);
            assert_int_equal(turns_settle(&out, NULL, NULL, NULL), SLUICE_OK);
            json_text_write(&text[k], out);
            json_object_put(in);
            json_object_put(out);
        }
        assert_string_equal(text[0].data, text[1].data);
        buf_deinit(&text[0]);
        buf_deinit(&text[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shelf),  cmocka_unit_test(test_seal),   cmocka_unit_test(test_fault),
        cmocka_unit_test(test_effort), cmocka_unit_test(test_budget), cmocka_unit_test(test_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
