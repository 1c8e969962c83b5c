"""Where a migration takes part in what is limited: hosts, pools, the link. No I/O."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple
from urllib.parse import urlparse

from drover.model.migration import Migration, Spec
from drover.model.order import Limits
from drover.model.vm import Vm

ONLY_POOL = "the only pool"


class Resource(NamedTuple):
    """Something that only so many migrations may use at once. `kind` is host, pool, link or plan."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What a migration uses: until all of it is copied, while it cuts over, and from beginning to end."""

    copying: frozenset[Resource] = frozenset()
    cutover: frozenset[Resource] = frozenset()
    throughout: frozenset[Resource] = frozenset()


def caps(limits: Limits, at_once: int | None = None) -> dict[str, int]:
    """How many at most, by kind of resource; what is not limited is absent."""
    said = {"host": limits.per_host, "pool": limits.per_pool, "link": limits.per_link, "plan": at_once}
    return {kind: most for kind, most in said.items() if most is not None}


def needs_of(spec: Spec, vm: Vm) -> Needs:
    """Of a VM that is to be migrated; a pool that is not named is what is found there."""
    pools = [spec.pools.get(vdisk.name, spec.pools.get("", ONLY_POOL)) for vdisk in vm.vdisks]
    return _needs(spec, [vdisk.path for vdisk in vm.vdisks], pools)


def needs_of_migration(migration: Migration) -> Needs:
    """Of one that is recorded."""
    vdisks = migration.facts.vdisks
    return _needs(migration.spec, [vdisk.source_path for vdisk in vdisks], [vdisk.pool for vdisk in vdisks])


def host_name(uri: str) -> str:
    """What a site's host is called: two URIs of one host are one."""
    return urlparse(uri).hostname or uri


def add_up(every: Iterable[Iterable[Resource]]) -> Counter[Resource]:
    """How many of several migrations use each."""
    return Counter(resource for resources in every for resource in resources)


def fits(load: Mapping[Resource, int], wanted: Mapping[Resource, int], most: Mapping[str, int]) -> list[Resource]:
    """Those that have no room for what is wanted; what is larger than the limit has room where nothing else is."""
    return [
        resource
        for resource, count in wanted.items()
        if resource.kind in most and load.get(resource, 0) and load[resource] + count > most[resource.kind]
    ]


def _needs(spec: Spec, paths: Iterable[str], pools: Iterable[str]) -> Needs:
    here, there = host_name(spec.source), host_name(spec.destination)
    # A folder, a volume group, a Ceph pool: what a VDISK's path begins with is what libvirt calls a pool's target.
    read = {Resource("pool", f"{PurePath(path).parent} at {here}") for path in paths if path}
    written = {Resource("pool", f"{pool} at {there}") for pool in pools}
    return Needs(
        copying=frozenset({Resource("host", here), *read}),
        cutover=frozenset({Resource("host", there), *written}),
        throughout=frozenset({Resource("link", f"{here} → {there}")}),
    )
