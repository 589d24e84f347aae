/* Writes the corpus that fuzz_grammar begins with. usage: seed_grammar DIR */
#include <stdio.h>
#include <string.h>

static const char *const seeds[] = {
    "3root ::= (item \", \"){0,3} item?\nitem ::= [a-z\\n]+ | \"(\" root \")\" # x\n\1ab, (c",
    "3root ::= \"a\"* ([^b-d] | .) \"\\x41\\u00e9\"{2,}\1aaz",
    "1{\"type\":\"object\",\"properties\":{\"a\":{\"type\":[\"string\",\"null\"],"
    "\"maxLength\":3},\"b\":{\"enum\":[1,\"x\"]},\"c\":{\"$ref\":\"#\"}},\"required\":[\"a\"],"
    "\"additionalProperties\":{\"type\":\"integer\",\"minimum\":-3,\"maximum\":40}}\1{\"a\": \"x",
    "1{\"anyOf\":[{\"type\":\"array\",\"items\":{\"format\":\"date\"},\"minItems\":1},"
    "{\"pattern\":\"^[a-f]+(x|y)?\\\\d$\"},{\"allOf\":[{\"type\":\"number\"},"
    "{\"exclusiveMinimum\":0}]}]}\1[\"20",
    "4[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"s\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"}},\"required\":"
    "[\"n\"]}}}]\1\n\n<",
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < sizeof seeds / sizeof *seeds; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/seed%zu", argv[1], i);
        FILE *f = fopen(path, "wb");
        if (!f)
            return 1;
        fwrite(seeds[i], 1, strlen(seeds[i]), f);
        fclose(f);
    }
    return argc > 1 ? 0 : 2;
}
