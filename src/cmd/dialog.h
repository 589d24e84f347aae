/* cmd/dialog.h - the messages of a conversation, kept as JSON and rendered anew each turn. */
#ifndef SLUICE_CMD_DIALOG_H
#define SLUICE_CMD_DIALOG_H

#include <json-c/json.h>

#include "base/str.h"
#include "sluice.h"

struct dialog {
    struct json_object *messages;    /* array; the first may be the system message */
};

enum sluice_status dialog_init(struct dialog *c, struct sluice_error *err);
void dialog_deinit(struct dialog *c);
/* Forgets all but the system message. */
void dialog_clear(struct dialog *c);
int dialog_count(const struct dialog *c);

/* Appends a message; reasoning may be empty. SLUICE_ERR_LIMIT at LIMIT_CMD_MESSAGES. */
enum sluice_status dialog_add(struct dialog *c, const char *role, struct str content,
                              struct str reasoning, struct sluice_error *err);
/* Takes the last message back. */
void dialog_drop_last(struct dialog *c);
/* Sets, replaces or (NULL) removes the system message; NULL if there is none. */
enum sluice_status dialog_system_set(struct dialog *c, const char *text,
                                     struct sluice_error *err);
const char *dialog_system(const struct dialog *c);

/* The prompt's ids. */
enum sluice_status dialog_tokens(const struct dialog *c, const struct sluice *e,
                                 enum sluice_effort effort, struct sluice_tokens *out,
                                 struct sluice_error *err);

/* As a JSON array in a file of mode 0600, and back. A file that is not an array of messages with
 * role and content is refused and leaves the conversation alone. */
enum sluice_status dialog_save(const struct dialog *c, const char *path,
                               struct sluice_error *err);
enum sluice_status dialog_load(struct dialog *c, const char *path,
                               struct sluice_error *err);

#endif
