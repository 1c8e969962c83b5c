"""Copiers that take turns: rounds in rotating order, every result compared with the source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bench.copiers import Task
from bench.equal import are_equal
from bench.measure import Failure, Sample, TooSlowError, median
from drover.errors import DroverError

Result = Sample | Failure


@dataclass(frozen=True)
class Copier:
    """A name for the table, what it does, and how many rounds it is worth: those that a goal names most.

    `prepare` makes the target what this copier is to find; without it there is none.
    """

    name: str
    copy: Callable[[Task], Sample]
    rounds: int = 1
    prepare: Callable[[Task], None] | None = None


def take_turns(copiers: list[Copier], task: Task) -> dict[str, Result]:
    """The median of each. One that fails is out, with its reason, and the others go on."""
    samples: dict[str, list[Sample]] = {copier.name: [] for copier in copiers}
    failures: dict[str, Failure] = {}
    for turn in range(max(copier.rounds for copier in copiers)):
        ordered = copiers[turn % len(copiers) :] + copiers[: turn % len(copiers)]
        for copier in ordered:
            if turn >= copier.rounds or copier.name in failures:
                continue
            found = _one(copier, task)
            if isinstance(found, Failure):
                failures[copier.name] = found
            else:
                samples[copier.name].append(found)
            print(f"  {turn + 1}/{copier.rounds} {copier.name}: {_describe(found)}", flush=True)
    return {copier.name: failures.get(copier.name) or median(samples[copier.name]) for copier in copiers}


def samples_of(results: Mapping[str, Result]) -> dict[str, Sample]:
    """Those that gave figures and came to the end."""
    return {name: one for name, one in results.items() if isinstance(one, Sample) and one.finished}


def _one(copier: Copier, task: Task) -> Result:
    task.target.unlink(missing_ok=True)
    try:
        if copier.prepare:
            copier.prepare(task)
        taken = copier.copy(task)
    # Whatever a peer dies of is its result; the others are still to be measured.
    except (DroverError, RuntimeError, OSError, ValueError, TooSlowError) as error:
        return Failure(" ".join(str(error).split())[:200] or "too slow")
    if taken.finished and not are_equal(task.source, task.target):
        return Failure("**the result differs from the source**")
    return taken


def _describe(result: Result) -> str:
    if isinstance(result, Failure):
        return f"failed: {result.reason}"
    return f"{result.seconds:.2f} s, {result.cpu_seconds:.2f} processor s{'' if result.finished else ', not finished'}"
