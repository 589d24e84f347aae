/* base/check.h - assertions for programmer errors, overflow-checked arithmetic, banned libc
 * calls. */
#ifndef SLUICE_BASE_CHECK_H
#define SLUICE_BASE_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Stops the process: an invariant that only a bug can break did not hold. Kept in release
 * builds. */
_Noreturn void check_failed(const char *file, int line, const char *expr);

#define SLUICE_ASSERT(expr) ((expr) ? (void)0 : check_failed(__FILE__, __LINE__, #expr))

/* Checked u64 arithmetic for sizes that come from files: false on overflow, *out then
 * unspecified. */
static inline bool check_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool check_add(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* The headers that declare the banned names come first: a poisoned name may not appear in them
 * later. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifndef SLUICE_ALLOW_BANNED
#pragma GCC poison strcpy strcat sprintf vsprintf gets strtok atoi atol atof
#endif

#endif
