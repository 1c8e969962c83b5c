"""The figures for Prometheus, and that the dashboard for Grafana asks for such as there are."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from drover.model.migration import Cutover, CutoverFacts, Facts, Spec, State
from drover.store.sites import Site
from tests.server.conftest import URIS, Served

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana-dashboard.json"
_WORDS = re.compile(r"(?:drover|process)_[a-z_]+")
_LABELS = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")


def scraped(served: Served) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by name."""
    answer: Any = served.call("GET", "/metrics", who="eye")
    assert answer.status_code == 200
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


@pytest.fixture(scope="module")
def populated(served: Served) -> Served:
    """A migration that runs, slowed, with a link that is down; one that has arrived; one that is paused."""
    store, ends = served.context.migrations, {"source": URIS["alpha"], "destination": URIS["beta"]}
    running = store.add(Spec(vm="busy", **ends), Facts(uuid="u1"))
    told = {
        "at": time.time(), "vm": "busy", "size": 100, "done": 40, "sent": 30, "rate": 5.0, "wire_rate": 4.0,
        "vm_write_rate": 3.0, "predicted_downtime": 2.0, "time_left": 12.0, "epoch_bytes": 7, "epoch_seconds": 0.5,
        "unreadable": 0, "link": "down: cut", "slowed": {"limit": 1024}, "latency": {"now": 0.003},
    }  # fmt: skip
    served.context.live.tell(running.id, told)
    cutover = CutoverFacts(mode=Cutover.RESUME, stopping_at=10.0, stopped_at=10.1, started_at=13.0)
    arrived = store.add(Spec(vm="there", **ends), Facts(uuid="u2", cutover=cutover, sent_bytes=1000))
    arrived.facts.totals.background_bytes, arrived.facts.totals.foreground_bytes = 800, 300
    store.save(arrived)
    for state in (State.PREPARING, State.CUTTING_OVER, State.VERIFYING, State.STARTING, State.FINISHED):
        store.enter(arrived, state)
    held = store.add(Spec(vm="held", **ends), Facts(uuid="u3"))
    store.enter(held, State.PAUSED, reason="the pool is full")
    return served


def test_what_an_operator_needs_is_there(populated: Served) -> None:
    served = populated
    served.context.sites.put(Site(name="far", uri="qemu:///far"))
    served.call("GET", "/v1/plans/nothing")
    served.call("GET", "/v1/no-such-path-at-all")
    samples = scraped(served)
    assert ({"state": "paused"}, 1.0) in samples["drover_migrations"]
    assert samples["drover_link_up"][0][1] == 0.0 and samples["drover_done_bytes"][0][1] == 40.0
    assert dict(samples["drover_link_up"][0][0])["vm"] == "busy"
    assert ({"kind": "foreground"}, 300.0) in samples["drover_content_bytes_total"]
    assert samples["drover_wire_bytes_total"][0][1] == 1000.0
    assert ({"state": "paused"}, 1.0) in samples["drover_interruptions_total"]
    assert samples["drover_downtime_seconds_sum"][0][1] == 3.0
    assert ({"le": "2.0"}, 0.0) in samples["drover_downtime_seconds_bucket"]
    assert ({"le": "5.0"}, 1.0) in samples["drover_downtime_seconds_bucket"]
    assert {"site": "far"} in [labels for labels, _ in samples["drover_site_up"]]
    asked = [labels for labels, _ in samples["drover_http_request_seconds_count"]]
    assert {"method": "GET", "route": "/v1/plans/{name}", "status": "404"} in asked
    assert {"method": "GET", "route": "none", "status": "404"} in asked


def test_the_dashboard_asks_for_figures_that_there_are(populated: Served) -> None:
    served = populated
    scraped(served)
    samples = scraped(served)
    dashboard = json.loads(DASHBOARD.read_text())
    assert {"title", "uid", "panels", "templating", "schemaVersion", "time"} <= dashboard.keys()
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked += [one["definition"] for one in dashboard["templating"]["list"] if "definition" in one]
    assert len(asked) > 25
    for expression in asked:
        names = _WORDS.findall(expression)
        assert names and not set(names) - samples.keys(), expression
        known = {label for name in names for labels, _ in samples[name] for label in labels}
        assert set(_LABELS.findall(expression)) <= known | {"instance", "job"}, expression
        assert set(re.findall(r"\$(\w+)", expression)) <= variables | {"__rate_interval"}, expression
    ours = {name for name in samples if name.startswith("drover_") and not name.endswith(("_created", "_sum"))}
    unused = ours - {word for expression in asked for word in _WORDS.findall(expression)}
    assert not unused, "figures that the dashboard does not show"
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24 and panel["type"]
