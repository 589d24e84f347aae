/* server/fields.c - see fields.h. */
#include "server/fields.h"

#include <json-c/json.h>
#include <math.h>

struct json_object *field(struct json_object *object, const char *key)
{
    struct json_object *value = NULL;
    if (json_object_is_type(object, json_type_object))
        json_object_object_get_ex(object, key, &value);
    return value;
}

const char *field_text(struct json_object *object, const char *key)
{
    struct json_object *value = field(object, key);
    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

bool field_true(struct json_object *object, const char *key)
{
    struct json_object *value = field(object, key);
    return json_object_is_type(value, json_type_boolean) && json_object_get_boolean(value);
}

enum sluice_status field_typed(struct json_object *object, const char *key, enum json_type type,
                               struct json_object **out, struct sluice_error *err)
{
    struct json_object *value = field(object, key);
    FAIL_IF(value && !json_object_is_type(value, type), err, SLUICE_ERR_ARG,
            "%s: expected %s, found %.60s", key,
            type == json_type_object    ? "an object"
            : type == json_type_array   ? "an array"
            : type == json_type_boolean ? "true or false"
                                        : "a string",
            json_object_to_json_string(value));
    if (value)
        *out = value;
    return SLUICE_OK;
}

enum sluice_status field_string(struct json_object *object, const char *key, const char **out,
                                struct sluice_error *err)
{
    struct json_object *value = NULL;
    TRY(field_typed(object, key, json_type_string, &value, err));
    if (value)
        *out = json_object_get_string(value);
    return SLUICE_OK;
}

enum sluice_status field_bool(struct json_object *object, const char *key, bool *out,
                              struct sluice_error *err)
{
    struct json_object *value = NULL;
    TRY(field_typed(object, key, json_type_boolean, &value, err));
    if (value)
        *out = json_object_get_boolean(value);
    return SLUICE_OK;
}

static enum sluice_status number(struct json_object *value, const char *key, struct range range,
                                 double *out, struct sluice_error *err)
{
    bool ok =
        json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double);
    FAIL_IF(!ok, err, SLUICE_ERR_ARG, "%s: expected a number, found %.60s", key,
            json_object_to_json_string(value));
    *out = json_object_get_double(value);
    FAIL_IF(!(*out >= range.min && *out <= range.max), err, SLUICE_ERR_ARG,
            "%s: expected %.15g to %.15g, found %.60s", key, range.min, range.max,
            json_object_to_json_string(value));
    return SLUICE_OK;
}

enum sluice_status field_int(struct json_object *object, const char *key, struct range range,
                             int64_t *out, struct sluice_error *err)
{
    struct json_object *value = field(object, key);
    double x;
    if (!value)
        return SLUICE_OK;
    TRY(number(value, key, range, &x, err));
    FAIL_IF(x != floor(x), err, SLUICE_ERR_ARG, "%s: expected an integer, found %.60s", key,
            json_object_to_json_string(value));
    *out = json_object_get_int64(value);
    return SLUICE_OK;
}

enum sluice_status field_real(struct json_object *object, const char *key, struct range range,
                              float *out, struct sluice_error *err)
{
    struct json_object *value = field(object, key);
    double x;
    if (!value)
        return SLUICE_OK;
    TRY(number(value, key, range, &x, err));
    *out = (float)x;
    return SLUICE_OK;
}

struct str json_str(struct json_object *value)
{
    if (!json_object_is_type(value, json_type_string))
        return (struct str){"", 0};
    return (struct str){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
}

struct json_object *json_of(struct str text)
{
    return json_object_new_string_len(text.len ? text.at : "", (int)text.len);
}
