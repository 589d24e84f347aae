/* model/draft.h - the MTP block: one more layer that proposes the token after next (section 5.1).
 *
 * Row p is fed the trunk's streams at p (after its last layer) and the token at p + 1; its logits
 * propose the token at p + 2. The block has its own sliding KV: a kv_state with the layout of
 * draft_kv_layout, whose position of a row is the row's number in that sequence. For a deeper
 * draft, feed draft_streams back with the drafted token. Rejected rows are dropped with
 * kv_state_truncate.
 *
 * Threads: as model_run; a draft shares the trunk's ops, so both run on one thread. */
#ifndef SLUICE_MODEL_DRAFT_H
#define SLUICE_MODEL_DRAFT_H

#include "model/forward.h"

struct draft_run;

/* All borrowed, all outlive the run. */
struct draft_config {
    const struct weights *weights;     /* of weights_load_mtp */
    struct ops *ops;
    struct expert_store *experts;      /* one layer: number 0 is the block */
    const struct kv_layout *layout;    /* of draft_kv_layout */
    int32_t max_rows, max_spans, max_logits;
    int64_t max_positions;
    const struct tap *tap;             /* NULL: no observer */
};

/* KV layout of the MTP block of a trunk's shape: one ratio-0 layer. */
void draft_kv_layout(const struct shape *trunk, enum kv_format format, struct kv_layout *out);

enum sluice_status draft_run_new(const struct draft_config *config, struct draft_run **out,
                                 struct sluice_error *err);
void draft_run_free(struct draft_run *d);   /* accepts NULL */

/* One step over b's rows; b->token is the token after each row's position, b->span's kv are the
 * draft's. streams is [n][S][D] of the trunk (model_run_streams) or of an earlier draft step
 * (draft_streams; may be this run's own). Failures and KV as in forward. */
enum sluice_status draft_forward(struct draft_run *d, const struct batch *b,
                                 DEV const float *streams, struct sluice_error *err);

/* Draft logits of the last step: [n_logits][V]; waits for the device. */
void draft_logits(struct draft_run *d, int32_t first, int32_t n, float *out);
/* Output streams of the last step's rows: [n][S][D]. */
DEV const float *draft_streams(const struct draft_run *d);
void draft_streams_read(struct draft_run *d, float *streams, int32_t n);

#endif
