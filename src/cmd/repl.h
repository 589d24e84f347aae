/* cmd/repl.h - the conversation of `sluice run` on a terminal, and what it shares with the answer
 * to one prompt. */
#ifndef SLUICE_CMD_REPL_H
#define SLUICE_CMD_REPL_H

#include "cmd/answer.h"
#include "cmd/cmd.h"
#include "cmd/dialog.h"

/* What every request of a run has in common. */
struct run {
    const struct options *o;
    struct sluice *e;
    struct term *term;
    enum sluice_effort effort;
    struct sluice_sampling sampling;
    struct answer_style style;
    struct dialog chat;
    struct sluice_usage last;        /* of the last answer */
};

/* Answers text as the user's next message and adds both to the conversation; what did not come
 * about leaves it as it was. Reports failures; returns an exit code. */
int run_turn(struct run *r, struct str text);

/* Reads and answers until the end of the input or /quit. */
int repl(struct run *r);

#endif
