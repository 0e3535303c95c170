// SPDX-License-Identifier: Apache-2.0
// WordPiece vocabularies (BERT): words by spaces and punctuation, each cut greedily into the longest tokens.
// Source: Devlin et al. 2018, the published tokenization.py. GGUF stores the tokens the other way round: a word's first token
// begins with U+2581, those that continue a word have no "##".
#include <string.h>
#include <utf8proc.h>

#include "platform/bytes.h"
#include "runtime/text/vocab_private.h"

#define SPACE_MARK "\xe2\x96\x81" // U+2581
enum {
    SPACE_MARK_BYTES = 3,
    MAX_WORD_CHARACTERS = 100, // longer words are unknown
    WORD_BYTES = SPACE_MARK_BYTES + 4 * MAX_WORD_CHARACTERS,
    MAX_PARTS = 18 // characters that one decomposes into; more than Unicode has
};

// The word being put together.
struct word {
    char text[WORD_BYTES + 4];
    uint32_t bytes, characters;
};

static bool is_ideograph(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static bool is_space(uint32_t c)
{
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

static bool is_other(utf8proc_category_t category)
{
    return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CN ||
           category == UTF8PROC_CATEGORY_CO || category == UTF8PROC_CATEGORY_CS;
}

static bool is_punctuation(uint32_t c)
{
    if (c < 0x80) {
        return (c >= 0x21 && c <= 0x2f) || (c >= 0x3a && c <= 0x40) || (c >= 0x5b && c <= 0x60) || (c >= 0x7b && c <= 0x7e);
    }
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)c);
    return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

// Cut the word and begin a new one. A word of which some part has no token is one unknown token.
static void end_word(struct graft_tokenizing *work, struct word *word)
{
    const struct graft_vocab *vocab = work->vocab;
    uint64_t before = work->count;
    bool good = word->characters <= MAX_WORD_CHARACTERS;
    for (uint32_t at = 0; good && word->characters > 0 && at < word->bytes;) {
        const struct graft_special_lengths *lengths = &vocab->plain_lengths[(uint8_t)word->text[at]];
        uint32_t left = word->bytes - at, most = lengths->longest < left ? lengths->longest : left, longest = 0;
        int32_t found = GRAFT_NO_TOKEN;
        uint64_t hash = GRAFT_HASH_START;
        for (uint32_t n = 1; n <= most; n++) {
            hash = graft_hash_byte(hash, (uint8_t)word->text[at + n - 1]);
            int32_t id =
                lengths->has[n / 64] >> n % 64 & 1 ? graft_vocab_find_hashed(vocab, word->text + at, n, hash) : GRAFT_NO_TOKEN;
            // The mark alone is no beginning of a word.
            if (id != GRAFT_NO_TOKEN && graft_vocab_is_plain(vocab, id) && (at > 0 || n > SPACE_MARK_BYTES)) {
                found = id;
                longest = n;
            }
        }
        good = found != GRAFT_NO_TOKEN;
        if (good) {
            graft_tokenizing_put(work, found);
            at += longest;
        }
    }
    if (!good) {
        work->count = before; // ids behind it are written anew
        if (vocab->unknown != GRAFT_NO_TOKEN) {
            graft_tokenizing_put(work, vocab->unknown);
        }
    }
    word->bytes = SPACE_MARK_BYTES;
    word->characters = 0;
}

static void add_character(struct graft_tokenizing *work, struct word *word, uint32_t c)
{
    if (is_space(c)) {
        end_word(work, word);
        return;
    }
    bool alone = is_punctuation(c);
    if (alone) {
        end_word(work, word);
    }
    if (word->characters < MAX_WORD_CHARACTERS) {
        word->bytes += graft_utf8_encode(c, word->text + word->bytes);
    }
    word->characters++;
    if (alone) {
        end_word(work, word);
    }
}

// A character with its accents stripped and in lower case, as the vocabulary asks for it.
static void add_normalized(struct graft_tokenizing *work, struct word *word, uint32_t c)
{
    utf8proc_int32_t parts[MAX_PARTS] = {(utf8proc_int32_t)c};
    utf8proc_ssize_t n = 1;
    if (work->vocab->strip_accents) {
        int boundary = 0;
        n = utf8proc_decompose_char((utf8proc_int32_t)c, parts, MAX_PARTS, UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &boundary);
        if (n < 1 || n > MAX_PARTS) {
            parts[0] = (utf8proc_int32_t)c;
            n = 1;
        }
    }
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        uint32_t part = (uint32_t)parts[i];
        if (work->vocab->strip_accents && utf8proc_category(parts[i]) == UTF8PROC_CATEGORY_MN) {
            continue;
        }
        if (!work->vocab->lowercase) {
            add_character(work, word, part);
        } else if (part == 0x130) { // the one character whose small form is two
            add_character(work, word, 'i');
            add_character(work, word, 0x307);
        } else {
            add_character(work, word, (uint32_t)utf8proc_tolower(parts[i]));
        }
    }
}

enum graft_status graft_wordpiece_tokenize(struct graft_tokenizing *work, const char *text, uint64_t length)
{
    struct word word = {.text = SPACE_MARK, .bytes = SPACE_MARK_BYTES};
    for (uint64_t i = 0; i < length;) {
        uint32_t c;
        i += graft_utf8_decode(text + i, &c);
        if (is_space(c)) {
            end_word(work, &word);
        } else if (c == 0 || c == 0xfffd || is_other(utf8proc_category((utf8proc_int32_t)c))) {
            continue;
        } else if (is_ideograph(c)) {
            end_word(work, &word);
            add_normalized(work, &word, c);
            end_word(work, &word);
        } else {
            add_normalized(work, &word, c);
        }
    }
    end_word(work, &word);
    return GRAFT_OK;
}
