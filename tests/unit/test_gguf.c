/* The GGUF reader on good, odd and hostile files. */
#include "support/unit.h"

#include <unistd.h>

#include "base/limits.h"
#include "support/gguf_build.h"
#include "support/gguf_walk.h"

/* A copy of exactly n bytes, so that ASan sees a read beyond them; opens, walks, closes. */
static enum sluice_status try_bytes(const char *bytes, size_t n, struct sluice_error *err)
{
    char *copy = malloc(n ? n : 1);
    struct gguf *g;
    assert_non_null(copy);
    memcpy(copy, bytes, n);
    *err = (struct sluice_error){.code = SLUICE_OK};
    enum sluice_status st = gguf_open_memory(copy, n, &g, err);
    if (st == SLUICE_OK) {
        gguf_walk(g);
        gguf_close(g);
    } else {
        assert_null(g);
        assert_int_equal(err->code, st);
        assert_true(err->message[0] && !strchr(err->message, '\n'));
    }
    free(copy);
    return st;
}

/* The file that b describes is refused, with every one of these words in the message. */
static void refused(struct gguf_build *b, const char *word0, const char *word1, const char *word2)
{
    struct buf file;
    struct sluice_error err;
    gguf_build_finish(b, &file);
    assert_int_equal(try_bytes(file.data, file.len, &err), SLUICE_ERR_FORMAT);
    const char *words[] = {word0, word1, word2};
    for (int i = 0; i < 3; i++)
        if (words[i] && !strstr(err.message, words[i]))
            fail_msg("expected '%s' in: %s", words[i], err.message);
    buf_deinit(&file);
}

static void accepted(struct gguf_build *b, struct buf *file, struct gguf **g)
{
    struct sluice_error err = {.message = ""};
    gguf_build_finish(b, file);
    if (gguf_open_memory(file->data, file->len, g, &err) != SLUICE_OK)
        fail_msg("refused: %s", err.message);
}

static void add_all_types(struct gguf_build *b)
{
    gguf_add_value(b, "u8", GGUF_U8, &(uint8_t){200}, 1);
    gguf_add_value(b, "i8", GGUF_I8, &(int8_t){-3}, 1);
    gguf_add_value(b, "u16", GGUF_U16, &(uint16_t){60000}, 2);
    gguf_add_value(b, "i16", GGUF_I16, &(int16_t){-300}, 2);
    gguf_add_u32(b, "u32", 4000000000u);
    gguf_add_value(b, "i32", GGUF_I32, &(int32_t){-70000}, 4);
    gguf_add_value(b, "u64", GGUF_U64, &(uint64_t){7}, 8);
    gguf_add_value(b, "u64max", GGUF_U64, &(uint64_t){UINT64_MAX}, 8);
    gguf_add_value(b, "i64", GGUF_I64, &(int64_t){-5000000000}, 8);
    gguf_add_f32(b, "f32", 1.5f);
    gguf_add_value(b, "f64", GGUF_F64, &(double){-0.25}, 8);
    gguf_add_f32(b, "nan", NAN);
    gguf_add_value(b, "bool", GGUF_BOOL, &(uint8_t){1}, 1);
    gguf_add_string(b, "string", "text");
    gguf_add_strings(b, "strings", (const char *const[]){"a", "", "ccc"}, 3);
    gguf_add_array(b, "ints", GGUF_I32, 3, (int32_t[]){0, -4, 128}, 12);
    gguf_add_array(b, "floats", GGUF_F64, 2, (double[]){0.5, 2}, 16);
    gguf_add_array(b, "none", GGUF_U32, 0, "", 0);
    gguf_add_tensor(b, "vector", QUANT_F32, (uint64_t[]){3}, 1, (float[]){1, 2, 3});
    gguf_add_tensor(b, "blocks", QUANT_Q8_0, (uint64_t[]){64, 2, 3}, 3, NULL);
}

static void test_values(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        int64_t value;
    } ints[] = {{"u8", 200},         {"i8", -3},      {"u16", 60000}, {"i16", -300},
                {"u32", 4000000000}, {"i32", -70000}, {"u64", 7},     {"i64", -5000000000}};
    struct gguf_build b;
    struct buf file;
    struct gguf *g;
    int64_t v;
    float f;
    gguf_build_init(&b);
    add_all_types(&b);
    accepted(&b, &file, &g);
    assert_int_equal(gguf_kv_count(g), 18);
    for (size_t i = 0; i < sizeof ints / sizeof ints[0]; i++) {
        assert_int_equal(gguf_kv_i64_at(gguf_kv_find(g, ints[i].key), 0, &v, NULL), SLUICE_OK);
        assert_true(v == ints[i].value);
    }
    assert_int_equal(gguf_kv_i64_at(gguf_kv_find(g, "ints"), 1, &v, NULL), SLUICE_OK);
    assert_true(v == -4);
    assert_int_equal(gguf_kv_f32_at(gguf_kv_find(g, "floats"), 1, &f, NULL), SLUICE_OK);
    assert_true(f == 2.0f);
    assert_int_equal(gguf_get_f32(g, "f32", &f, NULL), SLUICE_OK);
    assert_true(f == 1.5f);
    assert_int_equal(gguf_get_f32(g, "f64", &f, NULL), SLUICE_OK);
    assert_true(f == -0.25f);
    assert_int_equal(gguf_kv_find(g, "none")->count, 0);
    assert_null(gguf_kv_find(g, "absent"));
    assert_null(gguf_kv_find(g, ""));
    gguf_walk(g);
    gguf_close(g);
    buf_deinit(&file);
}

static void test_strings(void **state)
{
    (void)state;
    static const char *const expected[] = {"a", "", "ccc"};
    struct gguf_build b;
    struct buf file;
    struct gguf *g;
    struct str s;
    struct gguf_str_iter it;
    bool flag = false;
    gguf_build_init(&b);
    add_all_types(&b);
    accepted(&b, &file, &g);
    assert_int_equal(gguf_get_str(g, "string", &s, NULL), SLUICE_OK);
    assert_true(str_is(s, "text"));
    assert_int_equal(gguf_get_bool(g, "bool", &flag, NULL), SLUICE_OK);
    assert_true(flag);
    assert_int_equal(gguf_str_iter_init(&it, gguf_kv_find(g, "strings"), NULL), SLUICE_OK);
    for (int i = 0; i < 3; i++)
        assert_true(gguf_str_iter_next(&it, &s) && str_is(s, expected[i]));
    assert_false(gguf_str_iter_next(&it, &s));
    gguf_close(g);
    buf_deinit(&file);
}

static void test_wrong_kinds(void **state)
{
    (void)state;
    static const char *const not_u32[] = {"i8",     "i64",  "u64max",  "f32",   "bool",
                                          "string", "ints", "strings", "absent"};
    static const char *const not_f32[] = {"u32", "nan", "bool", "string", "floats", "absent"};
    struct gguf_build b;
    struct buf file;
    struct gguf *g;
    struct sluice_error err;
    uint32_t u;
    float f;
    bool flag;
    struct str s;
    gguf_build_init(&b);
    add_all_types(&b);
    accepted(&b, &file, &g);
    for (size_t i = 0; i < sizeof not_u32 / sizeof not_u32[0]; i++) {
        assert_int_equal(gguf_get_u32(g, not_u32[i], &u, &err), SLUICE_ERR_MODEL);
        assert_non_null(strstr(err.message, not_u32[i]));
    }
    for (size_t i = 0; i < sizeof not_f32 / sizeof not_f32[0]; i++) {
        assert_int_equal(gguf_get_f32(g, not_f32[i], &f, &err), SLUICE_ERR_MODEL);
        assert_non_null(strstr(err.message, not_f32[i]));
    }
    assert_int_equal(gguf_get_bool(g, "u8", &flag, &err), SLUICE_ERR_MODEL);
    assert_string_equal(err.message, "key 'u8': expected a bool, found u8");
    assert_int_equal(gguf_get_str(g, "u8", &s, &err), SLUICE_ERR_MODEL);
    assert_int_equal(gguf_get_str(g, "strings", &s, &err), SLUICE_ERR_MODEL);
    gguf_close(g);
    buf_deinit(&file);
}

static void test_tensors(void **state)
{
    (void)state;
    struct gguf_build b;
    struct buf file;
    struct gguf *g;
    for (uint32_t version = 2; version <= 3; version++) {
        gguf_build_init(&b);
        b.version = version;
        add_all_types(&b);
        accepted(&b, &file, &g);
        const struct gguf_tensor *t = gguf_tensor_find(g, "blocks");
        assert_non_null(t);
        assert_true(t->type == QUANT_Q8_0 && t->n_dims == 3);
        assert_true(t->ne[0] == 64 && t->ne[1] == 2 && t->ne[2] == 3 && t->ne[3] == 1);
        assert_int_equal(t->bytes, 6 * 2 * 34);
        assert_int_equal(((const uint8_t *)t->data)[67], 67);
        assert_memory_equal(gguf_tensor_find(g, "vector")->data, ((float[]){1, 2, 3}), 12);
        assert_null(gguf_tensor_find(g, "vecto"));
        gguf_close(g);
        buf_deinit(&file);
    }
}

static void test_truncation(void **state)
{
    (void)state;
    struct gguf_build b;
    struct buf file;
    struct sluice_error err;
    gguf_build_init(&b);
    add_all_types(&b);
    gguf_build_finish(&b, &file);
    assert_int_equal(try_bytes(file.data, file.len, &err), SLUICE_OK);
    for (size_t n = 0; n < file.len; n++)
        assert_int_equal(try_bytes(file.data, n, &err), SLUICE_ERR_FORMAT);
    buf_deinit(&file);
}

/* Any single wrong byte either gives another valid file or one clear error. */
static void test_corruption(void **state)
{
    (void)state;
    static const uint8_t flips[] = {0x01, 0x80, 0xff, 0x20};
    struct gguf_build b;
    struct buf file;
    struct sluice_error err;
    int n_refused = 0;
    gguf_build_init(&b);
    add_all_types(&b);
    gguf_build_finish(&b, &file);
    for (size_t i = 0; i < file.len; i++) {
        for (size_t k = 0; k < sizeof flips; k++) {
            file.data[i] = (char)(file.data[i] ^ flips[k]);
            n_refused += try_bytes(file.data, file.len, &err) != SLUICE_OK;
            file.data[i] = (char)(file.data[i] ^ flips[k]);
        }
    }
    assert_true(n_refused > 500);
    buf_deinit(&file);
}

static void test_bad_headers(void **state)
{
    (void)state;
    static const struct {
        uint32_t version;
        const char *word;
    } versions[] = {{0, "found 0"}, {1, "found 1"}, {4, "found 4"}, {0x03000000, "big-endian"}};
    struct gguf_build b;
    struct sluice_error err;
    for (size_t i = 0; i < 4; i++) {
        gguf_build_init(&b);
        b.version = versions[i].version;
        refused(&b, versions[i].word, NULL, NULL);
    }
    gguf_build_init(&b);
    b.n_kv = UINT64_MAX;
    refused(&b, "keys", "18446744073709551615", NULL);
    gguf_build_init(&b);
    b.n_tensor = (uint64_t)1 << 40;
    refused(&b, "tensors", "1099511627776", NULL);
    gguf_build_init(&b);
    b.n_tensor = 1000;
    refused(&b, "truncated", NULL, NULL);
    assert_int_equal(try_bytes("GGUX\3\0\0\0", 8, &err), SLUICE_ERR_FORMAT);
    assert_non_null(strstr(err.message, "magic"));
}

static void test_bad_keys(void **state)
{
    (void)state;
    struct gguf_build b;
    gguf_build_init(&b);
    gguf_add_u32(&b, "twice", 1);
    gguf_add_u32(&b, "twice", 2);
    refused(&b, "'twice'", NULL, NULL);
    gguf_build_init(&b);
    gguf_add_key(&b, "odd", 13);
    gguf_put_u64(&b.kv, 0);
    refused(&b, "'odd'", "13", NULL);
    gguf_build_init(&b);
    gguf_add_array(&b, "nested", GGUF_ARRAY, 1, (uint64_t[4]){0}, 32);
    refused(&b, "'nested'", "arrays of arrays", NULL);
    gguf_build_init(&b);
    gguf_add_array(&b, "huge", GGUF_U64, (uint64_t)1 << 61, "", 0);
    refused(&b, "'huge'", "2305843009213693952", NULL);
    gguf_build_init(&b);
    gguf_add_array(&b, "long", GGUF_U64, LIMIT_GGUF_ARRAY, "", 0);
    refused(&b, "'long'", "past the end", NULL);
    gguf_build_init(&b);
    gguf_add_key(&b, "string", GGUF_STRING);
    gguf_put_u64(&b.kv, UINT64_MAX);
    refused(&b, "'string'", NULL, NULL);
    gguf_build_init(&b);
    gguf_add_string(&b, "", "no name");
    refused(&b, "a key of 0 bytes", NULL, NULL);
    gguf_build_init(&b);
    gguf_add_string(&b, "two\nlines", "x");
    refused(&b, "control", NULL, NULL);
}

static void test_alignment(void **state)
{
    (void)state;
    static const uint32_t bad[] = {0, 3, 33, LIMIT_GGUF_ALIGNMENT * 2, UINT32_MAX};
    static const uint32_t good[] = {8, 32, 4096, LIMIT_GGUF_ALIGNMENT};
    struct gguf_build b;
    struct buf file;
    struct gguf *g;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        gguf_build_init(&b);
        gguf_add_u32(&b, "general.alignment", bad[i]);
        refused(&b, "general.alignment", "power of two", NULL);
    }
    gguf_build_init(&b);
    gguf_add_string(&b, "general.alignment", "32");
    refused(&b, "general.alignment", NULL, NULL);
    gguf_build_init(&b);
    gguf_add_array(&b, "general.alignment", GGUF_U32, 0, "", 0);
    refused(&b, "general.alignment", NULL, NULL);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        gguf_build_init(&b);
        b.align = good[i];
        gguf_add_u32(&b, "general.alignment", good[i]);
        gguf_add_tensor(&b, "t", QUANT_F32, (uint64_t[]){1}, 1, (float[]){3});
        gguf_add_tensor(&b, "u", QUANT_F32, (uint64_t[]){1}, 1, (float[]){4});
        accepted(&b, &file, &g);
        assert_memory_equal(gguf_tensor_find(g, "u")->data, (float[]){4}, 4);
        assert_int_equal(gguf_tensor_find(g, "u")->file_offset % good[i], 0);
        gguf_close(g);
        buf_deinit(&file);
    }
}

static void bad_entry(uint32_t type, const uint64_t *ne, int n_dims, uint64_t offset,
                      const char *word)
{
    struct gguf_build b;
    gguf_build_init(&b);
    gguf_add_tensor(&b, "good", QUANT_F32, (uint64_t[]){8}, 1, NULL);
    gguf_add_entry(&b, "bad", type, ne, n_dims, offset);
    refused(&b, "'bad'", word, NULL);
}

static void test_bad_tensors(void **state)
{
    (void)state;
    const uint64_t big = (uint64_t)1 << 40;
    struct gguf_build b;
    bad_entry(QUANT_F32, (uint64_t[]){0}, 1, 0, "dimension 0 is 0");
    bad_entry(QUANT_F32, (uint64_t[]){4, 0}, 2, 0, "dimension 1 is 0");
    bad_entry(QUANT_F32, (uint64_t[]){UINT64_MAX}, 1, 0, "18446744073709551615");
    bad_entry(QUANT_F32, (uint64_t[]){big, big}, 2, 0, "below 2^64");
    bad_entry(QUANT_F32, (uint64_t[]){big, (uint64_t)1 << 23}, 2, 0, "size overflows");
    bad_entry(QUANT_F32, NULL, 0, 0, "found 0");
    bad_entry(QUANT_F32, (uint64_t[]){1, 1, 1, 1, 1}, 5, 0, "found 5");
    bad_entry(QUANT_Q8_0, (uint64_t[]){33}, 1, 0, "multiple of 32");
    bad_entry(QUANT_IQ2_XXS, (uint64_t[]){128}, 1, 0, "multiple of 256");
    bad_entry(3, (uint64_t[]){32}, 1, 0, "type id 3");
    bad_entry(40, (uint64_t[]){64}, 1, 0, "type id 40");
    bad_entry(UINT32_MAX, (uint64_t[]){64}, 1, 0, "type id 4294967295");
    bad_entry(QUANT_F32, (uint64_t[]){1}, 1, 4, "alignment 32");
    bad_entry(QUANT_F32, (uint64_t[]){9}, 1, 0, "offset 0 + 36 bytes lies outside");
    bad_entry(QUANT_F32, (uint64_t[]){1}, 1, 32, "offset 32 + 4 bytes lies outside");
    bad_entry(QUANT_F32, (uint64_t[]){1}, 1, UINT64_MAX - 31, "lies outside");
    gguf_build_init(&b);
    gguf_add_tensor(&b, "same", QUANT_F32, (uint64_t[]){8}, 1, NULL);
    gguf_add_tensor(&b, "same", QUANT_F32, (uint64_t[]){8}, 1, NULL);
    refused(&b, "'same'", "twice", NULL);
}

/* ---- several files ---- */

struct dir {
    char path[64];
};

static void dir_file(const struct dir *d, const char *name, char *path)
{
    snprintf(path, 128, "%s/%s", d->path, name);
}

static void write_file(struct gguf_build *b, const char *path)
{
    struct buf file;
    gguf_build_finish(b, &file);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(file.data, 1, file.len, f), file.len);
    assert_int_equal(fclose(f), 0);
    buf_deinit(&file);
}

static void write_part(const char *path, int no, int count, int total)
{
    char name[8];
    struct gguf_build b;
    gguf_build_init(&b);
    gguf_add_value(&b, "split.no", GGUF_U16, &(uint16_t){(uint16_t)no}, 2);
    gguf_add_value(&b, "split.count", GGUF_U16, &(uint16_t){(uint16_t)count}, 2);
    gguf_add_value(&b, "split.tensors.count", GGUF_I32, &total, 4);
    if (no == 0)
        gguf_add_string(&b, "general.name", "split");
    snprintf(name, sizeof name, "t%d", no);
    gguf_add_tensor(&b, name, QUANT_F32, (uint64_t[]){1}, 1, (float[]){(float)no});
    write_file(&b, path);
}

static void open_fails(const char *path, const char *word)
{
    struct sluice_error err = {.message = ""};
    struct gguf *g;
    assert_int_not_equal(gguf_open(&path, 1, &g, &err), SLUICE_OK);
    assert_null(g);
    if (!strstr(err.message, word))
        fail_msg("expected '%s' in: %s", word, err.message);
}

static void test_split(void **state)
{
    (void)state;
    struct dir d = {"/tmp/test_gguf.XXXXXX"};
    char path[3][128];
    const char *names[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                           "m-00003-of-00003.gguf"};
    struct gguf *g;
    struct sluice_error err = {.message = ""};
    assert_non_null(mkdtemp(d.path));
    for (int i = 0; i < 3; i++) {
        dir_file(&d, names[i], path[i]);
        write_part(path[i], i, 3, 3);
    }
    for (int i = 0; i < 3; i++) {
        const char *any = path[i];
        if (gguf_open(&any, 1, &g, &err) != SLUICE_OK)
            fail_msg("%s", err.message);
        assert_int_equal(gguf_file_count(g), 3);
        assert_non_null(gguf_kv_find(g, "general.name"));
        assert_true(gguf_tensor_find(g, "t2")->file == 2 &&
                    *(const float *)gguf_tensor_find(g, "t2")->data == 2);
        gguf_close(g);
    }
    write_part(path[1], 1, 2, 3);
    open_fails(path[0], names[1]);
    write_part(path[1], 2, 3, 3);
    open_fails(path[0], names[1]);
    write_part(path[1], 1, 3, 3);
    write_part(path[0], 0, 3, 4);
    open_fails(path[0], "split.tensors.count");
    write_part(path[0], 0, 3, 3);
    assert_int_equal(unlink(path[1]), 0);
    open_fails(path[0], names[1]);
    unlink(path[0]);
    unlink(path[2]);
    rmdir(d.path);
}

static void test_slices(void **state)
{
    (void)state;
    struct dir d = {"/tmp/test_gguf.XXXXXX"};
    char a[128], c[128];
    struct gguf_build b;
    struct gguf *g;
    struct sluice_error err = {.message = ""};
    assert_non_null(mkdtemp(d.path));
    dir_file(&d, "layers0.gguf", a);
    dir_file(&d, "layers1.gguf", c);
    gguf_build_init(&b);
    gguf_add_string(&b, "general.name", "first");
    gguf_add_tensor(&b, "blk.0", QUANT_F32, (uint64_t[]){1}, 1, (float[]){5});
    write_file(&b, a);
    gguf_build_init(&b);
    gguf_add_string(&b, "general.name", "second");
    gguf_add_tensor(&b, "blk.1", QUANT_F32, (uint64_t[]){1}, 1, (float[]){6});
    write_file(&b, c);
    struct str name;
    assert_int_equal(gguf_open((const char *const[]){a, c}, 2, &g, &err), SLUICE_OK);
    assert_int_equal(gguf_get_str(g, "general.name", &name, NULL), SLUICE_OK);
    assert_true(str_is(name, "first"));
    assert_string_equal(gguf_file_path(g, gguf_tensor_find(g, "blk.1")->file), c);
    gguf_walk(g);
    gguf_close(g);
    assert_int_equal(gguf_open((const char *const[]){a, a}, 2, &g, &err), SLUICE_ERR_FORMAT);
    assert_non_null(strstr(err.message, "'blk.0' appears twice"));
    assert_int_equal(gguf_open((const char *const[]){a}, 0, &g, &err), SLUICE_ERR_ARG);
    unlink(a);
    unlink(c);
    rmdir(d.path);
    open_fails(a, a);
}

static uint64_t fingerprint_of(float value, const char *name)
{
    struct gguf_build b;
    struct buf file;
    struct gguf *g;
    gguf_build_init(&b);
    gguf_add_tensor(&b, name, QUANT_F32, (uint64_t[]){1}, 1, &value);
    accepted(&b, &file, &g);
    uint64_t print = gguf_fingerprint(g);
    gguf_close(g);
    buf_deinit(&file);
    return print;
}

static void test_fingerprint(void **state)
{
    (void)state;
    assert_true(fingerprint_of(1, "t") == fingerprint_of(1, "t"));
    assert_true(fingerprint_of(1, "t") != fingerprint_of(2, "t"));
    assert_true(fingerprint_of(1, "t") != fingerprint_of(1, "u"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),      cmocka_unit_test(test_strings),
        cmocka_unit_test(test_wrong_kinds), cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_truncation),  cmocka_unit_test(test_corruption),
        cmocka_unit_test(test_bad_headers), cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_alignment),   cmocka_unit_test(test_bad_tensors),
        cmocka_unit_test(test_split),       cmocka_unit_test(test_slices),
        cmocka_unit_test(test_fingerprint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
