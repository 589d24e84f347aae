/* The clients of `sluice launch`: what each is told, by its environment and arguments, so that the
 * user's own files stay as they are. */
#include <unistd.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/json_text.h"
#include "cmd/launch.h"
#include "os/file.h"

/* Hours: a long prompt on a slow machine must not end a client's patience. */
#define PATIENCE_MS "3600000"

struct launch_client {
    const char *name, *title, *install;
    void (*prepare)(const struct launch_server *s, struct launch_plan *plan, struct buf *file);
};

/* ---- pieces ---- */

static void add_arg(struct launch_plan *p, const char *text)
{
    SLUICE_ASSERT(p->n_arg < (int)(sizeof p->arg / sizeof p->arg[0]));
    p->arg[p->n_arg++] = strdup(text);
}

/* value NULL: the client shall not see the variable. */
static void add_env(struct launch_plan *p, const char *name, const char *value)
{
    SLUICE_ASSERT(p->n_env < (int)(sizeof p->env / sizeof p->env[0]));
    p->env[p->n_env++] = (struct launch_env){name, value ? strdup(value) : NULL};
}

static void add_env_number(struct launch_plan *p, const char *name, int64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    add_env(p, name, text);
}

static void add_string(struct buf *b, const char *text)
{
    json_text_write_str(b, str_of(text));
}

/* The key that clients insist on having one. */
static const char *key_of(const struct launch_server *s)
{
    return s->key[0] ? s->key : "none";
}

/* The longest answer that a client may plan with: a quarter of the context. */
static int64_t answer_tokens(const struct launch_server *s)
{
    int64_t quarter = s->context / 4;
    return quarter < 32000 ? quarter : 32000;
}

/* ---- Codex: -c keys of its configuration, as TOML ---- */

static void add_setting(struct launch_plan *p, struct buf *b)
{
    add_arg(p, "-c");
    add_arg(p, b->data ? b->data : "");
    buf_clear(b);
}

static void codex(const struct launch_server *s, struct launch_plan *p, struct buf *file)
{
    struct buf b = {0};
    buf_add_str(&b, "model_providers.sluice={name=\"Sluice\",base_url=");
    char url[160];
    snprintf(url, sizeof url, "%s/v1", s->url);
    add_string(&b, url);
    buf_add_str(&b, ",wire_api=\"responses\",stream_idle_timeout_ms=" PATIENCE_MS);
    if (s->key[0]) {
        buf_add_str(&b, ",env_key=\"SLUICE_CLIENT_KEY\"");
        add_env(p, "SLUICE_CLIENT_KEY", s->key);
    }
    buf_add_str(&b, "}");
    add_setting(p, &b);
    buf_add_str(&b, "model_provider=\"sluice\"");
    add_setting(p, &b);
    /* Codex knows models that begin with gpt- and speaks differently to them. */
    buf_add_str(&b, "model=");
    char model[160];
    snprintf(model, sizeof model, "%s%s", strncmp(s->model, "gpt-", 4) == 0 ? "sluice-" : "",
             s->model);
    add_string(&b, model);
    add_setting(p, &b);
    buf_addf(&b, "model_context_window=%lld", (long long)s->context);
    add_setting(p, &b);
    buf_deinit(&b);
}

/* ---- Claude Code: its environment ---- */

static void claude(const struct launch_server *s, struct launch_plan *p, struct buf *file)
{
    static const char *const models[] = {"ANTHROPIC_MODEL", "ANTHROPIC_DEFAULT_OPUS_MODEL",
                                         "ANTHROPIC_DEFAULT_SONNET_MODEL",
                                         "ANTHROPIC_DEFAULT_HAIKU_MODEL"};
    static const char *const others[] = {"ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK",
                                         "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY"};
    add_env(p, "ANTHROPIC_BASE_URL", s->url);
    add_env(p, "ANTHROPIC_AUTH_TOKEN", key_of(s));
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        add_env(p, models[i], s->model);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        add_env(p, others[i], NULL);
    add_env(p, "CLAUDE_CODE_ATTRIBUTION_HEADER", "0");
    add_env(p, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
    add_env(p, "API_TIMEOUT_MS", PATIENCE_MS);
    add_env_number(p, "CLAUDE_CODE_MAX_CONTEXT_TOKENS", s->context);
    add_env_number(p, "CLAUDE_CODE_MAX_OUTPUT_TOKENS", answer_tokens(s));
}

/* ---- opencode: a configuration in its environment, which is put over the user's ---- */

static void opencode(const struct launch_server *s, struct launch_plan *p, struct buf *file)
{
    struct buf b = {0};
    char text[320];
    snprintf(text, sizeof text, "sluice/%s", s->model);
    buf_add_str(&b, "{\"model\": ");
    add_string(&b, text);
    buf_add_str(&b, ", \"small_model\": ");
    add_string(&b, text);
    buf_add_str(&b, ", \"provider\": {\"sluice\": {\"name\": \"Sluice\", \"npm\": "
                    "\"@ai-sdk/openai-compatible\", \"options\": {\"baseURL\": ");
    snprintf(text, sizeof text, "%s/v1", s->url);
    add_string(&b, text);
    buf_add_str(&b, ", \"apiKey\": ");
    add_string(&b, key_of(s));
    buf_add_str(&b, "}, \"models\": {");
    add_string(&b, s->model);
    buf_addf(&b,
             ": {\"reasoning\": true, \"tool_call\": true, \"interleaved\": {\"field\": "
             "\"reasoning_content\"}, \"limit\": {\"context\": %lld, \"output\": %lld}}}}}}",
             (long long)s->context, (long long)answer_tokens(s));
    add_env(p, "OPENCODE_CONFIG_CONTENT", b.data ? b.data : "");
    buf_deinit(&b);
}

/* ---- pi: an extension that adds a provider ---- */

static void pi(const struct launch_server *s, struct launch_plan *p, struct buf *file)
{
    char url[160];
    snprintf(url, sizeof url, "%s/v1", s->url);
    buf_add_str(file, "export default function (pi) {\n  pi.registerProvider(\"sluice\", "
                      "{\"name\": \"Sluice\", \"baseUrl\": ");
    add_string(file, url);
    buf_add_str(file, ", \"apiKey\": ");
    add_string(file, key_of(s));
    buf_add_str(file, ", \"api\": \"openai-completions\", \"models\": [{\"id\": ");
    add_string(file, s->model);
    buf_add_str(file, ", \"name\": ");
    add_string(file, s->model);
    buf_addf(file,
             ", \"reasoning\": true, \"input\": [\"text\"], \"cost\": {\"input\": 0, \"output\": "
             "0, \"cacheRead\": 0, \"cacheWrite\": 0}, \"contextWindow\": %lld, \"maxTokens\": "
             "%lld, \"compat\": {\"supportsDeveloperRole\": false, \"maxTokensField\": "
             "\"max_tokens\", \"thinkingFormat\": \"deepseek\", "
             "\"requiresReasoningContentOnAssistantMessages\": true}}]});\n}\n",
             (long long)s->context, (long long)answer_tokens(s));
    add_arg(p, "-e");
    add_arg(p, p->file);
    add_arg(p, "--provider");
    add_arg(p, "sluice");
    add_arg(p, "--model");
    add_arg(p, s->model);
}

/* ---- all of them ---- */

static const struct launch_client clients[] = {
    {"codex", "Codex", "npm install -g @openai/codex", codex},
    {"claude", "Claude Code", "npm install -g @anthropic-ai/claude-code", claude},
    {"opencode", "opencode", "npm install -g opencode-ai", opencode},
    {"pi", "pi", "npm install -g @mariozechner/pi-coding-agent", pi},
};
#define N_CLIENTS (int)(sizeof clients / sizeof clients[0])

const char *launch_client_names(void)
{
    return "codex, claude, opencode or pi";
}

const struct launch_client *launch_client_find(const char *name, const char **nearest)
{
    const char *names[N_CLIENTS];
    for (int i = 0; i < N_CLIENTS; i++) {
        if (strcmp(clients[i].name, name) == 0)
            return &clients[i];
        names[i] = clients[i].name;
    }
    *nearest = options_nearest(name, names, N_CLIENTS);
    return NULL;
}

enum sluice_status launch_client_find_program(const struct launch_client *c,
                                              struct launch_plan *plan, struct sluice_error *err)
{
    FAIL_IF(!options_find_program(c->name, plan->path, sizeof plan->path), err, SLUICE_ERR_IO,
            "%s is not installed: no program '%s' on the PATH; `%s` installs it", c->title, c->name,
            c->install);
    return SLUICE_OK;
}

enum sluice_status launch_client_prepare(const struct launch_client *c,
                                         const struct launch_server *s, const char *dir,
                                         struct launch_plan *plan, struct sluice_error *err)
{
    struct buf file = {0};
    snprintf(plan->file, sizeof plan->file, "%s/%s.ts", dir, c->name);
    c->prepare(s, plan, &file);
    enum sluice_status st = buf_status(&file, err);
    for (int i = 0; i < plan->n_arg; i++)
        if (!plan->arg[i] && st == SLUICE_OK)
            st = status_fail(err, SLUICE_ERR_NOMEM, -1, "out of memory for the client");
    if (st == SLUICE_OK && file.len > 0)
        st = file_replace(plan->file, file.data, file.len, 0600, err);
    else
        plan->file[0] = '\0';
    buf_deinit(&file);
    return st;
}

void launch_plan_deinit(struct launch_plan *plan)
{
    if (plan->file[0])
        unlink(plan->file);
    for (int i = 0; i < plan->n_arg; i++)
        free(plan->arg[i]);
    for (int i = 0; i < plan->n_env; i++)
        free(plan->env[i].value);
}
