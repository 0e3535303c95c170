// SPDX-License-Identifier: Apache-2.0
// Any bytes as a whole model: the architecture's reading of keys and tensors, and the vocabulary. What is accepted has weights
// that lie inside the file and a vocabulary that turns any text into ids of its range and back.
#include "fuzz/fuzz.h"
#include "loaders/gguf.h"
#include "runtime/model/config.h"
#include "runtime/text/vocab.h"

static void check_weight(const struct graft_gguf *gguf, const struct graft_weight *w)
{
    if (w->data) {
        uint64_t end = (uint64_t)(w->data - gguf->map.data) + w->row_bytes * w->n_out;
        FUZZ_CHECK(w->data >= gguf->map.data && end <= gguf->map.size, "a weight lies outside the file");
    }
}

static void check_vocab(struct graft_ctx *ctx, const struct graft_gguf *gguf)
{
    static const char text[] = "Caf\xc3\xa9 <|im_start|> \xff 12 the harbour don't\n\n</s>";
    struct graft_vocab *vocab = NULL;
    if (graft_vocab_create(ctx, &vocab, gguf) != GRAFT_OK) {
        FUZZ_CHECK(!vocab && strlen(graft_last_error()) > 0, "refused without a word");
        return;
    }
    for (int special = 0; special < 2; special++) {
        int32_t ids[512];
        char back[65536];
        uint64_t count = 0, length;
        struct graft_tokenize_options options = {.special = special, .bos = special};
        enum graft_status status = graft_vocab_tokenize(vocab, text, sizeof text - 1, options, ids, 512, &count);
        FUZZ_CHECK(status == GRAFT_OK || status == GRAFT_E_BUDGET, "not tokenized");
        for (uint64_t i = 0; i < count; i++) {
            FUZZ_CHECK(ids[i] >= 0 && (uint32_t)ids[i] < graft_vocab_size(vocab), "an id outside the vocabulary");
        }
        status = graft_vocab_detokenize(vocab, ids, count, true, back, sizeof back, &length);
        FUZZ_CHECK(status == GRAFT_OK || status == GRAFT_E_LIMIT, "not detokenized");
    }
    graft_vocab_destroy(&vocab);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct graft_test_alloc alloc;
    struct graft_ctx *ctx = fuzz_begin(&alloc, 64 << 20);
    struct graft_gguf *gguf;
    if (graft_gguf_open_memory(ctx, &gguf, data, size, "fuzz.gguf", false) == GRAFT_OK) {
        struct graft_source *source = NULL;
        if (graft_source_open(ctx, &source, gguf) == GRAFT_OK) {
            check_weight(gguf, &source->embd);
            check_weight(gguf, &source->output_norm);
            check_weight(gguf, &source->output);
            for (uint32_t i = 0; i < source->config.n_layer; i++) {
                const struct graft_layer *l = &source->layers[i];
                const struct graft_weight *all[] = {&l->attn_norm, &l->q,    &l->k,  &l->v,   &l->o,
                                                    &l->ffn_norm,  &l->gate, &l->up, &l->down};
                for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
                    check_weight(gguf, all[k]);
                }
            }
            graft_source_close(&source);
        } else {
            FUZZ_CHECK(!source && strncmp(graft_last_error(), "fuzz.gguf: ", 11) == 0, "refused without the file's name");
        }
        check_vocab(ctx, gguf);
        graft_gguf_close(&gguf);
    }
    fuzz_end(&ctx, &alloc);
    return 0;
}
