/* Picks a backend by name. */
#include <stdio.h>
#include <string.h>

#include "ops/cpu/cpu.h"
#include "ops/ops.h"
#include "ops/ref/ref.h"

const struct cpu_choice cpu_choices[] = {
#if defined(__x86_64__)
    {&leaves_amx, CPU_ISA_AMX},
    {&leaves_avx512, CPU_ISA_AVX512},
    {&leaves_avx2, CPU_ISA_AVX2},
#elif defined(__aarch64__)
    {&leaves_neon, CPU_ISA_NEON},
#endif
    {&leaves_c, CPU_ISA_C},
    {NULL, CPU_ISA_C},
};

enum sluice_status ops_open(const char *name, const char *isa, struct pool *pool, struct ops *out,
                            struct sluice_error *err)
{
    *out = (struct ops){0};
    if (!name || !strcmp(name, "auto") || !strcmp(name, "cpu"))
        return cpu_open(isa, pool, out, err);
    FAIL_IF(strcmp(name, "ref"), err, SLUICE_ERR_ARG,
            "unknown backend \"%s\": expected auto, cpu or ref", name);
    FAIL_IF(isa, err, SLUICE_ERR_ARG,
            "the ref backend has no instruction sets to choose from: found \"%s\"", isa);
    return ref_open(pool, out, err);
}

void ops_close(struct ops *ops)
{
    if (ops && ops->close)
        ops->close(ops->ctx);
    if (ops)
        *ops = (struct ops){0};
}

void ops_describe(const struct ops *ops, char *text, size_t room)
{
    if (!strcmp(ops->name, "cpu"))
        cpu_ops_describe(ops->ctx, text, room);
    else
        snprintf(text, room, "%s", ops->name);
}
