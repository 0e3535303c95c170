// SPDX-License-Identifier: Apache-2.0
// Any bytes as a chat template over a small conversation: it ends in a status inside the bounds of steps and memory; a refusal
// says "template"; what is rendered is UTF-8 and the same the second time.
#include "fuzz/fuzz.h"
#include "platform/bytes.h"
#include "runtime/text/jinja.h"
#include "runtime/text/template.h"

static const char conversation[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\"Caf\xc3\xa9?\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
    "\"arguments\":{\"a\":[1,2.5,true]}}}]},{\"role\":\"tool\",\"content\":\"{}\"}],\"tools\":[{\"type\":\"function\"}],"
    "\"add_generation_prompt\":true,\"bos_token\":\"<s>\",\"n\":3,\"d\":{\"k\":\"v\"}}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static json_t *variables;
    if (!variables) {
        graft_jinja_set_clock(1764108000); // strftime_now says the same twice
        variables = json_loads(conversation, 0, NULL);
        FUZZ_CHECK(variables != NULL, "no conversation");
    }
    struct graft_test_alloc alloc;
    struct graft_ctx *ctx = fuzz_begin(&alloc, 128 << 20);
    struct graft_template *template_ = NULL;
    if (graft_template_create(ctx, &template_, (const char *)data, size) != GRAFT_OK) {
        FUZZ_CHECK(!template_ && strncmp(graft_last_error(), "template", 8) == 0, "refused without the word template");
        fuzz_end(&ctx, &alloc);
        return 0;
    }
    char *text = NULL, *again = NULL;
    uint64_t length = 0, again_length = 0;
    enum graft_status status = graft_template_render(template_, variables, &text, &length);
    if (status == GRAFT_OK) {
        FUZZ_CHECK(graft_utf8_valid((const uint8_t *)text, length) && text[length] == 0, "the text is no UTF-8");
        FUZZ_CHECK(graft_template_render(template_, variables, &again, &again_length) == GRAFT_OK, "not the second time");
        FUZZ_CHECK(length == again_length && memcmp(text, again, length) == 0, "another text the second time");
    } else {
        FUZZ_CHECK(!text && strlen(graft_last_error()) > 0, "failed without a word");
    }
    graft_free(ctx, (void **)&text);
    graft_free(ctx, (void **)&again);
    graft_template_destroy(&template_);
    fuzz_end(&ctx, &alloc);
    return 0;
}
