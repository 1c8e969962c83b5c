"""What a report is about, out of the database."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from drover.errors import InputError
from drover.model.group import Group
from drover.model.migration import Migration
from drover.reports.figures import Report, figures, summary
from drover.store import GroupStore, MigrationStore

Allowed = Callable[[Migration, Group | None], bool]
"""Whether whoever asks may see this migration."""


def report(
    kind: Literal["migration", "group", "plan", "all"],
    name: str = "",
    *,
    folder: Path | None = None,
    allowed: Allowed = lambda _migration, _group: True,
) -> Report:
    """A report of one migration (by id), a group (by id or name, then the newest), a plan, or all migrations.

    Raises InputError if there is none, or none that is `allowed`.
    """
    store, now = MigrationStore(folder), time.time()
    groups = GroupStore(folder).all()
    by_migration = {member.migration: group for group in groups for member in group.members}
    if kind == "all":
        wanted = store.all()
    elif kind == "migration":
        wanted = [store.get(name)]
        name = wanted[0].id
    else:
        found = _newest(groups, name) if kind == "group" else [one for one in groups if one.plan == name]
        wanted = [store.get(member.migration) for group in found for member in group.members]
    shown = [one for one in wanted if allowed(one, by_migration.get(one.id))]
    if not shown and kind != "all":
        raise InputError(f"there is no {kind} {name!r}", remedy="`drover status --all` lists migrations and groups")
    rows = []
    for migration in shown:
        group = by_migration.get(migration.id)
        plan, label = (group.plan, group.name) if group else (None, None)
        rows.append(figures(migration, store.history(migration.id), now, plan=plan, group=label))
    return Report(kind=kind, name=name or "all migrations", made_at=now, summary=summary(rows, now), migrations=rows)


def _newest(groups: Sequence[Group], name: str) -> list[Group]:
    """They are newest first."""
    return next(([group] for group in groups if name in (group.id, group.name)), [])
