"""Latency histograms in a running QEMU: what the guest's devices wait for each request.

QMP `block-latency-histogram-set` makes QEMU count, `query-blockstats` tells the counts. A histogram is known as ours by
its boundaries, so that whoever comes next can remove it even if all records are lost.
"""

from typing import Any

import libvirt

from drover.errors import PlatformError
from drover.model.latency import BOUNDARIES, Latencies
from drover.platforms.libvirt.connection import qmp
from drover.platforms.libvirt.inventory import Node, nodes

_KINDS = {"read": "rd", "write": "wr", "flush": "flush"}
_SUFFIX = "_latency_histogram"


class LatencyHistograms:
    """Those of one running VM's VDISKs. All methods raise PlatformError."""

    def __init__(self, domain: libvirt.virDomain, vdisks: list[str]) -> None:
        self._domain = domain
        self._vdisks = vdisks

    def start(self) -> str | None:
        """Begins to count; why it cannot, if so: then `read` knows means only. Ours are left to count on."""
        found = self._statistics()
        for vdisk, (_, stats) in found.items():
            if any(kind.endswith(_SUFFIX) and not _ours(stats[kind]) for kind in stats):
                return f"{vdisk} has latency histograms of somebody else's"
        try:
            for node, stats in found.values():
                if not all(f"{kind}{_SUFFIX}" in stats for kind in _KINDS.values()):
                    qmp(self._domain, "block-latency-histogram-set", id=node.device, boundaries=list(BOUNDARIES))
        except PlatformError as error:
            self.stop()
            return error.message
        return None

    def read(self, *, writes: bool = True) -> Latencies:
        """All requests of the VDISKs that were completed so far; without writes if those are slowed on purpose."""
        kinds = [kind for kind in _KINDS if writes or kind != "write"]
        return Latencies.sum([_total(stats, kind) for _, stats in self._statistics().values() for kind in kinds])

    def stop(self) -> None:
        """Ends ours, whoever began them. Repeating it is harmless."""
        for node, stats in self._statistics().values():
            if any(kind.endswith(_SUFFIX) and _ours(stats[kind]) for kind in stats):
                qmp(self._domain, "block-latency-histogram-set", id=node.device)

    def _statistics(self) -> dict[str, tuple[Node, dict[str, Any]]]:
        told = {device.get("qdev"): device["stats"] for device in qmp(self._domain, "query-blockstats")}
        present = nodes(self._domain, self._vdisks)
        return {node.vdisk: (node, told[node.device]) for node in present if node.device in told}


def _total(stats: dict[str, Any], kind: str) -> Latencies:
    prefix = _KINDS[kind]
    histogram = stats.get(f"{prefix}{_SUFFIX}", {"boundaries": [], "bins": []})
    return Latencies(
        requests=stats[f"{prefix}_operations"],
        seconds=stats[f"{prefix}_total_time_ns"] / 1e9,
        bins=tuple(histogram["bins"]) if _ours(histogram) else (),
    )


def _ours(histogram: dict[str, Any]) -> bool:
    return tuple(histogram["boundaries"]) == BOUNDARIES
