/* engine/schedule.h - requests to rows of steps: continuous batching on one thread.
 *
 * A step takes one row of every request that is decoding, then rows of those still reading their
 * prompts, shared out evenly, up to the chunk. While somebody decodes, so few prompt rows join that
 * a step takes at most about twice as long as without them: running streams keep half their speed.
 *
 * Invariants: (1) a request is in exactly one of queue, running, done;
 *             (2) a running request owns a conversation, and at least one of its tokens has not
 *                 been through the model;
 *             (3) queue is sorted by priority, then by order of submission;
 *             (4) bytes of conversations stay within the budget before every step: idle ones go,
 *                 then the youngest running request goes back to the queue and reads again later;
 *             (5) DONE is the last event of a request and comes exactly once.
 *
 *   submit -> QUEUED --admit--> RUNNING --end, failure, cancel--> DONE --release--> freed
 *                ^                 |
 *                '----preempt------'        cancel in QUEUED -> DONE
 *
 * What a request produces depends on none of this: rows do not influence each other, and the draw
 * for a token is a hash of seed and index.
 *
 * Threads: the loop owns conversations and samplers; `lock` guards lists, states and counters. */
#ifndef SLUICE_ENGINE_SCHEDULE_H
#define SLUICE_ENGINE_SCHEDULE_H

#include "engine/engine.h"
#include "engine/page_sink.h"

/* Starts the thread. */
enum sluice_status schedule_open(struct sluice *e, struct schedule **out, struct sluice_error *err);
/* Before the first request. */
void schedule_set_store(struct schedule *s, const struct page_sink *sink, struct page_key root);
/* Cancels all, waits, frees. Accepts NULL. */
void schedule_close(struct schedule *s);

#endif
