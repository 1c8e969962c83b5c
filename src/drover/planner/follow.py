"""A run that follows the worked-out order: its course, arranged anew as the world changes.

What begins next is the course's to say at once; how the rest is arranged is worked out after that.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from drover.model.order import Limits
from drover.model.timeline import Timeline
from drover.planner.parts import Parts
from drover.planner.timeline import Going
from drover.plans.course import Course, Planned
from drover.plans.needs import caps
from drover.store import CutoverStore

EFFORT = 10_000
"""Of working it out while a run goes on: what it would gain is gained again at the next event."""


def arranged(course: Course, parts: Parts, row: list[str], at_once: int, limits: Limits) -> None:
    """From now on the course goes in this order, by what the parts wish."""
    said = {part.name: part for part in parts.parts}
    by_name = {batch.name: batch for batch in course.batches}
    batches = [replace(by_name[name], after=said[name].after, pin=said[name].pin) for name in row]
    course.arrange(batches, at_once, limits)


def limit_cutovers(parts: Parts, limits: Limits, folder: Path | None = None) -> None:
    """Makes the limits known to the migrations, which keep to them at the destination, whoever runs them."""
    most = caps(limits)
    used = {vm.migration: vm.cutover for part in parts.parts for vm in part.vms if vm.migration is not None}
    every = {resource for resources in used.values() for resource in resources}
    CutoverStore(folder).limit(
        {number: [str(resource) for resource in resources] for number, resources in used.items()},
        {str(resource): most[resource.kind] for resource in every if resource.kind in most},
    )


def going(course: Course) -> Going:
    """What the planner has to know of a course."""
    return Going(begun=course.begun, lost=course.lost, waits=dict(course.waits))


def row_of(timeline: Timeline) -> list[str]:
    """The order that a timeline is in."""
    return [row.name for row in timeline.rows]


def with_needs(batch: Planned, parts: Parts) -> Planned:
    """A recorded batch that keeps to limits."""
    (part,) = [part for part in parts.parts if part.name == batch.name]
    needs = {vm.migration: vm.needs for vm in part.vms if vm.migration is not None}
    return replace(batch, needs=needs, pin=part.pin)


def waits_of(parts: Parts, waits: Mapping[str, str]) -> dict[str, str]:
    """What each migration waits for, by id, from what each batch does."""
    return {number: waits[part.name] for part in parts.parts for number in part.migrations if part.name in waits}
