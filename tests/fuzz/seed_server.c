/* Writes the corpus that fuzz_server begins with: a body with most members of each API.
 * usage: seed_server DIR */
#include <stdio.h>
#include <string.h>

static const char *const bodies[] = {
    "0{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\","
    "\"content\":[{\"type\":\"text\",\"text\":\"t\"},{\"type\":\"image_url\"}]},{\"role\":"
    "\"assistant\",\"content\":null,\"reasoning_content\":\"r\",\"tool_calls\":[{\"id\":\"a\","
    "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},{\"role\":\"tool\",\"tool_call_id\":"
    "\"a\",\"content\":\"x\"}],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
    "\"tool_choice\":{\"type\":\"function\",\"function\":{\"name\":\"f\"}},\"stop\":[\"z\"],"
    "\"logit_bias\":{\"1\":-100},\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
    "{\"schema\":{}}},\"reasoning_effort\":\"200\",\"thinking\":{\"type\":\"enabled\"},\"n\":2}",
    "1{\"prompt\":[\"a\",[1,2]],\"max_tokens\":3,\"logprobs\":1,\"echo\":false,\"n\":2}",
    "2{\"max_tokens\":9,\"system\":[{\"type\":\"text\",\"text\":\"s\"}],\"messages\":[{\"role\":"
    "\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\","
    "\"thinking\":\"t\",\"signature\":\"c2xjMSi1L/0kCUkAAG5lZWQgdG9vbM9rJzg=\"},{\"type\":"
    "\"tool_use\",\"id\":\"i\",\"name\":\"f\",\"input\":{}}]},{\"role\":\"user\",\"content\":"
    "[{\"type\":\"tool_result\",\"tool_use_id\":\"i\",\"is_error\":true,\"content\":[{\"type\":"
    "\"tool_reference\",\"tool_name\":\"g\"}]}]}],\"tools\":[{\"name\":\"f\",\"input_schema\":{}},"
    "{\"name\":\"g\",\"input_schema\":{},\"defer_loading\":true}],\"tool_choice\":{\"type\":"
    "\"any\"},\"thinking\":{\"type\":\"adaptive\"},\"output_config\":{\"effort\":\"max\"}}",
    "3{\"input\":[{\"role\":\"developer\",\"content\":\"d\"},{\"type\":\"reasoning\",\"summary\":"
    "[{\"text\":\"t\"}]},{\"type\":\"function_call\",\"call_id\":\"c\",\"name\":\"f\","
    "\"namespace\":\"n\",\"arguments\":\"{}\"},{\"type\":\"function_call_output\",\"call_id\":"
    "\"c\",\"output\":[{\"type\":\"input_text\",\"text\":\"o\"}]},{\"type\":\"item_reference\","
    "\"id\":\"x\"}],\"instructions\":\"i\",\"tools\":[{\"type\":\"namespace\",\"name\":\"n\","
    "\"tools\":[{\"name\":\"f\"}]},{\"type\":\"custom\",\"name\":\"c\"}],\"reasoning\":{\"effort\":"
    "\"low\",\"summary\":\"auto\"},\"text\":{\"format\":{\"type\":\"json_object\"}}}",
    ("4{\"messages\":[{\"role\":\"user\",\"content\":\"u\"}],\"think\":true,\"format\":{},"
     "\"options\":{\"num_predict\":3,\"stop\":\"s\"}}"),
};

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/body-%zu", argv[1], i);
        FILE *f = fopen(path, "wb");
        if (!f)
            return 1;
        /* The first byte chooses the API. */
        fputc(bodies[i][0] - '0', f);
        fwrite(bodies[i] + 1, 1, strlen(bodies[i]) - 1, f);
        fclose(f);
    }
    return 0;
}
