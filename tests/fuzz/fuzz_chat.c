/* Messages from a client: any bytes. A prompt that renders has its trusted ranges in order. */
#include <json-c/json.h>

#include "base/check.h"
#include "base/json_text.h"
#include "text/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1)
        return 0;
    struct json_object *messages = NULL;
    if (json_text_parse((const char *)data + 1, len - 1, &messages, NULL) != SLUICE_OK)
        return 0;
    struct chat_request request = {
        .messages = messages,
        .effort = (enum chat_effort)(data[0] & 3),
        .preview = data[0] & 4,
        .keep_reasoning = data[0] & 8,
        .continue_last = data[0] & 16,
    };
    struct chat_text out;
    if (chat_render(&request, &out, NULL) == SLUICE_OK) {
        size_t last = 0;
        for (size_t i = 0; i < out.n_trusted; i++) {
            SLUICE_ASSERT(out.trusted[i].from >= last && out.trusted[i].from < out.trusted[i].to);
            last = out.trusted[i].to;
        }
        SLUICE_ASSERT(last <= out.text.len);
        chat_text_deinit(&out);
    }
    json_object_put(messages);
    return 0;
}
