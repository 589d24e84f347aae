#include "cmd/jsonl.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>

#include "base/check.h"
#include "base/json_text.h"
#include "cmd/cmd.h"
#include "cmd/term.h"

void jsonl_open(struct jsonl_reader *r, FILE *from)
{
    *r = (struct jsonl_reader){.from = from};
}

void jsonl_close(struct jsonl_reader *r)
{
    free(r->line);
}

enum sluice_status jsonl_next(struct jsonl_reader *r, struct json_object **row,
                              struct sluice_error *err)
{
    ssize_t len;
    *row = NULL;
    do {
        len = getline(&r->line, &r->room, r->from);
        if (len < 0) {
            FAIL_IF(ferror(r->from), err, SLUICE_ERR_IO, "standard input: %s", strerror(errno));
            return SLUICE_OK;
        }
        r->number++;
        FAIL_IF((size_t)len > LIMIT_CMD_INPUT, err, SLUICE_ERR_LIMIT,
                "line %" PRId64 ": %zd bytes, expected at most %zu", r->number, len,
                LIMIT_CMD_INPUT);
        while (len > 0 && strchr(" \t\r\n", r->line[len - 1]))
            r->line[--len] = '\0';
    } while (len == 0);
    enum sluice_status st = json_text_parse(r->line, (size_t)len, row, err);
    if (st == SLUICE_OK && !json_object_is_type(*row, json_type_object)) {
        json_object_put(*row);
        *row = NULL;
        st = status_fail(err, SLUICE_ERR_FORMAT, -1, "expected a JSON object");
    }
    if (st != SLUICE_OK)
        status_prefix(err, "line %" PRId64 ": ", r->number);
    return st;
}

void jsonl_write(struct json_object *value)
{
    struct buf b;
    buf_init(&b, 0);
    json_text_write(&b, value);
    buf_add_char(&b, '\n');
    if (buf_status(&b, NULL) == SLUICE_OK)
        term_out(term_get(), b.data, b.len);
    else
        term_out(term_get(), "{\"error\": \"out of memory\"}\n", 27);
    buf_deinit(&b);
}

static bool find(struct json_object *row, const char *key, struct json_object **value)
{
    return json_object_object_get_ex(row, key, value) && *value;
}

enum sluice_status jsonl_string(struct json_object *row, const char *key, const char **text,
                                size_t *len, struct sluice_error *err)
{
    struct json_object *value;
    *text = NULL;
    *len = 0;
    if (!find(row, key, &value))
        return SLUICE_OK;
    FAIL_IF(!json_object_is_type(value, json_type_string), err, SLUICE_ERR_ARG,
            "\"%s\": expected a string, found %s", key,
            json_type_to_name(json_object_get_type(value)));
    *text = json_object_get_string(value);
    *len = (size_t)json_object_get_string_len(value);
    return SLUICE_OK;
}

enum sluice_status jsonl_number(struct json_object *row, const char *key, double other, double *out,
                                struct sluice_error *err)
{
    struct json_object *value;
    *out = other;
    if (!find(row, key, &value))
        return SLUICE_OK;
    FAIL_IF(!json_object_is_type(value, json_type_int) &&
                !json_object_is_type(value, json_type_double),
            err, SLUICE_ERR_ARG, "\"%s\": expected a number, found %s", key,
            json_type_to_name(json_object_get_type(value)));
    *out = json_object_get_double(value);
    FAIL_IF(!isfinite(*out), err, SLUICE_ERR_ARG, "\"%s\": expected a finite number", key);
    return SLUICE_OK;
}

enum sluice_status jsonl_bool(struct json_object *row, const char *key, bool other, bool *out,
                              struct sluice_error *err)
{
    struct json_object *value;
    *out = other;
    if (!find(row, key, &value))
        return SLUICE_OK;
    FAIL_IF(!json_object_is_type(value, json_type_boolean), err, SLUICE_ERR_ARG,
            "\"%s\": expected true or false, found %s", key,
            json_type_to_name(json_object_get_type(value)));
    *out = json_object_get_boolean(value);
    return SLUICE_OK;
}

struct json_object *jsonl_error(const struct sluice_error *err)
{
    struct json_object *value = json_object_new_object();
    json_object_object_add(value, "error", json_object_new_string(err->message));
    return value;
}

int jsonl_answer(const struct options *o, jsonl_fn fn, void *ctx)
{
    struct jsonl_reader reader;
    struct sluice_error err;
    int code = EXIT_OK;
    jsonl_open(&reader, stdin);
    for (;;) {
        struct json_object *row, *answer = NULL;
        enum sluice_status st = jsonl_next(&reader, &row, &err);
        bool parsed = st == SLUICE_OK;
        if (parsed && !row)
            break;
        if (parsed) {
            st = fn(ctx, row, &answer, &err);
            if (st != SLUICE_OK)
                status_prefix(&err, "line %" PRId64 ": ", reader.number);
            json_object_put(row);
        }
        if (st != SLUICE_OK) {
            cmd_error(o, &err);
            code = EXIT_FAILED;
            answer = jsonl_error(&err);
        }
        if (answer) {
            jsonl_write(answer);
            json_object_put(answer);
        }
        if ((!parsed && st != SLUICE_ERR_FORMAT) || term_get()->broken)
            break;
    }
    jsonl_close(&reader);
    return code;
}
