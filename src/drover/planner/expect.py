"""What there is to do of a VM: from its stored forecast, else from what was observed, else from its size."""

import time
from pathlib import Path
from statistics import median

from pydantic import BaseModel, ConfigDict

from drover.estimator.answer import FRESH, Estimator
from drover.estimator.draw import subject, with_cutover
from drover.estimator.simulate import EPOCH_WHEN_COPIED, Machine, Phases, downtime
from drover.estimator.simulate import Path as Way
from drover.model.forecast import Forecast
from drover.model.migration import Spec
from drover.model.observation import VmObservation
from drover.model.timeline import Basis
from drover.model.vm import Vm

ASSUMED_LINK = 0.9e9 / 8
"""Bytes/s of a link that nobody measured: a gigabit line, less what its protocols take."""
_ZEROS = 0.15
_RATIO = 0.6
"""Bytes on the wire for each that is no zero, where no sample says better: as the estimator takes it."""
_DISK = 200e6
"""Bytes/s of an ordinary disk."""
_PIPELINE = 0.5
"""Of the rate at which VDISKs are read: what reading, compressing, sending and writing together leave."""
_MEMORY = 0.6
"""Share of a VM's memory that is not zero, where nobody looked."""
_PHASES = Phases()


class Expectation(BaseModel):
    """Of one VM: seconds, bytes, bytes/s."""

    model_config = ConfigDict(frozen=True)

    fixed: float
    """What copying takes whatever the link carries."""
    wire: float
    """Bytes that travel before the cutover."""
    cutover: float
    """From the stop at the source until all is tidied up."""
    rate: float | None = None
    """Of the link, at most; None: all of it."""
    basis: Basis


class Expectations:
    """From one data folder. `link` is bytes/s of the link between two sites, `known` whether it was measured."""

    def __init__(self, source: str, destination: str, folder: Path | None = None) -> None:
        self._estimator = Estimator(folder)
        found = self._estimator.links.all(source, destination, since=time.time() - FRESH)
        rates = [link.bulk[link.knee].rate.value for link in found if link.bulk]
        self.known = bool(rates)
        self.link = median(rates) if rates else ASSUMED_LINK

    def of(self, vm: Vm, spec: Spec, migration: str | None = None) -> Expectation:
        """Of a VM that is to be migrated, or is recorded as `migration` already."""
        limit = spec.bandwidth_at(time.time())
        rate = float(limit) if limit else None
        own = min(rate or self.link, self.link)
        if migration is not None and (made := self._estimator.forecasts.of(migration)) is not None:
            return _from_forecast(made, own, rate)
        seen = self._estimator.latest(vm.uuid)
        return _from_contents(vm, spec, seen, own, rate)


def _from_forecast(forecast: Forecast, own: float, rate: float | None) -> Expectation:
    whole = forecast.whole
    cutover = whole.downtime.p50 + _PHASES.finish
    fixed = whole.duration.p50 - cutover - whole.wire_bytes.p50 / own
    return Expectation(
        fixed=max(fixed, _PHASES.prepare), wire=whole.wire_bytes.p50, cutover=cutover, rate=rate, basis=Basis.FORECAST
    )


def _from_contents(vm: Vm, spec: Spec, seen: VmObservation | None, own: float, rate: float | None) -> Expectation:
    known = subject(seen) if seen is not None else None
    allocated = float(sum(vdisk.allocated for vdisk in vm.vdisks))
    content, ratio = allocated * (1 - _ZEROS), _RATIO
    if known is not None and known.content:
        allocated = known.amount
        content = sum(sample.allocated * (1 - sample.zero.value) for sample in known.content)
        ratios = [min((one.value for one in sample.ratios.values()), default=1.0) for sample in known.content]
        shares = [sample.allocated * (1 - sample.zero.value) for sample in known.content]
        ratio = sum(r * s for r, s in zip(ratios, shares, strict=True)) / content if content else 1.0
    way = Way(rate=own, cover=own)
    machine = Machine(
        name=vm.name,
        allocated=allocated,
        content=content,
        ratio=ratio,
        dirty_ratio=ratio,
        dirty=known.curve if known is not None else lambda _: 0.0,
        memory=_MEMORY * min(vm.memory, vm.resident or vm.memory),
        cutover=spec.way,
        max_downtime=spec.max_downtime,
    )
    machine = with_cutover(machine, way, _PHASES)
    wire = content * ratio
    # Zeros have to be read as well, and take nothing of the link.
    read = _PIPELINE * ((known.read_rate if known is not None else None) or _DISK)
    covered = read * wire / allocated if allocated and wire else None
    stopped = downtime(machine, way, _PHASES, epoch=EPOCH_WHEN_COPIED)
    compared = allocated / _PHASES.verify_rate
    return Expectation(
        fixed=_PHASES.prepare + compared + 2 * EPOCH_WHEN_COPIED,
        wire=wire,
        cutover=stopped + _PHASES.finish,
        rate=min((one for one in (rate, covered) if one is not None), default=None),
        basis=Basis.SIZE if known is None else Basis.OBSERVATION,
    )
