/* The reading of completions: the reference's rows whole, byte by byte and cut at random; what is
 * lenient; what is hostile. */
#include <json-c/json.h>

#include "base/json_text.h"
#include "support/unit.h"
#include "text/reasoning.h"

/* The events as one text: pieces of a kind joined. */
struct trace {
    struct buf text;
    int last;
};

static void note(void *ctx, const struct answer_event *e)
{
    static const char *const names[] = {"R:", "C:", "(", ":", ")", "ABORT"};
    struct trace *t = ctx;
    bool piece = e->kind == ANSWER_REASONING || e->kind == ANSWER_CONTENT ||
                 e->kind == ANSWER_CALL_ARGS;
    if (!piece || t->last != (int)e->kind)
        buf_add_str(&t->text, names[e->kind]);
    buf_add(&t->text, e->text.at, e->text.len);
    t->last = (int)e->kind;
}

/* Cuts the text after `step` bytes each, or at random places (step 0, seed). */
static char *trace_of(struct str text, bool thinking, size_t step, unsigned seed)
{
    struct trace t = {.last = -1};
    buf_init(&t.text, 0);
    buf_add(&t.text, "", 0);
    struct reasoning r;
    reasoning_init(&r, thinking, (struct answer_sink){&t, note});
    for (size_t i = 0; i < text.len;) {
        size_t n = step ? step : 1 + (size_t)rand_r(&seed) % 9;
        n = n < text.len - i ? n : text.len - i;
        assert_int_equal(reasoning_push(&r, (struct str){text.at + i, n}, NULL), SLUICE_OK);
        i += n;
    }
    assert_int_equal(reasoning_finish(&r, NULL), SLUICE_OK);
    reasoning_deinit(&r);
    return buf_take(&t.text, NULL);
}

static void check_cuts(struct str text, bool thinking)
{
    char *whole = trace_of(text, thinking, text.len, 0);
    for (unsigned seed = 0; seed < 6; seed++) {
        char *cut = trace_of(text, thinking, seed == 0, seed);
        assert_string_equal(cut, whole);
        free(cut);
    }
    /* In pieces of every size, so that each byte begins one. */
    for (size_t at = 1; at < text.len && text.len < 1000; at++) {
        char *cut = trace_of(text, thinking, at, 0);
        assert_string_equal(cut, whole);
        free(cut);
    }
    free(whole);
}

static void check(const char *text, bool thinking, const char *expected)
{
    char *found = trace_of(str_of(text), thinking, strlen(text), 0);
    assert_string_equal(found, expected);
    free(found);
    check_cuts(str_of(text), thinking);
}

static struct json_object *get(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;
    json_object_object_get_ex(o, key, &v);
    return v;
}

static void check_row(struct json_object *row)
{
    struct json_object *expect = get(row, "expect"), *found;
    struct str text = str_of(json_object_get_string(get(row, "text")));
    bool thinking = strcmp(json_object_get_string(get(row, "mode")), "thinking") == 0;
    assert_int_equal(answer_parse(text, thinking, &found, NULL), SLUICE_OK);
    json_object_object_del(expect, "role");
    json_object_object_foreach(expect, key, value)
    {
        struct buf a, b;
        buf_init(&a, 0);
        buf_init(&b, 0);
        json_text_write(&a, get(found, key));
        json_text_write(&b, value);
        assert_string_equal(a.data, b.data);
        buf_deinit(&a);
        buf_deinit(&b);
    }
    json_object_put(found);
    check_cuts(text, thinking);
}

static void test_goldens(void **state)
{
    FILE *f = fopen("tests/data/chat/goldens.jsonl", "r");
    assert_non_null(f);
    char *line = NULL;
    size_t room = 0;
    int n = 0;
    for (ssize_t len; (len = getline(&line, &room, f)) > 0;) {
        struct json_object *row;
        assert_int_equal(json_text_parse(line, (size_t)len, &row, NULL), SLUICE_OK);
        if (strcmp(json_object_get_string(get(row, "kind")), "parse") == 0) {
            check_row(row);
            n++;
        }
        json_object_put(row);
    }
    free(line);
    fclose(f);
    assert_int_equal(n, 60);
}

#define OPEN "\n\n<｜DSML｜tool_calls>\n"
#define CLOSE "</｜DSML｜tool_calls>"
#define CALL(name, params) "<｜DSML｜invoke name=\"" name "\">\n" params "</｜DSML｜invoke>\n"
#define STRING(key, value)                                                                         \
    "<｜DSML｜parameter name=\"" key "\" string=\"true\">" value "</｜DSML｜parameter>\n"
#define JSON(key, value)                                                                           \
    "<｜DSML｜parameter name=\"" key "\" string=\"false\">" value "</｜DSML｜parameter>\n"

static void test_calls(void **state)
{
    check("Hi." OPEN CALL("f", STRING("a", "x\"\n<y> & z") JSON("b", "[1, 2.50]")) CALL("g", "")
              CLOSE,
          false, "C:Hi.(f:{\"a\": \"x\\\"\\n<y> & z\", \"b\": [1, 2.50]})(g:{})");
    check("why</think>ok", true, "R:whyC:ok");
    check("<think>why</think>ok", true, "R:whyC:ok");
    check("no end" OPEN CALL("f", "") CLOSE, true,
          "R:no end" OPEN CALL("f", "") CLOSE);
    check("a</think>" OPEN CALL("f", "") CLOSE "\n", true, "R:a(f:{})");
}

static void test_lenient(void **state)
{
    check("<｜DSML｜tool_calls><｜DSML｜invoke name=\"f\"></｜DSML｜invoke>" CLOSE, false, "(f:{})");
    check("a\n\n<DSML｜tool_calls>\n<DSML｜invoke name=\"f\">\n<DSML｜parameter name=\"k\" "
          "string=\"true\">v</DSML｜parameter></DSML｜invoke></DSML｜tool_calls>",
          false, "C:a(f:{\"k\": \"v\"})");
    check("<tool_calls><invoke name=\"f\"><parameter name=\"k\">1</parameter></invoke>"
          "</tool_calls>",
          false, "(f:{\"k\": \"1\"})");
    check(OPEN CALL("f", STRING("k", "</parameter> &lt;/｜DSML｜parameter> &lt;")), false,
          "(f:{\"k\": \"</parameter> </｜DSML｜parameter> &lt;\"})");
    check(OPEN CALL("f", JSON("k", "not json")) CLOSE, false, "(f:{\"k\": \"not json\"})");
    check(OPEN CALL("f", "") "</｜DSML｜tool", false, "(f:{})");
    check(OPEN CALL("f", "") CLOSE "\n\nand more", false, "(f:{})C:and more");
    check(OPEN CALL("f", "") CLOSE OPEN CALL("g", "") CLOSE, false, "(f:{})(g:{})");
}

/* Nothing is lost: what is no call is content. */
static void test_malformed(void **state)
{
    check("a < b\n\n< c\n", false, "C:a < b\n\n< c\n");
    check("a\n\n<｜DSML｜tool", false, "C:a\n\n<｜DSML｜tool");
    check(OPEN "what?", false, "C:" OPEN "what?");
    check(OPEN CLOSE "x", false, "C:" OPEN CLOSE "x");
    check(OPEN "<｜DSML｜invoke name=\"f\">\n" STRING("k", "v") "oops", false,
          "(f:{\"k\": \"v\"ABORTC:" OPEN "<｜DSML｜invoke name=\"f\">\n" STRING("k", "v") "oops");
    check(OPEN CALL("f", STRING("k", "v") STRING("k", "w")) CLOSE, false,
          "(f:{\"k\": \"v\"ABORTC:" OPEN CALL("f", STRING("k", "v") STRING("k", "w")) CLOSE);
    check(OPEN CALL("f", "") "<｜DSML｜invoke>x", false, "(f:{})C:\n<｜DSML｜invoke>x");
    check(OPEN "<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"k\" string=\"true\">cut of",
          false,
          "(f:{\"k\": \"cut ofABORTC:" OPEN "<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter "
          "name=\"k\" string=\"true\">cut of");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_lenient),
        cmocka_unit_test(test_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
