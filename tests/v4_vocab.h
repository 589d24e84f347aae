/* tests/v4_vocab.h - opens DeepSeek V4's own vocabulary from tests/data (compressed there). */
#ifndef SLUICE_TESTS_V4_VOCAB_H
#define SLUICE_TESTS_V4_VOCAB_H

#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

#include "base/check.h"
#include "formats/gguf.h"
#include "text/vocab.h"

static inline char *read_fixture(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    SLUICE_ASSERT(f && fseek(f, 0, SEEK_END) == 0);
    long size = ftell(f);
    SLUICE_ASSERT(size >= 0 && fseek(f, 0, SEEK_SET) == 0);
    char *bytes = malloc((size_t)size + 1);
    SLUICE_ASSERT(bytes && fread(bytes, 1, (size_t)size, f) == (size_t)size);
    bytes[size] = 0;
    fclose(f);
    *len = (size_t)size;
    return bytes;
}

static inline struct vocab *v4_vocab(void)
{
    size_t packed_len;
    char *packed = read_fixture("tests/data/tokenizer/v4-vocab.gguf.zst", &packed_len);
    unsigned long long len = ZSTD_getFrameContentSize(packed, packed_len);
    SLUICE_ASSERT(len < 64u << 20);
    size_t room = ((size_t)len + 31) / 32 * 32;
    char *bytes = aligned_alloc(32, room);
    SLUICE_ASSERT(bytes && ZSTD_decompress(bytes, room, packed, packed_len) == len);
    struct gguf *g = NULL;
    struct vocab *v = NULL;
    struct sluice_error err = {0};
    if (gguf_open_memory(bytes, (size_t)len, &g, &err) != SLUICE_OK ||
        vocab_open(g, &v, &err) != SLUICE_OK)
        fprintf(stderr, "%s\n", err.message);
    SLUICE_ASSERT(v);
    gguf_close(g);
    free(bytes);
    free(packed);
    return v;
}

#endif
