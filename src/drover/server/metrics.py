"""Figures for Prometheus: what goes on now, what has been moved, how sites and this server do."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from drover import __version__
from drover.model.migration import State
from drover.server.context import Context
from drover.store.plans import RunState
from drover.workflows.executor import servers

_DOWNTIMES = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_ANSWERS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper limits of buckets, seconds."""
_SUMS_LAST = 30.0
"""Seconds for which sums are believed."""
_OF_MIGRATIONS: dict[str, tuple[str, Callable[[Mapping[str, Any]], float | None]]] = {
    "drover_vdisk_bytes": ("Size of all VDISKs", lambda body: body.get("size")),
    "drover_done_bytes": ("What need not travel any more", lambda body: body.get("done")),
    "drover_sent_bytes": ("On the wire so far", lambda body: body.get("sent")),
    "drover_copy_bytes_per_second": ("VDISK content dealt with now, zeros and all", lambda body: body.get("rate")),
    "drover_wire_bytes_per_second": ("On the wire now", lambda body: body.get("wire_rate")),
    "drover_vm_write_bytes_per_second": ("Written by the VM", lambda body: body.get("vm_write_rate")),
    "drover_predicted_downtime_seconds": ("Cut over now", lambda body: body.get("predicted_downtime")),
    "drover_time_left_seconds": ("Until the background is through", lambda body: body.get("time_left")),
    "drover_epoch_bytes": ("Of the latest epoch", lambda body: body.get("epoch_bytes")),
    "drover_epoch_seconds": ("The latest epoch took", lambda body: body.get("epoch_seconds")),
    "drover_unreadable_bytes": ("Arrive as zeros", lambda body: body.get("unreadable")),
    "drover_link_up": ("1 while the link between the sites is up", lambda body: _is_up(body.get("link"))),
    "drover_write_limit_bytes_per_second": (
        "Of each VDISK, while the VM's writes are slowed", lambda body: (body.get("slowed") or {}).get("limit"),
    ),
    "drover_vm_latency_seconds": (
        "The VM's I/O at p99, with a latency budget", lambda body: (body.get("latency") or {}).get("now"),
    ),
    "drover_progress_age_seconds": ("Since its process told", lambda body: time.time() - body["at"]),
}  # fmt: skip


def answers(registry: CollectorRegistry) -> Histogram:
    """The times that requests took, to be observed by method, route and status."""
    labels = ["method", "route", "status"]
    title = "Until a request was answered"
    return Histogram("drover_http_request_seconds", title, labels, buckets=_ANSWERS, registry=registry)


def registry(context: Context, unreachable: Callable[[], Mapping[str, float]]) -> CollectorRegistry:
    """All figures of a server; `unreachable` says which sites do not answer, and since when."""
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    made.register(_Figures(context, unreachable))
    return made


class _Figures(Collector):
    def __init__(self, stores: Context, unreachable: Callable[[], Mapping[str, float]]) -> None:
        self._stores = stores
        self._unreachable = unreachable
        self._summed: tuple[float, list[Metric]] = (-_SUMS_LAST, [])

    def describe(self) -> Iterable[Metric]:
        # Else it is collected when it is registered.
        return ()

    def collect(self) -> Iterable[Metric]:
        info = GaugeMetricFamily("drover_info", "The version, as a label", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield _counts("drover_migrations", "Migrations by state", State, self._stores.migrations.count())
        yield _counts("drover_runs", "Runs by state", RunState, self._stores.runs.count())
        waiting = len(self._stores.groups.waiting_for_approval())
        yield GaugeMetricFamily("drover_groups_waiting", "Groups that wait for approval", value=waiting)
        yield GaugeMetricFamily("drover_servers", "Servers that share the database", value=servers(self._stores.folder))
        yield from self._sites()
        yield from self._sums()
        yield from self._progress()

    def _sums(self) -> list[Metric]:
        """Over all migrations there ever were, which takes a while when they are many."""
        now = time.monotonic()
        if now - self._summed[0] >= _SUMS_LAST:
            self._summed = now, list(self._sum())
        return self._summed[1]

    def _sites(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("drover_site_up", "1 while a site's libvirt answers", labels=["site"])
        gone = self._unreachable()
        for site in self._stores.sites.all():
            up.add_metric([site.name], float(site.name not in gone))
        yield up

    def _sum(self) -> Iterable[Metric]:
        sums = self._stores.migrations.sums()
        content = CounterMetricFamily("drover_content_bytes", "Sent, before compression", labels=["kind"])
        for kind in ("background", "foreground"):
            content.add_metric([kind], sums[kind])
        yield content
        yield CounterMetricFamily("drover_wire_bytes", "Sent over links by migrations", value=sums["wire"])
        stops = CounterMetricFamily("drover_interruptions", "Migrations that were paused or failed", labels=["state"])
        for state, number in self._stores.migrations.interruptions().items():
            stops.add_metric([state], number)
        yield stops
        yield _histogram(self._stores.migrations.downtimes())

    def _progress(self) -> Iterable[Metric]:
        labels = ["migration", "vm"]
        newest = self._stores.live.newest(self._stores.migrations.under_way())
        for name, (title, value) in _OF_MIGRATIONS.items():
            family = GaugeMetricFamily(name, title, labels=labels)
            for migration, body in newest.items():
                if (number := value(body)) is not None:
                    family.add_metric([migration, body["vm"]], number)
            yield family


def _counts(name: str, title: str, states: Any, counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, title, labels=["state"])
    for state in states:
        family.add_metric([state], counts.get(state, 0))
    return family


def _histogram(downtimes: list[float]) -> Metric:
    buckets = [(str(limit), sum(one <= limit for one in downtimes)) for limit in _DOWNTIMES]
    family = HistogramMetricFamily("drover_downtime_seconds", "Of VMs that have arrived")
    family.add_metric([], [*buckets, ("+Inf", len(downtimes))], sum_value=sum(downtimes))
    return family


def _is_up(link: str | None) -> float | None:
    return None if link is None else float(link.startswith("up"))
