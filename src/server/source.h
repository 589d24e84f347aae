/* server/source.h - where answers come from: the engine, or a script (source_script.c) that stands
 * in for it in tests. The calls are those of sluice.h, with the same contracts, so that nothing
 * else in this folder knows which it is.
 *
 * Answers are raw text: the server parses thinking and calls itself, because it must know the exact
 * bytes that were sampled. */
#ifndef SLUICE_SERVER_SOURCE_H
#define SLUICE_SERVER_SOURCE_H

#include "base/str.h"
#include "sluice.h"

struct source_request;

struct source_fns {
    const struct sluice_info *(*info)(void *ctx);
    enum sluice_status (*chat_tokens)(void *ctx, const struct sluice_chat *chat,
                                      struct sluice_tokens *out, struct sluice_error *err);
    enum sluice_status (*tokenize)(void *ctx, struct str text, bool allow_special,
                                   struct sluice_tokens *out, struct sluice_error *err);
    enum sluice_status (*detokenize)(void *ctx, const int32_t *ids, size_t n,
                                     struct sluice_text *out, struct sluice_error *err);
    void (*free)(void *p);
    enum sluice_status (*grammar)(void *ctx, const struct sluice_grammar_options *options,
                                  struct sluice_grammar **out, struct sluice_error *err);
    enum sluice_status (*submit)(void *ctx, const struct sluice_request_options *options,
                                 struct source_request **out, struct sluice_error *err);
    void (*cancel)(struct source_request *r);
    void (*release)(struct source_request *r);
    void (*stats)(void *ctx, struct sluice_stats *out);
    void (*close)(void *ctx);
};

struct source {
    const struct source_fns *fn;
    void *ctx;
};

/* source_engine_open: server.h. */
/* Reads a script; config is its path. */
enum sluice_status source_script_open(const void *config, struct source *out,
                                      struct sluice_error *err);

#endif
