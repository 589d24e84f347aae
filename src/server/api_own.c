/* server/api_own.c - see api_own.h. */
#include "server/api_own.h"

#include <json-c/json.h>
#include <time.h>

#include "base/check.h"
#include "base/json_text.h"
#include "server/sse.h"

static const struct sluice_info *info_of(const struct server *s)
{
    return s->source.fn->info(s->source.ctx);
}

/* ---- models ---- */

static void write_time(struct buf *out, int64_t at)
{
    char text[32];
    time_t t = (time_t)at;
    struct tm utc;
    gmtime_r(&t, &utc);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    json_member(out, "created_at", str_of(text));
}

/* The members that the SDKs of both vendors know; nothing of our own. */
static void write_model(const struct server *s, struct buf *out)
{
    const char *name = server_model_name(s, NULL);
    buf_add_str(out, "{\"id\": ");
    json_text_write_str(out, str_of(name));
    buf_addf(out, ", \"object\": \"model\", \"type\": \"model\", \"created\": %lld",
             (long long)s->opened);
    write_time(out, s->opened);
    json_member(out, "display_name", str_of(name));
    buf_add_str(out, ", \"owned_by\": \"sluice\"}");
}

void own_write_models(const struct server *s, struct buf *out)
{
    struct str name = str_of(server_model_name(s, NULL));
    buf_add_str(out, "{\"object\": \"list\", \"data\": [");
    write_model(s, out);
    buf_add_str(out, "], \"has_more\": false");
    json_member(out, "first_id", name);
    json_member(out, "last_id", name);
    buf_add_str(out, "}");
}

bool own_write_model(const struct server *s, const char *id, struct buf *out)
{
    if (strcmp(id, server_model_name(s, NULL)) != 0)
        return false;
    write_model(s, out);
    return true;
}

void own_write_tags(const struct server *s, struct buf *out)
{
    struct str name = str_of(server_model_name(s, NULL));
    buf_add_str(out, "{\"models\": [{\"name\": ");
    json_text_write_str(out, name);
    json_member(out, "model", name);
    buf_addf(out, ", \"size\": %lld, \"digest\": \"\", \"modified_at\": \"\"",
             (long long)info_of(s)->weight_bytes);
    buf_add_str(out, ", \"details\": {\"format\": \"gguf\", \"family\": \"deepseek4\"}}]}");
}

void own_write_version(struct buf *out)
{
    buf_add_str(out, "{\"version\": \"0.14.0\", \"server\": \"sluice\"}");
}

enum sluice_status own_show(struct server *s, struct json_object *body, struct buf *out,
                            struct sluice_error *err)
{
    buf_addf(out,
             "{\"details\": {\"format\": \"gguf\", \"family\": \"deepseek4\"}, \"model_info\": "
             "{\"general.architecture\": \"deepseek4\", \"deepseek4.context_length\": %lld}, "
             "\"capabilities\": [\"completion\", \"tools\", \"thinking\"]}",
             (long long)info_of(s)->context);
    return SLUICE_OK;
}

/* ---- state ---- */

static void write_sampling(const struct server *s, struct buf *out)
{
    const struct ask_defaults *d = &s->defaults;
    static const char *const efforts[] = {"none", "low", "high", "max"};
    buf_addf(out,
             "\"default_generation_settings\": {\"n_ctx\": %lld, \"temperature\": %g, \"top_k\": "
             "%d, \"top_p\": %g, \"min_p\": %g, \"reasoning_effort\": \"%s\"}",
             (long long)info_of(s)->context, d->temperature, d->top_k,
             d->top_p > 0 ? d->top_p : 1.0, d->min_p, efforts[d->effort]);
}

void own_write_props(const struct server *s, struct buf *out)
{
    const struct sluice_info *m = info_of(s);
    struct sluice_stats e = {0};
    s->source.fn->stats(s->source.ctx, &e);
    buf_add_str(out, "{");
    write_sampling(s, out);
    buf_addf(out, ", \"total_slots\": %d, \"n_ctx\": %lld", m->max_requests, (long long)m->context);
    json_member(out, "build_info", str_of(s->options->version));
    json_member(out, "model_path", str_of(m->model_path));
    json_member(out, "model_alias", str_of(server_model_name(s, NULL)));
    buf_add_str(out, ", \"model\": {\"name\": ");
    json_text_write_str(out, str_of(m->name));
    json_member(out, "family", str_of(m->family));
    json_member(out, "backend", str_of(m->backend));
    buf_addf(out,
             ", \"builtin\": %s, \"mtp\": %s, \"n_vocab\": %d, \"n_layer\": %d, \"n_expert\": %d, "
             "\"n_expert_used\": %d, \"n_embd\": %d, \"n_params\": %lld, \"n_ctx_train\": %lld}",
             m->builtin ? "true" : "false", m->has_mtp ? "true" : "false", m->n_vocab, m->n_layer,
             m->n_expert, m->n_expert_used, m->dim, (long long)m->n_params,
             (long long)m->context_max);
    buf_addf(out,
             ", \"memory\": {\"weight_bytes\": %lld, \"step_bytes\": %lld, \"kv_bytes_fixed\": "
             "%lld, \"kv_bytes_per_1k\": %lld, \"kv_format\": \"%s\", \"kv_used\": %lld, "
             "\"kv_budget\": %lld}",
             (long long)m->weight_bytes, (long long)m->step_bytes, (long long)m->kv_bytes_fixed,
             (long long)m->kv_bytes_per_1k, m->kv == SLUICE_KV_EXACT ? "exact" : "fp8",
             (long long)e.kv_used, (long long)e.kv_budget);
    buf_addf(out, ", \"requests\": {\"running\": %d, \"queued\": %d, \"conversations\": %d}",
             e.running, e.queued, e.conversations);
    buf_add_str(out, ", \"thinking_modes\": [\"none\", \"low\", \"high\", \"max\"], "
                     "\"modalities\": {\"vision\": false, \"audio\": false}}");
}

/* ---- without generating ---- */

enum sluice_status own_tokenize(struct server *s, struct json_object *body, struct buf *out,
                                struct sluice_error *err)
{
    const char *key = field(body, "content") ? "content" : field(body, "text") ? "text" : "prompt";
    bool special = true, add = false, pieces = false;
    struct json_object *text = NULL;
    TRY(field_typed(body, key, json_type_string, &text, err));
    FAIL_IF(!text, err, SLUICE_ERR_ARG, "content: expected a text");
    TRY(field_bool(body, "parse_special", &special, err));
    TRY(field_bool(body, "add_special", &add, err));
    TRY(field_bool(body, "with_pieces", &pieces, err));
    struct sluice_tokens ids;
    TRY(s->source.fn->tokenize(s->source.ctx, json_str(text), special, &ids, err));
    struct reply r = {.source = &s->source};
    int32_t bos = info_of(s)->bos;
    bool first = add && bos >= 0;
    buf_add_str(out, "{\"tokens\": [");
    for (size_t i = 0; i < ids.n + first; i++) {
        int32_t id = i < first ? bos : ids.ids[i - first];
        buf_addf(out, pieces ? "%s{\"id\": %d, \"piece\": " : "%s%d", i ? ", " : "", id);
        if (pieces) {
            json_token(out, &r, id, /*with_bytes=*/true);
            buf_add_str(out, "}");
        }
    }
    buf_addf(out, "], \"count\": %zu}", ids.n + first);
    s->source.fn->free(ids.ids);
    return SLUICE_OK;
}

enum sluice_status own_detokenize(struct server *s, struct json_object *body, struct buf *out,
                                  struct sluice_error *err)
{
    struct json_object *tokens = NULL;
    int32_t n_vocab = info_of(s)->n_vocab;
    struct buf ids = {0};
    struct sluice_text text = {0};
    enum sluice_status st;
    TRY(field_typed(body, "tokens", json_type_array, &tokens, err));
    FAIL_IF(!tokens, err, SLUICE_ERR_ARG, "tokens: expected an array of ids");
    size_t n = json_object_array_length(tokens);
    for (size_t i = 0; i < n; i++) {
        struct json_object *value = json_object_array_get_idx(tokens, i);
        int64_t id = json_object_get_int64(value);
        if (!json_object_is_type(value, json_type_int) || id < 0 || id >= n_vocab) {
            st = status_fail(err, SLUICE_ERR_ARG, -1, "tokens: expected ids below %d, found %.40s",
                             n_vocab, json_object_to_json_string(value));
            goto out;
        }
        buf_add(&ids, &(int32_t){(int32_t)id}, sizeof(int32_t));
    }
    TRY_OUT(buf_status(&ids, err));
    TRY_OUT(
        s->source.fn->detokenize(s->source.ctx, (const int32_t *)(void *)ids.data, n, &text, err));
    struct buf clean = {0};
    sse_clean(&clean, (struct str){text.at, text.len});
    buf_add_str(out, "{\"content\": ");
    json_text_write_str(out, buf_text(&clean));
    buf_add_str(out, "}");
    buf_deinit(&clean);
out:
    s->source.fn->free(text.at);
    buf_deinit(&ids);
    return st;
}

typedef enum sluice_status (*parse_fn)(struct server *s, struct json_object *body, struct ask *a,
                                       struct sluice_error *err);

/* The prompt of a request. */
static enum sluice_status prompt_of(struct server *s, parse_fn parse, struct json_object *body,
                                    struct sluice_tokens **prompt, struct sluice_error *err)
{
    struct ask *a = ask_new(&s->defaults);
    FAIL_IF(!a, err, SLUICE_ERR_NOMEM, "out of memory for a request");
    enum sluice_status st;
    TRY_OUT(parse(s, body, a, err));
    ask_settle(a);
    st = prompts_make(s, a, prompt, err);
out:
    ask_free(a);
    return st;
}

enum sluice_status own_template(struct server *s, struct json_object *body, struct buf *out,
                                struct sluice_error *err)
{
    struct sluice_tokens *prompt;
    struct sluice_text text = {0};
    TRY(prompt_of(s, chat_parse, body, &prompt, err));
    enum sluice_status st =
        s->source.fn->detokenize(s->source.ctx, prompt->ids, prompt->n, &text, err);
    if (st == SLUICE_OK) {
        buf_add_str(out, "{\"prompt\": ");
        json_text_write_str(out, (struct str){text.at, text.len});
        buf_addf(out, ", \"n_tokens\": %zu}", prompt->n);
    }
    s->source.fn->free(text.at);
    prompts_free(prompt, 1);
    return st;
}

enum sluice_status own_count_messages(struct server *s, struct json_object *body, struct buf *out,
                                      struct sluice_error *err)
{
    struct sluice_tokens *prompt;
    TRY(prompt_of(s, messages_parse, body, &prompt, err));
    buf_addf(out, "{\"input_tokens\": %zu}", prompt->n);
    prompts_free(prompt, 1);
    return SLUICE_OK;
}

enum sluice_status own_count_responses(struct server *s, struct json_object *body, struct buf *out,
                                       struct sluice_error *err)
{
    struct sluice_tokens *prompt;
    TRY(prompt_of(s, responses_parse, body, &prompt, err));
    buf_addf(out, "{\"object\": \"response.input_tokens\", \"input_tokens\": %zu}", prompt->n);
    prompts_free(prompt, 1);
    return SLUICE_OK;
}
