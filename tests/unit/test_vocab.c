/* Loading a vocabulary: what is read, and what is refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "text/vocab.h"
#include "v4_vocab.h"
#include "vocab_fixture.h"

static void test_v4(void **state)
{
    struct vocab *v = v4_vocab();
    static const struct {
        int which;
        int32_t id;
    } specials[] = {
        {VOCAB_BOS, 0}, {VOCAB_EOS, 1}, {VOCAB_PAD, 2}, {VOCAB_USER, 128803},
        {VOCAB_ASSISTANT, 128804}, {VOCAB_THINK, 128821}, {VOCAB_THINK_END, 128822},
        {VOCAB_DSML, 128825}, {VOCAB_FIM_HOLE, 128800}, {VOCAB_FIM_BEGIN, 128801},
        {VOCAB_FIM_END, 128802}, {VOCAB_EOT, 128805}, {VOCAB_LATEST_REMINDER, 128828},
        {VOCAB_ACTION, 128829}, {VOCAB_QUERY, 128830}, {VOCAB_AUTHORITY, 128831},
        {VOCAB_DOMAIN, 128832}, {VOCAB_TITLE, 128836}, {VOCAB_READ_URL, 128845},
    };
    assert_int_equal(sizeof specials / sizeof specials[0], VOCAB_SPECIALS);
    for (size_t i = 0; i < VOCAB_SPECIALS; i++) {
        enum vocab_special which = (enum vocab_special)specials[i].which;
        assert_int_equal(vocab_special(v, which), specials[i].id);
        assert_true(str_is(vocab_bytes(v, specials[i].id), vocab_special_text(which)));
    }
    assert_int_equal(vocab_count(v), 129280);
    assert_int_equal(vocab_merge_count(v), 127741);
    assert_int_equal(vocab_added_count(v), 1283);
    assert_int_equal(vocab_byte_id(v, 0), 191);
    assert_int_equal(vocab_byte_id(v, '\t'), 200);
    assert_int_equal(vocab_byte_id(v, ' '), 223);
    assert_int_equal(vocab_byte_id(v, 0xAD), 258);
    assert_int_equal(vocab_byte_id(v, 0xFF), 190);
    assert_int_equal(vocab_find_added(v, STR_LIT("<｜place▁holder▁no▁799｜>")), 128799);
    assert_int_equal(vocab_find_added(v, STR_LIT("<|place_holder_mm_span_0435|>")), 129261);
    assert_int_equal(vocab_find_added(v, STR_LIT("<dsml:")), 128840);
    assert_int_equal(vocab_find_added(v, STR_LIT("<｜image｜>")), 129279);
    assert_int_equal(vocab_find_added(v, STR_LIT("<｜System｜>")), -1);
    assert_int_equal(vocab_find_added(v, STR_LIT("<think>x")), -1);
    assert_int_equal(vocab_find_added(v, STR_LIT("")), -1);
    vocab_close(v);
}

static void test_small(void **state)
{
    struct fixture f;
    struct vocab *v;
    fixture_default(&f);
    f.bos = f.eos = -1;
    assert_int_equal(fixture_open(&f, &v, NULL), SLUICE_OK);
    assert_int_equal(vocab_special(v, VOCAB_USER), fixture_find(&f, "<｜User｜>"));
    assert_int_equal(vocab_special(v, VOCAB_ACTION), -1);
    int32_t id = fixture_find(&f, "Ġab");
    assert_true(str_is(vocab_bytes(v, id), " ab"));
    assert_int_equal(vocab_type(v, id), VOCAB_NORMAL);
    assert_true(vocab_is_added(v, fixture_find(&f, "<<")));
    vocab_close(v);
}

static void assert_refused(const struct fixture *f, const char *part)
{
    struct vocab *v = (struct vocab *)f;
    struct sluice_error err = {0};
    enum sluice_status st = fixture_open(f, &v, &err);
    assert_true(st == SLUICE_ERR_MODEL || st == SLUICE_ERR_LIMIT);
    assert_null(v);
    if (!strstr(err.message, part))
        print_error("'%s' lacks '%s'\n", err.message, part);
    assert_non_null(strstr(err.message, part));
}

static void test_missing_protocol_token(void **state)
{
    for (int i = 0; i < VOCAB_MANDATORY; i++) {
        struct fixture f;
        const char *text = vocab_special_text((enum vocab_special)i);
        fixture_default(&f);
        f.bos = f.eos = -1;
        f.tokens[fixture_find(&f, text)] = "<other>";
        assert_refused(&f, text);
    }
}

static void test_protocol_token_not_added(void **state)
{
    struct fixture f;
    fixture_default(&f);
    f.types[fixture_find(&f, "<think>")] = VOCAB_NORMAL;
    assert_refused(&f, "<think>");
}

static void test_refused_keys(void **state)
{
    struct fixture f;
    fixture_default(&f);
    f.model = "llama";
    assert_refused(&f, "found 'llama'");
    fixture_default(&f);
    f.pre = "qwen2";
    assert_refused(&f, "found 'qwen2'");
    fixture_default(&f);
    f.eos = f.bos;
    assert_refused(&f, "tokenizer.ggml.eos_token_id");
    fixture_default(&f);
    f.n_types--;
    assert_refused(&f, "tokenizer.ggml.token_type");
    fixture_default(&f);
    f.n_tokens = f.n_types = 0;
    assert_refused(&f, "tokenizer.ggml.tokens");
}

static void test_refused_tokens(void **state)
{
    struct fixture f;
    fixture_default(&f);
    f.tokens[fixture_find(&f, "aaaa")] = "ab";
    assert_refused(&f, "same text 'ab'");
    fixture_default(&f);
    fixture_add(&f, "", VOCAB_NORMAL);
    assert_refused(&f, "is empty");
    fixture_default(&f);
    fixture_add(&f, "xx", 9);
    assert_refused(&f, "type 9");
    fixture_default(&f);
    fixture_add(&f, "漢", VOCAB_NORMAL);
    assert_refused(&f, "byte alphabet");
    fixture_default(&f);
    fixture_add(&f, "a\xC4", VOCAB_NORMAL);
    assert_refused(&f, "byte alphabet");
    fixture_default(&f);
    f.tokens[0] = "zz";
    assert_refused(&f, "single byte");
}

static void test_refused_merges(void **state)
{
    static const char *const bad[] = {"", " ", "ab", " b", "a ", "a zzz", "b a", "x >", "a b c"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fixture f;
        fixture_default(&f);
        f.merges[3] = bad[i];
        assert_refused(&f, "merge 3");
    }
    struct fixture f;
    fixture_default(&f);
    f.merges[5] = f.merges[0];
    assert_refused(&f, "repeats the pair of merge 0");
}

static void test_unused_tokens(void **state)
{
    struct fixture f;
    struct vocab *v;
    fixture_default(&f);
    fixture_add(&f, "", VOCAB_UNUSED);
    fixture_add(&f, "ab", VOCAB_UNUSED);
    assert_int_equal(fixture_open(&f, &v, NULL), SLUICE_OK);
    assert_int_equal(vocab_bytes(v, f.n_tokens - 2).len, 0);
    vocab_close(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_v4),
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_missing_protocol_token),
        cmocka_unit_test(test_protocol_token_not_added),
        cmocka_unit_test(test_refused_keys),
        cmocka_unit_test(test_refused_tokens),
        cmocka_unit_test(test_refused_merges),
        cmocka_unit_test(test_unused_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
