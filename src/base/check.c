#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *file, int line, const char *expr)
{
    fprintf(stderr, "sluice: %s:%d: internal check failed: %s\n", file, line, expr);
    abort();
}
