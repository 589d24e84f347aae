/* model/tap.h - observers at the stage boundaries of the forward pass: golden dumps, importance
 * matrices, timings.
 *
 * A run without a tap pays one pointer test per stage. An observer is called right after a stage's
 * ops were enqueued; data is in the backend's memory and valid only during the call: tap_read
 * copies it to the host, ops->sync waits for the stage.
 *
 * Observers never change what is computed. Threads: called on the thread that called forward. */
#ifndef SLUICE_MODEL_TAP_H
#define SLUICE_MODEL_TAP_H

#include <stdint.h>

#include "ops/ops.h"

/* In the order of a layer. What data holds is in brackets. */
enum tap_stage {
    TAP_EMBED,          /* [n][S][D] streams entering the run's first layer */
    TAP_GATHER_ATTN,    /* [n][D] normed input of attention */
    TAP_PROJECT,        /* [n][H][C] queries after norm and RoPE */
    TAP_COMPRESS,       /* nothing */
    TAP_INDEX,          /* nothing */
    TAP_ATTEND,         /* [n][H][C] heads after inverse RoPE */
    TAP_ATTN_OUT,       /* [n][D] */
    TAP_SPREAD_ATTN,    /* [n][S][D] */
    TAP_GATHER_FFN,     /* [n][D] normed input of router and experts */
    TAP_ROUTE,          /* [n][K] weights of the chosen experts; ids holds the experts */
    TAP_EXPERTS,        /* [n][D] */
    TAP_LAYER_OUT,      /* [n][S][D] */
    TAP_HEAD,           /* [n_logits][V] */
    TAP_STAGES
};

struct tap_event {
    enum tap_stage stage;
    int layer;                     /* of the trunk; -1 for TAP_EMBED and TAP_HEAD */
    int32_t n;                     /* rows */
    int64_t width;                 /* values per row; 0: no data */
    DEV const float *data;         /* [n][width] or NULL */
    DEV const int32_t *ids;        /* [n][K], TAP_ROUTE only */
    int32_t n_ids;                 /* K */
    const struct ops *ops;
};

struct tap {
    void *ctx;
    uint32_t stages;               /* bit 1 << stage: call fn for it */
    void (*fn)(void *ctx, const struct tap_event *e);
};

static inline bool tap_wants(const struct tap *tap, enum tap_stage stage)
{
    return tap && (tap->stages >> stage & 1);
}

/* Copies the event's data ([n][width] float32) to the host; waits for the device. */
void tap_read(const struct tap_event *e, float *out);
/* The same for ids ([n][n_ids]). */
void tap_read_ids(const struct tap_event *e, int32_t *out);

/* Short lower-case name, for reports. */
const char *tap_stage_name(enum tap_stage stage);

#endif
