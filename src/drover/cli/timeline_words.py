"""What there is to say of a timeline beside its picture."""

from drover.model.timeline import Basis, Progressing, Timeline, TimelineRow
from drover.model.units import format_duration, format_moment, format_rate

_WORDS = {
    Basis.FORECAST: "their forecasts",
    Basis.OBSERVATION: "what was observed of them",
    Basis.SIZE: "their sizes",
}


def begins_at(found: Timeline) -> float:
    """When the first begins or began, Unix seconds."""
    return min((row.begin for row in found.rows if row.begin is not None), default=found.at)


def by_begin(found: Timeline) -> list[TimelineRow]:
    """Its rows as they follow each other in time; what never begins is last."""
    return sorted(found.rows, key=lambda row: (row.begin is None, row.begin or 0.0))


def summary_of(found: Timeline) -> str:
    """When all of it is done, or what never is."""
    if found.end is None:
        return f"{found.plan}: not all of it ends: {', '.join(row.name for row in found.rows if row.end is None)}"
    return f"{found.plan}: done {format_moment(found.end)}, after {format_duration(found.end - begins_at(found))}"


def basis_of(found: Timeline) -> str:
    """What a timeline was reckoned from, in a sentence."""
    link = format_rate(found.link_rate)
    link = f"the link carries {link}" if found.link_known else f"nobody measured the link: {link} assumed"
    counts = {basis: sum(vm.basis is basis for row in found.rows for vm in row.vms) for basis in Basis}
    parts = [f"{count} VMs by {_WORDS[basis]}" for basis, count in counts.items() if count]
    return f"{link}; {', '.join(parts)}"


def words_of(row: TimelineRow) -> str:
    """What there is to say of a row beside its bar."""
    said = [] if row.state is Progressing.WAITING else [str(row.state)]
    said += [f"after {', '.join(row.after)}"] if row.after and not row.waits_for else []
    said += [row.waits_for] if row.waits_for else []
    said += [f"priority {row.priority}"] if row.priority else []
    said += ["pinned"] if row.pin is not None else []
    return "; ".join(said)
