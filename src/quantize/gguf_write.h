/* quantize/gguf_write.h - writes GGUF files (version 3; the layout is drawn in formats/gguf.h).
 *
 * Metadata and tensors are declared first; gguf_out_finish then gives the bytes before the data
 * section, and every tensor's place in the file is known. The caller writes the data wherever it
 * comes from. Declarations never fail visibly: the first failure sticks and finish reports it. */
#ifndef SLUICE_QUANTIZE_GGUF_WRITE_H
#define SLUICE_QUANTIZE_GGUF_WRITE_H

#include "base/buf.h"
#include "formats/gguf.h"

#define GGUF_OUT_ALIGNMENT 32

struct gguf_out {
    struct buf kv, directory, header;
    uint64_t n_kv, n_tensor;
    uint64_t data_bytes;           /* of all tensors so far, padded */
};

void gguf_out_init(struct gguf_out *o);
void gguf_out_deinit(struct gguf_out *o);

void gguf_out_u32(struct gguf_out *o, const char *key, uint32_t v);
void gguf_out_f32(struct gguf_out *o, const char *key, float v);
void gguf_out_bool(struct gguf_out *o, const char *key, bool v);
void gguf_out_str(struct gguf_out *o, const char *key, const char *v);
void gguf_out_i32s(struct gguf_out *o, const char *key, const int32_t *v, uint64_t n);
void gguf_out_f32s(struct gguf_out *o, const char *key, const float *v, uint64_t n);
/* A value of another file, as it is. */
void gguf_out_copy(struct gguf_out *o, const struct gguf_kv *kv);

/* Declares a tensor of n_dims dimensions, fastest first, and returns its offset in the data
 * section. */
uint64_t gguf_out_tensor(struct gguf_out *o, const char *name, enum quant_type type, int n_dims,
                         const int64_t *ne);

/* The bytes of the file before the data section (padded); valid until deinit. */
enum sluice_status gguf_out_finish(struct gguf_out *o, const void **bytes, uint64_t *n,
                                   struct sluice_error *err);

#endif
