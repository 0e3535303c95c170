#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Expected outputs of chat templates from PyPI's jinja2, set up as transformers does it.

  make_templates.py --write       writes templates/constructs.json and templates/families.json beside this file
  make_templates.py --real DIR    prints cases for every *.jinja in DIR as JSON (for the test; nothing is stored)

A case: {"name", "template" (text) or "file", "variables", "expected"} or "error": the exception's class instead of "expected".
The clock stands at 2023-11-14 22:13:20 UTC (1700000000).
"""
import datetime
import functools
import glob
import json
import os
import sys

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment, SecurityError


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def strftime_now(format):
    return datetime.datetime.fromtimestamp(1700000000, datetime.timezone.utc).strftime(format)


def environment(relaxed=False):
    kind = SandboxedEnvironment if relaxed else ImmutableSandboxedEnvironment
    env = kind(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
    env.filters["tojson"] = tojson
    if relaxed:
        env.filters["from_json"] = json.loads
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


@functools.lru_cache(maxsize=4)
def compiled(source, relaxed):
    return environment(relaxed).from_string(source)


def case(name, source, variables, **more):
    """Where the immutable sandbox refuses to change a list or dict, or lacks from_json: "relaxed" is true and the
    expected text is that of a sandbox without these two limits, as graft has it."""
    result = {"name": name, **more, "variables": variables}
    for relaxed in (False, True):
        try:
            result["expected"] = compiled(source, relaxed).render(**json.loads(json.dumps(variables)))
            result["relaxed"] = relaxed
            return result
        except Exception as error:  # whatever jinja2 or Python raises is the expected outcome
            result["error"] = type(error).__name__
            result["message"] = str(error)
            if not isinstance(error, SecurityError) and "from_json" not in str(error):
                break
    return result


VARIABLES = {
    "s": "Hello, World", "u": "Zoë – straße 日本語 🚀", "n": 7, "f": 2.5, "yes": True, "nothing": None, "empty": [], "ws": " \t a b \n ",
    "list": [3, 1, 2], "words": ["b", "A", "c", "a"], "d": {"b": 1, "a": [1, 2.0, None, True], "c": {"x": "it's"}},
    "rows": [{"k": "x", "v": 1}, {"k": "y", "v": 2}, {"k": "x", "v": 3}, {"v": 4}], "quote": 'a"b\'c\\\n\x07\u00a0', "html": "<a href='x'>&</a>",
    "nested": [[1, [2, [3, []]]], {"k": (1,)}],
}

# One construct a line; a comment says what is looked at where it is not plain.
CONSTRUCTS = r"""
{{ s }}|{{ u }}|{{ n }}|{{ f }}|{{ yes }}|{{ nothing }}|{{ empty }}|{{ missing }}
{{ list }} {{ d }} {{ nested }} {{ quote }} {{ [quote] }} {{ [u] }} {{ (1,) }} {{ () }} {{ (1, 'a') }} {{ {} }}
{{ [1.0, 1e16, 1e15, 1.5e-5, 0.0001, 1e22, 123456789.123, 0.1, 1e300, 3.14159, -0.0, 100.0] }}
{{ 1 + 2 * 3 - 4 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 7 / 2 }} {{ 6 / 2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 2 ** 3 ** 2 }} {{ -2 ** 2 }}
{{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 1 + 1.0 }} {{ True + True }} {{ 10 / 4 * 2 }} {{ +3 }} {{ - -3 }} {{ 1_000 }} {{ 0x1F }} {{ 1.5e3 }}
{{ 'a' + 'b' }} {{ 'a' ~ 1 ~ None ~ missing ~ 2.0 }} {{ 'ab' * 3 }} {{ 3 * 'x' }} {{ [1] + [2] }} {{ [0] * 3 }} {{ 'a' 'b' "c" }}
{{ 1 == 1.0 }} {{ 1 == '1' }} {{ true == 1 }} {{ none == false }} {{ [1, 2] == [1, 2] }} {{ {'a': 1} == {'a': 1.0} }} {{ (1,) == [1] }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 1 != 2 }} {{ 2 >= 2 }} {{ 'Z' < 'a' }} {{ 3 > 2 > 1 == 1 }}
{{ 'ell' in s }} {{ 'x' not in s }} {{ 1 in list }} {{ 'a' in d }} {{ 'zz' in d }} {{ 5 in range(3, 9) }} {{ 9 in range(3, 9) }} {{ 2 in range(3, 9) }} {{ 4 in range(3, 9, 2) }} {{ 3 in range(9, 2, -3) }} {{ 2 in range(9, 2, -3) }} {{ 'abab'.rfind('ab') }} {{ 'aab'.find('ab') }} {{ 'aa'.rfind('b') }} {{ 'abc'.rfind('') }} {{ '' in s }} {{ 1 in missing }}
{{ yes and n }} {{ nothing or 'x' }} {{ not yes }} {{ not missing }} {{ 0 or '' or [] }} {{ 1 and 0 and 2 }} {{ not not n }} {{ not 1 == 2 }}
{{ 'a' if yes else 'b' }} {{ 'a' if nothing else 'b' }} {{ 'a' if nothing }} {{ 1 if 0 else 2 if 0 else 3 }} {{ ('x' if yes) ~ 'y' }}
{{ s[0] }} {{ s[-1] }} {{ s[99] }} {{ u[2] }} {{ u[-1] }} {{ list[0] }} {{ list[-1] }} {{ list[5] }} {{ d['b'] }} {{ d.b }} {{ d.c.x }} {{ d['c']['x'] }} {{ d.zz }} {{ list.0 }}
{{ s[1:4] }} {{ s[:-2] }} {{ s[::2] }} {{ s[::-1] }} {{ u[4:8] }} {{ u[::-1] }} {{ list[1:] }} {{ list[::-1] }} {{ list[-2:] }} {{ list[5:] }} {{ s[-3:-1] }} {{ (1,2,3)[1:] }} {{ list[:] }} {{ s[4:1:-1] }} {{ range(10)[2:4] | list }}
{{ d.items() | list }} {{ d.keys() | list }} {{ d.values() | list }} {{ d.get('b') }} {{ d.get('q') }} {{ d.get('q', 5) }} {{ d.items() }} {{ d.keys() }}
{{ d['items'] is callable }} {{ d.c['keys'] is defined }} {{ nothing.foo }} {{ n.foo }} {{ s.foo }} {{ list.foo }} {{ s['upper']() }}
{{ s.upper() }} {{ s.lower() }} {{ u.upper() }} {{ s.title() }} {{ "they're bill's".title() }} {{ s.capitalize() }} {{ 'ABC def'.capitalize() }}
[{{ ws.strip() }}] [{{ ws.lstrip() }}] [{{ ws.rstrip() }}] [{{ 'xxaxx'.strip('x') }}] [{{ 'abcba'.strip('ab') }}] [{{ 'xxaxx'.lstrip('x') }}] [{{ 'xxa'.rstrip('a') }}]
{{ 'a,b,,c'.split(',') }} {{ ws.split() }} {{ 'a b  c d'.split(None, 1) }} {{ 'a,b,c'.split(',', 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b c '.rsplit(None, 1) }} {{ ''.split(',') }} {{ ''.split() }} {{ 'a b c'.rsplit() }} {{ '  a b '.split(None, 1) }}
{{ 'a\nb\r\nc\n'.splitlines() }} {{ 'a\nb\n'.splitlines(true) }} {{ 'a\n\nb'.split('\n') }} {{ 'a--b--c'.partition('--') }} {{ 'a--b--c'.rpartition('--') }} {{ 'abc'.partition('x') }}
{{ s.startswith('He') }} {{ s.endswith('ld') }} {{ s.startswith(('x', 'H')) }} {{ s.find('o') }} {{ s.rfind('o') }} {{ s.find('zz') }} {{ u.find('語') }} {{ s.count('l') }} {{ s.index('W') }} {{ s.find('o', 5) }}
{{ s.replace('l', 'L') }} {{ s.replace('l', '', 1) }} {{ 'abc'.replace('', '-') }} {{ ', '.join(words) }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ '12'.isdigit() }} {{ ' '.isspace() }} {{ 'a1'.isdigit() }}
{{ '{} and {}'.format(1, 'x') }} {{ '{0}{1}{0}'.format('a', 'b') }} {{ '{name}'.format(name=s) }} {{ '{{}}'.format() }} {{ '{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}'.format('a', 'b', 'c', 42, 3.14159, 1234567) }} {{ '{!r}'.format('a') }} {{ '{:x} {:+d} {:e} {:%}'.format(255, 5, 12345.678, 0.25) }} {{ '{a[0]} {a[1]}'.format(a=[1,2]) }}
{{ '%s is %d and %.2f' % ('x', 3, 2.5) }} {{ '%5s|%-5s|%05d' % ('a', 'b', 42) }} {{ '%s' % 5 }} {{ '100%%' % () }} {{ '%x' % 255 }} {{ '%r' % ('a',) }} {{ '%s-%s' | format('a', 'b') }}
{{ s | upper }} {{ s | lower }} {{ u | title }} {{ "hello-world foo(bar" | title }} {{ 'hELLO' | capitalize }} [{{ ws | trim }}] {{ 'xax' | trim('x') }} {{ 5 | string }} {{ none | upper }}
{{ missing | default('x') }} {{ nothing | default('x') }} {{ nothing | default('x', true) }} {{ '' | d('y', boolean=true) }} {{ missing | default }} {{ missing.foo | default('z') if false else 'ok' }}
{{ list | length }} {{ s | length }} {{ u | length }} {{ d | length }} {{ d | count }} {{ missing | length }} {{ range(5) | length }}
{{ list | first }} {{ list | last }} {{ s | first }} {{ s | last }} {{ empty | first }} {{ d | first }} {{ d | last }}
{{ list | join(',') }} {{ words | join }} {{ rows | join('-', attribute='v') }} {{ s | join('.') }} {{ [1, none, 'a'] | join(' ') }} {{ d | join(',') }}
{{ list | sort }} {{ words | sort }} {{ words | sort(case_sensitive=true) }} {{ list | sort(reverse=true) }} {{ rows[:3] | sort(attribute='k') }} {{ list | reverse | list }} {{ s | reverse }} {{ rows | sort(attribute='v', reverse=true) | map(attribute='v') | list }}
{{ words | unique | list }} {{ words | unique(case_sensitive=true) | list }} {{ list | sum }} {{ rows | sum(attribute='v') }} {{ list | min }} {{ list | max }} {{ words | min }} {{ empty | max }} {{ [1, 2] | sum(start=10) }}
{{ 12345 | filesizeformat }} {{ 1 | filesizeformat }} {{ 1000 | filesizeformat }} {{ 1500000 | filesizeformat(true) }} {{ 0 | filesizeformat }} {{ 1e30 | filesizeformat }} {{ 999.9 | filesizeformat }} {{ '2048' | filesizeformat(binary=true) }}
{{ [1,2,3,4,5,6,7] | slice(3) | list }} {{ [1,2,3,4,5,6,7] | slice(3, 'x') | list }} {{ [] | slice(2) | list }} {{ [1,2,3,4,5,6] | slice(3, 'x') | list }} {{ 'abc' | slice(5) | list }}
{{ 'a b/c&d=é' | urlencode }} {{ {'a b': 1, 'c': 'é&/'} | urlencode }} {{ [('x', 1), ('y', 'z w')] | urlencode }} {{ 5 | urlencode }} {{ 'A-Z_.~!*()' | urlencode }}
{{ {'class': 'a', 'id': none, 'x': 1, 'y': missing} | xmlattr }}|{{ {'a': '"<'} | xmlattr(false) }}|{{ {} | xmlattr }}|{{ {'a': 1, 'b': 2} | xmlattr(false) }}
{{ 'The quick-brown fox -- it jumped over well-known, o-o-k fences--again and again.' | wordwrap(12) }}|{{ 'a bb  ccc\n\n dddd eeeee\tf' | wordwrap(6) }}|{{ 'Donaudampfschifffahrt über-allem' | wordwrap(9) }}|{{ u | wordwrap(3) }}
{{ 'Donaudampfschiff x well-known' | wordwrap(7, false) }}|{{ 'a b c d' | wordwrap(3, wrapstring='<br>') }}|{{ 'well-known words of mother-in-law' | wordwrap(8, break_on_hyphens=false) }}|{{ '' | wordwrap }}|{{ ' x' | wordwrap(1) }}|{{ 'aaa-bbb-ccc' | wordwrap(5, true, none, true) }}
{{ d | pprint }} {{ 'x' | pprint }} {{ [3, 1, {'b': 1, 'a': [true, none]}] | pprint }} {{ rows | pprint }}
{{ {'zeta': 'a long text that goes on and on, over more than one line of the output, as long texts do', 'alpha': [1, 2, 3, 'four', 'five', 'six', 'seven', 'eight', 'nine', 'ten', 'eleven', 'twelve', 'thirteen'], 'c': ('one',), 'e': {'inner': ['deep ' * 20, 1.5, none], 'k': {}}} | pprint }}
{{ ('word ' * 30) | pprint }}|{{ ['one line\nanother line that is a good deal longer than the first one was, indeed, is it not\n\nend'] | pprint }}|{{ [('x' * 90, 'y' * 3)] | pprint }}|{{ {2: 'b', 1: 'a', 10: 'c' * 80} | pprint }}
{{ '<p>Some <b>bold</b>\n\n  text</p> <!-- a > b --> & more < less &amp; &lt;b&gt; &#65;&#x42;' | striptags }}|{{ 'no tags  here' | striptags }}|{{ 'open <a href="x' | striptags }}|{{ '<!-- open' | striptags }}|{{ 5 | striptags }}|{{ '<<a>>' | striptags }}
{{ 'abc'.zfill(5) }} {{ '-5'.zfill(4) }} {{ 'abc'.ljust(5) }}| {{ 'abc'.rjust(5, '*') }} {{ 'abc'.center(7, '-') }} {{ 'abc'.center(6, '-') }} {{ 'abcd'.center(7, 'é') }} {{ 'aBc ß'.swapcase() }} {{ 'abc'.rindex('c') }}
{{ 'abc'.isalpha() }} {{ 'a1'.isalpha() }} {{ ''.isalpha() }} {{ 'ABC'.isupper() }} {{ 'A1'.isupper() }} {{ '1'.isupper() }} {{ 'abc'.islower() }} {{ 'a1'.isalnum() }} {{ 'a_'.isalnum() }} {{ '5'.isdecimal() }} {{ '½'.isnumeric() }} {{ '½'.isdecimal() }} {{ 'é'.isascii() }} {{ ''.isascii() }} {{ '日本'.isalpha() }}
{{ rows[:3] | sort(attribute='k,v', reverse=true) | map(attribute='v') | list }} {{ rows[:3] | sort(attribute='k,v') | map(attribute='v') | list }}
{{ rows | map(attribute='k') | list }} {{ rows | map(attribute='k', default='?') | list }} {{ words | map('upper') | list }} {{ words | map('replace', 'a', 'z') | list }} {{ rows | map(attribute='k') | select('defined') | list }}
{{ rows | selectattr('k') | list }} {{ rows | selectattr('k', 'equalto', 'x') | map(attribute='v') | list }} {{ rows | rejectattr('k', 'defined') | list }} {{ list | select('odd') | list }} {{ list | reject('gt', 1) | list }} {{ [0, 1, ''] | select | list }} {{ rows | selectattr('v', 'in', [1, 4]) | list | length }}
{{ d | dictsort }} {{ {'B': 2, 'a': 1, 'C': 0} | dictsort }} {{ {'B': 2, 'a': 1} | dictsort(true) }} {{ {'B': 2, 'a': 1} | dictsort(by='value') }} {{ {'B': 2, 'a': 1} | dictsort(reverse=true) }} {{ d | items | list }} {{ d | list }} {{ s | list }}
{{ '42' | int }} {{ '4.7' | int }} {{ 'x' | int }} {{ 'x' | int(5) }} {{ 3.9 | int }} {{ -3.9 | int }} {{ '0x1f' | int(0, 16) }} {{ ' 12 ' | int }} {{ none | int(3) }} {{ '2.5' | float }} {{ 'x' | float }} {{ 2 | float }} {{ '1e3' | float }} {{ true | int }}
{{ -5 | abs }} {{ 2.5 | round }} {{ 3.5 | round }} {{ 2.567 | round(2) }} {{ 2.561 | round(2, 'ceil') }} {{ 2.569 | round(1, 'floor') }} {{ 5 | round }} {{ -2.5 | abs }} {{ 1234.5 | round(-2) }}
{{ html | escape }} {{ html | e }} {{ html | safe }} {{ html }}
{{ 'a\nb\n\nc' | indent }} {{ 'a\nb' | indent(2, true) }} {{ 'a\n\nb' | indent(2, blank=true) }} {{ 'a\nb' | indent('> ') }} {{ 'a\n' | indent }}|
{{ 'foo bar baz qux' | truncate(9) }} {{ 'foo bar baz qux' | truncate(9, true) }} {{ 'foo bar baz qux' | truncate(11, false, '..', 0) }} {{ 'foo bar' | wordcount }} [{{ 'x' | center(5) }}] {{ [1,2,3,4,5] | batch(2) | list }} {{ [1,2,3] | batch(2, 0) | list }}
{{ d | tojson }} {{ u | tojson }} {{ quote | tojson }} {{ html | tojson }} {{ [1.0, 1e20, none, true] | tojson }} {{ (1, 2) | tojson }} {{ {} | tojson }} {{ [] | tojson }} {{ {1: 2, none: 3, true: 4} | tojson }}
{{ d | tojson(indent=2) }} {{ d | tojson(indent=4, sort_keys=true) }} {{ d | tojson(sort_keys=true) }} {{ u | tojson(ensure_ascii=true) }} {{ d | tojson(separators=(',', ':')) }} {{ [[], {}] | tojson(indent=1) }} {{ d | tojson(false, 2) }}
{% for x in rows | groupby('v') %}{{ x[0] }}:{{ x[1] | length }} {% endfor %}{{ (rows | map(attribute='v') | list)[::-1] }}
{{ missing is defined }} {{ s is defined }} {{ missing is undefined }} {{ nothing is none }} {{ s is string }} {{ n is number }} {{ f is float }} {{ n is integer }} {{ yes is integer }} {{ yes is boolean }} {{ yes is number }} {{ d is mapping }} {{ list is mapping }}
{{ list is iterable }} {{ n is iterable }} {{ s is iterable }} {{ missing is iterable }} {{ list is sequence }} {{ d is sequence }} {{ d.items() is sequence }} {{ none is sequence }} {{ yes is true }} {{ 1 is true }} {{ yes is false }} {{ s is callable }} {{ s.upper is callable }}
{{ 3 is odd }} {{ 4 is even }} {{ 9 is divisibleby 3 }} {{ 9 is divisibleby(4) }} {{ 1 is eq 1 }} {{ 1 is ne 1 }} {{ 1 is in [1, 2] }} {{ 3 is not in [1] }} {{ 1 is lt 2 }} {{ 2 is ge(2) }} {{ 'a' is lower }} {{ 'A' is upper }} {{ n is sameas n }} {{ 's' is equalto 's' }} {{ n is not none }} {{ not n is none }} {{ 'upper' is filter }}
{{ missing is not defined and n > 3 }} {{ d.c is mapping and d.c.x is string or false }} {{ (n is number) ~ 'x' }}
{% for i in list %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.previtem }}/{{ loop.nextitem }}/{{ loop.depth }}/{{ loop.cycle('a', 'b') }}/{{ loop.changed(i > 1) }};{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %} {% for k in d %}{{ k }}{% endfor %} {% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %} {% for c in u[:5] %}{{ c }}.{% endfor %}
{% for i in empty %}x{% else %}none{% endfor %} {% for i in list if i > 1 %}{{ loop.index }}:{{ i }}/{{ loop.length }} {% else %}no{% endfor %} {% for i in list if i > 9 %}x{% else %}no{% endfor %} {% for i in missing %}{% else %}e{% endfor %}
{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %} {% for i in range(5, 0, -2) %}{{ i }}{% endfor %} {% for i in range(2, 4) %}{{ i }}{% endfor %}
{% for i in [1, 2] %}{% for j in [3, 4] %}{{ loop.index }}{{ i }}{{ j }}{{ loop.depth }} {% if j == 3 %}{% break %}{% endif %}{% endfor %}{{ loop.index }}{% endfor %}
{% for x in [[1, [2]], 3] recursive %}{% if x is iterable %}<{{ loop(x) }}>{% else %}{{ x }}@{{ loop.depth }}{% endif %}{% endfor %}
{% set x = 1 %}{% for i in list %}{% set x = x + i %}{{ x }},{% endfor %}{{ x }} {% set a, b = 1, 2 %}{{ a }}{{ b }} {% set t = 1, 2 %}{{ t }} {% if true %}{% set y = 5 %}{% endif %}{{ y }}
{% set ns = namespace(a=1, b='x') %}{% for i in list %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}{{ ns.c }} {% set ns.c = [] %}{{ ns.c }} {{ ns.c is defined }} {{ namespace({'q': 2}).q }}
{% set t %}  block {{ n }}{% endset %}[{{ t }}] {% set t | trim | upper %}  block {{ n }} {% endset %}[{{ t }}]
{% macro m(a, b='B', c=n) %}({{ a }},{{ b }},{{ c }}){% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(a=3, c=4) }}{{ m() }} {{ m(1) | upper }} {{ m('x') ~ 'y' }} {{ m.name }}
{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, x=4) }} {% macro f(x) %}{% if x > 0 %}{{ x }}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(5) }} {% macro g(a, b=a) %}{{ b }}{% endmacro %}{{ g(2) }}
{% macro outer() %}<{{ caller() }}>{% endmacro %}{% call outer() %}in {{ n }}{% endcall %} {% macro each(l) %}{% for i in l %}{{ caller(i) }}{% endfor %}{% endmacro %}{% call(x) each([1, 2]) %}[{{ x }}]{% endcall %} {% macro t() %}{{ caller is defined }}{% endmacro %}{{ t() }}
{% macro m() %}{{ later }}{% endmacro %}{% set later = 'late' %}{{ m() }} {% set v = 1 %}{% macro w() %}{% set v = 2 %}{{ v }}{% endmacro %}{{ w() }}{{ v }} {{ m(*[]) }} {% macro p(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ p(*[1], **{'b': 2}) }}
{% filter upper %}abc {{ s }}{% endfilter %} {% filter trim | replace('a', 'b') %}  aaa {% endfilter %}. {% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }} {% with %}{% set q = 1 %}{% endwith %}{{ q }} {% generation %}gen {{ n }}{% set gg = 1 %}{% endgeneration %}{{ gg }}
{% raw %}{{ not }} {% if %}{% endraw %} {%- raw -%}  x  {%- endraw -%}  y {# comment {{ x }} #}z {#- trimmed -#}  w {{ '{{' }} {{ "}}" }} {{ '%}' }}
{% if n > 5 %}big{% elif n > 3 %}mid{% else %}small{% endif %} {% if nothing %}a{% elif empty %}b{% else %}c{% endif %} {% if 'x' in d or n == 7 and not nothing %}t{% endif %} {%if yes%}1{%endif%}
{{ 'a\tb\\n\'q\' "d" \x41 \u00e9 \U0001F680 \q \101' }} {{ "it's" }} {{ 'say "hi"' }} {{ '\
x' }}
{{ cycler('a', 'b').next() }} {% set c = cycler('o', 'e') %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }} {% set j = joiner(', ') %}{% for i in list %}{{ j() }}{{ i }}{% endfor %} {{ dict(a=1, b=2) }} {{ dict([('x', 1)]) }}
{{ strftime_now('%Y-%m-%d %H:%M:%S %d %b %Y %B %A %a %j %-d %y') }} {{ strftime_now is defined }}
{{ {'a': 1, 'b': {'c': [1, 2]}}['b'].c[1] }} {{ [1, [2, 3]][1][0] }} {{ ({'x': 1}).x }} {{ {'a': 1, 'a': 2} }} {{ {1: 'a', 1.0: 'b', true: 'c'} }} {{ {(1, 2): 3}[(1, 2)] }} {{ [1, 2,] }} {{ (1, 2,) }}
{{ rows | map(attribute='v') | map('string') | join('+') }} {{ list | map('abs') | sum }} {{ s | replace('l', 'r') | upper | list | last }} {{ (words | select('in', ['a', 'A']) | list) | tojson }} {{ -1 | abs }} {{ [1,2] | string }} {{ 'a' is in 'abc' }}
{% set a = 'x' * 3 %}{% set b = a + 'y' %}{% set c = a + 'z' %}{% set e = b ~ 'q' %}{% set g = b[:2] + 'w' %}{{ a }} {{ b }} {{ c }} {{ e }} {{ g }} {{ b + 'r' }} {% set h %}{{ a }}{% endset %}{% set i = h + '1' %}{% set j = h + '2' %}{{ h }} {{ i }} {{ j }}
{{ (rows | first).k }} {{ (list | sort)[0] }} {{ d.a[1] }} {{ d.c.x[0:2] }} {{ s.split(', ')[1].lower()[0] | upper }} {{ (s ~ '!').upper() }} {{ 'abc'[1].upper() }} {{ list.index(2) }} {{ list.count(1) }} {{ 'x'.join(['a']) }}
"""

# Whitespace rules, several lines each.
LINES = [
    "  {% if true %}\n    yes\n  {% endif %}\nend\n",
    "a\n  {%- if true -%}  \n  b  \n  {%- endif -%}  \n c",
    "a\n  {%+ if true %}\nb\n  {%+ endif +%}\nc\n\n",
    "  {{ 1 }}\n  {{- 2 }}  \n{{ 3 -}}  \n 4\n",
    "x {# c #}\n  {# d #}\n  y {#- e -#} \n z {#+ f +#}\n",
    "{% for i in [1, 2] %}\n  {{ i }}\n{% endfor %}\n",
    "  {% for i in [1, 2] -%}\n  {{ i }}\n  {%- endfor %}\n  end",
    "a {% if true %} b {% endif %} c\n\td\t{% if true %}\n\te{% endif %}\n",
    "line\r\nnext\r{% if true %}\r\nx{% endif %}\r\n",
    "  {% raw %}\n  {{ x }}\n  {% endraw %}\n  y",
    "{% set x %}\n a\n {% endset %}\n[{{ x }}]",
    "{{ 'a\nb' }}\n\n", "\n\n", "", " ", "{", "{ {", "}}", "%}", "a{", "{{ '' }}\n",
    "{%- set a = 1 -%}\n\n{{ a }}\u00a0\n{%- if a %} \u2003{{ a }}{% endif %}",
    "{% macro m(x) -%}\n  {{ x }}\n{%- endmacro %}\n{{ m(1) }}\n{{ m(2) }}",
    "{% for m in [{'r': 'user'}, {'r': 'bot'}] %}{{'<|' + m['r'] + '|>\n'}}{% if loop.last %}!{% endif %}{% endfor %}",
]

ERRORS = r"""
{{ missing.foo }}
{{ missing['foo'] }}
{{ missing() }}
{{ missing + 1 }}
{{ -missing }}
{{ missing < 1 }}
{{ missing[1:] }}
{{ n() }}
{{ 1 + 'a' }}
{{ 'a' - 'b' }}
{{ 1 < 'a' }}
{{ 1 / 0 }}
{{ 1 % 0 }}
{{ 5 in 'abc' }}
{{ 1 in 5 }}
{{ none | length }}
{{ 5 | list }}
{{ missing | tojson }}
{{ raise_exception('my message') }}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{% for a, b in [(1,)] %}{% endfor %}
{% for a in 5 %}{% endfor %}
{% set s.x = 1 %}
{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{% endmacro %}{% call m(1) %}{% endcall %}
{{ {[]: 1} }}
{{ range(1000000) }}
{{ s.split('') }}
{{ s.index('zzz') }}
{{ ', '.join([1]) }}
{{ '{}'.format() }}
{{ '%d' % 'x' }}
{{ list | sort(attribute='x') | join(undefined.x) }}
{{ [1, 'a'] | sort }}
{{ d | map(attribute='x') | length }}
{{ nothing[1:] }}
{{ s | nofilter }}
{{ s is notest }}
{% if true %}{{ s | nofilter }}{% endif %}
{% include 'x' %}
{% nonsense %}
{% if true %}
{% endif %}
{% for i in list %}{% endif %}
{{ 1 + }}
{{ (1 }}
{{ 'abc }}
{% if %}{% endif %}
{% set 1 = 2 %}
{% set true = 2 %}
{{ a b }}
{{ a.1b }}
{# open
{% raw %} open
{{ f(a=1, 2) }}
{% macro m(a=1, b) %}{% endmacro %}
{% break %}
{{ ] }}
{{ [1, 2) }}
{{ $ }}
{{
{%
{{ }}
{% call 5 %}{% endcall %}
{{ 1 is string is string }}
"""

CHAT = [{"role": "user", "content": "Hi, what's 2 < 3?"}, {"role": "assistant", "content": "Yes. 🚀"}, {"role": "user", "content": "Thanks\n"}]
SYSTEM = [{"role": "system", "content": "Be brief. "}] + CHAT
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a \"city\"", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "Name of the city", "enum": ["Bern", "Zürich"]},
                                     "days": {"type": "integer", "description": "How many days", "default": 1},
                                     "tags": {"type": "array", "items": {"type": "string"}},
                                     "opts": {"type": "object", "properties": {"unit": {"type": ["string", "null"]}}}},
    "required": ["city"]}, "return": {"type": "string"}}},
    {"type": "function", "function": {"name": "noop", "description": "Nothing", "parameters": {"type": "object", "properties": {}}}}]
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 2, "f": 1.5, "b": True, "z": None}}}]}
CALL_TEXT = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "call12345", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\": \"Bern\"}"}}]}
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "call12345", "content": "{\"temp\": 20}"}
THINK = [{"role": "user", "content": "Think"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nDone", "reasoning_content": "hm",
                                               "thinking": "hm"}, {"role": "user", "content": "More"}]
PARTS = [{"role": "user", "content": [{"type": "text", "text": "Part one"}, {"type": "text", "text": " and two"}]},
         {"role": "assistant", "content": [{"type": "text", "text": "ok"}]}, {"role": "user", "content": [{"type": "text", "text": "go"}]}]
IMAGE = [{"role": "user", "content": [{"type": "image"}, {"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "What?"}]}]
UNICODE = [{"role": "system", "content": "Zoë – 日本語"}, {"role": "user", "content": "‮ \u00a0 é 🚀👩‍👩‍👧 <|im_end|>\u2028"}]

BASE = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
CONVERSATIONS = {
    "plain": {"messages": CHAT}, "one": {"messages": CHAT[:1]}, "one, no prompt": {"messages": CHAT[:1], "add_generation_prompt": False},
    "no prompt": {"messages": CHAT[:2], "add_generation_prompt": False}, "system": {"messages": SYSTEM},
    "tools": {"messages": SYSTEM, "tools": TOOLS}, "tools, no system": {"messages": CHAT[:1], "tools": TOOLS},
    "call": {"messages": CHAT[:1] + [CALL, RESULT], "tools": TOOLS},
    "call and answer": {"messages": SYSTEM[:2] + [CALL, RESULT, {"role": "assistant", "content": "20 degrees"}, CHAT[0]], "tools": TOOLS},
    "two calls": {"messages": CHAT[:1] + [{**CALL, "tool_calls": CALL["tool_calls"] * 2}, RESULT, RESULT], "tools": TOOLS},
    "call, text arguments": {"messages": CHAT[:1] + [CALL_TEXT, RESULT], "tools": TOOLS},
    "call with content": {"messages": CHAT[:1] + [{**CALL, "content": "Let me see."}, RESULT], "tools": TOOLS},
    "call, bare tools": {"messages": CHAT[:1] + [CALL, RESULT], "tools": [t["function"] for t in TOOLS]},
    "thinking": {"messages": THINK}, "thinking on": {"messages": THINK, "enable_thinking": True, "thinking": True, "reasoning_effort": "high"},
    "thinking off": {"messages": THINK, "enable_thinking": False, "thinking": False}, "parts": {"messages": PARTS}, "image": {"messages": IMAGE},
    "unicode": {"messages": UNICODE}, "empty": {"messages": []}, "wrong order": {"messages": [CHAT[1], CHAT[0], CHAT[0]]},
    "unknown role": {"messages": [{"role": "critic", "content": "x"}]},
    "documents": {"messages": CHAT, "documents": [{"title": "T", "text": "Body é", "doc_id": 1}], "date_string": "1 Jan 2024"},
    "developer": {"messages": [{"role": "developer", "content": "Dev"}] + CHAT[:1]},
    "system parts": {"messages": [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}, CHAT[0]]},
    "result parts": {"messages": CHAT[:1] + [CALL, {**RESULT, "content": [{"type": "text", "text": "20"}, {"type": "text", "text": " degrees"}]}], "tools": TOOLS},
    "result as data": {"messages": CHAT[:1] + [CALL, {**RESULT, "content": {"temp": 20, "city": "Zürich", "list": [1, None]}}], "tools": TOOLS},
    "deep arguments": {"messages": CHAT[:1] + [{"role": "assistant", "tool_calls": [{"id": "abcdefghi", "type": "function", "function": {
        "name": "plot", "arguments": {"série": [1, [2.5, {"k": "<&>\"'"}]], "empty": {}, "t": "line\nend", "big": 12345678901}}}]},
        {"role": "tool", "tool_call_id": "abcdefghi", "name": "plot", "content": ""}, CHAT[0]], "tools": TOOLS},
    "call without id": {"messages": CHAT[:1] + [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "noop", "arguments": {}}}]},
                                               {"role": "tool", "content": "ok"}], "tools": TOOLS},
    "calls in turns": {"messages": SYSTEM[:2] + [CALL, RESULT, {**CALL, "reasoning_content": "again", "content": "Once more"}, RESULT,
                                                 {"role": "assistant", "content": "Done", "reasoning_content": "so"}, CHAT[0]], "tools": TOOLS,
                       "enable_thinking": True, "thinking": True},
    "thinking parts": {"messages": [CHAT[0], {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "ok"}]}, CHAT[0]]},
    "thinking and call": {"messages": CHAT[:1] + [{**CALL, "reasoning_content": "look", "reasoning": "look", "thinking": "look"}, RESULT], "tools": TOOLS,
                          "enable_thinking": True, "preserve_thinking": True, "clear_thinking": False},
    "mixed parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image"}, {"type": "video"}, {"type": "audio"},
                                                              {"type": "text", "text": "ünd"}]}], "add_vision_id": True},
    "tools, nothing said": {"messages": SYSTEM[:1], "tools": TOOLS}, "empty tools": {"messages": CHAT, "tools": []},
    "tool choice": {"messages": CHAT[:1], "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False, "reasoning_effort": "low"},
    "null content": {"messages": CHAT[:1] + [{"role": "assistant", "content": None}, CHAT[2]]},
}

# Own wording of the four families' formats (ChatML, Llama 3 headers, Qwen2.5 tools, Mistral [INST]).
FAMILIES = {
    "smollm2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe a helper"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama3": "{{- bos_token }}\n{%- if date_string is not defined %}\n    {%- set date_string = strftime_now('%d %b %Y') %}\n{%- endif %}\n"
    "{%- if messages and messages[0]['role'] == 'system' %}\n    {%- set sys = messages[0]['content'] | trim %}\n"
    "    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set sys = '' %}\n{%- endif %}\n"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\n' }}\n{{- 'Today: ' + date_string + '\\n\\n' }}\n"
    "{%- if tools is defined and tools is not none %}\n    {%- for t in tools %}\n        {{- t | tojson(indent=4) }}\n        {{- '\\n\\n' }}\n"
    "    {%- endfor %}\n{%- endif %}\n{{- sys }}\n{{- '<|eot_id|>' }}\n{%- for message in messages %}\n"
    "    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}\n"
    "        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}\n"
    "    {%- elif 'tool_calls' in message %}\n        {%- if not message.tool_calls | length == 1 %}\n"
    "            {{- raise_exception('only one tool call') }}\n        {%- endif %}\n        {%- set call = message.tool_calls[0].function %}\n"
    "        {{- '{\"name\": \"' + call.name + '\", \"parameters\": ' }}\n        {{- call.arguments | tojson }}\n        {{- '}<|eot_id|>' }}\n"
    "    {%- else %}\n        {%- if message.content is mapping or message.content is iterable %}\n            {{- message.content | tojson }}\n"
    "        {%- else %}\n            {{- message.content }}\n        {%- endif %}\n        {{- '<|eot_id|>' }}\n    {%- endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n",
    "qwen2.5": "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0].role == 'system' %}\n        {{- messages[0].content }}\n"
    "    {%- endif %}\n    {%- for tool in tools %}\n        {{- \"\\n\" }}\n        {{- tool | tojson }}\n    {%- endfor %}\n"
    "    {{- \"\\n<|im_end|>\\n\" }}\n{%- endif %}\n{%- for message in messages %}\n"
    "    {%- if (message.role == 'user') or (message.role == 'system' and not loop.first) or (message.role == 'assistant' and not message.tool_calls) %}\n"
    "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- elif message.role == 'assistant' %}\n"
    "        {{- '<|im_start|>' + message.role }}\n        {%- if message.content %}\n            {{- '\\n' + message.content }}\n        {%- endif %}\n"
    "        {%- for tool_call in message.tool_calls %}\n            {%- if tool_call.function is defined %}\n"
    "                {%- set tool_call = tool_call.function %}\n            {%- endif %}\n            {{- '\\n<tool_call>' + tool_call.name }}\n"
    "            {{- tool_call.arguments | tojson }}\n        {%- endfor %}\n        {{- '<|im_end|>\\n' }}\n    {%- elif message.role == 'tool' %}\n"
    "        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != 'tool') %}\n            {{- '<|im_start|>user' }}\n        {%- endif %}\n"
    "        {{- '\\n' + message.content }}\n        {%- if loop.last or (messages[loop.index0 + 1].role != 'tool') %}\n            {{- '<|im_end|>\\n' }}\n"
    "        {%- endif %}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
    "mistral": "{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content'] %}\n    {%- set loop_messages = messages[1:] %}\n"
    "{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n{%- set ns = namespace() %}\n{%- set ns.index = 0 %}\n"
    "{%- for message in loop_messages %}\n    {%- if message.role in ['user', 'assistant'] and message.tool_calls is not defined %}\n"
    "        {%- if (message['role'] == 'user') != (ns.index % 2 == 0) %}\n            {{- raise_exception('roles must alternate') }}\n        {%- endif %}\n"
    "        {%- set ns.index = ns.index + 1 %}\n    {%- endif %}\n{%- endfor %}\n{{- bos_token }}\n{%- for message in loop_messages %}\n"
    "    {%- if message['role'] == 'user' %}\n        {%- if tools is defined and (message == (loop_messages | selectattr('role', 'equalto', 'user') | list)[-1]) %}\n"
    "            {{- '[TOOLS]' }}\n            {%- for tool in tools %}\n                {%- for key, val in tool.function.items() if key != 'return' %}\n"
    "                    {{- '\"' + key + '\": ' + (val | tojson) }}\n                    {%- if not loop.last %}{{- ', ' }}{%- endif %}\n                {%- endfor %}\n"
    "            {%- endfor %}\n        {%- endif %}\n        {%- if loop.last and system_message is defined %}\n"
    "            {{- '[INST]' + system_message + '\\n\\n' + message['content'] + '[/INST]' }}\n        {%- else %}\n"
    "            {{- '[INST]' + message['content'] + '[/INST]' }}\n        {%- endif %}\n    {%- elif message.tool_calls is defined %}\n"
    "        {%- for call in message.tool_calls %}\n            {%- set out = call.function | tojson %}\n            {{- out[:-1] }}\n"
    "            {%- if call.id | length != 9 %}{{- raise_exception('id of 9') }}{%- endif %}\n            {{- ', \"id\": \"' + call.id + '\"}' }}\n        {%- endfor %}\n"
    "        {{- eos_token }}\n    {%- elif message['role'] == 'assistant' %}\n        {{- message['content'] + eos_token }}\n    {%- else %}\n"
    "        {{- '[TOOL_RESULTS]' ~ message.content ~ '[/TOOL_RESULTS]' }}\n    {%- endif %}\n{%- endfor %}\n",
}


def write(name, cases):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates", name)
    with open(path, "w", encoding="utf-8") as file:
        file.write("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]\n")
    print(path, len(cases), "cases,", sum("error" in c for c in cases), "errors")


def main():
    if sys.argv[1:] == ["--write"]:
        variables = json.loads(json.dumps(VARIABLES))
        texts = CONSTRUCTS.replace("\\\nx'", "\\\u0000x'").strip("\n").split("\n")
        cases = [case(f"construct {i + 1}", t.replace("\u0000", "\n"), variables, template=t.replace("\u0000", "\n")) for i, t in enumerate(texts)]
        for c in cases:
            if "error" in c:
                print("unexpected error in", c["template"], c["message"])
        cases += [case(f"lines {i + 1}", t, {}, template=t) for i, t in enumerate(LINES)]
        cases += [case(f"error {i + 1}", t, variables, template=t) for i, t in enumerate(ERRORS.strip("\n").split("\n"))]
        for c in cases[-len(ERRORS.strip("\n").split("\n")):]:
            if "error" not in c:
                print("no error in", c["template"])
        write("constructs.json", cases)
        write("families.json", [case(f"{family}: {name}", text, {**BASE, **conversation}, template=text)
                                for family, text in FAMILIES.items() for name, conversation in CONVERSATIONS.items()])
    elif len(sys.argv) == 3 and sys.argv[1] == "--real":
        cases = []
        for path in sorted(glob.glob(os.path.join(sys.argv[2], "*.jinja"))):
            with open(path, encoding="utf-8", newline="") as file:
                text = file.read()
            cases += [case(name, text, {**BASE, **conversation}, file=os.path.basename(path)) for name, conversation in CONVERSATIONS.items()]
        sys.stdout.write(json.dumps(cases))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
