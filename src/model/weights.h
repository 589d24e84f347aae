/* model/weights.h - the model's tensors by role, bound by name, with their shapes
 * (sections 2.1, 5.1, 10).
 *
 * Weights are views: matrices point into the mapped file where the backend computes in host memory,
 * else at a copy in the backend's memory. Small vectors (norms, bases, scales, sinks, biases)
 * become float32 arrays of the backend at load, whatever type the file has.
 *
 * Shapes below are [n_out][n_in] with the letters of model/shape.h; r ratio of the layer; cw = 2C
 * for ratio 4, else C; M = 2S + S*S. A member that the layer lacks is zero: data == NULL. */
#ifndef SLUICE_MODEL_WEIGHTS_H
#define SLUICE_MODEL_WEIGHTS_H

#include <stdbool.h>

#include "model/shape.h"
#include "ops/ops.h"
#include "stream/expert_store.h"

/* One of the two hyper-connections of a layer. */
struct hyper_weights {
    struct weight fn;              /* [M][S*D] */
    DEV const float *base;         /* [M] */
    DEV const float *scale;        /* [3] */
};

/* Main compressor: d = C; the indexer's: d = J. width = 2d for ratio 4, else d. */
struct compressor_weights {
    struct weight kv, gate;        /* [width][D] */
    struct weight ape;             /* [r][width] */
    DEV const float *norm;         /* [d] */
};

struct layer_weights {
    struct hyper_weights hyper_attn, hyper_ffn;
    DEV const float *attn_norm;    /* [D] */
    DEV const float *ffn_norm;     /* [D] */

    struct weight q_a;             /* [Q][D] */
    DEV const float *q_a_norm;     /* [Q] */
    struct weight q_b;             /* [H*C][Q] */
    struct weight kv;              /* [C][D] */
    DEV const float *kv_norm;      /* [C] */
    DEV const float *sinks;        /* [H] */
    struct weight output_a;        /* [G][O][H/G * C]: n_mat G */
    struct weight output_b;        /* [D][G*O] */

    struct compressor_weights compress;        /* r != 0 */
    struct compressor_weights index_compress;  /* r == 4, as the next two */
    struct weight index_q_b;       /* [I*J][Q] */
    struct weight index_proj;      /* [I][D] */

    struct weight router;          /* [E][D] */
    DEV const float *bias;         /* [E]; NULL for a hash layer */
    DEV const int32_t *token_to_expert;        /* [V][K]; NULL for a scored layer */
    /* Routed experts: n_mat E. data is NULL if config.leave_experts; file_* say where the bytes are
     * on disk. */
    struct weight gate, up;        /* [E][F][D] */
    struct weight down;            /* [E][D][F] */
    const struct gguf_tensor *file_gate, *file_up, *file_down;
    struct weight shared_gate, shared_up;      /* [F][D] */
    struct weight shared_down;     /* [D][F] */
};

/* Output head; an MTP block has its own, with the trunk's output matrix. */
struct head_weights {
    struct weight hyper_fn;        /* [S][S*D] */
    DEV const float *hyper_base;   /* [S] */
    DEV const float *hyper_scale;  /* [1] */
    DEV const float *norm;         /* [D] */
    struct weight output;          /* [V][D] */
};

/* Input side of an MTP block (section 5.1). */
struct mtp_weights {
    struct weight e_proj, h_proj;  /* [D][D] */
    DEV const float *e_norm;       /* [D] */
    DEV const float *h_norm;       /* [D] */
};

struct weights {
    struct shape shape;            /* of these layers: the trunk's, or shape_mtp of it */
    int lo, hi;                    /* layers that are bound */
    struct weight embed;           /* [V][D]; absent in a slice without it */
    struct head_weights head;      /* absent when hi < L */
    struct mtp_weights mtp;        /* MTP blocks only */
    struct layer_weights layer[SHAPE_MAX_LAYERS];  /* by layer number */
    /* owner */
    struct ops *ops;
    DEV void **owned;              /* allocations of the backend, freed at the end */
    size_t n_owned, owned_room;
};

struct weights_config {
    const struct gguf *const *
        file; /* borrowed; outlive the weights. A tensor is taken from the first file that has it */
    int n_file;
    const struct shape *shape;     /* copied */
    struct ops *ops;               /* borrowed */
    int lo, hi;                    /* layers to bind; others may be missing */
    bool leave_experts; /* true: routed experts stay where they are (an expert store reads them) */
};

/* Binds the trunk. Refuses (SLUICE_ERR_MODEL) missing tensors, wrong shapes and types, naming
 * tensor, expected and found; compressors or indexers on layers whose ratio has none; a layer with
 * both or neither of bias and token table; token tables with an entry >= E. Gate and up of a layer
 * may differ in type. On failure *out is NULL. */
enum sluice_status weights_load(const struct weights_config *config, struct weights **out,
                                struct sluice_error *err);

/* Binds an MTP block: `mtp.0.*` (a sidecar) or `blk.L.nextn.*` with `blk.L.*` (embedded, or
 * llama.cpp's sidecar). trunk gives embedding and output matrix and outlives the result; lo, hi of
 * config are ignored. A DSpark sidecar (`mtp.0.main_proj`) is refused by name. SLUICE_ERR_MODEL "no
 * MTP block" if the files have neither. */
enum sluice_status weights_load_mtp(const struct weights_config *config,
                                    const struct weights *trunk, struct weights **out,
                                    struct sluice_error *err);
/* Do these files hold an MTP block of either flavour? */
bool weights_has_mtp(const struct gguf *const *file, int n_file, const struct shape *shape);

void weights_free(struct weights *w);   /* accepts NULL */

/* The routed experts of the bound layers for a resident store: out[l - lo], l in [lo, hi). Needs
 * experts that were not left. */
void weights_expert_bytes(const struct weights *w, struct expert_bytes *out);

#endif
