/* Cores and their CPUs out of a tree like /sys/devices/system/cpu, and quotas of CPU time. */
#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/cores.h"
#include "support/unit.h"

static char tree[] = "/tmp/sluice-cores-XXXXXX";

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", tree, name);
    for (char *at = strchr(path + sizeof tree, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        mkdir(path, 0700);
        *at = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void put_siblings(int cpu, const char *text)
{
    char name[64];
    snprintf(name, sizeof name, "cpu%d/topology/thread_siblings_list", cpu);
    put(name, text);
}

static struct cores cores_of_cpus(int first, int last, const char *quota)
{
    struct cores c;
    char path[256];
    cpu_set_t set;
    CPU_ZERO(&set);
    for (int cpu = first; cpu <= last; cpu++)
        CPU_SET(cpu, &set);
    if (quota)
        put("cpu.max", quota);
    snprintf(path, sizeof path, "%s/%s", tree, quota ? "cpu.max" : "none");
    cores_of(&set, tree, path, &c);
    return c;
}

static void check_order(const struct cores *c, int n_cores, const int *cpu, int n_cpus)
{
    assert_int_equal(c->n_cores, n_cores);
    assert_int_equal(c->n_cpus, n_cpus);
    assert_memory_equal(c->cpu, cpu, (size_t)n_cpus * sizeof *cpu);
}

static void neighbours_share_a_core(void **state)
{
    for (int cpu = 0; cpu < 6; cpu++)
        put_siblings(cpu, cpu < 2 ? "0-1\n" : cpu < 4 ? "2-3\n" : "4-5\n");
    struct cores c = cores_of_cpus(0, 5, NULL);
    check_order(&c, 3, (const int[]){0, 2, 4, 1, 3, 5}, 6);
    assert_int_equal(c.n_threads, 3);
}

static void distant_cpus_share_a_core(void **state)
{
    for (int cpu = 0; cpu < 6; cpu++)
        put_siblings(cpu, cpu % 3 == 0 ? "0,3\n" : cpu % 3 == 1 ? "1,4\n" : "2,5\n");
    struct cores c = cores_of_cpus(0, 5, NULL);
    check_order(&c, 3, (const int[]){0, 1, 2, 3, 4, 5}, 6);
}

/* The core's first CPU is not ours. */
static void a_part_of_the_cpus(void **state)
{
    for (int cpu = 0; cpu < 6; cpu++)
        put_siblings(cpu, cpu < 2 ? "0-1\n" : cpu < 4 ? "2-3\n" : "4-5\n");
    struct cores c = cores_of_cpus(1, 3, NULL);
    check_order(&c, 2, (const int[]){1, 2, 3}, 3);
}

static void unknown_cores_count_one_each(void **state)
{
    put_siblings(8, "\n");
    put_siblings(9, "-1\n");
    struct cores c = cores_of_cpus(8, 11, NULL);
    check_order(&c, 4, (const int[]){8, 9, 10, 11}, 4);
}

static void a_quota_limits_threads(void **state)
{
    static const struct {
        const char *text;
        int threads;
    } cases[] = {{"max 100000\n", 4},    {"200000 100000\n", 2}, {"150000 100000\n", 2},
                 {"10000 100000\n", 1},  {"900000 100000\n", 4}, {"0 100000\n", 4},
                 {"100000 0\n", 4},      {"", 4},                {"-1 100000\n", 4},
                 {"9000000000000000000 1\n", 4}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        assert_int_equal(cores_of_cpus(20, 23, cases[k].text).n_threads, cases[k].threads);
}

static void this_machine_has_some(void **state)
{
    static struct cores c;
    cores_usable(&c);
    assert_true(c.n_threads >= 1 && c.n_threads <= c.n_cores && c.n_cores <= c.n_cpus);
    for (int k = 1; k < c.n_cores; k++)
        assert_true(c.cpu[k] > c.cpu[k - 1]);
}

static int set_up(void **state)
{
    return mkdtemp(tree) ? 0 : -1;
}

static int drop(const char *path, const struct stat *info, int type, struct FTW *at)
{
    return remove(path);
}

static int tear_down(void **state)
{
    return nftw(tree, drop, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_share_a_core),
        cmocka_unit_test(distant_cpus_share_a_core),
        cmocka_unit_test(a_part_of_the_cpus),
        cmocka_unit_test(unknown_cores_count_one_each),
        cmocka_unit_test(a_quota_limits_threads),
        cmocka_unit_test(this_machine_has_some),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
