/* Memory and where it lies. */
#include <stdbool.h>
#include <stdlib.h>

#include "os/memory.h"
#include "support/unit.h"

static void lists_of_nodes_are_read(void **state)
{
    assert_int_equal(memory_node_list("0\n"), 1);
    assert_int_equal(memory_node_list("0-3\n"), 15);
    assert_int_equal(memory_node_list("0,2-3,8"), 0x10d);
    assert_int_equal(memory_node_list("62-70"), (uint64_t)3 << 62);
    assert_int_equal(memory_node_list("3-1"), 0);
    const char *bad[] = {"", "\n", "x", "1-", "1,", "1;2", "-"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(memory_node_list(bad[i]), 0);
}

/* As this machine is. */
static void there_is_a_node(void **state)
{
    assert_in_range(memory_nodes(), 1, 64);
    memory_spread_thread();
    assert_true(memory_available() > 0);
}

static void memory_is_aligned(void **state)
{
    static const size_t sizes[] = {0, 1, 63, 65, MEMORY_HUGE_FROM - 1, MEMORY_HUGE_FROM,
                                   MEMORY_HUGE_FROM + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint8_t *p = memory_take(sizes[i], i % 2 ? MEMORY_SPREAD : MEMORY_NEAR);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (sizes[i] < MEMORY_HUGE_FROM ? 64 : 2 << 20), 0);
        memset(p, 0x5a, sizes[i]);
        assert_true(sizes[i] == 0 || p[sizes[i] - 1] == 0x5a);
        free(p);
    }
    assert_null(memory_take(SIZE_MAX - 5, MEMORY_SPREAD));
}

/* Where the system gives huge pages when asked, large memory has them. */
static void large_memory_is_on_huge_pages(void **state)
{
    char text[256];
    FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    if (!f || !fgets(text, sizeof text, f) || strstr(text, "[never]")) {
        if (f)
            fclose(f);
        skip();
    }
    fclose(f);
    size_t bytes = (size_t)32 << 20;
    uint8_t *p = memory_take(bytes, MEMORY_SPREAD);
    assert_non_null(p);
    memset(p, 1, bytes);
    f = fopen("/proc/self/smaps", "r");
    assert_non_null(f);
    bool inside = false, advised = false;
    while (fgets(text, sizeof text, f)) {
        unsigned long first, last;
        if (sscanf(text, "%lx-%lx ", &first, &last) == 2)
            inside = first <= (uintptr_t)p && (uintptr_t)p < last;
        if (inside && strncmp(text, "VmFlags:", 8) == 0)
            advised = strstr(text, " hg") != NULL;
    }
    fclose(f);
    free(p);
    assert_true(advised);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_of_nodes_are_read),
        cmocka_unit_test(there_is_a_node),
        cmocka_unit_test(memory_is_aligned),
        cmocka_unit_test(large_memory_is_on_huge_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
