"""From a sample of chunks to what a VDISK holds: zeros, duplicates, what compression leaves, each with its interval.

Intervals are of 95 %. They shrink to nothing as the sample comes to cover the VDISK (finite population). No I/O.
"""

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from drover.model.observation import Content, Interval, VdiskSample

CHUNK = 512 << 10
_Z = 1.959964
"""Standard deviations on each side of the mean that hold 95 %."""
_MISSED = 0.05
"""How likely the sample may have missed what it shows none of."""
_RESAMPLES = 1000
_GROUPS = 400
"""Rows that are resampled together: a resample of thousands costs as much as one of hundreds and tells the same."""
_SEED = 1
_FEWEST = 100


def divide(total: int, populations: Mapping[str, int]) -> dict[str, int]:
    """How many of so many chunks to take of each VDISK: in proportion, but of a small one enough to say something."""
    whole = sum(populations.values())
    return {
        name: min(population, max(_FEWEST, round(total * population / whole))) if population else 0
        for name, population in populations.items()
    }


def chunks_needed(precision: float, population: int | None = None, *, share: float = 0.5) -> int:
    """How many chunks of `population` (None: of very many) show a share to ±`precision`; ±0.02 takes 2,401.

    `share` is what is expected; one half is the worst case. It holds for compression as well, whose ratio spreads at
    most as much as a share.
    """
    if not 0 < precision < 1:
        raise ValueError(f"a precision is between 0 and 1, not {precision}")
    wanted = _Z**2 * share * (1 - share) / precision**2
    if population is not None:
        wanted /= 1 + max(0.0, wanted - 1) / max(1, population)
    return math.ceil(wanted) if population is None else min(population, math.ceil(wanted))


def contents(samples: Sequence[VdiskSample]) -> list[Content]:
    """What each VDISK of one VM holds; duplicates are looked for over all of them."""
    spared = duplicates({sample.vdisk: stratum(sample) for sample in samples})
    return [_content(sample, spared[sample.vdisk]) for sample in samples]


def _content(sample: VdiskSample, duplicate: Interval) -> Content:
    taken = _taken(sample)
    filled = [(chunk.length - chunk.zero_bytes, chunk) for chunk in sample.chunks if chunk.zero_bytes < chunk.length]
    compressed: dict[str, list[tuple[float, float]]] = {
        "lz4": [(chunk.lz4_bytes, size) for size, chunk in filled],
        "zstd": [(chunk.zstd_bytes, size) for size, chunk in filled],
    }
    return Content(
        vdisk=sample.vdisk,
        at=sample.at,
        size=sample.size,
        allocated=sample.allocated,
        chunks=len(sample.chunks),
        zero=_zeros(sample, taken),
        duplicate=duplicate,
        ratios={method: ratio(pairs, taken) for method, pairs in compressed.items()},
        speeds=sample.speeds,
        read_rate=sample.read_bytes / sample.read_seconds if sample.read_seconds else 0.0,
    )


def _zeros(sample: VdiskSample, taken: float) -> Interval:
    """Of the allocated bytes. What is not allocated in a chunk is zero as well, and was counted with the chunk."""
    zero = share([(chunk.zero_bytes, chunk.length) for chunk in sample.chunks], taken)
    if not sample.allocated:
        return Interval.exactly(0.0)
    covered = max(1.0, _population(sample) * CHUNK / sample.allocated)
    low, value, high = (max(0.0, 1 - (1 - part) * covered) for part in (zero.low, zero.value, zero.high))
    return Interval(value=value, low=low, high=high)


def _population(sample: VdiskSample) -> int:
    fewest = -(-sample.allocated // CHUNK)
    return max(len(sample.chunks), fewest if sample.allocated_chunks is None else sample.allocated_chunks)


def _taken(sample: VdiskSample) -> float:
    """Share of the chunks that the sample has."""
    return len(sample.chunks) / max(1, _population(sample))


def stratum(sample: VdiskSample) -> "Stratum":
    """What the sample of a VDISK says of its chunks."""
    hashes = [None if chunk.zero_bytes >= chunk.length else chunk.hash for chunk in sample.chunks]
    return Stratum(_population(sample), hashes)


def wilson(share: float, count: float) -> Interval:
    """Wilson's interval of a share that was seen in `count` independent looks; it is sound near 0 and 1, too."""
    if count <= 0:
        return Interval(value=share, low=0.0, high=1.0)
    if math.isinf(count):
        return Interval.exactly(share)
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    # Rounding must not put the value outside its own limits.
    return Interval(value=share, low=max(0.0, min(share, middle - half)), high=min(1.0, max(share, middle + half)))


def share(pairs: Sequence[tuple[float, float]], taken: float = 0.0) -> Interval:
    """The share of the second numbers' sum that the first ones are, none above its second.

    `taken` is how much of everything there is was looked at. Chunks that are a part zeros count for more looks than
    those that are all or nothing: as many as their spread says.
    """
    total = sum(whole for _, whole in pairs)
    if not total:
        return Interval(value=0.0, low=0.0, high=1.0 if taken < 1 else 0.0)
    value, n = sum(part for part, _ in pairs) / total, len(pairs)
    mean = total / n
    spread = sum((part - value * whole) ** 2 for part, whole in pairs) / max(1, n - 1) / mean**2
    looks = n * value * (1 - value) / spread if spread > 0 else float(n)
    return wilson(value, looks / (1 - taken) if taken < 1 else math.inf)


def ratio(pairs: Sequence[tuple[float, float]], taken: float = 0.0) -> Interval:
    """The sum of the first numbers for each of the second ones, with a bootstrap interval; 1 if there is nothing."""
    total = sum(whole for _, whole in pairs)
    if not total:
        return Interval.exactly(1.0)
    value = sum(part for part, _ in pairs) / total
    if taken >= 1 or len(pairs) < 2:
        return Interval.exactly(value)
    chance = random.Random(_SEED)
    groups = _groups(pairs, chance)
    found = []
    for _ in range(_RESAMPLES):
        drawn = chance.choices(groups, k=len(groups))
        found.append(sum(part for part, _ in drawn) / sum(whole for _, whole in drawn))
    found.sort()
    left = math.sqrt(1 - taken)
    low, high = found[round(0.025 * (_RESAMPLES - 1))], found[round(0.975 * (_RESAMPLES - 1))]
    return Interval(value=value, low=value - left * max(0.0, value - low), high=value + left * max(0.0, high - value))


def _groups(pairs: Sequence[tuple[float, float]], chance: random.Random) -> list[tuple[float, float]]:
    """Sums of equally many pairs, at random; a pair of its own as long as they are few."""
    mixed = chance.sample(list(pairs), len(pairs))
    count = min(_GROUPS, len(mixed))
    return [
        (sum(part for part, _ in mixed[start::count]), sum(whole for _, whole in mixed[start::count]))
        for start in range(count)
    ]


@dataclass(frozen=True)
class Stratum:
    """A random sample of one VDISK's chunks, each at most once. `hashes` has None for one that is all zeros."""

    population: int
    hashes: Sequence[str | None]


def duplicates(strata: Mapping[str, Stratum]) -> dict[str, Interval]:
    """Share of each VDISK's chunks that de-duplication over all of them would spare: of equal chunks all but one.

    Two equal chunks are both in a sample with a known probability, so the equal pairs of the whole follow without bias,
    and so do the equal triples. From pairs to what is spared it takes an assumption: that what occurs more than once
    occurs equally often. Pairs over triples then says how often. If some contents occur far more often than others,
    less is promised than is spared. The interval is that of the pairs; a pair in a sample of a hundredth stands for
    ten thousand, so it is wide for large VDISKs. A pair on two VDISKs counts half on each.
    """
    contents = list(_by_content(strata).values())
    pairs = {name: [each for content in contents if (each := _pairs(content, strata, name))] for name in strata}
    whole = sum(map(sum, pairs.values()))
    triples = sum(_triples(content, strata) for content in contents)
    spared = 1 / (1 + 1.5 * triples / whole) if whole else 1.0
    return {
        name: _part(stratum.population if stratum.hashes else 0, _inclusion(stratum, 2), pairs[name], spared)
        for name, stratum in strata.items()
    }


def elsewhere(own: Mapping[str, Stratum], there: Mapping[str, Stratum]) -> dict[str, Interval]:
    """Share of each VDISK's chunks in `own` whose content is somewhere in `there` as well.

    As `duplicates`: the pairs of one chunk here and an equal one there follow without bias; how many equal ones there
    are for each of them there, pairs there over pairs across say, if all occur equally often.
    """
    seen = _by_content({**{f"own {name}": one for name, one in own.items()}, **there})
    pairs: dict[str, list[float]] = {name: [] for name in own}
    twice = 0.0
    for content in seen.values():
        once = {name: _expanded(one, content[name], 1) for name, one in there.items() if name in content}
        across = sum(once.values())
        within = sum(_expanded(one, content[name], 2) for name, one in there.items() if name in content)
        within += sum(one * other for one, other in itertools.combinations(once.values(), 2))
        for name, stratum in own.items():
            if across and (count := content.get(f"own {name}", 0)):
                each = _expanded(stratum, count, 1)
                pairs[name].append(each * across)
                twice += each * within
    whole = sum(map(sum, pairs.values()))
    spared = 1 / (1 + 2 * twice / whole) if whole else 1.0
    read, held = (sum(len(one.hashes) for one in there.values()), sum(one.population for one in there.values()))
    return {
        name: _part(
            stratum.population if stratum.hashes else 0,
            _inclusion(stratum, 1) * read / held if held else 0.0,
            pairs[name],
            spared,
        )
        for name, stratum in own.items()
    }


def _part(population: int, both: float, pairs: list[float], spared: float) -> Interval:
    """The share of so many chunks that equal pairs stand for.

    `pairs` are the estimates of pairs, of each content that was seen twice; `both` is how likely a pair is seen.
    """
    if not population or not both:
        return Interval(value=0.0, low=0.0, high=1.0 if population else 0.0)
    value = low = high = sum(pairs)
    if value:
        # The score interval of a count: seen are as many as the spread of their weights says.
        count, z = value**2 / sum(each**2 for each in pairs), _Z * math.sqrt(1 - both)
        half = z * math.sqrt(count + z**2 / 4)
        low, high = (value * (count + z**2 / 2 + side) / count for side in (-half, half))
    elif both < 1:
        high = math.log(_MISSED) / math.log1p(-both)
    low, value, high = (min(1.0, max(0.0, spared * each / population)) for each in (low, value, high))
    return Interval(value=value, low=min(low, value), high=max(high, value))


def _by_content(strata: Mapping[str, Stratum]) -> dict[str, dict[str, int]]:
    """How often each content was seen, by VDISK; those that were seen once are left out."""
    found: dict[str, dict[str, int]] = {}
    for name, stratum in strata.items():
        for digest in stratum.hashes:
            if digest is not None:
                seen = found.setdefault(digest, {})
                seen[name] = seen.get(name, 0) + 1
    return {digest: seen for digest, seen in found.items() if sum(seen.values()) > 1}


def _pairs(content: Mapping[str, int], strata: Mapping[str, Stratum], name: str) -> float:
    """Equal pairs of this content in everything, as far as they are this VDISK's."""
    if name not in content:
        return 0.0
    within = _expanded(strata[name], content[name], 2)
    others = sum(_expanded(strata[other], count, 1) for other, count in content.items() if other != name)
    return within + _expanded(strata[name], content[name], 1) * others / 2


def _triples(content: Mapping[str, int], strata: Mapping[str, Stratum]) -> float:
    """Equal triples of this content in everything."""
    once, twice, thrice = (
        {name: _expanded(strata[name], count, size) for name, count in content.items()} for size in (1, 2, 3)
    )
    mixed = sum(twice[one] * once[other] for one, other in itertools.permutations(content, 2))
    apart = sum(once[one] * once[other] * once[third] for one, other, third in itertools.combinations(content, 3))
    return sum(thrice.values()) + mixed + apart


def _expanded(stratum: Stratum, count: int, size: int) -> float:
    """Combinations of `size` equal chunks in all of a VDISK, if `count` equal ones are in its sample."""
    seen = math.comb(count, size)
    return seen / _inclusion(stratum, size) if seen else 0.0


def _inclusion(stratum: Stratum, size: int) -> float:
    """How likely `size` given chunks are all in the sample."""
    n, population = len(stratum.hashes), stratum.population
    return math.prod(max(0, n - i) / (population - i) for i in range(size)) if population >= size else 1.0
