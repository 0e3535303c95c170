#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyPI's openai client against a graft serve on the tiny model: openai_client.py http://127.0.0.1:PORT/v1.

Exit status 77 if the package is not installed, 1 if something is not as that client expects it.
"""
import json
import math
import os
import struct
import sys
import time

try:
    import openai
except ImportError:
    sys.exit(77)

client = openai.OpenAI(base_url=sys.argv[1], api_key="none", max_retries=0)
ask = [{"role": "user", "content": "Hello"}]
bad = []


def check(name, good, what=""):
    if not good:
        bad.append(name)
        print(f"{name}: {what}")


def raises(name, kind, code, param, **kwargs):
    try:
        client.chat.completions.create(**({"model": "base", "messages": ask} | kwargs))
        check(name, False, "was not refused")
    except kind as error:
        check(name, error.code == code and error.param == param, f"{error.code} {error.param}")


models = client.models.list()
check("models", [m.id for m in models][0] == "base" and "plain" in [m.id for m in models])
check("model", client.models.retrieve("plain").parent == "base")

chat = client.chat.completions.create(model="base", messages=ask, max_tokens=12, temperature=0)
choice = chat.choices[0]
check("chat", choice.message.role == "assistant" and choice.finish_reason in ("stop", "length") and chat.model == "base", chat)
check("usage", chat.usage.completion_tokens == 12 and chat.usage.total_tokens == chat.usage.prompt_tokens + 12, chat.usage)

text, roles, finish, usage, ids = "", [], None, None, set()
for chunk in client.chat.completions.create(model="base", messages=ask, max_tokens=12, temperature=0, stream=True,
                                            stream_options={"include_usage": True}):
    ids.add((chunk.id, chunk.created, chunk.model))
    usage = chunk.usage or usage
    for c in chunk.choices:
        text += c.delta.content or ""
        roles.append(c.delta.role)
        finish = c.finish_reason or finish
check("stream", text == choice.message.content, f"{text!r} {choice.message.content!r}")
check("stream shape", roles[0] == "assistant" and finish == choice.finish_reason and len(ids) == 1, f"{roles} {finish} {ids}")
check("stream usage", usage and usage.completion_tokens == 12, usage)

stop = choice.message.content[3:5]
stopped = client.chat.completions.create(model="base", messages=ask, max_tokens=12, temperature=0, stop=[stop])
check("stop", stopped.choices[0].finish_reason == "stop" and stop not in stopped.choices[0].message.content and
      choice.message.content.startswith(stopped.choices[0].message.content), stopped)

probs = client.chat.completions.create(model="base", messages=ask, max_tokens=4, temperature=0, logprobs=True, top_logprobs=3)
content = probs.choices[0].logprobs.content
check("logprobs", len(content) == 4 and all(len(t.top_logprobs) == 3 and t.top_logprobs[0].logprob == t.logprob <= 0
                                            for t in content), content)
old = client.completions.create(model="base", prompt=[72, 101, 108], max_tokens=4, temperature=0, logprobs=2, echo=False)
check("completions", old.object == "text_completion" and len(old.choices[0].logprobs.tokens) == 4, old)
echo = client.completions.create(model="base", prompt="Hel", max_tokens=2, temperature=0, echo=True)
check("echo", echo.choices[0].text.startswith("Hel"), echo)


def reference(name, ids):
    """Log-probabilities of ids[i] behind those in front of it, as PEFT computed them (tests/golden/make_peft.py)."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "golden", "peft", name + ".logits")
    with open(path, "rb") as file:
        logits = struct.unpack(f"{len(ids) * 288}f", file.read())
    rows = [logits[i * 288:(i + 1) * 288] for i in range(len(ids))]
    return [row[ids[i + 1]] - math.log(sum(map(math.exp, row))) for i, row in enumerate(rows[:-1])]


ids = [1, 84, 200, 17, 7, 9, 45, 283, 100, 2]  # IDS of make_peft.py
for name in ("base", "plain", "dora"):
    scored = client.completions.create(model=name, prompt=ids, max_tokens=0, echo=True, logprobs=2).choices[0]
    probs = scored.logprobs
    check("echo logprobs " + name, probs.token_logprobs[0] is None and probs.top_logprobs[0] is None and len(probs.tokens) == 10 and
          all(abs(a - b) < 5e-3 for a, b in zip(probs.token_logprobs[1:], reference(name, ids))), probs)
    check("echo alternatives", scored.finish_reason == "length" and all(2 <= len(top) <= 3 for top in probs.top_logprobs[1:]), probs)
both = client.completions.create(model="base", prompt="Hello", max_tokens=3, temperature=0, echo=True, logprobs=0).choices[0]
check("echo and answer", both.text.startswith("Hello") and len(both.logprobs.tokens) == 8 and both.logprobs.top_logprobs is None and
      both.logprobs.tokens[:5] == list("Hello") and both.logprobs.text_offset[:6] == [0, 1, 2, 3, 4, 5], both)
pieces, scores = "", []
for chunk in client.completions.create(model="base", prompt="Hello", max_tokens=3, temperature=0, echo=True, logprobs=0, stream=True):
    pieces += chunk.choices[0].text
    scores += chunk.choices[0].logprobs.token_logprobs if chunk.choices[0].logprobs else []
check("streamed echo", pieces == both.text and scores == both.logprobs.token_logprobs, f"{pieces!r} {scores}")

one = client.chat.completions.create(model="plain", messages=ask, max_tokens=12, temperature=0)
extra = client.chat.completions.create(model="base", messages=ask, max_tokens=12, temperature=0, extra_body={"adapter": "plain"})
check("adapter", one.choices[0].message.content == extra.choices[0].message.content != choice.message.content)
check("digest", len(one.model_extra["adapter_digest"]) == 64 and one.model_extra["adapter"] == "plain", one.model_extra)
seeded = [client.chat.completions.create(model="base", messages=ask, max_tokens=8, seed=5).choices[0].message.content
          for _ in range(2)]
check("seed", seeded[0] == seeded[1])
parts = client.chat.completions.create(model="base", messages=[{"role": "user", "content": [{"type": "text", "text": "Hello"}]}],
                                       max_tokens=12, temperature=0)
check("parts", parts.choices[0].message.content == choice.message.content)

schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}
bound = client.chat.completions.create(model="base", messages=ask, temperature=0, response_format={
    "type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}})
check("json_schema", isinstance(json.loads(bound.choices[0].message.content)["a"], bool), bound)

raises("unknown model", openai.NotFoundError, "model_not_found", "model", model="nothing")
raises("temperature", openai.BadRequestError, "invalid_value", "temperature", temperature=3)
raises("n", openai.BadRequestError, "invalid_value", "n", n=2)
raises("max_tokens", openai.BadRequestError, "invalid_value", "max_tokens", max_tokens=0)
raises("context", openai.BadRequestError, "context_length_exceeded", "max_tokens", max_tokens=2048)
raises("image", openai.BadRequestError, "unsupported_content", "messages[0].content[0].type",
       messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])

# Tools: a call that must come, whole and streamed, its result in the next turn.
weather = {"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": {
    "type": "object", "properties": {"place": {"enum": ["Bern", "Genf"]}, "days": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["place", "days"], "additionalProperties": False}}}
note = {"type": "function", "function": {"name": "add_note", "parameters": {
    "type": "object", "properties": {"good": {"type": "boolean"}}, "required": ["good"]}}}


def good_call(call):
    arguments = json.loads(call.function.arguments)
    if call.function.name == "get_weather":
        return arguments["place"] in ("Bern", "Genf") and 1 <= arguments["days"] <= 5 and len(arguments) == 2
    return call.function.name == "add_note" and isinstance(arguments["good"], bool)


must = client.chat.completions.create(model="base", messages=ask, tools=[weather, note], tool_choice="required", temperature=0,
                                      max_tokens=200, parallel_tool_calls=False)
calls = must.choices[0].message.tool_calls
check("tools", must.choices[0].finish_reason == "tool_calls" and must.choices[0].message.content is None and len(calls) == 1 and
      calls[0].type == "function" and calls[0].id and good_call(calls[0]), must)
named = client.chat.completions.create(model="base", messages=ask, tools=[weather, note], max_tokens=200, seed=1,
                                       tool_choice={"type": "function", "function": {"name": "add_note"}})
calls = named.choices[0].message.tool_calls
check("named tool", len(calls) == 1 and calls[0].function.name == "add_note" and good_call(calls[0]), named)
built, finish, pieces = {}, None, 0
for chunk in client.chat.completions.create(model="base", messages=ask, tools=[weather, note], tool_choice="required", stream=True,
                                            temperature=0, max_tokens=200, parallel_tool_calls=False):
    for c in chunk.choices:
        finish = c.finish_reason or finish
        check("streamed tool content", not c.delta.content, c)
        for call in c.delta.tool_calls or []:
            one = built.setdefault(call.index, {"id": call.id, "name": call.function.name, "arguments": ""})
            check("streamed id", one["id"] and (call.id in (None, one["id"])), call)
            one["arguments"] += call.function.arguments or ""
            pieces += 1
first = must.choices[0].message.tool_calls[0].function
check("streamed tools", finish == "tool_calls" and len(built) == 1 and built[0]["name"] == first.name and
      json.loads(built[0]["arguments"]) == json.loads(first.arguments) and pieces > 2, built)
turn = must.choices[0].message
after = client.chat.completions.create(model="base", tools=[weather, note], max_tokens=5, messages=ask + [
    turn, {"role": "tool", "tool_call_id": turn.tool_calls[0].id, "content": "sun"}])
check("tool result", after.choices[0].finish_reason in ("stop", "length"), after)
free = client.chat.completions.create(model="base", messages=ask, tools=[weather], tool_choice="none", max_tokens=12, temperature=0)
check("tool_choice none", free.choices[0].message.content == choice.message.content and not free.choices[0].message.tool_calls, free)
raises("tool schema", openai.BadRequestError, "unsupported_schema", "tools[0].function.parameters", tools=[
    {"type": "function", "function": {"name": "f", "strict": True, "parameters": {"type": "object", "not": {}}}}])
raises("tool name", openai.BadRequestError, "invalid_value", "tools[0].function.name", tools=[{"type": "function", "function": {"name": "a b"}}])
raises("tool_choice", openai.BadRequestError, "invalid_value", "tool_choice", tool_choice="required")
raises("tool_call_id", openai.BadRequestError, "invalid_value", "messages[1].tool_call_id", messages=ask + [{"role": "tool", "content": "x"}])
try:
    client.embeddings.create(model="base", input="x")
    check("embeddings", False)
except openai.APIStatusError as error:
    check("embeddings", error.status_code == 501, error)

stream = client.chat.completions.create(model="base", messages=ask, temperature=1, stream=True)
for chunk in stream:
    break
stream.close()  # hangs up
time.sleep(0.1)
after = client.chat.completions.create(model="base", messages=ask, max_tokens=12, temperature=0)
check("after a cancel", after.choices[0].message.content == choice.message.content)

sys.exit(1 if bad else 0)
