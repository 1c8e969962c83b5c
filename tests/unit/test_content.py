"""Figures from samples are right on the average, exact when everything was read, and their intervals hold the truth."""

import itertools
import random
import statistics
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drover.estimator.content import (
    CHUNK,
    Stratum,
    _by_content,
    _pairs,
    _triples,
    chunks_needed,
    contents,
    divide,
    duplicates,
    elsewhere,
    ratio,
    share,
    wilson,
)
from drover.model.observation import Chunk, Content, VdiskSample

HASHES = st.lists(st.sampled_from("abcdefgh"), min_size=3, max_size=7)


def chunk(number: int, *, zero: int = 0, lz4: float = 0.5, digest: str | None = None) -> Chunk:
    left = CHUNK - zero
    return Chunk(
        offset=number * CHUNK, length=CHUNK, zero_bytes=zero, lz4_bytes=round(left * lz4),
        zstd_bytes=round(left * lz4 / 2), hash=digest or f"{number:x}",
    )  # fmt: skip


def sample(chunks: list[Chunk], population: int, vdisk: str = "vda") -> VdiskSample:
    size = population * CHUNK
    return VdiskSample(
        vdisk=vdisk, at=1.0, size=size, allocated=size, read_bytes=len(chunks) * CHUNK, read_seconds=0.5,
        speeds={"lz4": 4e8}, chunks=chunks,
    )  # fmt: skip


def test_two_percent_takes_about_2400_chunks_and_a_small_vdisk_fewer() -> None:
    assert chunks_needed(0.02) == 2401
    assert chunks_needed(0.02, 10**9) == 2401
    assert chunks_needed(0.02, 100) == 97
    assert chunks_needed(0.02, share=0.05) < 500
    with pytest.raises(ValueError):
        chunks_needed(0)


@given(st.floats(0.001, 0.5), st.integers(0, 10**7))
def test_more_chunks_than_there_are_are_never_needed(precision: float, population: int) -> None:
    assert 0 <= chunks_needed(precision, population) <= min(population, chunks_needed(precision))


@given(st.integers(0, 5000), st.dictionaries(st.sampled_from("abcd"), st.integers(0, 10**6)))
def test_each_vdisk_gets_its_part_and_no_more_than_it_has(total: int, populations: dict[str, int]) -> None:
    parts = divide(total, populations)
    assert all(min(100, size) <= parts[name] <= size for name, size in populations.items())


@given(st.integers(1, 3000), st.data())
def test_wilson_holds_the_value_and_stays_within_0_and_1(count: int, data: st.DataObject) -> None:
    seen = data.draw(st.integers(0, count))
    found = wilson(seen / count, count)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 100)), min_size=1, max_size=60), st.floats(0, 1))
def test_intervals_hold_the_value_and_vanish_when_all_was_read(pairs: list[tuple[float, float]], taken: float) -> None:
    parts = [(part * whole, whole) for part, whole in pairs]
    for found in (share(parts, taken), ratio(parts, taken)):
        assert found.low <= found.value * (1 + 1e-9) and found.value <= found.high * (1 + 1e-9) + 1e-12
    for found in (share(parts, 1.0), ratio(parts, 1.0)):
        assert found.low == found.value == found.high


def test_shares_and_ratios_hold_the_truth_about_95_times_of_100() -> None:
    chance = random.Random(5)
    everything = [(chance.random() < 0.2, chance.betavariate(2, 3)) for _ in range(4000)]
    true_share = statistics.fmean(zero for zero, _ in everything)
    true_ratio = sum(part for zero, part in everything if not zero) / sum(not zero for zero, _ in everything)
    held = Counter[str]()
    for _ in range(100):
        drawn = chance.sample(everything, 400)
        zeros = share([(float(zero), 1.0) for zero, _ in drawn], 0.1)
        left = ratio([(part, 1.0) for zero, part in drawn if not zero], 0.1)
        held["share"] += zeros.low <= true_share <= zeros.high
        held["ratio"] += left.low <= true_ratio <= left.high
    assert held["share"] >= 89 and held["ratio"] >= 89, held


@given(HASHES, st.integers(2, 4))
def test_pairs_and_triples_are_right_on_the_average_over_all_samples(everything: list[str], taken: int) -> None:
    taken = min(taken, len(everything))
    true_pairs = sum(one == other for one, other in itertools.combinations(everything, 2))
    true_triples = sum(len(set(three)) == 1 for three in itertools.combinations(everything, 3))
    pairs, triples = [], []
    for drawn in itertools.combinations(everything, taken):
        strata = {"vda": Stratum(len(everything), drawn)}
        found = [{"vda": count} for count in Counter(drawn).values()]
        pairs.append(sum(_pairs(content, strata, "vda") for content in found))
        triples.append(sum(_triples(content, strata) for content in found))
    assert statistics.fmean(pairs) == pytest.approx(true_pairs)
    if taken >= 3:
        assert statistics.fmean(triples) == pytest.approx(true_triples)


@given(HASHES, HASHES)
def test_pairs_on_two_vdisks_are_right_on_the_average_too(one: list[str], other: list[str]) -> None:
    true = sum(a == b for a, b in itertools.combinations(one + other, 2))
    found = []
    for first in itertools.combinations(one, 2):
        for second in itertools.combinations(other, 3):
            strata = {"vda": Stratum(len(one), first), "vdb": Stratum(len(other), second)}
            seen = _by_content(strata).values()
            found.append(sum(_pairs(content, strata, name) for content in seen for name in strata))
    assert statistics.fmean(found) == pytest.approx(true)


@given(st.integers(1, 40), st.integers(0, 20), st.integers(2, 9))
def test_what_occurs_equally_often_is_found_exactly_when_all_is_read(single: int, groups: int, copies: int) -> None:
    hashes = [f"one-{i}" for i in range(single)] + [f"many-{i}" for i in range(groups)] * copies
    found = duplicates({"vda": Stratum(len(hashes), hashes)})["vda"]
    assert found.value == pytest.approx(groups * (copies - 1) / len(hashes))
    assert found.low == pytest.approx(found.value) == pytest.approx(found.high)


def test_duplicates_hold_the_truth_and_say_how_little_is_known_when_none_is_seen() -> None:
    chance = random.Random(7)
    everything = [str(number) for number in range(8000)] + [str(number) for number in range(2000)]
    held = 0
    for _ in range(100):
        found = duplicates({"vda": Stratum(len(everything), chance.sample(everything, 1000))})["vda"]
        held += found.low <= 0.2 <= found.high
    assert held >= 85
    none = duplicates({"vda": Stratum(10**6, [str(number) for number in range(500)])})["vda"]
    assert none.value == none.low == 0 and none.high == 1


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 4), st.integers(1, 5))
def test_what_is_elsewhere_is_found_exactly_when_all_is_read(alone: int, common: int, here: int, copies: int) -> None:
    own = [f"own-{i}" for i in range(alone)] + [f"both-{i}" for i in range(common)] * here
    there = [f"both-{i}" for i in range(common)] * copies + ["there alone", None]
    parts = {"a": Stratum((len(there) + 1) // 2, there[::2]), "b": Stratum(len(there) // 2, there[1::2])}
    found = elsewhere({"vda": Stratum(len(own), own)}, parts)["vda"]
    assert found.value == pytest.approx(common * here / len(own) if own else 0.0)


def test_what_is_elsewhere_is_held_by_its_interval() -> None:
    chance, held = random.Random(8), 0
    own, there = [str(number) for number in range(8000)], [str(number) for number in range(6000, 16000)]
    for _ in range(100):
        mine, theirs = (Stratum(len(all_), chance.sample(all_, 1500)) for all_ in (own, there))
        found = elsewhere({"vda": mine}, {"x": theirs})["vda"]
        held += found.low <= 0.25 <= found.high
    assert held >= 90


def test_the_content_of_a_vm() -> None:
    twice = [chunk(number, digest="same") for number in range(2)]
    zeros = [chunk(number, zero=CHUNK) for number in range(2, 6)]
    vda = sample([*twice, *zeros, *(chunk(number, digest=f"a{number}") for number in range(6, 10))], 10)
    vdb = sample([chunk(0, digest="a6"), chunk(1, zero=CHUNK // 2)], 2, "vdb")
    one, other = contents([vda, vdb])
    assert one.zero.value == one.zero.low == one.zero.high == pytest.approx(0.4)
    assert other.zero.value == pytest.approx(0.25)
    assert one.ratios["lz4"].value == pytest.approx(0.5) and one.ratios["zstd"].value == pytest.approx(0.25)
    # Of the equal chunks on both VDISKs one is spared; nobody can say on which.
    assert one.duplicate.value * 10 + other.duplicate.value * 2 == pytest.approx(2)
    assert one.read_rate == 10 * CHUNK / 0.5
    assert Content.model_validate(one.model_dump()) == one


def test_what_is_not_allocated_in_a_chunk_is_no_zero_share() -> None:
    half = sample([chunk(number, zero=CHUNK // 2) for number in range(8)], 8)
    found = contents([half.model_copy(update={"allocated": 4 * CHUNK, "allocated_chunks": 8})])[0]
    assert found.zero.value == 0


def test_a_vdisk_of_which_nothing_is_allocated() -> None:
    found = contents([sample([], 0)])[0]
    assert found.zero.high == 0 and found.duplicate.high == 0 and found.ratios["lz4"].value == 1
