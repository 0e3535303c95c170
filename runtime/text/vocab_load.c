// SPDX-License-Identifier: Apache-2.0
// Reading and checking tokenizer.ggml.* of a GGUF file: tokens, types, scores, merges, special ids.
#include <math.h>
#include <string.h>

#include "platform/bytes.h"
#include "runtime/text/vocab_private.h"

// Texts of control tokens that end a turn in one family or another.
static const char *const end_names[] = {
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "<|return|>",
    "<|call|>",
    "</s>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "<|eos|>",
    "<end_of_utterance>",
    ("<\xef\xbd\x9c"
     "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>"),
};

static bool text_is(const char *text, uint64_t length, const char *name)
{
    return strlen(name) == length && memcmp(text, name, (size_t)length) == 0;
}

static bool names_an_end(const char *text, uint64_t length)
{
    for (size_t i = 0; i < sizeof end_names / sizeof *end_names; i++) {
        if (text_is(text, length, end_names[i])) {
            return true;
        }
    }
    return false;
}

// "<|name|>", with ASCII or full-width bars: written like a control token.
static bool looks_like_control(const char *text, uint64_t length)
{
    static const char wide[] = "\xef\xbd\x9c";
    if (length >= 5 && memcmp(text, "<|", 2) == 0 && memcmp(text + length - 2, "|>", 2) == 0) {
        return true;
    }
    return length >= 9 && text[0] == '<' && memcmp(text + 1, wide, 3) == 0 && memcmp(text + length - 4, wide, 3) == 0 &&
           text[length - 1] == '>';
}

static enum graft_status find_array(const struct graft_gguf *gguf, const char *name, bool strings,
                                    const struct graft_gguf_key **out)
{
    const struct graft_gguf_key *key = graft_gguf_find(gguf, name);
    *out = key;
    if (key && (key->type != GRAFT_GGUF_ARRAY || (key->item_type == GRAFT_GGUF_STRING) != strings)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: key %s at offset %" PRIu64 " must be an array of %s", gguf->path, name,
                          key->offset, strings ? "strings" : "numbers");
    }
    return GRAFT_OK;
}

static enum graft_status find_long_array(const struct graft_gguf *gguf, const char *name, uint64_t tokens,
                                         const struct graft_gguf_key **out)
{
    GRAFT_TRY(find_array(gguf, name, false, out));
    if (*out && (*out)->count < tokens) {
        return graft_fail(GRAFT_E_FORMAT, "%s: key %s has %" PRIu64 " items for %" PRIu64 " tokens", gguf->path, name,
                          (*out)->count, tokens);
    }
    return GRAFT_OK;
}

static enum graft_status read_texts(struct graft_vocab *vocab, const struct graft_gguf *gguf)
{
    static const char name[] = "tokenizer.ggml.tokens";
    const struct graft_gguf_key *key;
    GRAFT_TRY(find_array(gguf, name, true, &key));
    if (!key || key->count == 0) {
        return graft_fail(GRAFT_E_FORMAT, "%s: key %s is %s: a vocabulary needs at least one token", gguf->path, name,
                          key ? "empty" : "missing");
    }
    if (key->count > GRAFT_GGUF_MAX_ARRAY || key->bytes > UINT32_MAX) {
        return graft_fail(GRAFT_E_LIMIT, "%s: key %s has %" PRIu64 " tokens, at most %d are supported", gguf->path, name,
                          key->count, GRAFT_GGUF_MAX_ARRAY);
    }
    vocab->n_tokens = (uint32_t)key->count;
    GRAFT_TRY(GRAFT_NEW(vocab->ctx, GRAFT_MEM_HOST, &vocab->tokens, key->count, "the vocabulary's tokens"));
    GRAFT_TRY(GRAFT_NEW(vocab->ctx, GRAFT_MEM_HOST, &vocab->texts, key->bytes, "the vocabulary's texts"));
    GRAFT_TRY(GRAFT_NEW(vocab->ctx, GRAFT_MEM_HOST, &vocab->pieces, key->bytes, "the vocabulary's pieces"));
    uint64_t cursor = 0;
    uint32_t at = 0;
    for (uint32_t i = 0; i < vocab->n_tokens; i++) {
        struct graft_text text;
        GRAFT_TRY(graft_gguf_next_text(gguf, key, &cursor, &text));
        if (text.length > GRAFT_VOCAB_MAX_TOKEN_BYTES) {
            return graft_fail(GRAFT_E_LIMIT, "%s: key %s: token %u has %" PRIu64 " bytes, at most %d are supported", gguf->path,
                              name, i, text.length, GRAFT_VOCAB_MAX_TOKEN_BYTES);
        }
        if (text.length > key->bytes - at) {
            return graft_fail(GRAFT_E_FORMAT, "%s: key %s: token %u passes the end of the array", gguf->path, name, i);
        }
        struct graft_token *token = &vocab->tokens[i];
        token->text = at;
        token->text_bytes = (uint32_t)text.length;
        if (text.length > 0) {
            memcpy(vocab->texts + at, text.data, (size_t)text.length);
        }
        at += token->text_bytes;
        vocab->longest_token = token->text_bytes > vocab->longest_token ? token->text_bytes : vocab->longest_token;
    }
    return GRAFT_OK;
}

static enum graft_status index_texts(struct graft_vocab *vocab, const struct graft_gguf *gguf)
{
    uint64_t slots = 16;
    while (slots < 2 * (uint64_t)vocab->n_tokens) {
        slots *= 2;
    }
    GRAFT_TRY(GRAFT_NEW(vocab->ctx, GRAFT_MEM_HOST, &vocab->slots, slots, "the vocabulary's index"));
    vocab->slot_mask = slots - 1;
    for (uint32_t i = 0; i < vocab->n_tokens; i++) {
        const struct graft_token *token = &vocab->tokens[i];
        const char *text = vocab->texts + token->text;
        if (token->text_bytes == 0) {
            continue; // a token without text is never found
        }
        uint64_t hash = GRAFT_HASH_START;
        for (uint32_t k = 0; k < token->text_bytes; k++) {
            hash = graft_hash_byte(hash, (uint8_t)text[k]);
        }
        uint64_t slot = graft_hash_mix(hash) & vocab->slot_mask;
        for (uint32_t tries = 0; vocab->slots[slot] != 0; slot = (slot + 1) & vocab->slot_mask) {
            const struct graft_token *other = &vocab->tokens[vocab->slots[slot] - 1];
            if (other->text_bytes == token->text_bytes && memcmp(vocab->texts + other->text, text, token->text_bytes) == 0) {
                return graft_fail(GRAFT_E_FORMAT, "%s: key tokenizer.ggml.tokens: tokens %u and %u have the same text \"%.*s\"",
                                  gguf->path, vocab->slots[slot] - 1, i, (int)(token->text_bytes < 64 ? token->text_bytes : 64),
                                  text);
            }
            if (++tries > GRAFT_VOCAB_MAX_PROBES) {
                return graft_fail(GRAFT_E_LIMIT,
                                  "%s: key tokenizer.ggml.tokens: too many texts fall on one place of the index (token %u)",
                                  gguf->path, i);
            }
        }
        vocab->slots[slot] = i + 1;
    }
    return GRAFT_OK;
}

static enum graft_status read_id(const struct graft_vocab *vocab, const struct graft_gguf *gguf, const char *name, int32_t *out)
{
    *out = GRAFT_NO_TOKEN;
    if (!graft_gguf_find(gguf, name)) {
        return GRAFT_OK;
    }
    uint32_t id;
    GRAFT_TRY(graft_gguf_u32(gguf, name, &id));
    if (id >= vocab->n_tokens) {
        return graft_fail(GRAFT_E_FORMAT, "%s: key %s is %u, the vocabulary has tokens 0 to %u", gguf->path, name, id,
                          vocab->n_tokens - 1);
    }
    *out = (int32_t)id;
    return GRAFT_OK;
}

// The byte of "<0x0A>", or -1.
static int byte_of_text(const char *text, uint32_t length)
{
    static const char digits[] = "0123456789ABCDEF";
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') {
        return -1;
    }
    const char *high = memchr(digits, text[3], 16), *low = memchr(digits, text[4], 16);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

static enum graft_status read_types(struct graft_vocab *vocab, const struct graft_gguf *gguf)
{
    const struct graft_gguf_key *types, *scores;
    GRAFT_TRY(find_long_array(gguf, "tokenizer.ggml.token_type", vocab->n_tokens, &types));
    GRAFT_TRY(find_long_array(gguf, "tokenizer.ggml.scores", vocab->n_tokens, &scores));
    if (!scores && (vocab->model == GRAFT_VOCAB_SPM || vocab->model == GRAFT_VOCAB_UNIGRAM)) {
        return graft_fail(GRAFT_E_FORMAT, "%s: key tokenizer.ggml.scores is missing: model %s goes by scores", gguf->path,
                          vocab->model == GRAFT_VOCAB_SPM ? "llama" : "t5");
    }
    for (uint32_t i = 0; i < vocab->n_tokens; i++) {
        struct graft_token *token = &vocab->tokens[i];
        const char *text = vocab->texts + token->text;
        token->type = GRAFT_TOKEN_NORMAL;
        if (types) {
            int64_t type;
            GRAFT_TRY(graft_gguf_item_i64(gguf, types, i, &type));
            if (type < 0 || type >= GRAFT_TOKEN_TYPES) {
                return graft_fail(GRAFT_E_FORMAT,
                                  "%s: key tokenizer.ggml.token_type: item %u is %" PRId64 ", types are 0 to %d", gguf->path, i,
                                  type, GRAFT_TOKEN_TYPES - 1);
            }
            token->type = (uint8_t)type;
        } else if (vocab->model == GRAFT_VOCAB_SPM && byte_of_text(text, token->text_bytes) >= 0) {
            token->type = GRAFT_TOKEN_BYTE;
        }
        if (scores) {
            double score;
            GRAFT_TRY(graft_gguf_item_f64(gguf, scores, i, &score));
            if (isnan(score)) {
                return graft_fail(GRAFT_E_FORMAT, "%s: key tokenizer.ggml.scores: item %u is not a number", gguf->path, i);
            }
            token->score = (float)score;
        }
        // Converters mark some control tokens as user-defined or normal: user text must never become one.
        bool looks = looks_like_control(text, token->text_bytes);
        if (looks &&
            (token->type == GRAFT_TOKEN_USER || (token->type == GRAFT_TOKEN_NORMAL && names_an_end(text, token->text_bytes)))) {
            token->type = GRAFT_TOKEN_CONTROL;
        }
        token->end = token->type == GRAFT_TOKEN_CONTROL && names_an_end(text, token->text_bytes);
    }
    return GRAFT_OK;
}

// T5 ends a text with EOS, BERT with [SEP], unless the file says otherwise.
static enum graft_status read_last(struct graft_vocab *vocab, const struct graft_gguf *gguf)
{
    bool add = false;
    vocab->last = GRAFT_NO_TOKEN;
    if (vocab->model == GRAFT_VOCAB_UNIGRAM) {
        GRAFT_TRY(graft_gguf_bool_or(gguf, "tokenizer.ggml.add_eos_token", true, &add));
        vocab->last = add ? vocab->eos : GRAFT_NO_TOKEN;
    } else if (vocab->model == GRAFT_VOCAB_WORDPIECE) {
        GRAFT_TRY(graft_gguf_bool_or(gguf, "tokenizer.ggml.add_sep_token", true, &add));
        if (add) {
            return read_id(vocab, gguf, "tokenizer.ggml.seperator_token_id", &vocab->last); // spelled so in the specification
        }
    }
    return GRAFT_OK;
}

static enum graft_status read_ids(struct graft_vocab *vocab, const struct graft_gguf *gguf)
{
    int32_t eot, eom;
    GRAFT_TRY(read_id(vocab, gguf, "tokenizer.ggml.bos_token_id", &vocab->bos));
    GRAFT_TRY(read_id(vocab, gguf, "tokenizer.ggml.eos_token_id", &vocab->eos));
    GRAFT_TRY(read_id(vocab, gguf, "tokenizer.ggml.unknown_token_id", &vocab->unknown));
    if (vocab->model == GRAFT_VOCAB_WORDPIECE && vocab->bos == GRAFT_NO_TOKEN) {
        GRAFT_TRY(read_id(vocab, gguf, "tokenizer.ggml.cls_token_id", &vocab->bos));
    }
    for (uint32_t i = 0; i < vocab->n_tokens && vocab->unknown == GRAFT_NO_TOKEN; i++) {
        vocab->unknown =
            vocab->model >= GRAFT_VOCAB_UNIGRAM && vocab->tokens[i].type == GRAFT_TOKEN_UNKNOWN ? (int32_t)i : GRAFT_NO_TOKEN;
    }
    GRAFT_TRY(read_last(vocab, gguf));
    GRAFT_TRY(read_id(vocab, gguf, "tokenizer.ggml.eot_token_id", &eot));
    GRAFT_TRY(read_id(vocab, gguf, "tokenizer.ggml.eom_token_id", &eom));
    const int32_t ends[] = {vocab->eos, eot, eom};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        if (ends[i] != GRAFT_NO_TOKEN) {
            vocab->tokens[ends[i]].end = true;
        }
    }
    if (!graft_gguf_find(gguf, "tokenizer.ggml.token_type") && vocab->model == GRAFT_VOCAB_SPM) {
        const int32_t controls[] = {vocab->bos, vocab->eos};
        for (size_t i = 0; i < sizeof controls / sizeof *controls; i++) {
            if (controls[i] != GRAFT_NO_TOKEN) {
                vocab->tokens[controls[i]].type = GRAFT_TOKEN_CONTROL;
            }
        }
        if (vocab->unknown != GRAFT_NO_TOKEN) {
            vocab->tokens[vocab->unknown].type = GRAFT_TOKEN_UNKNOWN;
        }
    }
    // Text without a token may become the unknown token, but never a control token that a file names as unknown.
    // BERT's [UNK] is one.
    if (vocab->unknown != GRAFT_NO_TOKEN && vocab->tokens[vocab->unknown].type == GRAFT_TOKEN_CONTROL &&
        vocab->model != GRAFT_VOCAB_WORDPIECE) {
        vocab->unknown = GRAFT_NO_TOKEN;
    }
    return GRAFT_OK;
}

static enum graft_status read_merges(struct graft_vocab *vocab, const struct graft_gguf *gguf)
{
    static const char name[] = "tokenizer.ggml.merges";
    const struct graft_gguf_key *key;
    GRAFT_TRY(find_array(gguf, name, true, &key));
    if (!key) {
        return graft_fail(GRAFT_E_FORMAT, "%s: key %s is missing: model gpt2 merges by rank", gguf->path, name);
    }
    if (key->count > GRAFT_GGUF_MAX_ARRAY) {
        return graft_fail(GRAFT_E_LIMIT, "%s: key %s has %" PRIu64 " items, at most %d are supported", gguf->path, name,
                          key->count, GRAFT_GGUF_MAX_ARRAY);
    }
    uint64_t slots = 16;
    while (slots < 2 * key->count) {
        slots *= 2;
    }
    GRAFT_TRY(GRAFT_NEW(vocab->ctx, GRAFT_MEM_HOST, &vocab->merges, slots, "the vocabulary's merges"));
    vocab->merge_mask = slots - 1;
    for (uint64_t i = 0; i < slots; i++) {
        vocab->merges[i].left = GRAFT_NO_TOKEN;
    }
    uint64_t cursor = 0;
    for (uint32_t rank = 0; rank < key->count; rank++) {
        struct graft_text text;
        GRAFT_TRY(graft_gguf_next_text(gguf, key, &cursor, &text));
        const char *space = text.length > 2 ? memchr(text.data + 1, ' ', (size_t)text.length - 2) : NULL;
        char joined[2 * GRAFT_VOCAB_MAX_TOKEN_BYTES];
        struct graft_merge merge = {.left = GRAFT_NO_TOKEN, .right = GRAFT_NO_TOKEN, .joined = GRAFT_NO_TOKEN, .rank = rank};
        if (space && text.length - 1 <= vocab->longest_token) {
            uint64_t left = (uint64_t)(space - text.data), right = text.length - left - 1;
            memcpy(joined, text.data, (size_t)left);
            memcpy(joined + left, space + 1, (size_t)right);
            merge.left = graft_vocab_find(vocab, joined, left);
            merge.right = graft_vocab_find(vocab, space + 1, right);
            merge.joined = graft_vocab_find(vocab, joined, left + right);
        }
        if (merge.left == GRAFT_NO_TOKEN || merge.right == GRAFT_NO_TOKEN || merge.joined == GRAFT_NO_TOKEN) {
            return graft_fail(GRAFT_E_FORMAT, "%s: key %s: item %u \"%.*s\" must be two tokens that together are a token",
                              gguf->path, name, rank, (int)(text.length < 64 ? text.length : 64), text.data);
        }
        if (!graft_vocab_is_plain(vocab, merge.joined)) {
            graft_log(vocab->ctx, GRAFT_LOG_WARN, "%s: merge %u makes the control token %d; it is left out", gguf->path, rank,
                      merge.joined);
            continue;
        }
        uint64_t pair = (uint64_t)(uint32_t)merge.left << 32 | (uint32_t)merge.right;
        uint64_t slot = graft_hash_mix(pair * 0x9e3779b97f4a7c15u) & vocab->merge_mask;
        bool known = false; // the first of equal pairs counts
        for (uint32_t tries = 0; vocab->merges[slot].left != GRAFT_NO_TOKEN && !known; slot = (slot + 1) & vocab->merge_mask) {
            known = vocab->merges[slot].left == merge.left && vocab->merges[slot].right == merge.right;
            if (++tries > GRAFT_VOCAB_MAX_PROBES) {
                return graft_fail(GRAFT_E_LIMIT, "%s: key %s: too many merges fall on one place of the index (item %u)",
                                  gguf->path, name, rank);
            }
        }
        if (!known) {
            vocab->merges[slot] = merge;
        }
    }
    return GRAFT_OK;
}

// What a token looks like in output; never longer than its text.
static enum graft_status make_pieces(struct graft_vocab *vocab, const struct graft_gguf *gguf)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < vocab->n_tokens; i++) {
        struct graft_token *token = &vocab->tokens[i];
        const char *text = vocab->texts + token->text;
        bool raw = token->type == GRAFT_TOKEN_CONTROL || token->type == GRAFT_TOKEN_UNKNOWN ||
                   (token->type == GRAFT_TOKEN_USER && vocab->model == GRAFT_VOCAB_BPE);
        token->piece = at;
        if (token->type == GRAFT_TOKEN_BYTE) {
            int byte = byte_of_text(text, token->text_bytes);
            if (byte < 0) {
                return graft_fail(GRAFT_E_FORMAT,
                                  "%s: key tokenizer.ggml.tokens: byte token %u is \"%.*s\", not like \"<0x0A>\"", gguf->path,
                                  i, (int)(token->text_bytes < 64 ? token->text_bytes : 64), text);
            }
            vocab->pieces[at++] = (char)byte;
            vocab->byte_token[byte] = vocab->model != GRAFT_VOCAB_BPE ? (int32_t)i : vocab->byte_token[byte];
        } else if (raw) {
            memcpy(vocab->pieces + at, text, token->text_bytes);
            at += token->text_bytes;
        } else {
            for (uint32_t k = 0; k < token->text_bytes;) {
                uint32_t character;
                uint32_t n = graft_utf8_decode(text + k, &character);
                int byte = vocab->model == GRAFT_VOCAB_BPE ? graft_char_to_byte(character) : character == 0x2581 ? ' ' : -1;
                if (byte >= 0) {
                    vocab->pieces[at++] = (char)byte;
                } else {
                    memcpy(vocab->pieces + at, text + k, n);
                    at += n;
                }
                k += n;
            }
        }
        token->piece_bytes = at - token->piece;
    }
    return GRAFT_OK;
}

static void add_length(struct graft_special_lengths *lengths, uint32_t length)
{
    lengths->has[length / 64] |= (uint64_t)1 << length % 64;
    lengths->longest = length > lengths->longest ? length : lengths->longest;
}

// Unigram and WordPiece try every token that a text begins with: their lengths by first byte.
static enum graft_status index_plain(struct graft_vocab *vocab, const struct graft_gguf *gguf)
{
    GRAFT_TRY(GRAFT_NEW(vocab->ctx, GRAFT_MEM_HOST, &vocab->plain_lengths, 256, "the vocabulary's lengths"));
    for (uint32_t i = 0; i < vocab->n_tokens; i++) {
        const struct graft_token *token = &vocab->tokens[i];
        if (token->text_bytes == 0 || !graft_vocab_is_plain(vocab, (int32_t)i)) {
            continue;
        }
        if (token->text_bytes > GRAFT_VOCAB_MAX_SPECIAL_BYTES) {
            return graft_fail(GRAFT_E_LIMIT,
                              "%s: key tokenizer.ggml.tokens: token %u has %u bytes, in this model at most %d are supported",
                              gguf->path, i, token->text_bytes, GRAFT_VOCAB_MAX_SPECIAL_BYTES);
        }
        add_length(&vocab->plain_lengths[(uint8_t)vocab->texts[token->text]], token->text_bytes);
        bool normal = token->type != GRAFT_TOKEN_USER;
        vocab->least_score = normal && token->score < vocab->least_score ? token->score : vocab->least_score;
    }
    return GRAFT_OK;
}

static void index_specials(struct graft_vocab *vocab)
{
    for (uint32_t i = 0; i < vocab->n_tokens; i++) {
        const struct graft_token *token = &vocab->tokens[i];
        uint32_t length = token->text_bytes;
        bool user = token->type == GRAFT_TOKEN_USER;
        bool special = user || token->type == GRAFT_TOKEN_CONTROL || token->type == GRAFT_TOKEN_UNKNOWN;
        if (!special || length == 0 || length > GRAFT_VOCAB_MAX_SPECIAL_BYTES) {
            continue;
        }
        for (uint32_t set = user ? 0 : 1; set < 2; set++) {
            add_length(&vocab->specials[set][(uint8_t)vocab->texts[token->text]], length);
        }
    }
}

static enum graft_status read_family(struct graft_vocab *vocab, const struct graft_gguf *gguf)
{
    struct graft_text model, pre;
    GRAFT_TRY(graft_gguf_text(gguf, "tokenizer.ggml.model", &model));
    if (text_is(model.data, model.length, "llama")) {
        vocab->model = GRAFT_VOCAB_SPM;
        const struct graft_gguf_key *charsmap = graft_gguf_find(gguf, "tokenizer.ggml.precompiled_charsmap");
        if (charsmap && charsmap->count > 0) {
            return graft_fail(GRAFT_E_UNSUPPORTED,
                              "%s: key tokenizer.ggml.precompiled_charsmap: model llama with a character map is not supported",
                              gguf->path);
        }
        vocab->add_bos = vocab->add_space_prefix = true;
        return GRAFT_OK;
    }
    if (text_is(model.data, model.length, "t5")) {
        vocab->model = GRAFT_VOCAB_UNIGRAM;
        vocab->add_space_prefix = true;
        GRAFT_TRY(graft_gguf_bool_or(gguf, "tokenizer.ggml.remove_extra_whitespaces", false, &vocab->remove_extra_spaces));
        return graft_charsmap_read(vocab, gguf);
    }
    if (text_is(model.data, model.length, "bert")) {
        vocab->model = GRAFT_VOCAB_WORDPIECE;
        vocab->add_bos = vocab->add_space_prefix = true;
        GRAFT_TRY(graft_gguf_bool_or(gguf, "tokenizer.ggml.normalizer.lowercase", true, &vocab->lowercase));
        return graft_gguf_bool_or(gguf, "tokenizer.ggml.normalizer.strip_accents", vocab->lowercase, &vocab->strip_accents);
    }
    if (!text_is(model.data, model.length, "gpt2")) {
        return graft_fail(
            GRAFT_E_UNSUPPORTED,
            "%s: tokenizer.ggml.model is \"%.*s\"; supported are gpt2 (byte-level BPE), llama (SentencePiece BPE), t5 "
            "(Unigram) and bert (WordPiece)",
            gguf->path, (int)(model.length < 64 ? model.length : 64), model.data);
    }
    vocab->model = GRAFT_VOCAB_BPE;
    GRAFT_TRY(graft_gguf_text_or_none(gguf, "tokenizer.ggml.pre", &pre));
    enum graft_status status =
        graft_pretokenizer_create(vocab->ctx, &vocab->pretokenizer, pre.data ? pre.data : "", pre.data ? pre.length : 0);
    if (status != GRAFT_OK) {
        return graft_fail_prefix(status, "%s", gguf->path);
    }
    vocab->add_bos = graft_pretokenizer_adds_bos(vocab->pretokenizer);
    return GRAFT_OK;
}

enum graft_status graft_vocab_load(struct graft_vocab *vocab, const struct graft_gguf *gguf)
{
    for (uint32_t b = 0; b < 256; b++) {
        vocab->byte_token[b] = GRAFT_NO_TOKEN;
    }
    GRAFT_TRY(read_family(vocab, gguf));
    GRAFT_TRY(graft_gguf_bool_or(gguf, "tokenizer.ggml.add_bos_token", vocab->add_bos, &vocab->add_bos));
    if (vocab->model == GRAFT_VOCAB_SPM || vocab->model == GRAFT_VOCAB_UNIGRAM) {
        GRAFT_TRY(
            graft_gguf_bool_or(gguf, "tokenizer.ggml.add_space_prefix", vocab->add_space_prefix, &vocab->add_space_prefix));
    }
    GRAFT_TRY(read_texts(vocab, gguf));
    GRAFT_TRY(index_texts(vocab, gguf));
    GRAFT_TRY(read_types(vocab, gguf));
    GRAFT_TRY(read_ids(vocab, gguf));
    if (vocab->model == GRAFT_VOCAB_BPE) {
        GRAFT_TRY(read_merges(vocab, gguf));
        for (uint32_t b = 0; b < 256; b++) {
            char text[4];
            uint32_t n = graft_utf8_encode(graft_byte_to_char((uint8_t)b), text);
            int32_t id = graft_vocab_find(vocab, text, n);
            vocab->byte_token[b] = id != GRAFT_NO_TOKEN && graft_vocab_is_plain(vocab, id) ? id : GRAFT_NO_TOKEN;
        }
    }
    if (vocab->model >= GRAFT_VOCAB_UNIGRAM) {
        GRAFT_TRY(index_plain(vocab, gguf));
    }
    GRAFT_TRY(make_pieces(vocab, gguf));
    index_specials(vocab);
    return GRAFT_OK;
}
