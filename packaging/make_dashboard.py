#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make_dashboard.py > grafana-dashboard.json: the dashboard of graft serve, for Grafana 9 and newer. ctest compares the file."""
import json

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
HERE = 'instance=~"$instance"'
MINE = HERE + ',adapter=~"$adapter"'
RATE = "[$__rate_interval]"
panels = []
place = {"x": 0, "y": 0, "row": 0}


def put(width, height):
    if place["x"] + width > 24:
        place.update(x=0, y=place["y"] + place["row"], row=0)
    at = {"x": place["x"], "y": place["y"], "w": width, "h": height}
    place["x"] += width
    place["row"] = max(place["row"], height)
    return at


def row(title):
    place.update(x=0, y=place["y"] + place["row"], row=0)
    panels.append({"id": len(panels) + 1, "type": "row", "title": title, "collapsed": False, "gridPos": put(24, 1), "panels": []})
    place.update(x=0, y=place["y"] + 1, row=0)


def panel(kind, title, width, queries, unit="short", text="", height=8, steps=None, stack=False, most=None, options=None):
    custom = {"lineWidth": 1, "fillOpacity": 25 if stack else 8, "showPoints": "never"}
    if stack:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    defaults = {"unit": unit, "min": 0, "color": {"mode": "palette-classic"}}
    if kind == "timeseries":
        defaults["custom"] = custom
    if steps:
        defaults["thresholds"] = {"mode": "absolute", "steps": [{"color": c, "value": v} for c, v in steps]}
        defaults["color"] = {"mode": "thresholds"}
    if most is not None:
        defaults["max"] = most
    panels.append({
        "id": len(panels) + 1, "type": kind, "title": title, "description": text, "datasource": SOURCE,
        "gridPos": put(width, height), "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options or ({"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"]},
                                "tooltip": {"mode": "multi", "sort": "desc"}} if kind == "timeseries" else {}),
        "targets": [{"refId": chr(ord("A") + i), "expr": expr, "legendFormat": legend, "datasource": SOURCE}
                    for i, (expr, legend) in enumerate(queries)],
    })


def quantiles(name, selector):
    return [(f"histogram_quantile({q}, sum by (le) (rate({name}_bucket{{{selector}}}{RATE})))", f"p{int(q * 100)}")
            for q in (0.5, 0.95, 0.99)]


GOOD_BAD = [("green", None), ("red", 1)]
row("Now")
panel("stat", "Device", 3, [(f"max(graft_device_lost{{{HERE}}})", "lost")], steps=GOOD_BAD, height=4, text="1: the device was lost.")
panel("stat", "Ending", 3, [(f"max(graft_http_draining{{{HERE}}})", "ending")], steps=GOOD_BAD, height=4,
      text="1: no more requests are taken.")
panel("stat", "Running", 3, [(f"sum(graft_engine_running{{{HERE}}})", "running")], height=4)
panel("stat", "Waiting", 3, [(f"sum(graft_engine_waiting{{{HERE}}}) + sum(graft_adapter_line{{{HERE}}})", "waiting")],
      steps=[("green", None), ("orange", 8), ("red", 32)], height=4, text="For a place in the batch, or for an adapter.")
panel("stat", "Tokens per second", 3, [(f"sum(rate(graft_engine_answer_tokens_total{{{HERE}}}{RATE}))", "tokens/s")], height=4)
panel("stat", "First token, p95", 3,
      [(f"histogram_quantile(0.95, sum by (le) (rate(graft_time_to_first_token_seconds_bucket{{{HERE}}}{RATE})))", "p95")],
      unit="s", height=4, steps=[("green", None), ("orange", 5), ("red", 10)])
panel("stat", "Errors", 3,
      [(f'sum(rate(graft_request_errors_total{{{HERE},code=~"5.."}}{RATE})) / sum(rate(graft_requests_total{{{HERE}}}{RATE}))', "share")],
      unit="percentunit", height=4, steps=[("green", None), ("orange", 0.01), ("red", 0.05)], text="Share of requests that failed (5xx).")
panel("gauge", "Memory of the budget", 3,
      [(f"sum(graft_memory_bytes{{{HERE}}}) / (sum(graft_memory_budget_bytes{{{HERE}}}) > 0)", "used")], unit="percentunit",
      height=4, most=1, steps=[("green", None), ("orange", 0.9), ("red", 0.98)], text="Empty without --memory.")

row("Traffic")
panel("timeseries", "Tokens of answers, by adapter", 8, [(f"sum by (adapter) (rate(graft_answer_tokens_total{{{MINE}}}{RATE}))", "{{adapter}}")],
      stack=True, text="Counted when a request ends. The base has no name.")
panel("timeseries", "Requests, by adapter", 8, [(f"sum by (adapter) (rate(graft_requests_total{{{MINE}}}{RATE}))", "{{adapter}}")],
      unit="reqps", stack=True)
panel("timeseries", "Errors, by adapter and status", 8,
      [(f"sum by (adapter, code) (rate(graft_request_errors_total{{{MINE}}}{RATE})) > 0", "{{adapter}} {{code}}")], unit="reqps",
      text="499: the client left.")
panel("timeseries", "Prompts", 8,
      [(f"sum(rate(graft_prompt_tokens_total{{{MINE}}}{RATE}))", "tokens/s"),
       (f"sum(rate(graft_reused_prompt_tokens_total{{{MINE}}}{RATE}))", "of them reused")],
      text="Reused: keys and values were still there.")
panel("timeseries", "How answers ended", 8, [(f"sum by (reason) (rate(graft_finished_total{{{HERE}}}{RATE}))", "{{reason}}")],
      unit="reqps", stack=True)
panel("timeseries", "Error replies, by status", 8, [(f"sum by (code) (rate(graft_errors_total{{{HERE}}}{RATE})) > 0", "{{code}}")], unit="reqps")

row("Times")
panel("timeseries", "First token", 8, quantiles("graft_time_to_first_token_seconds", MINE), unit="s")
panel("timeseries", "Between tokens", 8, quantiles("graft_time_between_tokens_seconds", MINE), unit="s")
panel("timeseries", "In the queue", 8, quantiles("graft_queue_seconds", MINE), unit="s")
panel("timeseries", "First token, p95 by adapter", 12,
      [(f"histogram_quantile(0.95, sum by (adapter, le) (rate(graft_time_to_first_token_seconds_bucket{{{MINE}}}{RATE})))", "{{adapter}}")], unit="s")
panel("timeseries", "HTTP, p95 by route", 12,
      [(f"histogram_quantile(0.95, sum by (route, le) (rate(graft_http_request_seconds_bucket{{{HERE}}}{RATE})))", "{{route}}")], unit="s")

row("The batch")
panel("timeseries", "Rows of a step", 8,
      [(f"sum(rate(graft_engine_rows_total{{{HERE}}}{RATE})) / sum(rate(graft_engine_steps_total{{{HERE}}}{RATE}))", "rows"),
       (f"sum(rate(graft_engine_prompt_rows_total{{{HERE}}}{RATE})) / sum(rate(graft_engine_steps_total{{{HERE}}}{RATE}))", "of prompts")],
      text="What one pass over the weights computes.")
panel("timeseries", "Requests in the engine, by adapter", 8, [(f"sum by (adapter) (graft_requests_running{{{MINE}}})", "{{adapter}}")], stack=True)
panel("timeseries", "Places and lines", 8,
      [(f"sum(graft_engine_slots{{{HERE}}})", "places"), (f"sum(graft_engine_running{{{HERE}}})", "running"),
       (f"sum(graft_engine_waiting{{{HERE}}})", "waiting"), (f"sum(graft_adapter_line{{{HERE}}})", "for an adapter")])
panel("timeseries", "Speculation", 8,
      [(f"sum(rate(graft_speculation_draft_tokens_total{{{HERE}}}{RATE}))", "guessed tokens/s"),
       (f"sum(rate(graft_speculation_accepted_tokens_total{{{HERE}}}{RATE}))", "that came true")],
      text="Tokens guessed from the request's own text and computed beside the one that is due.")

row("Adapters")
panel("state-timeline", "Resident", 12, [(f"max by (adapter) (graft_adapter_resident{{{MINE}}})", "{{adapter}}")], most=1,
      options={"mergeValues": True, "showValue": "never", "legend": {"showLegend": False}}, steps=[("text", None), ("blue", 1)],
      text="Idle ones too.")
panel("timeseries", "Loads and evictions", 6,
      [(f"sum(rate(graft_adapter_loads_total{{{MINE}}}{RATE}))", "loads"), (f"sum(rate(graft_adapter_evictions_total{{{MINE}}}{RATE}))", "evictions"),
       (f"sum(rate(graft_adapter_load_failures_total{{{MINE}}}{RATE}))", "failures")], unit="ops")
panel("timeseries", "Time of a load", 6,
      [(f"sum(rate(graft_adapter_load_seconds_total{{{MINE}}}{RATE})) / sum(rate(graft_adapter_loads_total{{{MINE}}}{RATE}))", "mean"),
       (f"histogram_quantile(0.95, sum by (le) (rate(graft_adapter_wait_seconds_bucket{{{HERE}}}{RATE})))", "p95 of waiting for one")], unit="s")
panel("timeseries", "Bytes in the pool", 12,
      [(f"sum by (adapter) (graft_adapter_bytes{{{MINE}}}) > 0", "{{adapter}}"), (f"sum(graft_adapter_pool_bytes{{{HERE}}})", "room")],
      unit="bytes")
panel("timeseries", "Slots of the pool", 12,
      [(f"sum(graft_adapters_resident{{{HERE}}})", "resident"), (f"sum(graft_adapter_pool_slots{{{HERE}}})", "slots")])

row("Quality")
panel("timeseries", "Perplexity of answers", 8,
      [(f"exp(sum by (adapter) (rate(graft_answer_judged_nats_total{{{MINE}}}[1h])) / "
        f"sum by (adapter) (rate(graft_answer_judged_tokens_total{{{MINE}}}[1h])))", "{{adapter}}")],
      text="Of the model on its own answers, one request in 16. A jump means other questions, settings or weights.")
panel("timeseries", "Answers that begin like a refusal", 8,
      [(f"sum by (adapter) (rate(graft_answer_refusals_total{{{MINE}}}[1h])) / sum by (adapter) (rate(graft_answers_total{{{MINE}}}[1h]))", "{{adapter}}")],
      unit="percentunit", text="English phrases at the beginning of an answer; a sign, not a judgement.")
panel("timeseries", "Length of answers", 8, quantiles("graft_answer_length_tokens", MINE))

row("Memory")
panel("timeseries", "Bytes, by class", 12,
      [(f"sum by (class) (graft_memory_bytes{{{HERE}}})", "{{class}}"), (f"sum(graft_memory_budget_bytes{{{HERE}}}) > 0", "budget")], unit="bytes")
panel("timeseries", "Pages of keys and values", 6,
      [(f"sum(graft_kv_pages{{{HERE}}}) - sum(graft_kv_pages_free{{{HERE}}}) - sum(graft_kv_pages_cached{{{HERE}}})", "in use"),
       (f"sum(graft_kv_pages_cached{{{HERE}}})", "kept for prefixes"), (f"sum(graft_kv_pages_free{{{HERE}}})", "free")], stack=True)
panel("timeseries", "The process", 6,
      [(f'process_resident_memory_bytes{{{HERE},job="$job"}}', "resident {{instance}}"),
       (f"graft_memory_peak_bytes{{{HERE}}}", "highest of the ledger {{instance}}")], unit="bytes",
      text="Resident memory has the pages of the model's file in it.")

row("HTTP")
panel("timeseries", "Connections and streams", 8,
      [(f"sum(graft_http_connections{{{HERE}}})", "connections"), (f"sum(graft_http_streams{{{HERE}}})", "streams")])
panel("timeseries", "Refused and cut", 8,
      [(f"sum by (reason) (rate(graft_http_refused_total{{{HERE}}}{RATE})) > 0", "refused: {{reason}}"),
       (f"sum by (at) (rate(graft_http_cut_total{{{HERE}}}{RATE})) > 0", "cut: {{at}}"),
       (f"sum(rate(graft_http_gone_total{{{HERE}}}{RATE})) > 0", "clients that left")], unit="reqps")
panel("timeseries", "Replies, by route and status", 8,
      [(f"sum by (route, status) (rate(graft_http_replies_total{{{HERE}}}{RATE})) > 0", "{{route}} {{status}}")], unit="reqps")


def variable(name, label, query, several=True):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "query": {"query": query, "refId": name},
            "refresh": 2, "includeAll": several, "multi": several, "allValue": ".*" if several else None, "sort": 1,
            "current": {"text": "All", "value": "$__all"} if several else {}}


print(json.dumps({
    "title": "graft serve", "uid": "graft-serve", "tags": ["graft"], "schemaVersion": 37, "version": 1, "editable": True,
    "refresh": "30s", "time": {"from": "now-3h", "to": "now"}, "timezone": "", "graphTooltip": 1, "panels": panels, "annotations": {"list": []},
    "templating": {"list": [
        {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}},
        variable("job", "Job", "label_values(graft_build_info, job)", several=False),
        variable("instance", "Server", "label_values(graft_build_info, instance)"),
        variable("adapter", "Adapter", "label_values(graft_requests_total, adapter)")]},
}, indent=1))
