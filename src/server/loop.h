/* server/loop.h - the event loop's thread and how other threads hand it work.
 *
 * Invariants: (1) sockets and everything that is not said to be for any thread belong to the loop's
 *                 thread; (2) posts run there, each once, in the order they were posted;
 *             (3) jobs run on one worker thread, each once, in order, and touch no socket.
 *
 * A post is embedded in what it carries; whoever posts gives it up until run is called. */
#ifndef SLUICE_SERVER_LOOP_H
#define SLUICE_SERVER_LOOP_H

#include <event2/event.h>

#include "base/status.h"

struct loop_post {
    struct loop_post *next; /* private */
    void (*run)(struct loop_post *p);
};

struct loop;

enum sluice_status loop_open(struct loop **out, struct sluice_error *err);
/* Ends the worker after the jobs that wait, and runs what they posted. Accepts NULL. */
void loop_close(struct loop *l);
struct event_base *loop_base(const struct loop *l);

/* Runs p->run on the loop's thread. Any thread. */
void loop_post(struct loop *l, struct loop_post *p);
/* Runs p->run on the worker thread: for what takes long. Any thread. */
void loop_work(struct loop *l, struct loop_post *p);

/* Serves until loop_stop, which is for any thread. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);

#endif
