/* server/api_own.h - what only this server has, or what all APIs need: the list of models, state,
 * counting and rendering without generating. The write functions belong to the loop's thread, the
 * others (work) to the worker: they append a reply to out or fail. */
#ifndef SLUICE_SERVER_API_OWN_H
#define SLUICE_SERVER_API_OWN_H

#include "server/server_internal.h"

void own_write_models(const struct server *s, struct buf *out);
/* False if there is no model of that name. */
bool own_write_model(const struct server *s, const char *id, struct buf *out);
void own_write_props(const struct server *s, struct buf *out);
void own_write_tags(const struct server *s, struct buf *out);
void own_write_version(struct buf *out);

enum sluice_status own_tokenize(struct server *s, struct json_object *body, struct buf *out,
                                struct sluice_error *err);
enum sluice_status own_detokenize(struct server *s, struct json_object *body, struct buf *out,
                                  struct sluice_error *err);
enum sluice_status own_template(struct server *s, struct json_object *body, struct buf *out,
                                struct sluice_error *err);
enum sluice_status own_count_messages(struct server *s, struct json_object *body, struct buf *out,
                                      struct sluice_error *err);
enum sluice_status own_count_responses(struct server *s, struct json_object *body, struct buf *out,
                                       struct sluice_error *err);
enum sluice_status own_show(struct server *s, struct json_object *body, struct buf *out,
                            struct sluice_error *err);

extern const char own_page[]; /* HTML of "/" */

#endif
