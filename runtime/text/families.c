// SPDX-License-Identifier: Apache-2.0
// Pre-tokenizer families as data.
//
// The expressions are the published ones of each family's tokenizer: OpenAI's GPT-2 encoder and its o200k_base (tiktoken),
// the pre_tokenizer section of the tokenizer.json of the others, the pat_str of their tokenizer scripts where they have none
// (GLM-4: tokenization_chatglm.py, Kimi K2: tokenization_kimi.py). Five changes keep every result:
// - \s is written as the characters of the Unicode property White_Space, because PCRE2's \s also has U+180E;
// - runs that an expression gives back only to fail are possessive or anchored, so that time stays linear;
// - Oniguruma's intersections (&&) and sets within sets are written out;
// - a pre-tokenizer "Digits" is \p{N} or \p{N}+, "Punctuation" a class, the regular expression of "ByteLevel" is GPT-2's;
// - special tokens that an expression repeats (Chameleon's images) are cut out of the text before.
// Form C is applied where the tokenizer asks for it: Qwen 2 and 3.5, Cohere's, GPT-NeoX's (MPT, OLMo).
#include "runtime/text/families.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MORE_SPACES "\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define SPACE_CHARS "\\x09-\\x0d" MORE_SPACES
#define SPACE       "[" SPACE_CHARS "]"
#define NO_SPACE    "[^" SPACE_CHARS "]"
// The last spaces before a word stay with it, save one.
#define SPACES_LAST "|" SPACE "+(?!" NO_SPACE ")|" SPACE "+"
#define LINES       "|" SPACE "*[\\r\\n]+" SPACES_LAST

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define GPT2        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" SPACE_CHARS "\\p{L}\\p{N}]+" SPACES_LAST
#define SIGNS       " ?[^" SPACE_CHARS "\\p{L}\\p{N}]+"
#define WORD        "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
// Llama 3 and Qwen 2 differ in how many digits go together.
#define LLAMA3(digits) CONTRACTION "|" WORD "|" digits "|" SIGNS "[\\r\\n]*" LINES

// Words that begin with capitals and end with small letters; letters without case, and marks, count as both. Of GPT-4o and
// later.
#define CAPITALS "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define SMALLS   "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define CASED(capitals, smalls, suffix)                                                                                        \
    "[^\\r\\n\\p{L}\\p{N}]?" capitals "*" smalls "+" suffix "|[^\\r\\n\\p{L}\\p{N}]?" capitals "+" smalls "*" suffix
#define O200K(suffix, digits) CASED("[" CAPITALS "]", "[" SMALLS "]", suffix) "|" digits "|" SIGNS "[\\r\\n/]*" LINES

// The script property, not the script extensions that \p{Han} means from PCRE2 10.40 on.
#if PCRE2_MAJOR > 10 || PCRE2_MINOR >= 40
#define HAN "\\p{sc:Han}"
#else
#define HAN "\\p{Han}"
#endif
#define NEITHER "\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}" HAN

// Words of BLOOM and the Finnish models: everything but spaces and punctuation of the languages it was trained on.
#define BLOOM " ?[^(" SPACE_CHARS "|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"

#define CJK_KANA "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+"
#define CJK      "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
#define DEEPSEEK3                                                                                                              \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "                      \
    "?[\\p{P}\\p{S}]+[\\r\\n]*" LINES
// Groups of three digits counted from the right, unless a word goes on behind them. Published as \d{1,3}(?=(?:\d{3})*\b); here
// the run is looked through once, at its beginning.
#define WORD_CHARS                                                                                                             \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\xb2\\xb3\\xb9\\xbc-\\xbe\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}" \
    "\\x{1f170}-\\x{1f189}"
#define THOUSANDS "\\G(?<=\\p{Nd})\\p{Nd}{3}|(?<!\\p{Nd})\\p{Nd}{1,3}(?=(?:\\p{Nd}{3})*+(?![" WORD_CHARS "]))"
// Runs of spaces in powers of two. Behind one of them no line end follows in the same run: then the run is not looked through.
#define JAIS2                                                                                                                  \
    CONTRACTION "|" WORD "|\\p{N}{1,3}|" SIGNS "[\\r\\n]*|(?<![\\x09\\x0b\\x0c" MORE_SPACES "])" SPACE "*[\\r\\n]+|" SPACE     \
                "{512}(?!" NO_SPACE ")|" SPACE "{256}(?!" NO_SPACE ")|" SPACE "{128}(?!" NO_SPACE ")|" SPACE                   \
                "{64}(?!" NO_SPACE ")|" SPACE "{32}(?!" NO_SPACE ")|" SPACE "{16}(?!" NO_SPACE ")|" SPACE "{8}(?!" NO_SPACE    \
                ")|" SPACE "{4}(?!" NO_SPACE ")|" SPACE "{1,2}(?!" NO_SPACE ")|" SPACE
// Cased letters as DeepSeek's tokenizer lists them.
#define DEEPSEEK_LETTERS                                                                                                       \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}"           \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"             \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}"               \
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}"       \
    "\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}"        \
    "\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}"        \
    "\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}"        \
    "\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}"         \
    "\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}"         \
    "\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}"        \
    "\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}"       \
    "\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}"                \
    "\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"

const struct graft_family graft_families[] = {
    {.names = {"gpt-2", "phi-2", "jais", "gigachat", "trillion", "granite-docling", "exaone4", "a.x-4.0", "mellum"},
     .stages = {GPT2}},
    {.names = {"mpt", "olmo"}, .stages = {GPT2}, .normalizes = true},
    {.names = {"smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"}, .stages = {"\\p{N}", GPT2}},
    {.names = {"command-r"}, .stages = {"\\p{N}", GPT2}, .normalizes = true},
    {.names = {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "jina-v5-nano"},
     .stages = {LLAMA3("\\p{N}{1,3}")},
     .ignores_merges = true,
     .adds_bos = true},
    {.names = {"dbrx", "smaug-bpe", "chatglm-bpe", "glm4"}, .stages = {LLAMA3("\\p{N}{1,3}")}},
    {.names = {"minicpm5"}, .stages = {"\\p{N}{1,3}", LLAMA3("\\p{N}+")}, .ignores_merges = true},
    {.names = {"jais-2"}, .stages = {JAIS2}},
    {.names = {"qwen2"}, .stages = {LLAMA3("\\p{N}")}, .normalizes = true},
    {.names = {"deepseek-r1-qwen", "stablelm2", "megrez", "kormo", "f2llmv2", "hunyuan", "grok-2", "solar-open"},
     .stages = {LLAMA3("\\p{N}")}},
    {.names = {"qwen35"},
     .stages = {CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" SPACE_CHARS
                            "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" LINES},
     .normalizes = true},
    {.names = {"bailingmoe", "bailingmoe2", "llada-moe"},
     .stages = {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^" SPACE_CHARS "\\p{L}\\p{N}]++[\\r\\n]*|" SPACE
                "*[\\r\\n]" SPACES_LAST}},
    {.names = {"seed-coder"}, .stages = {CONTRACTION "|" WORD "|\\p{N}| ?[^" SPACE_CHARS "\\p{L}\\p{N}\\r\\n]+" LINES}},
    {.names = {"exaone-moe"},
     .stages = {CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*+(?: \\p{L}\\p{M}*+)*+)++|\\p{N}|" SIGNS "[\\r\\n/]?|" SPACE
                            "*[\\r\\n]" SPACES_LAST}},
    {.names = {"tekken"}, .stages = {O200K("", "\\p{N}")}, .ignores_merges = true, .adds_bos = true},
    {.names = {"gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"}, .stages = {O200K(CONTRACTION "?", "\\p{N}{1,3}")}},
    {.names = {"tiny_aya", "cohere2moe"}, .stages = {THOUSANDS, O200K(CONTRACTION "?", "\\p{N}{1,3}")}},
    {.names = {"youtu"},
     .stages = {"[\\x{ac00}-\\x{d7a3}\\x{3131}-\\x{318e}]+|[\\x{ff01}\\x{2026}\\x{201c}\\x{201d}\\x{2018}\\x{2019}\\x{2014}"
                "\\x{ff1a}\\x{ff1b}\\x{ff0c}\\x{3001}-\\x{303f}\\x{fe30}-\\x{fe4f}]+|[\\x{3105}-\\x{312f}]+|" CJK_KANA,
                O200K(CONTRACTION "?", "\\p{N}")},
     .ignores_merges = true},
    {.names = {"kimi-k2"},
     .stages = {HAN "+|" CASED("[^\\p{Ll}" NEITHER "]", "[^\\p{Lu}\\p{Lt}" NEITHER "]", CONTRACTION "?") "|\\p{N}{1,3}|" SIGNS
                                                                                                         "[\\r\\n]*" LINES}},
    {.names = {"falcon"}, .stages = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {.names = {"deepseek-llm"},
     .stages = {"[\\r\\n]", SPACE "?[" DEEPSEEK_LETTERS "]+",
                SPACE "?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
                "(?<!" SPACE ")" SPACE "++\\z", CJK, "\\p{N}+"}},
    {.names = {"deepseek-coder"}, .stages = {"[\\r\\n]", SPACE "?\\p{L}+", SPACE "?\\p{P}+", CJK, "\\p{N}"}},
    {.names = {"deepseek-v3", "hunyuan-dense", "joyai-llm"}, .stages = {"\\p{N}{1,3}", CJK_KANA, DEEPSEEK3}},
    {.names = {"poro-chat", "bloom", "gpt3-finnish"}, .stages = {BLOOM}},
    {.names = {"viking"}, .stages = {BLOOM, "\\p{N}"}},
    {.names = {"chameleon"}, .stages = {"[\\t\\n]|    |  ", "\\p{N}", "[\\p{P}!-/:-@\\[-`{-~]", GPT2}, .adds_bos = true},
};
const size_t graft_n_families = sizeof graft_families / sizeof *graft_families;
