#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyPI's openai client against a graft serve on the tiny model: openai_client.py http://127.0.0.1:PORT/v1.

Exit status 77 if the package is not installed, 1 if something is not as that client expects it.
"""
import json
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
raises("context", openai.BadRequestError, "context_length_exceeded", "max_tokens", max_tokens=256)
raises("image", openai.BadRequestError, "unsupported_content", "messages[0].content[0].type",
       messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}])
raises("tools", openai.BadRequestError, "unsupported_parameter", "tools",
       tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])
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
