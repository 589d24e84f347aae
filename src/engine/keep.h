/* engine/keep.h - conversations: a sequence's KV state with the tokens it stands for, and those
 * that no request uses at the moment, kept so that the next request finds its prefix read.
 *
 * Invariants: (1) ids[0 .. kv->n_tokens) are the tokens of kv;
 *             (2) a checkpoint at n holds the rows of the fixed block that go on from n tokens;
 *                 since the pages' rows below n never change, it brings the sequence back to n
 *                 exactly;
 *             (3) checkpoints ascend and none lies beyond kv->n_tokens;
 *             (4) an idle conversation belongs to the keep, another to one request;
 *             (5) the tree of prefixes has a mark for every checkpoint of every conversation, and
 *                 one for every idle conversation, which may be shortened by what its rings hold.
 *
 *   (new) --keep_start--> BUSY --keep_return--> IDLE --keep_start--> BUSY
 *                           |                     |
 *                           '--conversation_free--'--keep_make_room--> gone, to the store if that
 *                                                                      can be
 *
 * Threads: the scheduler's only. */
#ifndef SLUICE_ENGINE_KEEP_H
#define SLUICE_ENGINE_KEEP_H

#include "engine/page_sink.h"
#include "engine/prefix.h"
#include "model/kv_state.h"

/* Shared by forks; never changes. size: kv_state_checkpoint_bytes. */
struct checkpoint {
    int64_t n;
    int refs;
    size_t size;
    uint8_t bytes[];                 /* [size] */
};

/* A checkpoint of a conversation, and where prompts find it. */
struct place {
    struct checkpoint *checkpoint;
    struct prefix_mark *mark;
};

struct conversation {
    struct kv_state *kv;
    int32_t *ids;                    /* [n_ids]; may be ahead of kv */
    size_t n_ids, room;
    struct place *place;             /* [n_place] */
    size_t n_place, place_room;
    struct prefix_mark *whole;       /* idle only: as it stands */
    size_t number;                   /* idle only: among the keep's */
    double last_used;                /* config->clock */
};

struct keep;

/* used counts sequences (kv_layout.used) and checkpoints. Pointers are borrowed. */
struct keep_config {
    const struct kv_layout *layout;
    struct ops *ops;
    int64_t max_tokens;              /* of one conversation */
    int64_t budget;                  /* bytes of all of them */
    int64_t every;                   /* tokens between checkpoints that are kept for good */
    _Atomic int64_t *used;
    double (*clock)(void);           /* seconds; NULL: os/clock.h */
};

enum sluice_status keep_open(const struct keep_config *config, struct keep **out,
                             struct sluice_error *err);
/* The store gets what it lacks of the idle conversations. Accepts NULL. */
void keep_close(struct keep *k);
int32_t keep_count(const struct keep *k);

/* A conversation that begins with as much of the prompt ids[0 .. n) as is at hand, at most n - 1
 * tokens, n > 0: taken from the idle ones if it goes on from one, else forked from the idle or busy
 * one with the longest prefix, or read from the store if that has a longer one, else empty. Its
 * kv->n_tokens says how much that is; its ids are all n. */
enum sluice_status keep_start(struct keep *k, const int32_t *ids, size_t n,
                              struct conversation **out, struct sluice_error *err);
/* From now on what is kept is given to a store too; before the first keep_start. */
void keep_set_store(struct keep *k, const struct page_sink *sink, struct page_key root);

/* Takes ownership; a conversation without tokens is freed. The store gets what it lacks of it, but
 * not always its state (engine/keep_store.h). */
void keep_return(struct keep *k, struct conversation *c);
/* Frees the least valuable idle conversations until `bytes` more fit the budget; false if they do
 * not. Value: tokens that would have to be read again, per byte that this frees, per hour begun
 * since the last use; pages that others share count for neither. */
bool keep_make_room(struct keep *k, int64_t bytes);

/* Appends a token. */
enum sluice_status conversation_add(struct conversation *c, int32_t id, struct sluice_error *err);
/* Takes a checkpoint at kv->n_tokens, unless there is one or no room for it; the store gets what
 * keep_return gives it. Of checkpoints elsewhere than at multiples of config->every only the last
 * few stay. */
enum sluice_status keep_checkpoint(struct keep *k, struct conversation *c,
                                   struct sluice_error *err);
/* After a token of an answer: the same at multiples of config->every; and, for memory only, where a
 * checkpoint is smallest, so that a state near the end costs the store little. */
enum sluice_status keep_pass(struct keep *k, struct conversation *c, struct sluice_error *err);
/* Gives up its checkpoints, for their memory. */
void conversation_trim(struct keep *k, struct conversation *c);
void conversation_free(struct keep *k, struct conversation *c);   /* accepts NULL */

#endif
