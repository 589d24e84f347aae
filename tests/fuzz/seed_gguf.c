/* Writes the seed corpus of fuzz_gguf into the directory argv[1]: small valid files that reach
 * every branch of the reader. */
#include <stdio.h>

#include "support/gguf_build.h"

static int write_seed(struct gguf_build *b, const char *dir, const char *name)
{
    char path[4096];
    struct buf file;
    gguf_build_finish(b, &file);
    snprintf(path, sizeof path, "%s/%s.gguf", dir, name);
    FILE *f = fopen(path, "wb");
    size_t written = f ? fwrite(file.data, 1, file.len, f) : 0;
    int bad = !f || written != file.len;
    if (f && fclose(f) != 0)
        bad = 1;
    buf_deinit(&file);
    return bad;
}

static int seed_values(const char *dir)
{
    struct gguf_build b;
    gguf_build_init(&b);
    for (enum gguf_type t = GGUF_U8; t <= GGUF_F64; t++)
        if (t != GGUF_STRING && t != GGUF_ARRAY)
            gguf_add_array(&b, gguf_type_name(t), t, 1, (uint64_t[]){1},
                           t == GGUF_U64 || t >= GGUF_I64   ? 8
                           : t >= GGUF_U32 && t <= GGUF_F32 ? 4
                           : t == GGUF_U16 || t == GGUF_I16 ? 2
                                                            : 1);
    gguf_add_u32(&b, "general.alignment", 8);
    gguf_add_f32(&b, "f", 1);
    gguf_add_string(&b, "s", "text");
    gguf_add_strings(&b, "ss", (const char *const[]){"a", "", "bc"}, 3);
    b.align = 8;
    gguf_add_tensor(&b, "t", QUANT_F32, (uint64_t[]){3, 2}, 2, NULL);
    return write_seed(&b, dir, "values");
}

static int seed_tensors(const char *dir)
{
    struct gguf_build b;
    char name[32];
    gguf_build_init(&b);
    b.version = 2;
    for (uint32_t t = 0; t < QUANT_TYPE_LIMIT; t++) {
        if (!quant_info(t))
            continue;
        snprintf(name, sizeof name, "blk.%u", t);
        gguf_add_tensor(&b, name, (enum quant_type)t,
                        (uint64_t[]){quant_info(t)->block_elems, 1, 1}, 3, NULL);
    }
    return write_seed(&b, dir, "tensors");
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: seed_gguf DIRECTORY\n");
        return 2;
    }
    return seed_values(argv[1]) || seed_tensors(argv[1]);
}
