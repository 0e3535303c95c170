#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""check_metrics.py FILE: PyPI's prometheus_client reads the text of test_http_parts.c and finds what was put in."""
import math
import sys

from prometheus_client.parser import text_string_to_metric_families

families = {f.name: f for f in text_string_to_metric_families(open(sys.argv[1], encoding="utf-8").read())}
requests = {(s.labels["adapter"], s.labels["outcome"]): s.value for s in families["t_requests"].samples}
assert families["t_requests"].type == "counter" and families["t_requests"].documentation == 'Requests,\nwith a \\ in "help".'
assert requests[('a\\b"c\nd?\u20ac', "stop")] == 2.25 and requests[("other", "other")] == 93 and len(requests) == 9
times = families["t_seconds"]
assert times.type == "histogram"
observed = [i * 0.03 for i in range(100)]
for s in times.samples:
    if s.name == "t_seconds_bucket":
        assert s.value == sum(x <= float(s.labels["le"]) for x in observed), s
    elif s.name == "t_seconds_sum":
        assert math.isclose(s.value, sum(observed))
    else:
        assert s.value == 100
assert [s.value for s in families["t_running"].samples] == [1e21]
values = {s.labels["what"]: s.value for s in families["t_value"].samples}
assert math.isnan(values["nan"]) and values["inf"] == -math.inf and values["third"] == 1 / 3 and len(values) == 3
