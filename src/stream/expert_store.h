/* stream/expert_store.h - where the bytes of routed experts come from. The model asks for a lease
 * and cannot tell whether they are resident, cached or read on demand.
 *
 *   expert_store_resident(layer)?  yes -> acquire(ids = NULL): the whole layer, no host knowledge
 * of the routing no  -> the caller downloads ids and acquires just those experts
 *
 * A lease pins bytes until its release; acquire and release are called by the model's thread only.
 */
#ifndef SLUICE_STREAM_EXPERT_STORE_H
#define SLUICE_STREAM_EXPERT_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* The three matrices of one layer's experts; expert e of a matrix is at base + e * stride. Opaque
 * bytes: this folder knows no format. */
struct expert_bytes {
    const uint8_t *gate, *up, *down;
    size_t gate_stride, up_stride, down_stride;
};

/* Where one leased expert lies. */
struct expert_place {
    const uint8_t *gate, *up, *down;
};

struct expert_store;

struct expert_lease {
    int layer;
    struct expert_bytes all;             /* valid when the layer is resident; else zero */
    const struct expert_place *place; /* [n_expert] by expert id when it is not; all NULL for
                                         experts that were not asked for */
};

/* layer[i] describes layer i of the store (the model's layers [lo, hi) from 0). The bytes are
 * borrowed and outlive the store. */
struct expert_store_config {
    const struct expert_bytes *layer;
    int n_layer, n_expert;
    bool by_expert; /* true: every layer reports itself as not resident and leases single experts,
                       as a cache does */
};

/* A store over resident memory; config is copied. */
enum sluice_status expert_store_open_resident(const struct expert_store_config *config,
                                              struct expert_store **out, struct sluice_error *err);
void expert_store_close(struct expert_store *s);   /* accepts NULL; asserts that no lease is out */
bool expert_store_resident(const struct expert_store *s, int layer);
/* ids: the experts needed (host memory, n of them, duplicates allowed), or NULL for a resident
 * layer. At most one lease is out per layer. SLUICE_ERR_ARG for an id outside the store. */
enum sluice_status expert_store_acquire(struct expert_store *s, int layer, const int32_t *ids,
                                        int n, struct expert_lease *out, struct sluice_error *err);
void expert_store_release(struct expert_store *s, struct expert_lease *lease);

#endif
