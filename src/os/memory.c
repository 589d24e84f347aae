/* os/memory.c - see memory.h. */
#include "os/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The number after key in a file of "key number" lines, or the file's only number (key ""); -1 if
 * it has none. */
static int64_t number_in(const char *path, const char *key)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return -1;
    char line[256];
    int64_t found = -1;
    while (found < 0 && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0 &&
            sscanf(line + strlen(key), " %" SCNd64, &found) != 1)
            found = -1;
    fclose(f);
    return found;
}

static int64_t cgroup_left(void)
{
    int64_t max = number_in("/sys/fs/cgroup/memory.max", "");
    int64_t used = number_in("/sys/fs/cgroup/memory.current", "");
    if (max < 0 || used < 0)
        return -1;
    int64_t cache = number_in("/sys/fs/cgroup/memory.stat", "inactive_file");
    return max - used + (cache > 0 ? cache : 0);
}

int64_t memory_available(void)
{
    int64_t kib = number_in("/proc/meminfo", "MemAvailable:");
    int64_t system = kib < 0 ? (int64_t)1 << 30 : kib * 1024;
    int64_t group = cgroup_left();
    return group >= 0 && group < system ? group : system;
}

/* ---- placement ---- */

#define ALIGNMENT ((size_t)64)
#define HUGE_PAGE ((size_t)2 << 20)
/* numaif.h, which is not part of libc. */
#define POLICY_INTERLEAVE 3
#define NODE_BITS 64

uint64_t memory_node_list(const char *text)
{
    uint64_t nodes = 0;
    for (;;) {
        char *end;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (end == text)
            return 0;
        if (*end == '-') {
            text = end + 1;
            last = strtoul(text, &end, 10);
            if (end == text)
                return 0;
        }
        for (unsigned long n = first; n <= last && n < NODE_BITS; n++)
            nodes |= (uint64_t)1 << n;
        if (*end != ',')
            return *end == '\n' || *end == '\0' ? nodes : 0;
        text = end + 1;
    }
}

static uint64_t nodes_with_memory(void)
{
    char text[256];
    FILE *f = fopen("/sys/devices/system/node/has_memory", "re");
    if (!f)
        return 1;
    uint64_t nodes = fgets(text, sizeof text, f) ? memory_node_list(text) : 0;
    fclose(f);
    return nodes ? nodes : 1;
}

int memory_nodes(void)
{
    return __builtin_popcountll(nodes_with_memory());
}

void memory_spread_thread(void)
{
    uint64_t nodes = nodes_with_memory();
    if (nodes & (nodes - 1))
        syscall(SYS_set_mempolicy, POLICY_INTERLEAVE, &nodes, (unsigned long)NODE_BITS + 1);
}

static void spread(void *at, size_t bytes)
{
    uint64_t nodes = nodes_with_memory();
    if (nodes & (nodes - 1))
        syscall(SYS_mbind, at, bytes, POLICY_INTERLEAVE, &nodes, (unsigned long)NODE_BITS + 1, 0);
}

void *memory_take(size_t bytes, enum memory_place place)
{
    size_t alignment = bytes >= MEMORY_HUGE_FROM ? HUGE_PAGE : ALIGNMENT;
    size_t room = (bytes + alignment - 1) / alignment * alignment;
    if (room < bytes)
        return NULL;
    void *p = aligned_alloc(alignment, room ? room : alignment);
    if (p && alignment == HUGE_PAGE) {
        madvise(p, room, MADV_HUGEPAGE);
        if (place == MEMORY_SPREAD)
            spread(p, room);
    }
    return p;
}
