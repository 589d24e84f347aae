/* server/grammars.h - what answers are held to, compiled: the last few are kept, since clients send
 * the same schema and tools with every request. Any thread. */
#ifndef SLUICE_SERVER_GRAMMARS_H
#define SLUICE_SERVER_GRAMMARS_H

#include "server/ask.h"
#include "server/source.h"

struct grammars;

struct grammars *grammars_new(void); /* NULL if memory is short */
void grammars_free(struct grammars *g); /* accepts NULL; before the source is closed */

/* The grammar that the ask's answers are held to; *out is NULL if there is none. Give it up with
 * sluice_grammar_free. SLUICE_ERR_ARG names the member, the keyword and its path. */
enum sluice_status grammars_of(struct grammars *g, const struct source *source,
                               const struct ask *ask, struct sluice_grammar **out,
                               struct sluice_error *err);
/* Calls of the ask's tools, for an answer whose call could not be read. */
enum sluice_status grammars_of_calls(struct grammars *g, const struct source *source,
                                     const struct ask *ask, struct sluice_grammar **out,
                                     struct sluice_error *err);

#endif
