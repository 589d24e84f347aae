/* tests/support/engine_model.h - a file with a tiny model and a tokenizer, for tests of the
 * engine. Include before other fixtures: it makes the tiny model's vocabulary larger. */
#ifndef SLUICE_TESTS_SUPPORT_ENGINE_MODEL_H
#define SLUICE_TESTS_SUPPORT_ENGINE_MODEL_H

#define TINY_VOCAB 288

#include <unistd.h>

#include "support/unit.h"
#include "formats/gguf.h"
#include "support/gguf_build.h"
#include "support/tiny_model.h"
#include "vocab_fixture.h"

/* Writes the model to a new file in /tmp; the caller unlinks and frees the path. */
static inline char *engine_model_file(void)
{
    struct tiny_model t;
    struct fixture f;
    fixture_default(&f);
    tiny_start(&t, (struct tiny_edit){.what = TINY_NOTHING});
    gguf_add_string(&t.b, "tokenizer.ggml.model", f.model);
    gguf_add_string(&t.b, "tokenizer.ggml.pre", f.pre);
    gguf_add_strings(&t.b, "tokenizer.ggml.tokens", f.tokens, (size_t)f.n_tokens);
    gguf_add_strings(&t.b, "tokenizer.ggml.merges", f.merges, (size_t)f.n_merges);
    gguf_add_array(&t.b, "tokenizer.ggml.token_type", GGUF_I32, (uint64_t)f.n_types, f.types,
                   (size_t)f.n_types * sizeof *f.types);
    tiny_trunk(&t);
    tiny_finish(&t);
    char *path = strdup("/tmp/sluice-engine-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *out = fdopen(fd, "wb");
    assert_int_equal(fwrite(t.bytes, 1, t.len, out), t.len);
    assert_int_equal(fclose(out), 0);
    free(t.bytes);
    return path;
}

#endif
