#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write grammar.json: texts and whether they match, judged by Python's `re` (GBNF) and PyPI's `jsonschema` (schemas).

Usage: python3 make_grammar.py   (needs: pip install jsonschema)
- regular: a grammar in GBNF, and texts with the verdict of an equivalent regular expression (re.fullmatch).
- schemas: a schema, and JSON texts with the verdict of jsonschema. Of a valid text with the properties in order the third entry is
  true: the grammar must accept it; of any other valid text it may or may not (false).
"""
import json
import pathlib
import random
import re

import jsonschema

REGULAR = [
    ('root ::= "a"* "b"', r"a*b", "ab"),
    ('root ::= ("ab" | "c")+', r"(ab|c)+", "abc"),
    ('root ::= [a-c]{2,3} "."?', r"[a-c]{2,3}\.?", "abcd."),
    ('root ::= [^a\\n]{0,2} "a"', r"[^a\n]{0,2}a", "ab\n\u00e9\u20ac\U0001f680"),
    ('root ::= x y | y x\nx ::= "x"+ # one or more\ny ::= [y\\u00e9]', r"x+[y\u00e9]|[y\u00e9]x+", "xy\u00e9"),
    ('root ::= "\\x41\\u00df\\U0001F680" .', "A\u00df\U0001f680(?s:.)", "A\u00df\U0001f680\n"),
    ('root ::= ("a" | "b"\n  | "c") {3}', r"[abc]{3}", "abcd"),
    ('root ::=\n  "a" |\n  "b"\n  | "c"', r"a|b|c", "abc"),
    ('root ::= ("a"*)* "b"', r"(a*)*b", "ab"),
    ('root ::= ("a"?){2,} "b"?', r"(a?){2,}b?", "ab"),
    ('root ::= [\\u0100-\\u07ff\\u0900-\\ud7ff]+', "[\u0100-\u07ff\u0900-\ud7ff]+", "\u00ff\u0100\u07ff\u0800\u08ff\u0900\ud7ff\ue000a"),
    ('root ::= [^\\u0080-\\uffff]+', "[^\u0080-\uffff]+", "a\u007f\u0080\u07ff\uffff\U00010000\U0010ffff"),
    ('root ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)?', r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", "-0129."),
    ('root ::= "a" ("," "a"){,2}', r"a(,a){0,2}", "a,"),
    ('root ::= ""', r"", "a"),
    ('root ::= (("a" | "aa") ("b" | "ab"))*', r"((a|aa)(b|ab))*", "ab"),
]


def regular(case):
    gbnf, pattern, alphabet = case
    random.seed(pattern)
    texts = {""} | {c for c in alphabet} | {a + b for a in alphabet for b in alphabet}
    texts |= {"".join(random.choice(alphabet) for _ in range(random.randint(3, 7))) for _ in range(150)}
    return {"gbnf": gbnf, "cases": [[t, bool(re.fullmatch(pattern, t))] for t in sorted(texts)]}


POINT = {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}, "required": ["x", "y"], "additionalProperties": False}
SCHEMAS = [
    ({"type": "string"}, ["", "a", "\u00e9\U0001f680", 'q"uote', "back\\slash", "line\nend", 1, None, ["a"], True]),
    ({"type": "integer"}, [0, -7, 12345, 1.5, "1", None, True, [1]]),
    ({"type": "number"}, [0, -7.25, 1e10, 1.5e-7, "1", None, False]),
    ({"type": "boolean"}, [True, False, None, 0, "true"]),
    ({"type": "null"}, [None, False, 0, "null", []]),
    ({"type": ["string", "null"]}, ["x", None, 1, True]),
    ({}, [1, "a", [1, {"b": None}], {"a": [1, 2]}, True]),
    ({"enum": ["red", "gr\u00fcn", 3, None, ["a", 1], {"k": 1.5}]}, ["red", "gr\u00fcn", 3, None, ["a", 1], {"k": 1.5}, "blue", 4, True, ["a"]]),
    ({"const": "only"}, ["only", "other", 1]),
    ({"type": "string", "enum": ["a", "b"]}, ["a", "b", "c", 1]),
    (POINT, [{"x": 1, "y": -2}, {"x": 1}, {"y": 2}, {"x": 1, "y": 2, "z": 3}, {"x": "1", "y": 2}, {}, [1, 2], {"x": 1.5, "y": 1}]),
    ({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "boolean"}, "c": {"type": "null"}}, "required": ["b"], "additionalProperties": False},
     [{"b": True}, {"a": "x", "b": False}, {"b": True, "c": None}, {"a": "", "b": True, "c": None}, {"a": "x"}, {"c": None}, {}, {"a": 1, "b": True}]),
    ({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}, [{}, {"a": 1}, {"b": 1}, {"a": "1"}]),
    ({"type": "object", "properties": {"name": {"type": "string"}, "named": {"type": "integer"}}, "required": ["name"], "additionalProperties": {"type": "boolean"}},
     [{"name": "n"}, {"name": "n", "nam": True}, {"name": "n", "other": False, "more": True}, {"name": "n", "named": 2, "namedx": True},
      {"name": "n", "other": 1}, {"name": 3}, {"name": "n", "named": True}, {}]),
    ({"type": "array", "items": {"type": "integer"}}, [[], [1], [1, 2, 3], ["a"], [1, "a"], {}, [1.5], [None]]),
    ({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3}, [[], [True], [True, False], [True] * 3, [True] * 4, [1, 2]]),
    ({"type": "array", "maxItems": 0}, [[], [1]]),
    ({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False}, [["a", 1], ["a", 1, 2], [1, "a"]]),
    ({"anyOf": [{"type": "integer"}, POINT, {"const": "none"}]}, [5, {"x": 0, "y": 0}, "none", "some", {"x": 1}, None]),
    ({"$defs": {"node": {"type": "object", "properties": {"value": {"type": "integer"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
                         "required": ["value", "next"], "additionalProperties": False}}, "$ref": "#/$defs/node"},
     [{"value": 1, "next": None}, {"value": 1, "next": {"value": 2, "next": {"value": 3, "next": None}}}, {"value": 1}, {"value": 1, "next": 2}, None]),
    ({"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}, "required": ["children"], "additionalProperties": False},
     [{"children": []}, {"children": [{"children": []}, {"children": [{"children": []}]}]}, {"children": [1]}, {"children": None}, []]),
    ({"type": "string", "minLength": 2, "maxLength": 4}, ["", "a", "ab", "abcd", "abcde", "\u00e9\u00e9", "\U0001f680" * 4, "\U0001f680" * 5, '""', '"\\"\\"']),
    ({"type": "string", "minLength": 3}, ["ab", "abc", "abcdefgh"]),
    ({"type": "string", "pattern": "^[a-z]{2,4}-\\d+$"}, ["ab-1", "abcd-123", "a-1", "ab-", "ab-1x", "AB-1", "abcde-1"]),
    ({"type": "string", "pattern": "b+"}, ["b", "abc", "xbbx", "a", ""]),
    ({"type": "string", "pattern": "^(?:yes|no|\"q\"|a\\\\b|x.z)$"}, ["yes", "no", '"q"', "a\\b", "xyz", "x\"z", "q", "maybe", "x\nz", "yesno"]),
    ({"type": "string", "pattern": "^[^a-c\\s]+$"}, ["xyz", "a", "x y", "\u00e9", "d\"\\e"]),
    ({"type": "string", "pattern": "^a|b$"}, ["a", "axx", "xxb", "xax", "b"]),
    ({"type": "string", "pattern": "^\\w+@\\w+\\.(com|org)$"}, ["a@b.com", "a_1@b.org", "a@b.net", "@b.com"]),
    ({"type": "string", "format": "date"}, ["2024-02-28", "1999-12-01", "20240228", "2024-13-01", "x"]),
    ({"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000", "123e4567"]),
    ({"type": "integer", "minimum": 0}, [0, 7, 1234567890, -1, -100]),
    ({"type": "integer", "minimum": -12, "maximum": 205}, [-12, -13, -9, -1, 0, 9, 10, 99, 100, 199, 200, 205, 206, 300, 1000, -100]),
    ({"type": "integer", "exclusiveMinimum": 17, "exclusiveMaximum": 1742}, [17, 18, 99, 100, 1741, 1742, 1800, 5, -20]),
    ({"type": "integer", "maximum": -5}, [-5, -6, -10, -4999, -4, 0, 5]),
    ({"type": "number", "minimum": 0, "maximum": 1}, [0, 1, 0.5, 0.999, 1.001, -0.1, 2]),
    ({"type": "number", "exclusiveMinimum": 0}, [0, 0.25, 1, 17.5, -1, -0.5]),
    ({"type": "number", "minimum": -2.5, "maximum": 3}, [-2, -1.75, 0, 2.75, 3, 3.25, -3, 4]),
    ({"type": "object", "properties": {"quote\"d": {"type": "integer"}, "\u00fc": {"type": "integer"}, "": {"type": "integer"}}, "required": ["quote\"d", "\u00fc", ""],
      "additionalProperties": False}, [{"quote\"d": 1, "\u00fc": 2, "": 3}, {"quoted": 1, "\u00fc": 2, "": 3}]),
    ({"title": "Order", "type": "object", "properties": {"id": {"type": "integer", "description": "d"}, "lines": {"type": "array", "minItems": 1, "items": {
        "type": "object", "properties": {"sku": {"type": "string", "pattern": "^[A-Z]{3}$"}, "n": {"type": "integer", "minimum": 1, "maximum": 99},
                                         "tag": {"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}], "default": None}},
        "required": ["sku", "n"], "additionalProperties": False}}}, "required": ["id", "lines"], "additionalProperties": False},
     [{"id": 1, "lines": [{"sku": "ABC", "n": 5}]}, {"id": 1, "lines": [{"sku": "ABC", "n": 5, "tag": None}, {"sku": "XYZ", "n": 99, "tag": "abc"}]},
      {"id": 1, "lines": []}, {"id": 1, "lines": [{"sku": "abc", "n": 5}]}, {"id": 1, "lines": [{"sku": "ABC", "n": 0}]}, {"lines": [], "id": 1}]),
]


def same_order(schema, value):
    """True unless properties stand in another order than in the schema; enough for the values above."""
    if isinstance(value, dict):
        names = list(schema.get("properties", {}))
        at = [names.index(k) for k in value if k in names]
        rest = [k for k in value if k not in names]
        return at == sorted(at) and list(value)[len(at):] == rest
    return True


def main():
    schemas = []
    for schema, values in SCHEMAS:
        validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
        cases = []
        for value in values:
            valid = validator.is_valid(value)
            for text in {json.dumps(value, ensure_ascii=False, separators=(",", ":")), json.dumps(value, ensure_ascii=False),
                         json.dumps(value, ensure_ascii=False, indent=2)}:
                cases.append([text, valid, valid and same_order(schema, value) and "const" not in json.dumps(schema) and "enum" not in json.dumps(schema)
                              or (valid and text == json.dumps(value, ensure_ascii=False, separators=(",", ":")) and same_order(schema, value))])
        for broken in ["", "{", "[1,]", '"', "nul", "01", "1.", "-", '{"x":1,}', '"\\ud800"', '"\\x"', '"\t"', "True", "[1 2]", "1 1"]:
            cases.append([broken, False, False])
        schemas.append({"schema": json.dumps(schema, ensure_ascii=False), "cases": sorted(cases)})
    out = {"regular": [regular(case) for case in REGULAR], "schemas": schemas}
    pathlib.Path(__file__).with_name("grammar.json").write_text(json.dumps(out, ensure_ascii=True, separators=(",", ":")) + "\n")


main()
