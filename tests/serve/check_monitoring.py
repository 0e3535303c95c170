#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_monitoring.py METRICS PACKAGING: the dashboard and the alert rules speak of metrics and labels that a server's real
output has; the dashboard is what its script makes; promtool accepts and tests the rules, where it is installed."""
import json
import pathlib
import re
import shutil
import subprocess
import sys

metrics_text = open(sys.argv[1], encoding="utf-8").read()
folder = pathlib.Path(sys.argv[2])
bad = []


def check(good, what):
    if not good:
        bad.append(what)


# {metric: labels} of the output; a histogram's name stands for nothing by itself.
known = {"up": {"job", "instance"}}
for line in metrics_text.splitlines():
    m = re.match(r"([a-z_:]+)(?:\{(.*)\})? ", line)
    if m and not line.startswith("#"):
        known.setdefault(m[1], set()).update(re.findall(r'([a-z_]+)="', m[2] or ""))
for labels in known.values():
    labels |= {"job", "instance"}  # Prometheus' own

WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset", "inf", "nan"}
FUNCTIONS = {"sum", "max", "min", "avg", "count", "rate", "increase", "exp", "histogram_quantile", "label_values"}


def check_expression(expr, where):
    depth = 0
    for c in re.sub(r'"(?:[^"\\]|\\.)*"', "", expr):
        depth += (c in "({[") - (c in ")}]")
        check(depth >= 0, f"{where}: brackets")
    check(depth == 0, f"{where}: brackets")
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', '""', expr)
    plain = re.sub(r"\[[^\]]*\]|offset \d+[smhd]", " ", plain)
    used = set()
    for name, labels in re.findall(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*\{([^}]*)\}", plain):
        check(name in known, f"{where}: there is no metric {name}")
        used.add(name)
        for label in re.findall(r"([a-zA-Z_]+)\s*(?:=~|!~|!=|=)", labels):
            check(label in known.get(name, {label}), f"{where}: {name} has no label {label}")
    groups = [l.strip() for g in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", plain) for l in g.split(",")]
    rest = re.sub(r"\{[^}]*\}", " ", plain)
    rest = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)", " ", rest)
    for name, call in re.findall(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(\s*\()?", rest):
        if call:
            check(name in FUNCTIONS, f"{where}: {name} is no function that is used here")
        elif name not in WORDS:
            check(name in known, f"{where}: there is no metric {name}")
            used.add(name)
    check(used, f"{where}: no metric")
    for label in groups:
        check(any(label in known.get(name, set()) for name in used), f"{where}: label {label} in none of {sorted(used)}")


dashboard_text = (folder / "grafana-dashboard.json").read_text(encoding="utf-8")
board = json.loads(dashboard_text)
made = subprocess.run([sys.executable, folder / "make_dashboard.py"], capture_output=True, text=True, check=True).stdout
check(made == dashboard_text, "grafana-dashboard.json is not what make_dashboard.py makes")
check(board["schemaVersion"] >= 36 and board["uid"] and board["title"], "the dashboard's head")
ids = [p["id"] for p in board["panels"]]
check(len(ids) == len(set(ids)), "two panels of one id")
cells = {}
expressions = 0
for p in board["panels"]:
    g = p["gridPos"]
    check(g["x"] >= 0 and g["x"] + g["w"] <= 24, f"{p['title']} is outside the grid")
    for x in range(g["x"], g["x"] + g["w"]):
        for y in range(g["y"], g["y"] + g["h"]):
            check((x, y) not in cells, f"{p['title']} stands on {cells.get((x, y))}")
            cells[x, y] = p["title"]
    check(p["type"] in ("row", "stat", "gauge", "timeseries", "state-timeline"), f"{p['title']}: a {p['type']}")
    refs = [t["refId"] for t in p.get("targets", [])]
    check(len(refs) == len(set(refs)) and (refs or p["type"] == "row"), f"{p['title']}: its queries")
    for t in p.get("targets", []):
        expressions += 1
        check_expression(t["expr"], f"{p['title']} {t['refId']}")
        for label in re.findall(r"\{\{(\w+)\}\}", t["legendFormat"]):
            check(re.search(rf"\b{label}\b", t["expr"]) or label == "instance", f"{p['title']}: legend of {label}")
for v in board["templating"]["list"]:
    if v["type"] == "query":
        metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", v["query"]["query"]).groups()
        check(label in known.get(metric, set()), f"variable {v['name']}: {metric} has no label {label}")
names = {v["name"] for v in board["templating"]["list"]} | {"__rate_interval", "__all"}
for name in set(re.findall(r"\$\{?(\w+)", dashboard_text)):
    check(name in names, f"${name} is no variable")

alerts_text = (folder / "prometheus-alerts.yml").read_text(encoding="utf-8")
alerts = re.findall(r"- alert: (\w+)\n\s+expr: (.*)\n((?:(?!\s+- alert).*\n)*)", alerts_text)
check(len(alerts) == alerts_text.count("- alert:") and len({a[0] for a in alerts}) == len(alerts), "the alerts")
for name, expr, more in alerts:
    expressions += 1
    check_expression(expr, name)
    check("summary:" in more and "description:" in more and re.search(r"severity: (page|ticket)", more), f"{name}: its texts")
    for label in re.findall(r"\$labels\.(\w+)", more):
        grouped = re.findall(r"by \(([^)]*)\)", expr)
        check(label in grouped[0].split(", ") if grouped else any(label in known[n] for n in known if n in expr),
              f"{name}: the result has no label {label}")
promtool = shutil.which("promtool")
if promtool:
    for command in (["check", "rules", "prometheus-alerts.yml"], ["test", "rules", "prometheus-alerts.test.yml"],
                    ["check", "config", "prometheus.yml"]):
        done = subprocess.run([promtool, *command], cwd=folder, capture_output=True, text=True, check=False)
        check(done.returncode == 0, f"promtool {' '.join(command)}: {done.stdout}{done.stderr}")
else:
    print("skipped: promtool is not installed")
check(expressions > 60, f"only {expressions} expressions were found")
print("\n".join(bad[:40]))
sys.exit(bool(bad))
