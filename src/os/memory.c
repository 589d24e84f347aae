/* os/memory.c - see memory.h. */
#include "os/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

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
