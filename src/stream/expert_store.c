/* stream/expert_store.c - routed experts in resident memory.
 *
 * Invariants: (1) a layer has at most one lease out;   (2) while it is out, its places do not
 * change; (3) without a lease every place of a layer is NULL.
 *
 *   FREE --acquire--> LEASED --release--> FREE      (per layer)
 *
 * Threads: one, the model's. */
#include "stream/expert_store.h"

#include "base/check.h"

struct expert_store {
    /* set once */
    int n_layer, n_expert;
    bool by_expert;
    struct expert_bytes *layer;      /* [n_layer] */
    /* owner */
    struct expert_place *place;      /* [n_layer][n_expert]; NULL unless by_expert */
    bool *leased;                    /* [n_layer] */
};

enum sluice_status expert_store_open_resident(const struct expert_store_config *config,
                                              struct expert_store **out, struct sluice_error *err)
{
    *out = NULL;
    FAIL_IF(config->n_layer < 1 || config->n_expert < 1, err, SLUICE_ERR_ARG,
            "expert store: expected layers and experts, found %d and %d", config->n_layer,
            config->n_expert);
    struct expert_store *s = calloc(1, sizeof(*s));
    FAIL_IF(!s, err, SLUICE_ERR_NOMEM, "out of memory opening the expert store");
    size_t n_layer = (size_t)config->n_layer;
    s->n_layer = config->n_layer;
    s->n_expert = config->n_expert;
    s->by_expert = config->by_expert;
    s->layer = calloc(n_layer, sizeof(*s->layer));
    s->leased = calloc(n_layer, sizeof(*s->leased));
    if (s->by_expert)
        s->place = calloc(n_layer * (size_t)s->n_expert, sizeof(*s->place));
    if (!s->layer || !s->leased || (s->by_expert && !s->place)) {
        expert_store_close(s);
        return status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory opening the expert store");
    }
    memcpy(s->layer, config->layer, n_layer * sizeof(*s->layer));
    *out = s;
    return SLUICE_OK;
}

void expert_store_close(struct expert_store *s)
{
    if (!s)
        return;
    for (int l = 0; s->leased && l < s->n_layer; l++)
        SLUICE_ASSERT(!s->leased[l]);
    free(s->layer);
    free(s->leased);
    free(s->place);
    free(s);
}

bool expert_store_resident(const struct expert_store *s, int layer)
{
    SLUICE_ASSERT(layer >= 0 && layer < s->n_layer);
    return !s->by_expert;
}

static void lease_one(struct expert_store *s, int layer, int32_t id)
{
    const struct expert_bytes *b = &s->layer[layer];
    size_t e = (size_t)id;
    s->place[(size_t)layer * (size_t)s->n_expert + e] = (struct expert_place){
        .gate = b->gate + e * b->gate_stride,
        .up = b->up + e * b->up_stride,
        .down = b->down + e * b->down_stride,
    };
}

enum sluice_status expert_store_acquire(struct expert_store *s, int layer, const int32_t *ids,
                                        int n, struct expert_lease *out, struct sluice_error *err)
{
    SLUICE_ASSERT(layer >= 0 && layer < s->n_layer && !s->leased[layer]);
    SLUICE_ASSERT(ids || !s->by_expert);
    *out = (struct expert_lease){.layer = layer};
    for (int i = 0; ids && i < n; i++)
        FAIL_IF(ids[i] < 0 || ids[i] >= s->n_expert, err, SLUICE_ERR_ARG,
                "layer %d: expected experts 0 to %d, found %d", layer, s->n_expert - 1, ids[i]);
    if (!s->by_expert) {
        out->all = s->layer[layer];
    } else {
        for (int i = 0; i < n; i++)
            lease_one(s, layer, ids[i]);
        out->place = s->place + (size_t)layer * (size_t)s->n_expert;
    }
    s->leased[layer] = true;
    return SLUICE_OK;
}

void expert_store_release(struct expert_store *s, struct expert_lease *lease)
{
    SLUICE_ASSERT(s->leased[lease->layer]);
    if (s->by_expert)
        memset(s->place + (size_t)lease->layer * (size_t)s->n_expert, 0,
               (size_t)s->n_expert * sizeof(*s->place));
    s->leased[lease->layer] = false;
    *lease = (struct expert_lease){.layer = lease->layer};
}
