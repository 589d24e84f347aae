/* The three splitting rules, piece by piece. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/buf.h"
#include "text/pretok.h"

/* Pieces joined by a byte that no case contains. */
static void assert_cut(const char *text, const char *expected)
{
    struct pretok p;
    struct str piece;
    struct buf got;
    buf_init(&got, 0);
    pretok_init(&p, str_of(text));
    while (pretok_next(&p, &piece)) {
        assert_true(piece.len > 0);
        if (got.len)
            buf_add_char(&got, '\x01');
        buf_add(&got, piece.at, piece.len);
    }
    for (size_t i = 0; i < got.len; i++)
        got.data[i] = got.data[i] == 1 ? '|' : got.data[i];
    assert_string_equal(got.data ? got.data : "", expected);
    buf_deinit(&got);
}

static void test_digits(void **state)
{
    assert_cut("1234567", "123|456|7");
    assert_cut("a1b22c", "a|1|b|22|c");
    assert_cut("１２３４", "１２３|４");
    assert_cut("½²Ⅷ٣", "½²Ⅷ|٣");
    assert_cut(" 5", " |5");
    assert_cut("12一34", "12|一|34");
}

static void test_cjk(void **state)
{
    assert_cut("abc漢字def", "abc|漢字|def");
    /* The next split cuts inside: the middle dot is punctuation, the dakuten U+3099 a mark. */
    assert_cut("ア・イ", "ア|・|イ");
    assert_cut("か\u3099き", "か\u3099き");
    assert_cut("漢，字", "漢|，|字");
    /* Outside of the second split's set, but letters for the third. */
    assert_cut("a龦", "a龦");
}

static void test_words(void **state)
{
    assert_cut("I don't", "I| don|'t");
    assert_cut("a-b_c", "a|-b|_c");
    assert_cut("-é", "-|é");
    assert_cut("\tword", "\tword");
    assert_cut("x\u00a0y", "x|\u00a0y");
    assert_cut("a\u200db", "a|\u200db");
    assert_cut("\u0301", "\u0301");
    assert_cut("\u0301\u0301", "\u0301\u0301");
    assert_cut(" \u0301", " \u0301");
    assert_cut("!\u0301", "!|\u0301");
}

static void test_symbols(void **state)
{
    assert_cut("C++ & C#", "C|++| &| C|#");
    assert_cut("~/.bashrc", "~/.|bashrc");
    assert_cut("!!!\n\nx", "!!!\n\n|x");
    assert_cut(" !\r\n\r\n y", " !\r\n\r\n| y");
    assert_cut("\t!", "\t|!");
    assert_cut("👍🏽!", "👍🏽!");
}

static void test_spaces(void **state)
{
    assert_cut("a  b", "a| | b");
    assert_cut("a   ", "a|   ");
    assert_cut("a \n b", "a| \n| b");
    assert_cut("\n\n  x", "\n\n| | x");
    assert_cut(" \n \n  ", " \n \n|  ");
    assert_cut("  1", "  |1");
    assert_cut("\u3000\u3000a", "\u3000|\u3000a");
    assert_cut("\xC2\x85" "1", "\xC2\x85|1");
    assert_cut("", "");
}

static void test_unassigned_and_broken(void **state)
{
    /* Gaps are pieces of their own; a run of them is one. */
    assert_cut("\x02\x02 a", "\x02\x02| a");
    assert_cut("\xFF\xFE", "\xFF\xFE");
    assert_cut("\xFF" "ab", "\xFF" "ab");
    assert_cut("a\xF0\x9F", "a|\xF0\x9F");
    assert_cut("\xED\xA0\x80!", "\xED\xA0\x80|!");
}

static void test_unicode_15(void **state)
{
    /* U+1E4D0, a letter since Unicode 15: a space before it joins it. */
    assert_cut(" \U0001E4D0", " \U0001E4D0");
    /* U+1E4F0, a digit since Unicode 15. */
    assert_cut("a\U0001E4F0", "a|\U0001E4F0");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digits),     cmocka_unit_test(test_cjk),
        cmocka_unit_test(test_words),      cmocka_unit_test(test_symbols),
        cmocka_unit_test(test_spaces),     cmocka_unit_test(test_unassigned_and_broken),
        cmocka_unit_test(test_unicode_15),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
