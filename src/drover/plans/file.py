"""A plan as a YAML file: read strictly, with the line and the way out of every error; written without loss."""

from pathlib import Path

import yaml

from drover.model.bandwidth import Bandwidth, LimitedHours
from drover.model.hours import Hours
from drover.model.order import Limits, Pin
from drover.model.plan import Group, Override, Plan, Turn
from drover.model.profile import Profile
from drover.model.settings import Settings
from drover.strict_yaml import Kind

_PLAN = Kind(
    called="plan",
    model=Plan,
    parts=(Plan, Group, Turn, Override, Settings, Hours, Bandwidth, LimitedHours, Profile, Limits, Pin),
    schema="`drover plan schema` says what a plan holds",
    shorter="split it, or use patterns",
)


def load(path: Path) -> Plan:
    """Raises InputError that names the file, the line, the field, and the way out."""
    return _PLAN.load(path)


def parse(text: str, name: str) -> Plan:
    """The plan in this text; `name` is what errors call it. Raises InputError as `load` does."""
    return _PLAN.parse(text, name)


def dump(plan: Plan) -> str:
    """The plan as YAML from which `parse` makes the same plan; what is as by default is left out."""
    fields = plan.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    ordered = {name: fields[name] for name in ("version", "plan", "from", "to")} | fields
    return str(yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True))
