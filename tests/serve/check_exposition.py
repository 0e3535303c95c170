#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_exposition.py METRICS [MOST]: the text of /metrics by the rules of Prometheus' exposition format 0.0.4 and of promtool's
linter; with MOST no metric has more combinations of labels than that. Then PyPI's prometheus_client and promtool read it, where
they are installed (promtool: also `PROMTOOL=...`)."""
import os
import re
import shutil
import subprocess
import sys

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (\S+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
NOT_BASE = ("milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days", "kilobytes", "megabytes", "kibibytes",
            "mebibytes", "bits", "percent", "ms", "secs", "sec")
bad = []


def check(good, what):
    if not good:
        bad.append(what)


def labels_of(text, line):
    out, at = {}, 0
    while text and at < len(text):
        m = LABEL.match(text, at)
        if not m:
            check(False, f"labels of {line!r}")
            return out
        check(m[1] not in out, f"label {m[1]} twice: {line!r}")
        out[m[1]] = m[2]
        at = m.end()
    return out


text = open(sys.argv[1], encoding="utf-8").read()
check(text.endswith("\n"), "no line break at the end")
helps, types, series, order = {}, {}, {}, []
current = None
for line in text.splitlines():
    if line.startswith("# HELP ") or line.startswith("# TYPE "):
        kind, name, rest = (line[2:].split(" ", 2) + [""])[:3]
        table = helps if kind == "HELP" else types
        check(name not in table, f"{kind} of {name} twice")
        check(name not in series, f"{kind} of {name} behind its samples")
        table[name] = rest
        check(bool(rest.strip()), f"{kind} of {name} is empty")
        current = name
        continue
    m = SAMPLE.match(line)
    if not m:
        check(line.startswith("#"), f"no sample: {line!r}")
        continue
    name, labels = m[1], labels_of(m[2], line)
    base = current if name.startswith(current or "\0") else name
    suffix = name[len(base):]
    check(base in types and base in helps, f"{name}: no HELP or TYPE in front of it")
    check(suffix == "" or (types.get(base) == "histogram" and suffix in ("_bucket", "_sum", "_count")), f"{name} under {base}")
    check(base == (order[-1] if order else base) or base not in order, f"samples of {base} are not together")
    if base not in order:
        order.append(base)
    key = (name, tuple(sorted(labels.items())))
    check(key not in series.setdefault(base, {}), f"twice: {line!r}")
    try:
        series[base][key] = float(m[3])
    except ValueError:
        check(False, f"no number: {line!r}")

for name, kind in types.items():
    check(kind in ("counter", "gauge", "histogram"), f"{name} is a {kind}")
    check((kind == "counter") == name.endswith("_total"), f"{name}: counters, and only they, end in _total")
    check(":" not in name and re.fullmatch(r"[a-z][a-z0-9_]*", name), f"{name}: lower case and underscores")
    words = name.split("_")
    check(not set(words) & set(NOT_BASE), f"{name}: not in base units")
    check(not set(words) & {"counter", "gauge", "histogram", "metric"}, f"{name}: its type is in its name")
    check(kind == "histogram" or not re.search(r"_(bucket|count|sum)$", name), f"{name}: looks like a histogram's")
    for _, labels in series.get(name, {}):
        for label, _ in labels:
            check(re.fullmatch(r"[a-z][a-z0-9_]*", label), f"{name}: label {label}")
            check(label != "le" or kind == "histogram", f"{name}: label le")
    if kind != "histogram":
        continue
    groups = {}
    for (full, labels), value in series.get(name, {}).items():
        rest = tuple(l for l in labels if l[0] != "le")
        group = groups.setdefault(rest, {"buckets": []})
        if full.endswith("_bucket"):
            group["buckets"].append((float(dict(labels)["le"]), value))
        else:
            group[full[len(name):]] = value
    for rest, group in groups.items():
        bounds = [b for b, _ in group["buckets"]]
        values = [v for _, v in group["buckets"]]
        check(bounds == sorted(set(bounds)) and bounds and bounds[-1] == float("inf"), f"{name}{rest}: bounds")
        check(values == sorted(values) and values[-1] == group.get("_count") and "_sum" in group, f"{name}{rest}: its numbers")

if len(sys.argv) > 2:
    for name, all_of_it in series.items():
        n = len({tuple(l for l in labels if l[0] != "le") for _, labels in all_of_it})
        check(n <= int(sys.argv[2]), f"{name} has {n} series, at most {sys.argv[2]} are allowed")

try:
    from prometheus_client.parser import text_string_to_metric_families
    n = sum(len(f.samples) for f in text_string_to_metric_families(text))
    check(n == sum(map(len, series.values())), f"prometheus_client finds {n} samples")
except ImportError:
    print("skipped: this Python has no prometheus_client")
promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
if promtool:
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"promtool: {done.stdout}{done.stderr}")
else:
    print("skipped: promtool is not installed")
print("\n".join(bad[:40]))
sys.exit(bool(bad))
