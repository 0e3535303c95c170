#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Check texts against their schemas: check_schemas.py FILE, FILE = [{"schema": TEXT, "texts": [TEXT, ...]}, ...].

Exit status 77 if PyPI's jsonschema is not installed, 1 if a text is not valid.
"""
import json
import sys

try:
    import jsonschema
except ImportError:
    sys.exit(77)

bad = 0
with open(sys.argv[1], encoding="utf-8") as file:
    for entry in json.load(file):
        validator = jsonschema.Draft202012Validator(json.loads(entry["schema"]), format_checker=jsonschema.FormatChecker())
        for text in entry["texts"]:
            for error in validator.iter_errors(json.loads(text)):
                print(f"{entry['schema']}\n  {text}\n  {error.message}")
                bad = 1
                break
sys.exit(bad)
