"""Content that VMs have in common: with each other, and with what their destination has already. No I/O.

Over the network every copy travels; on transport devices content is stored once for all VMs that are loaded together.
"""

from collections.abc import Mapping, Sequence

from drover.estimator.content import Stratum, duplicates, elsewhere, stratum
from drover.model.forecast import Sharing
from drover.model.observation import Interval, VdiskSample

Samples = Mapping[str, Sequence[VdiskSample]]
"""By VM: the latest sample of each of its VDISKs."""


def sharing(vms: Samples, there: Samples) -> list[Sharing]:
    """What each VM shares; `there` are VMs at the destination. A VM of which there is no sample is left out."""
    own = {vm: _strata(vm, samples) for vm, samples in vms.items() if samples}
    everything = {name: one for strata in own.values() for name, one in strata.items()}
    all_told = duplicates(everything)
    known = {name: one for vm, samples in there.items() for name, one in _strata(f"there {vm}", samples).items()}
    found = []
    for vm, strata in own.items():
        alone, at_destination = duplicates(strata), elsewhere(strata, known)
        found.append(
            Sharing(
                vm=vm,
                alone=_weighted(strata, alone),
                together=_weighted(strata, {name: all_told[name] for name in strata}) if len(own) > 1 else None,
                destination=_weighted(strata, at_destination) if known else None,
            )
        )
    return found


def _strata(vm: str, samples: Sequence[VdiskSample]) -> dict[str, Stratum]:
    return {f"{vm}/{sample.vdisk}": stratum(sample) for sample in samples}


def _weighted(strata: Mapping[str, Stratum], shares: Mapping[str, Interval]) -> Interval:
    """The share of all VDISKs together, by their chunks; the limits as if all were off in the same direction."""
    whole = sum(one.population for one in strata.values())
    if not whole:
        return Interval.exactly(0.0)
    value, low, high = (
        sum(one.population * getattr(shares[name], limit) for name, one in strata.items()) / whole
        for limit in ("value", "low", "high")
    )
    return Interval(value=value, low=low, high=high)
