// SPDX-License-Identifier: Apache-2.0
// The two tables from which parsing, help, manual pages and completion come: verbs with examples, options with defaults.
#include "tools/options.h"

// clang-format off
const struct verb_info verb_infos[VERBS] = {
    [VERB_RUN] =
        {"run", "chat with a model, or answer one prompt", "[MODEL [PROMPT]]",
         {{"run", "chat with your model"},
         {"run -m model.gguf -p \"Why?\"", "one answer"},
         {"run -m model.gguf -f letter.txt --memory 2G", "prompt from a file"}},
         "Chats in the terminal: the answer streams, \"\"\" begins and ends a message of several lines, /help lists "
         "the commands, Ctrl-C stops the answer (twice: the program), Ctrl-D ends. With a prompt (-p, -f), or without "
         "a terminal, one answer is written to standard output and nothing else."},
    [VERB_BENCH] =
        {"bench", "measure prompt and generation speed", "",
         {{"bench -m model.gguf", "pp64 and tg32"},
         {"bench -m model.gguf -p 64,512 -n 16,128 -o json", "as JSON"},
         {"bench --synthetic llama-8b:q4_0 --stages", "no file needed"}},
         "Each prompt length (pp) and each generation length (tg) is a test of its own; repetitions of all tests are "
         "interleaved, after one run of each that is not counted. Rates are medians. The share of bandwidth is the "
         "bytes of weights read per second over what a kernel that only reads reaches on this device in the same run. "
         "Counters are per token."},
    [VERB_EVAL] =
        {"eval", "perplexity of a text, or log-probabilities of given tokens", "",
         {{"eval -m model.gguf -f wiki.txt", "perplexity"},
         {"eval -m model.gguf --tokens ids.json --top 20 --json", "log-probs"}},
         "Perplexity: the text is cut into pieces of the context's size (-c, 512), the second half of each is scored. "
         "With --tokens, FILE is {\"prompts\": {NAME: [ID, ...]}}; for each prompt come the most likely tokens after "
         "its last id, and the negative log-likelihood of every id but the first."},
    [VERB_ESTIMATE] =
        {"estimate", "memory a model will take, from its metadata alone", "",
         {{"estimate -m model.gguf -c 8192", "bytes by class"},
         {"estimate -m model.gguf -c 8192 --memory 2G", "does it fit?"}},
         "Nothing is loaded. Exit status 4: it does not fit. Without --device it is the device that a run would choose; "
         "without any, a discrete GPU is assumed, which keeps its own copy of the weights."},
    [VERB_INSPECT] =
        {"inspect", "look into a GGUF file", "FILE",
         {{"inspect model.gguf", "metadata, and tensors by type"},
         {"inspect model.gguf --all", "every tensor"},
         {"inspect model.gguf --json", "everything, as JSON"}},
         "Long arrays are cut; --all shows more of them, and every tensor."},
    [VERB_ADAPTER] =
        {"adapter", "look into adapter files, check, convert, compare", "ACTION A [B]",
         {{"adapter inspect legal -m model.gguf", "targets, ranks, does it fit?"},
         {"adapter verify legal --digest HEX", "whole, finite, that one?"},
         {"adapter convert legal -o legal.gguf -m M", "PEFT to GGUF, or back"},
         {"adapter diff legal legal-v2", "what differs, and how far"}},
         "ACTION is inspect, verify, convert or diff. An adapter is a PEFT folder, its .safetensors file or a .gguf file. "
         "Conversion keeps every bit and the scale; what GGUF cannot hold (DoRA, lora_bias, a whole head, scales that no "
         "one alpha gives) is refused by name. q and k have their rows in another order there, so -m is needed for them. "
         "diff compares scale * B A, whatever the ranks, and ends with 1 if anything differs."},
    [VERB_MERGE] =
        {"merge", "merge adapters into a base model's file, or into one adapter", "",
         {{"merge -m base.gguf --adapter legal -o legal.gguf", "same size"},
         {"merge -m base.gguf --adapter a --type auto -o a.gguf", "no loss"},
         {"merge --adapter a:0.6 --adapter b:0.4 --adapter-out ab", "one of two"},
         {"merge -f recipe.yml", "as a file says"}},
         "Works on the host alone, in row blocks inside --memory. Tensors that no adapter changes are copied byte for byte. "
         "--type is keep (each tensor's own format), auto (for each tensor the smallest of its own and larger formats that "
         "keeps --keep-effect of the adapter's change, in size and direction), or a format such as q8_0 or f16. The table says "
         "how much of the intended change survived the format and what came in that was not asked for. --eval takes the "
         "token files of graft eval and prints the KL divergence between the base with the adapters unmerged and the merged "
         "model, both run on --device. The output is written aside, synced and renamed: a killed merge leaves what was there "
         "before. With --adapter-out the adapters become one, a PEFT folder or a .gguf file, by a method of PEFT's "
         "add_weighted_adapter: cat is exact and adds ranks up, svd is the best of one rank; the table says how far the "
         "result is from the weighted sum. -f takes method, adapters, parameters, base and output from a YAML file."},
    [VERB_TOKENIZE] =
        {"tokenize", "text to token ids", "[TEXT]",
         {{"tokenize -m model.gguf \"Hello there\"", "an id and its text per line"},
         {"tokenize -m model.gguf -f text.txt --json", "an array of ids"}},
         "The text is TEXT, -p, the file given with -f, or standard input. BOS stands in front if the file says so."},
    [VERB_DETOKENIZE] =
        {"detokenize", "token ids to text", "[ID ...]",
         {{"detokenize -m model.gguf 504 3575 282", "the text"},
         {"tokenize Hi --json | graft detokenize", "and back"}},
         "The ids stand behind the options, in the file given with -f, or on standard input; a JSON array is "
         "understood."},
    [VERB_TEMPLATE] =
        {"template", "render a chat template", "",
         {{"template -m model.gguf --messages chat.json", "its own template"},
         {"template --template t.jinja --messages chat.json", "another one"}},
         "FILE.json is {\"messages\": [...], \"tools\": [...], \"bos_token\": ..., \"add_generation_prompt\": true, "
         "...}: its keys are the template's variables. The text is printed as it is, without a line break behind."},
    [VERB_DEVICES] =
        {"devices", "list the devices and why each is usable or not", "",
         {{"devices", "what --device can be"},
         {"devices --json", "the same as JSON"}},
         "The first usable device is the one that is taken without --device."},
    [VERB_DOCTOR] =
        {"doctor", "check this machine: driver, devices, folders, models", "",
         {{"doctor", "what works here, what does not, and what helps"}},
         "Exit status 5 if no device is usable."},
    [VERB_COMPLETION] =
        {"completion", "print the completion script of a shell", "bash",
         {{"completion bash > ~/.local/share/bash-completion/completions/graft", ""}},
         "The script is made from the same table as the help."},
    [VERB_MAN] =
        {"man", "print a manual page", "[VERB]",
         {{"man run | man -l -", "the page of graft run"}},
         "The pages are made from the same table as the help."},
    [VERB_VERSION] =
        {"version", "print the version", "",
         {{"version", "this program's version"}},
         ""},
};

#define V(id) (1u << VERB_##id)
#define OPENS (V(RUN) | V(BENCH) | V(EVAL)) // verbs that open a device and a model
#define TEXTS (V(TOKENIZE) | V(DETOKENIZE) | V(TEMPLATE))
#define PRINTS (OPENS | TEXTS | V(ESTIMATE) | V(INSPECT) | V(ADAPTER) | V(MERGE) | V(DEVICES) | V(DOCTOR) | V(VERSION))
#define EVERY ((1u << VERBS) - 1)
#define AT(field) offsetof(struct options, field)
#define U32 4294967295.0

const struct option_info option_infos[] = {
    {"model", "m", NULL, OPTION_MODEL, "FILE", "the only one in the data folder", "model file, or a name in the data folder",
     OPENS | TEXTS | V(ESTIMATE) | V(INSPECT) | V(MERGE), true, AT(model), 0, 0, NULL},
    {"model", "m", NULL, OPTION_MODEL, "FILE", NULL, "the base: does it fit, what share is changed",
     V(ADAPTER), true, AT(model), 0, 0, NULL},
    {"synthetic", NULL, NULL, OPTION_TEXT, "SHAPE:TYPE", NULL, "random weights: llama-8b, llama-1b or llama-135m",
     V(BENCH), true, AT(synthetic), 0, 0, NULL},
    {"prompt", "p", NULL, OPTION_TEXT, "TEXT", NULL, "answer this and end",
     V(RUN), true, AT(prompt), 0, 0, NULL},
    {"prompt", "p", NULL, OPTION_TEXT, "TEXT", NULL, "the text",
     V(TOKENIZE), false, AT(prompt), 0, 0, NULL},
    {"n-prompt", "p", NULL, OPTION_LIST, "N,...", "64", "prompt lengths to measure; 0: none",
     V(BENCH), true, AT(bench_prompt), 0, 1048576, NULL},
    {"file", "f", NULL, OPTION_FILE, "FILE", NULL, "prompt from a file; - is standard input",
     V(RUN), true, AT(file), 0, 0, NULL},
    {"file", "f", NULL, OPTION_FILE, "FILE", NULL, "text to measure; - is standard input",
     V(EVAL), true, AT(file), 0, 0, NULL},
    {"file", "f", NULL, OPTION_FILE, "FILE", "-", "input from a file; - is standard input",
     V(TOKENIZE) | V(DETOKENIZE), true, AT(file), 0, 0, NULL},
    {"file", "f", NULL, OPTION_FILE, "RECIPE", NULL, "what to merge, as a YAML file; - is standard input",
     V(MERGE), true, AT(file), 0, 0, NULL},
    {"tokens", NULL, NULL, OPTION_FILE, "FILE", NULL, "score these ids: {\"prompts\": {NAME: [ID, ...]}}",
     V(EVAL), true, AT(tokens), 0, 0, NULL},
    {"top", NULL, NULL, OPTION_COUNT, "N", "20", "most likely next tokens to print, with --tokens",
     V(EVAL), true, AT(top), 0, 1048576, NULL},
    {"system-prompt", "sys", "system", OPTION_TEXT, "TEXT", NULL, "system prompt; default: what the template does",
     V(RUN), true, AT(system), 0, 0, NULL},
    {"messages", NULL, NULL, OPTION_FILE, "FILE.json", NULL, "the template's variables; - is standard input",
     V(TEMPLATE), true, AT(messages), 0, 0, NULL},
    {"template", NULL, NULL, OPTION_FILE, "FILE.jinja", NULL, "this template instead of the model's",
     V(TEMPLATE) | V(RUN), true, AT(template_file), 0, 0, NULL},
    {"predict", "n", "n-predict", OPTION_COUNT, "N", "-1", "most tokens of an answer; -1: as many as fit",
     V(RUN), true, AT(predict), -1, U32 / 2, NULL},
    {"n-gen", "n", NULL, OPTION_LIST, "N,...", "32", "generation lengths to measure; 0: none",
     V(BENCH), true, AT(bench_gen), 0, 1048576, NULL},
    {"repetitions", "r", NULL, OPTION_COUNT, "N", "5", "runs of each test",
     V(BENCH), true, AT(repetitions), 1, 1000, NULL},
    {"parallel", "np", NULL, OPTION_COUNT, "N", "1", "sequences that generate together",
     V(BENCH), true, AT(n_seq), 1, 256, NULL},
    {"parallel", "np", NULL, OPTION_COUNT, "N", "1", "sequences that share the context",
     V(ESTIMATE), true, AT(n_seq), 1, 256, NULL},
    {"output", "o", NULL, OPTION_CHOICE, "FORMAT", "md", "md, json or csv",
     V(BENCH), true, AT(format), 0, 0, "md|json|csv"},
    {"output", "o", NULL, OPTION_FILE, "PATH", NULL, "what convert writes: a folder, or FILE.gguf",
     V(ADAPTER), true, AT(output), 0, 0, NULL},
    {"to", NULL, NULL, OPTION_CHOICE, "FORMAT", "by the ending of -o", "peft or gguf",
     V(ADAPTER), true, AT(to), 0, 0, "peft|gguf"},
    {"digest", NULL, NULL, OPTION_TEXT, "HEX", NULL, "the digest that verify expects",
     V(ADAPTER), true, AT(digest), 0, 0, NULL},
    {"out", "o", "output", OPTION_FILE, "FILE", NULL, "the merged model",
     V(MERGE), true, AT(out), 0, 0, NULL},
    {"type", NULL, NULL, OPTION_TEXT, "TYPE", "keep", "keep, auto, or a format: q8_0, f16 ...",
     V(MERGE), true, AT(merge_type), 0, 0, NULL},
    {"adapter-out", NULL, NULL, OPTION_FILE, "PATH", NULL, "make one adapter of them: a folder, or a .gguf file",
     V(MERGE), true, AT(adapter_out), 0, 0, NULL},
    {"method", NULL, NULL, OPTION_CHOICE, "METHOD", "svd", "how adapters become one: cat, svd, linear, ties ...",
     V(MERGE), true, AT(method), 0, 0,
     "cat|svd|linear|magnitude_prune|ties|dare_linear|dare_ties|magnitude_prune_svd|ties_svd|dare_linear_svd|dare_ties_svd"},
    {"density", NULL, NULL, OPTION_NUMBER, "D", NULL, "share of values that ties, dare and pruning keep",
     V(MERGE), true, AT(density), 0, 1, NULL},
    {"majority-sign-method", NULL, NULL, OPTION_CHOICE, "HOW", "total", "of ties and dare_ties: total or frequency",
     V(MERGE), false, AT(sign_method), 0, 0, "total|frequency"},
    {"svd-rank", NULL, NULL, OPTION_COUNT, "N", "the adapters' largest", "rank of the result of svd methods",
     V(MERGE), true, AT(svd_rank), 0, 256, NULL},
    {"svd-clamp", NULL, NULL, OPTION_NUMBER, "Q", NULL, "cut an svd's values off at this quantile",
     V(MERGE), false, AT(svd_clamp), 0, 1, NULL},
    {"dtype", NULL, NULL, OPTION_CHOICE, "TYPE", "auto", "of one adapter: auto, f32, f16 or bf16",
     V(MERGE), false, AT(dtype), 0, 0, "auto|f32|f16|bf16"},
    {"keep-effect", NULL, NULL, OPTION_NUMBER, "X", "0.95", "share of the change that auto has to keep",
     V(MERGE), true, AT(keep_effect), 0.01, 1, NULL},
    {"eval", NULL, NULL, OPTION_FILE, "FILE", NULL, "KL against the unmerged adapters on these ids",
     V(MERGE), true, AT(eval_tokens), 0, 0, NULL},
    {"stages", NULL, NULL, OPTION_FLAG, NULL, NULL, "time by kind of kernel, from timestamps",
     V(BENCH), true, AT(stages), 0, 0, NULL},
    {"ctx-size", "c", NULL, OPTION_COUNT, "N", "the model's, at most 4096", "tokens of context",
     OPENS | V(ESTIMATE), true, AT(n_ctx), 0, 16777216, NULL},
    {"batch-size", "b", NULL, OPTION_COUNT, "N", "32 or 128", "most tokens computed in one step",
     OPENS | V(ESTIMATE), false, AT(n_batch), 0, 65536, NULL},
    {"temp", NULL, "temperature", OPTION_NUMBER, "T", "0.8", "temperature; 0: always the most likely token",
     V(RUN), true, AT(temp), 0, 100, NULL},
    {"top-k", NULL, NULL, OPTION_COUNT, "N", "40", "choose among the N most likely; 0: all",
     V(RUN), false, AT(top_k), 0, U32 - 1, NULL},
    {"top-p", NULL, NULL, OPTION_NUMBER, "P", "0.95", "choose among the likeliest that sum to P; 1: all",
     V(RUN), false, AT(top_p), 0, 1, NULL},
    {"min-p", NULL, NULL, OPTION_NUMBER, "P", "0.05", "drop those below P of the likeliest; 0: none",
     V(RUN), false, AT(min_p), 0, 1, NULL},
    {"repeat-penalty", NULL, NULL, OPTION_NUMBER, "X", "1", "make recent tokens less likely; 1: off",
     V(RUN), false, AT(repeat_penalty), 0.01, 100, NULL},
    {"presence-penalty", NULL, NULL, OPTION_NUMBER, "X", "0", "subtracted once from recent tokens",
     V(RUN), false, AT(presence_penalty), -100, 100, NULL},
    {"frequency-penalty", NULL, NULL, OPTION_NUMBER, "X", "0", "subtracted for every occurrence",
     V(RUN), false, AT(frequency_penalty), -100, 100, NULL},
    {"repeat-last-n", NULL, NULL, OPTION_COUNT, "N", "64", "how many recent tokens the penalties see",
     V(RUN), false, AT(penalty_window), 1, 65536, NULL},
    {"seed", "s", NULL, OPTION_COUNT, "N", "0", "seed of the random draw; 0: another each time",
     V(RUN), true, AT(seed), -1, 9007199254740992.0, NULL},
    {"seed", "s", NULL, OPTION_COUNT, "N", "0", "seed of dare: the same one, the same bytes",
     V(MERGE), false, AT(seed), 0, 9007199254740992.0, NULL},
    {"memory", NULL, "memory-budget", OPTION_BYTES, "SIZE", NULL, "never use more than this, as in 600M or 2G",
     OPENS | V(ESTIMATE) | V(ADAPTER) | V(MERGE), true, AT(memory), 0, 0, NULL},
    {"device", "dev", NULL, OPTION_TEXT, "D", "auto", "number or name from `graft devices`; ref: plain C",
     OPENS | V(ESTIMATE) | V(MERGE), true, AT(device), 0, 0, NULL},
    {"weights", NULL, NULL, OPTION_CHOICE, "HOW", "auto", "auto; map: use the file in place; copy",
     OPENS | V(ESTIMATE), false, AT(weights), 0, 0, "auto|map|copy"},
    {"threads", "t", NULL, OPTION_COUNT, "N", "all", "processors that may be used",
     OPENS | V(MERGE), false, AT(threads), 0, 4096, NULL},
    {"exact", NULL, NULL, OPTION_FLAG, NULL, NULL, "32-bit activations everywhere: slower, exact",
     OPENS | V(ESTIMATE) | V(MERGE), false, AT(exact), 0, 0, NULL},
    {"adapter", NULL, "lora", OPTION_TEXTS, "[NAME=]PATH[:W]", NULL, "LoRA adapter with weight W; several are blended",
     V(RUN) | V(EVAL) | V(BENCH) | V(MERGE), true, AT(adapters), 0, 0, NULL},
    {"adapters", NULL, NULL, OPTION_TEXT, "A,B,none", NULL, "compare: none, one for all, each sequence its own",
     V(BENCH), true, AT(bench_adapters), 0, 0, NULL},
    {"adapter-pool", NULL, NULL, OPTION_BYTES, "SIZE", "64M", "room for adapters, part of the memory",
     V(RUN) | V(EVAL) | V(BENCH) | V(MERGE), false, AT(adapter_pool), 0, 0, NULL},
    {"raw", NULL, NULL, OPTION_FLAG, NULL, NULL, "the prompt as it is: no template",
     V(RUN), true, AT(raw), 0, 0, NULL},
    {"special", NULL, NULL, OPTION_FLAG, NULL, NULL, "text like <|im_start|> becomes its token",
     V(TOKENIZE), true, AT(special), 0, 0, NULL},
    {"special", NULL, NULL, OPTION_FLAG, NULL, NULL, "show control tokens by name",
     V(DETOKENIZE), true, AT(special), 0, 0, NULL},
    {"no-bos", NULL, NULL, OPTION_FLAG, NULL, NULL, "no BOS token in front",
     V(TOKENIZE), true, AT(no_bos), 0, 0, NULL},
    {"all", NULL, NULL, OPTION_FLAG, NULL, NULL, "every tensor, and longer arrays",
     V(INSPECT), true, AT(all), 0, 0, NULL},
    {"all", NULL, NULL, OPTION_FLAG, NULL, NULL, "every module",
     V(ADAPTER), true, AT(all), 0, 0, NULL},
    {"stats", NULL, NULL, OPTION_FLAG, NULL, NULL, "rates, first-token time and memory afterwards",
     V(RUN), true, AT(stats), 0, 0, NULL},
    {"json", NULL, NULL, OPTION_FLAG, NULL, NULL, "print JSON",
     PRINTS, true, AT(json), 0, 0, NULL},
    {"no-history", NULL, NULL, OPTION_FLAG, NULL, NULL, "keep no history of what is typed",
     V(RUN), false, AT(no_history), 0, 0, NULL},
    {"validation", NULL, NULL, OPTION_FLAG, NULL, NULL, "with Vulkan's validation layers",
     OPENS, false, AT(validation), 0, 0, NULL},
    {"verbose", "v", NULL, OPTION_FLAG, NULL, NULL, "say more on standard error",
     EVERY, false, AT(verbose), 0, 0, NULL},
    {"help", "h", NULL, OPTION_FLAG, NULL, NULL, "this help",
     EVERY, false, AT(help), 0, 0, NULL},
    {"help-all", NULL, NULL, OPTION_FLAG, NULL, NULL, "help with all options",
     EVERY, false, AT(help_all), 0, 0, NULL},
    {"gpu-layers", "ngl", "n-gpu-layers", OPTION_IGNORED, "N", NULL, NULL,
     OPENS, false, 0, 0, 1, NULL},
    {"ubatch-size", "ub", NULL, OPTION_IGNORED, "N", NULL, NULL,
     OPENS, false, 0, 0, 1, NULL},
    {"conversation", "cnv", NULL, OPTION_IGNORED, NULL, NULL, NULL,
     V(RUN), false, 0, 0, 0, NULL},
    {"single-turn", "st", NULL, OPTION_IGNORED, NULL, NULL, NULL,
     V(RUN), false, 0, 0, 0, NULL},
    {"no-display-prompt", NULL, NULL, OPTION_IGNORED, NULL, NULL, NULL,
     V(RUN), false, 0, 0, 0, NULL},
};
const size_t option_info_count = sizeof option_infos / sizeof option_infos[0];
