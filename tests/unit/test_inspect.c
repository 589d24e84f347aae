/* sluice_inspect over whole models, parts of models and files cut anywhere. */
#include <json-c/json.h>
#include <unistd.h>

#include "base/json_text.h"
#include "sluice.h"
#include "support/oracle.h"

#define MODELS "tests/data/oracle/"

static struct json_object *inspect(const char *path, int64_t context, enum sluice_kv kv)
{
    struct sluice_options options = {.model = path, .context = context, .kv = kv};
    struct sluice_text text;
    struct sluice_error err;
    struct json_object *all;
    if (sluice_inspect(&options, &text, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    assert_int_equal(strlen(text.at), text.len);
    if (json_text_parse(text.at, text.len, &all, &err) != SLUICE_OK)
        fail_msg("%s: %s", err.message, text.at);
    free(text.at);
    return all;
}

static struct json_object *get(struct json_object *from, const char *key)
{
    struct json_object *value = NULL;
    json_object_object_get_ex(from, key, &value);
    return value;
}

static int64_t number(struct json_object *from, const char *key)
{
    assert_non_null(get(from, key));
    return json_object_get_int64(get(from, key));
}

static void test_whole_model(void **state)
{
    struct json_object *all = inspect(MODELS "mini-a.gguf", 0, SLUICE_KV_FP8);
    struct json_object *shape = get(all, "shape"), *memory = get(all, "memory");
    assert_null(get(all, "unusable"));
    assert_int_equal(number(shape, "layers"), 6);
    assert_int_equal(number(shape, "experts"), 8);
    assert_int_equal(json_object_array_length(get(shape, "ratios")), 6);
    assert_string_equal(json_object_get_string(get(all, "layers_present")), "0-5");
    assert_int_equal(number(memory, "context"), 4096);
    assert_int_equal(number(memory, "kv_total"),
                     number(memory, "kv_fixed") + 16 * number(memory, "kv_page"));
    assert_true(number(memory, "step") > 0);
    /* The types' bytes are the tensors' bytes. */
    int64_t types = 0, tensors = 0;
    for (size_t i = 0; i < json_object_array_length(get(all, "types")); i++)
        types += number(json_object_array_get_idx(get(all, "types"), i), "bytes");
    for (size_t i = 0; i < json_object_array_length(get(all, "tensors")); i++)
        tensors += number(json_object_array_get_idx(get(all, "tensors"), i), "bytes");
    assert_int_equal(types, number(all, "weight_bytes"));
    assert_int_equal(tensors, number(all, "weight_bytes"));
    json_object_put(all);
}

static void test_memory_grows(void **state)
{
    struct json_object *small = inspect(MODELS "mini-a.gguf", 1000, SLUICE_KV_FP8);
    struct json_object *large = inspect(MODELS "mini-a.gguf", 2000, SLUICE_KV_FP8);
    struct json_object *exact = inspect(MODELS "mini-a.gguf", 2000, SLUICE_KV_EXACT);
    int64_t a = number(get(small, "memory"), "kv_total");
    int64_t b = number(get(large, "memory"), "kv_total");
    assert_int_equal(b - a, 4 * number(get(small, "memory"), "kv_page"));
    assert_true(number(get(exact, "memory"), "kv_total") > b);
    json_object_put(small);
    json_object_put(large);
    json_object_put(exact);
}

static void test_parts(void **state)
{
    struct json_object *slice = inspect(MODELS "fmt-mx.gguf", 0, SLUICE_KV_FP8);
    assert_string_equal(json_object_get_string(get(slice, "unusable")),
                        "a slice: blk.0.attn_norm.weight is not in it");
    struct json_object *mtp = inspect(MODELS "mini-mtp.mtp.gguf", 0, SLUICE_KV_FP8);
    assert_non_null(get(mtp, "unusable"));
    assert_true(json_object_get_boolean(get(mtp, "mtp")));
    json_object_put(slice);
    json_object_put(mtp);
}

/* Whatever a file is cut to (its end may be padding) is refused by its name. */
static void test_cut_anywhere(void **state)
{
    char path[] = "/tmp/sluice-inspect-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    size_t len;
    uint8_t *bytes = read_whole(MODELS "mini-mtp.mtp.gguf", &len);
    assert_int_equal(pwrite(fd, bytes, len, 0), (ssize_t)len);
    struct sluice_options options = {.model = path};
    struct sluice_text text;
    struct sluice_error err;
    for (size_t n = len - 64; n > 0; n -= n > 8000 ? n / 7 : n > 40 ? 37 : 1) {
        assert_int_equal(ftruncate(fd, (off_t)n), 0);
        enum sluice_status st = sluice_inspect(&options, &text, &err);
        assert_true(st == SLUICE_ERR_FORMAT || st == SLUICE_ERR_MODEL || st == SLUICE_ERR_IO);
        assert_non_null(strstr(err.message, path));
    }
    free(bytes);
    close(fd);
    unlink(path);
}

static void test_wrong_use(void **state)
{
    struct sluice_options options = {.model = "/nonexistent", .context = 1};
    struct sluice_text text;
    struct sluice_error err;
    assert_int_equal(sluice_inspect(&options, &text, &err), SLUICE_ERR_IO);
    options.context = -1;
    assert_int_equal(sluice_inspect(&options, &text, &err), SLUICE_ERR_ARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_model), cmocka_unit_test(test_memory_grows),
        cmocka_unit_test(test_parts),       cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_wrong_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
