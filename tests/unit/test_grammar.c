/* Grammars: tables of what is in them and what is not, what is refused and how it is said, masks
 * against every token tried by itself. */
#include "support/unit.h"

#include "text/grammar.h"
#include "text/toolcall.h"
#include "support/schema.h"
#include "v4_vocab.h"

static struct vocab *vocab;
static struct token_trie *trie;

static struct json_object *json(const char *text)
{
    struct json_object *value = schema_read(text);
    if (!value)
        fail_msg("no JSON: %s", text);
    return value;
}

static struct grammar *make(const struct grammar_ask *ask)
{
    struct grammar *g;
    struct sluice_error err;
    if (grammar_new(ask, trie, &g, &err) != SLUICE_OK)
        fail_msg("%s", err.message);
    return g;
}

static struct grammar *gbnf(const char *text)
{
    return make(&(struct grammar_ask){.gbnf = str_of(text)});
}

static struct grammar *schema(const char *text)
{
    struct json_object *value = json(text);
    struct grammar *g = make(&(struct grammar_ask){.schema = value});
    json_object_put(value);
    return g;
}

static bool accepts(struct grammar *g, const char *text)
{
    struct grammar_state s;
    assert_int_equal(grammar_state_init(&s, g, NULL), SLUICE_OK);
    bool yes = grammar_state_bytes(&s, str_of(text), NULL) == SLUICE_OK && grammar_state_ends(&s);
    grammar_state_deinit(&s);
    return yes;
}

/* texts: those inside, NULL, those outside, NULL. */
static void check(struct grammar *g, const char *what, const char *const *texts)
{
    for (bool inside = true;; inside = false) {
        for (; *texts; texts++)
            if (accepts(g, *texts) != inside)
                fail_msg("%s: \"%s\" is %s", what, *texts, inside ? "refused" : "accepted");
        texts++;
        if (!inside)
            break;
    }
    grammar_free(g);
}

#define GBNF(text, ...) check(gbnf(text), text, (const char *const[]){__VA_ARGS__, NULL})
#define SCHEMA(text, ...) check(schema(text), text, (const char *const[]){__VA_ARGS__, NULL})

static void test_gbnf(void **state)
{
    GBNF("root ::= \"a\"", "a", NULL, "", "b", "aa");
    GBNF("root ::= \"a\" | \"bc\" |", "a", "bc", "", NULL, "b", "abc");
    GBNF("root ::= \"a\"* \"b\"+ \"c\"?", "b", "abc", "aaabbb", NULL, "", "a", "bcc", "cab");
    GBNF("root ::= (\"ab\" | \"c\"){2,3}", "abab", "cc", "abcab", NULL, "ab", "cccc", "aba");
    GBNF("root ::= \"a\"{3}", "aaa", NULL, "aa", "aaaa");
    GBNF("root ::= \"a\"{2,} \"b\"", "aab", "aaaaaab", NULL, "ab", "b");
    GBNF("root ::= \"a\"{0,2}", "", "a", "aa", NULL, "aaa");
    GBNF("root ::= (\"a\"?){3,5}", "", "a", "aaaaa", NULL, "aaaaaa", "b");
    GBNF("root ::= ((\"a\"* \"b\"?){2,3} \"c\"){1,2}", "c", "aabaac", "cc", "babac", "bbbc", NULL,
         "", "bbbb", "ccc");
    GBNF("root ::= [a-c0-9_]", "a", "c", "5", "_", NULL, "d", "", "ab");
    GBNF("root ::= [^a-c\\n]", "d", "\xc3\xa9", "\xf0\x9f\x98\x80", NULL, "a", "\n", "\xc3",
         "\xff");
    GBNF("root ::= [\xc3\xa0-\xc3\xa9\xe4\xb8\xad]", "\xc3\xa5", "\xe4\xb8\xad", NULL, "\xc3\xaa",
         "\xe4\xb8\xae");
    GBNF("root ::= .", "a", "\n", "\xe2\x82\xac", "\xf4\x8f\xbf\xbf", NULL, "", "ab",
         "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80");
    GBNF("root ::= \"\\x41\\u00e9\\t\\\"\\\\\" [\\]\\-^]", "A\xc3\xa9\t\"\\]", "A\xc3\xa9\t\"\\-",
         "A\xc3\xa9\t\"\\^", NULL, "A");
    GBNF("# words\nroot ::= item (\", \" item)* # so\n\nitem ::=\n  [a-z]+ |\n  num\n"
         "num ::= [0-9]+\n",
         "a", "ab, 12, c", NULL, "a,b", "1a", "");
    GBNF("root ::= \"(\" root? \")\"", "()", "((()))", NULL, "", "(", "())");
    GBNF("root ::= expr\nexpr ::= term (\"+\" term)*\nterm ::= [0-9] | \"(\" expr \")\"", "1",
         "1+(2+3)", NULL, "1+", "(1");
    GBNF("root ::= a b\na ::= \"x\"*\nb ::= a \"y\" | a \"z\"", "y", "xxxz", NULL, "x");
    GBNF("root ::= (\n  \"a\"\n  | \"b\"\n)", "a", "b", NULL, "");
}

static void refused(const char *text, enum sluice_status status, const char *words)
{
    struct grammar *g;
    struct sluice_error err;
    struct grammar_ask ask = {.gbnf = str_of(text)};
    assert_int_equal(grammar_new(&ask, NULL, &g, &err), status);
    if (!strstr(err.message, words))
        fail_msg("%s: expected \"%s\", found: %s", text, words, err.message);
    assert_null(g);
}

static void test_gbnf_refused(void **state)
{
    refused("", SLUICE_ERR_ARG, "root");
    refused("a ::= \"b\"", SLUICE_ERR_ARG, "root");
    refused("root ::= root \"a\" | \"b\"", SLUICE_ERR_ARG, "left-recursive");
    refused("root ::= a\na ::= \"x\"? b\nb ::= a \"y\" | \"z\"", SLUICE_ERR_ARG, "left-recursive");
    refused("root ::= \"a\" root", SLUICE_ERR_ARG, "no text that ends");
    refused("root ::= []", SLUICE_ERR_ARG, "no text that ends");
    refused("root ::= other", SLUICE_ERR_ARG, "\"other\" is not defined");
    refused("root ::= \"a\"\nroot ::= \"b\"", SLUICE_ERR_ARG,
            "line 2: rule \"root\" is defined twice");
    refused("root ::= \"a", SLUICE_ERR_ARG, "line 1");
    refused("\n\nroot = \"a\"", SLUICE_ERR_ARG, "line 3: expected \"::=\"");
    refused("root ::= (\"a\"", SLUICE_ERR_ARG, "\")\"");
    refused("root ::= [a", SLUICE_ERR_ARG, "class");
    refused("root ::= [z-a]", SLUICE_ERR_ARG, "in order");
    refused("root ::= \"\\q\"", SLUICE_ERR_ARG, "escape");
    refused("root ::= \"a\"{3,2}", SLUICE_ERR_LIMIT, "repetition");
    refused("root ::= \"a\"{99999999}", SLUICE_ERR_LIMIT, "repetition");
    refused("root ::= \"a\" )", SLUICE_ERR_ARG, "line 1");
    char deep[400] = "root ::= ";
    memset(deep + 9, '(', 200);
    refused(deep, SLUICE_ERR_LIMIT, "groups");
}

static void test_schema(void **state)
{
    SCHEMA("{\"type\": \"string\"}", "\"\"", "\"a\\n\\u00e9\\ud83d\\ude00\xc3\xa9/\\/\"", NULL, "a",
           "\"\n\"", "\"\\ud83d\"", "\"\\x\"", "\"a", "null");
    SCHEMA("{\"type\": \"string\", \"minLength\": 2, \"maxLength\": 3}", "\"ab\"",
           "\"\xc3\xa9\\n\\u0041\"", NULL, "\"a\"", "\"abcd\"");
    SCHEMA("{\"type\": \"integer\"}", "0", "-12", "123456789012345678", NULL, "01", "1.5", "1e3",
           "", "-", "1234567890123456789");
    SCHEMA("{\"type\": \"number\"}", "0", "-1.5", "2e10", "1.25E-3", NULL, ".5", "1.", "+1", "1e");
    SCHEMA("{\"type\": \"boolean\"}", "true", "false", NULL, "True", "tru");
    SCHEMA("{\"type\": [\"integer\", \"null\"]}", "5", "null", NULL, "\"5\"");
    SCHEMA("{\"enum\": [\"a\", \"ab\", 1, null, {\"x\": [1, 2]}]}", "\"a\"", "\"ab\"", "1", "null",
           "{\"x\": [1, 2]}", NULL, "\"abc\"", "2");
    SCHEMA("{\"const\": \"q\\\"\"}", "\"q\\\"\"", NULL, "\"q\"");
    SCHEMA("{\"type\": \"string\", \"enum\": [\"a\", 1]}", "\"a\"", NULL, "1");
    SCHEMA("{\"type\": \"integer\", \"minimum\": 7, \"maximum\": 1203}", "7", "10", "99", "100",
           "999", "1000", "1199", "1203", NULL, "6", "0", "1204", "1300", "2000", "07", "-7");
    SCHEMA("{\"type\": \"integer\", \"minimum\": -15, \"exclusiveMaximum\": 3}", "-15", "-9", "0",
           "2", NULL, "-16", "3", "-20", "-0");
    SCHEMA("{\"type\": \"integer\", \"exclusiveMinimum\": 0}", "1", "999999", NULL, "0", "-1");
    SCHEMA("{\"type\": \"integer\", \"maximum\": -5}", "-5", "-123", NULL, "-4", "0", "5");
    SCHEMA("{\"type\": \"number\", \"minimum\": 0, \"maximum\": 1}", "0", "0.5", "1", "1.00",
           "0.999", NULL, "1.01", "-0.1", "2", "1e1");
    SCHEMA("{\"type\": \"number\", \"exclusiveMinimum\": -2, \"exclusiveMaximum\": 2}", "-1.99",
           "1.99", "0", "-0.5", NULL, "2", "-2", "-2.0", "2.0");
    SCHEMA("{\"type\": \"number\", \"exclusiveMinimum\": 0}", "0.001", "12.5", NULL, "0", "0.0");
    SCHEMA("{'type': 'array', 'items': {'type': 'integer'}, 'minItems': 1, 'maxItems': 3}", "[1]",
           "[1, 2,3]", "[\n  1\n]", NULL, "[]", "[1,2,3,4]", "[\"a\"]", "[1,]");
    SCHEMA("{\"type\": \"array\"}", "[]", "[1, \"a\", {}, [[null]]]", NULL, "[", "[,]");
    SCHEMA("{\"type\": \"array\", \"maxItems\": 0}", "[]", NULL, "[1]");
    SCHEMA("{\"prefixItems\": [{\"type\": \"integer\"}, {\"type\": \"string\"}]}", "[1, \"a\"]",
           NULL, "[\"a\", 1]", "[1]", "[1, \"a\", 2]");
    SCHEMA("{\"prefixItems\": [{\"type\": \"integer\"}], \"items\": {\"type\": \"null\"}}", "[1]",
           "[1, null, null]", NULL, "[1, 1]");
    SCHEMA("{\"type\": \"object\"}", "{}", "{\"a\": {\"b\": [1]}}", NULL, "{\"a\"}", "[]",
           "{a: 1}");
    SCHEMA(
        "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}, \"b\": {\"type\": "
        "\"string\"}, \"c\": {}}, \"required\": [\"b\"]}",
        "{\"b\": \"x\"}", "{\"a\": 1, \"b\": \"x\"}", "{\"a\":1,\"b\":\"x\",\"c\":[null]}",
        "{\"b\": \"x\", \"c\": 1}", NULL, "{}", "{\"a\": 1}", "{\"b\": \"x\", \"a\": 1}",
        "{\"b\": \"x\", \"d\": 1}", "{\"a\": 1 \"b\": \"x\"}", "{,\"b\": \"x\"}");
    SCHEMA(
        "{\"type\": \"object\", \"properties\": {\"ab\": {\"type\": \"null\"}, \"ac\": {\"type\": "
        "\"null\"}}, \"additionalProperties\": {\"type\": \"integer\"}}",
        "{}", "{\"ab\": null, \"x\": 1, \"a\": 2, \"abc\": 3, \"\": 4}", "{\"zz\": 1}", NULL,
        "{\"ab\": 1}", "{\"ac\": null, \"ab\": 2}", "{\"x\": null}", "{\"a\\u0062\": 1}");
    SCHEMA("{\"type\": \"object\", \"additionalProperties\": {\"type\": \"integer\"}, "
           "\"minProperties\": 1, \"maxProperties\": 2}",
           "{\"a\": 1}", "{\"a\": 1, \"b\": 2}", NULL, "{}", "{\"a\": 1, \"b\": 2, \"c\": 3}");
    SCHEMA("{\"type\": \"object\", \"properties\": {}, \"additionalProperties\": false}", "{}",
           NULL, "{\"a\": 1}");
    SCHEMA(
        "{\"anyOf\": [{\"type\": \"null\"}, {\"type\": \"array\", \"items\": {\"$ref\": \"#\"}}]}",
        "null", "[[], null, [[null]]]", NULL, "[1]");
    SCHEMA(
        "{\"$ref\": \"#/$defs/node\", \"$defs\": {\"node\": {\"type\": \"object\", \"properties\": "
        "{\"v\": {\"type\": \"integer\"}, \"next\": {\"anyOf\": [{\"$ref\": \"#/$defs/node\"}, "
        "{\"type\": \"null\"}]}}, \"required\": [\"v\", \"next\"]}}}",
        "{\"v\": 1, \"next\": {\"v\": 2, \"next\": null}}", NULL, "{\"v\": 1}",
        "{\"v\": 1, \"next\": {\"v\": 2}}");
    SCHEMA(
        "{\"allOf\": [{\"properties\": {\"a\": {\"type\": \"integer\"}}}, {\"properties\": {\"b\": "
        "{\"type\": \"null\"}}, \"required\": [\"a\"]}], \"required\": [\"b\"]}",
        "{\"a\": 1, \"b\": null}", NULL, "{\"a\": 1}", "{\"b\": null}");
    SCHEMA("{\"type\": \"object\", \"properties\": {\"k\": {\"const\": 1}}, \"required\": [\"k\"], "
           "\"oneOf\": [{\"properties\": {\"a\": {\"type\": \"null\"}}, \"required\": [\"a\"]}, "
           "{\"properties\": {\"b\": {\"type\": \"null\"}}}]}",
           "{\"k\": 1, \"a\": null}", "{\"k\": 1, \"b\": null}", "{\"k\": 1}", NULL,
           "{\"a\": null}", "{\"k\": 1, \"a\": null, \"b\": null}");
}

static void test_patterns(void **state)
{
    SCHEMA("{\"pattern\": \"^[A-Z]{2}-\\\\d+$\"}", "\"AB-12\"", NULL, "\"A-1\"", "\"AB-\"",
           "\"xAB-1\"");
    SCHEMA("{\"pattern\": \"^(a|b\\\\.)*?\\\\w$\"}", "\"ab.a_\"", "\"Z\"", NULL, "\"b_\"", "\"\"");
    SCHEMA("{\"pattern\": \"b+\"}", "\"abbc\"", "\"b\"", NULL, "\"ac\"");
    SCHEMA("{\"pattern\": \"^[^x]\\\\s?$\"}", "\"\\\"\"", "\"\\\\\\t\"", "\"\\u0001\"",
           "\"\xc3\xa9 \"", NULL, "\"x\"", "\"\"\"");
    SCHEMA("{\"format\": \"date\"}", "\"2024-02-28\"", "\"1999-12-31\"", NULL, "\"2024-02-30\"",
           "\"2024-04-31\"", "\"24-01-01\"");
    SCHEMA("{\"format\": \"date-time\"}", "\"2024-02-28T23:59:59Z\"",
           "\"2024-02-28T00:00:00.125+02:00\"", NULL, "\"2024-02-28\"", "\"2024-02-28T24:00:00Z\"");
    SCHEMA("{\"format\": \"uuid\"}", "\"123e4567-e89b-12d3-a456-426614174000\"", NULL,
           "\"123e4567\"");
    SCHEMA("{\"format\": \"email\"}", "\"a.b+c@d-e.org\"", NULL, "\"a@b\"", "\".a@b.c\"");
    SCHEMA("{\"format\": \"ipv4\"}", "\"255.0.10.1\"", NULL, "\"256.0.0.1\"", "\"1.2.3\"");
    SCHEMA("{\"format\": \"uri\"}", "\"https://a.b/c?d=e\"", "\"http://x\"", NULL, "\"a.b\"");
}

static void schema_refused(const char *text, const char *words)
{
    struct grammar *g;
    struct sluice_error err;
    struct json_object *value = json(text);
    struct grammar_ask ask = {.schema = value, .schema_name = "format"};
    assert_int_equal(grammar_new(&ask, NULL, &g, &err), SLUICE_ERR_ARG);
    if (!strstr(err.message, words))
        fail_msg("%s: expected \"%s\", found: %s", text, words, err.message);
    json_object_put(value);
}

static void test_schema_refused(void **state)
{
    schema_refused("{\"not\": {}}", "format: \"not\" is not supported");
    schema_refused("{\"properties\": {\"a\": {\"items\": {\"multipleOf\": 3}}}}",
                   "format.properties.a.items: \"multipleOf\"");
    schema_refused("{\"anyOf\": [{}, {\"pattern\": \"(?=a)\"}]}", "format.anyOf[1]: \"pattern\"");
    schema_refused("{\"pattern\": \"(a)\\\\1\"}", "escape");
    schema_refused("{\"pattern\": \"^a|b$\"}", "group");
    schema_refused("{\"pattern\": \"a\", \"maxLength\": 3}", "\"pattern\" beside");
    schema_refused("{\"format\": \"iri\"}", "\"iri\"");
    schema_refused("{\"type\": \"thing\"}", "\"type\" must be");
    schema_refused("{\"enum\": []}", "\"enum\" leaves no value");
    schema_refused("{\"enum\": [1], \"minimum\": 2}", "\"minimum\"");
    schema_refused("{\"$ref\": \"http://a/b\"}", "\"$ref\"");
    schema_refused("{\"$ref\": \"#/$defs/x\"}", "points at nothing");
    schema_refused("{\"$ref\": \"#\"}", "format");
    schema_refused("{\"type\": \"integer\", \"minimum\": 3, \"maximum\": 2}", "leaves no number");
    schema_refused("{\"type\": \"number\", \"minimum\": 0.5}", "\"minimum\"");
    schema_refused("{\"minItems\": 3, \"maxItems\": 2}", "\"minItems\"");
    schema_refused("{\"uniqueItems\": true}", "\"uniqueItems\"");
    schema_refused("{\"allOf\": [{\"minimum\": 1}, {\"minimum\": 2}]}", "\"minimum\"");
    schema_refused("{\"properties\": {}, \"required\": [\"a\"]}", "\"required\"");
    schema_refused("{\"patternProperties\": {}}", "\"patternProperties\"");
    /* Something without an end: an object that always has another inside. */
    schema_refused("{\"properties\": {\"a\": {\"$ref\": \"#\"}}, \"required\": [\"a\"]}", "ends");
}

/* ---- calls ---- */

#define D                                                                                          \
    "\xef\xbd\x9c"                                                                                 \
    "DSML"                                                                                         \
    "\xef\xbd\x9c"

static const char tools_json[] =
    "[{'type': 'function', 'function': {'name': 'get', 'parameters': {'type': 'object', "
    "'properties': {'city': {'type': 'string'}, 'days': {'type': 'integer'}, 'unit': "
    "{'enum': ['c', 'f', 1]}, 'note': {'type': ['string', 'null'], 'maxLength': 3}}, "
    "\"required\": [\"city\"]}}}, {\"type\": \"function\", \"function\": {\"name\": \"none\"}}, "
    "{'type': 'function', 'function': {'name': 'odd', 'parameters': {'type': 'object', "
    "\"properties\": {\"x\": {\"not\": {}}}}}}]";

/* Marks of calls are symbols: text goes in piece by piece. */
static bool accepts_calls(struct grammar *g, const char *text)
{
    struct grammar_state s;
    assert_int_equal(grammar_state_init(&s, g, NULL), SLUICE_OK);
    bool ok = true;
    while (ok && *text) {
        const char *mark = strstr(text, D);
        size_t n = mark ? (size_t)(mark - text) : strlen(text);
        ok = grammar_state_bytes(&s, (struct str){text, n}, NULL) == SLUICE_OK;
        text += n;
        if (mark) {
            ok = ok && grammar_state_token(&s, vocab_special(vocab, VOCAB_DSML), NULL) == SLUICE_OK;
            text += strlen(D);
        }
    }
    ok = ok && grammar_state_ends(&s);
    grammar_state_deinit(&s);
    return ok;
}

#define BLOCK(text) "\n\n<" D "tool_calls>\n" text "\n</" D "tool_calls>"
#define CALL(name, text) "<" D "invoke name=\"" name "\">\n" text "\n</" D "invoke>"
#define PARAM(name, string, text)                                                                  \
    "<" D "parameter name=\"" name "\" string=\"" string "\">" text "</" D "parameter>"

static void test_calls(void **state)
{
    struct json_object *tools = json(tools_json);
    struct grammar_ask ask = {.tools = tools, .loose = true};
    struct grammar *g = make(&ask);
    const char *inside[] = {
        BLOCK(CALL("none", "")),
        BLOCK(CALL("get", PARAM("city", "true", "Paris </b> < </DSM & \xe4\xb8\xad\n"))),
        BLOCK(CALL("get", PARAM("city", "true", "") "\n" PARAM("days", "false", "3") "\n" PARAM(
                              "unit", "true", "f") "\n" PARAM("note", "false", "null"))),
        BLOCK(CALL("get", PARAM("city", "true", "x") "\n" PARAM("unit", "false", "1") "\n" PARAM(
                              "note", "true", "abc"))),
        BLOCK(CALL("none", "") "\n" CALL("none", "")),
        BLOCK(CALL("odd", PARAM("y", "false", "{\"a\": 1}"))), /* not followed, so anything */
    };
    const char *outside[] = {
        "",
        BLOCK(""),
        BLOCK(CALL("other", "")),
        BLOCK(CALL("get", "")),
        BLOCK(CALL("get", PARAM("days", "false", "3"))),
        BLOCK(CALL("get", PARAM("city", "true", "x") "\n" PARAM("days", "false", "x"))),
        BLOCK(CALL("get", PARAM("city", "true", "x") "\n" PARAM("days", "true", "3"))),
        BLOCK(CALL("get", PARAM("city", "true", "x") PARAM("days", "false", "3"))),
        BLOCK(CALL("get", PARAM("city", "true", "x") "\n" PARAM("unit", "true", "k"))),
        BLOCK(CALL("get", PARAM("city", "true", "x") "\n" PARAM("note", "true", "abcd"))),
        BLOCK(CALL("none", PARAM("a", "true", ""))),
        BLOCK(CALL("get", PARAM("city", "true", "</\xef\xbd\x9c"))),
    };
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
        if (!accepts_calls(g, inside[i]))
            fail_msg("refused: %s", inside[i]);
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        if (accepts_calls(g, outside[i]))
            fail_msg("accepted: %s", outside[i]);
    /* The mark as ordinary text is none. */
    struct grammar_state s;
    assert_int_equal(grammar_state_init(&s, g, NULL), SLUICE_OK);
    assert_int_equal(grammar_state_bytes(&s, STR_LIT("\n\n<" D), NULL), SLUICE_ERR_FORMAT);
    grammar_state_deinit(&s);
    grammar_free(g);

    ask = (struct grammar_ask){.tools = tools, .tool = "none", .one_call = true};
    g = make(&ask);
    assert_true(accepts_calls(g, inside[0]));
    assert_false(accepts_calls(g, inside[1]));
    assert_false(accepts_calls(g, inside[4]));
    grammar_free(g);

    struct json_object *answer = json("{\"type\": \"object\", \"properties\": {}}");
    ask = (struct grammar_ask){.tools = tools, .loose = true, .schema = answer};
    g = make(&ask);
    assert_true(accepts_calls(g, inside[1]));
    assert_true(accepts_calls(g, "{}"));
    assert_false(accepts_calls(g, "{} "));
    grammar_free(g);
    json_object_put(answer);

    struct sluice_error err;
    ask = (struct grammar_ask){.tools = tools};
    assert_int_equal(grammar_new(&ask, NULL, &g, &err), SLUICE_ERR_ARG);
    assert_non_null(strstr(err.message, "tool odd: parameters.properties.x: \"not\""));
    json_object_put(tools);
}

/* ---- masks ---- */

static bool bit(const uint32_t *mask, int32_t id)
{
    return mask[id / 32] >> id % 32 & 1;
}

/* Every token by itself, from the state that it is asked for. */
static void compare_mask(struct grammar_state *s, const uint32_t *mask)
{
    int32_t at = s->id;
    for (int32_t id = 0; id < vocab_count(vocab); id++) {
        bool may =
            id == vocab_special(vocab, VOCAB_EOS)
                ? grammar_state_ends(s)
                : vocab_bytes(vocab, id).len > 0 && grammar_state_token(s, id, NULL) == SLUICE_OK;
        s->id = at;
        if (bit(mask, id) != may)
            fail_msg("token %d \"%.*s\": mask says %d", id, STR_ARG(vocab_bytes(vocab, id)),
                     bit(mask, id));
    }
}

/* A token of the mask, drawn at random; the end as soon as it may be, half the time, and quotes
 * often, so that texts come to an end. -1: none. */
static int32_t draw(const uint32_t *mask, uint64_t seed, uint64_t i)
{
    int32_t n = vocab_count(vocab), eos = vocab_special(vocab, VOCAB_EOS), count = 0;
    int32_t quote = vocab_byte_id(vocab, '"');
    uint64_t r = rng_u64(seed, i);
    if (bit(mask, eos) && r % 2)
        return eos;
    if (bit(mask, quote) && r % 3 == 0)
        return quote;
    for (int32_t id = 0; id < n; id++)
        count += bit(mask, id);
    if (count == 0)
        return -1;
    int32_t k = (int32_t)(rng_u64(seed + 1, i) % (uint64_t)count), id = 0;
    while (!bit(mask, id) || k-- > 0)
        id++;
    return id;
}

static void test_masks(void **state)
{
    size_t words = ((size_t)vocab_count(vocab) + 31) / 32;
    uint32_t *mask = malloc(words * sizeof *mask);
    for (size_t k = 0; k < SCHEMA_SAMPLES; k++) {
        struct grammar *g = schema(schema_samples[k]);
        for (uint64_t seed = 1; seed <= 3; seed++) {
            struct grammar_state s;
            assert_int_equal(grammar_state_init(&s, g, NULL), SLUICE_OK);
            for (uint64_t i = 0; i < 24; i++) {
                assert_int_equal(grammar_state_mask(&s, mask, NULL), SLUICE_OK);
                if (i % 5 == seed % 5)
                    compare_mask(&s, mask);
                int32_t id = draw(mask, seed, i);
                assert_true(id >= 0);
                if (id == vocab_special(vocab, VOCAB_EOS))
                    break;
                assert_int_equal(grammar_state_token(&s, id, NULL), SLUICE_OK);
            }
            grammar_state_deinit(&s);
        }
        grammar_free(g);
    }
    free(mask);
}

/* Values made after a schema are accepted; and whatever is accepted of what they become when bytes
 * of them change follows the schema. */
static void test_random_values(void **state)
{
    int kept = 0, lost = 0;
    for (size_t k = 0; k < SCHEMA_SAMPLES; k++) {
        struct json_object *root = json(schema_samples[k]), *value;
        struct grammar *g = schema(schema_samples[k]);
        for (uint64_t seed = 1; seed <= 150; seed++) {
            struct schema_rng r = {.seed = seed};
            struct buf text;
            buf_init(&text, 0);
            schema_random(&r, root, root, 0, &text);
            assert_int_equal(json_text_parse(text.data, text.len, &value, NULL), SLUICE_OK);
            assert_true(schema_valid(root, root, value));
            json_object_put(value);
            if (!accepts(g, text.data))
                fail_msg("%s refuses %s", schema_samples[k], text.data);
            for (int i = 0; i < 20; i++) {
                static const char other[] = "{}[],:\"0179-.nt\\ x";
                char *copy = strdup(text.data);
                size_t at = schema_draw(&r, text.len);
                if (schema_draw(&r, 3))
                    copy[at] = other[schema_draw(&r, sizeof other - 1)];
                else
                    memmove(copy + at, copy + at + 1, text.len - at);
                value = NULL;
                if (accepts(g, copy)) {
                    kept++;
                    if (json_text_parse(copy, strlen(copy), &value, NULL) != SLUICE_OK ||
                        !schema_valid(root, root, value))
                        fail_msg("%s accepts %s", schema_samples[k], copy);
                } else {
                    lost++;
                }
                json_object_put(value);
                free(copy);
            }
            buf_deinit(&text);
        }
        grammar_free(g);
        json_object_put(root);
    }
    assert_true(kept > 500 && lost > 5000);
}

/* Long counts, which masks are not told apart by, and so many states that they are forgotten while
 * another answer stands in the middle. */
static void test_counts(void **state)
{
    size_t words = ((size_t)vocab_count(vocab) + 31) / 32;
    uint32_t *mask = malloc(words * sizeof *mask);
    struct grammar *g = schema("{\"type\": \"string\", \"minLength\": 40, \"maxLength\": 60000}");
    struct grammar_state s, other;
    assert_int_equal(grammar_state_init(&s, g, NULL), SLUICE_OK);
    assert_int_equal(grammar_state_init(&other, g, NULL), SLUICE_OK);
    assert_int_equal(grammar_state_bytes(&s, STR_LIT("\""), NULL), SLUICE_OK);
    assert_int_equal(grammar_state_bytes(&other, STR_LIT("\"abc"), NULL), SLUICE_OK);
    char text[251];
    memset(text, 'x', 250);
    int32_t quote = vocab_byte_id(vocab, '"'), x = vocab_byte_id(vocab, 'x');
    for (int i = 0; i < 240; i++) { /* 60,000 */
        assert_int_equal(grammar_state_mask(&s, mask, NULL), SLUICE_OK);
        assert_int_equal(bit(mask, quote), i > 0);
        assert_true(bit(mask, x));
        assert_int_equal(grammar_state_bytes(&s, (struct str){text, 250}, NULL), SLUICE_OK);
    }
    assert_int_equal(grammar_state_mask(&s, mask, NULL), SLUICE_OK);
    assert_true(bit(mask, quote));
    assert_false(bit(mask, x));
    compare_mask(&s, mask);
    assert_int_equal(grammar_state_bytes(&other, (struct str){text, 36}, NULL), SLUICE_OK);
    assert_int_equal(grammar_state_bytes(&other, STR_LIT("\""), NULL), SLUICE_ERR_FORMAT);
    assert_int_equal(grammar_state_bytes(&other, STR_LIT("x\""), NULL), SLUICE_OK);
    assert_true(grammar_state_ends(&other));
    grammar_state_deinit(&s);
    grammar_state_deinit(&other);
    grammar_free(g);
    free(mask);
}

/* A text that nests too deep is outside; ways to read without number are an error. */
static void test_limits(void **state)
{
    struct grammar *g = gbnf("root ::= \"(\" root \")\" | \"x\"");
    char deep[1200];
    memset(deep, '(', 1100);
    deep[1100] = 0;
    struct grammar_state s;
    struct sluice_error err;
    assert_int_equal(grammar_state_init(&s, g, NULL), SLUICE_OK);
    assert_int_equal(grammar_state_bytes(&s, str_of(deep), &err), SLUICE_ERR_FORMAT);
    assert_true(err.position > 200 && err.position < 300);
    grammar_state_deinit(&s);
    grammar_free(g);

    g = gbnf("root ::= (\"a\" | \"aa\"){0,100000} \"b\" | (\"a\"{1,900000}){1,900000}");
    memset(deep, 'a', 1100);
    deep[1100] = 0;
    assert_int_equal(grammar_state_init(&s, g, NULL), SLUICE_OK);
    enum sluice_status st = SLUICE_OK;
    for (int i = 0; i < 20 && st == SLUICE_OK; i++)
        st = grammar_state_bytes(&s, str_of(deep), &err);
    assert_int_equal(st, SLUICE_ERR_LIMIT);
    grammar_state_deinit(&s);
    grammar_free(g);
}

static int open_vocab(void **state)
{
    vocab = v4_vocab();
    return token_trie_new(vocab, &trie, NULL) == SLUICE_OK ? 0 : 1;
}

static int close_vocab(void **state)
{
    token_trie_free(trie);
    vocab_close(vocab);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gbnf),           cmocka_unit_test(test_gbnf_refused),
        cmocka_unit_test(test_schema),         cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_schema_refused), cmocka_unit_test(test_calls),
        cmocka_unit_test(test_masks),          cmocka_unit_test(test_counts),
        cmocka_unit_test(test_limits),         cmocka_unit_test(test_random_values),
    };
    return cmocka_run_group_tests(tests, open_vocab, close_vocab);
}
