/* Streaming text: whole characters only, stop strings held back, token borders do not matter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "text/bpe.h"
#include "text/detok.h"
#include "vocab_fixture.h"

static struct vocab *vocab;

static int open_vocab(void **state)
{
    vocab = fixture_vocab();
    return 0;
}

static int close_vocab(void **state)
{
    vocab_close(vocab);
    return 0;
}

/* Pushes text in parts of `step` bytes; returns the stop index and leaves everything handed out in
 * *out. */
static int feed(const char *text, const struct str *stops, int n_stops, size_t step,
                struct buf *out)
{
    struct detok d;
    size_t len = strlen(text);
    assert_int_equal(detok_init(&d, vocab, stops, n_stops, NULL), SLUICE_OK);
    buf_clear(out);
    for (size_t at = 0; at < len; at += step) {
        size_t n = len - at < step ? len - at : step;
        struct str part = {text + at, n};
        assert_int_equal(detok_push_bytes(&d, part, out, NULL), SLUICE_OK);
    }
    assert_int_equal(detok_finish(&d, out, NULL), SLUICE_OK);
    buf_add(out, "", 0);
    int stop = detok_stop(&d);
    detok_deinit(&d);
    return stop;
}

static void assert_feed(const char *text, const char *const *stop_texts, int stop,
                        const char *expected)
{
    struct str stops[8];
    int n = 0;
    struct buf out;
    buf_init(&out, 0);
    for (; stop_texts && stop_texts[n]; n++)
        stops[n] = str_of(stop_texts[n]);
    for (size_t step = 1; step < 9; step++) {
        assert_int_equal(feed(text, stops, n, step, &out), stop);
        assert_string_equal(out.data, expected);
    }
    buf_deinit(&out);
}

#define STOPS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void test_characters(void **state)
{
    assert_feed("naïve 漢字 🙂", NULL, -1, "naïve 漢字 🙂");
    assert_feed("", NULL, -1, "");
    assert_feed("a\xFF" "b", NULL, -1, "a\uFFFDb");
    /* Cut short: one replacement for the maximal subpart, at the end or as soon as it is
     * certain. */
    assert_feed("a\xF0\x9F\x99", NULL, -1, "a\uFFFD");
    assert_feed("\xF0\x9F\x99z", NULL, -1, "\uFFFDz");
    assert_feed("\xF0\x9F\xF0\x9F\x99\x82", NULL, -1, "\uFFFD🙂");
    /* Surrogates, overlong forms and values above U+10FFFF: each byte by itself. */
    assert_feed("\xED\xA0\x80", NULL, -1, "\uFFFD\uFFFD\uFFFD");
    assert_feed("\xC0\xAF", NULL, -1, "\uFFFD\uFFFD");
    assert_feed("\xF4\x90\x80\x80", NULL, -1, "\uFFFD\uFFFD\uFFFD\uFFFD");
}

static void test_stops(void **state)
{
    assert_feed("hello END more", STOPS("END"), 0, "hello ");
    assert_feed("hello EN", STOPS("END"), -1, "hello EN");
    assert_feed("ENEND", STOPS("END"), 0, "EN");
    assert_feed("aabaabaaab!", STOPS("aabaaab"), 0, "aab");
    assert_feed("aaaaab", STOPS("aab"), 0, "aaa");
    assert_feed("abc", STOPS("abc", "b"), 1, "a");
    assert_feed("abc", STOPS("bc", "abc", "c"), 1, "");
    assert_feed("x漢字y", STOPS("漢字"), 0, "x");
    /* Shares the first bytes of a character with the stop string. */
    assert_feed("x漢孖y", STOPS("漢字"), -1, "x漢孖y");
    assert_feed("a\xFF" "b", STOPS("\uFFFD"), 0, "a");
    assert_feed("a\xF0\x9F", STOPS("\uFFFD"), 0, "a");
    assert_feed("a\n\nb", STOPS("\n\nUser", "\n\n\n"), -1, "a\n\nb");
}

static void test_held_back(void **state)
{
    struct detok d;
    struct buf out;
    struct str stop = STR_LIT("</s>");
    buf_init(&out, 0);
    assert_int_equal(detok_init(&d, vocab, &stop, 1, NULL), SLUICE_OK);
    detok_push_bytes(&d, STR_LIT("one </"), &out, NULL);
    assert_string_equal(out.data, "one ");
    detok_push_bytes(&d, STR_LIT("p> two\xE6\xBC"), &out, NULL);
    assert_string_equal(out.data, "one </p> two");
    detok_push_bytes(&d, STR_LIT("\xA2<"), &out, NULL);
    assert_string_equal(out.data, "one </p> two漢");
    assert_int_equal(detok_stop(&d), -1);
    detok_push_bytes(&d, STR_LIT("/s> three"), &out, NULL);
    assert_int_equal(detok_stop(&d), 0);
    detok_push_bytes(&d, STR_LIT(" four"), &out, NULL);
    detok_finish(&d, &out, NULL);
    assert_string_equal(out.data, "one </p> two漢");
    detok_deinit(&d);
    buf_deinit(&out);
}

static void test_tokens(void **state)
{
    struct token_list ids = {0};
    struct detok d;
    struct buf out;
    struct sluice_error err = {0};
    const char *text = "ab abc<think>漢🙂</think> aaaa";
    buf_init(&out, 0);
    assert_int_equal(detok_init(&d, vocab, NULL, 0, NULL), SLUICE_OK);
    assert_int_equal(bpe_encode(vocab, str_of(text), true, &ids, NULL), SLUICE_OK);
    for (size_t i = 0; i < ids.n; i++)
        assert_int_equal(detok_push(&d, ids.at[i], &out, NULL), SLUICE_OK);
    assert_string_equal(out.data, text);
    assert_int_equal(detok_push(&d, vocab_count(vocab), &out, &err), SLUICE_ERR_ARG);
    assert_non_null(strstr(err.message, "token id"));
    assert_int_equal(detok_push(&d, -1, &out, NULL), SLUICE_ERR_ARG);
    detok_deinit(&d);
    buf_deinit(&out);
    token_list_deinit(&ids);
}

static void test_bad_stops(void **state)
{
    struct detok d;
    struct str many[DETOK_MAX_STOPS + 1];
    struct str bad[] = {STR_LIT(""), STR_LIT("\xFF"), STR_LIT("a\xE6\xBC"),
                        {(const char *)many, DETOK_MAX_STOP_BYTES + 1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(detok_init(&d, vocab, &bad[i], 1, NULL), SLUICE_ERR_ARG);
    for (int i = 0; i <= DETOK_MAX_STOPS; i++)
        many[i] = STR_LIT("x");
    assert_int_equal(detok_init(&d, vocab, many, DETOK_MAX_STOPS + 1, NULL), SLUICE_ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_characters), cmocka_unit_test(test_stops),
        cmocka_unit_test(test_held_back),  cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_bad_stops),
    };
    return cmocka_run_group_tests(tests, open_vocab, close_vocab);
}
