/* text/utf8.h - one strict UTF-8 decoder for everything in text/.
 *
 * Strict as in the Unicode standard, table 3-7: no overlong forms, no surrogates, nothing above
 * U+10FFFF. */
#ifndef SLUICE_TEXT_UTF8_H
#define SLUICE_TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Decodes the character at s (n >= 1 bytes available).
 * Returns the bytes it takes (1..4) with *cp its code point; or, with *cp = -1, the length (1..3)
 * of a sequence that is not UTF-8 whatever follows (the maximal subpart that one U+FFFD replaces);
 * or 0 when s[0..n) is a proper prefix of a character and more bytes are needed to tell. */
static inline size_t utf8_next(const char *s, size_t n, int32_t *cp)
{
    const unsigned char *b = (const unsigned char *)s;
    unsigned lead = b[0], lo = 0x80, hi = 0xBF;
    size_t len = 2;
    *cp = -1;
    if (lead < 0x80) {
        *cp = (int32_t)lead;
        return 1;
    }
    if (lead < 0xC2 || lead > 0xF4)
        return 1;
    if (lead >= 0xF0) {
        len = 4;
        lo = lead == 0xF0 ? 0x90 : lo;
        hi = lead == 0xF4 ? 0x8F : hi;
    } else if (lead >= 0xE0) {
        len = 3;
        lo = lead == 0xE0 ? 0xA0 : lo;
        hi = lead == 0xED ? 0x9F : hi;
    }
    int32_t value = (int32_t)(lead & (0x7Fu >> len));
    for (size_t i = 1; i < len; i++) {
        if (i == n)
            return 0;
        if (b[i] < lo || b[i] > hi)
            return i;
        value = value << 6 | (b[i] & 0x3F);
        lo = 0x80;
        hi = 0xBF;
    }
    *cp = value;
    return len;
}

#endif
