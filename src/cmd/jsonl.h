/* cmd/jsonl.h - JSON lines: one value per line on standard input, one on standard output. */
#ifndef SLUICE_CMD_JSONL_H
#define SLUICE_CMD_JSONL_H

#include <json-c/json.h>

#include "cmd/options.h"
#include "sluice.h"

/* Reads the next line that is not blank as an object: SLUICE_OK with *row NULL at the end of the
 * input. line counts from 1. The caller puts *row. */
struct jsonl_reader {
    FILE *from;
    char *line;
    size_t room;
    int64_t number;
};
void jsonl_open(struct jsonl_reader *r, FILE *from);
void jsonl_close(struct jsonl_reader *r);
enum sluice_status jsonl_next(struct jsonl_reader *r, struct json_object **row,
                              struct sluice_error *err);

/* Writes a value and a newline at once: whoever asks may wait for the answer. */
void jsonl_write(struct json_object *value);

/* Members of a row: absent ones and null give false or `other`; a wrong kind is SLUICE_ERR_ARG. */
enum sluice_status jsonl_string(struct json_object *row, const char *key, const char **text,
                                size_t *len, struct sluice_error *err);
enum sluice_status jsonl_number(struct json_object *row, const char *key, double other,
                                double *out, struct sluice_error *err);
enum sluice_status jsonl_bool(struct json_object *row, const char *key, bool other, bool *out,
                              struct sluice_error *err);

/* Answers every row of standard input with a row: fn sets *answer (NULL: the row is passed over). A
 * row that fails is answered by {"error": ...}, and the exit code is EXIT_FAILED in the end. */
typedef enum sluice_status (*jsonl_fn)(void *ctx, struct json_object *row,
                                       struct json_object **answer, struct sluice_error *err);
int jsonl_answer(const struct options *o, jsonl_fn fn, void *ctx);
/* {"error": message} */
struct json_object *jsonl_error(const struct sluice_error *err);

#endif
