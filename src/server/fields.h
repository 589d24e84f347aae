/* server/fields.h - typed members of a client's JSON. An absent member and null are the same: the
 * output keeps its value. A wrong type or range is SLUICE_ERR_ARG with the member's name in front:
 * "top_p: expected 0 to 1, found 7". */
#ifndef SLUICE_SERVER_FIELDS_H
#define SLUICE_SERVER_FIELDS_H

#include <json-c/json_object.h>
#include <stdbool.h>

#include "base/status.h"
#include "base/str.h"

/* The member, or NULL if it is absent or null. */
struct json_object *field(struct json_object *object, const char *key);
/* As field, and NULL too if it is no string. */
const char *field_text(struct json_object *object, const char *key);
/* False unless it is true. */
bool field_true(struct json_object *object, const char *key);

enum sluice_status field_string(struct json_object *object, const char *key, const char **out,
                                struct sluice_error *err);
enum sluice_status field_bool(struct json_object *object, const char *key, bool *out,
                              struct sluice_error *err);

struct range {
    double min, max;
};
enum sluice_status field_int(struct json_object *object, const char *key, struct range range,
                             int64_t *out, struct sluice_error *err);
enum sluice_status field_real(struct json_object *object, const char *key, struct range range,
                              float *out, struct sluice_error *err);
enum sluice_status field_typed(struct json_object *object, const char *key, enum json_type type,
                               struct json_object **out, struct sluice_error *err);

/* Text of a string value; empty for anything else. */
struct str json_str(struct json_object *value);
struct json_object *json_of(struct str text);

#endif
