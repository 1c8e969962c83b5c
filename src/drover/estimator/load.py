"""A VM's own I/O beside a copy of its disks. No I/O.

The sample of the content is read beside the VM's own requests, so its rate is what the disks have to spare, at least.
Of a copy that takes the share v of that, 1 − v is left, and in a single queue (M/M/1, whose p99 grows as its mean does)
requests then take 1 / (1 − v) times as long. It is a guess to decide by whether a latency budget is worth its time; the
budget itself is kept by measuring.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from drover.model.observation import IoSample

MOST = 0.9
"""Share of what the disks have to spare above which the queue says nothing any more but: several times."""


@dataclass(frozen=True)
class Load:
    """Requests per second of a VM, all VDISKs together, and the mean seconds that one takes."""

    requests: float
    latency: float

    @classmethod
    def of(cls, samples: Iterable[IoSample]) -> Self | None:
        """From the hypervisor's totals, in the order of time; None if no request was seen."""
        by_vdisk: dict[str, list[IoSample]] = {}
        for sample in samples:
            by_vdisk.setdefault(sample.vdisk, []).append(sample)
        requests, taken, looked = 0, 0.0, 0.0
        for series in by_vdisk.values():
            looked = max(looked, series[-1].at - series[0].at)
            for one, other in itertools.pairwise(series):
                more = other.read_requests + other.write_requests - one.read_requests - one.write_requests
                # Totals begin anew when the VM does.
                if more > 0:
                    requests += more
                    taken += other.read_seconds + other.write_seconds - one.read_seconds - one.write_seconds
        return cls(requests / looked, max(taken, 0.0) / requests) if requests and looked > 0 else None


def stretch(share: float) -> float:
    """Times as long that a request takes while a copy takes this share of what the disks have to spare."""
    return 1 / (1 - min(max(share, 0.0), MOST))


def share_within(growth: float) -> float:
    """The share that a copy may take for a latency that grows by this share at most."""
    return growth / (1 + growth)
