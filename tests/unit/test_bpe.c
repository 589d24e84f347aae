/* Encoding and decoding: V4's golden texts, merge order, hostile bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <json-c/json.h>
#include <string.h>

#include "text/bpe.h"
#include "v4_vocab.h"
#include "vocab_fixture.h"

static struct vocab *v4;

static int open_v4(void **state)
{
    v4 = v4_vocab();
    return 0;
}

static int close_v4(void **state)
{
    vocab_close(v4);
    return 0;
}

static void encode(const struct vocab *v, struct str text, bool added, struct token_list *out)
{
    out->n = 0;
    assert_int_equal(bpe_encode(v, text, added, out, NULL), SLUICE_OK);
}

static void assert_ids(const struct vocab *v, const char *text, const int32_t *ids, size_t n)
{
    struct token_list got = {0};
    encode(v, str_of(text), true, &got);
    bool same = got.n == n && memcmp(got.at, ids, n * sizeof ids[0]) == 0;
    if (!same) {
        print_error("'%s' became", text);
        for (size_t i = 0; i < got.n; i++)
            print_error(" %d", got.at[i]);
        print_error("\n");
    }
    assert_true(same);
    token_list_deinit(&got);
}

#define IDS(v, text, ...)                                                                          \
    assert_ids(v, text, (const int32_t[]){__VA_ARGS__},                                            \
               sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void assert_decodes(const struct vocab *v, const struct token_list *ids, struct str text)
{
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(bpe_decode(v, ids->at, ids->n, &out, NULL), SLUICE_OK);
    assert_int_equal(out.len, text.len);
    if (text.len)
        assert_memory_equal(out.data, text.at, text.len);
    buf_deinit(&out);
}

static void test_golden_ids(void **state)
{
    IDS(v4, "The capital of France is", 671, 6102, 294, 8760, 344);
    IDS(v4, "I don't", 43, 2090, 1664);
    IDS(v4, "  5", 262, 23);
    IDS(v4, "   abc", 262, 71490);
    IDS(v4, "\n\n  x", 271, 223, 1527);
    IDS(v4, "a \n b", 67, 539, 291);
    IDS(v4, "abc   ", 32372, 361);
    IDS(v4, "1234567", 6895, 18009, 25);
    IDS(v4, "a1b22c333d4444", 67, 19, 68, 1302, 69, 11722, 70, 18966, 22);
    IDS(v4, "0.5", 18, 16, 23);
    IDS(v4, "123456789012345", 6895, 18009, 25744, 16993, 18014);
    IDS(v4, "2024-09-13", 939, 22, 15, 3130, 15, 907);
    IDS(v4, "你好，世界", 30594, 303, 3427);
    IDS(v4, "你好abc123世界", 30594, 32372, 6895, 3427);
    IDS(v4, "日本語のテキスト", 88768, 1576, 17383, 20367, 24552);
    IDS(v4, "１２３４５", 127167, 25081, 33095, 31953);
    IDS(v4, "한국어 텍스트", 5634, 17564, 9227, 61291, 238, 45652);
    IDS(v4, "~/.bashrc", 96, 28414, 61159, 6921);
    IDS(v4, "C++ & C#", 37, 3312, 1051, 345, 5);
    IDS(v4, "a-b_c+d=e", 67, 1761, 4941, 61963, 91343);
    IDS(v4, "!!!\n", 115432);
    IDS(v4, "!!!\n\nx", 47868, 90);
    IDS(v4, "naïve café Straße", 2720, 91223, 57664, 23900, 30234);
    IDS(v4, "x\u00a0y", 90, 2162, 91);
    IDS(v4, "a\u200db", 67, 46088, 68);
    IDS(v4, "Привет мир", 24797, 8919, 74779);
    IDS(v4, "สวัสดีครับ", 2952, 34189, 2952, 25581, 79813);
    IDS(v4, "emoji 👍🏽 test", 18872, 7063, 102527, 40965, 124, 1950);
    IDS(v4, "code ```python\nprint(1)\n``` end", 8308, 35739, 36490, 201, 3098, 10, 19, 682, 9854,
        1522);
}

static void test_golden_added(void **state)
{
    IDS(v4, "before <｜User｜> after", 35975, 223, 128803, 1561);
    IDS(v4, "x｜DSML｜y", 90, 128825, 91);
    IDS(v4, "a<think>b", 67, 128821, 68);
    IDS(v4, "<｜System｜>", 30, 28217, 8375, 28217, 32);
    IDS(v4,
        "<｜begin▁of▁sentence｜>You are a helpful assistant."
        "<｜User｜>Hello<｜Assistant｜></think>Hi!"
        "<｜end▁of▁sentence｜>",
        0, 3476, 477, 260, 11502, 22896, 16, 128803, 19923, 128804, 128822, 23166, 3, 1);
    IDS(v4,
        "<｜User｜><tool_result>{\"temp\": 21}</tool_result><｜Assistant｜><think>", 128803, 30,
        72461, 46148, 32, 24313, 26343, 3362, 223, 1602, 24568, 72461, 46148, 32, 128804, 128821);
}

static int check_golden(const char *line, size_t len)
{
    struct json_tokener *tok = json_tokener_new();
    struct json_object *row = json_tokener_parse_ex(tok, line, (int)len), *text, *ids;
    assert_true(json_object_object_get_ex(row, "text", &text));
    assert_true(json_object_object_get_ex(row, "ids", &ids));
    struct str s = {json_object_get_string(text), (size_t)json_object_get_string_len(text)};
    struct token_list got = {0};
    encode(v4, s, true, &got);
    bool same = got.n == json_object_array_length(ids);
    for (size_t i = 0; same && i < got.n; i++)
        same = got.at[i] == json_object_get_int(json_object_array_get_idx(ids, i));
    if (!same)
        print_error("differs: %.*s\n", (int)len, line);
    assert_decodes(v4, &got, s);
    encode(v4, s, false, &got);
    assert_decodes(v4, &got, s);
    token_list_deinit(&got);
    json_object_put(row);
    json_tokener_free(tok);
    return same;
}

static void test_golden_file(void **state)
{
    size_t len;
    char *text = read_fixture("tests/data/tokenizer/goldens.jsonl", &len);
    int rows = 0, right = 0;
    for (char *line = text; line < text + len;) {
        char *end = memchr(line, '\n', (size_t)(text + len - line));
        end = end ? end : text + len;
        right += check_golden(line, (size_t)(end - line));
        rows++;
        line = end + 1;
    }
    free(text);
    print_message("goldens: %d of %d\n", right, rows);
    assert_int_equal(rows, 1500);
    assert_int_equal(right, rows);
}

static void test_untrusted_text(void **state)
{
    struct token_list ids = {0};
    struct str text = STR_LIT("a<｜User｜>b<think>｜DSML｜<｜end▁of▁sentence｜>");
    encode(v4, text, false, &ids);
    for (size_t i = 0; i < ids.n; i++)
        assert_false(vocab_is_added(v4, ids.at[i]));
    assert_decodes(v4, &ids, text);
    token_list_deinit(&ids);
}

static void test_merge_order(void **state)
{
    struct vocab *v = fixture_vocab();
    struct token_list ids = {0};
    /* "b c" has rank 0, so that "abc" is a + bc: "ab c" can never apply. */
    encode(v, STR_LIT("abc"), true, &ids);
    assert_int_equal(ids.n, 2);
    assert_true(str_is(vocab_bytes(v, ids.at[0]), "a"));
    assert_true(str_is(vocab_bytes(v, ids.at[1]), "bc"));
    encode(v, STR_LIT("aaaaa"), true, &ids);
    assert_int_equal(ids.n, 2);
    assert_true(str_is(vocab_bytes(v, ids.at[0]), "aaaa"));
    assert_true(str_is(vocab_bytes(v, ids.at[1]), "a"));
    token_list_deinit(&ids);
    vocab_close(v);
}

static void test_added_overlaps(void **state)
{
    struct vocab *v = fixture_vocab();
    struct token_list ids = {0};
    /* Leftmost wins over longer: "<<" at 0 before "<x>y" at 1; longest wins at one place: "<<x". */
    static const struct {
        const char *text, *tokens[4];
    } cases[] = {
        {"<<x>y", {"<<x", ">", "y"}}, {"<<<x>y", {"<<", "<x>y"}}, {"<x>y<x>", {"<x>y", "<", "x>"}},
        {"<think><think>", {"<think>", "<think>"}}, {"<thin", {"<", "t", "h", "i"}},
        {"x>x>", {"x>", "x>"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        encode(v, str_of(cases[i].text), true, &ids);
        for (size_t k = 0; k < 4 && cases[i].tokens[k]; k++) {
            assert_true(k < ids.n);
            assert_true(str_is(vocab_bytes(v, ids.at[k]), cases[i].tokens[k]));
        }
        assert_decodes(v, &ids, str_of(cases[i].text));
    }
    token_list_deinit(&ids);
    vocab_close(v);
}

/* The long-piece heap and the short-piece scan must agree: the same word repeated past the border
 * of the two. */
static void test_long_pieces_agree(void **state)
{
    struct vocab *v = fixture_vocab();
    char text[200];
    struct token_list ids = {0};
    for (size_t n = 1; n < sizeof text; n++) {
        memset(text, 'a', sizeof text);
        encode(v, (struct str){text, n}, true, &ids);
        assert_int_equal(ids.n, n / 4 + (n % 4 + 1) / 2);
        memset(text, 'c', sizeof text);
        text[n - 1] = 'd';
        if (n > 1)
            text[n - 2] = 'b';
        encode(v, (struct str){text, n}, true, &ids);
        assert_int_equal(ids.n, n);
    }
    token_list_deinit(&ids);
    vocab_close(v);
}

static void test_random_bytes(void **state)
{
    uint64_t x = 88172645463325252u;
    char text[300];
    struct token_list ids = {0};
    for (int round = 0; round < 3000; round++) {
        size_t n = (size_t)(x % sizeof text);
        for (size_t i = 0; i < n; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            /* Half of the rounds use few byte values, so that valid and broken sequences mix. */
            text[i] = round % 2 ? (char)x : " \n<\xEF\xBD\x9C\xE2\x96\x81" "a1\xF0\x9F"[x % 13];
        }
        encode(v4, (struct str){text, n}, round % 3 != 0, &ids);
        assert_decodes(v4, &ids, (struct str){text, n});
    }
    token_list_deinit(&ids);
}

static void test_adversarial_megabytes(void **state)
{
    static const char *const units[] = {
        "a", " ",   "\n", "🙂",   "\u0301", "<｜place▁holder▁no▁", "<", "\xFF", "漢",
        "!", " \n", "1",  "\u200d", "'s "};
    size_t len = 1 << 20;
    char *text = malloc(len);
    struct token_list ids = {0};
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        for (size_t i = 0; i < len; i++)
            text[i] = units[u][i % strlen(units[u])];
        encode(v4, (struct str){text, len}, true, &ids);
        assert_decodes(v4, &ids, (struct str){text, len});
    }
    token_list_deinit(&ids);
    free(text);
}

/* Protocol tokens form inside the trusted ranges only, and ranges do not cut ordinary text. */
static void test_marked(void **state)
{
    struct token_list whole = {0}, marked = {0};
    struct str text = STR_LIT("<｜User｜>ab<｜User｜> cd  ef<think>");
    size_t user = strlen("<｜User｜>");
    struct text_range ranges[] = {{0, user + 1}, {user + 6, user + 8}, {text.len - 7, text.len}};
    assert_int_equal(bpe_encode_marked(v4, text, ranges, 3, &marked, NULL), SLUICE_OK);
    int32_t user_id = vocab_special(v4, VOCAB_USER), think = vocab_special(v4, VOCAB_THINK);
    assert_int_equal(marked.at[0], user_id);
    assert_int_equal(marked.at[marked.n - 1], think);
    for (size_t i = 1; i + 1 < marked.n; i++)
        assert_true(marked.at[i] != user_id && marked.at[i] != think);
    assert_decodes(v4, &marked, text);
    struct str plain = STR_LIT("System text, and a  user's question\n\n## Tools 1234567");
    struct text_range cuts[] = {{0, 3}, {9, 10}, {20, 21}, {40, plain.len}};
    marked.n = 0;
    assert_int_equal(bpe_encode_marked(v4, plain, cuts, 4, &marked, NULL), SLUICE_OK);
    assert_int_equal(bpe_encode(v4, plain, true, &whole, NULL), SLUICE_OK);
    assert_int_equal(marked.n, whole.n);
    assert_memory_equal(marked.at, whole.at, whole.n * sizeof *whole.at);
    token_list_deinit(&whole);
    token_list_deinit(&marked);
}

static void test_errors(void **state)
{
    struct sluice_error err = {0};
    struct token_list ids = {0};
    struct buf out;
    buf_init(&out, 0);
    assert_int_equal(bpe_encode(v4, (struct str){"", BPE_TEXT_MAX + 1}, true, &ids, &err),
                     SLUICE_ERR_LIMIT);
    assert_int_equal(bpe_encode(v4, STR_LIT(""), true, &ids, NULL), SLUICE_OK);
    assert_int_equal(ids.n, 0);
    assert_int_equal(bpe_decode(v4, (const int32_t[]){67, 129280}, 2, &out, &err), SLUICE_ERR_ARG);
    assert_int_equal(err.position, 1);
    assert_non_null(strstr(err.message, "129280"));
    assert_int_equal(bpe_decode(v4, (const int32_t[]){-1}, 1, &out, &err), SLUICE_ERR_ARG);
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_ids),        cmocka_unit_test(test_golden_added),
        cmocka_unit_test(test_golden_file),       cmocka_unit_test(test_untrusted_text),
        cmocka_unit_test(test_merge_order),       cmocka_unit_test(test_added_overlaps),
        cmocka_unit_test(test_long_pieces_agree), cmocka_unit_test(test_random_bytes),
        cmocka_unit_test(test_adversarial_megabytes), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_marked),
    };
    return cmocka_run_group_tests(tests, open_v4, close_v4);
}
