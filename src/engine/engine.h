/* engine/engine.h - an open model; private to this folder. The public interface is sluice.h.
 *
 * Steps of the model take turns: the scheduler's thread and sessions hold `turn` while they run
 * one, in order of asking. */
#ifndef SLUICE_ENGINE_ENGINE_H
#define SLUICE_ENGINE_ENGINE_H

#include <pthread.h>

#include "model/draft.h"
#include "model/forward.h"
#include "os/pool.h"
#include "sluice.h"
#include "text/vocab.h"

/* A lock that is given in order of asking. */
struct turn {
    pthread_mutex_t lock;
    pthread_cond_t next;
    uint64_t asked, serving;         /* under lock */
};

void turn_init(struct turn *t);
void turn_deinit(struct turn *t);
void turn_take(struct turn *t);
void turn_give(struct turn *t);

/* The reading of weights in the background; load.c. */
struct load {
    double began;                    /* when the model was opened; os/clock.h */
    _Atomic bool stop;
    bool started;                    /* owner thread */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t done;
    bool running;                    /* under lock */
    double seconds;                  /* under lock; 0: not all was read */
};

struct schedule;
struct token_trie;

struct sluice {
    /* set once */
    struct gguf *file, *mtp_file;    /* mtp_file: NULL without a sidecar */
    struct shape shape;
    struct vocab *vocab;
    struct pool *pool;
    struct ops ops;
    struct weights *weights, *mtp_weights;
    struct expert_store *experts, *mtp_experts;
    struct kv_layout layout, mtp_layout;
    struct sluice_info info;
    char *name, *path;
    char backend[160];
    int32_t max_rows, max_logits;
    int32_t *all_rows;               /* [max_logits] 0, 1, 2, ... */
    int64_t checkpoint;
    bool weights_fit;                /* in memory, beside all that is planned */
    struct load load;
    struct sluice_options options;   /* strings are not kept */
    /* under turn */
    struct turn turn;
    struct model_run *run;
    struct tap tap;                  /* of run; asks for nothing unless a session is profiled */
    double *profile;                 /* where the running step's times go */
    double profile_at;               /* end of the last stage; os/clock.h */
    struct draft_run *draft;         /* made when first asked for */
    DEV float *draft_input;          /* [max_rows][S][D] */
    /* any thread */
    _Atomic int64_t kv_used;         /* bytes of sequences and checkpoints */
    struct schedule *schedule;
    pthread_mutex_t trie_lock;
    struct token_trie *trie;         /* of vocab, for grammars; made when first asked for */
};

/* Fills e->info's sizes and the limits of steps from the options, and refuses what cannot fit
 * (SLUICE_ERR_NOMEM with the arithmetic); plan.c. */
enum sluice_status engine_plan(struct sluice *e, struct sluice_error *err);

/* The observer of steps that are profiled; profile.c. */
void engine_profile_init(struct sluice *e);
/* Around a step, under turn; seconds may be NULL. */
void engine_profile_begin(struct sluice *e, double *seconds);
void engine_profile_end(struct sluice *e);

void load_init(struct load *load);
/* Begins to read, if that helps; load_end stops it. */
void load_begin(struct sluice *e);
void load_end(struct load *load);

void engine_log(const struct sluice *e, enum sluice_log_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
