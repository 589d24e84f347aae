/* model/run.h - a run's memory and the steps of the forward pass; private to this folder.
 *
 * One arena in the backend's memory, laid out once. After the part that lives for a whole call, the
 * halves of a layer and the ends of the pass share one overlay, since nothing in it outlives its
 * half:
 *
 *   | row table | rope tables | x streams | mix | y | f | overlay |
 *
 *   overlay, attention:    qr q kv rows o low u z index-u index-z index-q index-w sel
 *            ffn:          router logits, ids, weights, slots
 *            draft input:  embed a h b
 *            head:         y, logits (until the next call)
 *
 * Letters as in model/shape.h; n <= max_rows; cw = width of the main compressor's u and z. */
#ifndef SLUICE_MODEL_RUN_H
#define SLUICE_MODEL_RUN_H

#include "model/forward.h"

enum half { HALF_ATTN, HALF_FFN };

struct model_run {
    /* set once */
    struct model_run_config c;
    struct shape s;
    int32_t n_rope_plain, n_rope_compressed;   /* layers of each kind */
    DEV uint8_t *arena;
    /* row table; one upload a call from row_host, which has the same layout */
    uint8_t *row_host;
    DEV uint8_t *row_dev;
    size_t row_bytes, row_token, row_span_of, row_spans, row_logit;   /* offsets; positions at 0 */
    /* whole call */
    DEV float *freq_plain, *freq_compressed;   /* [R/2] */
    DEV float *rope_plain, *rope_compressed;   /* [n][R/2][2] */
    DEV float *x;                  /* [n][S][D] */
    DEV float *mix;                /* [n][S + S*S] */
    DEV float *y;                  /* [n][D] input of the half */
    DEV float *f;                  /* [n][D] output of the half */
    /* attention */
    DEV float *qr;                 /* [n][Q] */
    DEV float *q;                  /* [n][H][C] */
    DEV float *kv;                 /* [n][C] */
    DEV uint8_t *kv_rows;          /* [n][main row bytes] */
    DEV float *o;                  /* [n][H][C] */
    DEV float *low;                /* [n][G][O] */
    DEV float *u, *z;              /* [n][cw] */
    DEV float *index_u, *index_z;  /* [n][2J] */
    DEV float *index_q;            /* [n][I][J] */
    DEV float *index_w;            /* [n][I] */
    DEV int32_t *sel;              /* [n][T] */
    DEV int32_t *sel_count;        /* [n] */
    /* ffn */
    DEV float *router_logits;      /* [n][E] */
    DEV int32_t *ids;              /* [n][K] */
    DEV float *id_weights;         /* [n][K] */
    DEV struct expert_slot *slots; /* [E] */
    int32_t *ids_host;             /* [n][K], for layers that are not resident */
    struct expert_slot *slots_host;    /* [E] */
    /* draft input */
    DEV float *draft_e;            /* [n][D] */
    DEV float *draft_a;            /* [n][D] */
    DEV float *draft_h, *draft_b;  /* [n][S][D] */
    /* head */
    DEV float *head_y;             /* [n_logits][D] */
    DEV float *logits;             /* [n_logits][V] */
    /* this call */
    struct row_table rows;
    DEV const int32_t *logit_row;  /* [n_logits] */
    int32_t n_logits;
};

/* model_run_new with room for the input of an MTP block where mtp is set. */
enum sluice_status run_new(const struct model_run_config *config, bool mtp, struct model_run **out,
                           struct sluice_error *err);

/* Start of a call: checks the batch, makes every sequence's range writable, uploads the row table,
 * fills the rope tables. */
enum sluice_status run_begin(struct model_run *r, const struct batch *b, struct sluice_error *err);
/* Its successful end: advances the sequences. */
void run_end(struct model_run *r, const struct batch *b);

/* The layers of the run in order; forward.c. */
enum sluice_status run_layers(struct model_run *r, struct sluice_error *err);

/* Steps, in order of the pass; l is the layer number of the trunk. Each has its file. */
void embed_tokens(struct model_run *r);                     /* ids -> x [n][S][D] */
void hyper_gather(struct model_run *r, int l, enum half h); /* x -> y [n][D], mix */
void attention(struct model_run *r, int l);                 /* y -> f, appends to the KV state */
void compress_project(struct model_run *r, int l);          /* y -> u, z of both compressors */
void compress_windows(struct model_run *r, int l);          /* u, z -> entries of closing windows */
void indexer_select(struct model_run *r, int l);            /* index_q -> sel, sel_count */
void hyper_spread(struct model_run *r, int l, enum half h); /* f, mix -> x */
void router_pick(struct model_run *r, int l);               /* y -> ids, id_weights */
enum sluice_status experts_apply(struct model_run *r, int l, struct sluice_error *err); /* y -> f */
void head_logits(struct model_run *r);                      /* x -> logits [n_logits][V] */

static inline const struct layer_weights *run_weights(const struct model_run *r, int l)
{
    return &r->c.weights->layer[l];
}

static inline const struct kv_layer_layout *run_layout(const struct model_run *r, int l)
{
    return &r->c.layout->layer[l - r->c.lo];
}

/* RoPE table of layer l: YaRN for compressed layers, plain for the others (section 3.5). */
static inline DEV const float *run_rope(const struct model_run *r, int l)
{
    return r->s.ratio[l] ? r->rope_compressed : r->rope_plain;
}

/* Whether any row of the call sees more entries of layer l than it may attend to: else all are
 * taken, and nothing of the indexer but its rows is needed (section 3.8). */
static inline bool run_scores(const struct model_run *r, int l)
{
    return r->s.ratio[l] == 4 && (r->rows.pos_max + 1) / 4 > r->s.index_top_k;
}

static inline void run_tap(const struct model_run *r, enum tap_stage stage, int l,
                           DEV const float *data, int64_t width)
{
    if (!tap_wants(r->c.tap, stage))
        return;
    struct tap_event e = {
        .stage = stage, .layer = l, .n = stage == TAP_HEAD ? r->n_logits : r->rows.n,
        .width = width, .data = data, .ops = r->c.ops,
        .ids = stage == TAP_ROUTE ? r->ids : NULL, .n_ids = stage == TAP_ROUTE ? r->s.n_used : 0,
    };
    r->c.tap->fn(r->c.tap->ctx, &e);
}

#endif
