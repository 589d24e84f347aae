/* os/cpu.c - see cpu.h. */
#include "os/cpu.h"

#include <pthread.h>
#include <stdio.h>

static struct cpu_features features;
static char description[96];

#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>

#include <cpuid.h>

/* The kernel hands out the tile state on request only. */
static bool request_amx(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static void detect(void)
{
    unsigned a, b, c, d;
    __builtin_cpu_init();
    features.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __get_cpuid(1, &a, &b, &c, &d) && (c >> 29 & 1);
    features.avx512 = features.avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni") &&
                      __builtin_cpu_supports("avx512vbmi") &&
                      __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("gfni");
    features.avx512_bf16 = features.avx512 && __builtin_cpu_supports("avx512bf16");
    /* tiles, their int8 and bfloat16, and binary16 in vectors */
    bool tiles = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d >> 22 & 15) == 15;
    features.amx = features.avx512_bf16 && tiles && request_amx();
    snprintf(description, sizeof description, "x86-64:%s%s%s", features.avx2 ? " avx2" : "",
             features.avx512 ? " avx512" : "", features.amx ? " amx" : "");
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

static void detect(void)
{
    enum { HWCAP_ASIMDDP_BIT = 20 };
    features.neon = getauxval(AT_HWCAP) >> HWCAP_ASIMDDP_BIT & 1;
    snprintf(description, sizeof description, "arm64:%s", features.neon ? " neon" : "");
}
#else
static void detect(void)
{
    snprintf(description, sizeof description, "no known instruction set");
}
#endif

static pthread_once_t once = PTHREAD_ONCE_INIT;

const struct cpu_features *cpu_features(void)
{
    pthread_once(&once, detect);
    return &features;
}

const char *cpu_describe(void)
{
    pthread_once(&once, detect);
    return description;
}
