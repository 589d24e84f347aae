/* os/cores.c - see cores.h. */
#include "os/cores.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* The lowest CPU of its core: what its list of siblings, "0-1" or "0,64", begins with. */
static int first_sibling(const char *tree, int cpu)
{
    char path[512], text[64];
    snprintf(path, sizeof path, "%s/cpu%d/topology/thread_siblings_list", tree, cpu);
    FILE *f = fopen(path, "re");
    if (!f)
        return cpu;
    char *end = text;
    long first = fgets(text, sizeof text, f) ? strtol(text, &end, 10) : -1;
    fclose(f);
    return end == text || first < 0 || first >= CPU_SETSIZE ? cpu : (int)first;
}

static int quota_of(const char *path)
{
    long long quota = 0, period = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return INT_MAX;
    bool has = fscanf(f, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0;
    fclose(f);
    if (!has || quota / period >= CPU_SETSIZE)
        return INT_MAX;
    return (int)((quota - 1) / period + 1);
}

void cores_of(const cpu_set_t *usable, const char *tree, const char *quota, struct cores *out)
{
    int other[CPU_SETSIZE], n_other = 0;
    cpu_set_t seen;
    CPU_ZERO(&seen);
    out->n_cores = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, usable))
            continue;
        int core = first_sibling(tree, cpu);
        if (CPU_ISSET(core, &seen))
            other[n_other++] = cpu;
        else
            out->cpu[out->n_cores++] = cpu;
        CPU_SET(core, &seen);
    }
    out->n_cpus = out->n_cores;
    for (int k = 0; k < n_other; k++)
        out->cpu[out->n_cpus++] = other[k];
    int most = quota_of(quota);
    out->n_threads = out->n_cores < most ? out->n_cores : most;
}

void cores_usable(struct cores *out)
{
    cpu_set_t usable;
    CPU_ZERO(&usable);
    if (sched_getaffinity(0, sizeof usable, &usable) != 0 || CPU_COUNT(&usable) == 0)
        CPU_SET(0, &usable);
    cores_of(&usable, "/sys/devices/system/cpu", "/sys/fs/cgroup/cpu.max", out);
}
