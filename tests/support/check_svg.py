#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_svg.py FILE.svg RESULT.json: the picture of graft load-test is sound XML, inside its frame, and shows these figures."""
import json
import re
import sys
import xml.etree.ElementTree as ET

SVG = "{http://www.w3.org/2000/svg}"
root = ET.parse(sys.argv[1]).getroot()
result = json.load(open(sys.argv[2], encoding="utf-8"))
assert root.tag == SVG + "svg" and root.find(SVG + "title") is not None and root.find(SVG + "desc") is not None
x0, y0, width, height = map(float, root.get("viewBox").split())
texts = ["".join(e.itertext()) for e in root.iter(SVG + "text")]


def inside(x, y, what):
    assert x0 <= x <= width and y0 <= y <= height, f"{what} at {x},{y} is outside {width}x{height}"


for e in root.iter():
    tag = e.tag.removeprefix(SVG)
    if tag == "text":
        inside(float(e.get("x")), float(e.get("y")), "".join(e.itertext()))
    elif tag == "circle":
        inside(float(e.get("cx")), float(e.get("cy")), tag)
    elif tag == "line":
        inside(float(e.get("x1")), float(e.get("y1")), tag)
        inside(float(e.get("x2")), float(e.get("y2")), tag)
    elif tag == "rect":
        inside(float(e.get("x", 0)) + float(e.get("width")) - 0.1, float(e.get("y", 0)) + float(e.get("height")) - 0.1, tag)
    elif tag == "path":  # M x y, L x y, H x, V y
        for kind, numbers in re.findall(r"([MLHV])([^MLHV]*)", e.get("d")):
            n = list(map(float, numbers.split()))
            assert len(n) == (1 if kind in "HV" else 2)
            inside(n[0] if kind != "V" else 0, n[-1] if kind != "H" else 0, tag)

# No text stands on another one: at these sizes a character is 6.5 wide, at most.
boxes = []
for e in root.iter(SVG + "text"):
    size = float(e.get("font-size"))
    w = 0.58 * size * len("".join(e.itertext()))
    x = float(e.get("x")) - {"start": 0, "middle": w / 2, "end": w}[e.get("text-anchor")]
    y = float(e.get("y"))
    for bx, by, bw, bs, other in boxes:
        apart = x >= bx + bw - 4 or bx >= x + w - 4 or y - size >= by or by - bs >= y
        assert apart, f"'{''.join(e.itertext())}' stands on '{other}'"
    boxes.append((x, y, w, size, "".join(e.itertext())))

for name, member in (("first token", "first_token"), ("between tokens", "between_tokens")):
    t = result[member]
    want = f"{name}: p50 {t['p50_ms']:.1f}, p95 {t['p95_ms']:.1f}, p99 {t['p99_ms']:.1f} ms ({t['count']})"
    assert want in texts, f"'{want}' is not among {texts}"
assert len(list(root.iter(SVG + "circle"))) == result["first_token"]["count"]
assert any(f"{result['tokens_per_second']:.1f} tokens/s" in t for t in texts)
if "long_prompts" in result:
    assert any("long prompts: p50" in t for t in texts) and len(list(root.iter(SVG + "rect"))) > 1
