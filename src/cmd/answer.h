/* cmd/answer.h - one request of `sluice run`: submits it, prints what comes, ends it on Ctrl-C. */
#ifndef SLUICE_CMD_ANSWER_H
#define SLUICE_CMD_ANSWER_H

#include "base/buf.h"
#include "cmd/term.h"
#include "sluice.h"

struct answer_style {
    bool show_thinking;
    bool notes;              /* on stderr: the bar while a long prompt is read, calls of tools that
                                nobody offered, the line of times */
};

/* What came; deinit frees it. */
struct answer {
    struct buf content, reasoning;
    enum sluice_finish finish;
    struct sluice_usage usage;
    struct sluice_error error;   /* SLUICE_FINISH_ERROR */
};

/* Runs a request to its end. options->on_event and ctx are set here. A failure of sluice_submit is
 * returned; that of the request is in out->finish and error. SIGINT cancels it; a third one leaves
 * the process. */
enum sluice_status answer_run(struct sluice *e, const struct sluice_request_options *options,
                              const struct answer_style *style, struct answer *out,
                              struct sluice_error *err);
void answer_deinit(struct answer *a);

/* "first token 0.21 s, prefill 310 t/s (45 tokens, 12 from memory), decode 31.2 t/s (120
 * tokens)". */
void answer_summary(const struct sluice_usage *u, char *line, size_t size);

#endif
