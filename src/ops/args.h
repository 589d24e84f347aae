/* ops/args.h - argument structs of the ops, shared by every backend (C and CUDA). Plain data, no
 * code.
 *
 * Dimension letters (model/shape.h has the same):
 *   n rows of the batch   D hidden   S residual streams   H query heads   C head dim (K == V)
 *   R rotated dims (last R of C)   Q low rank of q   G output groups   O rank per group
 *   E experts   K experts used   F expert inner
 *   W sliding window      I indexer heads   J indexer dim   T top-k of the indexer   V vocabulary
 *
 * DEV marks an address in the backend's memory: a host address for ref and cpu, a device address
 * for cuda. Only the backend may dereference it; model code passes it on. Everything else is host
 * memory, read before the op returns.
 *
 * Arrays are row-major float32 unless said; [n][D] means n rows of D values without gaps. Output
 * arrays never alias inputs unless said. */
#ifndef SLUICE_OPS_ARGS_H
#define SLUICE_OPS_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "formats/quant.h"

#define DEV    /* address in the backend's memory; see above */

/* A weight: n_mat matrices of n_out rows of n_in values. Row o of matrix m starts at data + (m *
 * n_out + o) * row bytes. */
struct weight {
    enum quant_type type;
    int64_t n_in, n_out, n_mat;
    DEV const void *data;
};

/* How KV rows and index rows are stored.
 *   KV_EXACT: main row = C float32; index row = J float32 (no Hadamard, no rounding).
 *   KV_FP8 (section 3.12):
 *     main row = C - R bytes e4m3; ceil((C-R)/64) bytes e8m0, one per block of 64 dims from dim 0
 *         (the last block may be shorter); zero bytes up to a multiple of 4; R float32 rotated
 *         dims.
 *     index row, after the Hadamard transform = J/2 bytes e2m1 (byte j: element 2j in the low
 *         nibble, 2j+1 in the high one); ceil(J/32) bytes e8m0; zero bytes up to a multiple of 4.
 *         Blocks of 32, shorter where J is.
 * The rotated dims stay float32 (section 3.12 leaves them unrounded; rounding them to bf16 moves
 * logits measurably). */
enum kv_format { KV_EXACT, KV_FP8 };

/* Bytes of one row; ops/kv_format.c. */
size_t kv_main_row_bytes(enum kv_format format, int64_t head_dim, int64_t rot_dim);
size_t kv_index_row_bytes(enum kv_format format, int64_t index_dim);

/* Consecutive rows of the batch that extend one session: positions pos0, pos0+1, ... Its past lies
 * in its KV memory:
 *   fixed: rings by absolute position. The ring of a layer holds the row of position p in slot
 *       p % ring_rows.
 *   pages: page j covers positions [j * page_tokens, (j+1) * page_tokens) of all layers. Compressed
 *       entry i of a layer with ratio r is row (i*r % page_tokens) / r of that layer's part of page
 *       i*r / page_tokens.
 * The table `pages` has at least ceil((pos0 + n_rows) / page_tokens) entries. */
struct span {
    int32_t row0, n_rows;
    int64_t pos0;
    DEV uint8_t *fixed;
    DEV uint8_t *const *pages;
};

/* The rows of one forward call, in the backend's memory. */
struct row_table {
    int32_t n, n_spans;
    DEV const int32_t *token;      /* [n] */
    DEV const int32_t *span_of;    /* [n] index into spans */
    DEV const int64_t *pos;        /* [n] */
    DEV const struct span *spans;  /* [n_spans] */
    int64_t pos_max;               /* host copy of the largest position, for sizing */
};

/* x[i][s][:] = table[token[i]][:] for s < S (section 3.0). */
struct embed_args {
    const struct row_table *rows;
    struct weight table;           /* n_in D, n_out V */
    int32_t streams;
    DEV float *x;                  /* [n][S][D] */
};

/* Pre-mix of the residual streams and the norm that always follows (sections 3.1, 3.3):
 * y = RMSNorm_w(norm, sum_s pre[s] * x[s]); mix keeps post and comb for hyper_spread. */
struct hyper_gather_args {
    int32_t n, streams, sinkhorn_iters;
    int64_t dim;
    float hc_eps, rms_eps;
    struct weight fn;              /* n_in S*D, n_out 2*S + S*S */
    DEV const float *base;         /* [2*S + S*S] */
    DEV const float *scale;        /* [3] */
    DEV const float *norm;         /* [D] */
    DEV const float *x;            /* [n][S][D] */
    DEV float *y;                  /* [n][D] */
    /* [n][S + S*S]: post[S], comb[S][S] (first index j, second k as in 3.1) */
    DEV float *mix;
};

/* x'[k] = post[k] * f + sum_j comb[j][k] * x[j] in place (section 3.2). */
struct hyper_spread_args {
    int32_t n, streams;
    int64_t dim;
    DEV const float *f;            /* [n][D] */
    DEV const float *mix;          /* [n][S + S*S] */
    DEV float *x;                  /* [n][S][D], in and out */
};

/* Output head's stream mix and norm for chosen rows (section 3.4). */
struct hyper_head_args {
    int32_t n_out, streams;
    int64_t dim;
    float hc_eps, rms_eps;
    struct weight fn;              /* n_in S*D, n_out S */
    DEV const float *base;         /* [S] */
    DEV const float *scale;        /* [1] */
    DEV const float *norm;         /* [D] */
    DEV const int32_t *row;        /* [n_out] rows of x */
    DEV const float *x;            /* [n][S][D] */
    DEV float *y;                  /* [n_out][D] */
};

/* y_j[i] = w_j . x[i] for up to MATMUL_MAX weights that share their input.
 * Weights in F32, F16 and BF16 always meet float32 activations. Quantised weights may meet int8
 * activations (cpu backend) unless f32_activations is set, which the router, hyper-connections and
 * compressors do (section 9). */
#define MATMUL_MAX 6
struct matmul_args {
    int32_t n, n_w;
    bool f32_activations;
    DEV const float *x;            /* [n][x_stride], first n_in of each row are read */
    int64_t x_stride;
    struct weight w[MATMUL_MAX];   /* n_mat 1, equal n_in */
    DEV float *y[MATMUL_MAX];      /* [n][n_out of w[j]] */
};

/* y[i][g] = w[g] . x[i][g] (section 3.10): matrix g of w meets slice g of the row. */
struct grouped_matmul_args {
    int32_t n;
    struct weight w;               /* n_in per group, n_out O, n_mat G */
    DEV const float *x;            /* [n][G][n_in] */
    DEV float *y;                  /* [n][G][O] */
};

/* y[i] = weight * x[i] / rms(x[i]); weight may be NULL (no weight). y may be x. */
struct rms_norm_args {
    int64_t n, dim;
    float eps;
    DEV const float *weight;       /* [dim] or NULL */
    DEV const float *x;            /* [n][dim] */
    DEV float *y;                  /* [n][dim] */
};

/* table[i][j] = {cos, sin} of the angle (float)pos[i] * freq[j], taken in double of the float32
 * product (section 3.5). */
struct rope_table_args {
    const struct row_table *rows;
    int32_t half;                  /* R/2 */
    DEV const float *freq;         /* [R/2] */
    DEV float *table;              /* [n][R/2][2] */
};

/* Per head: RMS norm without weight, then RoPE on the last R dims, in place (section 3.6). */
struct query_args {
    int32_t n, heads;
    int64_t head_dim, rot_dim;
    float eps;
    DEV const float *rope;         /* [n][R/2][2] */
    DEV float *q;                  /* [n][H][C] */
};

/* kv = RoPE(RMSNorm_w(norm, kv)), encoded as a main row (section 3.6, 3.12). */
struct kv_encode_args {
    int32_t n;
    int64_t head_dim, rot_dim;
    float eps;
    enum kv_format format;
    DEV const float *norm;         /* [C] */
    DEV const float *rope;         /* [n][R/2][2] */
    DEV const float *kv;           /* [n][C] */
    DEV uint8_t *rows;             /* [n][main row bytes] */
};

/* Compressor (section 3.7): pools the windows that close in this batch into compressed entries,
 * writes them into the pages, then keeps the (u, z) of the newest rows in the tail ring. index
 * selects the encoding of the entry: main row, or index row. A window that began before the batch
 * reads its older tokens from the tail ring. Row of the ring: u[width], z[width] with ape added. */
struct compress_args {
    const struct row_table *rows;
    /* 4: two overlapping windows, width = 2*dim; 128 (any other): width = dim */
    int32_t ratio;
    bool index;                    /* false: main entry of dim C; true: index entry of dim J */
    int64_t dim, rot_dim;
    float eps;
    enum kv_format format;
    DEV const float *u;            /* [n][width] = wkv . x */
    DEV float *z;                  /* [n][width] = wgate . x; ape is added in place */
    struct weight ape;             /* n_in width, n_out ratio */
    DEV const float *norm;         /* [dim] */
    /* [R/2]; the entry is rotated at the position of its window's first token */
    DEV const float *freq;
    size_t tail_offset;            /* of the ring in span.fixed */
    int32_t tail_rows;             /* slots of the ring */
    size_t page_offset;            /* of this layer's rows in a page */
    int32_t page_tokens;
};

/* Indexer queries (section 3.8): RoPE on the last R dims, then with KV_FP8 Hadamard and FP4
 * rounding (values stay float32), in place. */
struct index_query_args {
    int32_t n, heads;
    int64_t dim, rot_dim;
    enum kv_format format;
    DEV const float *rope;         /* [n][R/2][2] */
    DEV float *q;                  /* [n][I][J] */
};

/* Scores every visible index row and keeps the best top_k (section 3.8). Row i at position p sees
 * entries e < (p+1)/ratio. sel[i][0..count[i]) are ascending entry numbers. When visible <= top_k
 * all are taken (no scores needed). Ties: the lower entry number wins. */
struct index_select_args {
    const struct row_table *rows;
    int32_t heads, ratio, top_k;
    int64_t dim;
    float weight_scale;            /* (J * I)^-0.5 */
    enum kv_format format;
    DEV const float *q;            /* [n][I][J] */
    DEV const float *w;            /* [n][I] = weights_proj . x, unscaled */
    size_t page_offset;
    int32_t page_tokens;
    DEV int32_t *sel;              /* [n][top_k] */
    DEV int32_t *count;            /* [n] */
};

/* Core attention (section 3.9) with the inverse RoPE of its output. Keys of row i at position p:
 * raw positions max(0, p-W+1)..p, then compressed entries: those in sel (ratio 4), or all e <
 * (p+1)/ratio (sel == NULL), none when ratio == 0. Raw rows of positions inside the batch come from
 * batch_rows (row row0 + (pos - pos0) of the span), older ones from the ring. */
struct attention_args {
    const struct row_table *rows;
    int32_t heads, window, ratio;
    int64_t head_dim, rot_dim;
    float scale;                   /* C^-0.5 */
    enum kv_format format;
    DEV const float *q;            /* [n][H][C] */
    DEV const uint8_t *batch_rows; /* [n][main row bytes] */
    DEV const float *sinks;        /* [H] */
    DEV const float *rope;         /* [n][R/2][2] */
    DEV const int32_t *sel;        /* [n][sel_stride] or NULL */
    DEV const int32_t *sel_count;  /* [n] or NULL */
    int32_t sel_stride;
    size_t ring_offset;            /* of this layer's raw ring in span.fixed */
    int32_t ring_rows;
    size_t page_offset;
    int32_t page_tokens;
    DEV float *o;                  /* [n][H][C] */
};

/* Copies the newest min(n_rows, ring_rows) batch rows of every span into its raw ring; runs after
 * attention. */
struct ring_store_args {
    const struct row_table *rows;
    size_t row_bytes;
    DEV const uint8_t *batch_rows; /* [n][row_bytes] */
    size_t ring_offset;
    int32_t ring_rows;
};

/* Router (section 3.11): score = sqrt(softplus(logit)). Hash layers take ids from
 * token_to_expert[token]; others the top K of score + bias
 * (ties: lower id). weight = score / sum of the chosen * scale. */
struct route_args {
    const struct row_table *rows;
    int32_t n_expert, n_used;
    float scale;
    DEV const float *logits;       /* [n][E] */
    DEV const float *bias;         /* [E] or NULL for a hash layer */
    DEV const int32_t *token_to_expert; /* [V][K] for a hash layer, else NULL */
    DEV int32_t *ids;              /* [n][K] */
    DEV float *weights;            /* [n][K] */
};

/* Where the experts of one layer lie. With stride != 0 expert e of gate is at gate.data + e *
 * stride (all resident); otherwise at slot[e] (leased: only the experts of this batch are
 * valid). */
struct expert_table {
    enum quant_type gate_type, up_type, down_type;
    int64_t n_in, n_inner;         /* D, F */
    DEV const uint8_t *gate, *up, *down;
    size_t gate_stride, up_stride, down_stride;
    DEV const struct expert_slot *slot;
};
struct expert_slot {
    const uint8_t *gate, *up, *down;
};

/* y = sum over the K chosen experts in slot order of down . (silu(min(gate.x, limit)) * clamp(up.x,
 * +-limit) * weight), plus the shared expert with weight 1 (section 3.11). The order of that sum is
 * fixed: slot 0, 1, ..., then shared. */
struct experts_args {
    int32_t n, n_expert, n_used;
    struct expert_table table;
    float limit, shared_limit;
    struct weight shared_gate, shared_up, shared_down;   /* n_in D, n_out F; F -> D */
    DEV const int32_t *ids;        /* [n][K] */
    DEV const float *weights;      /* [n][K] */
    DEV const float *x;            /* [n][D] */
    DEV float *y;                  /* [n][D] */
};

/* x[i][s] = a[i] + b[i][s] (section 5.1, MTP input). */
struct add_streams_args {
    int32_t n, streams;
    int64_t dim;
    DEV const float *a;            /* [n][D] */
    DEV const float *b;            /* [n][S][D] */
    DEV float *x;                  /* [n][S][D] */
};

#endif
