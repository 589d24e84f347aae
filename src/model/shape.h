/* model/shape.h - the shape of a DeepSeek V4 model, read from the file once, checked once, trusted
 * afterwards (sections 1, 10).
 *
 * Dimension letters used in every comment of this folder:
 *   L layers   D hidden   S residual streams   H query heads   C head dim (K == V)   R rotated dims
 *   Q low rank of q   G output groups   O rank per group   E experts   K experts used
 *   F expert inner   V vocabulary   W sliding window   I indexer heads   J indexer dim
 *   T indexer top-k */
#ifndef SLUICE_MODEL_SHAPE_H
#define SLUICE_MODEL_SHAPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "formats/gguf.h"

#define SHAPE_MAX_LAYERS 128

struct shape {
    int32_t n_layer, n_ctx_max, n_vocab;
    int64_t dim;                       /* D */
    int32_t n_stream;                  /* S */
    int32_t n_head;                    /* H */
    int64_t head_dim, rot_dim;         /* C, R */
    int64_t q_rank;                    /* Q */
    int32_t n_group;                   /* G */
    int64_t o_rank;                    /* O */
    int32_t n_expert, n_used;          /* E, K */
    int64_t inner;                     /* F */
    float expert_scale;
    int32_t n_hash_layer;
    int32_t window;                    /* W */
    int32_t n_index_head, index_top_k; /* I, T; 0 when no layer has ratio 4 */
    int64_t index_dim;                 /* J */
    float rms_eps, hc_eps;
    int32_t sinkhorn_iters;
    float rope_base, rope_base_compressed;
    float yarn_factor, yarn_beta_fast, yarn_beta_slow;
    int64_t yarn_original_ctx;
    int32_t ratio[SHAPE_MAX_LAYERS];   /* 0, 4 or 128 per layer */
    float limit[SHAPE_MAX_LAYERS], shared_limit[SHAPE_MAX_LAYERS];   /* SwiGLU clamps */
    int32_t n_mtp; /* MTP blocks embedded in the file as blk.L.nextn.*: 0 or 1 */
};

/* Reads and checks every key of section 1.1. Refuses other architectures by name (V4.1 and early
 * forks with what is missing), sizes of zero or absurd, ratios other than 0, 4, 128,
 * and combinations that do not fit together. */
enum sluice_status shape_read(const struct gguf *g, struct shape *out, struct sluice_error *err);

/* The shape of the trunk's MTP block: one scored ratio-0 layer (section 5.1). */
void shape_mtp(const struct shape *trunk, struct shape *out);

/* RoPE frequencies f_i, i < R/2 (section 3.5): plain for ratio 0, base 160000 with YaRN for the
 * others. */
void shape_rope_freqs(const struct shape *s, bool compressed, float *freq);

/* "Flash", "Pro", or "custom": for people only; nothing depends on it. */
const char *shape_name(const struct shape *s);

#endif
