// SPDX-License-Identifier: Apache-2.0
// The inside of a vocabulary, shared by the files of runtime/text that load it, split text and join symbols.
#ifndef GRAFT_RUNTIME_TEXT_VOCAB_PRIVATE_H
#define GRAFT_RUNTIME_TEXT_VOCAB_PRIVATE_H

#include "runtime/text/pretokenize.h"
#include "runtime/text/vocab.h"

enum {
    GRAFT_VOCAB_MAX_TOKEN_BYTES = 16384, // of one stored token
    GRAFT_VOCAB_MAX_SPECIAL_BYTES = 255, // longer special tokens are never looked for in text
    GRAFT_VOCAB_MAX_PROBES = 512,        // slots tried in a hash table: a file made to collide is refused
    GRAFT_TOKENIZE_MAX_BYTES = 64 << 20  // of one text
};

enum graft_vocab_model { GRAFT_VOCAB_BPE, GRAFT_VOCAB_SPM, GRAFT_VOCAB_UNIGRAM, GRAFT_VOCAB_WORDPIECE };

// Numbers are those of tokenizer.ggml.token_type.
enum graft_token_type {
    GRAFT_TOKEN_UNDEFINED,
    GRAFT_TOKEN_NORMAL,
    GRAFT_TOKEN_UNKNOWN,
    GRAFT_TOKEN_CONTROL,
    GRAFT_TOKEN_USER,
    GRAFT_TOKEN_UNUSED,
    GRAFT_TOKEN_BYTE,
    GRAFT_TOKEN_TYPES
};

struct graft_token {
    uint32_t text, text_bytes;   // as stored in the file: vocab->texts + text
    uint32_t piece, piece_bytes; // as it appears in output: vocab->pieces + piece
    float score;                 // SentencePiece: higher merges first; Unigram: log-probability
    uint8_t type;                // enum graft_token_type
    bool end;                    // ends a turn
};

// "left right" of tokenizer.ggml.merges: joining two neighbours gives `joined`; the lowest rank goes first.
struct graft_merge {
    int32_t left, right, joined; // left is GRAFT_NO_TOKEN in a free slot
    uint32_t rank;
};

// Lengths (1 to 255) of the special tokens that begin with one byte.
struct graft_special_lengths {
    uint64_t has[4];
    uint32_t longest; // 0 = none
};

// SentencePiece's precompiled character map (charsmap.c); zero = none.
struct graft_charsmap {
    uint8_t *bytes;
    uint32_t n_units, texts, n_texts; // units of the trie, behind bytes[4]; offset and size of the replacements
};

struct graft_vocab {
    struct graft_ctx *ctx;
    enum graft_vocab_model model;
    uint32_t n_tokens;
    struct graft_token *tokens;
    char *texts, *pieces;
    uint32_t *slots; // open addressing: id + 1, 0 = free
    uint64_t slot_mask;
    struct graft_merge *merges; // open addressing by (left, right)
    uint64_t merge_mask;
    int32_t byte_token[256];                       // token of a single byte, or GRAFT_NO_TOKEN
    uint32_t longest_token;                        // bytes
    struct graft_special_lengths specials[2][256]; // [0] found always (user-defined), [1] found with options.special too
    struct graft_special_lengths *plain_lengths;   // [256] Unigram and WordPiece: of the tokens that text may become
    struct graft_pretokenizer *pretokenizer;       // BPE only
    struct graft_charsmap charsmap;                // Unigram only
    float least_score;                             // Unigram: of the normal tokens
    int32_t bos, eos, unknown, last;               // last: put behind a text, EOS of T5, [SEP] of BERT
    bool add_bos, add_space_prefix, remove_extra_spaces, lowercase, strip_accents;
};

// FNV-1a over the bytes so far; graft_vocab_slot_of spreads it over a table.
#define GRAFT_HASH_START 14695981039346656037u
static inline uint64_t graft_hash_byte(uint64_t hash, uint8_t byte)
{
    return (hash ^ byte) * 1099511628211u;
}
static inline uint64_t graft_hash_mix(uint64_t hash)
{
    hash ^= hash >> 32;
    hash *= 0xd6e8feb86659fd93u;
    return hash ^ hash >> 29;
}

// Id of the token with this text whose hash (graft_hash_byte over all bytes) is known; GRAFT_NO_TOKEN if absent.
int32_t graft_vocab_find_hashed(const struct graft_vocab *vocab, const char *text, uint64_t length, uint64_t hash);
// The merge of two neighbouring tokens, or NULL.
const struct graft_merge *graft_vocab_merge(const struct graft_vocab *vocab, int32_t left, int32_t right);
// True for tokens that plain text may become: not control, unknown, byte or unused ones.
static inline bool graft_vocab_is_plain(const struct graft_vocab *vocab, int32_t id)
{
    uint8_t type = vocab->tokens[id].type;
    return type == GRAFT_TOKEN_NORMAL || type == GRAFT_TOKEN_USER || type == GRAFT_TOKEN_UNDEFINED;
}

// The token of this text that plain text may become, or GRAFT_NO_TOKEN.
int32_t graft_vocab_find_plain(const struct graft_vocab *vocab, const char *text, uint64_t length);

// The byte-level alphabet of GPT-2: every byte is written as one printable character. Source: Radford et al. 2019,
// the published encoder's bytes_to_unicode.
uint32_t graft_byte_to_char(uint8_t byte);
// The byte a character stands for, or -1.
int graft_char_to_byte(uint32_t character);
// Decode the character at text[0..left) of valid UTF-8; returns its bytes (1 to 4).
uint32_t graft_utf8_decode(const char *text, uint32_t *character);
// Encode; returns the bytes written (1 to 4).
uint32_t graft_utf8_encode(uint32_t character, char out[4]);

// Fill tokens, tables and pieces (vocab_load.c).
GRAFT_MUST_CHECK enum graft_status graft_vocab_load(struct graft_vocab *vocab, const struct graft_gguf *gguf);

// One piece of a text while its neighbours are joined.
struct graft_symbol {
    uint32_t start, bytes;   // span in the text; bytes 0 = joined into its left neighbour
    uint32_t previous, next; // indices; UINT32_MAX at the ends
    int32_t id;              // GRAFT_NO_TOKEN: no token has this text
};
// Room and output of one call to graft_vocab_tokenize.
struct graft_tokenizing {
    const struct graft_vocab *vocab;
    int32_t *ids;
    uint64_t capacity, count;
    struct graft_symbol *symbols;
    // Possible joins of a symbol with its right neighbour, a heap: priority (lower first) << 32 | index of the symbol.
    uint64_t *joins;
    uint64_t room; // symbols; there is room for twice as many joins
    char *scratch; // text as SentencePiece sees it
    uint64_t scratch_room;
};

static inline void graft_tokenizing_put(struct graft_tokenizing *work, int32_t id)
{
    if (work->count < work->capacity) {
        work->ids[work->count] = id;
    }
    work->count++;
}
// Make room for `count` symbols; old content is lost.
GRAFT_MUST_CHECK enum graft_status graft_tokenizing_reserve(struct graft_tokenizing *work, uint64_t count);
// Join neighbours among symbols[0..count), whose start, bytes and id are set, until nothing more joins: always the join of
// lowest priority value, the leftmost one of equals. O(count log count). Symbol 0 stays the first of the list.
void graft_symbols_join(struct graft_tokenizing *work, uint64_t count, const char *text);
// May two neighbours be joined? Priority (lower goes first) and the token they become. One per family.
bool graft_bpe_pair(const struct graft_vocab *vocab, const struct graft_symbol *left, const struct graft_symbol *right,
                    uint32_t *priority, int32_t *id);
bool graft_spm_pair(const struct graft_vocab *vocab, const char *text, const struct graft_symbol *left,
                    const struct graft_symbol *right, uint32_t *priority, int32_t *id);

// Read tokenizer.ggml.precompiled_charsmap, if there is one (charsmap.c). Bounded: GRAFT_E_FORMAT, GRAFT_E_LIMIT.
GRAFT_MUST_CHECK enum graft_status graft_charsmap_read(struct graft_vocab *vocab, const struct graft_gguf *gguf);
// The longest beginning of text[0..left) that the map replaces: its bytes, and the replacement; 0 if there is none.
uint32_t graft_charsmap_at(const struct graft_charsmap *map, const char *text, uint64_t left, const char **out,
                           uint64_t *length);

// Put the tokens of the bytes of a text that has no token, or one unknown token where there are no byte tokens (spm.c).
void graft_spm_put_bytes(struct graft_tokenizing *work, const char *text, uint32_t length);

// Tokenize text without special tokens. `first`: nothing or a special token stands in front of it.
GRAFT_MUST_CHECK enum graft_status graft_bpe_tokenize(struct graft_tokenizing *work, const char *text, uint64_t length);
GRAFT_MUST_CHECK enum graft_status graft_spm_tokenize(struct graft_tokenizing *work, const char *text, uint64_t length,
                                                      bool first);
GRAFT_MUST_CHECK enum graft_status graft_unigram_tokenize(struct graft_tokenizing *work, const char *text, uint64_t length,
                                                          bool first);
GRAFT_MUST_CHECK enum graft_status graft_wordpiece_tokenize(struct graft_tokenizing *work, const char *text, uint64_t length);

#endif
