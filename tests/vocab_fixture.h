/* tests/vocab_fixture.h - vocabularies for tests: a small synthetic one built in memory, and
 * DeepSeek V4's own. */
#ifndef SLUICE_TESTS_VOCAB_FIXTURE_H
#define SLUICE_TESTS_VOCAB_FIXTURE_H

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/check.h"
#include "formats/gguf.h"
#include "text/vocab.h"

/* What goes into a synthetic file. Tests start from fixture_default and break one thing. */
struct fixture {
    const char *model, *pre;
    const char *tokens[512]; /* as in a file: normal ones in the byte alphabet */
    int32_t types[512];
    int n_tokens, n_types;
    const char *merges[64];
    int n_merges;
    int bos, eos; /* -1: no such key */
    char bytes[256][3]; /* texts of the byte tokens */
};

static inline void fixture_put_u32(struct buf *b, uint32_t v)
{
    buf_add(b, &v, sizeof v);
}

static inline void fixture_put_u64(struct buf *b, uint64_t v)
{
    buf_add(b, &v, sizeof v);
}

static inline void fixture_put_str(struct buf *b, const char *s)
{
    fixture_put_u64(b, strlen(s));
    buf_add_str(b, s);
}

static inline void fixture_add(struct fixture *f, const char *text, int32_t type)
{
    f->tokens[f->n_tokens] = text;
    f->types[f->n_tokens++] = type;
    f->n_types = f->n_tokens;
}

static inline int fixture_find(const struct fixture *f, const char *text)
{
    for (int i = 0; i < f->n_tokens; i++) {
        if (strcmp(f->tokens[i], text) == 0)
            return i;
    }
    return -1;
}

/* Protocol tokens in the middle of the ids, unlike V4's; a few words; overlapping added tokens. */
static inline void fixture_default(struct fixture *f)
{
    static const char *const words[] = {"ab", "abc", "aa", "aaaa", "Ġa", "Ġab", "bc", "bcd"};
    static const char *const merges[] = {"b c", "a b", "ab c", "a a", "aa aa", "Ġ a",
                                         "Ġ ab", "bc d"};
    static const char *const added[] = {
        "<｜end▁of▁sentence｜>",
        "<｜User｜>",
        "<｜Assistant｜>",
        "<think>",
        "</think>",
        "｜DSML｜",
        "<｜begin▁of▁sentence｜>",
        "<<",
        "<<x",
        "x>",
        "<x>y",
    };
    *f = (struct fixture){.model = "gpt2", .pre = "joyai-llm"};
    int next = 0x100;
    for (int b = 0; b < 256; b++) {
        int itself = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
        int cp = itself ? b : next++;
        char *to = f->bytes[b];
        if (cp < 0x80) {
            to[0] = (char)cp;
        } else {
            to[0] = (char)(0xC0 | cp >> 6);
            to[1] = (char)(0x80 | (cp & 0x3F));
        }
        fixture_add(f, to, VOCAB_NORMAL);
    }
    for (size_t i = 0; i < sizeof added / sizeof added[0]; i++)
        fixture_add(f, added[i], i % 2 ? VOCAB_USER_DEFINED : VOCAB_CONTROL);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        fixture_add(f, words[i], VOCAB_NORMAL);
    for (size_t i = 0; i < sizeof merges / sizeof merges[0]; i++)
        f->merges[f->n_merges++] = merges[i];
    f->bos = fixture_find(f, "<｜begin▁of▁sentence｜>");
    f->eos = fixture_find(f, "<｜end▁of▁sentence｜>");
}

static inline void fixture_put_strings(struct buf *b, const char *key, const char *const *s, int n)
{
    fixture_put_str(b, key);
    fixture_put_u32(b, GGUF_ARRAY);
    fixture_put_u32(b, GGUF_STRING);
    fixture_put_u64(b, (uint64_t)n);
    for (int i = 0; i < n; i++)
        fixture_put_str(b, s[i]);
}

static inline void fixture_put_id(struct buf *b, const char *key, int id)
{
    if (id < 0)
        return;
    fixture_put_str(b, key);
    fixture_put_u32(b, GGUF_U32);
    fixture_put_u32(b, (uint32_t)id);
}

/* Opens the fixture as a model file without tensors. */
static inline enum sluice_status fixture_open(const struct fixture *f, struct vocab **out,
                                              struct sluice_error *err)
{
    struct buf b;
    buf_init(&b, 0);
    buf_add(&b, "GGUF\3\0\0\0\0\0\0\0\0\0\0\0", 16);
    fixture_put_u64(&b, 5 + (uint64_t)(f->bos >= 0) + (uint64_t)(f->eos >= 0));
    fixture_put_str(&b, "tokenizer.ggml.model");
    fixture_put_u32(&b, GGUF_STRING);
    fixture_put_str(&b, f->model);
    fixture_put_str(&b, "tokenizer.ggml.pre");
    fixture_put_u32(&b, GGUF_STRING);
    fixture_put_str(&b, f->pre);
    fixture_put_strings(&b, "tokenizer.ggml.tokens", f->tokens, f->n_tokens);
    fixture_put_strings(&b, "tokenizer.ggml.merges", f->merges, f->n_merges);
    fixture_put_str(&b, "tokenizer.ggml.token_type");
    fixture_put_u32(&b, GGUF_ARRAY);
    fixture_put_u32(&b, GGUF_I32);
    fixture_put_u64(&b, (uint64_t)f->n_types);
    buf_add(&b, f->types, (size_t)f->n_types * sizeof f->types[0]);
    fixture_put_id(&b, "tokenizer.ggml.bos_token_id", f->bos);
    fixture_put_id(&b, "tokenizer.ggml.eos_token_id", f->eos);
    while (b.len % 32)
        buf_add_char(&b, 0);
    SLUICE_ASSERT(buf_status(&b, NULL) == SLUICE_OK);
    char *aligned = aligned_alloc(32, b.len);
    SLUICE_ASSERT(aligned);
    memcpy(aligned, b.data, b.len);
    struct gguf *g = NULL;
    enum sluice_status st = gguf_open_memory(aligned, b.len, &g, err);
    *out = NULL;
    if (st == SLUICE_OK)
        st = vocab_open(g, out, err);
    gguf_close(g);
    free(aligned);
    buf_deinit(&b);
    return st;
}

static inline struct vocab *fixture_vocab(void)
{
    struct fixture f;
    struct vocab *v;
    fixture_default(&f);
    SLUICE_ASSERT(fixture_open(&f, &v, NULL) == SLUICE_OK);
    return v;
}

#endif
