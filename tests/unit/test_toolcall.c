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

/* Parameters inside a parameter that should be JSON are an object. */
static void test_nested(void **state)
{
    check(OPEN CALL("f", JSON("o", "\n" STRING("a", "x \"y\"") JSON("b", "2.50")) STRING("c", "d"))
              CLOSE,
          false, "(f:{\"o\": {\"a\": \"x \\\"y\\\"\", \"b\": 2.50}, \"c\": \"d\"})");
    check(OPEN CALL("f", JSON("o", JSON("p", JSON("q", "[1]") STRING("r", "")))) CLOSE, false,
          "(f:{\"o\": {\"p\": {\"q\": [1], \"r\": \"\"}}})");
    /* What is inside and no JSON is a string, as outside. */
    check(OPEN CALL("f", JSON("o", JSON("p", "no JSON"))) CLOSE, false,
          "(f:{\"o\": {\"p\": \"no JSON\"}})");
    check("<tool_calls><invoke name=\"f\"><parameter name=\"o\" string=\"false\"><parameter "
          "name=\"p\">1</parameter></parameter></invoke></tool_calls>",
          false, "(f:{\"o\": {\"p\": \"1\"}})");
    /* A string keeps its text, tags and all. */
    check("<tool_calls><invoke name=\"f\"><parameter name=\"o\"><parameter name=\"p\">1"
          "</parameter></invoke></tool_calls>",
          false, "(f:{\"o\": \"<parameter name=\\\"p\\\">1\"})");
#define TWICE OPEN CALL("f", JSON("o", STRING("p", "1") STRING("p", "2"))) CLOSE
    check(TWICE, false, "(f:{\"o\": ABORTC:" TWICE);
#define BETWEEN OPEN CALL("f", JSON("o", STRING("p", "1") "text" STRING("q", "2"))) CLOSE
    check(BETWEEN, false, "(f:{\"o\": ABORTC:" BETWEEN);
    /* Deeper than anything sensible: no object, no harm. */
    struct buf deep = {0};
    buf_add_str(&deep, OPEN "<｜DSML｜invoke name=\"f\">\n");
    for (int i = 0; i < 3 * LIMIT_CALL_DEPTH; i++)
        buf_add_str(&deep, "<｜DSML｜parameter name=\"k\" string=\"false\">");
    char *found = trace_of((struct str){deep.data, deep.len}, false, deep.len, 0);
    assert_non_null(strstr(found, "ABORTC:"));
    assert_string_equal(strstr(found, "ABORTC:") + strlen("ABORTC:"), deep.data);
    free(found);
    check_cuts((struct str){deep.data, deep.len}, false);
    buf_deinit(&deep);
}

static void test_thinking(void **state)
{
    check("</think>ok", true, "C:ok");
    check("", true, "");
    check("<think></think>", true, "");
    check("\n</think>", true, "R:\n");
    /* An end that may have been the beginning of the mark is thinking after all. */
    check("why</thi", true, "R:why</thi");
    check("why</think", true, "R:why</think");
    check("<thi", true, "R:<thi");
    check("a</think >b", true, "R:a</think >b");
    check("a<</think>b", true, "R:a<C:b");
    /* The mark ends the thinking once; after that it is text. */
    check("a</think>b</think>c", true, "R:aC:b</think>c");
    check("a</think></think>", true, "R:aC:</think>");
    check("</think>", false, "C:</think>");
    /* A block of calls inside the thinking is thinking, also one that its end cuts. */
    check("a" OPEN CALL("f", "") "</think>b" OPEN CALL("g", "") CLOSE, true,
          "R:a" OPEN CALL("f", "") "C:b(g:{})");
}

/* What is beyond a cap is content; what came before it stands. */
static void test_caps(void **state)
{
    struct buf b = {0};
    buf_add_str(&b, OPEN);
    for (int i = 0; i <= LIMIT_CALLS; i++)
        buf_add_str(&b, CALL("f", ""));
    buf_add_str(&b, CLOSE);
    struct json_object *found;
    assert_int_equal(answer_parse((struct str){b.data, b.len}, false, &found, NULL), SLUICE_OK);
    assert_int_equal(json_object_array_length(get(found, "tool_calls")), LIMIT_CALLS);
    assert_string_equal(json_object_get_string(get(found, "content")), "\n" CALL("f", "") CLOSE);
    json_object_put(found);

    buf_clear(&b);
    buf_add_str(&b, OPEN "<｜DSML｜invoke name=\"");
    for (int i = 0; i <= LIMIT_CALL_NAME; i++)
        buf_add_char(&b, 'n');
    buf_add_str(&b, "\">\n</｜DSML｜invoke>\n" CLOSE);
    char *text = trace_of((struct str){b.data, b.len}, false, 100, 0);
    assert_memory_equal(text, "C:", 2);
    assert_string_equal(text + 2, b.data);
    free(text);

    /* A tag that is too long is none, however much of it comes at once. */
    buf_clear(&b);
    buf_add_str(&b, OPEN "<｜DSML｜invoke name=\"f\" other=\"");
    for (int i = 0; i <= LIMIT_CALL_NAME + 64; i++)
        buf_add_char(&b, 'n');
    buf_add_str(&b, "\">\n</｜DSML｜invoke>\n" CLOSE);
    text = trace_of((struct str){b.data, b.len}, false, b.len, 0);
    assert_memory_equal(text, "C:", 2);
    free(text);
    check_cuts((struct str){b.data, b.len}, false);

    buf_clear(&b);
    buf_add_str(&b,
                OPEN "<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"k\" string=\"true\">");
    size_t head = b.len;
    while (b.len < LIMIT_CALL_BYTES + (1 << 20))
        buf_add_str(&b, "a line of a file that is too long\n");
    text = trace_of((struct str){b.data, b.len}, false, 65536, 0);
    char *aborted = strstr(text, "ABORTC:");
    assert_non_null(aborted);
    assert_true((size_t)(aborted - text) > LIMIT_CALL_BYTES - 65536 - head);
    assert_string_equal(aborted + strlen("ABORTC:"), b.data);
    free(text);
    buf_deinit(&b);
}

/* A long value, byte by byte: each byte is handed on once, and nothing is lost. */
static void test_long(void **state)
{
    struct buf b = {0}, args = {0};
    buf_add_str(&b,
                OPEN "<｜DSML｜invoke name=\"f\">\n<｜DSML｜parameter name=\"k\" string=\"true\">");
    buf_add_str(&args, "(f:{\"k\": \"");
    for (int i = 0; i < 3000; i++) {
        buf_add_str(&b, "if (a < b && c[\"ö\"]) </｜DSML｜para &lt; &lt;/｜DSML｜parameter>\n");
        buf_add_str(&args,
                    "if (a < b && c[\\\"ö\\\"]) </｜DSML｜para &lt; </｜DSML｜parameter>\\n");
    }
    buf_add_str(&b, "</｜DSML｜parameter>\n<｜DSML｜parameter name=\"j\" string=\"false\">[");
    buf_add_str(&args, "\", \"j\": [");
    for (int i = 0; i < 20000; i++) {
        buf_addf(&b, "%d, ", i);
        buf_addf(&args, "%d, ", i);
    }
    buf_add_str(&b, "0]</｜DSML｜parameter>\n</｜DSML｜invoke>\n" CLOSE);
    buf_add_str(&args, "0]})");
    char *found = trace_of((struct str){b.data, b.len}, false, 1, 0);
    assert_string_equal(found, args.data);
    free(found);
    check_cuts((struct str){b.data, b.len}, false);
    buf_deinit(&b);
    buf_deinit(&args);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goldens), cmocka_unit_test(test_calls),
        cmocka_unit_test(test_lenient), cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_nested),  cmocka_unit_test(test_thinking),
        cmocka_unit_test(test_caps),    cmocka_unit_test(test_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
