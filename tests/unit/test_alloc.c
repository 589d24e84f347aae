/* No allocation in decode: once a session is open, tokens inside a KV page take none, on any
 * backend. The program's allocator is this file's, which counts and passes on to libc's (so it is
 * not for the address sanitizer's build). */
#include "sluice.h"
#include "support/unit.h"

static _Atomic long allocations;

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t alignment, size_t n);

void *malloc(size_t n)
{
    allocations++;
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    allocations++;
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    allocations++;
    return __libc_realloc(p, n);
}

void *aligned_alloc(size_t alignment, size_t n)
{
    allocations++;
    return __libc_memalign(alignment, n);
}

static void check_backend(const char *backend, enum sluice_kv kv)
{
    struct sluice *e;
    struct sluice_error err;
    struct sluice_options o = {
        .model = "tests/data/oracle/mini-a.gguf", .backend = backend, .kv = kv, .threads = 2,
        .context = 600, .kv_bytes = 64 << 20};
    if (sluice_open(&o, &e, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    sluice_load_wait(e); /* the thread that reads the weights may begin late, and opens files */
    struct sluice_session *s;
    assert_int_equal(sluice_session_open(e, 0, &s, NULL), SLUICE_OK);
    float *logits = malloc((size_t)sluice_info(e)->n_vocab * sizeof *logits);
    int32_t ids[200];
    for (int i = 0; i < 200; i++)
        ids[i] = (i * 7) % 50;
    struct sluice_eval prompt = {.ids = ids, .n = 200};
    assert_int_equal(sluice_session_eval(s, &prompt, NULL), SLUICE_OK);
    for (int i = 0; i < 40; i++) {
        struct sluice_eval next = {.ids = ids + i, .n = 1, .logits = logits};
        long before = allocations;
        assert_int_equal(sluice_session_eval(s, &next, NULL), SLUICE_OK);
        assert_int_equal(allocations - before, 0);
    }
    /* The count counts: a page more is an allocation. */
    long before = allocations;
    struct sluice_eval more = {.ids = ids, .n = 60};
    assert_int_equal(sluice_session_eval(s, &more, NULL), SLUICE_OK);
    assert_true(allocations > before);
    free(logits);
    sluice_session_close(s);
    sluice_close(e);
}

static void test_decode(void **state)
{
    check_backend("ref", SLUICE_KV_EXACT);
    check_backend("cpu", SLUICE_KV_EXACT);
    check_backend("cpu", SLUICE_KV_FP8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_decode)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
