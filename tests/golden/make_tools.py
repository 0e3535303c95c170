#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Conversations with tool calls, rendered by PyPI's jinja2, for tests/unit/test_tools.c.

  make_tools.py --write       writes tools.json beside this file
  make_tools.py --real DIR    prints cases for the real templates in DIR as JSON (for the test; nothing is stored)

A case: {"name", "template", "style", "parallel", "marker", "variables" (as OpenAI's clients write them), "expected" (the prompt),
"answers": [{"calls", "text"}]}: what a model of this template would say to make these calls, which is what the template writes
between `begin` and `end`; both stand here by hand.
"""
import json
import os
import sys

from make_templates import case as rendered

HERMES = """{%- if tools %}<|im_start|>system
{%- if messages[0].role == 'system' %}
{{ messages[0].content }}
{%- endif %}

# Tools
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools><|im_end|>
{%- elif messages[0].role == 'system' %}<|im_start|>system
{{ messages[0].content }}<|im_end|>
{%- endif %}
{%- for m in messages %}
{%- if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) %}
<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{%- elif m.role == 'assistant' %}
<|im_start|>assistant
{%- if m.content %}
{{ m.content }}
{%- endif %}
{%- for call in m.tool_calls %}
<tool_call>
{"name": {{ call.function.name | tojson }}, "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<|im_end|>
{%- elif m.role == 'tool' %}
<|im_start|>user
<tool_response>
{{ m.content }}
</tool_response><|im_end|>
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
<|im_start|>assistant
{% endif %}"""

LLAMA = """{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif -%}
<|start|>system<|end|>
{{ system }}{% if tools %}

Functions:{% for t in tools %} {{ t | tojson }}{% endfor %}{% endif %}<|eot|>
{%- for m in messages %}
{%- if m.role == 'tool' %}<|start|>ipython<|end|>

{{ m.content | tojson }}<|eot|>
{%- elif m.tool_calls %}
{%- if m.tool_calls | length != 1 %}{{ raise_exception('one call at a time') }}{% endif %}<|start|>assistant<|end|>

{"name": "{{ m.tool_calls[0].function.name }}", "parameters": {{ m.tool_calls[0].function.arguments | tojson }}}<|eot|>
{%- else %}<|start|>{{ m.role }}<|end|>

{{ m.content }}<|eot|>
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|start|>assistant<|end|>

{% endif %}"""

MISTRAL = """{{ bos_token }}{% set system = messages[0].content if messages[0].role == 'system' else '' %}
{%- for m in messages %}
{%- if m.role == 'user' %}
{%- if tools and loop.last %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}[INST]{{ system + ' ' if loop.first or loop.last else '' }}{{ m.content }}[/INST]
{%- elif m.role == 'assistant' and m.tool_calls %}[TOOL_CALLS][
{%- for call in m.tool_calls %}
{%- if call.id | length != 9 %}{{ raise_exception('ids have 9 characters') }}{% endif %}
{{- '{"name": "' ~ call.function.name ~ '", "arguments": ' ~ (call.function.arguments | tojson) ~ ', "id": "' ~ call.id ~ '"}' }}
{{- ', ' if not loop.last }}
{%- endfor %}]{{ eos_token }}
{%- elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}
{%- elif m.role == 'tool' %}
{%- if m.tool_call_id | length != 9 %}{{ raise_exception('ids have 9 characters') }}{% endif %}[TOOL_RESULTS]{"content": {{ m.content }}, "call_id": "{{ m.tool_call_id }}"}[/TOOL_RESULTS]
{%- endif %}
{%- endfor %}"""

PREFACE = """{% for m in messages %}{% if m.role == 'user' %}<u>{% if tools and loop.last %}{{ tools | tojson }}{% endif %}{{ m.content }}</u>{% elif m.role == 'system' %}<s>{{ m.content }}</s>{% elif m.role == 'tool' %}<r>{{ m.name }}:{{ m.content }}</r>{% else %}<a>"""
CLOSE = """</a>{% endif %}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"""
LOOP = "{% if m.tool_calls %}%s{% else %}{{ m.content }}{% endif %}"


def answer(calls):
    return PREFACE + LOOP.replace("%s", calls) + CLOSE


EACH = "{% for c in m.tool_calls %}"
# name: (template, style, parallel, begin, end, marker)
TEMPLATES = {
    "hermes": (HERMES, "object", True, "<tool_call>", "<|im_end|>", "<tool_call>"),
    "llama": (LLAMA, "object", False, "{", "<|eot|>", ""),
    "mistral": (MISTRAL, "object", True, "[TOOL_CALLS]", "</s>", "[TOOL_CALLS]"),
    "arguments": (answer(EACH + "[TOOL_CALLS]{{ c.function.name }}[ARGS]{{ c.function.arguments | tojson }}{% endfor %}"),
                  "named", True, "[TOOL_CALLS]", "</a>", "[TOOL_CALLS]"),
    "call ids": (answer(EACH + "[TOOL_CALLS]{{ c.function.name }}[CALL_ID]{{ c.id }}[ARGS]{{ c.function.arguments | tojson }}{% endfor %}"),
                 "named", True, "[TOOL_CALLS]", "</a>", "[TOOL_CALLS]"),
    "sections": (answer("<|calls|>" + EACH + "<|call|>{{ c.function.name }}<|sep|>{{ c.function.arguments | tojson }}<|end|>{% endfor %}<|over|>"),
                 "named", True, "<|calls|>", "</a>", "<|calls|>"),
    "key is name": (answer("<|prefix|>[" + EACH + '{"{{ c.function.name }}": {{ c.function.arguments | tojson }}}{{ ", " if not loop.last }}{% endfor %}]<|suffix|>'),
                    "named", True, "<|prefix|>", "</a>", "<|prefix|>"),
    "counted": (answer("<|ACTION|>[\n" + EACH + '    {"tool_call_id": "{{ loop.index0 }}", "tool_name": "{{ c.function.name }}", "parameters": {{ c.function.arguments | tojson }}}'
                       '{{ "," if not loop.last }}\n{% endfor %}]<|END_ACTION|>'), "object", True, "<|ACTION|>", "</a>", "<|ACTION|>"),
    "ids are names": (answer("<|section|>" + EACH + "<|call|>{{ c.id }}<|args|>{{ c.function.arguments | tojson }}<|end|>{% endfor %}<|over|>"),
                      "named", True, "<|section|>", "</a>", "<|section|>"),
    "fenced": (answer("{% if m.content is none %}" + EACH + "<|call|>{{ c.type }}<|sep|>{{ c.function.name }}\n```json\n{{ c.function.arguments }}\n```<|end|>{% endfor %}{% endif %}"),
               "named", True, "<|call|>", "</a>", "<|call|>function<|sep|>"),
    "parameters": (answer(EACH + "\n<tool_call>\n<function={{ c.function.name }}>\n{% for k, v in c.function.arguments | items %}<parameter={{ k }}>\n{{ v if v is string else v | tojson }}\n</parameter>\n{% endfor %}</function>\n</tool_call>{% endfor %}"),
                   "parameters", True, "<tool_call>", "</a>", "<tool_call>\n<function="),
    "arg keys": (answer(EACH + "<tool_call>{{ c.function.name }}{% for k, v in c.function.arguments.items() %}<arg_key>{{ k }}</arg_key><arg_value>{{ v if v is string else v | tojson }}</arg_value>{% endfor %}</tool_call>{% endfor %}"),
                 "parameters", True, "<tool_call>", "</a>", "<tool_call>"),
    "typed": (answer("\n\n<calls>\n" + EACH + '<invoke name="{{ c.function.name }}">\n{% for k, v in c.function.arguments.items() %}<parameter name="{{ k }}" string="{{ "true" if v is string else "false" }}">{{ v if v is string else v | tojson }}</parameter>\n{% endfor %}</invoke>\n{% endfor %}</calls>'),
              "parameters", True, "<calls>", "</a>", "<calls>"),
}
# What renders no calls: they are asked for.
PLAIN = {
    "none": "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}",
    "no system": "{% for m in messages %}{% if m.role not in ['user', 'assistant'] or (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('user and assistant take turns') }}{% endif %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}",
    "tools only": "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}",
}
# What the files in ../shared/data/templates write, as one sees it in their text. Others there write calls in no style that is
# understood (gemma-4, LFM2.5, Kimi-K3, muse, functionary, MiniCPM5: lists as Python prints them), or none.
REAL = {
    "Apertus-8B-Instruct.jinja": ("named", True, "<|tools_prefix|>", "<|tools_suffix|>+"),
    "Bielik-11B-v3.0-Instruct.jinja": ("object", True, "<tool_call>", "<|im_end|>"),
    "Cohere2MoE.jinja": ("object", True, "<|START_ACTION|>", "<|END_ACTION|>+"),
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja": ("object", True, "<|START_ACTION|>", "<|END_ACTION|>+"),
    "GLM-4.7-Flash.jinja": ("parameters", True, "<tool_call>", "</tool_call>+"),
    "GigaChat3.1-10B-A1.8B.jinja": ("object", False, "<|function_call|>", "<|message_sep|>"),
    "Kimi-K2-Instruct.jinja": ("named", True, "<|tool_calls_section_begin|>", "<|im_end|>"),
    "MiMo-VL.jinja": ("object", True, "<tool_call>", "<|im_end|>"),
    "MiniMax-M2.jinja": ("parameters", True, "<minimax:tool_call>", "[e~["),
    "Mistral-Small-3.2-24B-Instruct-2506.jinja": ("named", True, "[TOOL_CALLS]", "</s>"),
    "NVIDIA-Nemotron-Nano-v2.jinja": ("object", True, "<TOOLCALL>", "<SPECIAL_12>"),
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja": ("object", True, "<tool_call>", "<|im_end|>"),
    "Qwen-Qwen2.5-7B-Instruct.jinja": ("object", True, "<tool_call>", "<|im_end|>"),
    "Qwen3-Coder.jinja": ("parameters", True, "<tool_call>", "<|im_end|>"),
    "Reka-Edge.jinja": ("object", True, "<tool_call>", "</tool_call>+"),
    "deepseek-ai-DeepSeek-V3.1.jinja": ("named", True, "<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>+"),
    "deepseek-ai-DeepSeek-V4-Flash-0731.jinja": ("parameters", True, "<｜DSML｜tool_calls>", "</｜DSML｜tool_calls>+"),
    "ibm-granite-granite-4.1.jinja": ("object", True, "<tool_call>", "<|end_of_text|>"),
    "meta-llama-Llama-3.2-3B-Instruct.jinja": ("object", False, "{", "<|eot_id|>"),
    "mistralai-Mistral-Nemo-Instruct-2407.jinja": ("object", True, "[TOOL_CALLS]", "</s>"),
    "poolside-Laguna-XS-2.1.jinja": ("parameters", True, "<tool_call>", "\n</assistant>"),
    "tencent-Hy3.jinja": ("parameters", True, "<tool_calls:opensource>", "</tool_calls:opensource>+"),
    "unsloth-mistral-Devstral-Small-2507.jinja": ("named", True, "[TOOL_CALLS]", "</s>"),
}

TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "The weather of a place.", "parameters": {
        "type": "object", "properties": {"place": {"type": "string", "description": "a town"}, "days": {"type": "integer", "description": "how many"},
                                         "exact": {"type": "boolean", "description": "all digits"}}, "required": ["place"]}}},
    {"type": "function", "function": {"name": "add-note", "description": "Keeps a note.", "parameters": {
        "type": "object", "properties": {"text": {"type": "string", "description": "words"}, "tags": {"type": "array", "description": "tags", "items": {"type": "string"}},
                                         "place": {"type": "object", "description": "where", "properties": {"lat": {"type": "number"}, "lon": {"type": "number"}},
                                                   "required": ["lat", "lon"], "additionalProperties": False}}, "required": ["text", "tags"]}}},
]
CALLS = [
    [("get_weather", {"place": "Zürich", "days": 3, "exact": True})],
    [("get_weather", {"place": "a \"b\" {c} [d], e\\f"})],
    [("add-note", {"text": "two\nlines & <tags> {\"x\": 1}", "tags": ["a", "b c"], "place": {"lat": 1.5, "lon": -2}})],
    [("get_weather", {"place": "Bern", "days": 1}), ("get_weather", {"place": "Genf", "days": 2})],
    [("add-note", {"text": "x", "tags": []}), ("get_weather", {"place": "東京 🚀"}), ("add-note", {"text": "y", "tags": ["z"]})],
]
IDS = ["aB3dE6gH9", "123456789", "zZzZzZzZ0"]
TEXT = {"bos_token": "<s>", "eos_token": "</s>"}


def messages_of(calls, ids, form, openai):
    made = []
    for (name, arguments), id in zip(calls, ids):
        text = json.dumps(arguments, ensure_ascii=False)
        made.append({"id": id, "type": "function", "function": {"name": name, "arguments": text if openai or form == "text" else arguments}})
    return {"role": "assistant", "content": None if openai or form == "text" else "", "tool_calls": made}


def make(name, source, style, parallel, begin, end, marker, file=None):
    form = "text" if name == "fenced" else "object"
    ids = [f"functions.{c}:{i}" for i, c in enumerate(["get_weather", "add-note", "get_weather"])] if "Kimi-K2" in name or name == "ids are names" else IDS

    def ids_of(calls):
        return [f"functions.{c[0]}:{i}" for i, c in enumerate(calls)] if ids is not IDS else IDS

    def render(messages, prompt, **more):
        result = rendered(name, source, {**TEXT, **more, "messages": messages, "tools": TOOLS, "add_generation_prompt": prompt})
        if "expected" not in result:
            sys.exit(f"{name}: {result['message']}")
        return result["expected"]

    def conversation(openai):
        calls = CALLS[4][:2] if parallel else CALLS[0]
        results = [{"role": "tool", "tool_call_id": ids_of(calls)[i], "content": f"result {i}"} for i in range(len(calls))]
        if not openai:
            for result, call in zip(results, calls):
                result["name"] = call[0]
        return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Do it."}, messages_of(calls, ids_of(calls), form, openai),
                *results, {"role": "assistant", "content": "Done."}, {"role": "user", "content": "And now?"}]

    answers = []
    for calls in CALLS if parallel else CALLS[:3]:
        text = render([{"role": "user", "content": "QUESTION"}, messages_of(calls, ids_of(calls), form, False)], False)
        text = text[text.rindex("QUESTION"):]
        stop = text.rindex(end.rstrip("+"))
        stop += len(end) - 1 if end.endswith("+") else 0
        answers.append({"calls": [{"name": n, "arguments": a} for n, a in calls], "text": text[text.index(begin):stop].rstrip("\n")})
    return {"name": name, **({"file": file} if file else {"template": source}), "style": style, "parallel": parallel, "marker": marker,
            "variables": {"messages": conversation(True), "add_generation_prompt": True},
            "expected": render(conversation(False), True), "answers": answers}


def main():
    if sys.argv[1:] == ["--write"]:
        cases = [make(name, *rest) for name, rest in TEMPLATES.items()]
        plain = [{"name": name, "template": source} for name, source in PLAIN.items()]
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "tools.json"), "w", encoding="utf-8") as out:
            json.dump({"tools": TOOLS, "native": cases, "plain": plain}, out, ensure_ascii=False, indent=1)
            out.write("\n")
    elif len(sys.argv) == 3 and sys.argv[1] == "--real":
        cases = []
        for file, (style, parallel, begin, end) in REAL.items():
            with open(os.path.join(sys.argv[2], file), encoding="utf-8", newline="") as source:
                cases.append(make(file, source.read(), style, parallel, begin, end, None, file))
        json.dump({"tools": TOOLS, "native": cases}, sys.stdout)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
