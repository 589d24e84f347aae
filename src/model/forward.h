/* model/forward.h - the forward pass: one function over rows. Prefill is many rows of one sequence,
 * decode one row each of many, verification of a draft a few rows. There is no second path. */
#ifndef SLUICE_MODEL_FORWARD_H
#define SLUICE_MODEL_FORWARD_H

#include "model/kv_state.h"
#include "model/shape.h"
#include "model/tap.h"
#include "model/weights.h"
#include "ops/ops.h"
#include "stream/expert_store.h"

/* n consecutive new tokens of one sequence. A sequence appears at most once in a batch. */
struct batch_span {
    struct kv_state *kv;
    int32_t n;
};

/* Rows of all spans one after the other. */
struct batch {
    int32_t n, n_spans;
    const int32_t *token;          /* [n] */
    const struct batch_span *span; /* [n_spans]; their n add up to n */
    const int32_t *logit_row;      /* [n_logits] rows that need logits, ascending; may be NULL */
    int32_t n_logits;
};

struct model_run;

/* What a run needs; all borrowed, all outlive it. Layers [lo, hi): lo == 0 embeds, hi == n_layer
 * has the head. */
struct model_run_config {
    const struct shape *shape;
    const struct weights *weights;
    struct ops *ops;
    struct expert_store *experts;
    const struct kv_layout *layout;    /* of layers [lo, hi) */
    int lo, hi;
    int32_t max_rows, max_spans, max_logits;
    int64_t max_positions;
    const struct tap *tap;             /* NULL: no observer */
};

/* Allocates every intermediate once; forward allocates nothing but KV pages. */
enum sluice_status model_run_new(const struct model_run_config *config, struct model_run **out,
                                 struct sluice_error *err);
void model_run_free(struct model_run *r);   /* accepts NULL */
/* What model_run_new would take for intermediates, in bytes; weights, ops and experts may be
 * NULL. */
size_t model_run_bytes(const struct model_run_config *config);

/* One step. On success every span's kv->n_tokens has grown by its n. On failure the sequences keep
 * their n_tokens; where the step had more than KV_SLACK rows their windows are lost, and
 * kv_state_reserve says so (SLUICE_ERR_STATE) until a reset. b->n <= max_rows, token ids < V
 * (checked: SLUICE_ERR_ARG). */
enum sluice_status forward(struct model_run *r, const struct batch *b, struct sluice_error *err);

/* Logits of the last forward: [n_logits][V]; waits for the device. first + n <= n_logits. */
void model_run_logits(struct model_run *r, int32_t first, int32_t n, float *out);

/* Residual streams [n][S][D] of the last forward's rows, after layer hi - 1: what the next range of
 * layers, or a draft head, takes. */
DEV const float *model_run_streams(const struct model_run *r);
/* For lo > 0: sets the streams of the next forward's rows from host memory. */
void model_run_streams_write(struct model_run *r, const float *streams, int32_t n);
void model_run_streams_read(struct model_run *r, float *streams, int32_t n);

#endif
