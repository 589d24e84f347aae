/* tests/support/unit.h - what every unit test includes: cmocka and comparisons of floats. */
#ifndef SLUICE_TESTS_SUPPORT_UNIT_H
#define SLUICE_TESTS_SUPPORT_UNIT_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* |found - expected| <= tolerance; NaN never passes. */
#define assert_close(found, expected, tolerance)                                                   \
    do {                                                                                           \
        double found_ = (found), expected_ = (expected);                                           \
        if (!(fabs(found_ - expected_) <= (tolerance)))                                            \
            fail_msg("%s: found %.9g, expected %.9g", #found, found_, expected_);                  \
    } while (0)

/* Fills floats with NaN, so that an element that is not written shows. */
static inline void poison(float *x, size_t n)
{
    memset(x, 0xff, n * sizeof *x);
}

#endif
